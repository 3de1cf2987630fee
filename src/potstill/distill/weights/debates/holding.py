"""Debates that several policies hold over recorded situations whose answers are known: one round, each says an action.

A policy reads no chat, so it hears nobody and nothing would change in a second round. Debates of models that do hear
each other come in as a file (``lines``). Knows speakers as functions. Does not know files.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from potstill.distill.weights.data.labelled import Labelled, state_key
from potstill.distill.weights.debates.graph import Debate, Turn
from potstill.errors import ConfigError
from potstill.types import Situation

Speaker = Callable[[Situation, tuple[str, ...]], Mapping[str, float]]
"""How probable a speaker finds each admissible action."""


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
    """A debate a situation. Each says what it finds likeliest, of equals the first. Raises ``ConfigError`` for fewer
    than two speakers."""
    if len(speakers) < 2:
        raise ConfigError(f"A debate needs at least two speakers; there is {len(speakers)}.")
    for one, right in situations:
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
            turns=tuple(
                Turn(speaker=name, action=_likeliest(ask(one.situation, one.admissible), one.admissible))
                for name, ask in speakers.items()
            ),
        )


def _likeliest(probabilities: Mapping[str, float], admissible: Sequence[str]) -> str:
    return max(admissible, key=lambda action: (probabilities[action], -admissible.index(action)))


def _first(same: Sequence[Labelled]) -> Labelled:
    return min(same, key=lambda one: (one.trajectory_id, one.step_index))
