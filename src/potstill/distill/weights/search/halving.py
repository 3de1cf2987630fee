"""Successive halving: after how many steps trials are compared, and which of them go on. Pure.

The rule is that of asynchronous halving (Li et al., arXiv 1810.05934, section 3.2) for trials that run one after
another: who is among the best 1/eta of those that came to a rung goes on, and a stopped trial is not taken up again.
"""

from __future__ import annotations

from collections.abc import Sequence

ETA = 3
"""One of so many goes on."""
LEVELS = 2
"""Rungs, at most: the first is at 1/9 of the steps."""


def rungs(steps: int, *, eta: int = ETA, levels: int = LEVELS) -> tuple[int, ...]:
    """Gradient steps after which a trial of ``steps`` is compared, all multiples of the first.

    >>> rungs(900), rungs(5), rungs(1)
    ((100, 300), (1, 3), ())
    """
    first = max(1, steps // eta**levels)
    return tuple(rung for level in range(levels) if (rung := first * eta**level) < steps)


def goes_on(value: float, rivals: Sequence[float], *, eta: int = ETA) -> bool:
    """Whether a trial goes on from a rung to which ``rivals`` came before it. Higher is better, ties go on.

    >>> goes_on(0.5, [0.6]), goes_on(0.5, [0.4, 0.4]), goes_on(0.5, [0.6, 0.4, 0.4, 0.4, 0.4])
    (False, True, True)
    """
    places = max(1, (len(rivals) + 1) // eta)
    return sum(rival > value for rival in rivals) < places
