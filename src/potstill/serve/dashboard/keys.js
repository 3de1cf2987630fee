// Keyboard shortcuts and the look. Single letters can be turned off (some speech input types them by accident).

import { say } from "./dom.js";

const PAGES = { o: "overview", e: "episodes", l: "live", b: "playbooks", t: "tenants" };
const LOOKS = { "": ["Theme: system", "as the system is"], light: ["Theme: light", "light"], dark: ["Theme: dark", "dark"] };
const help = document.getElementById("help");
const theme = document.getElementById("theme");
const keysOn = document.getElementById("keys-on");

function kept(name, value) {
  try {
    if (value === undefined) return localStorage.getItem(name);
    if (value === "") localStorage.removeItem(name);
    else localStorage.setItem(name, value);
  } catch {
    return null; // storage is off: the choice holds until the page is left
  }
  return value;
}

function look(turn) {
  const root = document.documentElement;
  const names = Object.keys(LOOKS);
  let now = root.dataset.theme ?? "";
  if (turn) {
    now = names[(names.indexOf(now) + 1) % names.length];
    if (now) root.dataset.theme = now;
    else delete root.dataset.theme;
    kept("potstill-theme", now);
    say(`The look is ${LOOKS[now][1]}.`);
  }
  theme.textContent = LOOKS[now][0];
}

// The next or previous of the page's stops: rows' links, steps.
function move(by) {
  const stops = [...document.querySelectorAll("main .stop")];
  if (!stops.length) return;
  const at = stops.findIndex((stop) => stop.contains(document.activeElement));
  const next = stops[Math.max(0, Math.min(stops.length - 1, at < 0 ? (by > 0 ? 0 : stops.length - 1) : at + by))];
  next.focus();
  next.scrollIntoView({ block: "nearest" });
}

function search() {
  const field = document.querySelector("main input[type=search]");
  if (field) field.select();
  else location.hash = "#/episodes?focus=search";
}

function pressed(event) {
  if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  if (event.target.closest?.("input, select, textarea, [contenteditable]")) return;
  if (!keysOn.checked || document.getElementById("nav").hidden) {
    if (event.key !== "?") return;
  }
  const acts = {
    "/": search, j: () => move(1), k: () => move(-1), d: () => look(true), "?": () => help.showModal(),
    u: () => document.getElementById("up")?.click(), p: () => document.getElementById("pause")?.click(),
  };
  const act = event.key in PAGES ? () => (location.hash = `#/${PAGES[event.key]}`) : Object.hasOwn(acts, event.key) ? acts[event.key] : null;
  if (!act) return;
  event.preventDefault();
  act();
}

export function listen() {
  keysOn.checked = kept("potstill-keys") !== "off";
  keysOn.addEventListener("change", () => kept("potstill-keys", keysOn.checked ? "" : "off"));
  theme.addEventListener("click", () => look(true));
  document.getElementById("help-open").addEventListener("click", () => help.showModal());
  document.addEventListener("keydown", pressed);
  look(false);
}
