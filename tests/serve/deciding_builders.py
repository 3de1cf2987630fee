"""A gateway's decider with a student fed by hand, for the tests of who answers."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Any

from potstill.serve.deciding.decider import GatewayDecider
from potstill.serve.deciding.verdicts import Verdicts
from potstill.serve.rollout.stages import MemoryState
from potstill.serve.seams import Admission, Asked, Decided, Placement
from potstill.serve.settings import Cascade, Context, Gateway, Mode, Model, Route, Upstream
from potstill.trajectories.exchange import Exchange
from potstill.trajectories.exchange import Upstream as Called
from potstill.types import Answerer, FinishReason
from potstill.wire.events import Event
from potstill.wire.neutral import Answer, Choice, Part, Prompt, Text, Tool, ToolOutput, ToolUse, Turn

WEATHER = Tool(
    name="weather",
    parameters={
        "type": "object",
        "properties": {"city": {"type": "string"}, "unit": {"enum": ["C", "F"]}},
        "required": ["city"],
    },
)
LOOK = Tool(name="look", parameters={"type": "object", "properties": {}})


class Clock:
    """Unix seconds that a test moves."""

    def __init__(self, now: float = 1_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class FakeAsk:
    """Answers with the choices that it was fed, the last of them for ever; an exception among them is raised."""

    def __init__(self, *fed: Choice | Exception, delay_s: float = 0.0, shares_prompt: bool = True) -> None:
        self.fed: deque[Choice | Exception] = deque(fed)
        self.delay_s, self.shares_prompt = delay_s, shares_prompt
        self.asked: list[tuple[Model, Prompt, int]] = []
        self.begun = asyncio.Event()

    async def ask(
        self, model: Model, prompt: Prompt, *, n: int = 1, told: Callable[[Called], None] = lambda call: None
    ) -> list[Asked]:
        self.asked.append((model, prompt, n))
        self.begun.set()
        await asyncio.sleep(self.delay_s)
        choices = [self._next() for _ in range(n)]
        groups = [tuple(choices)] if self.shares_prompt else [(choice,) for choice in choices]
        asked = [self._asked(model, group) for group in groups]
        for one in asked:
            told(one.call)
        return asked

    def stream(self, model: Model, prompt: Prompt) -> AsyncIterator[Event]:
        raise AssertionError("a decision is never streamed")

    def _next(self) -> Choice:
        found = self.fed.popleft() if len(self.fed) > 1 else self.fed[0]
        if isinstance(found, Exception):
            raise found
        return found

    def _asked(self, model: Model, choices: tuple[Choice, ...]) -> Asked:
        call = Called(
            model=model.model, upstream=model.upstream, answerer=Answerer.NOBODY, dialect="openai-chat", n=len(choices)
        )
        return Asked(answer=Answer(id="answer-1", model=model.model, choices=choices), call=call)


def text(words: str, finish: FinishReason = FinishReason.STOP) -> Choice:
    return Choice(parts=(Text(text=words),), finish=finish)


def call(name: str = "weather", identity: str = "call_1", **arguments: Any) -> Choice:
    return raw_call(name, json.dumps(arguments), identity)


def raw_call(name: str, arguments: str, identity: str = "call_1") -> Choice:
    return Choice(parts=(ToolUse(id=identity, name=name, arguments=arguments),), finish=FinishReason.TOOL_CALLS)


def turn_user(words: str) -> Turn:
    return Turn(role="user", parts=(Text(text=words),))


def turn_call(name: str, identity: str = "c0", **arguments: Any) -> Turn:
    return Turn(role="assistant", parts=(ToolUse(id=identity, name=name, arguments=json.dumps(arguments)),))


def turn_output(words: str, identity: str = "c0") -> Turn:
    parts: tuple[Part, ...] = (ToolOutput(call_id=identity, parts=(Text(text=words),)),)
    return Turn(role="tool", parts=parts)


SYSTEM = Turn(role="system", parts=(Text(text="You are a helper."),))


def prompt(*turns: Turn, tools: tuple[Tool, ...] = (WEATHER, LOOK), **fields: Any) -> Prompt:
    asked = turns or (turn_user("Weather in Oslo?"),)
    return Prompt(model="auto", turns=(SYSTEM, *asked), tools=tools, dialect="openai-chat", **fields)


def route(mode: Mode = Mode.CASCADE, *, rollout: bool = False, **fields: Any) -> Route:
    cascade = fields.pop("cascade", Cascade())
    context = fields.pop("context", Context())
    return Route(
        name="auto",
        teacher="big",
        student="small",
        mode=mode,
        rollout=rollout,
        cascade=cascade,
        context=context,
        **fields,
    )


def settings(*routes: Route, teacher: str = "gpt-5", student: str = "gpt-5-nano") -> Gateway:
    return Gateway(
        upstreams=(
            Upstream(name="cloud", base_url="http://127.0.0.1:1/v1"),
            Upstream(name="near", base_url="http://127.0.0.1:2/v1", n_shares_prompt=True),
        ),
        models=(
            Model(name="big", upstream="cloud", model=teacher),
            Model(name="small", upstream="near", model=student),
        ),
        routes=routes,
    )


class Rig:
    """A decider over a fake student."""

    def __init__(self, ask: FakeAsk, one: Route, *, store: Any = None, clock: Clock | None = None, **more: Any) -> None:
        self.ask, self.route = ask, one
        self.clock = clock or Clock()
        self.store = MemoryState() if store is None else store
        self.recorded: list[Exchange] = []
        self.decider = GatewayDecider(
            more.pop("settings", settings(one)),
            ask,
            self.store,
            more.pop("library", None),
            record=self.recorded.append,
            clock=self.clock,
            **more,
        )
        self.decider.kept.patience_s = 60.0
        self.verdicts = Verdicts(self.decider.stages, self.store, lambda namespace, episode_id: None)

    async def decide(
        self, asked: Prompt | None = None, episode: str = "e1", tenant: str = "default", *, ready: bool = True
    ) -> Decided:
        """``ready``: read the stages first, however long a loaded machine takes for it."""
        if ready and not self.decider.stages.fresh:
            await self.decider.stages.refresh(within_s=60.0)
        return await self.decider.decide(
            self.route,
            asked or prompt(),
            Placement(episode_id=episode, how="header"),
            Admission(tenant=tenant),
        )

    def finish(self, decided: Decided, asked: Prompt, answer: Choice, episode: str = "e1", **fields: Any) -> Exchange:
        exchange = answered(decided, answer, episode, started_at=self.clock.now, **fields)
        self.decider.finished(self.route, asked, exchange)
        return exchange


def answered(decided: Decided, answer: Choice, episode: str = "e1", **fields: Any) -> Exchange:
    """The exchange in which the teacher gave ``answer``, as the recorder would have it."""
    from potstill.wire.dialect import dialect

    body = dialect("openai-chat").encode_answer(
        Answer(id="t", model="gpt-5", choices=(answer,), created=1.0), Prompt(model="auto", turns=())
    )
    told = {"dialect": "openai-chat", "request_id": "r1", "started_at": 1.0, "response": body, **fields}
    return Exchange(namespace="default", episode_id=episode, route="auto", stage=decided.stage, **told)
