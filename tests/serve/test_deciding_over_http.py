"""The decider with its student behind a socket: what is sent, what comes back, and what happens when it breaks."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from deciding_builders import Clock, prompt, route, turn_call, turn_output, turn_user
from upstream_double import Request, Upstream, chat_answer, reply

from potstill.serve.deciding.decider import GatewayDecider
from potstill.serve.rollout.stages import MemoryState
from potstill.serve.seams import Admission, Decided, Placement
from potstill.serve.settings import Cascade, Gateway, Model, Route
from potstill.serve.settings import Upstream as Told
from potstill.serve.telemetry.metrics import Metrics
from potstill.serve.upstreams.endpoints import Upstreams
from potstill.serve.upstreams.questions import Questions
from potstill.types import Answerer, Reason
from potstill.wire.neutral import ToolUse

ONE = route(cascade=Cascade(deadline_s=60.0))


@asynccontextmanager
async def deciding(url: str, one: Route = ONE, *, shares: bool, dialect: str = "openai-chat") -> AsyncIterator[Any]:
    student = Told(name="near", base_url=url, dialect=dialect, n_shares_prompt=shares)
    settings = Gateway(
        upstreams=(Told(name="cloud", base_url="http://127.0.0.1:9/v1"), student),
        models=(Model(name="big", upstream="cloud", model="b"), Model(name="small", upstream="near", model="s-1")),
        routes=(one,),
    )
    upstreams = Upstreams(settings.upstreams, Metrics())
    decider = GatewayDecider(settings, Questions(upstreams, max_bytes=1 << 20), MemoryState(), clock=Clock())

    async def decide(asked: Any = None) -> Decided:
        return await decider.decide(
            one, asked or prompt(), Placement(episode_id="e", how="header"), Admission(tenant="default")
        )

    try:
        yield decide
    finally:
        await decider.aclose()
        await upstreams.aclose()


def calling(*arguments: str, usage: int = 11) -> dict[str, Any]:
    """An answer of chat completions with one call of ``weather`` in each choice."""
    answer = chat_answer("")
    answer["choices"] = [
        {
            "index": index,
            "finish_reason": "tool_calls",
            "message": {
                "role": "assistant",
                "content": None,
                "tool_calls": [{"id": "x", "type": "function", "function": {"name": "weather", "arguments": one}}],
            },
        }
        for index, one in enumerate(arguments)
    ]
    answer["usage"] = {"prompt_tokens": usage, "completion_tokens": 9, "total_tokens": usage + 9}
    return answer


async def test_samples_come_in_one_request_where_the_prompt_is_billed_once() -> None:
    with Upstream(lambda request: [reply(calling('{"city":"Oslo"}', '{"city": "Oslo"}', '{ "city":"Oslo"}'))]) as near:
        async with deciding(near.url, shares=True) as decide:
            asked = prompt(turn_user("go"), turn_call("look"), turn_output("x"), stream=True, seed=4, max_tokens=50)
            decided = await decide(asked)
    assert decided.answer is not None
    assert isinstance(part := decided.answer.choices[0].parts[0], ToolUse)
    assert (part.name, part.arguments) == ("weather", '{"city":"Oslo"}')
    (sent,) = near.requests
    body = sent.json
    assert (body["model"], body["n"], body["temperature"]) == ("s-1", 3, 0.7)
    assert "seed" not in body
    assert not body.get("stream")
    assert [tool["function"]["name"] for tool in body["tools"]] == ["weather", "look"]
    (called,) = decided.calls
    assert (called.answerer, called.n, called.raw_usage) == (
        Answerer.STUDENT,
        3,
        {"prompt_tokens": 11, "completion_tokens": 9, "total_tokens": 20},
    )


async def test_samples_come_in_several_requests_elsewhere() -> None:
    cities = iter(["Oslo", "Oslo", "Rome"])
    with Upstream(lambda request: [reply(calling(f'{{"city":"{next(cities)}"}}'))]) as near:
        async with deciding(near.url, shares=False) as decide:
            decided = await decide()
    assert decided.answer is None
    assert decided.decision is not None
    assert (decided.decision.reason, decided.decision.samples) == (Reason.DISAGREED, 3)
    assert [request.json.get("n", 1) for request in near.requests] == [1, 1, 1]
    assert len(decided.calls) == 3


def broken(request: Request) -> Any:
    return [reply(b'{"choices": [{"mess')]


def failing(request: Request) -> Any:
    return [reply({"error": {"message": "no GPU"}}, 500)]


@pytest.mark.parametrize("answer", [broken, failing], ids=["wrong JSON", "500"])
async def test_a_broken_student_is_the_teachers_turn_and_its_cost_is_recorded(answer: Any) -> None:
    with Upstream(answer) as near:
        async with deciding(near.url, shares=True) as decide:
            decided = await decide()
    assert decided.answer is None
    assert decided.decision is not None
    assert decided.decision.reason is Reason.STUDENT_FAILED
    assert decided.calls[0].error is not None
    assert decided.notes


async def test_a_student_that_is_not_there_is_the_teachers_turn() -> None:
    async with deciding("http://127.0.0.1:9/v1", shares=True) as decide:
        decided = await decide()
    assert decided.answer is None
    assert "ModelUnavailable" in decided.notes[0]


async def test_one_failed_sample_of_three_is_no_vote() -> None:
    count = iter(range(100))

    def answer(request: Request) -> Any:
        return failing(request) if next(count) == 1 else [reply(calling('{"city":"Oslo"}'))]

    with Upstream(answer) as near:
        async with deciding(near.url, shares=False) as decide:
            decided = await decide()
    assert decided.answer is None
    assert "2 of 3 samples" in decided.notes[0]
    assert sum(called.error is not None for called in decided.calls) == 1
