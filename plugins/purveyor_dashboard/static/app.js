// What happens is told to the parts of the page that want to hear it; copy buttons; logs.
"use strict";

// The key of the session is in the address of every page of it. It is kept for the next visit, in the storage of this origin,
// which no other port of this host can read. From the page to sign in at it leads on, once: a key that is over leads back there.
const KEPT = "purveyor-base";
const base = document.body.dataset.base;
const wanted = document.body.dataset.wanted;
try {
  if (base) {
    localStorage.setItem(KEPT, base);
    sessionStorage.removeItem(KEPT);
    document.getElementById("sign-out").addEventListener("submit", () => localStorage.removeItem(KEPT));
  } else if (wanted && !document.querySelector("[role=alert]")) {
    const kept = localStorage.getItem(KEPT);
    if (kept && kept.startsWith("/~/") && kept !== sessionStorage.getItem(KEPT)) {
      sessionStorage.setItem(KEPT, kept);
      location.replace(kept + wanted);
    }
  }
} catch {
  // a browser that stores nothing: one signs in
}

const stream = document.body.dataset.stream;
if (stream && window.EventSource) {
  let due = 0;
  new EventSource(stream).onmessage = () => {
    clearTimeout(due);
    due = setTimeout(() => htmx.trigger(document.body, "changed"), 300);
  };
}

document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy]");
  if (!button) return;
  const text = document.getElementById(button.dataset.copy).textContent.trim();
  await navigator.clipboard.writeText(text);
  const said = button.textContent;
  button.textContent = "Copied";
  setTimeout(() => { button.textContent = said; }, 1500);
});

// A log goes on by itself, and stays at its end while whoever reads it is there.
const LINES = 5000;
const log = document.getElementById("log");
const field = document.getElementById("log-search");
let whole = log ? log.textContent : "";

function sift() {
  const wanted = field.value.toLowerCase();
  const atEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 40;
  log.textContent = wanted ? whole.split("\n").filter((line) => line.toLowerCase().includes(wanted)).join("\n") : whole;
  if (atEnd) log.scrollTop = log.scrollHeight;
}

if (log && field) {
  log.scrollTop = log.scrollHeight;
  field.addEventListener("input", sift);
  let due = 0;
  let fresh = false;
  const source = new EventSource(log.dataset.follow);
  source.onopen = () => { fresh = true; };
  source.onmessage = (event) => {
    whole = (fresh ? "" : whole) + JSON.parse(event.data);
    fresh = false;
    const lines = whole.split("\n");
    if (lines.length > LINES) whole = lines.slice(-LINES).join("\n");
    if (!due) due = setTimeout(() => { due = 0; sift(); }, 100);
  };
}
