// A button beside every command: it copies what stands there, or selects it where the browser has no clipboard for us.
"use strict";

function show(inside) {
  inside.querySelectorAll("button.copy[hidden]").forEach((button) => { button.hidden = false; });
}

function select(text) {
  const range = document.createRange();
  range.selectNodeContents(text);
  getSelection().removeAllRanges();
  getSelection().addRange(range);
}

async function copy(button) {
  const text = button.parentElement.querySelector("pre");
  try {
    await navigator.clipboard.writeText(text.textContent);
    button.textContent = "Copied";
  } catch { // no permission, or a host name without TLS
    select(text);
    button.textContent = "Selected";
  }
  setTimeout(() => { button.textContent = "Copy"; }, 1500);
}

document.addEventListener("click", (event) => { if (event.target.matches("button.copy")) copy(event.target); });
// What htmx puts in later has buttons too.
new MutationObserver(() => show(document)).observe(document.body, { childList: true, subtree: true });
show(document);
