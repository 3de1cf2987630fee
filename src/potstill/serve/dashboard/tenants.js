// Tenants: what each spent today of what it may, its keys, and taking a key away.

import { get, part, remove } from "./api.js";
import { confirmed, h, s, say, show, table, theirs } from "./dom.js";
import { clock, count, usd } from "./format.js";

const COLUMNS = [{ title: "Key" }, { title: "State" }, { title: "Dollars today" }, { title: "Tokens today" }, { title: "Requests", n: true }, { title: "Rate" }, { title: "Routes" }, { title: "Change", wide: true }];

export async function tenantsPage(content, { signal, failed }) {
  const draw = async () => {
    const told = await get("tenants", signal);
    if (signal.aborted) return;
    show(content, h("h1", {}, "Tenants"),
      h("p", { class: "quiet" }, `${told.day} (UTC). Budgets begin anew at midnight UTC.`),
      told.tenants.length ? told.tenants.map((one) => tenant(one, () => draw().catch(failed))) : empty());
  };
  await draw();
}

function empty() {
  return h("div", { class: "empty" }, h("p", {}, "No tenant has a key, a limit or any spend yet."), h("p", {}, "Make a key: ", h("code", {}, "potstill keys add --tenant team-a --budget-usd 5")));
}

function tenant(one, changed) {
  const limits = [one.requests_per_minute ? `${count(one.requests_per_minute)} requests a minute` : null, one.models.length ? ["only ", one.models.map((name, at) => [at ? ", " : "", theirs(name)])] : null].filter(Boolean);
  const none = one.keys.length ? null : h("p", { class: "quiet" }, "No keys.");
  return h("section", { class: "panel tenant" },
    h("h2", {}, theirs(one.name)),
    limits.length ? h("p", { class: "quiet" }, limits.map((limit, at) => [at ? "; " : "", limit])) : null,
    h("dl", { class: "meters" },
      meter("Dollars today", one.spent.usd, one.budget_usd_per_day, usd),
      meter("Tokens today", one.spent.tokens, one.budget_tokens_per_day, count),
      meter("Requests today", one.spent.requests, null, count)),
    one.keys.length ? table(`Keys of ${one.name}`, COLUMNS, one.keys.map((key) => row(key, changed)), "") : none,
    one.without_key.requests ? h("p", { class: "quiet" }, `Without a key: ${usd(one.without_key.usd)}, ${count(one.without_key.requests)} requests.`) : null);
}

function meter(title, spent, budget, format) {
  return h("div", {}, h("dt", {}, title), h("dd", {}, h("span", { class: "figure" }, format(spent)), used(spent, budget, format)));
}

// How much of a budget is gone: a bar and words. Nothing where there is no budget.
function used(spent, budget, format) {
  if (budget === null || budget === undefined) return null;
  const share = budget > 0 ? Math.min(1, spent / budget) : 1;
  const tone = share >= 1 ? "over" : share >= 0.8 ? "near" : "";
  const bar = s("svg", { class: `meter ${tone}`, viewBox: "0 0 100 6", preserveAspectRatio: "none", "aria-hidden": "true" },
    s("rect", { class: "whole", width: 100, height: 6 }), s("rect", { class: "part", width: 100 * share, height: 6 }));
  return [bar, h("small", {}, `of ${format(budget)}${share >= 1 ? ", used up" : ""}`)];
}

function row(key, changed) {
  return [
    [h("code", {}, theirs(key.id)), h("small", {}, theirs(key.name || "no name"))],
    [h("span", { class: `state ${key.state === "active" ? "on" : "off"}` }, key.state), key.state === "revoked" ? h("small", {}, clock(key.revoked_at)) : key.expires_at ? h("small", {}, `until ${clock(key.expires_at)}`) : null],
    [usd(key.spent.usd), used(key.spent.usd, key.budget_usd_per_day, usd)],
    [count(key.spent.tokens), used(key.spent.tokens, key.budget_tokens_per_day, count)],
    count(key.spent.requests),
    key.requests_per_minute ? `${count(key.requests_per_minute)} a minute` : "no limit",
    key.routes.length ? key.routes.map((name, at) => [at ? ", " : "", theirs(name)]) : "all",
    key.state === "revoked" ? null : h("button", { type: "button", class: "small danger", click: () => revoke(key, changed), "aria-label": `Revoke key ${key.id}` }, "Revoke"),
  ];
}

async function revoke(key, changed) {
  const text = `Whoever holds it is refused: at once here, within seconds by other processes. There is no way back.${key.name ? ` Its name: ${key.name}` : ""}`;
  if (!(await confirmed(`Revoke key ${key.id}?`, text, "Revoke", true))) return;
  try {
    await remove(`keys/${part(key.id)}`);
    say("Revoked.");
    changed();
  } catch (error) {
    say(error.message);
  }
}
