"""The drift monitor: stakes worked by hand, its guarantee by exact enumeration, its delay by simulation."""

from __future__ import annotations

import itertools
import math

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from potstill.decide import drift
from potstill.decide.drift import DriftPlan, DriftState, DriftVerdict, observe, observe_all, verdict, widen
from potstill.errors import ConfigError

ONE_BET = DriftPlan(allowed_rate=0.2, bets=1, at_start=0.5, patience=3.0)


def random_stream(rate: float, n: int, seed: int) -> list[bool]:
    return [bool(agreed) for agreed in np.random.default_rng(seed).random(n) >= rate]


def test_two_observations_by_hand() -> None:
    # One bet b. Half of the capital starts at once: cash 1 -> 0.5, then 0.5 * sqrt(3 / (3 + 1)).
    (bet,) = drift.bet_sizes(ONE_BET)
    # smallest = .25 * .2 / (.2 * .8) = .3125, largest = .9 / .2 = 4.5
    assert bet == pytest.approx(math.sqrt(0.3125 * 4.5))
    first = observe(drift.start(ONE_BET), agreed=False)
    assert first.wealth[0] == pytest.approx(0.5 * (1 + bet * 0.8))
    cash = 0.5 * math.sqrt(3 / 4)
    second = observe(first, agreed=True)
    assert second.wealth[0] == pytest.approx((first.wealth[0] + 0.5 - cash) * (1 - bet * 0.2))
    assert drift.evidence(second) == pytest.approx(second.wealth[0] + cash)
    assert (second.n, second.disagreements) == (2, 1)


@pytest.mark.parametrize("rate", [0.2, 0.1, 0.0])
def test_evidence_cannot_grow_in_expectation_without_drift(rate: float) -> None:
    """All 2^8 streams, weighted by their probability: the mean is 1 at the allowed rate and at most 1 below it."""
    plan = DriftPlan(allowed_rate=0.2, bets=3, patience=2.0)
    mean = 0.0
    for stream in itertools.product([True, False], repeat=8):
        chance = math.prod(1 - rate if agreed else rate for agreed in stream)
        mean += chance * drift.evidence(observe_all(drift.start(plan), stream)) if chance else 0.0
    if rate == 0.2:
        assert mean == pytest.approx(1.0)
    else:
        assert mean < 1.0


def test_unequal_sampling_shares_leave_the_mean_at_one() -> None:
    """Two kinds of decisions, a rare one shadowed four times as often: all paths of four draws, weights 1/share."""
    # Of the decisions 80 % are easy (10 % disagree, share 0.1), 20 % hard (60 % disagree, share 0.4): 20 % in all.
    easy, hard = 0.8 * 0.1, 0.2 * 0.4
    drawn_hard = hard / (easy + hard)
    plan = DriftPlan(allowed_rate=0.8 * 0.1 + 0.2 * 0.6, bets=3, max_weight=4.0)
    kinds = [(1 - drawn_hard, 0.1, 4.0), (drawn_hard, 0.6, 1.0)]  # chance of the draw, disagreement, weight
    outcomes = [
        (chance * (rate if not agreed else 1 - rate), agreed, weight)
        for chance, rate, weight in kinds
        for agreed in (True, False)
    ]
    mean = 0.0
    for path in itertools.product(outcomes, repeat=4):
        state = drift.start(plan)
        for _, agreed, weight in path:
            state = observe(state, agreed, weight)
        mean += math.prod(chance for chance, _, _ in path) * drift.evidence(state)
    assert mean == pytest.approx(1.0)


def test_false_alarms_stay_below_alpha() -> None:
    """400 streams of 1,000 at exactly the allowed rate: the chance to see more than 36 alarms at 5 % is below 0.1 %."""
    plan = DriftPlan(allowed_rate=0.1, alpha=0.05)
    alarms = sum(
        verdict(observe_all(drift.start(plan), random_stream(0.1, 1000, seed))) is DriftVerdict.ALARM
        for seed in range(400)
    )
    assert alarms <= 36


@pytest.mark.parametrize("onset", [0, 2000, 8000])
def test_late_drift_is_found_about_as_fast_as_early_drift(onset: int) -> None:
    plan = DriftPlan(allowed_rate=0.05)
    state = observe_all(drift.start(plan), random_stream(0.04, onset, seed=1))
    assert verdict(state) is DriftVerdict.STEADY
    delay = 0
    for agreed in random_stream(0.25, 400, seed=2):
        state = observe(state, agreed)
        delay += 1
        if verdict(state) is DriftVerdict.ALARM:
            break
    assert delay < 200


def test_alarm_stays_and_watch_goes() -> None:
    plan = DriftPlan(allowed_rate=0.05)
    state = drift.start(plan)
    while verdict(state) is DriftVerdict.STEADY:
        state = observe(state, False)
    assert verdict(state) is DriftVerdict.WATCH
    assert verdict(observe_all(state, [True] * 50)) is DriftVerdict.STEADY
    while verdict(state) is not DriftVerdict.ALARM:
        state = observe(state, False)
    assert verdict(observe_all(state, [True] * 500)) is DriftVerdict.ALARM


def test_escalation_widens_with_the_evidence() -> None:
    plan = DriftPlan(allowed_rate=0.05, alpha=0.01, watch_alpha=0.5)
    state = drift.start(plan)
    calm = widen(state, threshold=0.6)
    assert (calm.threshold, calm.student_may_act) == (0.6, True)
    seen = []
    while verdict(state) is not DriftVerdict.ALARM:
        state = observe(state, False)
        seen.append(widen(state, threshold=0.6))
    watched = [one for one in seen if one.verdict is DriftVerdict.WATCH]
    assert watched
    assert all(0.6 < one.threshold < 1.0 and one.student_may_act for one in watched)
    assert [one.threshold for one in watched] == sorted(one.threshold for one in watched)
    assert not widen(state, threshold=0.6).student_may_act


@pytest.mark.parametrize("threshold", [0.0, 0.6, 1.0, 3.0])
def test_widening_never_loosens(threshold: float) -> None:
    state = drift.start(DriftPlan(allowed_rate=0.05))
    for agreed in random_stream(0.3, 200, seed=3):
        state = observe(state, agreed)
        assert widen(state, threshold).threshold >= threshold


@given(st.lists(st.booleans(), max_size=60), st.floats(0.001, 0.999), st.integers(1, 12), st.floats(1.0, 50.0))
@settings(max_examples=60, deadline=None)
def test_state_survives_json_and_stays_finite(stream: list[bool], rate: float, bets: int, max_weight: float) -> None:
    state = drift.start(DriftPlan(allowed_rate=rate, bets=bets, max_weight=max_weight))
    for agreed in stream:
        state = observe(state, agreed, weight=max_weight)
        assert all(math.isfinite(held) and held >= 0.0 for held in state.wealth)
    back = msgspec.json.decode(msgspec.json.encode(state), type=DriftState)
    assert back == state
    assert verdict(back) is verdict(state)
    assert state.n == len(stream)


@given(st.lists(st.booleans(), min_size=1, max_size=80), st.data())
@settings(max_examples=60, deadline=None)
def test_one_more_disagreement_never_lowers_the_evidence(stream: list[bool], data: st.DataObject) -> None:
    plan = DriftPlan(allowed_rate=0.1)
    place = data.draw(st.integers(0, len(stream) - 1))
    worse = [*stream[:place], False, *stream[place + 1 :]]
    assert drift.evidence(observe_all(drift.start(plan), worse)) >= drift.evidence(
        observe_all(drift.start(plan), stream)
    ) * (1 - 1e-12)


def test_a_thousand_disagreements_do_not_overflow() -> None:
    state = observe_all(drift.start(DriftPlan(allowed_rate=0.001)), [False] * 1000)
    assert max(state.wealth) == drift.MOST_WEALTH
    assert b"null" not in msgspec.json.encode(state)


@pytest.mark.parametrize("weight", [0.0, -1.0, 1.5, float("nan"), float("inf")])
def test_a_weight_that_was_not_announced_is_refused(weight: float) -> None:
    with pytest.raises(ConfigError, match="max_weight"):
        observe(drift.start(DriftPlan(allowed_rate=0.1)), True, weight)


@pytest.mark.parametrize(
    "options",
    [
        {"allowed_rate": 0.0},
        {"allowed_rate": 1.0},
        {"allowed_rate": float("nan")},
        {"allowed_rate": 0.1, "alpha": 0.3, "watch_alpha": 0.2},
        {"allowed_rate": 0.1, "bets": 0},
        {"allowed_rate": 0.1, "max_weight": float("inf")},
        {"allowed_rate": 0.1, "at_start": 1.0},
    ],
)
def test_plans_that_test_nothing_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="allowed"):
        DriftPlan(**options)  # type: ignore[arg-type]
