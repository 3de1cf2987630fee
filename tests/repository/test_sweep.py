"""The arithmetic of ``bench/sweep.py``: what N samples would do, worked out by hand."""

from __future__ import annotations

import math

import pytest

from sweep import Gate, outcome

ANSWER = {"candidates": [["a", math.log(0.6)], ["b", math.log(0.3)], ["c", math.log(0.1)]], "action": "a"}


def test_all_samples_agree_with_the_sum_of_powers() -> None:
    # three samples: 0.6^3 + 0.3^3 + 0.1^3 = 0.244, of which 0.216 on a
    trusted, right = outcome(Gate(3, 1.0), ANSWER, "a")
    assert (trusted, right) == pytest.approx((0.244, 0.216))


def test_one_sample_is_always_trusted() -> None:
    assert outcome(Gate(1, 1.0), ANSWER, "b") == pytest.approx((1.0, 0.3))


def test_a_temperature_sharpens() -> None:
    # at 0.5 the weights are squared: 0.36, 0.09, 0.01 of 0.46
    assert outcome(Gate(1, 0.5), ANSWER, "a").right == pytest.approx(0.36 / 0.46)


def test_likelihood_trusts_all_or_nothing() -> None:
    assert outcome(Gate(1, 0.0, 0.5), ANSWER, "a") == (1.0, 1.0)
    assert outcome(Gate(1, 0.0, 0.5), ANSWER, "b") == (1.0, 0.0)
    assert outcome(Gate(1, 0.0, 0.7), ANSWER, "a") == (0.0, 0.0)
