"""Success over the budget of an episode: S(B) of the largest groups.

What it knows: an audit's budget curves. What it does not do: compute them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from potstill.measure.audit.result import Audit, BudgetCurve
from potstill.measure.html.charts import DASHES, SERIES, Size, calm, chart, series_colour
from potstill.measure.html.labels import Labels
from potstill.measure.html.table import paragraph
from potstill.measure.html.text import Html, percent, usd

_POINTS = 240


def budget_chart(audit: Audit, labels: Labels) -> Html:
    """S(B) of the groups with most attempts, or a sentence why there is none."""
    sizes = {(group.model, group.run): group.n for group in audit.groups}
    curves = [curve for curve in audit.budget_curves if curve.budgets_usd]
    if not curves:
        return paragraph("No group's attempts all have a known cost and a known outcome: no budget curve.")
    shown = sorted(curves, key=lambda curve: -sizes.get((curve.model, curve.run), 0))[:SERIES]

    def painter(axes: Any, size: Size) -> None:
        _paint_budget(axes, size, shown, labels)

    words = "; ".join(
        f"{labels.by_key(curve.model, curve.run)}: {percent(curve.success[-1])} at {usd(curve.budgets_usd[-1])}, "
        f"area {curve.auc:.3f}"
        for curve in shown
    )
    caption = (
        "Share of attempts that succeed within a budget of B dollars each: a lower bound for an agent that knows it."
    )
    if len(curves) > len(shown):
        caption += f" The {len(shown)} largest of {len(curves)} groups."
    return chart("budget-chart", "Success within a budget", words, painter, caption=caption)


def _paint_budget(axes: Any, size: Size, curves: Sequence[BudgetCurve], labels: Labels) -> None:
    end = max(curve.budgets_usd[-1] for curve in curves)
    models = [labels.model_number(curve.model) for curve in curves]
    colours = models if len(set(models)) == len(models) else range(len(models))
    for at, (curve, colour) in enumerate(zip(curves, colours, strict=True)):
        budgets, success = _thinned(curve)
        axes.step(
            [0.0, *budgets, end], [0.0, *success, success[-1]], where="post", color=series_colour(colour),
            linestyle=DASHES[at], linewidth=1.8, label=labels.by_key(curve.model, curve.run),
            url=labels.link(curve.model, curve.run),
        )  # fmt: skip
    axes.set_xlabel("budget of an attempt, US dollars")
    axes.set_ylabel("success, %")
    axes.set_xlim(0, end or 1.0)
    axes.set_ylim(0, 104)
    finish(axes, size, [labels.link(curve.model, curve.run) for curve in curves])


def _thinned(curve: BudgetCurve) -> tuple[list[float], list[float]]:
    """At most ``_POINTS`` of a curve's points, the last one among them; success in per cent."""
    points = list(zip(curve.budgets_usd, curve.success, strict=True))
    every = -(-len(points) // _POINTS)
    kept = points[::every] + ([points[-1]] if (len(points) - 1) % every else [])
    return [budget for budget, _ in kept], [100 * success for _, success in kept]


def finish(axes: Any, size: Size, links: Sequence[str | None]) -> None:
    """Rules and a legend below; ``links`` are where its entries lead to."""
    calm(axes)
    axes.locator_params(axis="x", nbins=7 if size.kind == "wide" else 4)
    legend = axes.figure.legend(
        loc="outside lower left", ncols=3 if size.kind == "wide" else 1, frameon=False, handlelength=3.2
    )
    for text, link in zip(legend.get_texts(), links, strict=True):
        text.set_parse_math(False)
        text.set_url(link)
