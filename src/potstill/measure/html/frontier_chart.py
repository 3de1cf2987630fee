"""The frontier: each group's success over its dollars per episode, with error bars, and the hull.

What it knows: an audit's groups and frontier. What it does not do: compute who is on the hull.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from potstill.measure.audit.result import Audit, Group
from potstill.measure.html.charts import INK, MARKERS, PAPER, Size, calm, chart, series_colour
from potstill.measure.html.groups import least_per_episode
from potstill.measure.html.labels import Labels
from potstill.measure.html.table import paragraph
from potstill.measure.html.text import Html, percent, span, usd_or_more
from potstill.measure.plot_names import Named, write_names

_DRAWN = 40
_SAME_PIXELS = 9.0
"""Markers nearer than this cover each other."""
_ALL_NAMED = 8
"""With more groups than this only those on the frontier have their name written out."""


def frontier_chart(audit: Audit, labels: Labels, confidence: float) -> Html:
    """The drawing, or a sentence why there is none."""
    hull = {(row.model, row.run) for row in audit.frontier if row.on_hull}
    groups = [group for group in audit.groups if _cost(group) is not None and group.success is not None]
    if not groups:
        return paragraph("No group has both a known cost and a known success, so there is no frontier to draw.")

    drawn = sorted(groups, key=lambda group: ((group.model, group.run) not in hull, -group.n))[:_DRAWN]

    def painter(axes: Any, size: Size) -> None:
        _paint(axes, size, drawn, hull, labels)

    words = "; ".join(_in_words(group, (group.model, group.run) in hull, labels) for group in drawn[:20])
    caption = (
        f"Success over dollars per episode, with {100 * confidence:g} % intervals of success; dashed: the frontier. "
        "A group below it is never the best buy at its price."
    )
    if any(group.cost_per_episode_usd is None for group in drawn):
        caption += " Hollow: some of its cost is not known, so it lies further right, and never on the frontier."
    if len(groups) > len(drawn):
        caption += f" Drawn are {len(drawn)} of {len(groups)} groups: those on the frontier and the largest."
    if len(groups) > _ALL_NAMED:
        caption += " Numbers are those of the table of groups."
    return chart("frontier-chart", "Success over cost per episode", words, painter, caption=caption)


def _cost(group: Group) -> float | None:
    """Dollars per episode, or their lower bound."""
    return least_per_episode(group) if group.cost_per_episode_usd is None else group.cost_per_episode_usd


def _in_words(group: Group, on_hull: bool, labels: Labels) -> str:
    cost = usd_or_more(group.cost_per_episode_usd, _cost(group))
    said = f"{labels.of(group)}: {cost} per episode, success {percent(group.success)}"
    if group.success_ci is not None:
        said += f" ({span(group.success_ci, percent)})"
    return said + (", on the frontier" if on_hull else "")


def _paint(axes: Any, size: Size, groups: list[Group], hull: set[tuple[str, str]], labels: Labels) -> None:
    points = [_point(group, (group.model, group.run) in hull, len(groups), size, labels) for group in groups]
    for group, point in zip(groups, points, strict=True):
        at = labels.model_number(group.model)
        errors = [[point.y - point.low], [point.high - point.y]] if point.high > point.low else None
        inside = {"markerfacecolor": PAPER} if group.cost_per_episode_usd is None else {}
        drawn = axes.errorbar(
            point.x, point.y, yerr=errors, fmt=MARKERS[at % len(MARKERS)], color=series_colour(at), capsize=3,
            markersize=7, elinewidth=1.4, zorder=3, **inside,
        )  # fmt: skip
        _link(drawn.lines, labels.link(group.model, group.run))
    line = sorted((p.x, p.y) for g, p in zip(groups, points, strict=True) if (g.model, g.run) in hull)
    axes.plot(*zip(*line, strict=True), color=INK, linewidth=1.1, linestyle="--", zorder=2) if line else None
    axes.set_xlabel("US dollars per episode")
    axes.set_ylabel("success, %")
    axes.set_ylim(0, 104)
    axes.set_xlim(0, 1.18 * max(point.x for point in points) or 1.0)
    calm(axes)
    axes.locator_params(axis="x", nbins=7 if size.kind == "wide" else 4)
    axes.figure.draw_without_rendering()  # settles where everything is
    joined = _joined(axes, points)
    write_names(axes, [*(named for named, _ in joined), *_along(line)])
    written = axes.texts[-sum(bool(named.text) for named, _ in joined) :]
    for text, (_, at) in zip(written, (entry for entry in joined if entry[0].text), strict=True):
        text.set_url(labels.link(groups[at].model, groups[at].run))


def _link(lines: tuple[Any, Any, Any], link: str | None) -> None:
    """Make a marker and its error bar lead to a place of the page."""
    marker, caps, bars = lines
    for line in (marker, *caps):
        line.set_url(link)
    for bar in bars:
        bar.set_urls([link])


def _joined(axes: Any, points: list[Named]) -> list[tuple[Named, int]]:
    """Points with the number of their group; those that lie on each other are named once, by all their names."""
    places = axes.transData.transform([(point.x, point.y) for point in points])
    leaders: list[int] = []
    names: dict[int, list[str]] = {}
    for at, (x, y) in enumerate(places):
        near = (one for one in leaders if abs(places[one][0] - x) + abs(places[one][1] - y) < _SAME_PIXELS)
        leader = next(near, at)
        if leader == at:
            leaders.append(at)
        names.setdefault(leader, []).append(points[at].text)
    texts = {leader: ", ".join(texts) for leader, texts in names.items()}
    return [(point._replace(text=texts.get(at, "")), at) for at, point in enumerate(points)]


def _along(line: list[tuple[float, float]]) -> list[Named]:
    """Places along the hull that names stay clear of."""
    steps = [step / 16 for step in range(1, 16)]
    places = [(a + (c - a) * t, b + (d - b) * t) for (a, b), (c, d) in pairwise(line) for t in steps]
    return [Named("", x, y, y, y) for x, y in places]


def _point(group: Group, on_hull: bool, groups: int, size: Size, labels: Labels) -> Named:
    success = 100 * (group.success or 0.0)
    low, high = group.success_ci or (group.success or 0.0, group.success or 0.0)
    full = groups <= _ALL_NAMED or on_hull
    text = labels.of(group) if full else str(labels.number(group))
    if size.kind == "narrow":
        text = text if len(text) <= 24 else text[:23] + "…"
    return Named(text, _cost(group) or 0.0, success, min(success, 100 * low), max(success, 100 * high))
