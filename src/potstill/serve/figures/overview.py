"""The overview of a day out of its episodes' figures: spend, saving, escalation, agreement, cost against success.

What it knows: sums and intervals (``measure.statistics``, ``measure.cost_of_pass``). What it does not do: episodes
(``episode``), stores, HTML.

Every interval is at 95 %. Episodes of one task are not independent, so whole tasks are resampled. The interval of the
saving says how much it would differ with other tasks of the same kind; what the teacher alone would have cost is an
estimate beside that (``episode``).
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from potstill.measure.cost_of_pass import cost_of_pass_interval
from potstill.measure.statistics import ratio_interval, wilson, wilson_by_task
from potstill.serve.figures.episode import EpisodeFigures, Spent

SIDES = ("teacher", "student", "shadow", "control", "nobody")


def overview(rows: Iterable[EpisodeFigures]) -> dict[str, Any]:
    """All of the day's figures as plain data. Unknown things are None, never 0. Rows are looked at once, none is kept:
    a day has thousands."""
    tasks, whole = _Tasks(), _Added()
    routes: dict[str, _Added] = {}
    ways: dict[tuple[str, str], _Way] = {}
    for row in rows:
        task = tasks.number(row)
        whole.add(row, task)
        routes.setdefault(row.route, _Added()).add(row, task)
        ways.setdefault((row.route, row.kind.value), _Way()).add(row, task)
    order = tasks.order()
    return {
        "episodes": whole.episodes,
        "spend": whole.spend(),
        "saving": whole.saving(order),
        "escalation": _share(whole.escalated, whole.decided),
        "agreement": whole.agreement(),
        "routes": [_route(name, routes[name], order) for name in sorted(routes)],
        "points": [{"route": name[0], "kind": name[1], **ways[name].point(order)} for name in sorted(ways)],
    }


class _Tasks:
    """Tasks of tenants by numbers."""

    def __init__(self) -> None:
        self._numbers: dict[tuple[str, str], int] = {}

    def number(self, row: EpisodeFigures) -> int:
        return self._numbers.setdefault((row.tenant, row.task), len(self._numbers))

    def order(self) -> NDArray[np.int64]:
        """The place of each number where tasks stand in the order of their names: intervals must not depend on which
        episode was read first."""
        order = np.empty(len(self._numbers), dtype=np.int64)
        for place, name in enumerate(sorted(self._numbers)):
            order[self._numbers[name]] = place
        return order


class _Added:
    """Episodes of one route, or of all: spend, saving, who answered."""

    def __init__(self) -> None:
        self.episodes = self.decided = self.escalated = self._shadowed = self._would_act = self._agreed = 0
        self._spent: dict[tuple[str, str], Spent] = {}
        self._task, self._usd, self._alone_usd = array("q"), array("d"), array("d")
        """Of episodes for which both sides' dollars are known."""

    def add(self, row: EpisodeFigures, task: int) -> None:
        self.episodes += 1
        self.decided += row.decided
        self.escalated += row.escalated
        self._shadowed += row.shadowed
        self._would_act += row.would_act
        self._agreed += row.agreed
        for side, spent in row.spent.items():
            self._spent[row.route, side] = self._spent.get((row.route, side), Spent()) + spent
        if row.usd is not None and row.alone_usd is not None:
            self._task.append(task)
            self._usd.append(row.usd)
            self._alone_usd.append(row.alone_usd)

    def spend(self) -> dict[str, Any]:
        """Dollars and tokens, and the same by route and by who was asked."""
        order = sorted(self._spent, key=lambda key: (key[0], SIDES.index(key[1]) if key[1] in SIDES else len(SIDES)))
        by = [{"route": route, "asked": side, **_plain(self._spent[route, side])} for route, side in order]
        return {**_plain(sum(self._spent.values(), Spent())), "by": by}

    def saving(self, order: NDArray[np.int64]) -> dict[str, Any]:
        """Against a teacher that answers everything and uses its cache."""
        known = len(self._task)
        alone = sum(self._alone_usd)
        saved = alone - sum(self._usd)
        usd_T, alone_T = _by_task(order, self._task, self._usd, self._alone_usd)
        interval = ratio_interval(list(alone_T - usd_T), list(alone_T)) if alone > 0 else None
        low, high = interval or (None, None)
        return {
            "usd": saved if known else None,
            "usd_low": None if low is None else low * alone,
            "usd_high": None if high is None else high * alone,
            "share": saved / alone if alone > 0 else None,
            "share_low": low,
            "share_high": high,
            "always_teacher_usd": alone if known else None,
            "episodes": known,
            "left_out": self.episodes - known,
            "tasks": len(usd_T),
        }

    def agreement(self) -> dict[str, Any]:
        """Of shadowed decisions at which the student would have acted: those with the teacher's action."""
        return {**_share(self._agreed, self._would_act), "would_act": _share(self._would_act, self._shadowed)}


class _Way:
    """Whole episodes of one way of answering on one route: cost and success, where both are known."""

    def __init__(self) -> None:
        self._episodes = 0
        self._task, self._usd, self._won = array("q"), array("d"), array("d")

    def add(self, row: EpisodeFigures, task: int) -> None:
        self._episodes += 1
        if row.success is not None and row.way_usd is not None:
            self._task.append(task)
            self._usd.append(row.way_usd)
            self._won.append(float(row.success))

    def point(self, order: NDArray[np.int64]) -> dict[str, Any]:
        known = len(self._task)
        ones = array("d", [1.0]) * known
        costs, successes, episodes = (list(one) for one in _by_task(order, self._task, self._usd, self._won, ones))
        won, usd = sum(self._won), sum(self._usd)
        return {
            "episodes": self._episodes,
            "known": known,
            "success": won / known if known else None,
            "success_ci": wilson_by_task(successes, episodes),
            "cost_usd": usd / known if known else None,
            "cost_ci": ratio_interval(costs, episodes),
            "cost_of_pass_usd": usd / won if won else None,
            "cost_of_pass_ci": cost_of_pass_interval(costs, successes, episodes) if known else None,
        }


def _by_task(order: NDArray[np.int64], task: array[int], *columns: array[float]) -> list[NDArray[np.float64]]:
    """Each column's sums by task, the tasks in the order of their names."""
    found, places = np.unique(order[np.array(task, dtype=np.int64)], return_inverse=True)
    sums = (np.bincount(places, weights=np.array(one), minlength=len(found)) for one in columns)
    return [one.astype(np.float64) for one in sums]


def _route(name: str, own: _Added, order: NDArray[np.int64]) -> dict[str, Any]:
    spent = own.spend()
    return {
        "route": name,
        "episodes": own.episodes,
        "usd": spent["usd"],
        "unpriced": spent["unpriced"],
        "saving": own.saving(order),
        "escalation": _share(own.escalated, own.decided),
        "agreement": own.agreement(),
    }


def _share(part: int, whole: int) -> dict[str, Any]:
    interval = wilson(part, whole)
    low, high = interval or (None, None)
    return {"share": part / whole if whole else None, "low": low, "high": high, "n": whole, "of": part}


def _plain(spent: Spent) -> dict[str, Any]:
    return {name: getattr(spent, name) for name in spent.__struct_fields__}
