"""What the intervals and the policy promise, held against simulated episodes that are looked at again and again."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from potstill.decide.bounds import clopper_pearson
from potstill.decide.evidence import Arm, needed
from potstill.distill.playbook.credit.decide import Act, CreditPlan, decide
from potstill.distill.playbook.credit.effect import Trials, log_evidence, newcombe
from potstill.distill.playbook.credit.multiple import Errors
from potstill.distill.playbook.credit.tally import Tally
from potstill.distill.playbook.credit.use import Use
from potstill.distill.playbook.operations import Bullet, Stage

ALPHA = 0.05
FEW_AND_MANY = [150, pytest.param(3000, marks=pytest.mark.slow)]
Rates = Callable[[np.ndarray], np.ndarray]


def steady(rate: float) -> Rates:
    return lambda times_T: np.full(len(times_T), rate)


def falling(times_T: np.ndarray) -> np.ndarray:
    """The tasks get harder: .8 at first, .3 at last."""
    return np.linspace(0.8, 0.3, len(times_T))


def in_waves(times_T: np.ndarray) -> np.ndarray:
    return 0.5 + 0.35 * np.sin(times_T / 40.0)


def looks(streams: int, n: int, without: Rates, effect: float, seed: int = 0) -> list[list[Trials]]:
    """Of each stream, what is known at every tenth trial."""
    random = np.random.default_rng(seed)
    rates_T = without(np.arange(n))
    lots_ST = random.random((streams, n)) < 0.5
    wins_ST = random.random((streams, n)) < np.where(lots_ST, rates_T + effect, rates_T)
    kinds = (lots_ST & wins_ST, lots_ST, ~lots_ST & wins_ST, ~lots_ST)
    counts_ST4 = np.stack([np.cumsum(kind, axis=1) for kind in kinds], axis=2)[:, 9::10]
    return [
        [Trials(shown=Arm(n=n1, successes=s1), withheld=Arm(n=n0, successes=s0)) for s1, n1, s0, n0 in stream]
        for stream in counts_ST4.tolist()
    ]


def missed(seen: list[list[Trials]], effect: float) -> int:
    """Streams in which the interval excludes the effect at any look."""
    proof = needed(ALPHA / 2)
    flat = [one for stream in seen for one in stream]
    out = (log_evidence(flat, effect, 1) >= proof) | (log_evidence(flat, effect, -1) >= proof)
    return int(out.reshape(len(seen), -1).any(axis=1).sum())


@pytest.mark.parametrize("streams", FEW_AND_MANY)
@pytest.mark.parametrize(
    ("without", "effect"),
    [
        (steady(0.5), 0.0),
        (steady(0.9), 0.0),
        (steady(0.5), -0.2),
        (steady(0.05), 0.3),
        (falling, 0.0),
        (falling, 0.15),
        (in_waves, -0.1),
    ],
    ids=["half", "easy", "harm", "help", "harder", "harder-with-help", "waves-with-harm"],
)
def test_the_interval_holds_at_all_looks_together(streams: int, without: Rates, effect: float) -> None:
    wrong = missed(looks(streams, 500, without, effect, seed=streams), effect)
    assert clopper_pearson(wrong, streams, 0.999)[0] <= ALPHA


def test_a_fixed_time_interval_does_not() -> None:
    """What the anytime interval is for: Newcombe's, looked at every ten trials, errs far more often than it says."""
    seen = looks(150, 500, steady(0.5), 0.0)
    wrong = 0
    for stream in seen:
        found = [newcombe(one.shown, one.withheld, 1 - ALPHA) for one in stream]
        wrong += any(one is not None and not one[0] <= 0.0 <= one[1] for one in found)
    assert clopper_pearson(wrong, len(seen), 0.999)[0] > 2 * ALPHA


def test_effects_that_are_there_are_found() -> None:
    """An effect of .3 within 500 trials, nearly always."""
    seen = looks(100, 500, steady(0.65), -0.3, seed=1)
    last = [stream[-1] for stream in seen]
    assert (log_evidence(last, 0.0, -1) >= needed(ALPHA / 2)).mean() > 0.9


# --- the policy -----------------------------------------------------------------------------------------------------


def retired(effects_B: np.ndarray, base: float, plan: CreditPlan, seed: int, flipped: float = 0.0) -> set[int]:
    """Bullets that are retired within 400 trials, looked at every 20 of them; all begin live."""
    random = np.random.default_rng(seed)
    bullets = {
        f"b-{n + 1}": Bullet(id=f"b-{n + 1}", number=n + 1, section="s", content="x", stage=Stage.LIVE)
        for n in range(len(effects_B))
    }
    tally, gone = Tally(), set[int]()
    for trial in range(1, 401):
        lots_B = random.random(len(effects_B)) < 0.5
        live = [n for n in range(len(effects_B)) if n not in gone]
        rate = base + sum(effects_B[n] for n in live if lots_B[n])
        success = bool(random.random() < rate) != bool(random.random() < flipped)
        shown, withheld = (tuple(f"b-{n + 1}" for n in live if lots_B[n] == side) for side in (True, False))
        tally.add(Use(episode=str(trial), seq=trial, trial=True, shown=shown, withheld=withheld, success=success))
        if trial % 20 == 0:
            for one in decide(bullets, tally.counts(), {}, plan):
                if one.act is Act.QUARANTINE:
                    gone.add(bullets[one.id].number - 1)
    return gone


@pytest.mark.parametrize("runs", [6, pytest.param(150, marks=pytest.mark.full)])
@pytest.mark.parametrize("flipped", [0.0, 0.3])
def test_neutral_bullets_are_rarely_retired(runs: int, flipped: float) -> None:
    """Even where each bullet is judged by itself, and beside bullets that matter."""
    effects_B = np.array([0.0] * 8 + [0.15, -0.15])
    wrong = sum(
        len({n for n in retired(effects_B, 0.5, CreditPlan(errors=Errors.EACH), seed, flipped) if n < 8})
        for seed in range(runs)
    )
    assert clopper_pearson(wrong, 8 * runs, 0.999)[0] <= ALPHA / 2


def test_harmful_bullets_are_retired_and_helpful_ones_are_not() -> None:
    effects_B = np.array([-0.35, 0.0, 0.3])
    gone = [retired(effects_B, 0.5, CreditPlan(), seed) for seed in range(6)]
    assert sum(0 in one for one in gone) >= 5
    assert not any(2 in one for one in gone)
