"""Many reflections at once: which Curator's call sees which of them, and one proposal out of what the calls said.

What it knows: drawing groups, joining proposals. What it does not do: ask a Curator (``writing``), find near-duplicates
(``gate``). After Combee (arXiv 2604.04247): groups of about the square root of the number, each reflection duplicated
and shuffled across groups, so that no single call decides over it. The joining needs no model.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple, TypeVar

import msgspec

from potstill.distill.playbook.apply import kind_of, named
from potstill.distill.playbook.operations import Add, Operation

T = TypeVar("T")


def grouped(items: Sequence[T], groups: int, copies: int, seed: str) -> list[list[T]]:
    """The items in so many groups of nearly the same size, each in ``copies`` different ones (at most in all).

    Each copy is dealt anew, so that an item meets others there. Within a group the order is that of ``items``. The same
    for the same seed.

    >>> [len(group) for group in grouped("abcdefghi", 3, 2, "seed")]
    [7, 6, 5]
    """
    if not items:
        return []
    groups = max(1, min(groups, len(items)))
    rng = random.Random(seed)
    made: list[set[int]] = [set() for _ in range(groups)]
    for _ in range(max(1, min(copies, groups))):
        for index in rng.sample(range(len(items)), len(items)):
            without = [group for group in made if index not in group]
            smallest = min(map(len, without))
            rng.choice([group for group in without if len(group) == smallest]).add(index)
    return [[items[index] for index in sorted(group)] for group in made]


class Joined(NamedTuple):
    operations: tuple[Operation, ...]
    against: tuple[Operation, ...]
    """Those that lost to another one on the same bullet."""


_MILDEST = ("UPDATE", "MERGE", "REMOVE")


def joined(proposals: Sequence[Sequence[Operation]]) -> Joined:
    """One proposal out of several; the same whatever their order.

    Every different ``ADD`` stays (twins are the gate's business). No bullet is changed twice: what most proposals say
    wins, then what changes least (``UPDATE``, ``MERGE``, ``REMOVE``), then the alphabet.
    """
    if len(proposals) == 1:
        return Joined(tuple(proposals[0]), ())
    votes = Counter(operation for proposal in proposals for operation in dict.fromkeys(proposal))
    adds = sorted((one for one in votes if isinstance(one, Add)), key=_spelt)
    changes = [one for one in votes if not isinstance(one, Add)]
    kept: list[Operation] = []
    against: list[Operation] = []
    claimed: set[str] = set()
    for operation in sorted(changes, key=lambda one: (-votes[one], _harm(one), _spelt(one))):
        ids = set(named(operation))
        if ids & claimed:
            against.append(operation)
        else:
            kept.append(operation)
            claimed |= ids
    return Joined((*adds, *kept), tuple(against))


def _harm(operation: Operation) -> int:
    kind = kind_of(operation)
    return _MILDEST.index(kind) if kind in _MILDEST else len(_MILDEST)


def _spelt(operation: Operation) -> bytes:
    return msgspec.json.encode(operation)
