"""The cost-success frontier: which arms are worth buying, and what the next success costs.

What it knows: points of (cost, success). What it does not do: where they came from.

The frontier is the non-decreasing concave hull from the cheapest arm up: between two arms on it, a user can mix them at
random by task and reach any point of the segment, so an arm below the hull is never the best buy at its cost.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import msgspec


class Point(msgspec.Struct, frozen=True):
    """An arm as the frontier sees it: dollars per episode and share of successes."""

    name: str
    cost_usd: float
    success: float


def hull(points: Sequence[Point]) -> list[Point]:
    """The non-decreasing concave hull, cheapest first: each point costs and succeeds more, at falling returns.

    Of points at one cost the most successful is kept. Points that are dearer without being better are not on it.
    """
    kept: list[Point] = []
    for point in sorted(points, key=lambda p: (p.cost_usd, -p.success, p.name)):
        if kept and point.success <= kept[-1].success:
            continue
        while len(kept) >= 2 and _returns(kept[-2], kept[-1]) <= _returns(kept[-2], point):
            kept.pop()
        kept.append(point)
    return kept


def _returns(cheap: Point, dear: Point) -> float:
    """Successes bought per dollar between two points; ``dear`` costs more."""
    return (dear.success - cheap.success) / (dear.cost_usd - cheap.cost_usd)


def marginal_usd_per_success(cheap: Point, dear: Point) -> float | None:
    """What one extra success costs when moving from one arm to a dearer one; ``None`` if there is no extra success.

    >>> round(marginal_usd_per_success(Point("zero-shot", 0.051, 0.28), Point("context", 0.088, 0.55)), 3)
    0.137
    """
    if dear.success <= cheap.success or dear.cost_usd < cheap.cost_usd:
        return None
    return (dear.cost_usd - cheap.cost_usd) / (dear.success - cheap.success)


def neighbours(points: Sequence[Point]) -> dict[str, tuple[str, float | None]]:
    """For each arm the next cheaper arm and the marginal dollars per extra success from it; the cheapest has none."""
    ordered = sorted(points, key=lambda p: (p.cost_usd, p.success, p.name))
    return {dear.name: (cheap.name, marginal_usd_per_success(cheap, dear)) for cheap, dear in pairwise(ordered)}
