"""A labelled decision: what was seen, what could be done, what the teacher did, and what is known of its distribution.

What it knows: one decision, when two are the same, and its target as probabilities. What it does not do: find decisions
in episodes (``decisions``), merge equal ones (``merging``), weigh them (``balance``).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from enum import StrEnum

import msgspec
import numpy as np

from potstill.distill.weights.soft_labels import dirichlet_rows
from potstill.types import Situation, Struct

ALPHA = 0.5
"""Jeffreys' prior: how much each admissible action counts before a vote is heard (docs/design/008, Losses)."""
SUM_TOLERANCE = 1e-3
"""How far above 1 a top-k's probabilities may add up: providers round them."""
FLOOR = -10_000.0
"""Minus infinity as a number that JSON can carry: its exponential is 0 in double precision."""


class Evidence(StrEnum):
    """How the teacher's distribution is known."""

    ONE_HOT = "one-hot"
    """Only what it did."""
    VOTES = "votes"
    """Several samples of it, counted."""
    LOG_PROBABILITIES = "log-probabilities"
    """How likely it found each admissible action."""
    TOP_K = "top-k"
    """How likely it found some of them, such as the likeliest k."""


class Said(Struct, frozen=True, kw_only=True):
    """How often one teacher chose a decision's action, and how the episodes ended in which it did."""

    teacher: str
    times: int
    won: int = 0
    lost: int = 0
    """``times`` less both: episodes whose outcome is not known."""


class Labelled(Struct, frozen=True, kw_only=True):
    """One decision to learn from."""

    environment: str
    task_id: str
    kind: str = ""
    """The type of task, where the environment has types."""
    namespace: str = "default"
    trajectory_id: str
    step_index: int
    situation: Situation
    admissible: tuple[str, ...]
    """Each action once, in the environment's order; at least two."""
    action: str
    """What was done: one of ``admissible``."""
    evidence: Evidence = Evidence.ONE_HOT
    votes: tuple[int, ...] = ()
    """Samples for each of ``admissible``, raw; only where ``evidence`` is ``votes``."""
    log_probabilities: tuple[float | None, ...] = ()
    """For each of ``admissible``, natural, adding up to 1 as probabilities; only where ``evidence`` says so. Of a
    top-k None where nothing was told: those that were add up to 1 at most."""
    reasoning: str = ""
    said: tuple[Said, ...] = ()
    """Who chose ``action`` here, by teacher's name; only where data are made ``by_teacher``."""
    count: int = 1
    """How often this decision was met."""
    weight: float = 1.0
    """What its loss is multiplied with: ``count`` is in it, the mean over a split is 1."""

    def __post_init__(self) -> None:
        if self.action not in self.admissible:
            raise ValueError(f"the action {self.action!r} is not one of the admissible {self.admissible!r}")
        for name, values, when in (
            ("votes", self.votes, (Evidence.VOTES,)),
            ("log_probabilities", self.log_probabilities, (Evidence.LOG_PROBABILITIES, Evidence.TOP_K)),
        ):
            if len(values) != (len(self.admissible) if self.evidence in when else 0):
                raise ValueError(f"{len(values)} {name} for {len(self.admissible)} actions and {self.evidence.value}")
        if not (self.weight >= 0 and math.isfinite(self.weight)) or self.count < 1:
            raise ValueError(f"a weight of {self.weight} and a count of {self.count}: weight >= 0, count >= 1")


def probabilities(decision: Labelled, alpha: float = ALPHA) -> tuple[float, ...] | None:
    """The teacher's distribution over ``admissible``, NaN where a top-k does not tell; None: its action alone is known.

    Votes are smoothed by ``alpha`` (``soft_labels.dirichlet``).
    """
    match decision.evidence:
        case Evidence.LOG_PROBABILITIES | Evidence.TOP_K:
            return tuple(math.nan if value is None else math.exp(value) for value in decision.log_probabilities)
        case Evidence.VOTES:
            return tuple(dirichlet_rows(np.array([decision.votes]), alpha=alpha)[0].tolist())
        case Evidence.ONE_HOT:
            return None


def one_hot(decision: Labelled) -> tuple[float, ...]:
    return tuple(float(action == decision.action) for action in decision.admissible)


def normalised(scores: Sequence[float]) -> tuple[float, ...] | None:
    """Log-probabilities that add up to 1, at least ``FLOOR``; None where they say nothing (NaN, nothing possible)."""
    most = max(scores, default=-math.inf)
    if not math.isfinite(most) or any(math.isnan(score) for score in scores):
        return None
    log_total = math.log(math.fsum(math.exp(score - most) for score in scores))
    return tuple(max(score - most - log_total, FLOOR) for score in scores)


def top_k(scores: Mapping[str, float], admissible: Sequence[str], action: str) -> tuple[float | None, ...] | None:
    """Log-probabilities of the likeliest few of a model's actions, as ``admissible`` stands; None: they are none.

    They are none where the action that was taken is not told, one is NaN, they add up to more than 1, or so much is
    left that an action which was not told would have to be likelier than one that was (scores of whole answers that
    were never normalised). What lies on actions that are not admissible is dealt out over the others.
    """
    told = [scores.get(one) for one in admissible]
    shares = [math.exp(min(score, 1.0)) for score in told if score is not None]
    outside = math.fsum(math.exp(min(score, 1.0)) for name, score in scores.items() if name not in admissible)
    total, whole = math.fsum(shares), max(math.fsum(shares), 1 - outside)
    if action not in scores or total + outside > 1 + SUM_TOLERANCE or not 0 < total <= whole:  # False of a NaN, too
        return None
    if whole - total > (len(told) - len(shares)) * min(shares) + SUM_TOLERANCE * whole:
        return None
    log_whole = math.log(whole)
    return tuple(None if score is None else min(max(score - log_whole, FLOOR), 0.0) for score in told)


# --- sameness -------------------------------------------------------------------------------------------------------

_encoder = msgspec.json.Encoder()


def state_key(decision: Labelled, *, anywhere: bool = False) -> bytes:
    """16 bytes that are equal where environment, situation and the set of admissible actions are.

    ``anywhere``: whatever the environment.
    """
    said = ("" if anywhere else decision.environment, decision.situation, sorted(decision.admissible))
    return hashlib.blake2b(_encoder.encode(said), digest_size=16).digest()


def decision_key(state: bytes, action: str) -> bytes:
    """16 bytes that are equal where the state's key and the action are."""
    return hashlib.blake2b(state + action.encode("utf-8", "surrogatepass"), digest_size=16).digest()
