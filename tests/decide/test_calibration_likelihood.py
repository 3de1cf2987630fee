"""A student that is trusted by its own probability: chains of thresholds, and that the guarantee holds."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
from calibration_builders import units_of
from hypothesis import given
from hypothesis import strategies as st

from potstill.decide.calibration.candidates import LIKELIHOOD, LIKELIHOODS, likelihood_chain
from potstill.decide.calibration.certify import certify
from potstill.decide.calibration.losses import Level, losses
from potstill.decide.calibration.units import Units

Decisions = list[tuple[float, bool]]
"""How sure the student is, and whether its answer is the teacher's."""


def units(decisions: Decisions, tasks: list[int] | None = None) -> Units:
    return units_of(
        ["a"] * len(decisions),
        ["a" if right else "b" for _, right in decisions],
        tasks=tasks,
        features={LIKELIHOOD: [[sure] for sure, _ in decisions]},
    )


def test_thresholds_are_known_before_the_data_and_are_what_is_typed() -> None:
    assert list(LIKELIHOODS) == sorted(set(LIKELIHOODS), reverse=True)
    assert LIKELIHOODS[-1] == 0.0
    assert all(float(f"{one:.4f}") == one for one in LIKELIHOODS)
    assert likelihood_chain(units([(0.9, True)]), thresholds=[0.2, 0.8, 0.2]).thresholds == (0.8, 0.2)


def test_a_chain_by_hand() -> None:
    chain = likelihood_chain(units([(0.99, True), (0.9, False), (0.6, True), (math.nan, False)]))
    assert [int(chain.acted_U(at).sum()) for at in (0.995, 0.99, 0.9, 0.5, 0.0)] == [0, 1, 2, 3, 3]
    assert [losses(chain, at).lost for at in (0.99, 0.9, 0.0)] == [0, 1, 1]
    assert chain.signal == LIKELIHOOD
    assert chain.samples == 1


@given(
    st.lists(
        st.tuples(st.one_of(st.floats(0, 1), st.just(math.nan)), st.booleans(), st.integers(0, 5)),
        min_size=1,
        max_size=40,
    )
)
def test_a_bolder_threshold_never_loses_less(found: list[tuple[float, bool, int]]) -> None:
    _, tasks = np.unique([task for *_, task in found], return_inverse=True)
    chain = likelihood_chain(units([(sure, right) for sure, right, _ in found], tasks.tolist()))
    for level in Level:
        lost = [losses(chain, at, level).lost for at in chain.thresholds]
        assert all(b >= a - 1e-12 for a, b in pairwise(lost))


def test_too_much_is_lost_no_more_often_than_the_confidence_allows() -> None:
    """250 calibrations on 150 tasks each. A student that is sure with c is right with c^1.5: too sure of itself. At a
    threshold t it loses E[(1 - c^1.5), c >= t] = (1 - t) - (1 - t^2.5) / 2.5, with c even in [0, 1]."""
    drawn, wrong, certified = np.random.default_rng(0), 0, 0
    for _ in range(250):
        sure = drawn.uniform(size=150)
        right = drawn.uniform(size=150) < sure**1.5
        result = certify([likelihood_chain(units(list(zip(sure.tolist(), right.tolist(), strict=True))))], 0.9, 0.9)
        if result.certified and result.threshold is not None:
            at = result.threshold
            certified += 1
            wrong += (1 - at) - (1 - at**2.5) / 2.5 > 0.1
    assert certified > 190
    assert wrong <= 25 + 3 * math.sqrt(250 * 0.1 * 0.9)
