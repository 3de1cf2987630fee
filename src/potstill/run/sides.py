"""The two sides of a cascade as the episode loop asks them: prompts in, replies and billed calls out.

What it knows: how a plan, a reasoning and an action are asked for. What it does not do: decide who acts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Sequence

import msgspec

from potstill.errors import BadResponse, KeyRefused, ModelError, ModelTimeout, ModelUnavailable, RateLimited
from potstill.models.reasoned import LEAD
from potstill.protocols import CandidateScorer, ExpertHandle, Model
from potstill.run import prompt
from potstill.run.arms import Agent, Reasoning
from potstill.trajectories.situations import situation_of
from potstill.types import Answerer, Call, Completion, Message, Purpose, Reply, Request

OUTAGES = (BadResponse, KeyRefused, ModelTimeout, ModelUnavailable, RateLimited)
"""Errors that say something about an endpoint, not about one request."""
PATIENCE = 3
"""Episodes in a row that an outage may spoil before the run is stopped."""


class Health:
    """Whether a model answers, over all episodes of one sitting."""

    def __init__(self) -> None:
        self._answered = False
        self._asked = False
        self._outage: ModelError | None = None
        self._spoiled = 0

    def saw(self, error: ModelError | None) -> None:
        """Take note of how one request ended; None: it was answered."""
        self._asked = True
        if error is None:
            self._answered = True
        if error is None or isinstance(error, OUTAGES):
            self._outage = error

    @property
    def hopeless(self) -> bool:
        """It cannot be reached and has never answered: its address, key or name is wrong."""
        return self._outage is not None and not self._answered

    def after_episode(self) -> ModelError | None:
        """The error for which the run must stop: a refused key, a model that never answered, a lasting outage."""
        asked, self._asked = self._asked, False
        if not asked:
            return None
        self._spoiled = self._spoiled + 1 if self._outage is not None else 0
        lasting = isinstance(self._outage, KeyRefused) or self.hopeless or self._spoiled >= PATIENCE
        return self._outage if lasting else None


class Side:
    """One model in one role within one episode. Collects the calls of the current step."""

    def __init__(
        self,
        model: Model,
        answerer: Answerer,
        agent: Agent,
        *,
        seed: int,
        handle: ExpertHandle | None = None,
        health: Health | None = None,
    ) -> None:
        self.model = model
        self.answerer = answerer
        self.agent = agent
        self._seed = seed
        self.health = health or Health()
        self._handle = handle
        self._calls: list[Call] = []
        self._asked = 0

    def take_calls(self) -> tuple[Call, ...]:
        """The calls since the last time, oldest first."""
        calls, self._calls = tuple(self._calls), []
        return calls

    async def plan(self, view: prompt.View) -> str:
        view = msgspec.structs.replace(view, agent=self.agent)
        request = self._request(view, prompt.plan_messages(view), Purpose.PLAN)
        return (await self._sample(request, 1))[0].text.strip()

    async def act(self, view: prompt.View, n: int, temperature: float, *, likelihood: bool = False) -> list[Reply]:
        """``n`` actions. With separate reasoning, one reasoning is written and shared by all of them."""
        view = msgspec.structs.replace(view, agent=self.agent)
        thought: str | None = None
        if self.agent.reasoning is Reasoning.SEPARATE:
            request = self._request(view, prompt.reason_messages(view), Purpose.REASON, stop=("\n",))
            thought = (await self._sample(request, 1))[0].text.strip()
        opening = await self._first_thought(view)
        begun = f"{LEAD} {opening}" if opening and self.model.capabilities.goes_on else ""
        messages = prompt.act_messages(view, thought, "" if begun else opening)
        replies = await self._act(view, messages, n, temperature, likelihood, begun)
        if thought is not None:
            replies = [msgspec.structs.replace(reply, reasoning=thought) for reply in replies]
        return replies

    async def _first_thought(self, view: prompt.View) -> str:
        """What this episode's first reasoning begins with; empty: nothing is said before."""
        if not self.agent.first_thought or view.turns:
            return ""
        thinking = await self._sample(self._request(view, prompt.thought_messages(view), Purpose.REASON), 1)
        return prompt.first_step(thinking[0].text)

    async def act_compact(self, view: prompt.View, temperature: float) -> list[Reply]:
        view = msgspec.structs.replace(view, agent=self.agent)
        return await self._act(view, prompt.compact_messages(view), 1, temperature)

    async def _act(
        self,
        view: prompt.View,
        messages: tuple[Message, ...],
        n: int,
        temperature: float,
        likelihood: bool = False,
        begun: str = "",
    ) -> list[Reply]:
        request = self._request(view, messages, Purpose.ACT, temperature=temperature, begun=begun)
        if likelihood and isinstance(self.model, CandidateScorer):
            replies: Sequence[Reply] = await self._recorded(self.model.score(request))
        else:
            replies = await self._sample(request, n)
        if request.admissible:
            return list(replies)  # an action each, and its reasoning beside it where the model writes some first
        if begun:
            replies = [msgspec.structs.replace(reply, text=f"{begun}\n{reply.text}") for reply in replies]
        return [prompt.split_reply(reply, self.agent.reasoning) for reply in replies]

    def _request(
        self,
        view: prompt.View,
        messages: tuple[Message, ...],
        purpose: Purpose,
        *,
        temperature: float = 0.0,
        stop: tuple[str, ...] = (),
        begun: str = "",
    ) -> Request:
        acting = purpose is Purpose.ACT
        reasons = self.agent.reasoning is Reasoning.WITH_ACTION
        constrained = acting and (not reasons or self.model.capabilities.reasons_first)
        long = (reasons or not constrained) and not view.observation.tools
        self._asked += 1
        return Request(
            messages=messages,
            tools=view.observation.tools if acting else (),
            admissible=(view.observation.admissible or ()) if constrained else (),
            temperature=temperature,
            max_tokens=self.agent.max_tokens + (self.agent.reasoning_tokens if long else 0),
            stop=stop,
            begun=begun,
            seed=_derive(self._seed, self._asked),
            static_messages=min(prompt.static_messages(view), len(messages)),
            purpose=purpose,
            situation=situation_of(view.goal, view.plan, view.turns, view.observation),
            handle=self._handle,
        )

    async def _sample(self, request: Request, n: int) -> Sequence[Reply]:
        return await self._recorded(self.model.sample(request, n))

    async def _recorded(self, asked: Awaitable[Completion]) -> Sequence[Reply]:
        try:
            completion = await asked
        except ModelError as error:
            self.health.saw(error)
            raise
        self.health.saw(None)
        self._calls.extend(msgspec.structs.replace(call, answerer=self.answerer) for call in completion.calls)
        return completion.replies


def _derive(seed: int, count: int) -> int:
    """A 31-bit seed for the ``count``-th request of an episode, so that steps differ and reruns repeat."""
    return int.from_bytes(hashlib.sha256(f"{seed}:{count}".encode()).digest()[:4], "big") >> 1
