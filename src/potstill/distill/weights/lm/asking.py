"""A tuned student as the parity gate asks it: one question at a time, at several lengths of prompts, and what it costs.

Knows models and questions. Does not know files, nor what an answer should be.
"""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import numpy as np

from potstill.distill.weights.compress.cost import Cost, resident_bytes
from potstill.distill.weights.gate import Side
from potstill.distill.weights.gate_shapes import AS_RECORDED, Question, as_recorded
from potstill.models.tuned import TunedModel
from potstill.models.tuned_file import Tuned
from potstill.run.voice import messages_of
from potstill.types import Call, Request

ELSEWHERE = 6
"""Questions asked at other lengths than their own, evenly picked."""
REPEATED = 4
"""How often a long prompt has its observation."""


def at_lengths(questions: Sequence[Any]) -> dict[str, list[tuple[int, Any]]]:
    """The questions as recorded, and some with a short and a long observation, each with its index as given."""
    found = as_recorded(questions)
    some = found[AS_RECORDED][:: max(1, -(-len(questions) // ELSEWHERE))]
    changes: dict[str, Callable[[str], str]] = {
        "short prompt": lambda text: text.splitlines()[-1] if text else text,
        "long prompt": lambda text: "\n".join([text] * REPEATED),
    }
    return found | {
        name: [(index, _observing(question, change(question.situation.observation))) for index, question in some]
        for name, change in changes.items()
    }


def _observing(question: Question, observation: str) -> Question:
    situation = msgspec.structs.replace(question.situation, observation=observation)
    return msgspec.structs.replace(question, situation=situation)


class Sitting:
    """A student that answers the gate. ``before``: bytes that the process had before the student was opened; ``first``
    is asked at once, to warm up."""

    def __init__(self, student: TunedModel, tuned: Tuned, first: Question, before: int | None) -> None:
        self.student, self.tuned = student, tuned
        self._calls: list[Call] = []
        self.side()([first])
        self._calls.clear()
        now = resident_bytes()
        self._grown = None if now is None or before is None else max(0, now - before)

    def side(self) -> Side:
        """The log-probability of every admissible action, after the prompt that the student learnt with."""

        async def ask(questions: Sequence[Question]) -> list[Any]:
            answers = []
            for question in questions:
                found = await self.student.weigh(asked(self.tuned, question))
                self._calls += found.calls
                scores = dict(found.replies[0].candidates)
                answers.append(np.array([scores[action] for action in question.admissible]))
            return answers

        return lambda questions: asyncio.run(ask(questions))

    def cost(self) -> Cost:
        """Of all decisions so far."""
        return Cost(
            decisions=len(self._calls),
            latency_ms=1e3 * statistics.median(call.latency_s for call in self._calls),
            cpu_ms=1e3 * statistics.fmean(call.cpu_s or 0.0 for call in self._calls),
            memory_bytes=self._grown,
        )


def asked(tuned: Tuned, question: Question) -> Request:
    """A question of the gate as the episode loop would ask it."""
    messages = messages_of(tuned, question.situation, question.admissible)
    return Request(messages=messages, admissible=question.admissible, situation=question.situation)


def differing_text(one: TunedModel, other: TunedModel, tuned: Tuned, questions: Sequence[Question]) -> str | None:
    """A text of the questions that two students split into other tokens, or a prompt that they write otherwise."""

    async def render(model: TunedModel) -> list[str]:
        return [await model.render(asked(tuned, question)) for question in questions]

    for ours, theirs in zip(asyncio.run(render(one)), asyncio.run(render(other)), strict=True):
        if ours != theirs:
            return theirs
    texts = {text for question in questions for text in _texts(tuned, question)}
    return next((text for text in sorted(texts) if one.tokenize(text) != other.tokenize(text)), None)


def _texts(tuned: Tuned, question: Question) -> list[str]:
    return [*(message.content for message in asked(tuned, question).messages), *question.admissible]
