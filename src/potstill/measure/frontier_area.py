"""Whole frontiers compared: their average quality, and what one buys that another does not.

What it knows: a frontier as a curve (the non-decreasing hull, flat beyond its dearest arm), AIQ, the saving at one
quality and the gain at one cost. What it does not do: find the hull (``frontier.hull``), or intervals (resample tasks
and call again).

Below its cheapest arm a frontier buys nothing: the success there is 0. That is our choice where RouterBench leaves it
open; on a range from the cheapest arm of all compared frontiers it costs a frontier without cheap arms what it should.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from potstill.errors import ConfigError
from potstill.measure.frontier import Point, hull

Range = tuple[float, float]
"""Dollars per episode, from and to."""


def success_at(points: Sequence[Point], costs_usd: Sequence[float] | float) -> NDArray[np.float64]:
    """The best success that a mix of the arms reaches at each cost per episode; 0 below the cheapest arm.

    Raises ``ConfigError`` without points.
    """
    costs, successes = _corners(points)
    return np.asarray(np.interp(np.asarray(costs_usd, dtype=np.float64), costs, successes, left=0.0))


def cost_at(points: Sequence[Point], success: float) -> float | None:
    """The least cost per episode, in US dollars, at which a mix of the arms reaches ``success``; ``None`` if none."""
    costs, successes = _corners(points)
    if not 0 <= success <= successes[-1]:
        return None
    return float(np.interp(success, successes, costs))


def aiq(points: Sequence[Point], over: Range | None = None) -> float | None:
    """Average success over a range of costs: the area under the frontier over its width (AIQ, arXiv 2403.12031).

    ``over``: the range in US dollars per episode (default: from the cheapest arm to the dearest). Frontiers can be
    compared over the same range only (``cost_range``). ``None`` if the range has no width.

    >>> aiq([Point("student", 1.0, 0.4), Point("teacher", 3.0, 0.8)])
    0.6
    """
    low, high = over if over is not None else cost_range(points)
    if not 0 <= low <= high < float("inf"):
        raise ConfigError(f"The range of costs is {low} to {high}; allowed: from 0 up, the smaller first.")
    if low == high:
        return None
    costs, successes = _corners(points)
    start = max(low, float(costs[0]))
    if start >= high:
        return 0.0
    corners = np.unique(np.concatenate([[start, high], costs[(costs > start) & (costs < high)]]))
    heights = np.interp(corners, costs, successes)
    return float(((heights[1:] + heights[:-1]) / 2 * np.diff(corners)).sum() / (high - low))


def cost_range(points: Sequence[Point], *others: Sequence[Point]) -> Range:
    """From the cheapest arm of all to the dearest, in US dollars per episode: a common range for ``aiq``."""
    costs = [point.cost_usd for arms in (points, *others) for point in arms]
    if not costs:
        raise ConfigError("A frontier of no arms. Give at least one arm with a known cost and success.")
    return min(costs), max(costs)


def iso_quality_saving(new: Sequence[Point], base: Sequence[Point], success: float) -> float | None:
    """1 - c_new(q) / c_base(q): the share of the dollars saved at the same success (arXiv 2601.14192).

    Negative if ``new`` costs more. ``None`` if one of them never reaches ``success``, or the base does so for nothing.
    """
    ours, theirs = cost_at(new, success), cost_at(base, success)
    return None if ours is None or not theirs else 1 - ours / theirs


def iso_cost_gain(new: Sequence[Point], base: Sequence[Point], cost_usd: float) -> float:
    """q_new(c) - q_base(c): the successes per episode gained at the same dollars (arXiv 2601.14192)."""
    if not 0 <= cost_usd < float("inf"):
        raise ConfigError(f"A cost of {cost_usd} dollars per episode; allowed: 0 or more.")
    return float(success_at(new, cost_usd) - success_at(base, cost_usd))


def _corners(points: Sequence[Point]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Costs and successes of the arms on the frontier, each dearer and better than the one before."""
    if not points:
        raise ConfigError("A frontier of no arms. Give at least one arm with a known cost and success.")
    kept = hull(points)
    costs = np.array([point.cost_usd for point in kept], dtype=np.float64)
    return costs, np.array([point.success for point in kept], dtype=np.float64)
