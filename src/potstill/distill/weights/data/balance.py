"""Weights that let rare kinds of tasks count, and small environments: nothing is thrown away.

What it knows: how often each kind was met. What it does not do: know decisions, or choose which are shown.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from potstill.errors import ConfigError

Kind = tuple[str, str]
"""An environment, and one of its kinds of tasks."""
LIMIT = 10.0
"""A kind's decisions weigh at most so many times what they would without balance: ten decisions are no curriculum."""


def factors(
    met: Mapping[Kind, int], distinct: int, *, balanced: bool = True, limit: float = LIMIT
) -> dict[Kind, float]:
    """What a decision's count is multiplied with, by kind, so that the mean weight of the ``distinct`` ones is 1.

    ``met``: how often decisions of each kind were met, repetitions included. Balanced, every environment has the same
    sum of weights, and within one every kind, unless ``limit`` (at least 1) holds it back; otherwise every meeting
    counts the same.

    >>> factors({("house", "heat"): 30, ("house", "look"): 10}, 20)
    {('house', 'heat'): 0.333..., ('house', 'look'): 1.0}
    >>> factors({("grid", "go"): 20, ("house", "heat"): 15, ("house", "look"): 5}, 40)
    {('grid', 'go'): 1.0, ('house', 'heat'): 0.666..., ('house', 'look'): 2.0}
    """
    if limit < 1:
        raise ConfigError(f"The limit of a kind's weight is {limit}; it must be 1 or more.")
    total = sum(met.values())
    kinds = Counter(environment for environment, _ in met)
    wanted = {
        kind: min(limit, total / (len(kinds) * kinds[kind[0]] * times)) if balanced else 1.0
        for kind, times in sorted(met.items())
    }
    scale = distinct / sum(met[kind] * factor for kind, factor in wanted.items()) if met else 0.0
    return {kind: factor * scale for kind, factor in wanted.items()}
