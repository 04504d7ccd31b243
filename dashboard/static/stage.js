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
  const thresholds = number.closest(".card")?.querySelector("g.thresholds");
  if (thresholds) moveThreshold(thresholds, isMoved(number), number.value);
}

// The line of the run fades, and another stands where the number is: as `charts.histogram` draws it.
function moveThreshold(thresholds, moved, told) {
  thresholds.querySelectorAll(".moved").forEach((one) => one.remove());
  thresholds.querySelectorAll(".threshold, .threshold-label").forEach((one) => one.classList.toggle("was", moved));
  if (!moved) return;
  const { from, to, log, start, end, top, base } = Object.fromEntries(Object.entries(thresholds.dataset).map(([name, value]) => [name, Number(value)]));
  const value = Number(told), off = told === "";
  const scaled = (one) => (log ? Math.log(Math.max(one, from)) : one);
  const share = off ? 1 : Math.min(1, Math.max(0, (scaled(value) - scaled(from)) / (scaled(to) - scaled(from))));
  const at = start + share * (end - start), toLeft = off || at > (end + 8) * 0.6;
  const outside = !off && (value < from || value > to) ? " (outside)" : "";
  const add = (name, attributes) => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", name);
    Object.entries(attributes).forEach(([key, one]) => made.setAttribute(key, one));
    return thresholds.appendChild(made);
  };
  if (!off) add("line", { class: "threshold moved", x1: at, x2: at, y1: top - 4, y2: base });
  add("text", { class: "threshold-label moved", x: off ? end : at + (toLeft ? -4 : 4), y: top - 6, "text-anchor": toLeft ? "end" : "start" })
    .textContent = off ? "→ off" : `→ ${Number(value.toPrecision(4)).toLocaleString("en", { maximumFractionDigits: 6 })}${outside}`;
}

document.querySelectorAll("input[data-low]").forEach(slider);
document.addEventListener("htmx:config:request", (event) => {
  const form = event.target.closest("form.gate");
  const asked = event.detail.ctx.request.body;
  if (!form || event.target !== form) return;
  form.querySelectorAll("input[data-was]").forEach((number) => { if (!isMoved(number)) asked.delete(number.name); });
  history.replaceState(null, "", `${form.getAttribute("action")}?${new URLSearchParams(asked)}`); // to be sent to a colleague
});
