// Today: spend and saving with its interval, stages, agreement and escalation, cost against success.

import { get } from "./api.js";
import { card, h, show, table, theirs } from "./dom.js";
import { between, clock, count, counted, percent, usd } from "./format.js";
import { plot } from "./plot.js";
import { killSwitch, routesTable } from "./routes.js";

const EVERY_MS = 15000;
const SOON_MS = 3000;

export async function overviewPage(content, { signal, failed }) {
  let soon = false; // while episodes of today are still being read
  const draw = async () => {
    const [figures, routes, status] = await Promise.all([get("figures", signal), get("routes", signal), get("status", signal)]);
    if (signal.aborted) return;
    soon = figures.unread > 0;
    const held = document.activeElement?.id;
    const open = content.contains(document.activeElement);
    show(content, page(figures, routes.routes, status, () => draw().catch(failed)));
    if (open && held) document.getElementById(held)?.focus();
  };
  await draw();
  const busy = () => document.getElementById("confirm").open || content.querySelector("details[open], .scroll:focus, button.small:focus");
  let timer = 0;
  const wait = () => {
    timer = setTimeout(async () => {
      if (!document.hidden && !busy()) await draw().catch(failed);
      if (!signal.aborted) wait();
    }, soon ? SOON_MS : EVERY_MS);
  };
  wait();
  signal.addEventListener("abort", () => clearTimeout(timer));
}

function page(figures, routes, status, changed) {
  return [
    h("h1", {}, "Today"),
    h("p", { class: "quiet" }, `${figures.day} (UTC), as of ${clock(figures.now)}. ${counted(figures.episodes, "episode")}. ${figures.prices_date ? `List prices of ${figures.prices_date}.` : "No price table: dollars are not known."}`),
    warnings(figures, status),
    killSwitch(status.kill_switch, changed),
    h("dl", { class: "cards" }, spendCard(figures), savingCard(figures), escalationCard(figures), agreementCard(figures)),
    h("section", {}, h("h2", {}, "Routes"), routesTable(routes, figures.routes, status.kill_switch?.killed, changed)),
    h("section", {}, h("h2", {}, "Cost and success"), plot(figures.points), pointsTable(figures.points)),
    h("section", {}, h("h2", {}, "Spend"), spendTable(figures)),
  ];
}

function warnings(figures, status) {
  const said = [];
  if (figures.unread) said.push(`${counted(figures.unread, "episode")} of today not read yet: the figures grow by themselves.`);
  if (!figures.all) said.push("Today has more episodes than are looked at here: these are the figures of the newest.");
  if (figures.damaged) said.push(`${counted(figures.damaged, "episode")} of today cannot be read.`);
  if (figures.spend.unpriced) said.push(`${counted(figures.spend.unpriced, "call")} without a known price: spend is higher than shown.`);
  if (status.records_dropped) said.push(`${counted(status.records_dropped, "exchange")} not recorded because the queue was full.`);
  return said.length ? h("ul", { class: "incomplete" }, said.map((one) => h("li", {}, one))) : null;
}

function spendCard({ spend }) {
  const read = spend.input_tokens ? `, ${percent(spend.cache_read_tokens / spend.input_tokens)} of it from a cache` : "";
  return card("Spent", usd(spend.usd), [`${counted(spend.calls, "call")} to models`, `${count(spend.input_tokens)} tokens in${read}`, `${count(spend.output_tokens)} tokens out`], "spent");
}

function savingCard({ saving }) {
  const notes = [];
  if (saving.share !== null) notes.push(`${percent(saving.share)} of ${usd(saving.always_teacher_usd)} that the teacher alone would have cost, its cache used`);
  if (saving.usd_low !== null) notes.push(between(saving.usd_low, saving.usd_high, usd));
  else if (saving.episodes) notes.push("No interval from a single task.");
  else notes.push("Needs an episode with known prices on both sides.");
  if (saving.left_out) notes.push(`${counted(saving.left_out, "episode")} left out: a price is not known`);
  return card("Saved", usd(saving.usd), notes, "saved");
}

function escalationCard({ escalation }) {
  return card("Escalated", percent(escalation.share), escalation.n ? [`${count(escalation.of)} of ${counted(escalation.n, "decision")} went to the teacher`, between(escalation.low, escalation.high, percent)] : ["No cascade decided today."], "escalated");
}

function agreementCard({ agreement }) {
  const acted = agreement.would_act;
  return card("Agreed in shadow", percent(agreement.share), agreement.n ? [`${count(agreement.of)} of ${counted(agreement.n, "decision")} that the student would have made`, between(agreement.low, agreement.high, percent), `It would have acted at ${percent(acted.share)} of ${count(acted.n)}`] : [acted.n ? `Asked ${count(acted.n)} times; it would not have acted.` : "No student ran in shadow today."], "agreed");
}

function spendTable({ spend }) {
  const rows = spend.by.map((one) => [theirs(one.route), one.asked === "shadow" ? "student, in shadow" : one.asked, usd(one.usd), count(one.calls), count(one.input_tokens), count(one.cache_read_tokens), count(one.output_tokens), ...(spend.unpriced ? [count(one.unpriced)] : [])]);
  const columns = ["Route", "Asked", "Dollars", "Calls", "Tokens in", "From cache", "Tokens out", ...(spend.unpriced ? ["No price"] : [])];
  return table("Spend by route and by who was asked", columns.map((title, at) => ({ title, n: at > 1 })), rows, "Nothing was asked today.");
}

function pointsTable(points) {
  if (!points.length) return null;
  const rows = points.map((one) => [theirs(one.route), one.kind, `${count(one.known)} of ${count(one.episodes)}`, [percent(one.success), ci(one.success_ci, percent)], [usd(one.cost_usd), ci(one.cost_ci, usd)], [usd(one.cost_of_pass_usd), ci(one.cost_of_pass_ci, usd)]]);
  const columns = ["Route", "Way", "Outcome known", "Success", "Dollars an episode", "Dollars a success"];
  return table("Cost and success by route and way", columns.map((title, at) => ({ title, n: at > 1 })), rows, "");
}

function ci(bounds, format) {
  return bounds ? h("small", {}, between(bounds[0], bounds[1], format)) : null;
}
