"""The shapes in which the parity gate asks a held-out question, beside the one it was recorded in.

Knows situations and vectors. Does not know logits.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from potstill.types import Past, Situation, Struct

ELSEWHERE = 50
"""Questions asked in other shapes than their own, evenly picked."""
LONG = 40
"""Turns of a long past."""
SHORT = 60
"""Characters of a question that are shown."""


class Question(Struct, frozen=True, kw_only=True):
    """What a policy that reads texts is asked."""

    situation: Situation
    admissible: tuple[str, ...]


def shaped(questions: Sequence[Any]) -> dict[str, list[tuple[int, Any]]]:
    """The questions by shape, each with the index that it was given under. Vectors have their own shape only."""
    found = as_recorded(questions)
    if not isinstance(questions[0], Question):
        return found
    step = max(1, -(-len(questions) // ELSEWHERE))
    some = [(index, question) for index, question in found["as recorded"] if index % step == 0]
    changes = {"no past": _no_past, "long past": _long_past, "one action": _one_action, "half the actions": _half}
    return found | {name: [(index, change(question)) for index, question in some] for name, change in changes.items()}


def as_recorded(questions: Sequence[Any]) -> dict[str, list[tuple[int, Any]]]:
    """The questions in their own shape alone."""
    return {"as recorded": list(enumerate(questions))}


def told(question: Any) -> tuple[str, tuple[str, ...]]:
    """A question for a person, short, and the actions' names where it has them."""
    if not isinstance(question, Question):
        return f"vector {[round(float(value), 3) for value in question]}"[:SHORT], ()
    said = " ".join(question.situation.observation.split())
    turns, actions = len(question.situation.past), len(question.admissible)
    return f"'{said[:SHORT]}' after {turns} turns, {actions} actions", question.admissible


def _no_past(question: Question) -> Question:
    return _with_past(question, ())


def _long_past(question: Question) -> Question:
    """The same turns again and again; what is seen and done now where there are none."""
    situation = question.situation
    turns = situation.past or (Past(observation=situation.observation, action=question.admissible[0]),)
    return _with_past(question, (turns * LONG)[:LONG])


def _one_action(question: Question) -> Question:
    return msgspec.structs.replace(question, admissible=question.admissible[-1:])


def _half(question: Question) -> Question:
    return msgspec.structs.replace(question, admissible=question.admissible[: max(1, len(question.admissible) // 2)])


def _with_past(question: Question, past: tuple[Past, ...]) -> Question:
    return msgspec.structs.replace(question, situation=msgspec.structs.replace(question.situation, past=past))
