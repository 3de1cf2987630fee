"""Break-even: what the most successful group and a cheaper one have cost after n episodes.

What it knows: which pair may be set beside each other, and the words for it; the arithmetic is
``measure.breakeven.payback``'s. What it does not do: prove that the cheaper group is not worse; ``potstill compare``
does. Between groups of different success a break-even says nothing: none is drawn where the cheaper one looks worse.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from potstill.measure.audit.result import Audit, Group
from potstill.measure.breakeven import Investment, payback
from potstill.measure.html.charts import DASHES, Size, chart, series_colour
from potstill.measure.html.curves import finish
from potstill.measure.html.labels import Labels
from potstill.measure.html.table import paragraph
from potstill.measure.html.text import Html, count, join, percent, span, usd

SETUP_EPISODES = (50, 500)
"""The set-up of the cheaper group is shown as a range: what so many episodes of the dearer one cost."""
MARGIN = 0.02
"""How much less success than the dearer group's still counts as the same work."""


class Pair(NamedTuple):
    """Two groups whose costs are set beside each other."""

    dear: Group
    cheap: Group


def same_work(pair: Pair) -> bool:
    """Whether the audit's data do not show the cheaper group to be worse.

    Its success is at most ``MARGIN`` below the dearer group's, and its interval reaches the dearer group's success.
    """
    dear, cheap = pair.dear.success or 0.0, pair.cheap.success or 0.0
    reaches = pair.cheap.success_ci is None or pair.cheap.success_ci[1] >= dear
    return cheap >= dear - MARGIN - 1e-12 and reaches


def _known(audit: Audit) -> list[Group]:
    return [g for g in audit.groups if g.cost_per_episode_usd is not None and g.success is not None and g.successes]


def pairs_of(audit: Audit) -> list[Pair]:
    """The most successful group with each cheaper one, the most successful first.

    Of groups with equal success the cheaper one counts as the better.
    """
    known = sorted(_known(audit), key=lambda g: (-(g.success or 0.0), g.cost_per_episode_usd or 0.0))
    if not known:
        return []
    dear, *others = known
    return [Pair(dear, g) for g in others if (g.cost_per_episode_usd or 0.0) < (dear.cost_per_episode_usd or 0.0)]


def pair_of(audit: Audit) -> Pair | None:
    """The most successful group, and the cheapest one of those that do the same work; ``None`` if there is none."""
    fit = [pair for pair in pairs_of(audit) if same_work(pair)]
    return min(fit, key=lambda pair: pair.cheap.cost_per_episode_usd or 0.0, default=None)


def break_even_chart(audit: Audit, labels: Labels) -> Html:
    """Cumulative dollars of both groups, or a sentence why they are not set beside each other."""
    pair = pair_of(audit)
    if pair is None:
        return paragraph(_why_not(audit, labels))
    costs = pair.dear.cost_per_episode_usd or 0.0, pair.cheap.cost_per_episode_usd or 0.0
    setups = [episodes * costs[0] for episodes in SETUP_EPISODES]
    evens = [_episodes(setup, costs) for setup in setups]
    names = [labels.of(group) for group in pair]
    numbers = [labels.model_number(group.model) for group in pair]
    colours = [series_colour(number) for number in (numbers if numbers[0] != numbers[1] else (0, 1))]
    links = [labels.link(group.model, group.run) for group in pair]

    def painter(axes: Any, size: Size) -> None:
        _paint(axes, size, names, costs, setups, 1.3 * evens[1], colours)
        finish(axes, size, links[::-1])

    said = (
        f"At {usd(costs[0])} and {usd(costs[1])} per episode, {names[1]} would have paid for a set-up of "
        f"{usd(setups[0])} to {usd(setups[1])} after {count(evens[0])} to {count(evens[1])} episodes, if it does the "
        f"same work as {names[0]}."
    )
    why = (
        f"The set-up (demonstrations, labels, training, evaluation) is not in the logs: the band assumes what "
        f"{SETUP_EPISODES[0]} to {SETUP_EPISODES[1]} episodes of {names[0]} cost."
    )
    drawing = chart("break-even-chart", "Dollars spent after n episodes", said, painter, caption=why)
    return join([paragraph(said), paragraph(_quality(pair, names), "quiet"), drawing])


def _episodes(setup: float, costs: tuple[float, float]) -> int:
    paid = payback(Investment(evaluation_usd=setup), base_usd=costs[0], new_usd=costs[1], non_inferior=True)
    return paid.episodes or 0


def _quality(pair: Pair, names: Sequence[str]) -> str:
    """What must be said beside a break-even: that the cheaper group is not shown to do the same work."""
    shares = [f"{percent(group.success)} ({span(group.success_ci, percent)})" for group in pair]
    return (
        f"{names[1]} succeeds at {shares[1]}, {names[0]} at {shares[0]}: at most {100 * MARGIN:g} points less, and "
        "within its interval. That does not prove that it is not worse: potstill compare tests it task by task."
    )


def _why_not(audit: Audit, labels: Labels) -> str:
    if len(audit.groups) < 2:
        return "One group only: there is nothing to break even against. Give the audit logs of a cheaper model as well."
    worse = pairs_of(audit)
    if not worse:
        return (
            "No break-even: fewer than two groups have a known cost and successes, or the most successful group is the "
            "cheapest already."
        )
    dear, cheap = worse[0]
    points = 100 * ((dear.success or 0.0) - (cheap.success or 0.0))
    return (
        f"No break-even is drawn, because no cheaper group does the same work: {labels.of(cheap)}, the nearest, "
        f"succeeds at {percent(cheap.success)} ({span(cheap.success_ci, percent)}), {points:.1f} points less than "
        f"{labels.of(dear)}. It would be drawn up to {100 * MARGIN:g} points less, with an interval that reaches the "
        "dearer group's success. Until then compare the dollars per success above."
    )


def _paint(
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
