"""Drift: does the student still agree with the teacher as often as when it was calibrated?

What it is: a test by betting that is valid at every moment. A random shadow sample of the student's decisions is also
answered by the teacher; each such pair moves a stake that cannot grow in expectation while the disagreement rate is at
most ``allowed_rate``. By Ville's inequality the stake ever reaches ``1 / alpha`` with probability at most ``alpha``,
however long the monitor runs and however often it is looked at (Waudby-Smith and Ramdas, arXiv 2010.09686, section 4).

What it knows: agreements, disagreements and their sampling weights. What it does not do: draw the shadow sample, call a
model, keep a clock, or decide about stages (``rollout`` does).

Why drift that comes late is found as fast as drift at the start: a stake that has been losing since the first
observation needs as long to recover. So the capital is spread over all possible times of change, one share ``w_j``
for each observation ``j``, all shares summing to 1; what has not started yet is cash. This is the e-detector of Shin,
Ramdas and Rinaldo (arXiv 2203.03532, section 2) with weights in place of the Shiryaev-Roberts sum, which keeps the
probability of *ever* raising a false alarm below ``alpha``; a Shiryaev-Roberts or CUSUM form would only bound the
average time between false alarms, and then every monitor that lives long enough cries wolf. With a fixed bet the
shares that have started have one factor in common, so their sum obeys ``R <- (R + w_t) * factor`` and all starts
together are one number for each bet. State and update are O(number of bets), whatever the number of observations: no
grid of restarts is needed.

Observations of one episode depend on one another, which the test allows as long as the rate given the past stays below
``allowed_rate``; where a bad episode brings many disagreements at once, observe one random decision of each episode.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from enum import StrEnum
from functools import lru_cache

import msgspec

from potstill.errors import ConfigError
from potstill.types import Struct

MOST_WEALTH = 1e300
"""Wealth is cut off here, so that the state is finite in JSON. Cutting only makes the test more cautious."""
_LARGEST_LOSS = 0.9
"""No single agreement may cost a bet more than this share of its stake."""


class DriftVerdict(StrEnum):
    """What the evidence says now."""

    STEADY = "steady"
    WATCH = "watch"
    """Evidence is gathering: escalate more, do not widen the rollout."""
    ALARM = "alarm"
    """The disagreement rate is above what was allowed. Stays until the monitor starts afresh after a calibration."""


class DriftPlan(Struct, frozen=True, kw_only=True):
    """What the monitor tests, fixed before the first observation.

    ``allowed_rate`` should be an upper confidence bound of the disagreement rate at calibration, not the rate itself:
    at exactly the measured rate, half of all perfectly steady students lie above it.
    """

    allowed_rate: float
    """Disagreement rate up to which nothing is wrong, in (0, 1)."""
    alpha: float = 0.05
    """Probability of ever raising an alarm while the rate is at most ``allowed_rate``."""
    watch_alpha: float = 0.2
    """The same for ``watch``, at least ``alpha``."""
    max_weight: float = 1.0
    """Largest weight that ``observe`` will be given: largest over smallest shadow share where shares vary."""
    bets: int = 8
    """Number of bets, spread geometrically from an increase by a quarter to nearly always disagreeing."""
    at_start: float = 0.2
    """Share of the capital that bets on drift from the first observation on: a calibration that never held."""
    patience: float = 1000.0
    """After three times so many observations half of the remaining capital has started to bet."""

    def __post_init__(self) -> None:
        _between("allowed_rate", self.allowed_rate, "--allowed-rate 0.05")
        _between("alpha", self.alpha, "--alpha 0.05")
        _between("watch_alpha", self.watch_alpha, "--watch-alpha 0.2")
        _between("at_start", self.at_start, "at_start=0.2")
        if self.watch_alpha < self.alpha:
            raise ConfigError(f"watch_alpha is {self.watch_alpha}; allowed: at least alpha, which is {self.alpha}")
        for name, value in (("max_weight", self.max_weight), ("bets", self.bets), ("patience", self.patience)):
            if not (math.isfinite(value) and value >= 1):
                raise ConfigError(
                    f"{name} is {value}; allowed: a finite number of 1 or more. Type for example: {name}=8"
                )


def _between(name: str, value: float, example: str) -> None:
    if not 0.0 < value < 1.0:
        raise ConfigError(f"{name} is {value}; allowed: above 0 and below 1. Type for example: {example}")


class DriftState(Struct, frozen=True, kw_only=True):
    """All that the monitor remembers; plain numbers, so that a gateway can keep it as JSON."""

    plan: DriftPlan
    n: int = 0
    """Observations so far."""
    disagreements: int = 0
    wealth: tuple[float, ...] = ()
    """One for each bet: what the capital that has started under it is worth, in units of that bet's own capital."""
    peak: float = 1.0
    """Largest evidence so far; the alarm looks at it, so that it stays."""


def start(plan: DriftPlan) -> DriftState:
    """A fresh monitor; call it again after every calibration."""
    return DriftState(plan=plan, wealth=(0.0,) * plan.bets)


def observe(state: DriftState, agreed: bool, weight: float = 1.0) -> DriftState:
    """The state after one shadow observation.

    ``weight`` is any constant over the probability with which this decision was drawn into the shadow sample; leave it
    at 1 where all are drawn with the same probability. The test bets on ``weight * (disagreed - allowed_rate)``, whose
    mean over the sample has the sign of the rate's excess over *all* decisions, whatever the constant. Raises
    ``ConfigError`` for a weight that is not in (0, ``max_weight``].
    """
    plan = state.plan
    if not 0.0 < weight <= plan.max_weight:
        raise ConfigError(
            f"The weight of a shadow observation is {weight}; allowed: above 0, at most max_weight {plan.max_weight}. "
            "Start the monitor with DriftPlan(max_weight=largest share / smallest share)."
        )
    gain = weight * ((0.0 if agreed else 1.0) - plan.allowed_rate)
    entering = unstarted(plan, state.n) - unstarted(plan, state.n + 1)
    wealth = tuple(
        min(MOST_WEALTH, (held + entering) * (1.0 + bet * gain))
        for held, bet in zip(state.wealth, bet_sizes(plan), strict=True)
    )
    after = DriftState(
        plan=plan,
        n=state.n + 1,
        disagreements=state.disagreements + (not agreed),
        wealth=wealth,
        peak=state.peak,
    )
    return msgspec.structs.replace(after, peak=max(state.peak, evidence(after)))


def observe_all(state: DriftState, agreed: Iterable[bool]) -> DriftState:
    """The state after several equally weighted observations, in their order."""
    for one in agreed:
        state = observe(state, one)
    return state


def evidence(state: DriftState) -> float:
    """How many times the capital has multiplied: below 1 nothing speaks for drift, at ``1 / alpha`` the alarm goes."""
    return math.fsum(state.wealth) / len(state.wealth) + unstarted(state.plan, state.n)


def verdict(state: DriftState) -> DriftVerdict:
    """Alarm stays once raised; watch comes and goes with the present evidence."""
    if state.peak >= 1.0 / state.plan.alpha:
        return DriftVerdict.ALARM
    return DriftVerdict.WATCH if evidence(state) >= 1.0 / state.plan.watch_alpha else DriftVerdict.STEADY


class Widening(Struct, frozen=True, kw_only=True):
    """How to act under the present evidence."""

    verdict: DriftVerdict
    threshold: float
    """The threshold to use in place of the calibrated one; never below it."""
    student_may_act: bool
    """False: everything goes to the teacher, whatever the score."""


def widen(state: DriftState, threshold: float, strictest: float = 1.0) -> Widening:
    """How much more to escalate.

    While the monitor watches, the threshold rises from the calibrated one to ``strictest`` with the logarithm of the
    evidence; at the alarm the student no longer acts. A stricter threshold acts on a part of the same decisions, so the
    loss that was certified can only shrink.
    """
    now = verdict(state)
    if now is DriftVerdict.STEADY:
        return Widening(verdict=now, threshold=threshold, student_may_act=True)
    if now is DriftVerdict.ALARM:
        return Widening(verdict=now, threshold=max(threshold, strictest), student_may_act=False)
    low, high = -math.log(state.plan.watch_alpha), -math.log(state.plan.alpha)
    part = 1.0 if high == low else min(1.0, (math.log(evidence(state)) - low) / (high - low))
    raised = threshold + (strictest - threshold) * part
    return Widening(verdict=now, threshold=max(threshold, raised), student_may_act=True)


# --- the bets and when they start -----------------------------------------------------------------------------------


@lru_cache(maxsize=64)
def bet_sizes(plan: DriftPlan) -> tuple[float, ...]:
    """Stakes per unit of ``disagreed - allowed_rate``, smallest first.

    Against a rate ``q`` the stake that grows fastest is ``(q - p) / (p (1 - p))`` with ``p = allowed_rate``. The grid
    runs from ``q = 1.25 p`` (or a quarter of the way to 1) to the largest stake that loses 90 % in one agreement.
    """
    rate = plan.allowed_rate
    largest = _LARGEST_LOSS / (rate * plan.max_weight)
    smallest = min(0.25 * min(rate, 1.0 - rate) / (rate * (1.0 - rate)), largest)
    if plan.bets == 1:
        return (math.sqrt(smallest * largest),)
    ratio = (largest / smallest) ** (1.0 / (int(plan.bets) - 1))
    return tuple(smallest * ratio**k for k in range(int(plan.bets)))


def unstarted(plan: DriftPlan, n: int) -> float:
    """Share of the capital that is still cash after ``n`` observations: 1 at first, falling to 0 as ``1 / sqrt(n)``.

    The square root is the slowest simple decay: a change at observation ``j`` is met by capital of the order of
    ``j ** -1.5``, which a logarithm turns into a small delay.
    """
    if n == 0:
        return 1.0
    return (1.0 - plan.at_start) * math.sqrt(plan.patience / (plan.patience + n - 1))
