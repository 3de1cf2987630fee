"""Votes, truth, isotonic regression and the learned score."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from calibration_builders import units_of
from hypothesis import given
from hypothesis import strategies as st

from potstill.decide.calibration.isotonic import isotonic
from potstill.decide.calibration.score import fit, table
from potstill.decide.calibration.units import UNKNOWN, truth, vote

words = st.lists(st.text("abcd", min_size=1, max_size=6), min_size=1, max_size=20)


@given(words, st.integers(1, 7))
def test_votes_are_those_of_a_plain_count(answers: list[str], k: int) -> None:
    votes = vote(units_of(answers, ["z"] * len(answers)), k)
    for i, word in enumerate(answers):
        counts = Counter(word[:k])  # keeps the order of first appearance, which most_common does too
        letter, count = counts.most_common(1)[0]
        assert votes.top_U[i] == list(dict.fromkeys(word)).index(letter)
        assert votes.share_U[i] == pytest.approx(count / len(word[:k]))
        assert votes.present_U[i] == len(word[:k])
        assert votes.usd_U[i] == len(word[:k])


def test_the_outcome_is_that_of_the_first_sample_with_the_answer_whose_outcome_is_known() -> None:
    units = units_of(["aba"], ["a"], right=["a"])
    units.success_US[0] = [UNKNOWN, 1, 0]
    assert vote(units, 3).success_U.tolist() == [0]
    units.success_US[0] = UNKNOWN
    assert vote(units, 3).success_U.tolist() == [UNKNOWN]


def test_an_unknown_cost_makes_the_sum_unknown_and_an_absent_sample_costs_nothing() -> None:
    units = units_of(["ab", "a"], ["a", "a"])
    units.student_usd_US[0, 1] = np.nan
    assert np.isnan(vote(units, 2).usd_U).tolist() == [True, False]
    assert vote(units, 1).usd_U.tolist() == [1.0, 1.0]


def test_truth_with_outcomes() -> None:
    """Student and teacher: right/right, wrong/right, right/wrong, wrong/wrong."""
    units = units_of(["a", "b", "a", "b"], ["a", "a", "b", "b"], right=["a", "a", "a", "a"])
    found = truth(units, vote(units, 1))
    assert found.right_U.tolist() == [True, True, False, False]
    assert found.good_U.tolist() == [True, False, True, False]
    assert found.wrong_U.tolist() == [False, True, False, False]


def test_without_outcomes_the_teacher_is_taken_as_right() -> None:
    units = units_of(["a", "b"], ["a", "a"])
    found = truth(units, vote(units, 1))
    assert found.right_U.tolist() == [True, True]
    assert found.good_U.tolist() == [True, False]
    assert not found.assumed_U.any()


def test_an_unknown_outcome_of_the_student_stands_with_the_teachers_answer_and_is_else_taken_as_bad() -> None:
    units = units_of(["a", "b", "b"], ["a", "a", "b"], right=["a", "a", "a"])
    units.success_US[:] = UNKNOWN
    found = truth(units, vote(units, 1))
    assert found.right_U.tolist() == [True, True, False]
    assert found.good_U.tolist() == [True, False, False]
    assert found.assumed_U.tolist() == [False, True, False]


def test_isotonic_by_hand() -> None:
    """1, 3, 2 pools to 1, 2.5, 2.5; equal scores count as one."""
    steps = isotonic([10, 20, 30, 40, 40], [1.0, 3.0, 2.0, 4.0, 6.0])
    assert steps.starts == (10.0, 20.0, 40.0)
    assert steps.levels == (1.0, 2.5, 5.0)
    assert steps([0, 15, 20, 35, 99]).tolist() == [1.0, 1.0, 2.5, 2.5, 5.0]


@given(st.lists(st.tuples(st.integers(0, 9), st.floats(-5, 5)), min_size=1, max_size=30))
def test_isotonic_is_monotone_keeps_the_mean_and_is_no_worse_than_any_step(pairs: list[tuple[int, float]]) -> None:
    scores, values = np.array([p[0] for p in pairs], float), np.array([p[1] for p in pairs])
    fitted = isotonic(scores, values)(scores)
    order = np.argsort(scores, kind="stable")
    assert (np.diff(fitted[order]) >= -1e-9).all()
    assert fitted.mean() == pytest.approx(values.mean(), abs=1e-9)
    error = ((fitted - values) ** 2).sum()
    for cut in np.unique(scores):
        low, high = values[scores < cut], values[scores >= cut]
        if len(low) and low.mean() <= high.mean():
            assert error <= ((low - low.mean()) ** 2).sum() + ((high - high.mean()) ** 2).sum() + 1e-9


def test_isotonic_without_data_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        isotonic([], [])


def test_a_score_finds_the_signal_that_tells_and_is_calibrated() -> None:
    """The margin decides how often the student is good; the other feature is noise and half unknown."""
    generator = np.random.default_rng(5)
    n = 4000
    margin = generator.random(n)
    good = generator.random(n) < 0.2 + 0.8 * margin
    noise = np.where(generator.random(n) < 0.5, np.nan, generator.random(n))
    units = units_of(
        ["a" if one else "b" for one in good],
        ["a"] * n,
        features={"margin": margin[:, None].tolist(), "noise": noise[:, None].tolist()},
    )
    signals = table(units, vote(units, 1), 1)
    score = fit(signals, good)
    assert score is not None
    weights = dict(zip(score.features, score.weights, strict=False))
    assert "agreement" not in weights, "one sample always agrees with itself"
    assert weights["margin"] > 0.5 > abs(weights.get("noise", 0.0)) * 5
    chance = score(signals)
    for low in (0.2, 0.4, 0.6, 0.8):
        inside = (margin >= low) & (margin < low + 0.1)
        assert chance[inside].mean() == pytest.approx(0.2 + 0.8 * (low + 0.05), abs=0.06)


def test_a_score_orders_answers_within_an_isotonic_step() -> None:
    """All ten best answers are good: one isotonic step, in which a larger margin still scores more."""
    good = np.array([False, True, False, True, False] + [True] * 10)
    margins = [[float(i)] for i in range(15)]
    units = units_of(["a" if one else "b" for one in good], ["a"] * 15, features={"margin": margins})
    signals = table(units, vote(units, 1), 1)
    score = fit(signals, good)
    assert score is not None
    assert score.levels[-1] == 1.0
    assert (np.diff(score(signals)) > 0).all()


def test_nothing_to_learn() -> None:
    units = units_of(["a", "b", "a"], ["a", "a", "a"])
    signals = table(units, vote(units, 1), 1)
    assert fit(signals, np.array([True, False, True])) is None, "agreement of one sample is always 1"
    assert fit(signals, np.array([True, True, True])) is None
