// Routes with their stages, the buttons that change them, and the kill switch. Every change is asked about first.

import { part, post } from "./api.js";
import { confirmed, h, say, table, theirs } from "./dom.js";
import { clock, count, percent } from "./format.js";

const WHAT = {
  freeze: ["Freeze", "The route stays in its stage until it is unfrozen, whatever is observed."],
  unfreeze: ["Unfreeze", "The route moves by its evidence again."],
  kill: ["Kill", "The teacher answers everything on this route, in every process, until it is released."],
  release: ["Release", "The route begins again in shadow and proves itself anew."],
};

// A route that does not roll out is where its mode puts it, and can only be killed and released.
function stageNow(route) {
  const { stage } = route.rollout;
  if (route.rolls_out || stage === "killed") return stage;
  return route.mode === "shadow" ? "shadow" : "live";
}

function offered(route) {
  const stage = stageNow(route);
  if (stage === "killed") return ["release"];
  if (!route.rolls_out) return ["kill"];
  if (stage === "frozen") return ["unfreeze", "kill"];
  return stage === "off" ? [] : ["freeze", "kill"];
}

export function routesTable(routes, figures, killed, changed) {
  const known = new Map(figures.map((one) => [one.route, one]));
  const rows = routes.map((route) => {
    const own = known.get(route.name);
    const rollout = route.rollout;
    return [
      [theirs(route.name), h("small", {}, route.mode)],
      [theirs(route.teacher), route.student ? h("small", {}, "student ", theirs(route.student)) : null],
      rollout ? stageOf(route, killed) : h("span", { class: "quiet" }, "no rollout"),
      rate(own?.escalation, "decisions"),
      rate(own?.agreement, "shadowed"),
      count(own?.episodes ?? 0),
      rollout ? offered(route).map((act) => button(route, act, changed)) : null,
    ];
  });
  return table("Routes", [{ title: "Route" }, { title: "Models" }, { title: "Stage", wide: true }, { title: "Escalated", n: true }, { title: "Agreed", n: true }, { title: "Episodes", n: true }, { title: "Change", wide: true }], rows, "This gateway has no routes; names are passed through.");
}

function rate(share, of) {
  if (!share || !share.n) return "\u2013";
  return [percent(share.share), h("small", {}, `of ${count(share.n)} ${of}`)];
}

function stageOf(route, killed) {
  const rollout = route.rollout;
  const stage = stageNow(route);
  const changes = (rollout.changes ?? []).slice(0, 10).map((one) => h("li", {}, `${clock(one.at)} ${one.what}: `, theirs(one.sentence)));
  const serving = stage === "frozen" ? `, serves as ${rollout.serving}` : "";
  return [
    h("span", { class: `stage ${/^(killed|frozen|live|canary|shadow)$/.test(stage) ? stage : ""}` }, stage),
    h("small", {}, route.rolls_out || stage === "killed" ? `since ${clock(rollout.entered_at)}${serving}` : "by its mode, without a rollout"),
    killed ? h("small", { class: "bad" }, "kill switch: the teacher answers") : null,
    rollout.needs_calibration ? h("small", { class: "warn" }, "needs a new calibration") : null,
    route.rolls_out && rollout.sentence ? h("small", {}, theirs(rollout.sentence)) : null,
    changes.length ? h("details", {}, h("summary", {}, "History"), h("ul", { class: "terms" }, changes)) : null,
  ];
}

function button(route, act, changed) {
  const { name } = route;
  const [word, rolled] = WHAT[act];
  const what = act === "release" && !route.rolls_out ? "The route answers by its mode again." : rolled;
  const click = async () => {
    if (!(await confirmed(`${word} ${name}?`, what, word, act === "kill"))) return;
    try {
      await post(`routes/${name.split("/").map(part).join("/")}/${act}`, { by: "dashboard" });
      say(`${word}: done.`);
      changed();
    } catch (error) {
      say(error.message);
    }
  };
  return h("button", { type: "button", class: act === "kill" ? "small danger" : "small", click, "aria-label": `${word} ${name}` }, word);
}

export function killSwitch(state, changed) {
  if (!state) return null;
  const killed = state.killed;
  const click = async () => {
    const title = killed ? "Let students answer again?" : "Send everything to the teachers?";
    const text = killed ? "All routes go on in the stages that they are in." : "No student is asked any more, on all routes and in every process, within about a second.";
    if (!(await confirmed(title, text, killed ? "Release" : "Kill", !killed))) return;
    try {
      const answer = await post("kill-switch", { killed: !killed, by: "dashboard" });
      say(answer.note ?? (killed ? "Students may answer again." : "Everything goes to the teachers."));
      changed();
    } catch (error) {
      say(error.message);
    }
  };
  const said = killed ? [h("strong", {}, "The kill switch is on."), " Teachers answer everything since ", clock(state.at), ", by ", theirs(state.by || "an operator"), "."] : "The kill switch is off.";
  return h("div", { class: killed ? "switch on" : "switch" }, h("p", {}, said),
    h("button", { type: "button", id: "kill-switch", class: killed ? "primary" : "danger", click }, killed ? "Release" : "Kill switch"));
}
