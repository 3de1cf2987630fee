// Cost against success as inline SVG: up is better, left is cheaper. Bars are intervals at 95 %.

import { h, s } from "./dom.js";
import { percent, usd } from "./format.js";

const COLOURS = { teacher: "c0", student: "c1", cascade: "c2", control: "c3" };
const SHAPES = { teacher: "square", student: "triangle", cascade: "circle", control: "diamond" };

export function plot(points) {
  const known = points.filter((one) => one.success !== null && one.cost_usd !== null);
  if (!known.length) return h("p", { class: "quiet" }, "No episode of today has both a known outcome and known prices yet.");
  return h("figure", {}, drawn(known, 720, 380, "wide"), drawn(known, 360, 330, "narrow"),
    h("figcaption", {}, "Each mark is one way of answering on one route, over today's episodes with a known outcome. The ways were not drawn by lot, so harder tasks may have met one of them more often."));
}

function drawn(points, width, height, className) {
  const left = 56, right = 16, top = 14, bottom = 50;
  const dearest = Math.max(...points.map((one) => one.cost_ci?.[1] ?? one.cost_usd), 1e-12);
  const most = Math.min(dearest, 3 * Math.max(...points.map((one) => one.cost_usd), 1e-12)) * 1.08;
  const step = nice(most / (width > 500 ? 6 : 3));
  const x = (cost) => left + (Math.min(cost, most) / most) * (width - left - right);
  const y = (share) => top + (1 - share) * (height - top - bottom);
  const told = points.map((one) => `${one.route}, ${one.kind}: ${percent(one.success)} at ${usd(one.cost_usd)}`).join("; ");
  const svg = s("svg", { viewBox: `0 0 ${width} ${height}`, class: className, role: "img", "aria-label": `Success against cost an episode. ${told}` });
  for (const share of [0, 0.25, 0.5, 0.75, 1]) {
    svg.append(s("line", { class: "s-line", x1: left, x2: width - right, y1: y(share), y2: y(share) }),
      s("text", { class: "f-quiet", x: left - 8, y: y(share) + 4, "text-anchor": "end" }, percent(share)));
  }
  for (let cost = 0; cost <= most; cost += step) {
    svg.append(s("line", { class: "s-line", x1: x(cost), x2: x(cost), y1: y(0), y2: y(0) + 5 }),
      s("text", { class: "f-quiet", x: x(cost), y: y(0) + 20, "text-anchor": "middle" }, usd(cost)));
  }
  svg.append(s("text", { class: "f-quiet", x: (left + width - right) / 2, y: height - 8, "text-anchor": "middle" }, "dollars an episode"));
  const taken = [];
  for (const one of points) svg.append(marked(one, x, y, width, taken));
  return svg;
}

function marked(one, x, y, width, taken) {
  const colour = COLOURS[one.kind] ?? "c5";
  const at = [x(one.cost_usd), y(one.success)];
  const group = s("g", {}, s("title", {}, `${one.route}, ${one.kind}: ${percent(one.success)} of ${one.known} at ${usd(one.cost_usd)}`));
  const bar = (x1, y1, x2, y2) => group.append(s("line", { class: `s-${colour} bar`, x1, y1, x2, y2 }));
  if (one.success_ci) bar(at[0], y(one.success_ci[0]), at[0], y(one.success_ci[1]));
  if (one.cost_ci && one.cost_ci[0] !== null) bar(x(one.cost_ci[0]), at[1], x(one.cost_ci[1] ?? Infinity), at[1]);
  group.append(shape(SHAPES[one.kind] ?? "circle", colour, ...at));
  const end = at[0] > width * 0.6;
  let line = at[1] - 10;
  while (taken.some(([px, py]) => Math.abs(px - at[0]) < width * 0.35 && Math.abs(py - line) < 15)) line += 15;
  taken.push([at[0], line]);
  group.append(s("text", { class: "f-ink label", x: at[0] + (end ? -10 : 10), y: Math.max(12, line), "text-anchor": end ? "end" : "start" }, short(`${one.route}, ${one.kind}`)));
  return group;
}

function shape(kind, colour, x, y) {
  const fill = { class: `f-${colour}` };
  if (kind === "square") return s("rect", { ...fill, x: x - 6, y: y - 6, width: 12, height: 12 });
  if (kind === "triangle") return s("path", { ...fill, d: `M${x} ${y - 7}L${x + 7} ${y + 6}L${x - 7} ${y + 6}Z` });
  if (kind === "diamond") return s("path", { ...fill, d: `M${x} ${y - 8}L${x + 8} ${y}L${x} ${y + 8}L${x - 8} ${y}Z` });
  return s("circle", { ...fill, cx: x, cy: y, r: 6.5 });
}

function short(text) {
  return text.length > 34 ? `${text.slice(0, 16)}\u2026${text.slice(-16)}` : text;
}

function nice(step) {
  const size = 10 ** Math.floor(Math.log10(step));
  return [1, 2, 5, 10].find((one) => one * size >= step) * size;
}
