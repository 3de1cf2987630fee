"""Intervals of dollars per success: by hand, where resampling sees no risk, and their coverage by simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from potstill.measure.cost_of_pass import cost_of_pass_interval, cost_of_pass_ratio_interval, student_quantile
from potstill.measure.statistics import wilson

Drawn = tuple[np.ndarray, np.ndarray]
REPLICATES = 400
SLACK = 3 * math.sqrt(0.05 * 0.95 / REPLICATES)
"""Three standard errors of a simulated share of 5 %."""


def test_equal_costs_give_wilsons_interval_over_the_cost() -> None:
    low, high = wilson(8, 10) or (0, 0)
    found = cost_of_pass_interval([0.02] * 10, [1.0] * 8 + [0.0] * 2, [1.0] * 10)
    assert found == pytest.approx((0.02 / high, 0.02 / low))


def test_twenty_of_twenty_at_equal_costs_still_have_a_width() -> None:
    low, high = cost_of_pass_interval([0.01] * 20, [1.0] * 20, [1.0] * 20) or (0, 0)
    assert low == pytest.approx(0.01)
    assert high == pytest.approx(0.01 * (1 + 1.959964**2 / 20))  # Wilson's lower bound of n in n: 1 / (1 + z2 / n)


def test_costs_alone_give_students_interval_on_the_logarithm() -> None:
    """Five costs of 1 and five of 3; all succeed, so that only the cost can be lower."""
    costs, error = [1.0, 3.0] * 5, math.sqrt(10 / 9) / math.sqrt(10)
    low, high = cost_of_pass_interval(costs, [1.0] * 10, [1.0] * 10) or (0, 0)
    reach = 2.262157 * error / 2
    assert low == pytest.approx(2 * math.exp(-reach), rel=1e-4)
    assert high == pytest.approx(2 * math.exp(math.hypot(reach, math.log(1 + 1.959964**2 / 10))), rel=1e-4)


def test_failures_that_cost_nothing_leave_the_cost_of_a_success() -> None:
    found = cost_of_pass_interval([1.0] * 6 + [0.0] * 4, [1.0] * 6 + [0.0] * 4, [1.0] * 10)
    assert found == pytest.approx((1.0, 1.0))


def test_no_success_leaves_only_a_lower_bound() -> None:
    low, high = cost_of_pass_interval([1.0] * 10, [0.0] * 10, [1.0] * 10) or (0, 0)
    assert (low, high) == (pytest.approx(1 / (wilson(0, 10) or (0, 0))[1]), None)


def test_too_little_to_tell() -> None:
    assert cost_of_pass_interval([1.0], [1.0], [1.0]) is None
    assert cost_of_pass_interval([1.0, 1.0], [0.0, 0.0], [0.0, 0.0]) is None
    assert cost_of_pass_interval([0.0, 0.0], [1.0, 1.0], [1.0, 1.0]) == (0.0, 0.0)
    assert cost_of_pass_ratio_interval([1.0], [1.0], [1.0], [1.0], [1.0]) is None
    assert cost_of_pass_ratio_interval([1.0] * 3, [0.0] * 3, [1.0] * 3, [1.0] * 3, [1.0] * 3) is None
    assert cost_of_pass_ratio_interval([1.0] * 3, [1.0] * 3, [0.0] * 3, [1.0] * 3, [1.0] * 3) is None
    assert cost_of_pass_ratio_interval([1.0] * 2, [1.0] * 2, [5e-324, 0.0], [3.0] * 2, [3.0] * 2) is None


@pytest.mark.parametrize(
    ("freedom", "quantile"), [(1, 12.7062), (2, 4.30265), (3, 3.18245), (9, 2.262157), (60, 2.000298)]
)
def test_students_quantile(freedom: int, quantile: float) -> None:
    assert student_quantile(0.975, freedom) == pytest.approx(quantile, rel=2e-3)


dollars = st.just(0.0) | st.floats(1e-12, 10)
outcomes = st.lists(st.tuples(dollars, st.integers(0, 3), st.integers(0, 3)), min_size=2, max_size=12)


@given(outcomes, outcomes)
def test_every_interval_holds_its_estimate(a: list[tuple[float, int, int]], b: list[tuple[float, int, int]]) -> None:
    size = min(len(a), len(b))
    episodes = np.full(size, 3.0)
    (cost_a, won_a), (cost_b, won_b) = (np.array([(c, w) for c, w, _ in side[:size]]).T for side in (a, b))
    found = cost_of_pass_interval(cost_a, won_a, episodes)
    if won_a.sum():
        _holds(found, cost_a.sum() / won_a.sum())
    ratio = cost_of_pass_ratio_interval(cost_a, won_a, cost_b, won_b, episodes)
    if ratio is not None:
        _holds(ratio, cost_a.sum() / won_a.sum() * (won_b.sum() / cost_b.sum()))


def _holds(interval: tuple[float | None, float | None] | None, estimate: float) -> None:
    assert interval is not None
    low, high = interval
    assert low is not None
    assert high is not None
    assert low <= estimate * (1 + 1e-9)
    assert estimate * (1 - 1e-9) <= high


# --- by simulation ----------------------------------------------------------------------------------------------------


def drawn(seed: int, tasks: int, success: float, failure_usd: float, attempts: int, skew: float) -> Drawn:
    """Costs and successes of every task in every replicate; with several attempts, tasks differ in difficulty."""
    generator = np.random.default_rng(seed)
    shape = (REPLICATES, tasks, attempts)
    chance = success if attempts == 1 else generator.beta(2 * success, 2 - 2 * success, size=(*shape[:2], 1))
    won = (generator.random(shape) < chance).astype(np.float64)
    costs = np.where(won > 0, 1.0, failure_usd) * np.exp(generator.normal(-skew * skew / 2, skew, size=shape))
    return costs.sum(axis=2), won.sum(axis=2)


def covered(tasks: int, success: float, failure_usd: float, attempts: int, skew: float) -> float:
    costs, won = drawn(20, tasks, success, failure_usd, attempts, skew)
    truth, held = 1 + failure_usd * (1 - success) / success, 0
    for costs_T, won_T in zip(costs, won, strict=True):
        low, high = cost_of_pass_interval(costs_T, won_T, [float(attempts)] * tasks) or (math.inf, 0.0)
        held += (low or 0) <= truth * (1 + 1e-9) and (high is None or truth <= high * (1 + 1e-9))
    return held / REPLICATES


@pytest.mark.parametrize("tasks", [10, 20, 50, 200])
@pytest.mark.parametrize(
    ("success", "failure_usd", "attempts", "skew"),
    [(0.1, 1, 1, 0), (0.5, 1, 1, 0.8), (0.5, 3, 1, 0), (0.5, 0.3, 1, 0), (0.9, 1, 3, 0.8), (0.9, 0.3, 3, 0)],
)
def test_the_interval_covers_the_truth(
    tasks: int, success: float, failure_usd: float, attempts: int, skew: float
) -> None:
    """At 95 %; a percentile bootstrap covers 0.4 to 0.9 of these where tasks are few and success is high."""
    assert covered(tasks, success, failure_usd, attempts, skew) >= 0.95 - SLACK - 0.02


@pytest.mark.parametrize(("tasks", "success"), [(5, 0.9), (10, 0.9), (20, 0.9), (20, 0.95), (20, 0.99), (10, 0.99)])
def test_few_tasks_with_high_success_are_covered(tasks: int, success: float) -> None:
    """No worse than Wilson's own interval of the share, for which a failure in few tasks of 0.99 is a surprise."""
    won = drawn(20, tasks, success, 1, 1, 0)[1].sum(axis=1)
    bounds = [wilson(float(one), tasks) or (0, 0) for one in won]
    wilsons = sum(low <= success <= high for low, high in bounds) / REPLICATES
    assert covered(tasks, success, 1, 1, 0) == pytest.approx(wilsons, abs=1e-9)
    assert wilsons > 0.86


@pytest.mark.parametrize("tasks", [10, 20, 50, 114])
@pytest.mark.parametrize(
    ("success", "failure_usd", "attempts", "skew"),
    [(0.5, 1, 1, 0), (0.9, 1, 1, 0), (0.9, 3, 1, 0), (0.9, 0.3, 1, 0), (0.99, 3, 1, 0), (0.5, 1, 3, 0.5)],
)
def test_equal_sides_raise_few_false_alarms(
    tasks: int, success: float, failure_usd: float, attempts: int, skew: float
) -> None:
    """That A's success is dearer than B's is said of equal sides in at most 2.5 % (with three standard errors)."""
    sides = [drawn(seed, tasks, success, failure_usd, attempts, skew) for seed in (30, 31)]
    alarms = 0
    for replicate in range(REPLICATES):
        a, b = ((costs[replicate], won[replicate]) for costs, won in sides)
        found = cost_of_pass_ratio_interval(*a, *b, [float(attempts)] * tasks)
        alarms += found is not None and (found[0] or 0) > 1 + 1e-9
    assert alarms / REPLICATES <= 0.025 + 3 * math.sqrt(0.025 * 0.975 / REPLICATES)
