"""The rollout: every edge of the machine by hand, and its promises under random evidence and acts."""

from __future__ import annotations

import math

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from potstill.decide.assignment import Route, assign, drawn, route
from potstill.decide.drift import DriftVerdict
from potstill.decide.evidence import Arm, is_not_worse, is_worse, needed, rate_is_above, rate_is_below
from potstill.decide.rollout import (
    Action,
    Evidence,
    RolloutPlan,
    RolloutReason,
    RolloutState,
    Stage,
    begin,
    freeze,
    kill,
    recalibrated,
    release,
    share_of,
    step,
    unfreeze,
)
from potstill.errors import ConfigError

PLAN = RolloutPlan(allowed_loss=0.02, min_seconds=100.0)
SHADOW = RolloutState(stage=Stage.SHADOW, entered_at=0.0)
CANARY = RolloutState(stage=Stage.CANARY, rung=1, entered_at=0.0)
LIVE = RolloutState(stage=Stage.LIVE, entered_at=0.0)

PROVEN_SHADOW = {"shadow_units": 400, "shadow_losses": 0}
GOOD = {"canary": Arm(n=2000, successes=1400), "control": Arm(n=8000, successes=5600)}
BAD = {"canary": Arm(n=200, successes=60), "control": Arm(n=800, successes=560)}


def seen(now: float = 1000.0, **what: object) -> Evidence:
    return Evidence(now=now, **what)  # type: ignore[arg-type]


# --- edges ----------------------------------------------------------------------------------------------------------


def test_the_whole_way_up() -> None:
    state = begin(RolloutState(), now=0.0)
    shares = []
    for k in range(1, 5):
        decision = step(PLAN, state, seen(now=k * 1000.0, **PROVEN_SHADOW, **_equal_arms(share_of(PLAN, state))))
        assert (decision.action, decision.reason) == (Action.ADVANCE, RolloutReason.PROVEN)
        state = decision.state
        shares.append(share_of(PLAN, state))
    assert shares == [0.05, 0.2, 0.5, 0.98]
    assert state == RolloutState(stage=Stage.LIVE, entered_at=4000.0)
    assert step(PLAN, state, seen(now=9000.0)).reason is RolloutReason.COMPLETE


def _equal_arms(share: float) -> dict[str, Arm]:
    n = 100_000
    canary = round(n * share)
    return {
        "canary": Arm(n=canary, successes=round(0.7 * canary)),
        "control": Arm(n=n - canary, successes=round(0.7 * (n - canary))),
    }


@pytest.mark.parametrize(
    ("state", "evidence", "reason"),
    [
        (RolloutState(), seen(**PROVEN_SHADOW), RolloutReason.NOT_BEGUN),
        (RolloutState(stage=Stage.KILLED), seen(**PROVEN_SHADOW), RolloutReason.KILLED),
        (SHADOW, seen(), RolloutReason.GATHERING),
        (SHADOW, seen(shadow_units=100), RolloutReason.UNCERTAIN),
        (SHADOW, seen(now=99.0, **PROVEN_SHADOW), RolloutReason.TOO_SOON),
        (SHADOW, seen(drift=DriftVerdict.WATCH, **PROVEN_SHADOW), RolloutReason.DRIFT_WATCH),
        (SHADOW, seen(drift=DriftVerdict.ALARM, **PROVEN_SHADOW), RolloutReason.DRIFT_ALARM),
        (SHADOW, seen(shadow_units=400, shadow_losses=60), RolloutReason.LOSS_TOO_HIGH),
        (freeze(SHADOW), seen(**PROVEN_SHADOW), RolloutReason.FROZEN),
        (CANARY, seen(canary=Arm(n=49, successes=49), control=Arm(n=99)), RolloutReason.GATHERING),
        (CANARY, seen(canary=Arm(n=60, successes=42), control=Arm(n=240, successes=168)), RolloutReason.UNCERTAIN),
        (CANARY, seen(**GOOD, canary_usd=20.0, control_usd=80.0), RolloutReason.COSTS_MORE),
        (LIVE, seen(drift=DriftVerdict.WATCH), RolloutReason.DRIFT_WATCH),
    ],
)
def test_what_keeps_the_stage(state: RolloutState, evidence: Evidence, reason: RolloutReason) -> None:
    decision = step(PLAN, state, evidence)
    assert (decision.action, decision.reason) == (Action.STAY, reason)
    assert (decision.state.stage, decision.state.rung) == (state.stage, state.rung)
    assert decision.sentence.endswith((".", "potstill calibrate"))


@pytest.mark.parametrize("state", [CANARY, LIVE, freeze(CANARY), freeze(LIVE)])
@pytest.mark.parametrize(
    ("what", "reason"),
    [
        ({"drift": DriftVerdict.ALARM}, RolloutReason.DRIFT_ALARM),
        ({"shadow_units": 400, "shadow_losses": 60}, RolloutReason.LOSS_TOO_HIGH),
    ],
)
def test_a_broken_calibration_takes_the_student_off(
    state: RolloutState, what: dict[str, object], reason: RolloutReason
) -> None:
    decision = step(PLAN, state, seen(now=5.0, **what))
    assert (decision.action, decision.reason) == (Action.STEP_BACK, reason)
    assert share_of(PLAN, decision.state) == 0.0
    assert decision.state.entered_at == 5.0
    assert (decision.state.stage is Stage.FROZEN) == (state.stage is Stage.FROZEN)
    later = decision.state if state.stage is not Stage.FROZEN else unfreeze(decision.state)
    assert step(PLAN, later, seen(now=1e9, **PROVEN_SHADOW)).reason is RolloutReason.NEEDS_CALIBRATION
    assert step(PLAN, recalibrated(later, 1e9), seen(now=2e9, **PROVEN_SHADOW)).action is Action.ADVANCE


def test_a_worse_canary_goes_one_rung_back_and_must_wait_longer() -> None:
    first = step(PLAN, CANARY, seen(now=500.0, **BAD))
    assert (first.action, first.reason) == (Action.STEP_BACK, RolloutReason.CANARY_WORSE)
    assert "60 of 200" in first.sentence
    assert "canary (5%)" in first.sentence
    assert first.state == RolloutState(stage=Stage.CANARY, rung=0, entered_at=500.0, step_backs=1)
    assert step(PLAN, first.state, seen(now=699.0, **GOOD)).reason is RolloutReason.TOO_SOON
    assert step(PLAN, first.state, seen(now=701.0, **GOOD)).reason is not RolloutReason.TOO_SOON


def test_live_steps_back_to_the_last_rung_and_a_spent_canary_to_shadow() -> None:
    arms = {"canary": Arm(n=9800, successes=4900), "control": Arm(n=200, successes=150)}
    back = step(PLAN, LIVE, seen(**arms)).state
    assert (back.stage, back.rung) == (Stage.CANARY, 2)
    spent = msgspec.structs.replace(LIVE, step_backs=PLAN.max_step_backs)
    decision = step(PLAN, spent, seen(**arms))
    assert (decision.state.stage, decision.state.needs_calibration) == (Stage.SHADOW, True)
    assert "Calibrate again" in decision.sentence


def test_what_an_operator_may_not_do() -> None:
    for act in (
        lambda: begin(LIVE, 0.0),
        lambda: unfreeze(LIVE),
        lambda: release(LIVE, 0.0),
        lambda: freeze(kill(LIVE)),
    ):
        with pytest.raises(ConfigError, match="allowed"):
            act()


@pytest.mark.parametrize(
    "options",
    [
        {"allowed_loss": 0.0},
        {"allowed_loss": 0.1, "ladder": ()},
        {"allowed_loss": 0.1, "ladder": (0.2, 0.1)},
        {"allowed_loss": 0.1, "ladder": (0.5,), "live_share": 1.0},
        {"allowed_loss": 0.1, "alpha": 1.0},
        {"allowed_loss": 0.1, "backoff": 0.5},
        {"allowed_loss": 0.1, "min_seconds": float("nan")},
    ],
)
def test_plans_that_make_no_sense_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        RolloutPlan(**options)  # type: ignore[arg-type]


# --- promises under anything ----------------------------------------------------------------------------------------

arms = st.integers(0, 3000).flatmap(
    lambda n: st.builds(lambda k: Arm(n=n, successes=k), st.integers(0, n))  # type: ignore[arg-type]
)
shadows = st.integers(0, 1000).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, min(n, 40))))
evidences = st.builds(
    lambda drift, shadow, canary, control, usd: {
        "drift": drift,
        "shadow_units": shadow[0],
        "shadow_losses": shadow[1],
        "canary": canary,
        "control": control,
        "canary_usd": usd,
        "control_usd": 1000.0,
    },
    st.sampled_from([DriftVerdict.STEADY] * 6 + [DriftVerdict.WATCH, DriftVerdict.ALARM]),
    shadows,
    arms,
    arms,
    st.none() | st.floats(0, 100),
)
LEVELS = [Stage.SHADOW, Stage.CANARY, Stage.LIVE]


def height(state: RolloutState) -> int:
    if state.serving is Stage.CANARY:
        return 1 + state.rung
    return 1 + len(PLAN.ladder) if state.serving is Stage.LIVE else 0


@given(st.lists(evidences, max_size=40))
@settings(max_examples=150, deadline=None)
def test_it_moves_one_step_at_a_time_and_never_oscillates(stream: list[dict[str, object]]) -> None:
    state = begin(RolloutState(), 0.0)
    now, moves = 0.0, 0
    for what in stream:
        now += 1e6
        decision = step(PLAN, state, seen(now=now, **what))
        rise = height(decision.state) - height(state)
        assert {Action.STAY: rise == 0, Action.ADVANCE: rise == 1, Action.STEP_BACK: rise < 0}[decision.action]
        if decision.action is not Action.STAY:
            moves += 1
            assert decision.state.entered_at == now
        state = decision.state
        assert msgspec.json.decode(msgspec.json.encode(state), type=RolloutState) == state
    top = len(PLAN.ladder) + 1
    assert moves <= top + (PLAN.max_step_backs + 1) * (top + 1)
    assert state.step_backs <= PLAN.max_step_backs + 1


@given(st.sampled_from([SHADOW, CANARY, LIVE, freeze(SHADOW), freeze(CANARY), freeze(LIVE)]), evidences)
@settings(max_examples=150, deadline=None)
def test_it_never_advances_without_evidence(state: RolloutState, what: dict[str, object]) -> None:
    decision = step(PLAN, state, seen(**what))
    if decision.action is not Action.ADVANCE:
        return
    level = needed(PLAN.alpha)
    assert state.stage is not Stage.FROZEN
    assert what["drift"] is DriftVerdict.STEADY
    if state.stage is Stage.SHADOW:
        assert rate_is_below(what["shadow_losses"], what["shadow_units"], PLAN.allowed_loss) >= level  # type: ignore[arg-type]
    else:
        canary, control = what["canary"], what["control"]
        assert is_not_worse(canary, control, PLAN.ladder_margin) >= level  # type: ignore[arg-type]


@given(st.lists(st.sampled_from(["step", "freeze", "unfreeze", "begin", "recalibrated"]), max_size=20), evidences)
@settings(max_examples=100, deadline=None)
def test_killed_stays_killed_until_released(acts: list[str], what: dict[str, object]) -> None:
    state = kill(CANARY)
    for act in acts:
        if act == "step":
            state = step(PLAN, state, seen(**what)).state
        elif act == "recalibrated":
            state = recalibrated(state, 1.0)
        else:
            with pytest.raises(ConfigError):
                {"freeze": freeze, "unfreeze": unfreeze, "begin": lambda s: begin(s, 1.0)}[act](state)
        assert state.stage is Stage.KILLED
        assert route(PLAN, state, "any") is Route.TEACHER
    assert release(state, 7.0).stage is Stage.SHADOW


@given(st.sampled_from([SHADOW, CANARY, LIVE]), evidences)
@settings(max_examples=100, deadline=None)
def test_frozen_never_rises_and_thaws_where_it_was(state: RolloutState, what: dict[str, object]) -> None:
    decision = step(PLAN, freeze(state), seen(**what))
    assert decision.state.stage is Stage.FROZEN
    assert height(decision.state) <= height(state)
    assert unfreeze(freeze(state)) == state


# --- e-values -------------------------------------------------------------------------------------------------------


def test_one_rate_by_hand() -> None:
    # limit .5: rates 0, .05, .125, .25, .375; one event: (0 + .1 + .25 + .5 + .75) / 5 = .32
    assert math.exp(rate_is_below(1, 1, 0.5)) == pytest.approx(0.32)
    # limit .5: rates .625, .75, .75, .75, .75 (capped half-way to 1); one event: (1.25 + 4 * 1.5) / 5 = 1.45
    assert math.exp(rate_is_above(1, 1, 0.5)) == pytest.approx(1.45)
    assert rate_is_below(0, 0, 0.02) == 0.0


@pytest.mark.parametrize(("rate", "limit"), [(0.1, 0.1), (0.2, 0.1), (0.02, 0.02)])
def test_no_bet_on_one_rate_grows_under_its_hypothesis(rate: float, limit: float) -> None:
    n = 30
    chance = [math.comb(n, k) * rate**k * (1 - rate) ** (n - k) for k in range(n + 1)]
    assert sum(c * math.exp(rate_is_below(k, n, limit)) for k, c in enumerate(chance)) <= 1 + 1e-9
    small = limit * limit / rate
    chance = [math.comb(n, k) * small**k * (1 - small) ** (n - k) for k in range(n + 1)]
    assert sum(c * math.exp(rate_is_above(k, n, limit)) for k, c in enumerate(chance)) <= 1 + 1e-9


@pytest.mark.parametrize("base", [0.1, 0.5, 0.7, 0.95])
@pytest.mark.parametrize("sizes", [(3, 40), (25, 25), (40, 3)])
def test_no_bet_on_two_arms_grows_under_its_hypothesis(base: float, sizes: tuple[int, int]) -> None:
    """All pairs of counts at the edge of the hypothesis, weighted by their probability."""
    margin = 0.05
    for test, treated_rate, allowed in ((is_worse, base, 0.0), (is_not_worse, base - margin, margin)):
        mean = math.fsum(
            chance_a * chance_b * math.exp(test(Arm(n=sizes[0], successes=a), Arm(n=sizes[1], successes=b), allowed))
            for a, chance_a in enumerate(_binomial(sizes[0], treated_rate))
            for b, chance_b in enumerate(_binomial(sizes[1], base))
        )
        assert mean <= 1 + 1e-9


def _binomial(n: int, rate: float) -> list[float]:
    return [math.comb(n, k) * rate**k * (1 - rate) ** (n - k) for k in range(n + 1)]


def test_two_arms_by_hand() -> None:
    # One success against one failure: the hypothesis allows p (1 - p) at most, a quarter.
    # A control that always wins, n = 1 each, margin 0: numerator is the mean over gaps of the mean of (1 - a) b.
    rates = [(k + 0.5) / 1000 for k in range(1000)]
    mean = sum((1 - max(0.0005, b - gap)) * b for gap in (0.01, 0.03, 0.1, 0.3) for b in rates) / 4000
    got = is_worse(Arm(n=1, successes=0), Arm(n=1, successes=1))
    assert math.exp(got) == pytest.approx(mean / 0.25)
    assert is_worse(Arm(), Arm()) == pytest.approx(0.0)
    assert is_not_worse(Arm(), Arm(), 0.1) == pytest.approx(0.0)


@given(st.integers(0, 300), st.integers(0, 300), st.data())
@settings(max_examples=60, deadline=None)
def test_one_more_canary_success_never_makes_it_look_worse(n: int, m: int, data: st.DataObject) -> None:
    k, j = data.draw(st.integers(0, n)), data.draw(st.integers(0, m))
    control = Arm(n=m, successes=j)
    if k < n and is_worse(Arm(n=n, successes=k + 1), control) >= needed(0.2):
        assert is_worse(Arm(n=n, successes=k), control) >= is_worse(Arm(n=n, successes=k + 1), control)


def test_a_canary_that_is_no_worse_is_rarely_called_worse() -> None:
    """200 canaries looked at every 100 of 2,000 episodes; at 5 % more than 21 would have a chance below 0.1 %."""
    wrong = 0
    for seed in range(200):
        random = np.random.default_rng(seed)
        treated, success = random.random(2000) < 0.2, random.random(2000) < np.linspace(0.9, 0.4, 2000)
        wrong += any(
            is_worse(_arm(success[:n][treated[:n]]), _arm(success[:n][~treated[:n]])) >= needed(0.05)
            for n in range(100, 2001, 100)
        )
    assert wrong <= 21


def _arm(successes: np.ndarray) -> Arm:
    return Arm(n=len(successes), successes=int(successes.sum()))


# --- assignment -----------------------------------------------------------------------------------------------------


@given(st.text(max_size=30), st.text(max_size=8), st.floats(0, 1), st.floats(0, 1))
def test_an_episode_that_is_in_stays_in_as_the_share_grows(episode: str, salt: str, one: float, other: float) -> None:
    low, high = sorted((one, other))
    if assign(episode, Stage.CANARY, low, salt) is Route.CASCADE:
        assert assign(episode, Stage.CANARY, high, salt) is Route.CASCADE
        assert assign(episode, Stage.LIVE, high, salt) is Route.CASCADE
    assert assign(episode, Stage.CANARY, 1.0, salt) is Route.CASCADE
    assert assign(episode, Stage.CANARY, 0.0, salt) is not Route.CASCADE
    assert assign(episode, Stage.SHADOW, 1.0, salt) is Route.SHADOW


@pytest.mark.parametrize("share", [0.01, 0.05, 0.5, 0.98])
@pytest.mark.parametrize("salt", ["", "a", "b"])
def test_shares_are_what_they_should_be(share: float, salt: str) -> None:
    """20,000 consecutive ids, within four and a half standard deviations of the binomial."""
    n = 20_000
    got = sum(assign(f"episode-{k}", Stage.CANARY, share, salt) is Route.CASCADE for k in range(n))
    assert abs(got - n * share) <= 4.5 * math.sqrt(n * share * (1 - share))


def test_draws_for_other_purposes_and_salts_are_independent() -> None:
    n = 20_000
    ids = [str(k) for k in range(n)]
    both = sum(drawn(i, 0.5, "", "canary") and drawn(i, 0.5, "", "shadow") for i in ids)
    salts = sum(drawn(i, 0.5, "a", "canary") and drawn(i, 0.5, "b", "canary") for i in ids)
    for count in (both, salts):
        assert abs(count - n / 4) <= 4.5 * math.sqrt(n * 0.25 * 0.75)


def test_the_assignment_is_the_same_on_every_machine() -> None:
    got = "".join("x" if assign(f"episode-{k}", Stage.CANARY, 0.5, "salt") is Route.CASCADE else "." for k in range(16))
    assert got == EXPECTED


EXPECTED = "xx....x.xx.x.xx."
