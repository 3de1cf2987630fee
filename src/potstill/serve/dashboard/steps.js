// A step: what was seen, what was done, who decided it and how, what was shown to the student, and each call's bill.

import { get, part, query } from "./api.js";
import { h, say, show, table, theirs } from "./dom.js";
import { count, counted, percent, seconds, UNKNOWN, usd } from "./format.js";

const LONG = 1200;
const CALLS = [{ title: "Asked" }, { title: "Dollars", n: true }, { title: "Tokens in", n: true }, { title: "From cache", n: true }, { title: "Into cache", n: true }, { title: "Tokens out", n: true }, { title: "Time", n: true }, { title: "Answer", wide: true }];

export function stepView(step, tenant, path) {
  const who = step.answerer;
  const decision = step.decision;
  const votes = decision?.votes ?? [];
  return h("li", { class: "step panel stop", tabindex: "-1", "aria-label": `Step ${step.index + 1}, ${who}` },
    h("header", {},
      h("h3", {}, `Step ${step.index + 1}`), whoView(who), decision ? h("span", { class: "chip" }, decision.reason) : null,
      votes.length ? h("span", { class: "quiet" }, agreementOf(decision)) : null,
      h("span", { class: "right" }, h("span", {}, usd(step.usd)), " ", h("span", { class: "quiet" }, seconds(step.latency_s ?? 0)))),
    step.error ? h("p", { class: "failed" }, h("strong", {}, theirs(step.error.kind)), " ", theirs(step.error.message)) : null,
    part_("Seen", seen(step.observation)),
    part_("Done", done(step.action)),
    step.reasoning ? folded("Reasoning", textView(step.reasoning)) : null,
    decision ? decided(decision, votes) : null,
    (step.records ?? []).length ? part_("In shadow", step.records.map(shadow)) : null,
    (step.demonstrations ?? []).length ? part_(`Shown: ${counted(step.demonstrations.length, "demonstration")}`, demonstrations(step.demonstrations, tenant)) : null,
    step.calls.length ? part_(counted(step.calls.length, "call"), [table(`Calls of step ${step.index + 1}`, CALLS, step.calls.map(call), ""), prompts(step, path)]) : null);
}

// A long text is folded after its first lines; a click shows all of it.
export function textView(text) {
  const whole = String(text ?? "");
  if (whole.length <= LONG) return h("pre", { class: "text", dir: "auto" }, whole);
  const shown = h("pre", { class: "text", dir: "auto" }, `${whole.slice(0, LONG)}\u2026`);
  const button = h("button", { type: "button", class: "small", click: () => {
    const short = shown.textContent.length <= LONG + 1;
    show(shown, short ? whole : `${whole.slice(0, LONG)}\u2026`);
    button.textContent = short ? "Less" : `All ${count(whole.length)} characters`;
  } }, `All ${count(whole.length)} characters`);
  return [shown, button];
}

function part_(title, content) {
  return h("section", { class: "part" }, h("h4", {}, title), h("div", {}, content));
}

function folded(title, content) {
  return h("details", { class: "part" }, h("summary", {}, title), content);
}

export function whoView(who) {
  return h("span", { class: `who ${/^[a-z]+$/.test(who) ? who : ""}` }, who);
}

function seen(observation) {
  const results = observation.tool_results ?? [];
  const images = observation.images ?? [];
  if (!observation.text && !results.length && !images.length) return h("p", { class: "quiet" }, "nothing");
  return [
    observation.text ? textView(observation.text) : null,
    results.map((one) => h("div", { class: "tool" }, h("p", { class: "tool-name" }, "result of ", h("code", {}, theirs(one.call_id))), textView(one.text))),
    images.length ? h("p", { class: "quiet" }, counted(images.length, "image")) : null,
  ];
}

function done(action) {
  const calls = action.tool_calls ?? [];
  if (!action.text && !calls.length) return h("p", { class: "quiet" }, "nothing");
  return [action.text ? textView(action.text) : null, calls.map(toolView)];
}

function toolView(one) {
  return h("div", { class: "tool" }, h("p", { class: "tool-name" }, h("code", {}, theirs(one.name))), textView(pretty(one.arguments ?? "{}")));
}

// On one line where it fits. As they were written where they are no JSON, or reading them would change them: numbers
// beyond a double's digits, a name that comes twice.
function pretty(text) {
  try {
    const value = JSON.parse(text);
    if (JSON.stringify(value) !== text.replace(/("(?:[^"\\]|\\.)*")|\s+/g, "$1")) return text;
    const short = JSON.stringify(value, null, 1).replace(/\n */g, " ");
    return short.length <= 76 ? short : JSON.stringify(value, null, 2);
  } catch {
    return text;
  }
}

function agreementOf(decision) {
  const samples = decision.samples || decision.votes.length;
  return decision.agreement === undefined || decision.agreement === null ? counted(samples, "vote") : `${percent(decision.agreement)} of ${counted(samples, "vote")} agree`;
}

function decided(decision, votes) {
  const said = [decision.rule ? `rule ${decision.rule}` : "", decision.mode ? `mode ${decision.mode}` : "", decision.confidence === undefined || decision.confidence === null ? "" : `confidence ${percent(decision.confidence)}`].filter(Boolean);
  if (!votes.length && !said.length) return null;
  return part_("Votes", [
    said.length ? h("p", { class: "quiet" }, theirs(said.join(", "))) : null,
    votes.length ? h("ol", { class: "votes" }, counts(votes).map(([vote, times, valid]) => h("li", { class: valid ? null : "invalid" }, h("span", { class: "times" }, `${times} of ${votes.length}`), valid ? null : h("span", { class: "chip" }, "no valid action"), h("div", {}, voteView(vote))))) : null,
  ]);
}

// Votes by what they say, the most common first.
function counts(votes) {
  const groups = new Map();
  for (const vote of votes) {
    const valid = vote.key !== null && vote.key !== undefined;
    const name = valid ? `+${vote.key}` : `-${vote.text ?? ""}`;
    const group = groups.get(name) ?? [vote, 0, valid];
    group[1] += 1;
    groups.set(name, group);
  }
  return [...groups.values()].sort((a, b) => b[1] - a[1]);
}

function voteView(vote) {
  if (!vote.tool_calls.length) return textView(vote.text || vote.key || "(empty)");
  return [vote.text ? textView(vote.text) : null, vote.tool_calls.map(toolView)];
}

function shadow(record) {
  const acted = record.acted === true ? (record.agreed === true ? "The student would have done the same." : "The student would have done something else.") : "The student would have left it to the teacher.";
  return [h("p", {}, acted), folded("Record", textView(JSON.stringify(record, null, 2)))];
}

function demonstrations(shown, tenant) {
  return h("ul", { class: "plain" }, shown.map((one) => h("li", {},
    h("a", { href: `#/episode/${part(tenant)}/${part(one.trajectory_id)}` }, theirs(one.trajectory_id)),
    h("small", {}, `steps ${count(one.start + 1)} to ${count(one.stop)}${one.score ? `, score ${one.score.toFixed(2)}` : ""}`))));
}

function call(one) {
  const usage = one.usage;
  const tokens = (name) => (usage ? count(usage[name] ?? 0) : UNKNOWN);
  const cached = usage && !usage.cache_reported && !usage.cache_read_tokens ? UNKNOWN : tokens("cache_read_tokens");
  return [
    [h("span", { class: `who ${one.side}` }, one.side === "shadow" ? "student, in shadow" : one.side), h("small", {}, theirs(one.model))],
    usd(one.usd), tokens("input_tokens"), cached, tokens("cache_write_tokens"), tokens("output_tokens"), seconds(one.latency_s ?? 0),
    one.error ? h("span", { class: "bad" }, theirs(one.error.kind), " ", theirs(one.error.message)) : replies(one.replies),
  ];
}

function replies(given) {
  if (!given.length) return UNKNOWN;
  return h("details", {}, h("summary", {}, counted(given.length, "sample")),
    given.map((one) => h("div", { class: "sample" }, one.text ? textView(one.text) : null, (one.tool_calls ?? []).map(toolView))));
}

function prompts(step, path) {
  const place = h("div", {});
  const click = async () => {
    button.disabled = true;
    try {
      const told = await get(`${path}${query({ prompts_of: step.index })}`);
      show(place, told.step.calls.map((one, at) => folded(`Prompt of call ${at + 1}, ${counted(one.prompt_messages, "message")}`, [(one.prompt ?? []).map(message), one.tools?.length ? h("p", { class: "quiet" }, "Tools: ", one.tools.map((name, n) => [n ? ", " : "", theirs(name)])) : null])));
      place.querySelector("details")?.setAttribute("open", "");
      button.remove();
    } catch (error) {
      button.disabled = false;
      say(error.message);
    }
  };
  const button = h("button", { type: "button", class: "small", click }, "Show prompts");
  return [button, place];
}

function message(one) {
  return h("div", { class: "tool" }, h("p", { class: "tool-name" }, one.role), one.content ? textView(one.content) : null, (one.tool_calls ?? []).map(toolView));
}
