"""What a bullet does to success: numbers worked by hand, properties, and many bullets at once."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from potstill.decide.evidence import Arm
from potstill.distill.playbook.credit.effect import Trials, effect, effects, intervals, log_evidence, newcombe, uneven
from potstill.distill.playbook.credit.multiple import Errors, proven


def trials(s1: int, n1: int, s0: int, n0: int) -> Trials:
    return Trials(shown=Arm(n=n1, successes=s1), withheld=Arm(n=n0, successes=s0))


@st.composite
def some_trials(draw: st.DrawFn, most: int = 400) -> Trials:
    n1, n0 = draw(st.integers(0, most)), draw(st.integers(0, most))
    return trials(draw(st.integers(0, n1)), n1, draw(st.integers(0, n0)), n0)


# --- by hand --------------------------------------------------------------------------------------------------------


def test_one_episode_by_hand() -> None:
    """Baselines .1 .3 .5 .7 .9 have the largest bets 1/2.8 1/2.4 1/2 1/2.4 1/2.8 and, after a success with the
    bullet, X of 1.8 1.4 1 .6 .2: gains of .642857 .583333 .5 .25 .071429, .409524 on the mean. The sizes' mean is (1
    + 1/2 + 1/4 + 1/8 + 1/16 + 1/32) / 6 = .328125."""
    gain = 0.328125 * (1.8 / 2.8 + 1.4 / 2.4 + 1 / 2 + 0.6 / 2.4 + 0.2 / 2.8) / 5
    assert gain == pytest.approx(0.134375)
    helped = effect(trials(1, 1, 0, 0))
    assert math.exp(helped.log_help) == pytest.approx(1 + gain)
    assert math.exp(helped.log_harm) == pytest.approx(1 - gain)
    harmed = effect(trials(0, 0, 1, 1))
    assert (harmed.log_harm, harmed.log_help) == pytest.approx((helped.log_help, helped.log_harm))
    # a failure without it speaks for it as well, by the mirrored baselines
    assert effect(trials(0, 0, 0, 1)).log_help == pytest.approx(helped.log_help)


def test_two_episodes_multiply_within_each_bet_by_hand() -> None:
    """With it a success, without it a failure: X is 2 (1 - m) and 2 m."""
    total = 0.0
    for m in (0.1, 0.3, 0.5, 0.7, 0.9):
        largest = 1 / (1 + 2 * max(m, 1 - m))
        for size in (1, 1 / 2, 1 / 4, 1 / 8, 1 / 16, 1 / 32):
            total += (1 + size * largest * 2 * (1 - m)) * (1 + size * largest * 2 * m)
    assert effect(trials(1, 1, 0, 1)).log_help == pytest.approx(math.log(total / 30))


def test_another_effect_than_none_by_hand() -> None:
    """Against "the effect is .5 or more", after a failure with it: X is -2 m, and bets pay on X below .5."""
    total = 0.0
    for m in (0.1, 0.3, 0.5, 0.7, 0.9):
        largest = 1 / (1 + 2 * max(m, 1 - m))
        total += sum(1 - largest / 2**k * (-2 * m - 0.5) for k in range(6))
    assert log_evidence([trials(0, 1, 0, 0)], 0.5, -1)[0] == pytest.approx(math.log(total / 30))


def test_nothing_seen_says_nothing() -> None:
    nothing = effect(Trials())
    assert (nothing.difference, nothing.interval, nothing.fixed_interval) == (None, (-1.0, 1.0), None)
    assert (nothing.log_harm, nothing.log_help, nothing.uneven) == (0.0, 0.0, False)
    assert effects([]) == []


def test_the_published_example_of_newcombe() -> None:
    """Newcombe 1998, Stat. Med. 17:873, table II (a), method 10: 56 of 70 and 48 of 80."""
    found = newcombe(Arm(n=70, successes=56), Arm(n=80, successes=48))
    assert found == pytest.approx((0.0524, 0.3339), abs=5e-5)


def test_a_clear_harm_is_found_and_a_small_sample_is_not_believed() -> None:
    harm = effect(trials(60, 150, 105, 150))
    assert harm.difference == pytest.approx(-0.3)
    assert harm.interval[1] < 0
    few = effect(trials(0, 4, 4, 4))
    assert few.difference == -1.0
    assert few.interval[1] > 0
    assert few.fixed_interval is not None


def test_an_impossible_effect_cannot_be_tested() -> None:
    with pytest.raises(ValueError, match=r"an effect of 1\.5; allowed: -1 to 1"):
        log_evidence([Trials()], 1.5, 1)


def test_lots_that_are_not_even_are_noticed() -> None:
    assert not uneven(trials(10, 50, 10, 60))
    assert uneven(trials(50, 90, 5, 10))
    assert uneven(trials(5, 10, 50, 90))
    assert effect(trials(50, 90, 5, 10)).uneven


def test_lots_that_cannot_be_refute_no_effect() -> None:
    """28 failures without the bullet and no episode with it: no effect explains that, even lots do not either."""
    found = effect(trials(0, 0, 0, 28))
    assert found.uneven
    assert found.interval == (-1.0, 1.0)


# --- properties -----------------------------------------------------------------------------------------------------


@settings(max_examples=50)
@given(some_trials())
def test_interval_and_evidence_say_the_same(one: Trials) -> None:
    found = effect(one, 0.05)
    low, high = found.interval
    assert -1.0 <= low <= high <= 1.0
    if found.uneven:
        return
    assert (high < 0) == (found.log_harm >= math.log(40))
    assert (low > 0) == (found.log_help >= math.log(40))


@settings(max_examples=50)
@given(some_trials())
def test_with_and_without_are_mirrored(one: Trials) -> None:
    here, there = effect(one), effect(Trials(shown=one.withheld, withheld=one.shown))
    assert here.uneven == there.uneven
    assert here.interval == pytest.approx((-there.interval[1], -there.interval[0]), abs=1e-9)
    assert here.log_harm == pytest.approx(there.log_help, abs=1e-9)


@settings(max_examples=50)
@given(some_trials())
def test_success_and_failure_are_mirrored(one: Trials) -> None:
    def failed(arm: Arm) -> Arm:
        return Arm(n=arm.n, successes=arm.n - arm.successes)

    turned = effect(Trials(shown=failed(one.shown), withheld=failed(one.withheld)))
    assert effect(one).log_harm == pytest.approx(turned.log_help, abs=1e-9)


@given(some_trials(), st.floats(-1, 1), st.floats(-1, 1))
def test_evidence_grows_with_the_distance_of_what_is_refuted(one: Trials, at: float, other: float) -> None:
    low, high = sorted((at, other))
    assert log_evidence([one], low, -1)[0] <= log_evidence([one], high, -1)[0] + 1e-9
    assert log_evidence([one], low, 1)[0] >= log_evidence([one], high, 1)[0] - 1e-9


@given(some_trials(60), st.sampled_from((0.0, -0.3, 0.2, 1.0, -1.0)), st.sampled_from((-1, 1)))
def test_the_next_episode_is_a_fair_or_losing_bet(one: Trials, at: float, direction: int) -> None:
    """Whatever the chance of success, if the effect is what is tested, the expected stake does not grow."""
    now = log_evidence([one], at, direction)[0]
    shown, withheld = one.shown, one.withheld
    for baseline in np.linspace(max(0.0, -at), min(1.0, 1.0 - at), 5):
        expected = 0.0
        for success in (0, 1):
            rate = baseline + at
            with_it = Trials(shown=Arm(n=shown.n + 1, successes=shown.successes + success), withheld=withheld)
            without = Trials(shown=shown, withheld=Arm(n=withheld.n + 1, successes=withheld.successes + success))
            for chance, after in ((rate, with_it), (baseline, without)):
                weight = 0.5 * (chance if success else 1.0 - chance)
                if weight > 0:
                    expected += weight * math.exp(log_evidence([after], at, direction)[0] - now)
        assert expected == pytest.approx(1.0, abs=1e-6)


@settings(max_examples=20)
@given(st.lists(some_trials(50), max_size=8), st.randoms(use_true_random=False))
def test_bullets_do_not_touch_each_other(many: list[Trials], random) -> None:
    order = list(range(len(many)))
    random.shuffle(order)
    shuffled = effects([many[place] for place in order])
    assert shuffled == [effects(many)[place] for place in order]


def test_more_confidence_is_a_wider_interval() -> None:
    lows, highs = zip(*(intervals([trials(60, 150, 105, 150)], alpha) for alpha in (0.2, 0.05, 0.001)), strict=True)
    assert sorted(lows, reverse=True) == list(lows)
    assert sorted(highs) == list(highs)


# --- many at once ---------------------------------------------------------------------------------------------------


def test_several_together_need_less_each() -> None:
    """n / (k alpha): of four at .05, 80, 40, 26.7 and 20."""
    values = {id: math.log(value) for id, value in (("a", 79), ("b", 41), ("c", 26), ("d", 19))}
    assert proven(values, 0.05) == {"a", "b"}
    assert proven(values, 0.05, Errors.EACH) == {"a", "b", "c"}
    assert proven(values, 0.05, Errors.ANY) == frozenset()
    assert proven({**values, "a": math.log(80.1)}, 0.05, Errors.ANY) == {"a"}
    assert proven({}, 0.05) == proven({}, 0.05, Errors.ANY) == frozenset()


@given(st.dictionaries(st.text(max_size=3), st.floats(-5, 12), max_size=12), st.sampled_from((0.01, 0.05, 0.3)))
def test_the_levels_are_nested(values: dict[str, float], alpha: float) -> None:
    strict, share, each = (proven(values, alpha, errors) for errors in (Errors.ANY, Errors.SHARE, Errors.EACH))
    assert strict <= share <= each
    if share:
        weakest = min(values[id] for id in share)
        assert weakest >= math.log(len(values) / (len(share) * alpha)) - 1e-12
