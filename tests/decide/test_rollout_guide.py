"""The guide to rollouts: its code prints what it says, its tables are true, whole rollouts end where they should."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from potstill.decide import drift
from potstill.decide.assignment import Route, route
from potstill.decide.evidence import Arm, is_not_worse, is_worse, needed, rate_is_below
from potstill.decide.rollout import Evidence, RolloutPlan, RolloutReason, RolloutState, Stage, begin, step

GUIDE = (Path(__file__).parents[2] / "docs" / "guides" / "rollout.md").read_text(encoding="utf-8")
PLAN = RolloutPlan(allowed_loss=0.02)


def test_the_examples_print_what_the_guide_says() -> None:
    names: dict[str, object] = {}
    code, said = (re.findall(rf"```{kind}\n(.*?)```", GUIDE, flags=re.DOTALL) for kind in ("python", "text"))
    assert len(code) == len(said) == 2
    for block, output in zip(code, said, strict=True):
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(block, names)  # noqa: S102 - the code is this repository's own guide
        assert printed.getvalue() == output


def first(proven: Callable[[int], float], level: float, low: int = 50) -> object:
    """About the least count that proves: whole successes make the evidence jump up and down a little."""
    high = 200_000
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if proven(middle) >= level else (middle + 1, high)
    return pytest.approx(low, rel=0.05)


def rows(title: str) -> list[list[int]]:
    lines = GUIDE.split(title)[1].strip().splitlines()
    table = [line for line in lines if line.startswith("|")][2:5]
    return [[int(cell.replace(",", "")) for cell in line.strip("| ").split("|")[1:]] for line in table]


def test_the_table_of_shadowed_units() -> None:
    level = needed(PLAN.alpha / (PLAN.max_step_backs + 1))
    for allowed, row in zip((0.02, 0.05, 0.1), rows("(with the default `alpha` and `max_step_backs`):"), strict=True):
        for part, said in zip((0.0, 0.25, 0.5), row, strict=True):
            assert said == first(lambda n, a=allowed, p=part: rate_is_below(round(n * p * a), n, a), level)  # type: ignore[misc]


def arms(n: int, share: float, success: float, control: float) -> tuple[Arm, Arm]:
    others = round(n * (1 - share) / share)
    return Arm(n=n, successes=round(success * n)), Arm(n=others, successes=round(control * others))


def test_the_table_of_canary_episodes() -> None:
    level = needed(PLAN.alpha / (PLAN.max_step_backs + 1))
    steps = ((0.05, 0.15), (0.2, 0.15), (0.5, 0.05))
    for (share, margin), row in zip(steps, rows("exactly as often as its control:"), strict=True):
        for success, said in zip((0.6, 0.8, 0.95), row, strict=True):
            assert said == first(lambda n: is_not_worse(*arms(n, share, success, success), margin), level)  # noqa: B023


def test_how_soon_a_worse_canary_is_taken_back() -> None:
    level = needed(PLAN.alpha / ((len(PLAN.ladder) + 2) * (PLAN.max_step_backs + 1)))
    said = re.search(r"([\d,]+) for 5 points, (\d+) for 10, (\d+) for 20", " ".join(GUIDE.split()))
    assert said is not None
    for gap, number in zip((0.05, 0.1, 0.2), said.groups(), strict=True):
        assert int(number.replace(",", "")) == first(
            lambda n, g=gap: is_worse(*arms(n, 0.05, 0.8 - g, 0.8)),  # type: ignore[misc]
            level,
        )


# --- whole rollouts -------------------------------------------------------------------------------------------------


class Traffic:
    """Episodes of one student over time: who is served how, and what comes of it."""

    def __init__(self, student: Callable[[int], float], loss: float, disagreement: Callable[[int], float]) -> None:
        self.student, self.loss, self.disagreement = student, loss, disagreement
        self.random = np.random.default_rng(5)
        self.plan = RolloutPlan(allowed_loss=0.05, min_seconds=50.0, live_margin=0.1)
        self.state = begin(RolloutState(), 0.0)
        self.monitor = drift.start(drift.DriftPlan(allowed_rate=0.1))
        self.reasons: list[RolloutReason] = []

    def run(self, episodes: int) -> None:
        counts = np.zeros(6, dtype=int)
        for now in range(episodes):
            served = route(self.plan, self.state, f"episode-{now}")
            rate = self.student(now) if served is Route.CASCADE else 0.8
            won = self.random.random() < rate
            counts += [1, self.random.random() < self.loss, 0, 0, 0, 0]
            counts[2:] += [1, won, 0, 0] if served is Route.CASCADE else [0, 0, 1, won]
            self.monitor = drift.observe(self.monitor, bool(self.random.random() >= self.disagreement(now)))
            if now % 20:
                continue
            seen = Evidence(
                now=float(now),
                drift=drift.verdict(self.monitor),
                shadow_units=int(counts[0]),
                shadow_losses=int(counts[1]),
                canary=Arm(n=int(counts[2]), successes=int(counts[3])),
                control=Arm(n=int(counts[4]), successes=int(counts[5])),
            )
            decision = step(self.plan, self.state, seen)
            if decision.state.entered_at != self.state.entered_at:
                counts[:] = 0
                self.reasons.append(decision.reason)
            self.state = decision.state


def test_a_good_student_goes_live() -> None:
    traffic = Traffic(student=lambda now: 0.8, loss=0.01, disagreement=lambda now: 0.07)
    traffic.run(15_000)
    assert traffic.state.stage is Stage.LIVE
    assert set(traffic.reasons) == {RolloutReason.PROVEN}


def test_a_student_that_loses_too_much_never_leaves_shadow() -> None:
    traffic = Traffic(student=lambda now: 0.5, loss=0.06, disagreement=lambda now: 0.07)
    traffic.run(5_000)
    assert (traffic.state.stage, traffic.reasons) == (Stage.SHADOW, [])


def test_a_canary_that_disappoints_ends_in_shadow_until_it_is_calibrated_again() -> None:
    traffic = Traffic(student=lambda now: 0.3, loss=0.01, disagreement=lambda now: 0.07)
    traffic.run(30_000)
    assert (traffic.state.stage, traffic.state.needs_calibration) == (Stage.SHADOW, True)
    assert traffic.reasons.count(RolloutReason.CANARY_WORSE) == PLAN.max_step_backs + 1


@pytest.mark.parametrize("onset", [11_000])
def test_drift_takes_a_live_student_back(onset: int) -> None:
    traffic = Traffic(student=lambda now: 0.8, loss=0.01, disagreement=lambda now: 0.07 if now < onset else 0.3)
    traffic.run(onset + 500)
    assert traffic.state.stage is Stage.SHADOW
    assert traffic.reasons[-1] is RolloutReason.DRIFT_ALARM
    assert onset < traffic.state.entered_at < onset + 300
