// Playbooks that routes show to their students: whose there are, and each bullet with what it does. Nothing is changed here.

import { get, part, query } from "./api.js";
import { h, show, table, theirs } from "./dom.js";
import { clock, count, counted, percent } from "./format.js";

const PAGE = 100;
const AGAIN_MS = 2000;
const BOOKS = [{ title: "Tenant" }, { title: "Bullets", n: true }, { title: "Revision", n: true }, { title: "Changed" }];
const BULLETS = [{ title: "Bullet" }, { title: "Text", wide: true }, { title: "Stage" }, { title: "Helpful / harmful", n: true }, { title: "Tokens", n: true }, { title: "Help measured", n: true }];

export async function playbooksPage(content, { parts, query: asked, signal, failed }) {
  const [tenant, ...name] = parts;
  if (tenant && name.length) return bookPage(content, tenant, name.join("/"), Math.max(0, Number.parseInt(asked.get("from"), 10) || 0), signal, failed);
  const { routes } = await get("playbooks", signal);
  if (signal.aborted) return;
  show(content, h("h1", {}, "Playbooks"),
    h("p", { class: "quiet" }, "What students are shown. Each tenant has a book of its own under the name that the route gives."),
    routes.length ? routes.map(routeOf) : empty());
}

function empty() {
  return h("div", { class: "empty" }, h("p", {}, "No route shows its student a playbook."),
    h("p", {}, "Name one in the gateway's file, ", h("code", {}, "[routes.\"NAME\".playbook]"), ", or type ", h("code", {}, "potstill serve --student ... --playbook NAME"), "."));
}

function routeOf(route) {
  const rows = route.books.map((one) => [h("a", { href: address(one.tenant, route.playbook) }, theirs(one.tenant)), count(one.bullets), count(one.revision), clock(one.changed_at)]);
  return h("section", { class: "panel" }, h("h2", {}, theirs(route.route)),
    h("p", { class: "quiet" }, "Shows ", theirs(route.playbook), `, at most ${counted(route.max_tokens, "token")}; ${percent(route.holdout_share)} of the episodes leave out half of the bullets by lot.`),
    table(`Playbooks of ${route.route}`, BOOKS, rows, "No tenant has a playbook of this name yet."));
}

function address(tenant, name, from = 0) {
  return `#/playbooks/${part(tenant)}/${name.split("/").map(part).join("/")}${query({ from: from || null })}`;
}

async function bookPage(content, tenant, name, from, signal, failed) {
  const where = `playbooks/${part(tenant)}/${name.split("/").map(part).join("/")}${query({ offset: from || null, limit: PAGE })}`;
  const draw = async () => {
    const told = await get(where, signal);
    if (signal.aborted) return;
    show(content, book(told, from));
    if (!told.measuring) return;
    const timer = setTimeout(() => draw().catch(failed), AGAIN_MS);
    signal.addEventListener("abort", () => clearTimeout(timer), { once: true });
  };
  await draw();
}

function book(told, from) {
  const { tenant, name } = told;
  const last = from + told.bullets.length;
  const turns = [from ? h("a", { href: address(tenant, name, Math.max(0, from - PAGE)) }, "Before") : null, told.next_offset ? h("a", { href: address(tenant, name, told.next_offset) }, "Next") : null].filter(Boolean);
  return [
    h("p", { class: "crumbs" }, h("a", { id: "up", href: "#/playbooks" }, "Playbooks"), " / ", theirs(tenant), " / ", theirs(name)),
    h("h1", {}, theirs(name)),
    h("p", { class: "quiet" }, `Revision ${count(told.revision)}, ${counted(told.of, "bullet")}`, told.routes.length ? [", shown by ", told.routes.map((one, at) => [at ? ", " : "", theirs(one)])] : ", shown by no route", "."),
    h("p", { class: "quiet" }, told.measuring
      ? "What bullets do is being measured; this page goes on by itself."
      : `Help is success in trials with the bullet less that without it, in percentage points, with an interval at ${percent(told.confidence)} that holds however often you look.`),
    table(`Bullets of ${name}`, BULLETS, told.bullets.map((one) => row(one, told.measuring)), "This playbook has no bullets."),
    turns.length ? h("p", { class: "buttons" }, `${count(from + 1)} to ${count(last)} of ${count(told.of)} `, turns) : null,
  ];
}

function row(one, measuring) {
  const known = /^(shadow|canary|live)$/.test(one.stage) ? one.stage : "";
  return [
    [h("code", {}, theirs(one.id)), h("small", {}, theirs(one.section))],
    h("div", { class: "bullet" }, theirs(one.content)),
    [h("span", { class: `stage ${known}` }, one.stage), one.quarantined ? h("small", { class: "bad" }, "quarantined") : null, one.pinned ? h("small", {}, "pinned") : null],
    `${count(one.helpful)} / ${count(one.harmful)}`,
    count(one.tokens),
    helped(one.help, measuring),
  ];
}

// In points of a hundred: a share of episodes more or fewer that succeed.
function helped(help, measuring) {
  if (!help) return measuring ? "\u2026" : ["\u2013", h("small", {}, "no trial")];
  const trials = counted(help.trials, "trial");
  if (help.difference === null) return ["\u2013", h("small", {}, trials)];
  const tone = help.uneven ? "warn" : help.low > 0 ? "good" : help.high < 0 ? "bad" : null;
  return [h("span", { class: tone }, points(help.difference)), h("small", {}, `${points(help.low)} to ${points(help.high)}`), h("small", {}, trials),
    help.uneven ? h("small", { class: "warn" }, "its lots are uneven: no proof") : null];
}

function points(share) {
  return `${share > 0 ? "+" : ""}${percent(share)}`;
}
