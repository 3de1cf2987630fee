"""Whole episodes: where the student leaves its teacher's path, whether it runs in circles, whether it keeps to a plan.

Actions and states are anything that can be compared for equality; bring texts into a canonical form first
(``decide.agreement``). It does not know success: an episode that parts from the teacher's may be the better one.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple

import numpy as np

from potstill.distill.weights.fidelity.shares import Share, same_length, share
from potstill.types import Struct

Actions = Sequence[Hashable]


def first_divergence(teacher: Actions, student: Actions) -> int | None:
    """The index of the first step at which the actions differ, counted from 0; None if they are the same.

    Where one episode ends earlier and agrees so far, they part at the first step that only the longer one has.

    >>> first_divergence(["look", "go", "take"], ["look", "take"])
    1
    """
    same = 0
    for one, other in zip(teacher, student, strict=False):
        if one != other:
            return same
        same += 1
    return None if len(teacher) == len(student) else same


class Parting(Struct, frozen=True, kw_only=True):
    """Where pairs of episodes part."""

    n: int
    never: Share
    """Episodes in which the student did all that the teacher did, and nothing else."""
    median_step: int | None
    """The step by which half of the episodes have parted (the lower middle); None where fewer than half ever do."""


def parting(
    teacher: Sequence[Actions],
    student: Sequence[Actions],
    tasks: Sequence[str] | None = None,
    *,
    confidence: float = 0.95,
) -> Parting:
    """The steps of first divergence of episodes of the same task and seed, the teacher's beside the student's."""
    same_length(teacher, student)
    steps = [first_divergence(one, other) for one, other in zip(teacher, student, strict=True)]
    ordered = sorted(math.inf if step is None else step for step in steps)
    middle = ordered[(len(ordered) - 1) // 2] if ordered else math.inf
    return Parting(
        n=len(steps),
        never=share([step is None for step in steps], tasks, confidence=confidence),
        median_step=None if math.isinf(middle) else int(middle),
    )


class Cycle(NamedTuple):
    """A block of ``period`` steps that is walked at least twice, back to back, over ``steps`` steps in all."""

    start: int
    period: int
    steps: int


def cycle(walked: Sequence[Hashable]) -> Cycle | None:
    """The cycle of most steps among (state, action) pairs, of equal ones the shortest period, then the earliest.

    A block must come round once in full: ``a b a`` is a return, ``a b a b`` a cycle, and in ``a b a b a`` it has five
    steps.

    >>> cycle(["x", "a", "b", "a", "b", "a", "y"])
    Cycle(start=1, period=2, steps=5)
    """
    numbers: dict[Hashable, int] = {}
    ids = np.array([numbers.setdefault(pair, len(numbers)) for pair in walked], dtype=np.int64)
    best: Cycle | None = None
    for period in range(1, len(ids) // 2 + 1):
        edges = np.flatnonzero(np.diff(np.concatenate([[0], ids[period:] == ids[:-period], [0]]).astype(np.int8)))
        for start, stop in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
            steps = stop - start + period
            if stop - start >= period and (best is None or steps > best.steps):
                best = Cycle(start, period, steps)
    return best


class Loops(Struct, frozen=True, kw_only=True):
    """How much a policy runs in circles."""

    n: int
    """Episodes."""
    cycling: Share
    """Episodes that hold a cycle."""
    in_cycles: Share
    """Steps that lie in their episode's longest cycle, of all steps."""
    repeated: Share
    """Steps whose state and action had come before in the episode, of all steps; a cycle is not needed."""


def loops(
    episodes: Sequence[Sequence[Hashable]], tasks: Sequence[str] | None = None, *, confidence: float = 0.95
) -> Loops:
    """Circles in episodes, each given as its (state, action) pairs in order.

    A state is what the policy saw; leave out of it what never repeats, such as a step's number.
    """
    cycles = [cycle(walked) for walked in episodes]
    sizes = [float(len(walked)) for walked in episodes]
    repeated = [float(len(walked) - len(set(walked))) for walked in episodes]
    inside = [0.0 if found is None else float(found.steps) for found in cycles]
    return Loops(
        n=len(episodes),
        cycling=share([found is not None for found in cycles], tasks, confidence=confidence),
        in_cycles=share(inside, tasks, of=sizes, confidence=confidence),
        repeated=share(repeated, tasks, of=sizes, confidence=confidence),
    )


Matches = Callable[[Any, Any], bool]
"""Whether an action carries out a step of a plan: ``matches(plan_step, action)``."""


def kept_in_order(plan: Sequence[Any], actions: Sequence[Any], matches: Matches = operator.eq) -> int:
    """How many steps of the plan were carried out in the plan's order, each by an action of its own.

    It is the longest common subsequence of plan and actions: other actions in between do not count, a step left out
    costs one, and of two steps done in the wrong order one counts.

    >>> kept_in_order(["find", "clean", "put", "close"], ["find", "put", "look", "clean", "close"])
    3
    """
    row = [0] * (len(actions) + 1)
    for step in plan:
        above = row
        row = [0]
        for index, action in enumerate(actions):
            row.append(above[index] + 1 if matches(step, action) else max(above[index + 1], row[-1]))
    return row[-1]


def plan_adherence(
    plans: Sequence[Sequence[Any]],
    episodes: Sequence[Sequence[Any]],
    tasks: Sequence[str] | None = None,
    *,
    matches: Matches = operator.eq,
    confidence: float = 0.95,
) -> Share:
    """The share of all plans' steps that were kept in order (``kept_in_order``); an empty plan counts for nothing.

    Steps of one episode hang together, so without tasks an episode is the unit of the interval.
    """
    same_length(plans, episodes)
    kept = [kept_in_order(plan, actions, matches) for plan, actions in zip(plans, episodes, strict=True)]
    return share(kept, tasks, of=[len(plan) for plan in plans], confidence=confidence)
