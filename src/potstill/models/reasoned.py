"""An answer that reasons before it acts: a line of reasoning is written, then the actions are weighed behind it.

What is written before the action changes how likely each action is, so a student that learnt to reason must write
first, also where the actions are listed and only weighed (a cascade's likelihood is then given the reasoning). Knows
how such an answer begins. Does not know prompts (``run.prompt``), tokens (``lm_texts``) or engines.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

import msgspec

from potstill.protocols import CandidateScorer, Capabilities, Model
from potstill.types import Call, Completion, Purpose, Request

WITH_ACTION = "with-action"
"""The voice that asks for such answers (``run.arms.Reasoning``)."""
LEAD = "reasoning:"


class Writer(Model, CandidateScorer, Protocol):
    """A model that goes on with what was begun (``Capabilities.goes_on``), and weighs actions."""


def one_line(reasoning: str) -> str:
    """Reasoning as it stands in an answer: one line."""
    return " ".join(reasoning.split())


def begun_with(reasoning: str) -> str:
    """An answer up to its action, as ``run.prompt.split_reply`` reads it.

    >>> begun_with("it is heavy")
    'reasoning: it is heavy\\naction:'
    """
    return f"{LEAD} {one_line(reasoning)}\naction:"


class ReasonsFirst:
    """A model that, asked to choose among actions, writes a line of reasoning first. Other requests pass unchanged."""

    def __init__(self, model: Writer) -> None:
        self._model = model

    @property
    def name(self) -> str:
        return self._model.name

    @property
    def capabilities(self) -> Capabilities:
        return msgspec.structs.replace(self._model.capabilities, reasons_first=True)

    async def sample(self, request: Request, n: int = 1) -> Completion:
        """``n`` answers in order, each with its own reasoning, and with the candidates behind it where they are known.

        Both are drawn at the request's temperature. One call for all reasonings, one for each choice.
        """
        if not request.admissible or request.begun:
            return await self._model.sample(request, n)
        return await self._answered(request, n, lambda one: self._model.sample(one, 1))

    async def score(self, request: Request) -> Completion:
        """The likeliest reasoning, and behind it the log-probability of every action."""
        if request.begun:
            return await self._model.score(request)
        greedy = msgspec.structs.replace(request, temperature=0.0)
        return await self._answered(greedy, 1, self._model.score)

    async def aclose(self) -> None:
        await self._model.aclose()

    async def _answered(
        self, request: Request, n: int, choose: Callable[[Request], Awaitable[Completion]]
    ) -> Completion:
        thought = await self._model.sample(
            msgspec.structs.replace(request, admissible=(), begun=LEAD, stop=("\n",), purpose=Purpose.REASON), n
        )
        replies, calls = [], list[Call](thought.calls)
        for index, said in enumerate(thought.replies):
            reasoning = one_line(said.text)
            seed = None if request.seed is None else request.seed + index
            chosen = await choose(msgspec.structs.replace(request, begun=begun_with(reasoning), seed=seed))
            replies.append(msgspec.structs.replace(chosen.replies[0], reasoning=reasoning))
            calls += chosen.calls
        return Completion(replies=tuple(replies), calls=tuple(calls))
