// A slider beside every number of a gate; numbers that were not moved are left out of what is asked.
"use strict";

const STEPS = 1000; // of a slider over powers

function slider(number) {
  const range = document.createElement("input");
  const { low, high, step, log } = number.dataset;
  range.type = "range";
  range.min = log ? 0 : low;
  range.max = log ? STEPS : high;
  range.step = log ? 1 : step;
  range.tabIndex = -1; // the number beside it is what the keyboard reaches
  range.setAttribute("aria-hidden", "true");
  const first = Math.max(Number(low), 1);
  const ratio = Number(high) / first;
  const toRange = (value) => (log ? (STEPS * Math.log(Math.max(value, first) / first)) / Math.log(ratio) : value);
  const toNumber = (place) => (log ? Math.round(first * ratio ** (place / STEPS)) : place);
  const follow = () => { range.value = number.value === "" ? range.max : toRange(Number(number.value)); mark(number); };
  range.addEventListener("input", () => { number.value = toNumber(Number(range.value)); mark(number); });
  number.addEventListener("input", follow);
  number.before(range);
  follow();
}

function isMoved(number) {
  const was = number.dataset.was;
  return number.value === "" || was === "" ? number.value !== was : Number(number.value) !== Number(was);
}

function mark(number) {
  number.classList.toggle("moved", isMoved(number));
}

document.querySelectorAll("input[data-low]").forEach(slider);
document.addEventListener("focusin", (event) => { if (event.target.matches("input.copy")) event.target.select(); });
document.addEventListener("htmx:config:request", (event) => {
  const form = event.target.closest("form.gate");
  const asked = event.detail.ctx.request.body;
  if (!form || event.target !== form) return;
  form.querySelectorAll("input[data-was]").forEach((number) => { if (!isMoved(number)) asked.delete(number.name); });
  history.replaceState(null, "", `${form.getAttribute("action")}?${new URLSearchParams(asked)}`); // to be sent to a colleague
});
