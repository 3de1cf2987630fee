"""Each formula against a number worked by hand or by an independent library, and what must always hold."""

from __future__ import annotations

import itertools
import math
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from potstill.errors import ConfigError
from potstill.measure.breakeven import break_even, break_even_episodes, net_saving_usd
from potstill.measure.frontier import Point, hull, marginal_usd_per_success, neighbours
from potstill.measure.statistics import (
    check_confidence,
    mcnemar_exact,
    paired_cost_ratio,
    paired_difference,
    ratio_interval,
    resample_sums,
    wilson,
    wilson_by_task,
)

# Success and dollars per episode on AppWorld, arXiv 2512.02543.
APPWORLD = [
    Point("zero-shot", 0.051, 0.28),
    Point("context", 0.088, 0.55),
    Point("context+cascade", 0.171, 0.66),
    Point("teacher", 0.589, 0.83),
]
points = st.lists(
    st.builds(
        Point, st.uuids().map(str), st.integers(0, 50).map(lambda i: i / 10), st.integers(0, 20).map(lambda i: i / 20)
    ),
    min_size=1,
    max_size=12,
)


def test_wilson_by_hand() -> None:
    """8 of 10: centre (0.8 + 0.19207) / 1.38415, half 1.95996 x sqrt(0.016 + 0.0096036) / 1.38415."""
    low, high = wilson(8, 10) or (0, 0)
    assert (low, high) == (pytest.approx(0.490162, abs=1e-6), pytest.approx(0.943318, abs=1e-6))


def test_wilson_of_the_papers_alfworld_teacher() -> None:
    low, high = wilson(119, 134) or (0, 0)
    assert (round(low, 2), round(high, 2)) == (0.82, 0.93)


def test_wilson_at_the_edges() -> None:
    assert wilson(0, 0) is None
    assert (wilson(0, 5) or (1, 1))[0] == 0
    assert (wilson(5, 5) or (0, 0))[1] == 1


def test_wilson_by_task_counts_repeated_results_once() -> None:
    """Ten seeds that repeat each task's result: design effect 100/9, so 100 episodes count as 9."""
    assert wilson_by_task([10.0] * 8 + [0.0] * 2, [10.0] * 10) == pytest.approx(wilson(7.2, 9))
    assert wilson_by_task([1.0] * 8 + [0.0] * 2, [1.0] * 10) == wilson(8, 10)
    assert wilson_by_task([10.0] * 4, [10.0] * 4) == wilson(4, 4)
    independent = wilson_by_task([5.0, 5.0, 5.0, 5.0], [10.0] * 4)
    assert independent == wilson(20, 40)
    assert wilson_by_task([], []) is None


@pytest.mark.parametrize(("a", "b", "p"), [(6, 1, 0.125), (0, 0, 1.0), (5, 5, 1.0), (10, 0, 2 / 1024), (0, 5, 0.0625)])
def test_mcnemar_by_hand(a: int, b: int, p: float) -> None:
    assert mcnemar_exact(a, b) == pytest.approx(p)


def test_mcnemar_of_thousands_of_pairs() -> None:
    assert 0 < mcnemar_exact(2000, 1800) < 0.01


def test_bootstrap_sums_have_the_mean_and_spread_of_resampling() -> None:
    values = np.arange(20, dtype=np.float64)[:, None]
    sums = resample_sums(values, 20_000, seed=1)[:, 0]
    assert sums.mean() == pytest.approx(190, abs=1)
    assert sums.std() == pytest.approx(math.sqrt(20) * values.std(), rel=0.03)


@pytest.mark.parametrize("tasks", [2000, 2500])
def test_a_bootstrap_over_many_tasks_takes_a_few_megabytes(tasks: int) -> None:
    values = np.column_stack([np.arange(tasks) % 7 * 0.01, np.ones(tasks)])
    tracemalloc.start()
    try:
        resample_sums(values, 2000, seed=0)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 6 * 2**20


@given(st.lists(st.tuples(st.floats(0, 10), st.integers(0, 5)), min_size=2, max_size=20), st.integers(0, 100))
def test_bootstrap_is_the_same_for_the_same_seed(tasks: list[tuple[float, int]], seed: int) -> None:
    numerators, denominators = [t[0] for t in tasks], [float(t[1]) for t in tasks]
    first, second = (ratio_interval(numerators, denominators, samples=50, seed=seed) for _ in range(2))
    assert first == second
    assert first is not None
    low, high = first
    assert high is None or (low is not None and low <= high)


def test_a_ratio_that_is_the_same_for_every_task_has_no_spread() -> None:
    assert ratio_interval([1.0, 2.0, 3.0], [2.0, 4.0, 6.0]) == (0.5, 0.5)


def test_an_interval_that_reaches_infinity_says_so() -> None:
    low, high = ratio_interval([1.0] * 4, [1.0, 0.0, 0.0, 0.0]) or (0, 0)
    assert low is not None
    assert high is None
    assert ratio_interval([1.0], [1.0]) is None


def test_seeds_of_one_task_count_as_one_cluster() -> None:
    """Ten seeds that repeat each task's result must not narrow the interval."""
    results = {f"t{i}": float(i < 6) for i in range(10)}
    nothing = dict.fromkeys(results, 0.0)
    once = paired_difference({(t, 0): v for t, v in results.items()}, {(t, 0): v for t, v in nothing.items()})
    often = paired_difference(
        {(t, s): v for t, v in results.items() for s in range(10)},
        {(t, s): v for t, v in nothing.items() for s in range(10)},
    )
    assert once is not None
    assert often is not None
    assert once.difference == often.difference == pytest.approx(0.6)
    assert once.difference_ci == pytest.approx(often.difference_ci)
    assert (once.n, often.n) == (10, 100)


def test_paired_difference_by_hand() -> None:
    a = {("x", 0): 1.0, ("y", 0): 1.0, ("z", 0): 0.0, ("only-a", 0): 1.0}
    b = {("x", 0): 0.0, ("y", 0): 1.0, ("z", 0): 0.0}
    found = paired_difference(a, b)
    assert found is not None
    assert (found.n, found.only_a, found.only_b, found.p_mcnemar) == (3, 1, 0, 1.0)
    assert (found.success_a, found.success_b) == (pytest.approx(2 / 3), pytest.approx(1 / 3))
    assert paired_difference(a, {}) is None


def test_tasks_that_all_agree_give_no_interval_of_their_difference() -> None:
    """Resampling equal values only ever gives that value: [0, 0] from two tasks would be certainty from nothing."""
    won = {("a", 0): 1.0, ("b", 0): 1.0}
    found = paired_difference(won, won)
    assert found is not None
    assert (found.n, found.difference, found.difference_ci) == (2, 0.0, None)


def test_paired_cost_ratio_by_hand() -> None:
    a = {("x", 0): 1.0, ("y", 0): 2.0}
    b = {("x", 0): 2.0, ("y", 0): 4.0, ("z", 0): 9.0}
    found = paired_cost_ratio(a, b)
    assert found is not None
    assert (found.n, found.ratio, found.ratio_ci) == (2, 0.5, (0.5, 0.5))


def test_marginal_dollars_of_the_paper() -> None:
    marginal = {name: round(price or 0, 2) for name, (_, price) in neighbours(APPWORLD).items()}
    assert marginal == {"context": 0.14, "context+cascade": 0.75, "teacher": 2.46}
    assert marginal_usd_per_success(APPWORLD[1], Point("worse", 0.1, 0.5)) is None


def test_the_papers_arms_are_all_on_the_frontier_and_a_dominated_one_is_not() -> None:
    assert hull(APPWORLD) == APPWORLD
    assert hull([*APPWORLD, Point("dear", 0.7, 0.8), Point("below", 0.12, 0.56)]) == APPWORLD


@given(points)
def test_hull_is_concave_rising_and_above_every_point(given_points: list[Point]) -> None:
    kept = hull(given_points)
    for a, b in itertools.pairwise(kept):
        assert a.cost_usd < b.cost_usd
        assert a.success < b.success
    slopes = [(b.success - a.success) / (b.cost_usd - a.cost_usd) for a, b in itertools.pairwise(kept)]
    assert all(first >= second - 1e-12 for first, second in itertools.pairwise(slopes))
    xs, ys = [p.cost_usd for p in kept], [p.success for p in kept]
    for point in given_points:
        assert point.success <= float(np.interp(point.cost_usd, xs, ys)) + 1e-9


@pytest.mark.parametrize(
    ("demonstrations", "teacher", "student", "episodes"), [(29.50, 0.059, 0.024, 843), (86.73, 0.589, 0.171, 207)]
)
def test_published_amortisation(demonstrations: float, teacher: float, student: float, episodes: int) -> None:
    found = break_even_episodes(demonstrations, teacher, student)
    assert found is not None
    assert round(found) == episodes


def test_published_saving_of_a_million_episodes() -> None:
    assert net_saving_usd(29.50, 0.059, 0.024, 1_000_000) == pytest.approx(34_970.5)


def test_break_even_needs_a_saving_and_may_count_demonstrations_as_served() -> None:
    assert break_even_episodes(29.50, 0.02, 0.024) is None
    # 500 tasks at $0.059 are $29.50 of work that the teacher would have been paid for anyway
    assert break_even_episodes(29.50, 0.059, 0.024, demonstration_episodes=500) == pytest.approx(0, abs=1e-6)
    both = break_even(
        "student", "teacher", demonstrations_usd=10, demonstration_episodes=4, teacher_usd=2, student_usd=1
    )
    assert (both.episodes, both.episodes_if_served, both.saving_per_episode_usd) == (10, 2, 1)


@pytest.mark.parametrize("confidence", [0.0, 1.0, 95.0])
def test_impossible_confidence(confidence: float) -> None:
    with pytest.raises(ConfigError, match="between 0 and 1"):
        check_confidence(confidence)
