"""Two curves: success over the budget of an episode, and what both of two groups have cost after n episodes.

What it knows: an audit's budget curves and groups; the arithmetic of break-even is ``measure.breakeven``'s. What it
does not do: judge whether the cheaper group is good enough; the text beside the curve says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from potstill.measure.audit.result import Audit, BudgetCurve, Group
from potstill.measure.breakeven import break_even_episodes
from potstill.measure.html.charts import DASHES, SERIES, Size, calm, chart, series_colour
from potstill.measure.html.labels import Labels
from potstill.measure.html.table import paragraph
from potstill.measure.html.text import Html, count, esc, join, percent, span, usd

SETUP_EPISODES = (50, 500)
"""The set-up of the cheaper group is shown as a range: what so many episodes of the dearer one cost."""
_POINTS = 240


# --- budget curves ----------------------------------------------------------------------------------------------------


def budget_chart(audit: Audit, labels: Labels) -> Html:
    """S(B) of the groups with most attempts, or a sentence why there is none."""
    sizes = {(group.model, group.run): group.n for group in audit.groups}
    curves = [curve for curve in audit.budget_curves if curve.budgets_usd]
    if not curves:
        return paragraph("No group has attempts with both a known cost and a known outcome: no budget curve.")
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
        )  # fmt: skip
    axes.set_xlabel("budget of an attempt, US dollars")
    axes.set_ylabel("success, %")
    axes.set_xlim(0, end or 1.0)
    axes.set_ylim(0, 104)
    _finish(axes, size)


def _thinned(curve: BudgetCurve) -> tuple[list[float], list[float]]:
    """At most ``_POINTS`` of a curve's points, the last one among them; success in per cent."""
    points = list(zip(curve.budgets_usd, curve.success, strict=True))
    every = -(-len(points) // _POINTS)
    kept = points[::every] + ([points[-1]] if (len(points) - 1) % every else [])
    return [budget for budget, _ in kept], [100 * success for _, success in kept]


def _finish(axes: Any, size: Size) -> None:
    calm(axes)
    axes.locator_params(axis="x", nbins=7 if size.kind == "wide" else 4)
    legend = axes.figure.legend(
        loc="outside lower left", ncols=3 if size.kind == "wide" else 1, frameon=False, handlelength=3.2
    )
    for text in legend.get_texts():
        text.set_parse_math(False)


# --- break-even -------------------------------------------------------------------------------------------------------


class Pair(NamedTuple):
    """Two groups whose costs are set beside each other."""

    dear: Group
    cheap: Group


def pair_of(audit: Audit) -> Pair | None:
    """The most successful group, and the cheaper one that comes nearest to its success; ``None`` if there are none.

    Of groups with equal success the cheaper one counts as the better.
    """
    known = [g for g in audit.groups if g.cost_per_episode_usd is not None and g.success is not None and g.successes]
    if len(known) < 2:
        return None
    dear = min(known, key=lambda g: (-(g.success or 0.0), g.cost_per_episode_usd or 0.0))
    cheaper = [g for g in known if (g.cost_per_episode_usd or 0.0) < (dear.cost_per_episode_usd or 0.0)]
    if not cheaper:
        return None
    return Pair(dear, min(cheaper, key=lambda g: (-(g.success or 0.0), g.cost_per_episode_usd or 0.0)))


def break_even_chart(audit: Audit, labels: Labels) -> Html:
    """Cumulative dollars of both groups, or a sentence why they cannot be set beside each other."""
    pair = pair_of(audit)
    if pair is None:
        return paragraph(_why_not(audit))
    dear, cheap = (group.cost_per_episode_usd or 0.0 for group in pair)
    setups = [episodes * dear for episodes in SETUP_EPISODES]
    evens = [break_even_episodes(setup, dear, cheap) or 0.0 for setup in setups]
    names = [labels.of(group) for group in pair]

    numbers = [labels.model_number(group.model) for group in pair]
    colours = [series_colour(number) for number in (numbers if numbers[0] != numbers[1] else (0, 1))]

    def painter(axes: Any, size: Size) -> None:
        _paint_break_even(axes, size, names, (dear, cheap), setups, 1.3 * evens[1], colours)

    said = (
        f"At {usd(dear)} and {usd(cheap)} per episode, {names[1]} has paid for a set-up of {usd(setups[0])} to "
        f"{usd(setups[1])} after {count(evens[0])} to {count(evens[1])} episodes."
    )
    why = (
        f"The set-up (demonstrations, labels, training, evaluation) is not in the logs: the band is what "
        f"{SETUP_EPISODES[0]} to {SETUP_EPISODES[1]} episodes of {names[0]} cost."
    )
    drawing = chart("break-even-chart", "Dollars spent after n episodes", said, painter, caption=why)
    return join([paragraph(Html(f"<strong>{esc(said)}</strong> {esc(_quality(pair, names))}")), drawing])


def _why_not(audit: Audit) -> str:
    if len(audit.groups) < 2:
        return "One group only: there is nothing to break even against. Give the audit logs of a cheaper model as well."
    return (
        "No break-even: fewer than two groups have a known cost and successes, or the most successful group is the "
        "cheapest already."
    )


def _quality(pair: Pair, names: Sequence[str]) -> str:
    """What must be said beside a break-even: whether the cheaper group does the same work."""
    shares = [f"{percent(group.success)} ({span(group.success_ci, percent)})" for group in pair]
    said = f"{names[1]} succeeds at {shares[1]}, {names[0]} at {shares[0]}. "
    intervals = pair.dear.success_ci, pair.cheap.success_ci
    if intervals[0] and intervals[1] and intervals[1][1] < intervals[0][0]:
        return said + "The cheaper group does less of the work, so the break-even holds only for what it does as well."
    return said + "A break-even holds only if the cheaper group is not worse: potstill compare says so, task by task."


def _paint_break_even(
    axes: Any,
    size: Size,
    names: Sequence[str],
    costs: tuple[float, float],
    setups: Sequence[float],
    end: float,
    colours: Sequence[str],
) -> None:
    episodes = [0.0, end]
    dear, cheap = costs
    low, high = ([setup + cheap * n for n in episodes] for setup in setups)
    axes.fill_between(episodes, low, high, color=colours[1], alpha=0.16, linewidth=0)
    dashed = {"color": colours[1], "linewidth": 1.6, "linestyle": DASHES[1]}
    axes.plot(episodes, low, **dashed)
    axes.plot(episodes, high, **dashed, label=f"{names[1]} with set-up")
    axes.plot(episodes, [dear * n for n in episodes], color=colours[0], linewidth=2.0, label=names[0])
    axes.set_xlabel("episodes served")
    axes.set_ylabel("US dollars so far")
    axes.set_xlim(0, end)
    axes.set_ylim(bottom=0)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    _finish(axes, size)
