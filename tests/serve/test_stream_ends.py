"""Whether a stream ended is read off its end: the same as if every event had been parsed, and without that."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from upstream_double import chat_event

from potstill.serve.upstreams import answers
from potstill.serve.upstreams.answers import events_of, stream_ended, stream_told_error, usage_of_stream

ENDS = {
    "anthropic": ("message_stop",),
    "openai-responses": ("response.completed", "response.incomplete", "response.failed"),
}


def parsed(data: bytes) -> dict[str, Any]:
    try:
        found = msgspec.json.decode(data)
    except (msgspec.MsgspecError, UnicodeError):
        return {}
    return found if isinstance(found, dict) else {}


def ended_by_all_events(body: bytes, dialect: str) -> bool:
    """The definition."""
    said = events_of(body)
    if dialect != "openai-chat":
        return any(parsed(data).get("type") in ENDS[dialect] for data in said)
    finished: dict[Any, bool] = {}
    for data in said:
        if data.strip() == b"[DONE]":
            return True
        for choice in parsed(data).get("choices", []):
            index = choice.get("index", 0)
            finished[index] = finished.get(index, False) or isinstance(choice.get("finish_reason"), str)
    return bool(finished) and all(finished.values())


def told_error_by_all_events(body: bytes) -> bool:
    last = parsed(next(reversed(events_of(body)), b""))
    return last.get("type") == "error" or last.get("error") is not None


lines_end = st.sampled_from([b"\n", b"\r\n", b"\r"])
words = st.sampled_from(["hi", "message_stop", "response.completed", "[DONE]", '"finish_reason":"stop"', "a\n\nb"])
kinds = st.sampled_from(["message_stop", "response.completed", "response.failed", "error", "message_delta", "ping"])
choices = st.lists(
    st.fixed_dictionaries(
        {"delta": st.fixed_dictionaries({"content": words}), "finish_reason": st.sampled_from([None, "stop"])},
        optional={"index": st.integers(0, 2)},
    ),
    max_size=2,
)
events = st.one_of(
    st.fixed_dictionaries({"type": kinds | st.just({"an": "object"})}, optional={"text": words}),
    st.fixed_dictionaries({"choices": choices}, optional={"error": st.none()}),
    st.just({"error": {"message": "oops"}}),
).map(msgspec.json.encode)
data = st.one_of(events, st.sampled_from([b"[DONE]", b"{", b"", b"[1]"]))


@st.composite
def blocks(draw: st.DrawFn) -> bytes:
    end = draw(lines_end)
    name = draw(st.sampled_from([b"", b"event: message_stop", b": ping", b"event: x"]))
    space = draw(st.sampled_from([b"", b" "]))
    told = [b"data:" + space + line for line in draw(data).split(b"\n")] if draw(st.booleans()) or not name else []
    return b"".join(line + end for line in [*([name] if name else []), *told]) + end * draw(st.integers(1, 3))


@given(st.lists(blocks(), max_size=8).map(b"".join), st.integers(0, 6))
@pytest.mark.parametrize("dialect", ["openai-chat", "openai-responses", "anthropic"])
def test_an_end_is_found_as_if_every_event_were_parsed(dialect: str, body: bytes, cut: int) -> None:
    body = body[: len(body) - cut]
    assert stream_ended(body, dialect) is ended_by_all_events(body, dialect)
    assert stream_told_error(body) is told_error_by_all_events(body)


def named(kind: str, **more: Any) -> bytes:
    return f"event: {kind}\ndata: ".encode() + msgspec.json.encode({"type": kind, **more}) + b"\n\n"


MANY = 5000
LONG = {
    "anthropic": [
        named("message_start", message={"usage": {"input_tokens": 5, "output_tokens": 1}}),
        *[named("content_block_delta", delta={"type": "text_delta", "text": "hello wo"})] * MANY,
        named("message_delta", usage={"output_tokens": 6000}),
        named("message_stop"),
    ],
    "openai-responses": [
        *[named("response.output_text.delta", delta="hello wo")] * MANY,
        named("response.completed", response={"usage": {"input_tokens": 5, "output_tokens": 6000}}),
    ],
    "openai-chat": [
        *[chat_event({"content": "hello wo"}, usage=None)] * MANY,
        chat_event({}, "stop"),
        b"data: [DONE]\n\n",
    ],
    "openai-chat without [DONE]": [*[chat_event({"content": "hello wo"})] * MANY, chat_event({}, "stop")],
}


@pytest.mark.parametrize("kind", LONG)
@pytest.mark.parametrize("whole", [True, False], ids=["whole", "cut"])
def test_the_end_of_a_long_stream_parses_a_few_events(monkeypatch, kind: str, whole: bool) -> None:
    parsed_bytes = 0

    def counted(body: bytes) -> list[bytes]:
        nonlocal parsed_bytes
        parsed_bytes += len(body)
        return events_of(body)

    monkeypatch.setattr(answers, "events_of", counted)
    body, dialect = b"".join(LONG[kind] if whole else LONG[kind][:-3]), kind.split()[0]
    assert stream_ended(body, dialect) is whole
    assert stream_told_error(body) is False
    assert (usage_of_stream(body, dialect) is not None) is (
        (whole and dialect != "openai-chat") or dialect == "anthropic"
    )
    assert parsed_bytes < 1000 < len(body) / 100
