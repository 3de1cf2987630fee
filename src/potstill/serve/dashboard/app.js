// Pages by hash, and logging in. Each page is a function that fills the content and ends with its signal.

import { logIn, logOut, Refused, resume } from "./api.js";
import { playbooksPage } from "./books.js";
import { h, say, show } from "./dom.js";
import { episodePage } from "./episode.js";
import { episodesPage } from "./episodes.js";
import { listen } from "./keys.js";
import { livePage } from "./live.js";
import { overviewPage } from "./overview.js";
import { tenantsPage } from "./tenants.js";

const PAGES = {
  overview: { title: "Overview", show: overviewPage },
  episodes: { title: "Episodes", show: episodesPage },
  episode: { title: "Episode", show: episodePage },
  live: { title: "Live", show: livePage },
  playbooks: { title: "Playbooks", show: playbooksPage },
  tenants: { title: "Tenants", show: tenantsPage },
};
const main = document.getElementById("main");
const nav = document.getElementById("nav");
const out = document.getElementById("logout");
let leaving = null;

function place() {
  const [path, search = ""] = location.hash.replace(/^#\/?/, "").split("?");
  const [name, ...rest] = path.split("/");
  const parts = rest.map((part) => {
    try {
      return decodeURIComponent(part);
    } catch {
      return part;
    }
  });
  return { name: Object.hasOwn(PAGES, name) ? name : "overview", parts, query: new URLSearchParams(search) };
}

async function turn(focus = true) {
  leaving?.abort();
  const control = (leaving = new AbortController());
  const { name, parts, query } = place();
  const page = PAGES[name];
  document.title = `${page.title} \u2013 potstill`;
  nav.hidden = out.hidden = false;
  const own = name === "episode" ? "episodes" : name;
  for (const link of nav.querySelectorAll("a")) {
    if (link.getAttribute("href") === `#/${own}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  const content = h("div", { class: `page ${name}`, "aria-busy": "true" }, h("p", { class: "loading" }, "Reading\u2026"));
  show(main, content);
  if (focus) main.focus({ preventScroll: true });
  window.scrollTo(0, 0);
  try {
    await page.show(content, { parts, query, signal: control.signal, failed: (error) => failed(content, error, control) });
  } catch (error) {
    failed(content, error, control);
  }
  content.removeAttribute("aria-busy");
}

function failed(content, error, control) {
  if (control.signal.aborted || error.name === "AbortError") return;
  if (error instanceof Refused && error.status === 401) {
    logOut();
    login("The gateway does not take this key any more. Log in again.");
    return;
  }
  if (!(error instanceof Refused)) console.error(error);
  const message = error instanceof Refused ? error.message : "The gateway cannot be reached, or this page failed.";
  content.querySelector(".failed")?.remove();
  content.querySelector(":scope > .loading")?.remove();
  const again = h("button", { type: "button", click: () => turn() }, "Try again");
  content.prepend(h("div", { class: "failed", role: "alert" }, h("p", {}, message), again));
}

function login(message = "") {
  leaving?.abort();
  nav.hidden = out.hidden = true;
  document.title = "Log in \u2013 potstill";
  const key = h("input", { id: "key", type: "password", autocomplete: "off", required: true, spellcheck: "false", "aria-describedby": "login-said" });
  const said = h("p", { id: "login-said", role: "alert", class: "bad" }, message);
  const enter = h("button", { class: "primary" }, "Log in");
  const submit = async (event) => {
    event.preventDefault();
    const typed = key.value;
    enter.disabled = true;
    try {
      await logIn(typed);
    } catch (error) {
      if (error instanceof Refused && error.status === 403) return off();
      key.value = "";
      enter.disabled = false;
      show(said, error instanceof Refused ? error.message : "The gateway cannot be reached.");
      key.focus();
      return;
    }
    say("Logged in.", false);
    turn();
  };
  show(main, h("form", { class: "login", submit }, h("h1", {}, "Log in"), h("label", { for: "key" }, "Admin key"), key, said, enter,
    h("p", { class: "quiet" }, "The value of the gateway's variable POTSTILL_ADMIN_KEY, unless its settings name another. It stays in this tab until you log out or close it, and is never a cookie.")));
  key.focus();
}

function off() {
  show(main, h("div", { class: "login" }, h("h1", {}, "The dashboard is off"), h("p", {}, "This gateway was started without an admin key, so nobody can log in. Set the variable POTSTILL_ADMIN_KEY (or the one that its settings name) and start it again.")));
}

async function begin() {
  try {
    if (await resume()) turn(false);
    else login();
  } catch (error) {
    if (!(error instanceof Refused)) return login("The gateway cannot be reached.");
    if (error.status === 403) return off();
    if (error.status === 401) logOut();
    login(error.status === 401 ? "" : error.message);
  }
}

document.getElementById("skip").addEventListener("click", (event) => {
  event.preventDefault();
  main.focus();
});
out.addEventListener("click", () => {
  logOut();
  login();
  say("Logged out.");
});
window.addEventListener("hashchange", () => {
  if (!nav.hidden) turn();
});
listen();
begin();
