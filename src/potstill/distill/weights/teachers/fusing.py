"""Labels of several teachers as one label a state, as sure as the teachers are reliable.

What it knows: decisions that say who chose them (``Labelled.said``), and what to do with their reliability: weigh all
of them, or learn each kind of task from its best teacher. What it does not do: estimate (``reliability``), read stores.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import NamedTuple

import msgspec
import numpy as np

from potstill.distill.weights.data.labelled import FLOOR, Evidence, Labelled, Said, state_key
from potstill.distill.weights.teachers.reliability import Ballots, Reliability, estimate, posterior
from potstill.errors import ConfigError
from potstill.types import Struct

KNOWN = 0.2
"""A label of which less is known, from even chance (0) to sure (1), is left out: it would take the place of others in a
step and teach almost nothing."""


class Teachers(StrEnum):
    """What becomes of labels of several teachers."""

    POOLED = "pooled"
    """Each is learnt as it is."""
    WEIGHED = "weighed"
    """One label a state: how probable it is that each action is the right one."""
    ROUTED = "routed"
    """Of each kind of task, the labels of the teacher that is the most reliable there."""


class Judged(Struct, frozen=True, kw_only=True):
    """What is known of the teachers: a part of a student's lineage."""

    teachers: tuple[str, ...]
    kinds: tuple[str, ...]
    reliability: tuple[float, ...]
    """Of each teacher, over all kinds."""
    by_kind: tuple[tuple[float, ...], ...]
    """Of each teacher, for each of ``kinds``."""
    won_if_right: float
    won_if_wrong: float
    outcome_share: float
    steps: int

    def best(self, kind: str) -> str:
        """The most reliable teacher for a kind of task; over all for a kind that nobody was heard on."""
        at = self.kinds.index(kind) if kind in self.kinds else None
        scores = [row if at is None else self.by_kind[j][at] for j, row in enumerate(self.reliability)]
        return self.teachers[max(range(len(scores)), key=lambda j: (scores[j], -j))]


def judge(decisions: Sequence[Labelled], *, outcome_share: float = 0.0) -> Judged:
    """How reliable the teachers are. Raises ``ConfigError`` where fewer than two were heard, or never on one state."""
    teachers = tuple(sorted({said.teacher for one in decisions for said in one.said}))
    kinds = tuple(sorted({one.kind for one in decisions}))
    if len(teachers) < 2:
        who = f"only '{teachers[0]}' taught" if teachers else "no decision says who chose it"
        raise ConfigError(f"There are no several teachers to weigh: {who}. Record another's episodes, or pool them.")
    ballots = _table(decisions, teachers, kinds).ballots
    judges = np.unique(np.stack([ballots.state_V, ballots.teacher_V]), axis=1)[0]
    if len(judges) == len(np.unique(judges)):
        raise ConfigError(
            "No two teachers ever decided in the same situation, so they cannot be compared. Let them play the same "
            "tasks from the same seeds."
        )
    found = estimate(ballots, outcome_share=outcome_share)
    return Judged(
        teachers=teachers,
        kinds=kinds,
        reliability=tuple(found.right_J.tolist()),
        by_kind=tuple(tuple(row) for row in found.right_JK.tolist()),
        won_if_right=found.won_if_right,
        won_if_wrong=found.won_if_wrong,
        outcome_share=outcome_share,
        steps=found.steps,
    )


def fused(decisions: Sequence[Labelled], judged: Judged, how: Teachers | str) -> list[Labelled]:
    """The decisions to learn from, in the order of the first of each state; weights have the mean 1.

    ``weighed``: the likeliest action with its posterior as log-probabilities. Its weight is multiplied with how much
    more than even chance the teachers know, ``(p - 1/A) / (1 - 1/A)``, which must be ``KNOWN`` at least. ``routed``:
    what the kind's best teacher chose, untouched. Raises ``ConfigError`` where nothing is left to learn from.
    """
    match Teachers(how):
        case Teachers.POOLED:
            return list(decisions)
        case Teachers.ROUTED:
            kept = [one for one in decisions if judged.best(one.kind) in {said.teacher for said in one.said}]
            if not kept:
                raise ConfigError("The best teacher of each kind decided nothing here. Weigh them: --teachers weighed")
            return _mean_one(kept)
        case Teachers.WEIGHED:
            return _mean_one(_weighed(decisions, judged))


def _weighed(decisions: Sequence[Labelled], judged: Judged) -> list[Labelled]:
    table = _table(decisions, judged.teachers, judged.kinds)
    reliability = Reliability(
        np.array(judged.by_kind), np.array(judged.reliability), judged.won_if_right, judged.won_if_wrong, judged.steps
    )
    log_V, rest_S = posterior(table.ballots, reliability, judged.outcome_share)
    scores = [[float(rest)] * len(rows[0].admissible) for rest, rows in zip(rest_S, table.rows, strict=True)]
    for state, action, score in zip(table.ballots.state_V, table.ballots.action_V, log_V, strict=True):
        scores[state][action] = max(float(score), FLOOR)
    made = (_one_label(rows, found) for rows, found in zip(table.rows, scores, strict=True))
    kept = [one for one in made if one is not None]
    if not kept:
        raise ConfigError(
            "The teachers know too little to teach: no label is likely enough. Record a better teacher, or pool them."
        )
    return kept


def _one_label(rows: Sequence[Labelled], scores: Sequence[float]) -> Labelled | None:
    """What a state's decisions come to; of equally likely actions the one that was said more often, then the first.

    None where too little is known.
    """
    first = rows[0]
    said = {row.action: row.count for row in rows}
    order = range(len(scores))
    best = max(order, key=lambda at: (round(scores[at], 9), said.get(first.admissible[at], 0), -at))
    action = first.admissible[best]
    even = 1.0 / len(scores)
    known = (math.exp(scores[best]) - even) / (1.0 - even)
    if known < KNOWN:
        return None
    return msgspec.structs.replace(
        next((row for row in rows if row.action == action), first),
        admissible=first.admissible,
        action=action,
        evidence=Evidence.LOG_PROBABILITIES,
        votes=(),
        log_probabilities=tuple(scores),
        count=sum(row.count for row in rows),
        weight=known * sum(row.weight for row in rows),
    )


def _mean_one(decisions: Sequence[Labelled]) -> list[Labelled]:
    total = math.fsum(one.weight for one in decisions)
    scale = len(decisions) / total if total else 0.0
    return [msgspec.structs.replace(one, weight=one.weight * scale) for one in decisions]


# --- decisions as votes ---------------------------------------------------------------------------------------------


class _Table(NamedTuple):
    ballots: Ballots
    rows: list[list[Labelled]]
    """The decisions of each state."""


def _table(decisions: Iterable[Labelled], teachers: Sequence[str], kinds: Sequence[str]) -> _Table:
    """Votes by state. A teacher or a kind that is not among those given is left out."""
    by_state: dict[bytes, list[Labelled]] = {}
    for one in decisions:
        if one.kind in kinds and any(said.teacher in teachers for said in one.said):
            by_state.setdefault(state_key(one), []).append(one)
    votes, voices, rows = list[_Vote](), dict[tuple[int, int], int](), list(by_state.values())
    for state, members in enumerate(rows):
        for one in members:
            for said in one.said:
                if said.teacher in teachers:
                    j = teachers.index(said.teacher)
                    votes.append(_Vote(state, members[0].admissible.index(one.action), j, said))
                    voices[state, j] = voices.get((state, j), 0) + said.times
    return _Table(
        Ballots(
            state_V=np.array([vote.state for vote in votes], np.int64),
            action_V=np.array([vote.action for vote in votes], np.int64),
            teacher_V=np.array([vote.teacher for vote in votes], np.int64),
            weight_V=np.array([vote.said.times / voices[vote.state, vote.teacher] for vote in votes]),
            won_V=np.array([vote.said.won / vote.said.times for vote in votes]),
            lost_V=np.array([vote.said.lost / vote.said.times for vote in votes]),
            actions_S=np.array([len(members[0].admissible) for members in rows], np.int64),
            kind_S=np.array([list(kinds).index(members[0].kind) for members in rows], np.int64),
            teachers=len(teachers),
            kinds=len(kinds),
        ),
        rows,
    )


class _Vote(NamedTuple):
    state: int
    action: int
    teacher: int
    said: Said
