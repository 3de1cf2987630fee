// Exchanges as they are recorded: one waiting request at a time, the newest on top.

import { get, part, query } from "./api.js";
import { h, line, say, show, table, theirs } from "./dom.js";
import { clock, count, percent, seconds, UNKNOWN } from "./format.js";

const WAIT_S = 25;
const SHOWN = 200;
const COLUMNS = [{ title: "Time" }, { title: "Tenant and episode" }, { title: "Route" }, { title: "Answered by", wide: true }, { title: "Agreement", n: true }, { title: "First byte", n: true }, { title: "Whole", n: true }, { title: "Status", n: true }];

export async function livePage(content, { signal, failed }) {
  const state = { paused: false, after: null, wake: null };
  const word = h("span", { id: "live-state", class: "state on" }, "listening");
  const pause = h("button", { type: "button", id: "pause", "aria-pressed": "false" }, "Pause");
  const list = h("div", { id: "live-rows" }, h("p", { class: "empty" }, "No call since this page was opened. The next one appears here by itself; earlier ones are under Episodes."));
  pause.addEventListener("click", () => {
    state.paused = !state.paused;
    pause.textContent = state.paused ? "Go on" : "Pause";
    pause.setAttribute("aria-pressed", String(state.paused));
    say(state.paused ? "Paused." : "Going on.");
    tell(word, state);
    state.wake?.();
  });
  show(content, h("div", { class: "headline" }, h("h1", {}, "Live"), word, pause),
    h("p", { class: "quiet" }, "Calls in the order in which they became durable, the newest first."), list);
  document.addEventListener("visibilitychange", () => state.wake?.(), { signal });
  signal.addEventListener("abort", () => state.wake?.());
  tail(list, word, state, signal).catch(failed);
}

function tell(word, state, trouble = "") {
  word.textContent = trouble || (state.paused ? "paused" : "listening");
  word.className = trouble ? "state off" : state.paused ? "state" : "state on";
}

// Until the page is left. A gateway that does not answer is asked again, more and more slowly.
async function tail(list, word, state, signal) {
  let pause = 0;
  while (!signal.aborted) {
    if (state.paused || document.hidden || pause) await rest(state, pause, signal);
    if (signal.aborted) return;
    if (state.paused || document.hidden) continue;
    try {
      const told = await get(`live${query({ after_seq: state.after, wait_s: state.after === null ? 0 : WAIT_S, limit: 100 })}`, signal);
      pause = 0;
      if (state.paused) continue; // asked for again afterwards
      state.after = told.after_seq;
      add(list, told.exchanges);
      tell(word, state);
    } catch (error) {
      if (signal.aborted) return;
      if (error.status === 401) throw error;
      pause = Math.min(30, (pause || 1) * 2);
      tell(word, state, `not connected, next try in ${pause} s`);
    }
  }
}

function rest(state, pause, signal) {
  return new Promise((done) => {
    const timer = pause ? setTimeout(done, pause * 1000) : null;
    state.wake = () => {
      if (!signal.aborted && (state.paused || document.hidden)) return;
      clearTimeout(timer);
      done();
    };
  });
}

function add(list, exchanges) {
  if (!exchanges.length) return;
  const rows = exchanges.map(row).reverse();
  const body = list.querySelector("tbody");
  if (!body) return show(list, table("Calls, the newest first", COLUMNS, rows, ""));
  const fresh = rows.map((one) => line(COLUMNS, one));
  for (const one of fresh) one.classList.add("fresh");
  body.prepend(...fresh);
  while (body.children.length > SHOWN) body.lastElementChild.remove();
}

function row(one) {
  const bad = one.error || one.status >= 400 || !one.complete;
  return [
    clock(one.started_at),
    [h("a", { class: "stop", href: `#/episode/${part(one.tenant)}/${part(one.episode)}` }, theirs(one.episode, "nobreak")), h("small", {}, theirs(one.tenant))],
    [theirs(one.route), h("small", {}, one.dialect, one.streamed ? ", streamed" : "")],
    [h("span", { class: `who ${/^[a-z]+$/.test(one.answerer) ? one.answerer : ""}` }, one.answerer), h("small", {}, theirs([one.stage, one.reason].filter(Boolean).join(", "))), one.notes.map((note) => h("small", { class: "warn" }, theirs(note)))],
    one.agreement === null ? UNKNOWN : percent(one.agreement),
    seconds(one.first_byte_s),
    seconds(one.latency_s),
    [h("span", { class: bad ? "bad" : null }, one.status ? count(one.status) : UNKNOWN), bad ? h("small", { class: "bad" }, one.error ? theirs(one.error.kind) : one.complete ? "" : "cut off") : null],
  ];
}
