// Episodes: search, filters that live in the address, pages by cursor.

import { get, part, query as asQuery } from "./api.js";
import { h, say, show, table, theirs } from "./dom.js";
import { clock, count, counted, outcome, usd } from "./format.js";

const FILTERS = ["text", "route", "tenant", "answerer", "outcome", "state"];
const CHOICES = {
  answerer: [["", "anyone"], ["student", "student alone"], ["teacher", "teacher alone"], ["both", "both"]],
  outcome: [["", "any"], ["success", "succeeded"], ["failure", "failed"], ["unknown", "not known"]],
  state: [["", "any"], ["open", "going on"], ["ended", "ended"]],
};
const COLUMNS = [{ title: "Episode" }, { title: "Route" }, { title: "Began" }, { title: "Steps", n: true }, { title: "Answered by" }, { title: "Dollars", n: true }, { title: "Outcome" }];

export async function episodesPage(content, { query, signal }) {
  const wanted = Object.fromEntries(FILTERS.map((name) => [name, query.get(name) ?? ""]));
  const cursor = query.get("cursor");
  const [page, routes, tenants] = await Promise.all([get(`figures/episodes${asQuery({ ...wanted, cursor })}`, signal), get("routes", signal), get("tenants", signal)]);
  if (signal.aborted) return;
  const found = h("div", { id: "found" });
  const field = filters(wanted, routes.routes.map((one) => one.name), tenants.tenants.map((one) => one.name));
  show(content, h("h1", {}, "Episodes"), field, found);
  draw(found, page, wanted, cursor);
  say(`${counted(page.episodes.length, "episode")} shown.`, false);
  if (query.has("focus")) field.querySelector("input[type=search]").focus();
}

function draw(found, page, wanted, cursor) {
  const rows = page.episodes.map(row);
  const searched = Object.values(wanted).some(Boolean);
  const empty = page.next ? `None among the ${count(page.looked_at)} episodes looked through; there are older ones.` : searched ? "No episode matches." : "No episode is recorded yet.";
  const links = h("p", { class: "buttons" },
    cursor ? h("a", { class: "button", href: `#/episodes${asQuery(wanted)}` }, "Newest") : null,
    page.next ? h("a", { class: "button", id: "older", href: `#/episodes${asQuery({ ...wanted, cursor: page.next })}` }, rows.length ? "Older" : "Look further") : null);
  show(found, table("Episodes", COLUMNS, rows, empty), links);
}

function row(one) {
  const name = one.goal || one.name || one.episode;
  return [
    [h("a", { class: "goal stop", href: `#/episode/${part(one.tenant)}/${part(one.episode)}` }, theirs(name.length > 120 ? `${name.slice(0, 120)}\u2026` : name)),
      h("small", {}, theirs(one.tenant), " / ", theirs(one.name ?? one.episode))],
    theirs(one.route ?? ""),
    [clock(one.started_at), one.state === "open" ? h("small", {}, "goes on") : null],
    count(one.steps),
    answered(one.answered ?? {}),
    usd(one.usd),
    one.damaged ? h("span", { class: "bad" }, "cannot be read") : badge(one.success, one.broke),
  ];
}

export function answered(counts) {
  const said = Object.entries(counts).filter(([, steps]) => steps).map(([who, steps]) => h("span", { class: `who ${/^[a-z]+$/.test(who) ? who : ""}` }, `${who} ${count(steps)}`));
  return said.length ? h("span", { class: "whos" }, said) : "\u2013";
}

export function badge(success, broke = false) {
  const tone = success === true ? "good" : success === false ? "bad" : "unknown";
  return [h("span", { class: `outcome ${tone}` }, outcome(success)), broke ? h("small", {}, "broke off") : null];
}

function filters(wanted, routes, tenants) {
  const named = (name, label, choices) => {
    const offered = choices.some(([value]) => value === wanted[name]) ? choices : [...choices, [wanted[name], wanted[name]]];
    const options = offered.map(([value, text]) => h("option", { selected: value === wanted[name] }, text));
    options.forEach((option, at) => { option.value = offered[at][0]; });
    return h("label", {}, label, h("select", { name }, options));
  };
  const any = (values) => [["", "any"], ...values.map((value) => [value, value])];
  const text = h("input", { type: "search", name: "text", placeholder: "goal, task, route, id", maxlength: 300 });
  text.value = wanted.text;
  const submit = (event) => {
    event.preventDefault();
    const values = Object.fromEntries(new FormData(form));
    const next = `#/episodes${asQuery(values)}`;
    if (next === location.hash) window.dispatchEvent(new HashChangeEvent("hashchange"));
    else location.hash = next;
  };
  const form = h("form", { class: "filters", role: "search", submit, change: (event) => event.target.tagName === "SELECT" && form.requestSubmit() },
    h("label", {}, "Search", text), named("route", "Route", any(routes)), named("tenant", "Tenant", any(tenants)),
    named("answerer", "Answered by", CHOICES.answerer), named("outcome", "Outcome", CHOICES.outcome), named("state", "State", CHOICES.state),
    h("button", { class: "primary" }, "Search"));
  return form;
}
