"""Many bullets at once: which of their e-values are proof, taken together.

What it knows: logarithms of e-values. What it does not do: say of what.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from enum import StrEnum

from potstill.decide.evidence import needed


class Errors(StrEnum):
    """Which mistake is held to ``alpha``: retiring a bullet that does no harm."""

    SHARE = "share"
    """Of the bullets that one look finds harmful, the share that is not so is at most ``alpha`` in expectation (false
    discovery rate): the e-values' version of Benjamini and Hochberg (Wang and Ramdas, arXiv 2009.02824), which needs
    nothing of how bullets depend on each other. The look may be at any time; a book that goes on growing after bullets
    were retired is more than one look."""
    ANY = "any"
    """The probability of even one, among all bullets and at all looks together (Bonferroni)."""
    EACH = "each"
    """The probability for each bullet by itself, at all looks together."""


def proven(log_values: Mapping[str, float], alpha: float, errors: Errors = Errors.SHARE) -> frozenset[str]:
    """The ids whose evidence counts as proof.

    With ``SHARE``: the k largest, for the greatest k at which the k-th is at least ``n / (k alpha)``. Of two at 0.05,
    one needs 40, and both together 20 each:

    >>> sorted(proven({"b-1": math.log(39), "b-2": math.log(21)}, 0.05))
    ['b-1', 'b-2']
    >>> sorted(proven({"b-1": math.log(39), "b-2": math.log(19)}, 0.05))
    []
    """
    n = len(log_values)
    if errors is not Errors.SHARE:
        least = needed(alpha) + (math.log(n) if errors is Errors.ANY and n else 0.0)
        return frozenset(id for id, value in log_values.items() if value >= least)
    ordered = sorted(log_values.items(), key=lambda one: (-one[1], one[0]))
    fitting = (k for k, (_, value) in enumerate(ordered, 1) if value >= needed(alpha) + math.log(n / k))
    return frozenset(id for id, _ in ordered[: max(fitting, default=0)])
