"""What one pass of a language model learns from: a text as tokens, with a weight for each; several decisions in one.

Where a prompt goes on from where another decision's answer ended, as those of an episode do, a causal model sees the
earlier answer at the same tokens either way. So both are learnt in one pass, with the same gradient and without
reading the beginning twice. Pure; knows token ids only.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Pass(NamedTuple):
    """One text; ``ids`` and ``weights`` are as long as each other."""

    ids: list[int]
    weights: list[float]
    """Of each token in the loss; those of prompts have 0."""


def joined(passes: Sequence[Pass]) -> list[Pass]:
    """The same learnt tokens in as few passes as these texts allow, ordered by their tokens.

    A text with which another begins is left out, and its weights are added to that other's. Each learnt token stands
    behind the same tokens as before; none is learnt twice.

    >>> joined([Pass([1, 7], [0, 1]), Pass([1, 7, 2, 8], [0, 0, 0, 1]), Pass([3, 9], [0, 1])])
    [Pass(ids=[1, 7, 2, 8], weights=[0, 1, 0, 1]), Pass(ids=[3, 9], weights=[0, 1])]
    """
    found: list[Pass] = []
    for one in sorted(passes, key=lambda one: one.ids):  # a text stands before all that begin with it
        last = found[-1] if found else None
        if last is not None and one.ids[: len(last.ids)] == last.ids:
            added = [a + b for a, b in zip(last.weights, one.weights, strict=False)]
            found[-1] = Pass(one.ids, added + one.weights[len(added) :])
        else:
            found.append(one)
    return found
