"""Finite-sample bounds for a loss rate: exact binomial tests, and betting tests where a task's loss is a share.

What it knows: counts and arrays. What it does not do: tasks, models or prices. Nothing here is asymptotic: each p-value
is at most ``alpha`` with probability at most ``alpha`` for every ``n`` if the rate is not below what is allowed. Only
``needed_*`` are estimates. ``n`` may be a million: a tail is summed from its largest term, outwards, until the rest
does not count.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

STAKES = ((0.25, 1 / 6), (0.5, 1 / 6), (0.75, 1 / 6), (1.0, 1 / 2))
"""What is bet, as shares of the most that can be lost, and how much of the capital bets so. Kelly's stake for losses at
the rate r where a is allowed is 1 - r/a. Half goes on the boldest one, so that a calibration without any loss needs
few tasks: ln(2/alpha)/a of them against the exact test's ln(1/alpha)/a."""

_BLOCK = 4096
_HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)
_MOST = 10**12
"""More tasks than anyone has: where more are needed, the answer is that no number would do."""


# --- binomial -------------------------------------------------------------------------------------------------------


def binomial_cdf(k: int, n: int, p: float) -> float:
    """P(X <= k) for X binomial(n, p), to about twelve digits. Raises ``ValueError`` for what is no distribution.

    >>> round(binomial_cdf(2, 10, 0.5), 7)   # (1 + 10 + 45) / 1024
    0.0546875
    """
    if n < 0 or not 0.0 <= p <= 1.0:
        raise ValueError(f"no binomial distribution with n={n}, p={p}")
    if k < 0:
        return 0.0
    if k >= n or p == 0.0:
        return 1.0
    if p == 1.0:
        return 0.0
    if k <= n * p:
        return min(1.0, _tail(k, n, p, 1.0 - p))
    return max(0.0, 1.0 - _tail(n - k - 1, n, 1.0 - p, p))


def _tail(k: int, n: int, p: float, q: float) -> float:
    """Sum of the terms k, k-1, ... 0, which fall from the first one on where k <= n p (or nearly); q is 1 - p."""
    odds = q / p
    total, term, top = 0.0, 1.0, k
    while True:
        steps = np.arange(top, max(0, top - _BLOCK), -1, dtype=np.float64)
        terms = term * np.concatenate(([1.0], np.cumprod(steps / (n - steps + 1.0) * odds)))
        total += float(terms[:-1].sum())
        term, top = float(terms[-1]), top - len(steps)
        if top == 0 or term < total * 1e-18:
            return (total + term) * math.exp(_log_mass(k, n, p, q))


def _log_mass(k: int, n: int, p: float, q: float) -> float:
    """ln P(X = k) by Loader's saddle-point form ("Fast and accurate computation of binomial probabilities", 2000)."""
    if k == 0:
        return n * (math.log1p(-p) if p < 0.5 else math.log(q))
    if k == n:
        return n * math.log(p)
    rest = _stirling_error(n) - _stirling_error(k) - _stirling_error(n - k)
    deviance = _deviance(k, n * p) + _deviance(n - k, n * q)
    return rest - deviance - _HALF_LOG_2PI - 0.5 * (math.log(k) + math.log1p(-k / n))


def _stirling_error(n: int) -> float:
    """ln n! less Stirling's formula."""
    if n <= 15:
        return math.lgamma(n + 1) - (n + 0.5) * math.log(n) + n - _HALF_LOG_2PI
    square = n * n
    return (1 / 12 - (1 / 360 - (1 / 1260 - 1 / 1680 / square) / square) / square) / n


def _deviance(x: float, mean: float) -> float:
    """x ln(x / mean) + mean - x without cancellation where x is near the mean."""
    if abs(x - mean) >= 0.1 * (x + mean):
        return x * math.log(x / mean) + mean - x
    ratio = (x - mean) / (x + mean)
    total, power, odd = (x - mean) * ratio, 2 * x * ratio, 1
    while True:
        power *= ratio * ratio
        odd += 2
        if total + power / odd == total:
            return total
        total += power / odd


def binomial_p_value(losses: int, n: int, allowed: float) -> float:
    """p-value of "the loss rate is at least ``allowed``": the chance of so few losses in ``n`` if it just is.

    The exact test of Learn-then-Test for 0/1 losses (arXiv 2110.01052, section 3). Without losses it is
    (1 - allowed)^n:

    >>> [round(binomial_p_value(0, n, 0.02), 4) for n in (148, 149)]
    [0.0503, 0.0493]
    """
    return binomial_cdf(losses, n, allowed)


def clopper_pearson_upper(losses: int, n: int, confidence: float = 0.95) -> float:
    """The one-sided upper bound of Clopper and Pearson (1934): the rate at which so few losses have p = 1 - confidence.

    >>> round(clopper_pearson_upper(0, 149), 5)   # 1 - 0.05^(1/149)
    0.0199
    """
    _counts(losses, n)
    if losses == n:
        return 1.0
    alpha = 1.0 - confidence
    if losses == 0:
        return -math.expm1(math.log(alpha) / n)
    return _root(lambda p: binomial_cdf(losses, n, p) <= alpha, losses / n, 1.0)


def clopper_pearson(successes: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """The two-sided exact interval of a share.

    >>> [round(bound, 4) for bound in clopper_pearson(8, 10)]
    [0.4439, 0.9748]
    """
    one_sided = 0.5 + confidence / 2
    return (
        1.0 - clopper_pearson_upper(n - successes, n, one_sided),
        clopper_pearson_upper(successes, n, one_sided),
    )


def _counts(k: int, n: int) -> None:
    if not 0 <= k <= n:
        raise ValueError(f"{k} in {n} trials")


def _root(beyond: Callable[[float], bool], low: float, high: float) -> float:
    """The least value at which the monotone predicate ``beyond`` holds, from above, to full precision."""
    for _ in range(200):
        middle = 0.5 * (low + high)
        if middle in (low, high):
            break
        if beyond(middle):
            high = middle
        else:
            low = middle
    return high


def needed_binomial(rate: float, allowed: float, confidence: float = 0.95, power: float = 0.8) -> int | None:
    """The least n at which the exact test certifies ``allowed`` with this power if losses come at ``rate``.

    ``None`` where no n would do (rate at or above what is allowed), or none that anyone has.

    >>> needed_binomial(0.0, 0.02), needed_binomial(0.02, 0.02)
    (149, None)
    """
    if not 0.0 < allowed < 1.0 or rate >= allowed:
        return None
    alpha = 1.0 - confidence

    def least_n(losses: int) -> int:
        """The least n at which so many losses are few enough; the power falls from there to the next such n."""
        low, high = losses, max(1, losses)
        while binomial_cdf(losses, high, allowed) > alpha:
            low, high = high, high * 2
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if binomial_cdf(losses, middle, allowed) <= alpha else (middle, high)
        return high

    def enough(losses: int) -> bool:
        return binomial_cdf(losses, least_n(losses), rate) >= power

    low, high = -1, 0
    while not enough(high):
        low, high = high, 2 * high + 1
        if high > allowed * _MOST:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return least_n(high)


# --- betting --------------------------------------------------------------------------------------------------------


def betting_p_value(losses: ArrayLike, allowed: float, totals: ArrayLike | None = None) -> float:
    """p-value of "mean(losses) / mean(totals) is at least ``allowed``" for independent pairs 0 <= loss <= total <= 1.

    A bettor who puts the share f of what can be lost on fewer losses multiplies the capital by
    ``1 - f (loss - allowed total) / (1 - allowed)`` at each task; if the rate is not below ``allowed`` the expected
    capital never grows, so by Markov's inequality 1 / capital is a p-value. The capital is spread over a few constant
    stakes (``STAKES``; the diversified bets of Waudby-Smith and Ramdas, arXiv 2010.09686): the order of the tasks then
    does not matter, and the p-value falls as ``allowed`` grows.

    >>> round(betting_p_value([0.0] * 200, 0.02), 4)
    0.0297
    """
    if not 0.0 < allowed < 1.0:
        return 1.0
    loss_N, total_N = _pairs(losses, totals)
    return min(1.0, math.exp(-_log_capital((loss_N - allowed * total_N) / (1.0 - allowed))))


def _pairs(losses: ArrayLike, totals: ArrayLike | None) -> tuple[Floats, Floats]:
    loss_N = np.asarray(losses, dtype=np.float64)
    total_N = np.ones_like(loss_N) if totals is None else np.asarray(totals, dtype=np.float64)
    fits = loss_N.shape == total_N.shape and loss_N.ndim == 1
    if not fits or np.any(loss_N < 0) or np.any(loss_N > total_N + 1e-12) or np.any(total_N > 1 + 1e-12):
        raise ValueError("losses and totals must be arrays of one length with 0 <= loss <= total <= 1")
    return loss_N, total_N


def _log_capital(excess_N: Floats) -> float:
    """ln of the final capital that started as 1; ``excess_N`` is at most 1."""
    with np.errstate(divide="ignore"):
        logs = [
            float(np.log1p(np.maximum(-stake * excess_N, -1.0)).sum()) + math.log(weight) for stake, weight in STAKES
        ]
    return float(np.logaddexp.reduce(logs))


def betting_upper(losses: ArrayLike, totals: ArrayLike | None = None, confidence: float = 0.95) -> float:
    """Upper bound of mean(losses) / mean(totals): the least rate that ``betting_p_value`` rejects; 1 if none."""
    loss_N, total_N = _pairs(losses, totals)
    alpha = 1.0 - confidence
    mean = float(total_N.sum())
    if mean <= 0:
        return 1.0
    return _root(lambda a: a >= 1.0 or betting_p_value(loss_N, a, total_N) <= alpha, float(loss_N.sum()) / mean, 1.0)


def needed_betting(
    losses: ArrayLike,
    allowed: float,
    totals: ArrayLike | None = None,
    confidence: float = 0.95,
    power: float = 0.8,
) -> int | None:
    """About how many tasks like these the betting test needs to certify ``allowed`` with this power.

    The log of the capital is a sum over tasks: each stake needs n with ``n g - z sqrt(n) s >= ln(1/(alpha weight))``
    from the mean g and the spread s of its growth here. ``None`` where no stake grows.
    """
    from statistics import NormalDist

    loss_N, total_N = _pairs(losses, totals)
    if not 0.0 < allowed < 1.0 or len(loss_N) == 0:
        return None
    excess_N = (loss_N - allowed * total_N) / (1.0 - allowed)
    z = NormalDist().inv_cdf(power)
    found = []
    for stake, weight in STAKES:
        growth_N = np.log1p(np.maximum(-stake * excess_N, -1.0 + 1e-9))
        mean, spread = float(growth_N.mean()), float(growth_N.std())
        if mean > 0:
            goal = math.log(1.0 / ((1.0 - confidence) * weight))
            root = (z * spread + math.sqrt(z * z * spread * spread + 4 * mean * goal)) / (2 * mean)
            found.append(math.ceil(root * root))
    least = min(found, default=_MOST)
    return least if least < _MOST else None
