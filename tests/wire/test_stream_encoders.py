"""Any events at all, through any encoder and through the gateway's translation: nothing is raised in mid-stream, and a
stream ends in its dialect's own end or in its error event."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pair_samples import CASES, NAMES, STREAMS, Says
from test_pairs import question
from test_pairs_fuzz import damaged, payload

from potstill.errors import Untranslatable
from potstill.serve.upstreams.translate import Translating, as_stream
from potstill.types import FinishReason, TokenLogprob, Usage
from potstill.wire.dialect import dialect
from potstill.wire.events import Begin, Broken, Delta, Done, Event, Finish, PartBegin, PartEnd, Ping, Spent
from potstill.wire.neutral import Answer, Choice, Opaque, Text
from potstill.wire.sse import Frame, Parser

ANY_TEXT = st.text(st.characters(), max_size=6)
"""With lone surrogates, which JSON cannot hold."""
MAYBE = st.none() | ANY_TEXT
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | ANY_TEXT,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(ANY_TEXT, inner, max_size=2),
    max_leaves=4,
)
OBJECT = st.dictionaries(ANY_TEXT | st.sampled_from(["type", "id", "content", "citations", "extra"]), JSON, max_size=3)
SPEAKS = st.sampled_from(["", *NAMES, "elsewhere"])
AT: dict[str, Any] = {"choice": st.integers(0, 1), "index": st.integers(0, 3)}
KINDS = st.sampled_from(["text", "thinking", "refusal", "tool_use", "opaque"])
OPAQUE = st.sampled_from(
    ["message", "tool_call", "tool_call_extra", "citations", "item", "annotation", "content:x", "x", ""]
)
TOKENS = st.builds(TokenLogprob, token=ANY_TEXT, logprob=st.floats())
USAGE = st.none() | st.builds(Usage, input_tokens=st.integers(0, 9), output_tokens=st.integers(0, 9))
EVENTS = st.one_of(
    st.builds(Begin, id=ANY_TEXT, model=ANY_TEXT, usage=USAGE, dialect=SPEAKS, extra=OBJECT),
    st.builds(PartBegin, kind=KINDS, id=MAYBE, name=MAYBE | OPAQUE, value=OBJECT, dialect=SPEAKS, **AT),
    st.builds(Delta, text=ANY_TEXT, signature=MAYBE, redacted=MAYBE, logprobs=st.tuples(TOKENS) | st.just(()), **AT),
    st.builds(PartEnd, **AT),
    st.builds(Finish, choice=AT["choice"], reason=st.sampled_from(list(FinishReason)), raw=MAYBE, stop_sequence=MAYBE),
    st.builds(Spent, usage=USAGE, raw_usage=st.none() | OBJECT),
    st.just(Ping()),
)
END = st.just(Done()) | st.builds(Broken, message=ANY_TEXT, kind=ANY_TEXT, status=st.none() | st.just(529))


def frames(stream: bytes) -> list[Frame]:
    parser = Parser()
    found = [*parser.feed(stream), *parser.close()]
    assert stream == b"" or stream.endswith(b"\n\n")
    return found


def ends_well(stream: bytes, name: str) -> bool:
    """Whether the last frame is the dialect's end or an error, and no frame before it is."""
    *before, last = [_word(frame, name) for frame in frames(stream)]
    return last in ("end", "error") and not {"end", "error"} & set(before)


def _word(frame: Frame, name: str) -> str:
    if frame.data == b"[DONE]":
        return "end"
    data = json.loads(frame.data)
    assert name == "openai-chat" or frame.event == data["type"]
    kind = data.get("type")
    if kind in ("message_stop", "response.completed", "response.incomplete"):
        return "end"
    failed = kind in ("error", "response.failed") or (name == "openai-chat" and "error" in data)
    return "error" if failed else "more"


@pytest.mark.parametrize("client", NAMES)
@given(events=st.lists(EVENTS, max_size=8), end=END)
@settings(max_examples=150)
def test_any_events_through_any_encoder_end_in_an_end_or_an_error(client: str, events: list[Event], end: Event) -> None:
    prompt = dialect(client).decode_request(question(client, stream=True))
    encoder = dialect(client).stream_encoder(prompt)
    begun: list[Event] = [Begin(id="a", model="m"), *events, end]
    stream = b"".join(encoder.encode(event) for event in begun)
    assert ends_well(stream, client)
    assert (encoder.failure is None) or b"error" in frames(stream)[-1].data
    assert encoder.encode(Done()) == b""


RICH = Says(text="Half", thinking="hm", calls=CASES["parallel tool calls"].calls, refusal="no", finish="tool_calls")


@pytest.mark.parametrize("client", NAMES)
@pytest.mark.parametrize("upstream", NAMES)
@given(data=st.data())
@settings(max_examples=40)
def test_any_upstreams_stream_is_relayed_to_an_end_or_an_error(client: str, upstream: str, data: st.DataObject) -> None:
    whole = STREAMS[upstream](RICH)
    sent = [frame for frame in whole if b"[DONE]" not in frame]
    number = data.draw(st.integers(0, len(sent) - 1))
    sent[number] = b"data: " + json.dumps(data.draw(damaged(payload(sent[number])))).encode() + b"\n\n"
    sent = sent[: data.draw(st.integers(1, len(sent)))] + ([b"data: [DONE]\n\n"] if data.draw(st.booleans()) else [])
    prompt = dialect(client).decode_request(question(client, stream=True))
    adapter = Translating(prompt, dialect(client), dialect(upstream), "m")
    told = b""
    for chunk in (b"".join(sent[:1]), b"".join(sent[1:])):
        try:
            told += adapter.feed(chunk)
        except Untranslatable:
            assert not told
            return
    last, problem = adapter.close(b"".join(sent))
    told += last
    assert ends_well(told, client)
    ended = _word(frames(told)[-1], client)
    assert (problem is not None) == (ended == "error")


SEARCH = {"type": "server_tool_use", "id": "srv_1", "name": "web_search", "input": {}}


def anthropic_search() -> list[bytes]:
    events: list[dict[str, Any]] = [
        {"type": "message_start", "message": {"id": "msg_1", "model": "m", "usage": {"input_tokens": 3}}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Let me"}},
        {"type": "content_block_stop", "index": 0},
        {"type": "content_block_start", "index": 1, "content_block": SEARCH},
        {"type": "content_block_stop", "index": 1},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 3}},
        {"type": "message_stop"},
    ]
    return [f"event: {one['type']}\ndata: {json.dumps(one)}\n\n".encode() for one in events]


@pytest.mark.parametrize("client", ["openai-chat", "openai-responses"])
def test_a_part_that_the_client_cannot_be_told_is_an_error_event_behind_what_was_said(client: str) -> None:
    prompt = dialect(client).decode_request(question(client, stream=True))
    sent = anthropic_search()
    adapter = Translating(prompt, dialect(client), dialect("anthropic"), "m")
    told = b"".join(adapter.feed(frame) for frame in sent)
    last, problem = adapter.close(b"".join(sent))
    assert last == b""
    assert problem is not None
    assert problem.code == "untranslatable"
    assert "server_tool_use" in problem.message
    assert b"Let me" in told
    assert ends_well(told, client)
    assert b"server_tool_use" in frames(told)[-1].data
    at_once = Translating(prompt, dialect(client), dialect("anthropic"), "m")
    with pytest.raises(Untranslatable, match="server_tool_use"):
        at_once.feed(b"".join(sent))


@pytest.mark.parametrize("client", ["openai-chat", "openai-responses"])
def test_a_whole_answer_that_cannot_be_streamed_is_raised_and_not_told(client: str) -> None:
    prompt = dialect(client).decode_request(question(client, stream=True))
    part = Opaque(dialect="anthropic", kind="server_tool_use", value=SEARCH)
    answer = Answer(id="a", model="m", choices=(Choice(parts=(Text(text="x"), part)),), dialect="anthropic")
    with pytest.raises(Untranslatable, match="server_tool_use"):
        as_stream(answer, prompt, dialect(client))
