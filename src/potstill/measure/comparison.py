"""Compare two sides on the same tasks: success, dollars, a verdict, and how many tasks are missing for one.

What it knows: two sides of attempts. What it does not do: read them (``comparison_sides.py``), compute what else the
money could buy (``comparison_baselines.py``), or print.

The margin is fixed before the data are looked at. The interval of the difference decides: Tango's score interval for
single attempts at a task, a bootstrap over tasks for several; a two-sided interval at 95 % is a one-sided
non-inferiority test at 2.5 % (Tango 1998, Stat. Med. 17:891).
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from potstill.errors import ConfigError
from potstill.measure.comparison_advice import advice, notes_of
from potstill.measure.comparison_baselines import Recorded, baselines, recorded
from potstill.measure.comparison_power import needed_tasks
from potstill.measure.comparison_result import Baseline, Comparison, ErrorsAsFailures, OpenInterval, Options, Verdict
from potstill.measure.comparison_sides import Entry, Paired, Side, pair
from potstill.measure.cost_of_pass import cost_of_pass_interval, cost_of_pass_ratio_interval
from potstill.measure.statistics import (
    Floats,
    Interval,
    check_confidence,
    mcnemar_exact,
    paired_score_interval,
    percentiles,
    resample_sums,
)

SCORE = "score interval of pairs (Tango 1998)"
SCORE_BY_TASK = "score interval of pairs (Tango 1998), each task counted as one pair"
BOOTSTRAP = "bootstrap over tasks"
_FEW_TASKS_DIFFER = 10
"""With fewer tasks that tell the sides apart, resampling shows too little spread."""


class _Table(NamedTuple):
    """Sums over the pairs of each task: T tasks."""

    pairs_T: Floats
    success_a_T: Floats
    success_b_T: Floats
    only_a_T: Floats
    only_b_T: Floats
    cost_a_T: Floats
    cost_b_T: Floats
    cost_known: bool

    @property
    def n(self) -> int:
        return int(self.pairs_T.sum())

    @property
    def clustered(self) -> bool:
        return bool((self.pairs_T > 1).any())


DEFAULT = Options()


def compare(a: Side, b: Side, options: Options = DEFAULT, *, cheap: Side | None = None) -> Comparison:
    """Compare A with B; what the money could buy otherwise is computed from both, or from ``cheap`` and B.

    Give ``cheap`` where A is a cascade: what A's dollars would buy from its student alone, from retries and votes of
    it, and from escalating at random from it to B. Raises ``ConfigError`` for an option that cannot be, or sides that
    share no task.
    """
    _check(options)
    paired = pair(a.usable, b.usable)
    if not paired.pairs:
        raise ConfigError(_nothing_shared(a, b))
    table = _table(paired.pairs)
    draws = _draws(table, options)
    interval, method = _difference_interval(table, draws, options.confidence)
    n = table.n
    difference = float((table.success_a_T - table.success_b_T).sum()) / n
    only_a, only_b = int(table.only_a_T.sum()), int(table.only_b_T.sum())
    verdict = verdict_of(interval, options.margin)
    non_inferior = interval[0] > -options.margin
    needed = None
    if not non_inferior and difference > -options.margin:
        needed = _needed(table, method, options)
    costs = _costs(table, draws, options.confidence)
    found = Comparison(
        a=a.name,
        b=b.name,
        n=n,
        tasks=len(table.pairs_T),
        success_a=float(table.success_a_T.sum()) / n,
        success_b=float(table.success_b_T.sum()) / n,
        difference=difference,
        difference_ci=interval,
        difference_method=method,
        discordant=only_a + only_b,
        only_a=only_a,
        only_b=only_b,
        p_mcnemar=mcnemar_exact(only_a, only_b),
        verdict=verdict,
        non_inferior=non_inferior,
        margin=options.margin,
        confidence=options.confidence,
        needed_n=needed,
        advice="",
        errors_as_failures=_errors_as_failures(a, b, options),
        **costs,
    )
    told = notes_of(a, b, paired, clustered=table.clustered)
    rows, why = _baselines(a, b, cheap, paired, options.margin)
    return msgspec.structs.replace(found, advice=advice(found), notes=(*told, *why), baselines=rows)


def verdict_of(interval: Interval, margin: float) -> Verdict:
    """What the interval of A - B says.

    A difference that is shown goes first: ``b_better`` stands even where all of the interval lies within the margin
    (``Comparison.non_inferior`` is true then).

    >>> verdict_of((-0.015, -0.002), 0.02)
    'b_better'
    """
    low, high = interval
    if low > 0:
        return "a_better"
    if high < 0:
        return "b_better"
    return "non_inferior" if low > -margin else "no_difference_shown"


def _check(options: Options) -> None:
    check_confidence(options.confidence)
    if not 0 <= options.margin < 1:
        raise ConfigError(
            f"A margin of {options.margin:g} is not possible. Give a share of successes, such as 0.02 for 2 points."
        )


def _nothing_shared(a: Side, b: Side) -> str:
    for side in (a, b):
        if not side.usable:
            broken = sum(1 for entry in side.entries if entry.broken)
            return (
                f"{side.name} has no attempt with an outcome: {len(side.entries)} attempts, {broken} of them broken. "
                "Compare needs 'success' in the records."
            )
    shown = ", ".join(sorted({entry.task for entry in a.usable})[:3])
    other = ", ".join(sorted({entry.task for entry in b.usable})[:3])
    return f"{a.name} and {b.name} have no task in common: the tasks of one are {shown}, of the other {other}, ..."


# --- numbers ----------------------------------------------------------------------------------------------------------


def _table(pairs: list[tuple[Entry, Entry]]) -> _Table:
    codes: dict[str, int] = {}
    code_N = np.array([codes.setdefault(ours.task, len(codes)) for ours, _ in pairs], dtype=np.int64)
    success_a_N = np.array([bool(ours.success) for ours, _ in pairs], dtype=np.float64)
    success_b_N = np.array([bool(theirs.success) for _, theirs in pairs], dtype=np.float64)
    cost_a_N = _dollars([ours.cost_usd for ours, _ in pairs])
    cost_b_N = _dollars([theirs.cost_usd for _, theirs in pairs])
    known = not (np.isnan(cost_a_N).any() or np.isnan(cost_b_N).any())

    def by_task(values_N: Floats) -> Floats:
        return np.bincount(code_N, weights=values_N, minlength=len(codes)).astype(np.float64)

    return _Table(
        pairs_T=by_task(np.ones(len(pairs))),
        success_a_T=by_task(success_a_N),
        success_b_T=by_task(success_b_N),
        only_a_T=by_task(success_a_N * (1 - success_b_N)),
        only_b_T=by_task(success_b_N * (1 - success_a_N)),
        cost_a_T=by_task(cost_a_N),
        cost_b_T=by_task(cost_b_N),
        cost_known=known,
    )


def _dollars(values: list[float | None]) -> Floats:
    return np.array([math.nan if value is None else value for value in values], dtype=np.float64)


class _Draws(NamedTuple):
    """Sums over bootstrap samples of tasks."""

    pairs: Floats
    success_a: Floats
    success_b: Floats
    cost_a: Floats
    cost_b: Floats


def _draws(table: _Table, options: Options) -> _Draws | None:
    """One bootstrap for all intervals. ``None`` with fewer than two tasks: there is nothing to resample."""
    if len(table.pairs_T) < 2 or not (table.clustered or table.cost_known):
        return None
    columns = [table.pairs_T, table.success_a_T, table.success_b_T, table.cost_a_T, table.cost_b_T]
    if not table.cost_known:
        columns[3:] = [np.zeros_like(table.pairs_T)] * 2
    return _Draws(*resample_sums(np.column_stack(columns), options.samples, options.seed).T)


def _difference_interval(table: _Table, draws: _Draws | None, confidence: float) -> tuple[Interval, str]:
    only_a, only_b = float(table.only_a_T.sum()), float(table.only_b_T.sum())
    if not table.clustered:
        return _score(only_a, only_b, float(table.n), confidence), SCORE
    differing = int(np.count_nonzero(table.success_a_T != table.success_b_T))
    if draws is None or differing < _FEW_TASKS_DIFFER:
        share = len(table.pairs_T) / table.n
        return _score(only_a * share, only_b * share, float(len(table.pairs_T)), confidence), SCORE_BY_TASK
    return percentiles((draws.success_a - draws.success_b) / draws.pairs, confidence), BOOTSTRAP


def _score(only_a: float, only_b: float, n: float, confidence: float) -> Interval:
    interval = paired_score_interval(only_a, only_b, n, confidence)
    assert interval is not None
    return interval


def _costs(table: _Table, draws: _Draws | None, confidence: float) -> dict[str, Any]:
    """Every figure in dollars; all ``None`` where a pair's cost is unknown."""
    if not table.cost_known:
        return {}
    cost_a, cost_b = float(table.cost_a_T.sum()), float(table.cost_b_T.sum())
    success_a, success_b = float(table.success_a_T.sum()), float(table.success_b_T.sum())
    pass_a, pass_b = _over(cost_a, success_a), _over(cost_b, success_b)
    found: dict[str, Any] = {
        "cost_a_usd": cost_a,
        "cost_b_usd": cost_b,
        "cost_per_episode_a_usd": cost_a / table.n,
        "cost_per_episode_b_usd": cost_b / table.n,
        "cost_ratio": _over(cost_a, cost_b),
        "cost_of_pass_a_usd": pass_a,
        "cost_of_pass_b_usd": pass_b,
        "cost_of_pass_ratio": _over(pass_a, pass_b) if pass_a is not None else None,
    }
    if draws is not None and found["cost_ratio"] is not None:
        with np.errstate(divide="ignore", invalid="ignore"):
            found["cost_ratio_ci"] = _interval(draws.cost_a / draws.cost_b, confidence)
    return found | _pass_intervals(table, confidence)


def _pass_intervals(table: _Table, confidence: float) -> dict[str, OpenInterval | None]:
    a, b, pairs_T = (table.cost_a_T, table.success_a_T), (table.cost_b_T, table.success_b_T), table.pairs_T
    return {
        "cost_of_pass_a_ci_usd": cost_of_pass_interval(*a, pairs_T, confidence=confidence),
        "cost_of_pass_b_ci_usd": cost_of_pass_interval(*b, pairs_T, confidence=confidence),
        "cost_of_pass_ratio_ci": cost_of_pass_ratio_interval(*a, *b, pairs_T, confidence=confidence),
    }


def _over(numerator: float | None, denominator: float | None) -> float | None:
    return numerator / denominator if numerator is not None and denominator else None


def _interval(draws: Floats, confidence: float) -> OpenInterval | None:
    """Percentiles; ``None`` for an infinite bound. Draws that say nothing (0 / 0) widen both ends."""
    unclear: NDArray[np.bool_] = np.isnan(draws)
    low = percentiles(np.where(unclear, 0.0, draws), confidence)[0]
    high = percentiles(np.where(unclear, np.inf, draws), confidence)[1]
    return (low if math.isfinite(low) else None), (high if math.isfinite(high) else None)


def _needed(table: _Table, method: str, options: Options) -> int | None:
    tasks = len(table.pairs_T)
    if method == BOOTSTRAP:
        mean = table.n / tasks
        gaps_T = table.success_a_T - table.success_b_T
        deviations_T = (gaps_T - gaps_T.sum() / table.n * table.pairs_T) / mean
        spread = float(np.sqrt((deviations_T**2).sum() / (tasks - 1)))
        return needed_tasks(
            float(gaps_T.sum()) / table.n, spread, tasks, margin=options.margin, confidence=options.confidence
        )
    share = tasks / table.n
    only_a, only_b = float(table.only_a_T.sum()) * share, float(table.only_b_T.sum()) * share
    return needed_tasks(
        (only_a - only_b) / tasks,
        None,
        tasks,
        discordant=(only_a + only_b) / tasks,
        margin=options.margin,
        confidence=options.confidence,
    )


def _baselines(
    a: Side, b: Side, student: Side | None, paired: Paired, margin: float
) -> tuple[tuple[Baseline, ...], list[str]]:
    """What the money of the dearer side (with a student: of A) buys otherwise; or why that cannot be computed."""
    units = {ours.unit for ours, _ in paired.pairs}
    sides: list[Recorded] = []
    for label, side in (("A", a), ("B", b), ("cheap", student)):
        if side is not None:
            found = recorded(label, side.usable, units)
            if found is None:
                return (), [f"no equal-cost baselines: {label} ({side.name}) lacks dollars or tasks of the comparison"]
            sides.append(found)
    if student is not None:
        return baselines(sides[2], sides[1], sides[0].cost_usd, margin, "A"), []
    cheap, dear = sorted(sides, key=lambda side: side.cost_usd)
    return baselines(cheap, dear, dear.cost_usd, margin, dear.name), []


def _errors_as_failures(a: Side, b: Side, options: Options) -> ErrorsAsFailures | None:
    """The difference if broken attempts counted as failures: the other way to see them."""
    if not any(entry.broken for entry in (*a.entries, *b.entries)):
        return None
    paired: Paired = pair(_failed_where_broken(a), _failed_where_broken(b))
    table = _table(paired.pairs)
    draws = _draws(table, options) if table.clustered else None
    interval, _ = _difference_interval(table, draws, options.confidence)
    gap = float((table.success_a_T - table.success_b_T).sum()) / table.n
    return ErrorsAsFailures(n=table.n, difference=gap, difference_ci=interval)


def _failed_where_broken(side: Side) -> list[Entry]:
    told = (entry._replace(success=False) if entry.broken else entry for entry in side.entries)
    return [entry for entry in told if entry.success is not None]
