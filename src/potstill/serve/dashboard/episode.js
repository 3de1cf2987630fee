// One episode: what it was, how it ended (and a click to say so), and its steps.

import { get, part, post, query } from "./api.js";
import { add, card, h, say, show, theirs } from "./dom.js";
import { answered, badge } from "./episodes.js";
import { clock, count, counted, outcome as outcomeWord, seconds, usd } from "./format.js";
import { stepView, textView } from "./steps.js";

const AT_ONCE = 50;
const LABELS = [[true, "Succeeded", "good"], [false, "Failed", "bad"], [null, "Not known", ""]];

export async function episodePage(content, { parts, signal, failed }) {
  const [tenant, ...rest] = parts;
  const path = `figures/episodes/${part(tenant ?? "")}/${part(rest.join("/"))}`;
  const told = await get(`${path}${query({ limit: AT_ONCE })}`, signal);
  if (signal.aborted) return;
  document.title = `Episode \u2013 potstill`;
  const list = h("ol", { class: "steps", id: "steps" });
  const more = h("p", { class: "buttons" });
  show(content, head(told), summary(told), label(told), about(told.trajectory),
    h("section", {}, h("h2", {}, "Steps"), told.trajectory.steps ? list : h("p", { class: "empty" }, "No step is recorded."), more));
  steps(list, more, told, path, signal, failed);
}

function head(told) {
  const trajectory = told.trajectory;
  return [
    h("p", { class: "crumbs" }, h("a", { id: "up", href: "#/episodes" }, "Episodes"), " / ", theirs(told.tenant), " / ", theirs(told.name)),
    h("h1", { class: "goal" }, theirs(trajectory.goal || told.name)),
    h("p", { class: "chips" }, badge(trajectory.outcome?.success ?? null, Boolean(trajectory.error)), h("span", { class: "chip" }, trajectory.kind),
      told.route ? h("span", { class: "chip" }, "route ", theirs(told.route)) : null, told.stage ? h("span", { class: "chip" }, "stage ", theirs(told.stage)) : null),
    (trajectory.metadata?.notes ?? []).length ? h("ul", { class: "notes", "aria-label": "Notes" }, trajectory.metadata.notes.map((note) => h("li", {}, theirs(note)))) : null,
    trajectory.error ? h("p", { class: "failed" }, h("strong", {}, theirs(trajectory.error.kind)), " ", theirs(trajectory.error.message)) : null,
  ];
}

function summary(told) {
  const trajectory = told.trajectory;
  return h("dl", { class: "cards" },
    card("Cost", usd(told.usd), [told.usd === null ? "A call's price is not known." : "All calls but shadow work, as billed."], "episode-cost"),
    card("Steps", count(trajectory.steps), [answered(told.answered)]),
    card("Time", seconds(trajectory.duration_s), [`Began ${clock(trajectory.started_at)}`]),
    card("Models", h("span", { class: "names" }, trajectory.teacher ? ["teacher ", theirs(trajectory.teacher)] : "no teacher asked"), [trajectory.student ? ["student ", theirs(trajectory.student)] : "No student asked."]));
}

// One click says how it ended; a comment may stand beside it. The last word holds.
function label(told) {
  const known = told.trajectory.outcome;
  const comment = h("input", { type: "text", id: "comment", maxlength: 4000, placeholder: "why, if it helps others", autocomplete: "off" });
  comment.value = known?.source === "human" ? known.detail ?? "" : "";
  const said = h("p", { class: "quiet", id: "outcome-said" });
  const buttons = LABELS.map(([success, word, tone]) => h("button", { type: "button", class: `label ${tone}`, "data-success": String(success), click: () => put(success, word) }, word));
  const mark = (outcome) => {
    for (const [at, [success]] of LABELS.entries()) buttons[at].setAttribute("aria-pressed", String(Boolean(outcome) && (outcome.success ?? null) === success));
    const score = outcome?.score === undefined || outcome?.score === null ? null : ` Score ${outcome.score}.`;
    show(said, outcome ? [`Said by ${WHO[outcome.source ?? "environment"] ?? "others"}: ${outcomeWord(outcome.success ?? null)}.`, score, outcome.detail ? [" ", theirs(outcome.detail, "detail")] : null] : "Nobody has said yet how it ended.");
  };
  const put = async (success, word) => {
    for (const one of buttons) one.disabled = true;
    try {
      const answer = await post(`episodes/${part(told.tenant)}/${part(told.episode)}/outcome`, { success, detail: comment.value.trim() });
      mark(answer.outcome);
      const chips = document.querySelector(".chips .outcome");
      if (chips) chips.replaceWith(badge(success)[0]);
      say(`Outcome: ${word.toLowerCase()}.`);
    } catch (error) {
      say(error.message);
    }
    for (const one of buttons) one.disabled = false;
    buttons.find((one) => one.dataset.success === String(success))?.focus();
  };
  mark(known);
  return h("section", { class: "panel verdict", "aria-label": "Outcome" },
    h("div", { class: "buttons", role: "group", "aria-label": "How did it end?" }, h("span", { class: "ask" }, "How did it end?"), buttons),
    h("label", { class: "field" }, "Comment", comment), said);
}

const WHO = { human: "a person", checker: "a checker", judge: "a judge", environment: "the environment" };

function about(trajectory) {
  const metadata = trajectory.metadata && Object.keys(trajectory.metadata).length ? trajectory.metadata : null;
  return [
    trajectory.plan ? h("details", { class: "panel", open: true }, h("summary", {}, "Plan"), textView(trajectory.plan)) : null,
    metadata ? h("details", { class: "panel" }, h("summary", {}, "Metadata"), textView(JSON.stringify(metadata, null, 2))) : null,
  ];
}

function steps(list, more, told, path, signal, failed) {
  add(list, told.steps.map((one) => stepView(one, told.tenant, path)));
  const next = told.next_after;
  if (next === null) return more.replaceChildren();
  const left = told.trajectory.steps - next - 1;
  const click = async (event) => {
    event.target.disabled = true;
    try {
      const page = await get(`${path}${query({ after: next, limit: AT_ONCE })}`, signal);
      const before = list.children.length;
      steps(list, more, page, path, signal, failed);
      list.children[before]?.focus();
    } catch (error) {
      failed(error);
    }
  };
  show(more, h("button", { type: "button", id: "more", click }, `${counted(Math.min(left, AT_ONCE), "more step")} of ${count(left)}`));
}
