"""Evidence from counts that may be looked at after every episode: e-values for one rate and for two arms.

An e-value is the stake of a fair (or losing) bet against a hypothesis: if the hypothesis is true it ever reaches
``1 / alpha`` with probability at most ``alpha``, whenever one looks (Ville's inequality; Waudby-Smith and Ramdas, arXiv
2010.09686, section 4). All values are natural logarithms: ``needed(alpha)`` is proof at level ``alpha``.

What it knows: counts of episodes. What it does not do: streams whose rate changes (``drift``), or the fixed sample of a
calibration (``bounds``, which is tighter because it looks once).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from potstill.types import Struct

_FEWER = (0.0, 0.1, 0.25, 0.5, 0.75)
_MORE = (1.25, 1.5, 2.0, 4.0, 8.0)
"""Alternatives, as multiples of the limit, that share the stake equally."""
_WORSE = (0.01, 0.03, 0.1, 0.3)
"""Alternatives of a worse arm: how far beyond the margin it lies."""
_NO_WORSE = (-0.5, 0.0, 0.5)
"""Alternatives of an arm that is no worse: its distance from the control, in margins."""
_RATES = 1000
"""Success rates of the control that the comparison averages over."""
_GOLDEN = (math.sqrt(5.0) - 1.0) / 2.0


class Arm(Struct, frozen=True, kw_only=True):
    """Episodes of one arm that ended with a known outcome."""

    n: int = 0
    successes: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.successes <= self.n:
            raise ValueError(f"{self.successes} successes in {self.n} episodes")


def needed(alpha: float) -> float:
    """The log evidence that proves at level ``alpha``.

    >>> round(needed(0.05), 3)
    2.996
    """
    return math.log(1.0 / alpha)


# --- one rate -------------------------------------------------------------------------------------------------------


def rate_is_below(events: int, trials: int, limit: float) -> float:
    """Log evidence against "events come at a rate of ``limit`` or more".

    A mixture of likelihood ratios of smaller rates to the limit; under a larger rate each shrinks faster still.

    >>> round(rate_is_below(0, 1, 0.5), 4)   # (1 / .5 + .95 / .5 + .875 / .5 + .75 / .5 + .625 / .5) / 5 = 1.68
    0.5188
    """
    return _mixture(events, trials, limit, [limit * part for part in _FEWER])


def rate_is_above(events: int, trials: int, limit: float) -> float:
    """Log evidence against "events come at a rate of ``limit`` or less"."""
    return _mixture(events, trials, limit, [min(limit * part, (1.0 + limit) / 2.0) for part in _MORE])


def _mixture(events: int, trials: int, limit: float, rates: Sequence[float]) -> float:
    if not 0 <= events <= trials:
        raise ValueError(f"{events} events in {trials} trials")
    if not 0.0 < limit < 1.0:
        raise ValueError(f"a limit of {limit} leaves nothing to test; allowed: above 0 and below 1")
    null = _log_likelihood(events, trials, limit)
    return _log_mean([_log_likelihood(events, trials, rate) - null for rate in rates])


def _log_likelihood(events: int, trials: int, rate: float) -> float:
    """Log-probability of one sequence with these counts; minus infinity where the rate rules it out."""
    if (events and rate <= 0.0) or (events < trials and rate >= 1.0):
        return -math.inf
    if events == trials:
        return events * math.log(rate) if events else 0.0
    return (events * math.log(rate) if events else 0.0) + (trials - events) * math.log1p(-rate)


def _log_mean(logs: Sequence[float]) -> float:
    top = max(logs)
    if top == -math.inf:
        return top
    return top + math.log(math.fsum(math.exp(one - top) for one in logs) / len(logs))


# --- two arms -------------------------------------------------------------------------------------------------------


def is_worse(treated: Arm, control: Arm, margin: float = 0.0) -> float:
    """Log evidence against "the treated succeed at least as often as the control less ``margin``".

    The numerator is the likelihood averaged over pairs of rates with the treated worse by more than the margin, the
    denominator the largest likelihood that the hypothesis allows (Wasserman, Ramdas and Balakrishnan, arXiv 1912.11436,
    sections 1 and 8). It looks at success within each arm only: outcomes that are missing more often in one arm, or
    that come in late, do not count against it as long as missing has nothing to do with success.
    """
    return _averaged(treated, control, [-margin - gap for gap in _WORSE]) - _likeliest(treated, control, margin, 1)


def is_not_worse(treated: Arm, control: Arm, margin: float) -> float:
    """Log evidence against "the treated succeed ``margin`` less often than the control, or less" (non-inferiority)."""
    return _averaged(treated, control, [margin * part for part in _NO_WORSE]) - _likeliest(treated, control, margin, -1)


def _averaged(treated: Arm, control: Arm, gaps: Sequence[float]) -> float:
    """log of the likelihood averaged over the control's rate (uniform) and the treated's distance from it."""
    rate_R = (np.arange(_RATES) + 0.5) / _RATES
    treated_GR = np.clip(rate_R[None, :] + np.asarray(gaps)[:, None], 0.5 / _RATES, 1 - 0.5 / _RATES)
    logs_GR = _likelihoods(treated, treated_GR) + _likelihoods(control, rate_R)[None, :]
    top = float(logs_GR.max())
    return top + math.log(float(np.exp(logs_GR - top).mean()))


def _likelihoods(arm: Arm, rates: NDArray[np.float64]) -> NDArray[np.float64]:
    logs: NDArray[np.float64] = arm.successes * np.log(rates) + (arm.n - arm.successes) * np.log1p(-rates)
    return logs


def _likeliest(treated: Arm, control: Arm, margin: float, sign: int) -> float:
    """Largest log-likelihood with ``sign * (treated rate - control rate + margin) >= 0``."""
    if not 0.0 <= margin < 1.0:
        raise ValueError(f"a margin of {margin}; allowed: 0 or more, below 1")
    rate = [arm.successes / arm.n if arm.n else None for arm in (treated, control)]
    best = sum(
        _log_likelihood(arm.successes, arm.n, one)
        for arm, one in zip((treated, control), rate, strict=True)
        if one is not None
    )
    if rate[0] is None or rate[1] is None or sign * (rate[0] - rate[1] + margin) >= 0.0:
        return best
    return _on_the_boundary(treated, control, margin)


def _on_the_boundary(treated: Arm, control: Arm, margin: float) -> float:
    """Golden-section search for the top of the concave likelihood along treated rate = control rate - margin."""

    def value(rate: float) -> float:
        return _log_likelihood(treated.successes, treated.n, rate - margin) + _log_likelihood(
            control.successes, control.n, rate
        )

    low, high = margin, 1.0
    for _ in range(60):
        left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
        if value(left) < value(right):
            low = left
        else:
            high = right
    return max(value(rate) for rate in (low, 0.5 * (low + high), high, margin, 1.0))
