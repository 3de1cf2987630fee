"""What a bullet does to success: with it less without it, among trials, with an interval that holds whenever one looks.

In a trial the bullet is shown or withheld by lot, ``Z = 1`` or ``0`` with probability 1/2, and the episode succeeds or
not, ``Y = 1`` or ``0``. For any number ``m`` in (0, 1)

    X = 2 (2 Z - 1) (Y - m)

has the bullet's effect in that episode as its mean: the probability of success if shown less that if withheld, given
all that was before (inverse-probability weighting with a baseline ``m``, as Howard, Ramdas, McAuliffe and Sekhon do
for treatment effects, arXiv 1810.08240). So betting ``b`` on "X is less than d" multiplies a stake by
``1 - b (X - d)``, which is a losing game while the effect is ``d`` or more. Stakes are spread over five baselines and
six sizes of bets, fixed beforehand; what they have become is an e-value (Waudby-Smith and Ramdas, arXiv 2010.09686,
section 4): it reaches ``1 / alpha`` with probability at most ``alpha``, however often one looks (Ville's inequality).
The interval is all d that neither direction has refuted at ``alpha / 2``.

What it needs: lots with this probability, independent of everything before. What it does not need: that all episodes
succeed with the same probability. Tasks may get harder and the rest of the book may change; the interval is for an
effect that stays the same meanwhile, and the statement "no effect" is tested for any course of events. Only four
counts enter, so the order of the episodes does not matter.

``Newcombe``'s interval stands beside it as a description: it holds at one look that was fixed beforehand, and for
episodes that are alike.

What it knows: counts. What it does not do: many bullets at once (``multiple``), decisions (``decide``).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from potstill.decide.evidence import Arm, needed
from potstill.measure.statistics import Interval, check_confidence, wilson
from potstill.types import Struct

Floats = NDArray[np.float64]

_BASELINES_M = np.array([0.1, 0.3, 0.5, 0.7, 0.9])
_SIZES_F = 0.5 ** np.arange(6)
"""Bets as shares of the largest one that never loses everything, whatever d in [-1, 1] is tested."""
_FARTHEST_M = 2.0 * np.maximum(_BASELINES_M, 1.0 - _BASELINES_M)
_BETS_K = (1.0 - 1e-12) * (_SIZES_F[None, :] / (1.0 + _FARTHEST_M[:, None])).ravel()
_BASELINES_K = np.repeat(_BASELINES_M, len(_SIZES_F))
_X_4K = np.stack([2.0 * sign * (y - _BASELINES_K) for sign in (1.0, -1.0) for y in (1.0, 0.0)])
"""X of the four kinds of episodes: shown and succeeded, shown and failed, withheld and succeeded, and failed."""
_HALVINGS = 30
_BLOCK = 2048
"""Bullets at a time."""
_UNEVEN = 0.01
"""Level at which lots are said not to be even."""


class Trials(Struct, frozen=True, kw_only=True):
    """Trials with a known outcome in which a bullet was shown, and in which it was withheld."""

    shown: Arm = Arm()
    withheld: Arm = Arm()

    @property
    def n(self) -> int:
        return self.shown.n + self.withheld.n


class Effect(Struct, frozen=True, kw_only=True):
    """What is known of a bullet's effect on success, in shares of episodes (0.1: ten in a hundred more succeed)."""

    trials: Trials
    difference: float | None = None
    """Share of successes with it less that without it; None where one of the two is empty."""
    interval: Interval = (-1.0, 1.0)
    """Holds at all looks together with the confidence that was asked for."""
    fixed_interval: Interval | None = None
    """Newcombe's: only as a description."""
    log_harm: float = 0.0
    """Natural logarithm of the e-value against "it does no harm"."""
    log_help: float = 0.0
    """And against "it is no help"."""
    uneven: bool = False
    """It was shown much more often than withheld, or less: outcomes are missing in one arm or the lots are not even.
    Then the comparison means nothing."""


def effects(trials: Sequence[Trials], alpha: float = 0.05) -> list[Effect]:
    """The effect of each bullet by itself: each interval misses its effect, at any look, with probability ``alpha``."""
    check_confidence(1.0 - alpha)
    lows, highs = intervals(trials, alpha)
    harms, helps = log_evidence(trials, 0.0, -1), log_evidence(trials, 0.0, 1)
    return [
        _effect(one, (float(low), float(high)), float(harm), float(help), alpha)
        for one, low, high, harm, help in zip(trials, lows, highs, harms, helps, strict=True)
    ]


def _effect(trials: Trials, interval: Interval, harm: float, help: float, alpha: float) -> Effect:
    """Where every effect is refuted, it is the lots that are: then nothing is said of the effect."""
    empty = interval[0] > interval[1]
    return Effect(
        trials=trials,
        difference=difference(trials),
        interval=(-1.0, 1.0) if empty else interval,
        fixed_interval=newcombe(trials.shown, trials.withheld, 1.0 - alpha),
        log_harm=harm,
        log_help=help,
        uneven=empty or uneven(trials),
    )


def effect(trials: Trials, alpha: float = 0.05) -> Effect:
    """The same for one.

    One success with the bullet: X is 2 (1 - m), and the largest bet 1 / (1 + 2 max(m, 1 - m)). Bets on "more than 0"
    gain 0.4095238 at full size on the mean of the baselines, and 63/192 of it on the mean of the sizes:

    >>> once = effect(Trials(shown=Arm(n=1, successes=1)))
    >>> round(math.exp(once.log_help), 6), round(math.exp(once.log_harm), 6)
    (1.134375, 0.865625)
    """
    return effects([trials], alpha)[0]


def log_evidence(trials: Sequence[Trials], at: float, direction: int) -> Floats:
    """Natural logarithms of e-values, one for each bullet: with ``direction`` -1 against "the effect is ``at`` or
    more", with +1 against "it is ``at`` or less". Raises ``ValueError`` for an ``at`` outside [-1, 1]."""
    if not -1.0 <= at <= 1.0:
        raise ValueError(f"an effect of {at}; allowed: -1 to 1")
    counts_B4 = _counts(trials)
    return _in_blocks(counts_B4, np.full(len(counts_B4), at), direction)


def intervals(trials: Sequence[Trials], alpha: float) -> tuple[Floats, Floats]:
    """Lower and upper bounds. A bound is the outermost effect that is refuted at ``alpha / 2``, from outside."""
    counts_B4, proof = _counts(trials), needed(alpha / 2.0)
    return _bound(counts_B4, proof, 1), _bound(counts_B4, proof, -1)


def _bound(counts_B4: Floats, proof: float, direction: int) -> Floats:
    """By bisection: evidence against effects on the far side of ``at`` only grows with their distance."""
    refuted_B = np.full(len(counts_B4), -float(direction))
    stands_B = np.full(len(counts_B4), float(direction))
    for _ in range(_HALVINGS):
        middle_B = 0.5 * (refuted_B + stands_B)
        beyond_B = _in_blocks(counts_B4, middle_B, direction) >= proof
        refuted_B = np.where(beyond_B, middle_B, refuted_B)
        stands_B = np.where(beyond_B, stands_B, middle_B)
    return refuted_B


def _in_blocks(counts_B4: Floats, at_B: Floats, direction: int) -> Floats:
    parts = [
        _log_mean(counts_B4[start : start + _BLOCK], at_B[start : start + _BLOCK], direction)
        for start in range(0, len(counts_B4), _BLOCK)
    ]
    return np.concatenate(parts) if parts else np.zeros(0)


def _log_mean(counts_B4: Floats, at_B: Floats, direction: int) -> Floats:
    """log of the mean over bets and baselines of the product over episodes of ``1 + direction b (X - at)``."""
    gains_B4K = direction * _BETS_K * (_X_4K[None] - at_B[:, None, None])
    logs_BK = np.einsum("bi,bik->bk", counts_B4, np.log1p(gains_B4K))
    top_B = logs_BK.max(axis=1)
    found_B: Floats = top_B + np.log(np.exp(logs_BK - top_B[:, None]).mean(axis=1))
    return found_B


def _counts(trials: Sequence[Trials]) -> Floats:
    arms = [(arm.successes, arm.n - arm.successes) for one in trials for arm in (one.shown, one.withheld)]
    return np.array(arms, dtype=np.float64).reshape(len(trials), 4)


# --- beside it ------------------------------------------------------------------------------------------------------


def difference(trials: Trials) -> float | None:
    """Share of successes shown less withheld."""
    if not trials.shown.n or not trials.withheld.n:
        return None
    return trials.shown.successes / trials.shown.n - trials.withheld.successes / trials.withheld.n


def newcombe(first: Arm, second: Arm, confidence: float = 0.95) -> Interval | None:
    """Interval of a difference of two independent shares from Wilson's of each (Newcombe 1998, Stat. Med. 17:873,
    method 10). None where one is empty. For one look only.

    >>> [round(bound, 4) for bound in newcombe(Arm(n=70, successes=56), Arm(n=80, successes=48))]
    [0.0524, 0.3339]
    """
    one, other = (wilson(arm.successes, arm.n, confidence) for arm in (first, second))
    if one is None or other is None:
        return None
    share, against = first.successes / first.n, second.successes / second.n
    low = share - against - math.hypot(share - one[0], other[1] - against)
    high = share - against + math.hypot(one[1] - share, against - other[0])
    return max(-1.0, low), min(1.0, high)


def uneven(trials: Trials) -> bool:
    """Whether shown and withheld are not explained by even lots, at any look, at level 0.01.

    The e-value of a uniform mixture of all other chances, 2^n / ((n + 1) C(n, shown)). A bullet that is shown in 9 of
    10 trials with an outcome tells of something else than its effect: of outcomes that come in only where it was
    shown, or of episodes that would never have been shown it.

    >>> [uneven(Trials(withheld=Arm(n=n))) for n in (9, 10)]   # 512 / 10 and 1,024 / 11
    [False, False]
    >>> uneven(Trials(withheld=Arm(n=11)))   # 2,048 / 12
    True
    """
    shown, n = trials.shown.n, trials.n
    ways = math.lgamma(n + 1) - math.lgamma(shown + 1) - math.lgamma(n - shown + 1)
    return n * math.log(2.0) - math.log(n + 1) - ways >= needed(_UNEVEN)
