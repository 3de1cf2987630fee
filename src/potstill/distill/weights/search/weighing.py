"""How much each group of the data weighs: its environments, or where there is one, its kinds of evidence. Pure.

Nothing is thrown away or shown more often: a decision's weight is what its loss is multiplied with.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import msgspec

from potstill.distill.weights.data.labelled import Labelled
from potstill.distill.weights.search.labels import labels_in

GIVEN = "given"
"""As the data were made: environments balanced, everything else by how often it was met."""
EVEN = "even"
BY_LABELS = "by-labels"
_FAVOURED = "3x-"
"""Before a group's name: three parts of it and one of each other."""
_FACTOR = 3.0
_MOST = 4
"""Groups that are favoured in turn: more would only be guessed at by so few trials."""


def mixes_of(decisions: Sequence[Labelled]) -> tuple[str, ...]:
    """The ways to weigh the groups; of one group there is one way."""
    groups = _groups(decisions)
    if len(groups) < 2:
        return (GIVEN,)
    largest = sorted(groups, key=lambda name: (-labels_in(groups[name]), name))[:_MOST]
    return (GIVEN, EVEN, BY_LABELS, *(f"{_FAVOURED}{name}" for name in sorted(largest)))


def weighed(decisions: Sequence[Labelled], mix: str) -> list[Labelled]:
    """The decisions with the weights of a mix, 1 on the average; within a group they stand to each other as before.

    A group that is not there, or weighs nothing, leaves its part to the others.
    """
    if mix == GIVEN:
        return list(decisions)
    groups = {name: some for name, some in _groups(decisions).items() if sum(one.weight for one in some)}
    parts = {name: _part(mix, name, some) for name, some in groups.items()}
    scale = len(decisions) / sum(parts.values()) if parts else 0.0
    factors = {name: scale * parts[name] / sum(one.weight for one in some) for name, some in groups.items()}
    name_of = _by(decisions)
    return [msgspec.structs.replace(one, weight=one.weight * factors.get(name_of(one), 0.0)) for one in decisions]


def _part(mix: str, name: str, some: Iterable[Labelled]) -> float:
    if mix == BY_LABELS:
        return float(labels_in(some))
    return _FACTOR if mix == f"{_FAVOURED}{name}" else 1.0


def _groups(decisions: Sequence[Labelled]) -> dict[str, list[Labelled]]:
    name_of, groups = _by(decisions), dict[str, list[Labelled]]()
    for one in decisions:
        groups.setdefault(name_of(one), []).append(one)
    return groups


def _by(decisions: Sequence[Labelled]) -> Callable[[Labelled], str]:
    if len({one.environment for one in decisions}) > 1:
        return lambda one: one.environment
    return lambda one: one.evidence.value
