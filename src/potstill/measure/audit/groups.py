"""From counted attempts to groups, frontier and budget curves: the audit's contract.

What it knows: the formulas and which of them stay unknown. What it does not do: count (``attempts.py``).

``n`` counts attempts without an infrastructure error after duplicates are removed; success is successes over ``n``. The
dollars are all of the group's, errors included: cost of pass divides them by the successes, cost per episode by all
attempts, those with errors counted. A sum with an unknown part is unknown.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from potstill.measure.audit.attempts import TOKENS, GroupRows, Row
from potstill.measure.audit.result import BudgetCurve, FrontierRow, Group, OpenInterval
from potstill.measure.budget import auc, success_within
from potstill.measure.cost_of_pass import cost_of_pass_interval
from potstill.measure.frontier import Point, hull
from potstill.measure.frontier_area import aiq
from potstill.measure.passk import pass_hat_k
from potstill.measure.statistics import wilson_by_task

CURVE_POINTS = 60
PASSES = (1, 2, 4, 8)


class Settings(NamedTuple):
    """Of all intervals."""

    confidence: float = 0.95


def group_of(model: str, run: str, rows: GroupRows, settings: Settings) -> Group:
    """The group's line of the contract."""
    sums = _sums(rows)
    judged = sums.n - sums.unknown
    success = sums.successes / sums.n if sums.n and not sums.unknown else None
    cost = sums.usd
    return Group(
        model=model,
        run=run,
        n=sums.n,
        n_infrastructure_errors=sums.broke,
        n_duplicates=rows.duplicates,
        tasks=len(sums.tasks),
        successes=sums.successes,
        unknown_outcomes=sums.unknown,
        success=success,
        success_ci=None if success is None else _success_interval(sums, settings),
        success_with_errors_failed=None if sums.unknown or not len(rows) else sums.successes / len(rows),
        cost_usd=cost,
        known_cost_usd=sum(task.usd for task in sums.tasks.values()),
        attempts_without_cost=sums.without_cost,
        cost_per_episode_usd=_over(cost, len(rows)),
        cost_of_pass_usd=_over(cost, sums.successes) if judged and not sums.unknown else None,
        cost_of_pass_ci_usd=_pass_interval(sums, settings),
        input_tokens=sums.tokens["input_tokens"],
        cached_input_tokens=sums.tokens["cached_tokens"],
        cache_write_tokens=sums.tokens["write_tokens"],
        output_tokens=sums.tokens["output_tokens"],
        latency_s_mean=_over(rows.latency_s, rows.timed),
        pass_hat_k=_pass_hat(sums),
    )


class _Task(NamedTuple):
    n: int
    successes: int
    usd: float


class _Sums(NamedTuple):
    n: int
    broke: int
    successes: int
    unknown: int
    usd: float | None
    without_cost: int
    tasks: dict[int, _Task]
    tokens: dict[str, int | None]


def _sums(rows: GroupRows) -> _Sums:
    tasks: dict[int, list[float]] = {}
    tokens: dict[str, int | None] = dict.fromkeys(TOKENS, 0)
    broke = unknown = without_cost = 0
    for row in rows:
        sums = tasks.setdefault(row.task, [0, 0, 0.0])
        _add(sums, row)
        broke += row.broke
        unknown += not row.broke and row.success is None
        without_cost += row.usd is None
        _add_tokens(tokens, row)
    if broke == len(rows) and all(row.input_tokens is None for row in rows):
        tokens = dict.fromkeys(TOKENS)
    compact = {task: _Task(int(n), int(successes), usd) for task, (n, successes, usd) in tasks.items()}
    return _Sums(
        n=len(rows) - broke,
        broke=broke,
        successes=sum(task.successes for task in compact.values()),
        unknown=unknown,
        usd=None if without_cost else sum(task.usd for task in compact.values()),
        without_cost=without_cost,
        tasks=compact,
        tokens=tokens,
    )


def _add(sums: list[float], row: Row) -> None:
    if not row.broke:
        sums[0] += 1
        sums[1] += bool(row.success)
    sums[2] += row.usd or 0.0  # an unknown part makes the group's sum unknown


def _add_tokens(tokens: dict[str, int | None], row: Row) -> None:
    """Sums that become unknown with the first unknown part; an attempt that broke before any tokens had none."""
    if row.broke and not row.input_tokens and not row.output_tokens:
        return
    for name, so_far in tokens.items():
        value = getattr(row, name)
        tokens[name] = None if value is None or so_far is None else so_far + value


def _over(numerator: float | None, denominator: float) -> float | None:
    return numerator / denominator if numerator is not None and denominator else None


def _success_interval(sums: _Sums, settings: Settings) -> tuple[float, float] | None:
    tried = [task for task in sums.tasks.values() if task.n]
    return wilson_by_task([task.successes for task in tried], [task.n for task in tried], settings.confidence)


def _pass_interval(sums: _Sums, settings: Settings) -> OpenInterval | None:
    if sums.usd is None or sums.unknown or not sums.successes:
        return None
    tasks = sums.tasks.values()
    return cost_of_pass_interval(
        [task.usd for task in tasks],
        [float(task.successes) for task in tasks],
        [float(task.n) for task in tasks],
        confidence=settings.confidence,
    )


def _pass_hat(sums: _Sums) -> dict[str, float]:
    """pass^k over the tasks that have k attempts, where at least half of the tasks do."""
    if sums.unknown or all(task.n < 2 for task in sums.tasks.values()):
        return {}
    found = {}
    for k in PASSES:
        enough = [task for task in sums.tasks.values() if task.n >= k]
        if enough and 2 * len(enough) >= len(sums.tasks):
            reached = pass_hat_k([task.successes for task in enough], [task.n for task in enough], k)
            if reached is not None:
                found[str(k)] = reached
    return found


# --- frontier and budgets -----------------------------------------------------------------------------------------


def frontier_of(groups: Sequence[Group]) -> tuple[FrontierRow, ...]:
    """Each group's point, and whether it lies on the non-decreasing hull."""
    points = _points(groups)
    kept = {(point.cost_usd, point.success) for point in hull(list(points.values()))}
    on_hull = {name for name, point in points.items() if (point.cost_usd, point.success) in kept}
    return tuple(
        FrontierRow(
            model=group.model,
            run=group.run,
            cost_per_episode_usd=group.cost_per_episode_usd,
            success=group.success,
            on_hull=str(number) in on_hull,
        )
        for number, group in enumerate(groups)
    )


def aiq_of(groups: Sequence[Group]) -> float | None:
    """Average success over the frontier's range of costs; ``None`` for fewer than two different costs."""
    points = list(_points(groups).values())
    return aiq(points) if len(points) > 1 else None


def _points(groups: Sequence[Group]) -> dict[str, Point]:
    return {
        str(number): Point(str(number), group.cost_per_episode_usd, group.success)
        for number, group in enumerate(groups)
        if group.cost_per_episode_usd is not None and group.success is not None
    }


def budget_curve_of(model: str, run: str, rows: GroupRows, most_usd: float) -> BudgetCurve | None:
    """S(B) from 0 to ``most_usd``, the same for all groups; ``None`` where a cost or an outcome is not known."""
    tried = [row for row in rows if not row.broke]
    if not tried or most_usd <= 0 or any(row.usd is None or row.success is None for row in tried):
        return None
    costs = np.asarray([row.usd for row in tried], dtype=np.float64)
    won = np.asarray([row.success for row in tried], dtype=np.bool_)
    budgets = np.linspace(0.0, most_usd, CURVE_POINTS)
    return BudgetCurve(
        model=model,
        run=run,
        budgets_usd=tuple(budgets.tolist()),
        success=tuple(success_within(costs, won, budgets).tolist()),
        auc=auc(costs, won, most_usd),
    )
