"""Old and new decisions as one set to learn from: experience replay (arXiv 1811.11682), so that what was known stays.

What it knows: which old decisions are overruled, and how much the new ones weigh. Pure. What it does not do: find
decisions (``data``), train, or say whether the new ones are right (``judging``).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

import msgspec

from potstill.distill.weights.data.labelled import Labelled, decision_key, state_key
from potstill.errors import ConfigError


class Replay(NamedTuple):
    """What is learnt from. ``old`` and ``new`` count decisions of each."""

    decisions: list[Labelled]
    old: int
    new: int
    overruled: int
    """Old decisions in a situation in which the teacher decided anew: the new one stands."""
    kept_apart: int
    """Decisions that are held out, too, and so not learnt from."""


def mixed(
    old: Sequence[Labelled], new: Sequence[Labelled], share: float, *, held_out: Collection[Labelled] = ()
) -> Replay:
    """Both with weights such that the new ones have ``share`` of the whole; the mean weight is 1.

    Raises ``ConfigError`` for a share outside (0, 1], or no new decision.
    """
    if not 0 < share <= 1:
        raise ConfigError(f"The share of new decisions is {share:g}. Allowed: above 0, up to 1 (the old are left out).")
    apart = {_key(decision) for decision in held_out}
    fresh = [decision for decision in new if _key(decision) not in apart]
    if not fresh:
        raise ConfigError("There is no new decision to learn from. Record more episodes of other tasks.")
    states = {state_key(decision) for decision in fresh}
    known = [decision for decision in old if _key(decision) not in apart] if share < 1 else []
    kept = [decision for decision in known if state_key(decision) not in states]
    total = len(kept) + len(fresh)
    weighed = [*_weighed(kept, (1 - share) * total), *_weighed(fresh, share * total if kept else float(total))]
    return Replay(
        decisions=weighed,
        old=len(kept),
        new=len(fresh),
        overruled=len(known) - len(kept),
        kept_apart=len(new) - len(fresh) + (len(old) - len(known) if share < 1 else 0),
    )


def _weighed(decisions: Sequence[Labelled], total: float) -> list[Labelled]:
    """The same with weights that add up to ``total``, in their old proportion."""
    now = sum(decision.weight for decision in decisions)
    if not now:
        return [msgspec.structs.replace(decision, weight=total / len(decisions)) for decision in decisions]
    return [msgspec.structs.replace(decision, weight=decision.weight * total / now) for decision in decisions]


def _key(decision: Labelled) -> bytes:
    return decision_key(state_key(decision), decision.action)
