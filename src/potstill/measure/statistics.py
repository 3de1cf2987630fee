"""Honest statistics for comparing arms: intervals for shares, ratios and paired differences.

What it knows: counts and arrays. What it does not do: trajectories or prices. All randomness comes from a seed given by
the caller; the bootstrap resamples whole tasks, because episodes of one task are not independent.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from potstill.errors import ConfigError

Floats = NDArray[np.float64]
Interval = tuple[float, float]
_CHUNK_CELLS = 1 << 17
"""Bootstrap draws are made in blocks of at most so many cells, 1 MiB: larger ones are no faster, and a gateway that
shows intervals would keep the memory of the largest."""
_MANY_TASKS = 2000
"""From here on drawing rows is faster than drawing their counts from the multinomial."""
_EXACT_FLIPS = 1000
"""Up to here McNemar's p-value is summed in whole numbers, beyond it in logarithms (to about 12 digits)."""


def normal_quantile(probability: float) -> float:
    """The standard normal quantile (1.959964 for 0.975)."""
    from statistics import NormalDist

    return NormalDist().inv_cdf(probability)


def wilson(successes: float, n: float, confidence: float = 0.95) -> Interval | None:
    """Wilson's score interval for a share (Wilson 1927, JASA 22:209). ``None`` if there are no trials.

    >>> [round(bound, 3) for bound in wilson(8, 10)]
    [0.49, 0.943]
    """
    if n == 0:
        return None
    if not 0 <= successes <= n * (1 + 1e-12):
        raise ValueError(f"{successes} successes in {n} trials")
    z = normal_quantile(0.5 + confidence / 2)
    share, square = min(1.0, successes / n), z * z / n
    centre = (share + square / 2) / (1 + square)
    half = z * math.sqrt(share * (1 - share) / n + square / (4 * n)) / (1 + square)
    low = 0.0 if successes == 0 else max(0.0, centre - half)
    high = 1.0 if share == 1.0 else min(1.0, centre + half)
    return low, high


def wilson_by_task(successes: Sequence[float], episodes: Sequence[float], confidence: float = 0.95) -> Interval | None:
    """Wilson's interval at the effective sample size of clustered trials; one entry for each task.

    The design effect is the cluster-robust variance of the share over the binomial one (Kish 1965; for Wilson's
    interval Dean and Pagano 2015, J. Surv. Stat. Methodol. 3:484), never taken below 1. Where every episode or none
    succeeds the variance says nothing: then a task counts as one trial. With one episode per task it is ``wilson``.
    """
    n, tasks = sum(episodes), len(episodes)
    if n == 0:
        return None
    share = sum(successes) / n
    if tasks < 2 or share in (0.0, 1.0):
        effective = float(tasks)
    else:
        squares = sum((s - share * m) ** 2 for s, m in zip(successes, episodes, strict=True))
        design = tasks / (tasks - 1) * squares / (n * share * (1 - share))
        effective = n / max(1.0, design) if n > tasks else float(n)
    return wilson(share * effective, effective, confidence)


def resample_sums(values_TK: Floats, samples: int, seed: int) -> Floats:
    """Sums of columns over bootstrap samples of rows: shape (samples, K) from tasks T by K quantities.

    Rows are drawn with replacement, T at a time. Drawing counts from the multinomial is the same draw as drawing rows,
    and turns the sums into one matrix product.
    """
    tasks = values_TK.shape[0]
    generator = np.random.default_rng(seed)
    block = max(1, _CHUNK_CELLS // max(tasks, 1))
    shares = np.full(tasks, 1.0 / tasks)
    sums = []
    for start in range(0, samples, block):
        size = min(block, samples - start)
        if tasks > _MANY_TASKS:
            counts_ST = _drawn_counts(generator, size, tasks)
        else:
            counts_ST = generator.multinomial(tasks, shares, size=size).astype(np.float64)
        sums.append(counts_ST @ values_TK)
    return np.concatenate(sums)


def _drawn_counts(generator: np.random.Generator, samples: int, tasks: int) -> Floats:
    """How often each row is drawn in each bootstrap sample."""
    counts_ST = np.empty((samples, tasks))
    for row_T in counts_ST:
        row_T[:] = np.bincount(generator.integers(0, tasks, size=tasks), minlength=tasks)
    return counts_ST


def ratio_interval(
    numerators: Sequence[float],
    denominators: Sequence[float],
    *,
    samples: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
) -> tuple[float | None, float | None] | None:
    """Percentile interval of ``sum(numerators) / sum(denominators)`` by a bootstrap over tasks.

    One entry for each task (sums over its episodes). A sample without denominator makes the ratio infinite: an
    infinite bound is ``None``. With fewer than two tasks there is nothing to resample: ``None``.
    """
    values_TK = np.column_stack([np.asarray(numerators, dtype=np.float64), np.asarray(denominators, dtype=np.float64)])
    if values_TK.shape[0] < 2:
        return None
    sums = resample_sums(values_TK, samples, seed)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = np.where(sums[:, 1] > 0, sums[:, 0] / sums[:, 1], np.inf)
    low, high = percentiles(ratios, confidence)
    return _finite(low), _finite(high)


def percentiles(draws: Floats, confidence: float) -> Interval:
    """Order statistics (no interpolation, so that infinite draws stay infinite)."""
    ordered = np.sort(draws)
    tail = (1 - confidence) / 2
    last = len(ordered) - 1
    return float(ordered[math.floor(tail * last)]), float(ordered[math.ceil((1 - tail) * last)])


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


class PairedDifference(msgspec.Struct, frozen=True, kw_only=True):
    """Success of A minus success of B on the same tasks and seeds."""

    n: int
    """Pairs that both arms have."""
    success_a: float
    success_b: float
    difference: float
    difference_ci: Interval | None
    """Bootstrap over tasks; ``None`` where every task has the same difference, for then resampling shows no spread."""
    only_a: int
    """Pairs in which only A succeeded; with ``only_b`` the discordant pairs."""
    only_b: int
    p_mcnemar: float


Pairs = Mapping[tuple[str, int], float]
"""(task, seed) -> a value of the episode: success as 0 or 1, or a cost."""


def paired_difference(
    a: Pairs, b: Pairs, *, samples: int = 2000, confidence: float = 0.95, seed: int = 0
) -> PairedDifference | None:
    """Compare two arms by the episodes that both have. ``None`` if they share none.

    The interval resamples tasks; McNemar's exact test treats pairs as independent, so with several seeds for a task
    trust the interval.
    """
    shared = [key for key in a if key in b]
    if not shared:
        return None
    differences: dict[str, list[float]] = {}
    for key in shared:
        differences.setdefault(key[0], []).append(float(a[key]) - float(b[key]))
    sums = [sum(values) for values in differences.values()]
    counts = [float(len(values)) for values in differences.values()]
    alike = len({total / count for total, count in zip(sums, counts, strict=True)}) < 2
    interval = None if alike else ratio_interval(sums, counts, samples=samples, confidence=confidence, seed=seed)
    only_a = sum(1 for key in shared if a[key] > b[key])
    only_b = sum(1 for key in shared if a[key] < b[key])
    low_high = None if interval is None or interval[0] is None or interval[1] is None else (interval[0], interval[1])
    return PairedDifference(
        n=len(shared),
        success_a=sum(float(a[key]) for key in shared) / len(shared),
        success_b=sum(float(b[key]) for key in shared) / len(shared),
        difference=sum(sums) / len(shared),
        difference_ci=low_high,
        only_a=only_a,
        only_b=only_b,
        p_mcnemar=mcnemar_exact(only_a, only_b),
    )


def mcnemar_exact(only_a: int, only_b: int) -> float:
    """Two-sided exact p-value of McNemar's test: discordant pairs are a fair coin under the null hypothesis.

    >>> round(mcnemar_exact(6, 1), 4)
    0.125
    """
    n, k = only_a + only_b, min(only_a, only_b)
    if n == 0:
        return 1.0
    if n > _EXACT_FLIPS:
        return min(1.0, 2 * _lower_tail(n, k))
    tail = sum(math.comb(n, i) for i in range(k + 1))
    return min(1.0, 2 * tail / (1 << n))


def _lower_tail(n: int, k: int) -> float:
    """Chance of at most ``k`` heads in ``n`` fair flips, in logarithms: log C(n, i) is a running sum of log ratios."""
    heads = np.arange(1, k + 1, dtype=np.float64)
    logs = np.concatenate([[0.0], np.cumsum(np.log((n - heads + 1) / heads))]) - n * math.log(2)
    return float(np.exp(logs).sum())


def paired_score_interval(only_a: float, only_b: float, n: float, confidence: float = 0.95) -> Interval | None:
    """Tango's score interval for the difference of two shares over pairs. ``None`` if there are no pairs.

    ``only_a`` and ``only_b`` count the discordant pairs of ``n``; the difference is ``(only_a - only_b) / n``. It
    holds the differences that the score test does not reject, so it has a width where no pair is discordant, and its
    lower bound is the non-inferiority test (Tango 1998, Stat. Med. 17:891, eq. 8 and section 4).

    >>> [round(bound, 3) for bound in paired_score_interval(0, 0, 100)]
    [-0.037, 0.037]
    """
    if n <= 0:
        return None
    if min(only_a, only_b) < 0 or only_a + only_b > n * (1 + 1e-12):
        raise ValueError(f"{only_a} and {only_b} discordant pairs of {n}")
    z = normal_quantile(0.5 + confidence / 2)
    return -_score_upper(only_b, only_a, n, z), _score_upper(only_a, only_b, n, z)


def _score_upper(more: float, fewer: float, n: float, z: float) -> float:
    """The largest difference that the score test does not reject, by bisection: the statistic falls with it."""
    low, high = (more - fewer) / n, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        if _score_statistic(more, fewer, n, middle) > -z:
            low = middle
        else:
            high = middle
    return high


def _score_statistic(more: float, fewer: float, n: float, difference: float) -> float:
    """(b - c - n d) over its standard error at the maximum likelihood of the cells under the difference ``d``."""
    linear = -more - fewer + (2 * n - more + fewer) * difference
    constant = -fewer * difference * (1 - difference)
    cell = (math.sqrt(max(0.0, linear * linear - 8 * n * constant)) - linear) / (4 * n)
    variance = n * (2 * cell + difference * (1 - difference))
    gap = more - fewer - n * difference
    if variance <= 0:
        return 0.0 if abs(gap) < 1e-12 else math.copysign(math.inf, gap)
    return gap / math.sqrt(variance)


class CostRatio(msgspec.Struct, frozen=True, kw_only=True):
    """Cost of A over cost of B on the same tasks and seeds; below 1, A is cheaper."""

    n: int
    ratio: float | None
    ratio_ci: tuple[float | None, float | None] | None


def paired_cost_ratio(
    a: Pairs, b: Pairs, *, samples: int = 2000, confidence: float = 0.95, seed: int = 0
) -> CostRatio | None:
    """Ratio of summed costs over shared (task, seed) pairs, with a bootstrap over tasks. ``None`` if none is shared."""
    shared = [key for key in a if key in b]
    if not shared:
        return None
    by_task: dict[str, list[float]] = {}
    for key in shared:
        sums = by_task.setdefault(key[0], [0.0, 0.0])
        sums[0] += float(a[key])
        sums[1] += float(b[key])
    numerators, denominators = zip(*by_task.values(), strict=True)
    total = sum(denominators)
    interval = ratio_interval(numerators, denominators, samples=samples, confidence=confidence, seed=seed)
    return CostRatio(n=len(shared), ratio=sum(numerators) / total if total > 0 else None, ratio_ci=interval)


def check_confidence(confidence: float) -> float:
    """``confidence`` if it lies strictly between 0 and 1; else ``ConfigError``."""
    if not 0 < confidence < 1:
        raise ConfigError(f"A confidence of {confidence} is not possible. Give a number between 0 and 1, such as 0.95.")
    return confidence
