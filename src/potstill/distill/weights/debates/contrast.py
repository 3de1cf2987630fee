"""Pairs of debates as decisions to learn from, beside a teacher's own.

A pair is a decision between two actions, whose label is the right one: with ``kind=margin`` its loss is the pairwise
hinge ``max(0, margin - (z_right - z_wrong))``, with ``kind=hard`` the logistic one of Bradley and Terry (1952). Any
student whose logits are by action learns from it without knowing of debates.

Knows weights, and what must not be learnt because it is held out. Does not know files or networks.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from enum import StrEnum
from typing import NamedTuple

import msgspec

from potstill.distill.weights.data.labelled import Labelled, decision_key, state_key
from potstill.distill.weights.debates.graph import Debate, Pair, Pairing, pairs
from potstill.errors import ConfigError


class LeftOut(StrEnum):
    """Why a debate gives nothing to learn."""

    HELD_OUT = "debates about tasks or situations that are held out"
    ALL_RIGHT = "debates in which all were right"
    ALL_WRONG = "debates in which nobody was right"
    NEVER_MET = "debates in which no right turn met a wrong one"


class Contrast(NamedTuple):
    decisions: tuple[Labelled, ...]
    """Between two actions each, equal ones once; the weight is the sum of the shares in their debates."""
    debates: int
    """That gave at least one."""
    left_out: dict[LeftOut, int]


def contrast(
    debates: Iterable[Debate],
    *,
    pairing: Pairing = Pairing.ALL,
    held_out: Iterable[Labelled] = (),
    is_held_out: Callable[[Debate], bool] = lambda debate: False,
) -> Contrast:
    """What debates tell apart. A debate has the weight 1, however many spoke. ``held_out``: decisions in whose
    situations nothing may be learnt; ``is_held_out`` says it by task. The order of debates changes only the order."""
    closed = {state_key(one) for one in held_out}
    found: dict[bytes, Labelled] = {}
    left_out: Counter[LeftOut] = Counter()
    used = 0
    for debate in debates:
        whole = _labelled(debate, debate.admissible, debate.right[0])
        told = pairs(debate, pairing)
        if is_held_out(debate) or state_key(whole) in closed:
            left_out[LeftOut.HELD_OUT] += 1
        elif not told:
            left_out[_why_nothing(debate)] += 1
        else:
            used += 1
            for pair in told:
                _add(found, debate, pair)
    return Contrast(tuple(found.values()), used, dict(sorted(left_out.items())))


def mixed(decisions: Sequence[Labelled], more: Sequence[Labelled], share: float) -> list[Labelled]:
    """Both to learn from, ``share`` of all weight with ``more`` and the mean weight 1; order as given.

    >>> from potstill.types import Situation
    >>> one = Labelled(environment="e", task_id="t", trajectory_id="i", step_index=0, situation=Situation(),
    ...                admissible=("a", "b"), action="a")
    >>> [round(each.weight, 2) for each in mixed([one, one, one], [one], 0.4)]
    [0.8, 0.8, 0.8, 1.6]
    """
    if not 0 < share < 1:
        raise ConfigError(f"The share of the debates is {share}. Allowed: above 0 and below 1.")
    if not more:
        return list(decisions)
    count = len(decisions) + len(more)
    return [*weighing(decisions, (1 - share) * count), *weighing(more, share * count)]


def weighing(decisions: Sequence[Labelled], total: float) -> list[Labelled]:
    """The same with weights that add up to ``total``, in their old proportion."""
    scale = total / math.fsum(one.weight for one in decisions)
    return [msgspec.structs.replace(one, weight=one.weight * scale) for one in decisions]


def _add(found: dict[bytes, Labelled], debate: Debate, pair: Pair) -> None:
    offered = tuple(action for action in debate.admissible if action in (pair.right, pair.wrong))
    one = msgspec.structs.replace(_labelled(debate, offered, pair.right), weight=pair.share, count=pair.times)
    key = decision_key(state_key(one), one.action)
    known = found.get(key)
    if known is not None:
        one = msgspec.structs.replace(known, weight=known.weight + one.weight, count=known.count + one.count)
    found[key] = one


def _labelled(debate: Debate, admissible: tuple[str, ...], action: str) -> Labelled:
    return Labelled(
        environment=debate.environment,
        task_id=debate.task_id,
        kind=debate.kind,
        namespace=debate.namespace,
        trajectory_id=debate.id,
        step_index=0,
        situation=debate.situation,
        admissible=admissible,
        action=action,
    )


def _why_nothing(debate: Debate) -> LeftOut:
    right = {turn.action in debate.right for turn in debate.turns}
    if right == {True}:
        return LeftOut.ALL_RIGHT
    return LeftOut.ALL_WRONG if right == {False} else LeftOut.NEVER_MET
