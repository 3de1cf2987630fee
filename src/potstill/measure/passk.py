"""pass^k and pass@k: how reliably a task is done when it is tried several times.

What it knows: the two unbiased estimators from c successes in n attempts at each task. pass^k, the chance that k
attempts all succeed, is the mean over tasks of C(c, k) / C(n, k) (tau-bench, arXiv 2406.12045, section 5); pass@k, the
chance that at least one does, is the mean of 1 - C(n - c, k) / C(n, k) (arXiv 2107.03374, section 2.1).
What it does not do: intervals (resample tasks with ``statistics``), or guess for tasks with fewer than k attempts.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from potstill.errors import ConfigError

Counts = Sequence[int] | NDArray[np.int64]


def pass_hat_k(successes: Counts, attempts: Counts, k: int) -> float | None:
    """pass^k: the chance that ``k`` attempts at a task all succeed, averaged over tasks.

    ``successes`` and ``attempts`` hold one count for each task. Tasks with fewer than ``k`` attempts say nothing and
    are left out; ``None`` if none is left. Raises ``ConfigError`` for counts that cannot be.

    >>> pass_hat_k([4, 2], [4, 4], 2)  # (1 + C(2,2)/C(4,2)) / 2 = (1 + 1/6) / 2
    0.5833333333333334
    """
    c, n = _checked(successes, attempts, k)
    return None if len(n) == 0 else float(_all_of(c, n, k).mean())


def pass_at_k(successes: Counts, attempts: Counts, k: int) -> float | None:
    """pass@k: the chance that at least one of ``k`` attempts at a task succeeds, averaged over tasks.

    >>> pass_at_k([4, 2], [4, 4], 2)  # (1 + 1 - C(2,2)/C(4,2)) / 2
    0.9166666666666667
    """
    c, n = _checked(successes, attempts, k)
    return None if len(n) == 0 else float((1 - _all_of(n - c, n, k)).mean())


def _all_of(c: NDArray[np.int64], n: NDArray[np.int64], k: int) -> NDArray[np.float64]:
    """C(c, k) / C(n, k) for each task, as a product of k fractions: no factorial overflows."""
    share = np.ones(len(n), dtype=np.float64)
    for i in range(k):
        share *= np.maximum(c - i, 0) / (n - i)
    return share


def _checked(successes: Counts, attempts: Counts, k: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Counts of the tasks with at least ``k`` attempts."""
    if k < 1:
        raise ConfigError(f"k is {k}; allowed: 1 or more attempts.")
    c, n = np.asarray(successes, dtype=np.int64), np.asarray(attempts, dtype=np.int64)
    if c.shape != n.shape:
        raise ConfigError(f"{len(c)} counts of successes but {len(n)} of attempts; give one of each for every task.")
    if bool(((c < 0) | (c > n)).any()):
        raise ConfigError("A task has fewer than zero successes or more than attempts; allowed: 0 to its attempts.")
    enough = n >= k
    return c[enough], n[enough]
