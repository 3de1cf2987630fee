"""A debate about one decision as a graph of turns, and the pairs of a right and a wrong action that it holds.

After MAGDi (arXiv 2402.01620, section 3): a node is a turn and says an action, an edge leads from a turn to one that
heard it, a node is right or wrong by an answer that is known from elsewhere (an expert's action, or what was done in an
episode that succeeded), and what is learnt beside right answers is the contrast of a right node with a wrong one. The
paper contrasts whole texts and predicts labels of nodes with a graph encoder, too; here the two actions are contrasted,
for a student chooses among actions, and the graph says which turns met.

Knows one debate. Does not know files (``lines``), weights of decisions (``contrast``), who speaks (``holding``).
"""

from __future__ import annotations

from collections import Counter
from enum import StrEnum
from typing import NamedTuple

from potstill.types import Situation, Struct


class Pairing(StrEnum):
    """Which turns are compared."""

    ALL = "all"
    """Every right turn with every wrong one."""
    ANSWERED = "answered"
    """Only turns of which one heard the other: where somebody was persuaded, misled, or held on to the contrary."""


class Turn(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One speaker's word in one round."""

    speaker: str
    action: str
    """What it would do: one of the debate's ``admissible``."""
    round: int = 1
    heard: tuple[int, ...] | None = None
    """Positions of the turns, of earlier rounds, that were heard before; None: all of the round before."""
    text: str = ""
    """What was said for it; kept, and not learnt from by a policy."""


class Debate(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Turns about one situation. Raises ``ValueError`` for what is no debate: ``problem`` says which."""

    id: str
    environment: str
    task_id: str
    split: str
    """The environment's: training refuses another one than it learns from."""
    kind: str = ""
    namespace: str = "default"
    situation: Situation
    admissible: tuple[str, ...]
    right: tuple[str, ...]
    """The known answers, of ``admissible``: one or several."""
    turns: tuple[Turn, ...]

    def __post_init__(self) -> None:
        said = problem(self)
        if said is not None:
            raise ValueError(f"the debate '{self.id}' {said}")


class Edge(NamedTuple):
    """Positions of two turns: what was said, and who heard it."""

    heard: int
    hearer: int


class Pair(NamedTuple):
    """A right and a wrong action in the same situation, and its share of the debate's pairs."""

    right: str
    wrong: str
    times: int
    """Pairs of turns that said them."""
    share: float


def problem(debate: Debate) -> str | None:
    """Why it is no debate; None: it is one."""
    offered, turns = debate.admissible, debate.turns
    if len(offered) < 2 or len(set(offered)) < len(offered):
        return f"has the admissible actions {list(offered)}. Allowed: at least two, each once."
    if not debate.right or not set(debate.right) <= set(offered):
        return f"has the right actions {list(debate.right)}. Allowed: at least one of {_named(offered)}."
    if not turns:
        return "has no turn. Allowed: at least one."
    spoken: set[tuple[str, int]] = set()
    for at, turn in enumerate(turns):
        where = f"has in turn {at}"
        if turn.action not in offered:
            return f"{where} the action '{turn.action}'. Allowed: {_named(offered)}."
        if turn.round < 1:
            return f"{where} the round {turn.round}. Allowed: 1 and more."
        if (turn.speaker, turn.round) in spoken:
            return f"{where} '{turn.speaker}' speaking again in round {turn.round}. Allowed: once a round."
        spoken.add((turn.speaker, turn.round))
        strange = [i for i in turn.heard or () if not (0 <= i < len(turns) and turns[i].round < turn.round)]
        if strange:
            return f"{where} the heard turn {strange[0]}. Allowed: positions of turns of a round before {turn.round}."
    return None


def edges(debate: Debate) -> tuple[Edge, ...]:
    """Who heard what, each once, in the order of hearers. No circle is possible: rounds only grow along an edge."""
    found: list[Edge] = []
    for at, turn in enumerate(debate.turns):
        before = [i for i, other in enumerate(debate.turns) if other.round == turn.round - 1]
        found += [Edge(i, at) for i in (before if turn.heard is None else sorted(set(turn.heard)))]
    return tuple(found)


def pairs(debate: Debate, pairing: Pairing = Pairing.ALL) -> tuple[Pair, ...]:
    """What the debate tells apart, in the order of actions; shares add up to 1. Where all are right, or all wrong, and
    where no right turn meets a wrong one: nothing.

    >>> turns = [Turn(speaker="a", action="up"), Turn(speaker="b", action="up"), Turn(speaker="c", action="down")]
    >>> pairs(Debate(id="1", environment="e", task_id="t", split="train", situation=Situation(),
    ...              admissible=("up", "down"), right=("up",), turns=tuple(turns)))
    (Pair(right='up', wrong='down', times=2, share=1.0),)
    """
    turns, right = debate.turns, set(debate.right)
    if pairing is Pairing.ALL:
        numbers = range(len(turns))
        met = [(i, j) for i in numbers for j in numbers if turns[i].action in right and turns[j].action not in right]
    else:
        met = [pair for edge in edges(debate) if (pair := _told_apart(debate, edge, right)) is not None]
    counts = Counter((turns[i].action, turns[j].action) for i, j in met)
    return tuple(Pair(*actions, times, times / len(met)) for actions, times in sorted(counts.items()))


def _told_apart(debate: Debate, edge: Edge, right: set[str]) -> tuple[int, int] | None:
    """The edge's turns, the right one first; None where both are right or both are wrong."""
    first, second = (debate.turns[at].action in right for at in edge)
    if first == second:
        return None
    return (edge.heard, edge.hearer) if first else (edge.hearer, edge.heard)


def _named(actions: tuple[str, ...]) -> str:
    shown = ", ".join(f"'{action}'" for action in actions[:4])
    return shown if len(actions) <= 4 else f"{shown} and {len(actions) - 4} more"
