"""The same episode through all three dialects, streamed or not, is the same trajectory and the same live episode."""

from __future__ import annotations

import json
from typing import Any

import pytest

from potstill.record.answers import messages_of
from potstill.record.fold import trajectory_of
from potstill.record.live import LiveEpisodes
from potstill.trajectories.exchange import Exchange, Recorded
from potstill.types import FinishReason, Usage
from potstill.wire.assemble import events_of
from potstill.wire.dialect import NAMES, dialect
from potstill.wire.neutral import Answer, Choice, Prompt, Text, Tool, ToolOutput, ToolUse, Turn

SEARCH = Tool(name="search", description="Find", parameters={"type": "object", "properties": {}})
CALL = ToolUse(id="call_1", name="search", arguments='{"to":"Oslo"}')
USAGE = Usage(input_tokens=20, output_tokens=5)
TURNS = (
    Turn(role="system", parts=(Text(text="Book flights."),)),
    Turn(role="user", parts=(Text(text="To Oslo"),)),
    Turn(role="assistant", parts=(Text(text="I look."), CALL)),
    Turn(role="tool", parts=(ToolOutput(call_id="call_1", parts=(Text(text="SK123"),)),)),
)


def prompt(turns: tuple[Turn, ...], *, stream: bool) -> Prompt:
    return Prompt(model="m", turns=turns, tools=(SEARCH,), max_tokens=50, stream=stream, stream_usage=stream)


def answer(*parts: Any, finish: FinishReason = FinishReason.STOP) -> Answer:
    return Answer(id="a-1", model="m-1", choices=(Choice(parts=parts, finish=finish),), usage=USAGE)


def bytes_of(name: str, asked: Prompt, given: Answer) -> tuple[bytes, bytes]:
    speaks = dialect(name)
    if not asked.stream:
        return speaks.encode_request(asked), speaks.encode_answer(given, asked)
    encoder = speaks.stream_encoder(asked)
    return speaks.encode_request(asked), b"".join(encoder.encode(event) for event in events_of(given))


def episode(name: str, *, stream: bool) -> list[tuple[bytes, bytes]]:
    first = answer(Text(text="I look."), CALL, finish=FinishReason.TOOL_CALLS)
    return [
        bytes_of(name, prompt(TURNS[:2], stream=stream), first),
        bytes_of(name, prompt(TURNS, stream=stream), answer(Text(text="Booked."))),
    ]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("name", NAMES)
def test_every_dialect_folds_into_the_same_steps(name: str, stream: bool) -> None:
    exchanges = [
        Recorded(
            seq=seq,
            exchange=Exchange(
                namespace="t",
                episode_id="e",
                route="m",
                dialect=name,
                started_at=float(seq),
                streamed=stream,
                request=request,
                response=response,
            ),
        )
        for seq, (request, response) in enumerate(episode(name, stream=stream), 1)
    ]
    trajectory = trajectory_of(exchanges, namespace="t", episode_id="e")
    first, second = trajectory.steps
    assert [first.error, second.error] == [None, None]
    assert trajectory.goal == first.observation.text == "To Oslo"
    assert first.action.text == "I look."
    assert [(one.id, one.name, json.loads(one.arguments)) for one in first.action.tool_calls] == [
        ("call_1", "search", {"to": "Oslo"})
    ]
    assert [(one.call_id, one.text) for one in second.observation.tool_results] == [("call_1", "SK123")]
    assert second.action.text == "Booked."
    (call,) = second.calls
    assert [message.role for message in call.prompt] == ["system", "user", "assistant", "tool"]
    assert [tool.name for tool in call.tools] == ["search"]
    assert call.usage is not None
    assert (call.usage.input_tokens, call.usage.output_tokens) == (20, 5)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("name", NAMES)
def test_every_dialect_is_followed_live_and_equal_beginnings_come_apart(name: str, stream: bool) -> None:
    live = LiveEpisodes()
    request, response = episode(name, stream=stream)[0]
    one = live.place("t", {}, name, request, 0.0)
    other = live.place("t", {}, name, request, 0.1)
    live.answered("t", one, name, response, streamed=stream, now=0.5)
    elsewhere = bytes_of(name, prompt(TURNS[:2], stream=stream), answer(Text(text="Which day?")))[1]
    live.answered("t", other, name, elsewhere, streamed=stream, now=0.6)
    then = episode(name, stream=stream)[1][0]
    assert one.episode_id != other.episode_id
    assert live.place("t", {}, name, then, 1.0).episode_id == one.episode_id
    assert live.placed["by-answer"] == 1


@pytest.mark.parametrize("name", NAMES)
def test_an_answer_is_read_the_same_whole_and_streamed(name: str) -> None:
    whole, streamed = (
        messages_of(name, episode(name, stream=stream)[0][1], streamed=stream) for stream in (False, True)
    )
    assert len(whole) == len(streamed) == 1
    assert messages_of(name, b"{", streamed=False) == messages_of(name, b"data: {", streamed=True) == []
