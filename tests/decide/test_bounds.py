"""Bounds of a loss rate: hand-worked numbers, coverage by enumeration, error rates by simulation."""

from __future__ import annotations

import math
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from potstill.decide.bounds import (
    betting_p_value,
    betting_upper,
    binomial_cdf,
    binomial_p_value,
    clopper_pearson,
    clopper_pearson_upper,
    needed_betting,
    needed_binomial,
)

SHARES = st.floats(0.0, 1.0)


def mass(n: int, p: float) -> list[float]:
    return [math.comb(n, k) * p**k * (1 - p) ** (n - k) for k in range(n + 1)]


@given(st.integers(0, 60), st.integers(0, 60), SHARES)
def test_the_distribution_is_the_sum_of_its_terms(n: int, k: int, p: float) -> None:
    assert binomial_cdf(k, n, p) == pytest.approx(sum(mass(n, p)[: k + 1]), abs=1e-12)


def test_small_tails_keep_their_digits() -> None:
    assert binomial_cdf(0, 1000, 0.5) == pytest.approx(0.5**1000, rel=1e-12)
    assert binomial_cdf(1, 500, 0.3) == pytest.approx(0.7**500 + 500 * 0.3 * 0.7**499, rel=1e-12)


def test_a_million_trials() -> None:
    """By symmetry P(X <= n/2) = 1/2 + P(X = n/2)/2, and P(X = n/2) is about sqrt(2/(pi n))."""
    n = 10**6
    half = 0.5 * math.sqrt(2 / (math.pi * n)) * (1 - 1 / (4 * n))
    assert binomial_cdf(n // 2, n, 0.5) == pytest.approx(0.5 + half, rel=1e-10)
    assert binomial_cdf(n // 2 - 1, n, 0.5) == pytest.approx(0.5 - half, rel=1e-10)
    # 19,700 losses where 20,000 are allowed: z = -299.5/140 = -2.1393 with the continuity correction.
    assert binomial_cdf(19_700, n, 0.02) == pytest.approx(0.0162, abs=2e-4)


@given(st.integers(1, 400), SHARES, st.floats(0.001, 0.999))
def test_the_distribution_grows_with_k_and_falls_with_p(n: int, share: float, p: float) -> None:
    k = int(share * n)
    assert binomial_cdf(k, n, p) >= binomial_cdf(k - 1, n, p) - 1e-13
    assert binomial_cdf(k, n, p) <= binomial_cdf(k, n, p * 0.9) + 1e-13


@pytest.mark.parametrize("confidence", [0.8, 0.95])
@pytest.mark.parametrize("n", [1, 7, 30])
def test_the_exact_bounds_cover_at_every_rate(n: int, confidence: float) -> None:
    """By enumeration of all outcomes: the chance that the bound holds is at least the confidence."""
    uppers = [clopper_pearson_upper(k, n, confidence) for k in range(n + 1)]
    intervals = [clopper_pearson(k, n, confidence) for k in range(n + 1)]
    for p in np.linspace(0.002, 0.998, 250):
        chances = mass(n, float(p))
        assert sum(c for c, upper in zip(chances, uppers, strict=True) if p <= upper) >= confidence - 1e-9
        covered = sum(c for c, (low, high) in zip(chances, intervals, strict=True) if low <= p <= high)
        assert covered >= confidence - 1e-9


@given(st.integers(1, 300), SHARES, st.floats(0.01, 0.5))
def test_the_bound_is_where_the_test_rejects(n: int, share: float, allowed: float) -> None:
    k = int(share * n)
    upper = clopper_pearson_upper(k, n, 0.95)
    assert (upper < allowed) == (binomial_p_value(k, n, allowed) < 0.05) or abs(upper - allowed) < 1e-9


def test_hand_worked_bounds() -> None:
    assert clopper_pearson_upper(0, 100) == pytest.approx(1 - 0.05**0.01)  # 2.95 %
    assert clopper_pearson_upper(10, 10) == 1.0
    assert clopper_pearson(0, 10)[0] == 0.0
    assert clopper_pearson(5, 10) == pytest.approx((0.187086, 0.812914), abs=1e-6)


def test_how_many_tasks_are_needed() -> None:
    assert needed_binomial(0.0, 0.02) == 149  # the least n with 0.98^n <= 0.05
    assert needed_binomial(0.0, 0.05) == 59
    assert needed_binomial(0.02, 0.02) is None
    assert needed_binomial(0.0, 0.0) is None


@pytest.mark.parametrize(("rate", "allowed"), [(0.005, 0.02), (0.01, 0.05), (0.01, 0.02), (0.3, 0.5)])
def test_the_needed_number_has_the_power_and_no_smaller_one_does(rate: float, allowed: float) -> None:
    needed = needed_binomial(rate, allowed)
    assert needed is not None

    def power(n: int) -> float:
        few = max((k for k in range(n + 1) if binomial_p_value(k, n, allowed) <= 0.05), default=-1)
        return binomial_cdf(few, n, rate)

    assert power(needed) >= 0.8
    assert all(power(n) < 0.8 for n in range(max(1, needed - 60), needed))


def test_without_losses_the_bet_pays_what_was_staked() -> None:
    """After n tasks without a loss the stake f has grown by (1 + f a/(1-a)) at each."""
    grown = sum(w * (1 + f * 0.02 / 0.98) ** 200 for f, w in ((0.25, 1 / 6), (0.5, 1 / 6), (0.75, 1 / 6), (1.0, 0.5)))
    assert betting_p_value(np.zeros(200), 0.02) == pytest.approx(1 / grown, rel=1e-12)


losses_and_totals = st.lists(st.tuples(SHARES, SHARES), min_size=1, max_size=60)


@given(losses_and_totals, st.floats(0.01, 0.9), st.randoms())
def test_the_bet_depends_neither_on_order_nor_on_luck(
    pairs: list[tuple[float, float]], allowed: float, luck: Random
) -> None:
    totals = [total for total, _ in pairs]
    losses = [total * share for total, share in pairs]
    p = betting_p_value(losses, allowed, totals)
    order = luck.sample(range(len(pairs)), len(pairs))
    assert betting_p_value([losses[i] for i in order], allowed, [totals[i] for i in order]) == pytest.approx(p)
    assert p <= betting_p_value(losses, allowed * 0.8, totals) + 1e-12
    upper = betting_upper(losses, totals)
    assert (upper <= allowed) == (p <= 0.05) or abs(upper - allowed) < 1e-9


@pytest.mark.parametrize("allowed", [0.02, 0.2])
@pytest.mark.parametrize("n", [150, 600])
@pytest.mark.parametrize("kind", ["yes or no", "shares", "teacher fails too"])
def test_the_bet_is_rarely_won_where_the_rate_is_not_below(kind: str, n: int, allowed: float) -> None:
    """At the boundary itself, where winning is likeliest; 2,000 streams, so 5 % is 100 of them (4 sigma: 139)."""
    generator = np.random.default_rng(7)
    won = 0
    for _ in range(2000):
        if kind == "yes or no":
            losses, totals = (generator.random(n) < allowed).astype(float), np.ones(n)
        elif kind == "shares":
            rates = generator.beta(allowed * 2, (1 - allowed) * 2, n)
            losses, totals = generator.binomial(10, rates) / 10, np.ones(n)
        else:
            totals = generator.binomial(5, generator.beta(2, 1, n)) / 5
            losses = generator.binomial((totals * 5).astype(int), allowed) / 5
        won += betting_p_value(losses, allowed, totals) <= 0.05
    assert won <= 139


def test_the_needed_number_of_bets() -> None:
    generator = np.random.default_rng(3)
    pilot = generator.binomial(5, 0.005, 4000) / 5
    needed = needed_betting(pilot, 0.02)
    assert needed is not None
    won = sum(betting_p_value(generator.binomial(5, 0.005, needed) / 5, 0.02) <= 0.05 for _ in range(400))
    assert 0.7 <= won / 400 <= 0.97
    assert needed_betting(np.zeros(10), 0.02) == math.ceil(math.log(40) / math.log(1 + 0.02 / 0.98))
    assert needed_betting(np.full(50, 0.5), 0.02) is None
    assert needed_betting([], 0.02) is None


def test_what_is_no_share_is_refused() -> None:
    with pytest.raises(ValueError, match="0 <= loss <= total"):
        betting_p_value([0.5], 0.1, [0.2])
    with pytest.raises(ValueError, match="no binomial"):
        binomial_cdf(1, 2, 1.5)
    with pytest.raises(ValueError, match="3 in 2 trials"):
        clopper_pearson_upper(3, 2)
