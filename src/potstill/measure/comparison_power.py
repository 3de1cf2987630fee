"""How many more tasks a comparison needs before it can show that one side is not worse.

What it knows: the differences seen so far. What it does not do: promise; the chance holds if new tasks are like the
old ones and the true difference is the one that was seen.
"""

from __future__ import annotations

import math

from potstill.measure.statistics import normal_quantile, paired_score_interval

POWER = 0.8
_MOST_TASKS = 10**9


def needed_tasks(
    difference: float,
    spread: float | None,
    tasks: int,
    *,
    margin: float,
    confidence: float,
    discordant: float = 0.0,
) -> int | None:
    """More tasks until the lower bound of the interval lies above ``-margin`` with a chance of 80 %.

    ``spread``: standard deviation of the difference of a task, for an interval that is normal enough; then
    N = ((z_conf + z_power) spread / (difference + margin))^2 (the usual formula; for pairs Liu et al. 2002, Stat. Med.
    21:231). ``None``: single pairs of which the share ``discordant`` differ, judged by the score interval itself.
    ``None`` is given if the difference is itself beyond the margin, or if no possible number of tasks is enough.

    >>> needed_tasks(0.0, None, 100, margin=0.02, confidence=0.95)
    89
    """
    if difference <= -margin:
        return None
    if spread is not None and spread > 0:
        z = normal_quantile(0.5 + confidence / 2) + normal_quantile(POWER)
        total = math.ceil((z * spread / (difference + margin)) ** 2)
        return max(1, total - tasks) if total <= _MOST_TASKS else None
    return _by_score(difference, discordant, tasks, margin, confidence)


def _by_score(difference: float, discordant: float, tasks: int, margin: float, confidence: float) -> int | None:
    """The smallest number of pairs at which even the result at the 20 % quantile shows non-inferiority."""
    low, high = tasks, 2 * tasks
    while not _shown(difference, discordant, high, margin, confidence):
        low, high = high, 2 * high
        if high > _MOST_TASKS:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        if _shown(difference, discordant, middle, margin, confidence):
            high = middle
        else:
            low = middle
    return high - tasks


def _shown(difference: float, discordant: float, n: int, margin: float, confidence: float) -> bool:
    spread = math.sqrt(max(0.0, discordant - difference**2))
    unlucky = max(-1.0, difference - normal_quantile(POWER) * spread / math.sqrt(n))
    differ = max(discordant, abs(unlucky))
    interval = paired_score_interval(n * (differ + unlucky) / 2, n * (differ - unlucky) / 2, n, confidence)
    return interval is not None and interval[0] > -margin
