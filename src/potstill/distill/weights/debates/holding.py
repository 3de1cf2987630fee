"""Debates about recorded situations whose answers are known: one round, in which each speaker says an action.

A policy reads no chat and a recorded run is over, so they hear nobody and nothing would change in a second round.
Debates of models that do hear each other come in as a file (``lines``). Knows speakers as functions. Does not know
files.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from potstill.distill.weights.data.labelled import Labelled, state_key
from potstill.distill.weights.debates.graph import Debate, Turn
from potstill.errors import ConfigError

Speaker = Callable[[Labelled], Mapping[str, float]]
"""How probable a speaker finds each admissible action of a decision; empty where it has nothing to say."""


def recorded(decisions: Iterable[Labelled]) -> Speaker:
    """One who did what these decisions say, in the same situations, and is silent in others."""
    did: dict[bytes, Counter[str]] = {}
    for one in decisions:
        did.setdefault(state_key(one), Counter())[one.action] += one.count

    def speak(one: Labelled) -> Mapping[str, float]:
        counts = did.get(state_key(one), Counter())
        return {action: counts[action] / counts.total() for action in one.admissible} if counts else {}

    return speak


def drawn(decisions: Iterable[Labelled], n: int, seed: int = 0) -> list[tuple[Labelled, tuple[str, ...]]]:
    """So many different situations (all, where there are fewer), each with every action that was chosen in it. The same
    for the same decisions, in whatever order they come."""
    found: dict[bytes, list[Labelled]] = {}
    for one in decisions:
        found.setdefault(state_key(one), []).append(one)
    keys = sorted(found)
    chosen = random.Random(seed).sample(keys, min(n, len(keys)))
    return [(_first(found[key]), tuple(sorted({one.action for one in found[key]}))) for key in chosen]


def debates(
    situations: Sequence[tuple[Labelled, tuple[str, ...]]], speakers: Mapping[str, Speaker], split: str
) -> Iterator[Debate]:
    """A debate for each situation in which two or more speak. Each says what it finds likeliest, of equals the first.

    Raises ``ConfigError`` for fewer than two speakers.
    """
    if len(speakers) < 2:
        raise ConfigError(f"A debate needs at least two speakers; there is {len(speakers)}.")
    for one, right in situations:
        heard = ((name, ask(one)) for name, ask in speakers.items())
        turns = [Turn(speaker=name, action=_likeliest(found, one.admissible)) for name, found in heard if found]
        if len(turns) < 2:
            continue
        yield Debate(
            id=f"{one.trajectory_id}:{one.step_index}",
            environment=one.environment,
            task_id=one.task_id,
            split=split,
            kind=one.kind,
            namespace=one.namespace,
            situation=one.situation,
            admissible=one.admissible,
            right=right,
            turns=tuple(turns),
        )


def _likeliest(probabilities: Mapping[str, float], admissible: Sequence[str]) -> str:
    return max(admissible, key=lambda action: (probabilities[action], -admissible.index(action)))


def _first(same: Sequence[Labelled]) -> Labelled:
    return min(same, key=lambda one: (one.trajectory_id, one.step_index))
