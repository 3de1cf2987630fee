"""A share or a mean with its n and its interval. The statistics are those of ``measure``; here they meet a task's name.

It knows counts and tasks. It does not know what was counted.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from potstill.errors import ConfigError
from potstill.measure.statistics import Interval, check_confidence, ratio_interval, wilson_by_task
from potstill.types import Struct


class Share(Struct, frozen=True, kw_only=True):
    """``hits`` of ``n``. ``value`` and ``interval`` are None where n is 0."""

    value: float | None
    hits: float
    n: int
    interval: Interval | None
    """Wilson's, clustered by task where tasks were given."""
    clusters: int
    """Tasks, or what else counts as independent."""


class Mean(Struct, frozen=True, kw_only=True):
    """A mean of what has no upper bound. ``value`` is None where n is 0, or where ``infinite`` is not 0."""

    value: float | None
    n: int
    interval: tuple[float | None, float | None] | None
    """By a bootstrap over tasks (over the entries where none were given); None with fewer than two of them."""
    infinite: int = 0
    """How many of the n are infinite. The mean is then infinite too: a None that is not 'unknown'."""


def share(
    hits: Sequence[float],
    tasks: Sequence[str] | None = None,
    *,
    of: Sequence[float] | None = None,
    confidence: float = 0.95,
) -> Share:
    """The share of hits: entry i brought ``hits[i]`` of ``of[i]`` (default 1) and belongs to ``tasks[i]``.

    Without tasks every entry counts as a task of its own. Raises ``ConfigError`` for lists of unequal length.

    >>> found = share([True, True, False, True])
    >>> found.value, [round(bound, 3) for bound in found.interval]
    (0.75, [0.301, 0.954])
    """
    check_confidence(confidence)
    trials = [1.0] * len(hits) if of is None else list(of)
    summed = by_task(tasks, hits, trials)
    n, total = math.fsum(trials), math.fsum(hits)
    rows = [row for row in summed if row[1] > 0]
    interval = wilson_by_task([row[0] for row in rows], [row[1] for row in rows], confidence)
    return Share(value=total / n if n else None, hits=total, n=round(n), interval=interval, clusters=len(rows))


def mean(
    values: Sequence[float], tasks: Sequence[str] | None = None, *, confidence: float = 0.95, seed: int = 0
) -> Mean:
    """The mean of the values, infinite ones counted apart. Raises ``ConfigError`` for lists of unequal length."""
    check_confidence(confidence)
    infinite = sum(1 for value in values if math.isinf(value))
    summed = by_task(tasks, values, [1.0] * len(values))
    if infinite or not values:
        return Mean(value=None, n=len(values), interval=None, infinite=infinite)
    sums, counts = [row[0] for row in summed], [row[1] for row in summed]
    interval = ratio_interval(sums, counts, confidence=confidence, seed=seed)
    return Mean(value=math.fsum(values) / len(values), n=len(values), interval=interval)


def by_task(tasks: Sequence[str] | None, *columns: Sequence[float]) -> list[list[float]]:
    """The columns' sums for each task, or the rows themselves where there are no tasks."""
    same_length(*columns, *([] if tasks is None else [tasks]))
    rows = [[float(value) for value in row] for row in zip(*columns, strict=True)]
    if tasks is None:
        return rows
    sums: dict[str, list[float]] = {}
    for task, row in zip(tasks, rows, strict=True):
        before = sums.setdefault(task, [0.0] * len(row))
        sums[task] = [one + other for one, other in zip(before, row, strict=True)]
    return list(sums.values())


def same_length(*lists: Sequence[object]) -> None:
    """Raise ``ConfigError`` unless all lists are equally long: they are compared entry by entry."""
    lengths = [len(one) for one in lists]
    if len(set(lengths)) > 1:
        shown = " and ".join(str(length) for length in lengths)
        raise ConfigError(f"Lists of {shown} entries cannot be compared one by one. Give them for the same decisions.")
