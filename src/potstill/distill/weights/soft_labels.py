"""What a few samples of a black box are worth as a soft label: a distribution over the admissible actions.

A teacher that is paid for tells no logits, but a cascade's votes and K samples of one decision are draws from what it
would do. Counted plainly, an action that was not drawn gets probability 0, and a student that gives it any is pushed
away from it without end; with a pseudo-count for each admissible action it is not (Dirichlet smoothing; 1/2 is the
prior of Jeffreys 1946, Proc. R. Soc. A 186:453). numpy only. It knows votes. It does not know losses.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from potstill.decide.agreement import agreement_rule
from potstill.errors import ConfigError
from potstill.types import Reply, Vote

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


def dirichlet(votes: Sequence[str | None], admissible: Sequence[str], alpha: float = 0.5) -> Floats:
    """``(count + alpha) / (K + alpha * A)`` for each admissible action, in their order; they add up to 1.

    ``votes`` are the K sampled actions. None, or an action that is not admissible, is no vote and not counted in K;
    without any vote the label is even. Raises ``ConfigError`` for a bad alpha, or actions that are none or repeat.

    >>> dirichlet(["go", "go", "look"], ["go", "look", "take"]).round(3).tolist()
    [0.556, 0.333, 0.111]
    """
    if len(set(admissible)) != len(admissible):
        twice = next(action for action, count in Counter(admissible).items() if count > 1)
        raise ConfigError(f"The action {twice!r} is admissible twice. Give each once.")
    counts = Counter(votes)
    row: Floats = dirichlet_rows(np.array([[counts[action] for action in admissible]]), alpha=alpha)[0]
    return row


def dirichlet_rows(counts_BA: NDArray[np.generic], mask_BA: Bools | None = None, alpha: float = 0.5) -> Floats:
    """The same for a batch: how often each action was drawn, shape ``(B, A)``, and which are admissible (default all).

    Inadmissible actions get exactly 0, and draws of them are not counted. Raises ``ConfigError`` for a negative count,
    a bad alpha, a row without admissible actions, and with ``alpha=0`` a row without draws.
    """
    if not (math.isfinite(alpha) and alpha >= 0):
        raise ConfigError(f"alpha={alpha} is not possible. Give 0 or more, such as 0.5.")
    given_BA = np.asarray(counts_BA, dtype=np.float64)
    mask = np.ones(given_BA.shape, dtype=bool) if mask_BA is None else np.asarray(mask_BA, dtype=bool)
    if given_BA.ndim != 2 or mask.shape != given_BA.shape:
        raise ConfigError(
            f"Counts of shape {given_BA.shape} with a mask of {mask.shape}. Give both as (batch, actions)."
        )
    if not (given_BA >= 0).all():
        raise ConfigError("A count is negative or NaN. Give how often each action was drawn, 0 or more.")
    smoothed_BA = np.where(mask, given_BA + alpha, 0.0)
    sums_B1 = smoothed_BA.sum(axis=1, keepdims=True)
    if not (sums_B1 > 0).all():
        row = int(np.argmin(sums_B1[:, 0]))
        lack = "votes, and alpha=0 adds none" if mask[row].any() else "admissible actions"
        raise ConfigError(f"Row {row} has no {lack}. Leave such decisions out.")
    return np.asarray(smoothed_BA / sums_B1)


def voted(votes: Sequence[Vote], admissible: Sequence[str], rule: str = "normalized") -> tuple[str | None, ...]:
    """Which admissible action each vote of a cascade fell on, None for no valid one: what ``dirichlet`` takes.

    ``rule`` is the agreement rule that the cascade used (``Decision.rule``). Raises ``UnknownName``.

    >>> voted([Vote(key="go", text=" Go."), Vote(key=None, text="dance")], ["go", "look"])
    ('go', None)
    """
    agreement = agreement_rule(rule)
    actions = {agreement.key(Reply(text=action), admissible): action for action in reversed(admissible)}
    keys = [None if vote.key is None else agreement.key(Reply(text=vote.text), admissible) for vote in votes]
    return tuple(None if key is None else actions.get(key) for key in keys)
