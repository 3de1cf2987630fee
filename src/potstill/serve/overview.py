"""The overview of a day out of its episodes' figures: spend, saving, escalation, agreement, cost against success.

What it knows: sums and intervals (``measure.statistics``, ``measure.cost_of_pass``). What it does not do: episodes
(``figures``), stores, HTML.

Every interval is at 95 %. Episodes of one task are not independent, so whole tasks are resampled. The interval of the
saving says how much it would differ with other tasks of the same kind; what the teacher alone would have cost is an
estimate beside that (``figures``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from potstill.measure.cost_of_pass import cost_of_pass_interval
from potstill.measure.statistics import ratio_interval, wilson, wilson_by_task
from potstill.serve.figures import EpisodeFigures, Spent

SIDES = ("teacher", "student", "shadow", "control", "nobody")


def overview(rows: Sequence[EpisodeFigures]) -> dict[str, Any]:
    """All of the day's figures as plain data. Unknown things are None, never 0."""
    return {
        "episodes": len(rows),
        "spend": spend(rows),
        "saving": saving(rows),
        "escalation": _share(sum(row.escalated for row in rows), sum(row.decided for row in rows)),
        "agreement": agreement(rows),
        "routes": [_route(name, own) for name, own in _grouped(rows, lambda row: (row.route,))],
        "points": [point(own) for _, own in _grouped(rows, lambda row: (row.route, row.kind.value))],
    }


def spend(rows: Iterable[EpisodeFigures]) -> dict[str, Any]:
    """Dollars and tokens, and the same by route and by who was asked."""
    table: dict[tuple[str, str], Spent] = {}
    for row in rows:
        for side, spent in row.spent.items():
            table[row.route, side] = table.get((row.route, side), Spent()) + spent
    order = sorted(table, key=lambda key: (key[0], SIDES.index(key[1]) if key[1] in SIDES else len(SIDES)))
    by = [{"route": route, "asked": side, **_plain(table[route, side])} for route, side in order]
    return {**_plain(sum(table.values(), Spent())), "by": by}


def saving(rows: Iterable[EpisodeFigures]) -> dict[str, Any]:
    """Against a teacher that answers everything and uses its cache. Over episodes for which both sides are known."""
    held = list(rows)
    known = [row for row in held if row.usd is not None and row.alone_usd is not None]
    alone = sum(row.alone_usd or 0.0 for row in known)
    saved = alone - sum(row.usd or 0.0 for row in known)
    tasks = [own for _, own in _grouped(known, lambda row: (row.tenant, row.task))]
    interval = None
    if alone > 0:
        interval = ratio_interval(
            [sum((row.alone_usd or 0.0) - (row.usd or 0.0) for row in own) for own in tasks],
            [sum(row.alone_usd or 0.0 for row in own) for own in tasks],
        )
    low, high = interval or (None, None)
    return {
        "usd": saved if known else None,
        "usd_low": None if low is None else low * alone,
        "usd_high": None if high is None else high * alone,
        "share": saved / alone if alone > 0 else None,
        "share_low": low,
        "share_high": high,
        "always_teacher_usd": alone if known else None,
        "episodes": len(known),
        "left_out": len(held) - len(known),
        "tasks": len(tasks),
    }


def agreement(rows: Sequence[EpisodeFigures]) -> dict[str, Any]:
    """Of shadowed decisions at which the student would have acted: those with the teacher's action."""
    acted, shadowed = sum(row.would_act for row in rows), sum(row.shadowed for row in rows)
    return {**_share(sum(row.agreed for row in rows), acted), "would_act": _share(acted, shadowed)}


def point(own: Sequence[EpisodeFigures]) -> dict[str, Any]:
    """Cost and success of one way of answering on one route, over whole episodes with a known outcome and cost."""
    known = [row for row in own if row.success is not None and row.way_usd is not None]
    tasks = [rows for _, rows in _grouped(known, lambda row: (row.tenant, row.task))]
    costs = [sum(row.way_usd or 0.0 for row in rows) for rows in tasks]
    successes = [float(sum(row.success is True for row in rows)) for rows in tasks]
    episodes = [float(len(rows)) for rows in tasks]
    won = sum(successes)
    return {
        "route": own[0].route,
        "kind": own[0].kind.value,
        "episodes": len(own),
        "known": len(known),
        "success": won / len(known) if known else None,
        "success_ci": wilson_by_task(successes, episodes),
        "cost_usd": sum(costs) / len(known) if known else None,
        "cost_ci": ratio_interval(costs, episodes),
        "cost_of_pass_usd": sum(costs) / won if won else None,
        "cost_of_pass_ci": cost_of_pass_interval(costs, successes, episodes) if known else None,
    }


def _route(name: tuple[str, ...], own: Sequence[EpisodeFigures]) -> dict[str, Any]:
    spent = spend(own)
    return {
        "route": name[0],
        "episodes": len(own),
        "usd": spent["usd"],
        "unpriced": spent["unpriced"],
        "saving": saving(own),
        "escalation": _share(sum(row.escalated for row in own), sum(row.decided for row in own)),
        "agreement": agreement(own),
    }


def _share(part: int, whole: int) -> dict[str, Any]:
    interval = wilson(part, whole)
    low, high = interval or (None, None)
    return {"share": part / whole if whole else None, "low": low, "high": high, "n": whole, "of": part}


def _plain(spent: Spent) -> dict[str, Any]:
    return {name: getattr(spent, name) for name in spent.__struct_fields__}


Key = tuple[str, ...]


def _grouped(
    rows: Iterable[EpisodeFigures], key: Callable[[EpisodeFigures], Key]
) -> list[tuple[Key, list[EpisodeFigures]]]:
    groups: dict[Key, list[EpisodeFigures]] = {}
    for row in rows:
        groups.setdefault(key(row), []).append(row)
    return sorted(groups.items())
