"""AIQ, saving at one quality, gain at one cost: worked by hand, and what must hold for every frontier."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from potstill.errors import ConfigError
from potstill.measure.frontier import Point
from potstill.measure.frontier_area import aiq, cost_at, cost_range, iso_cost_gain, iso_quality_saving, success_at

# Success and dollars per episode on AppWorld, arXiv 2512.02543.
BASE = [Point("zero-shot", 0.051, 0.28), Point("teacher", 0.589, 0.83)]
NEW = [*BASE, Point("context", 0.088, 0.55), Point("context+cascade", 0.171, 0.66)]
arms = st.lists(
    st.builds(
        Point, st.uuids().map(str), st.integers(1, 50).map(lambda i: i / 10), st.integers(0, 20).map(lambda i: i / 20)
    ),
    min_size=1,
    max_size=8,
)


def test_the_papers_frontier_by_hand() -> None:
    """Trapezoids from 0.051 to 0.589: 0.415 x 0.037 + 0.605 x 0.083 + 0.745 x 0.418 = 0.37698, over 0.538."""
    assert aiq(NEW) == pytest.approx(0.37698 / 0.538)
    assert aiq(BASE) == pytest.approx((0.28 + 0.83) / 2)


def test_nothing_is_bought_below_the_cheapest_arm_and_nothing_more_beyond_the_dearest() -> None:
    assert success_at(BASE, [0.0, 0.05, 0.051, 9.0]).tolist() == pytest.approx([0.0, 0.0, 0.28, 0.83])
    assert aiq([Point("only", 1.0, 0.5)]) is None
    assert aiq([Point("only", 1.0, 0.5)], (0.0, 4.0)) == pytest.approx(0.5 * 3 / 4)
    assert aiq([Point("only", 1.0, 0.5)], (0.0, 0.5)) == 0.0
    assert cost_at(BASE, 0.1) == 0.051


def test_saving_at_one_quality_and_gain_at_one_cost_by_hand() -> None:
    """At 0.66 the base mixes zero-shot and teacher: 0.051 + 0.538 x 0.38 / 0.55 = 0.42271; ours costs 0.171."""
    assert cost_at(BASE, 0.66) == pytest.approx(0.4227090909)
    assert iso_quality_saving(NEW, BASE, 0.66) == pytest.approx(1 - 0.171 / 0.4227090909)
    # At $0.171 the base reaches 0.28 + 0.55 x 0.12 / 0.538
    assert iso_cost_gain(NEW, BASE, 0.171) == pytest.approx(0.66 - (0.28 + 0.55 * 0.12 / 0.538))
    assert iso_quality_saving(NEW, BASE, 0.9) is None
    assert iso_quality_saving(NEW, [Point("free", 0.0, 0.5)], 0.3) is None


@given(arms, arms)
def test_more_arms_never_make_a_frontier_worse(some: list[Point], more: list[Point]) -> None:
    over = cost_range(some, more)
    if over[0] == over[1]:
        return
    fewer, all_of_them = aiq(some, over), aiq([*some, *more], over)
    assert fewer is not None
    assert all_of_them is not None
    assert 0 <= fewer <= all_of_them + 1e-12 <= 1 + 1e-9
    for cost in np.linspace(0, 6, 13):
        assert iso_cost_gain([*some, *more], some, float(cost)) >= -1e-12
    best = max(point.success for point in some)
    saving = iso_quality_saving([*some, *more], some, best)
    assert saving is None or saving >= -1e-9


@given(arms)
def test_a_frontier_is_no_better_than_itself(some: list[Point]) -> None:
    best = max(point.success for point in some)
    assert iso_quality_saving(some, some, best) in (None, 0.0)
    assert iso_cost_gain(some, some, 1.0) == 0.0


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(ConfigError, match="no arms"):
        aiq([])
    with pytest.raises(ConfigError, match="smaller first"):
        aiq(BASE, (2.0, 1.0))
    with pytest.raises(ConfigError, match="0 or more"):
        iso_cost_gain(NEW, BASE, -1.0)
