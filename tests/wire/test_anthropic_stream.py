"""Anthropic's streams: golden ones after Anthropic's reference, cut everywhere; what we write, read by its SDK."""

import json
from collections.abc import Iterable, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from potstill.types import FinishReason, Usage
from potstill.wire.anthropic import ANTHROPIC
from potstill.wire.anthropic_blocks import UNSIGNED
from potstill.wire.assemble import Assembler, events_of
from potstill.wire.events import Begin, Broken, Delta, Done, Event, Finish, PartBegin, PartEnd, Ping, Spent
from potstill.wire.neutral import Answer, Choice, Opaque, Prompt, Refusal, Text, Thinking, ToolUse

ASKED = Prompt(model="claude", turns=(), dialect="anthropic", stream=True)
SDK = "needs the official SDK: pip install 'anthropic>=2'"


def frames(*events: dict[str, Any]) -> bytes:
    return b"".join(f"event: {one['type']}\ndata: {json.dumps(one)}\n\n".encode() for one in events)


def start(**usage: int) -> dict[str, Any]:
    message = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "content": [],
        "model": "claude-opus-5-5",
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {"input_tokens": 25, "output_tokens": 1} | usage,
    }
    return {"type": "message_start", "message": message}


def block(index: int, content: dict[str, Any], *deltas: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {"type": "content_block_start", "index": index, "content_block": content},
        *({"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas),
        {"type": "content_block_stop", "index": index},
    ]


def text(*pieces: str) -> list[dict[str, Any]]:
    return [{"type": "text_delta", "text": piece} for piece in pieces]


def arguments(*pieces: str) -> list[dict[str, Any]]:
    return [{"type": "input_json_delta", "partial_json": piece} for piece in pieces]


def end(reason: str, output_tokens: int = 15, stop_sequence: str | None = None, **usage: int) -> list[dict[str, Any]]:
    delta = {"stop_reason": reason, "stop_sequence": stop_sequence}
    return [
        {"type": "message_delta", "delta": delta, "usage": {"output_tokens": output_tokens} | usage},
        {"type": "message_stop"},
    ]


EMPTY = {"type": "text", "text": ""}
PING = {"type": "ping"}
CITATION = {"type": "char_location", "cited_text": "grün", "document_index": 0, "start_char_index": 0}
SEARCH = {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {}}
FOUND = {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": [{"type": "web_search_result"}]}


def call(id: str) -> dict[str, Any]:
    return {"type": "tool_use", "id": id, "name": "look", "input": {}}


GOLDEN: dict[str, tuple[bytes, tuple[Any, ...], FinishReason]] = {
    "text": (
        frames(start(), *block(0, EMPTY, *text("Hel", "lo, wörld 🌍")), PING, *end("end_turn")),
        (Text(text="Hello, wörld 🌍"),),
        FinishReason.STOP,
    ),
    "tool": (
        frames(
            start(),
            *block(0, EMPTY, *text("I look.")),
            *block(1, call("toolu_1"), *arguments("", '{"at": "tr', 'ee", "n": 1}')),
            *end("tool_use"),
        ),
        (Text(text="I look."), ToolUse(id="toolu_1", name="look", arguments='{"at": "tree", "n": 1}')),
        FinishReason.TOOL_CALLS,
    ),
    "parallel tools, one without arguments": (
        frames(
            start(),
            *block(0, call("toolu_1"), *arguments("")),
            *block(1, call("toolu_2")),
            *block(2, call("toolu_3"), *arguments('{"a":', "[1]}")),
            *end("tool_use"),
        ),
        (
            ToolUse(id="toolu_1", name="look"),
            ToolUse(id="toolu_2", name="look"),
            ToolUse(id="toolu_3", name="look", arguments='{"a":[1]}'),
        ),
        FinishReason.TOOL_CALLS,
    ),
    "thinking": (
        frames(
            start(),
            *block(
                0,
                {"type": "thinking", "thinking": "", "signature": ""},
                {"type": "thinking_delta", "thinking": "First "},
                {"type": "thinking_delta", "thinking": "this."},
                {"type": "signature_delta", "signature": "EqQB=="},
            ),
            *block(1, {"type": "redacted_thinking", "data": "enc=="}),
            *block(
                2,
                {"type": "thinking", "thinking": "", "signature": ""},
                {"type": "signature_delta", "signature": "omitted=="},
            ),
            *block(3, EMPTY, *text("42")),
            *end("end_turn"),
        ),
        (
            Thinking(text="First this.", signature="EqQB=="),
            Thinking(redacted="enc=="),
            Thinking(signature="omitted=="),
            Text(text="42"),
        ),
        FinishReason.STOP,
    ),
    "server-side search with citations": (
        frames(
            start(),
            *block(0, SEARCH, *arguments("", '{"query": ', '"grass"}')),
            *block(1, FOUND),
            *block(2, EMPTY, *text("Grass is "), {"type": "citations_delta", "citation": CITATION}, *text("green.")),
            *block(3, EMPTY, *text(" So.")),
            *end("pause_turn"),
        ),
        (
            Opaque(dialect="anthropic", kind="server_tool_use", value=SEARCH | {"input": {"query": "grass"}}),
            Opaque(dialect="anthropic", kind="web_search_tool_result", value=FOUND),
            Text(text="Grass is green."),
            Opaque(dialect="anthropic", kind="citations", value={"citations": [CITATION]}, hint=True),
            Text(text=" So."),
        ),
        FinishReason.OTHER,
    ),
    "refusal": (
        frames(start(), *block(0, EMPTY, *text("I can")), *end("refusal")),
        (Text(text="I can"),),
        FinishReason.CONTENT_FILTER,
    ),
    "cut by max_tokens within arguments": (
        frames(start(), *block(0, call("toolu_1"), *arguments('{"a": "b')), *end("max_tokens")),
        (ToolUse(id="toolu_1", name="look", arguments='{"a": "b'),),
        FinishReason.LENGTH,
    ),
    "nothing": (frames(start(), *end("end_turn", 0)), (), FinishReason.STOP),
}
golden = pytest.mark.parametrize("name", GOLDEN)


def decode(raw: bytes, *cuts: int) -> list[Event]:
    decoder = ANTHROPIC.stream_decoder()
    events: list[Event] = []
    for begin, stop in zip((0, *cuts), (*cuts, len(raw)), strict=True):
        events.extend(decoder.feed(raw[begin:stop]))
    events.extend(decoder.close())
    return events


def encode(events: Iterable[Event]) -> bytes:
    encoder = ANTHROPIC.stream_encoder(ASKED)
    return b"".join(encoder.encode(event) for event in events)


def assembled(events: Sequence[Event]) -> Answer:
    assembler = Assembler()
    assembler.extend(events)
    return assembler.answer()


def sent(raw: bytes) -> list[dict[str, Any]]:
    return [json.loads(line[6:]) for line in raw.decode().split("\n") if line.startswith("data: ")]


# --- read -------------------------------------------------------------------------------------------------------------


@golden
def test_a_golden_stream_is_its_answer(name: str) -> None:
    raw, parts, finish = GOLDEN[name]
    answer = assembled(decode(raw))
    assert (answer.id, answer.model, answer.dialect) == ("msg_1", "claude-opus-5-5", "anthropic")
    assert answer.choices[0].parts == parts
    assert answer.choices[0].finish is finish


@golden
def test_where_the_bytes_are_cut_does_not_matter(name: str) -> None:
    raw = GOLDEN[name][0]
    whole = decode(raw)
    for cut in range(len(raw)):
        assert decode(raw, cut) == whole
    assert decode(raw, *range(1, len(raw))) == whole


@golden
def test_a_stream_that_ends_early_is_broken_wherever_it_ends(name: str) -> None:
    raw = GOLDEN[name][0]
    for cut in range(len(raw) - len("\n\n")):
        last = decode(raw[:cut])[-1]
        assert isinstance(last, Broken)


def test_events_come_in_the_order_of_the_contract() -> None:
    raw = frames(start(cache_read_input_tokens=75), *block(0, EMPTY, *text("a")), PING, *end("stop_sequence", 7, "END"))
    first = Usage(input_tokens=100, cache_read_tokens=75, output_tokens=1, cache_reported=True)
    last = Usage(input_tokens=100, cache_read_tokens=75, output_tokens=7, cache_reported=True)
    before = {"input_tokens": 25, "output_tokens": 1, "cache_read_input_tokens": 75}
    assert decode(raw) == [
        Begin(id="msg_1", model="claude-opus-5-5", usage=first, raw_usage=before, dialect="anthropic"),
        PartBegin(kind="text", index=0),
        Delta(index=0, text="a"),
        PartEnd(index=0),
        Ping(),
        Finish(reason=FinishReason.STOP, raw="stop_sequence", stop_sequence="END"),
        Spent(usage=last, raw_usage=before | {"output_tokens": 7}),
        Done(),
    ]


def test_usage_at_the_end_replaces_what_the_beginning_said() -> None:
    raw = frames(start(), *end("end_turn", 9, input_tokens=40, cache_read_input_tokens=60))
    usage = assembled(decode(raw)).usage
    assert usage == Usage(input_tokens=100, cache_read_tokens=60, output_tokens=9, cache_reported=True)


def test_an_error_in_the_middle_is_told() -> None:
    error = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
    raw = frames(start(), *block(0, EMPTY, *text("a"))[:2], error, *end("end_turn"))
    assert decode(raw)[-1] == Broken(message="Overloaded", kind="overloaded", status=529)


@pytest.mark.parametrize(
    "wrong",
    [
        b"data: {\n\n",
        b"data: [1]\n\n",
        b"event: content_block_start\ndata: {}\n\n",
        frames({"type": "content_block_delta", "index": 9, "delta": {"type": "text_delta", "text": "x"}}),
        frames({"type": "content_block_start", "index": 0, "content_block": {"type": "tool_use", "name": 5}}),
        b"data: " + b"[" * 50_000 + b"\n\n",
    ],
)
def test_what_is_not_the_dialect_breaks_the_stream_and_raises_nothing(wrong: bytes) -> None:
    events = decode(frames(start()) + wrong + frames(*end("end_turn")))
    last = events[-1]
    assert isinstance(last, Broken)
    assert last.kind == "upstream"


def test_unknown_events_and_deltas_are_passed_over() -> None:
    raw = frames(
        start(),
        {"type": "of_next_year"},
        *block(0, EMPTY, {"type": "of_next_year", "x": 1}, *text("a")),
        *block(1, {"type": "compaction", "content": None}, {"type": "compaction_delta", "content": "short"}),
        *end("end_turn"),
    )
    parts = assembled(decode(raw)).choices[0].parts
    assert parts[0] == Text(text="a")
    assert parts[1] == Opaque(dialect="anthropic", kind="compaction", value={"type": "compaction", "content": "short"})


def test_input_of_a_tool_that_comes_whole_at_its_blocks_start_is_not_dropped() -> None:
    """Gateways that lose it make agents call the tool without arguments for ever."""
    whole = call("toolu_1") | {"input": {"at": "tree"}}
    parts = assembled(decode(frames(start(), *block(0, whole), *end("tool_use")))).choices[0].parts
    assert parts == (ToolUse(id="toolu_1", name="look", arguments='{"at":"tree"}'),)
    both = frames(start(), *block(0, whole, *arguments('{"at":"bush"}')), *end("tool_use"))
    assert assembled(decode(both)).choices[0].parts == (ToolUse(id="toolu_1", name="look", arguments='{"at":"bush"}'),)


def test_servers_that_copy_the_dialect_may_be_sloppy() -> None:
    """No message_start, content at a block's start, no content_block_stop, [DONE] for message_stop."""
    raw = frames(
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": "a"}},
        {
            "type": "message_delta",
            "delta": {"stop_reason": "end_turn"},
            "usage": {"input_tokens": 1, "output_tokens": 2},
        },
    )
    answer = assembled(decode(raw + b"data: [DONE]\n\n"))
    assert answer.choices[0].parts == (Text(text="a"),)
    assert answer.usage == Usage(input_tokens=1, output_tokens=2)


# --- written ----------------------------------------------------------------------------------------------------------


@golden
def test_a_golden_stream_means_the_same_when_it_is_written_again(name: str) -> None:
    raw, parts, _ = GOLDEN[name]
    again = assembled(decode(encode(decode(raw))))
    assert again == assembled(decode(raw))
    assert again.choices[0].parts == parts


@golden
def test_a_whole_answer_is_streamed_as_itself(name: str) -> None:
    answer = assembled(decode(GOLDEN[name][0]))
    assert assembled(decode(encode(events_of(answer)))) == answer


def test_a_stream_of_another_dialect_in_full() -> None:
    usage = Usage(input_tokens=30, cache_read_tokens=10, output_tokens=8, reasoning_tokens=3, cache_reported=True)
    raw = encode(
        [
            Begin(id="chatcmpl-1", model="student", dialect="openai-chat", extra={"system_fingerprint": "f"}),
            PartBegin(kind="thinking", index=0),
            Delta(index=0, text="hm"),
            PartEnd(index=0),
            PartBegin(kind="text", index=1),
            PartEnd(index=1),
            PartBegin(kind="tool_use", index=2, id="functions.look:0", name="look"),
            PartEnd(index=2),
            Finish(reason=FinishReason.STOP),
            Spent(usage=usage, raw_usage={"prompt_tokens": 30}),
            Done(),
        ]
    )
    shown = sent(raw)
    assert [one["type"] for one in shown] == [
        "message_start",
        "content_block_start",
        "content_block_delta",
        "content_block_delta",
        "content_block_stop",
        "content_block_start",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    assert shown[0]["message"]["usage"] == {"input_tokens": 0, "output_tokens": 0}
    assert "system_fingerprint" not in shown[0]["message"]
    assert shown[3]["delta"] == {"type": "signature_delta", "signature": UNSIGNED}
    assert shown[5]["content_block"]["id"].startswith("functions_look_0_")
    assert shown[6]["delta"] == {"type": "input_json_delta", "partial_json": "{}"}
    assert shown[8]["delta"]["stop_reason"] == "tool_use"
    assert shown[8]["usage"]["input_tokens"] == 20
    assert shown[8]["usage"]["output_tokens"] == 8
    assert b"event: message_start\ndata: " in raw


def test_other_choices_and_pings_do_not_disturb() -> None:
    raw = encode(
        [
            Begin(id="c", model="m"),
            PartBegin(kind="text", index=0),
            PartBegin(kind="text", index=0, choice=1),
            Delta(index=0, choice=1, text="not this"),
            Ping(),
            Delta(index=0, text="this"),
            Finish(choice=1, reason=FinishReason.LENGTH),
            Finish(reason=FinishReason.STOP),
            Done(),
        ]
    )
    answer = assembled(decode(raw))
    assert answer.choices == (Choice(parts=(Text(text="this"),)),)
    assert b"event: ping" in raw


def test_an_error_in_the_middle_is_the_last_event() -> None:
    raw = encode(
        [
            Begin(id="c", model="m"),
            PartBegin(kind="text", index=0),
            Broken(message="the upstream broke off"),
            Delta(index=0, text="late"),
            Done(),
        ]
    )
    assert sent(raw)[-1] == {"type": "error", "error": {"type": "api_error", "message": "the upstream broke off"}}
    overloaded = encode([Broken(message="busy", kind="overloaded")])
    assert sent(overloaded)[0]["error"]["type"] == "overloaded_error"


def test_a_part_that_cannot_be_said_is_an_error_and_a_hint_is_left_out() -> None:
    foreign = PartBegin(kind="opaque", index=0, name="web_search_call", value={"type": "x"}, dialect="openai-responses")
    assert "web_search_call" in sent(encode([Begin(id="c", model="m"), foreign]))[-1]["error"]["message"]
    hint = PartBegin(kind="opaque", index=0, name="x", value={}, dialect="openai-chat", hint=True)
    shown = sent(encode([Begin(id="c", model="m"), hint, PartEnd(index=0), Finish(), Done()]))
    assert [one["type"] for one in shown] == ["message_start", "message_delta", "message_stop"]


def test_a_refusal_and_what_another_provider_encrypted() -> None:
    parts = (Thinking(redacted="enc", id="rs_1"), Refusal(text="No."))
    answer = Answer(
        id="r",
        model="m",
        choices=(Choice(parts=parts, finish=FinishReason.CONTENT_FILTER),),
        dialect="openai-responses",
    )
    choice = assembled(decode(encode(events_of(answer)))).choices[0]
    assert choice.parts == (Text(text="No."),)
    assert choice.finish is FinishReason.CONTENT_FILTER


pieces = st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=4), min_size=1, max_size=4)


@st.composite
def interleaved(draw: st.DrawFn) -> tuple[list[Event], list[tuple[str, str]]]:
    """Events of several parts whose deltas come in any order, and what each part says."""
    lanes: list[list[Event]] = []
    said: list[tuple[str, str]] = []
    for index in range(draw(st.integers(1, 4))):
        kind = draw(st.sampled_from(["text", "tool_use", "thinking"]))
        content = draw(pieces)
        begin = PartBegin(kind=kind, index=index, id=None if kind != "tool_use" else f"c{index}", name="f")
        lanes.append([begin, *(Delta(index=index, text=piece) for piece in content)])
        if draw(st.booleans()):
            lanes[-1].append(PartEnd(index=index))
        said.append((kind, "".join(content)))
    events: list[Event] = [Begin(id="c", model="m", dialect="openai-chat")]
    started = 0
    while any(lanes):
        if started < len(lanes) and draw(st.booleans()):
            started += 1
        open_lanes = [lane for lane in lanes[: max(started, 1)] if lane] or [lanes[started]]
        started = max(started, lanes.index(open_lanes[0]) + 1)
        events.append(draw(st.sampled_from(open_lanes)).pop(0))
    return [*events, Finish(reason=FinishReason.TOOL_CALLS), Done()], said


@given(interleaved())
def test_parts_that_come_at_once_are_written_one_after_the_other_and_whole(
    drawn: tuple[list[Event], list[tuple[str, str]]],
) -> None:
    events, said = drawn
    order = [event.index for event in events if isinstance(event, PartBegin)]
    shown = sent(encode(events))
    blocks: list[tuple[str, str]] = []
    for one in shown:
        if one["type"] == "content_block_start":
            assert one["index"] == len(blocks)
            blocks.append((one["content_block"]["type"], ""))
        elif one["type"] == "content_block_delta":
            assert one["index"] == len(blocks) - 1
            delta = {key: value for key, value in one["delta"].items() if key not in ("type", "signature")}
            blocks[-1] = (blocks[-1][0], blocks[-1][1] + "".join(delta.values()))
    assert sorted(blocks) == sorted(said)
    assert len(order) == len(blocks)


@given(st.sampled_from(sorted(GOLDEN)), st.integers(0, 2000), st.binary(max_size=6), st.integers(0, 6))
def test_a_damaged_stream_ends_with_done_or_broken(name: str, at: int, noise: bytes, removed: int) -> None:
    raw = GOLDEN[name][0]
    at %= len(raw)
    events = decode(raw[:at] + noise + raw[at + removed :], at)
    assert isinstance(events[-1], Done | Broken)
    encode(events)


# --- the official SDK -------------------------------------------------------------------------------------------------


def sdk_message(raw: bytes) -> Any:
    anthropic = pytest.importorskip("anthropic", reason=SDK)
    httpx = pytest.importorskip("httpx2", reason=SDK)
    answer = httpx.Response(200, headers={"content-type": "text/event-stream"}, content=raw)
    transport = httpx.MockTransport(lambda request: answer)
    client = anthropic.Anthropic(api_key="none", http_client=httpx.Client(transport=transport), max_retries=0)
    question = [{"role": "user", "content": "hi"}]
    with client.messages.stream(model="claude", max_tokens=9, messages=question) as stream:
        return stream.get_final_message()


@golden
def test_the_sdk_reads_our_streams_as_our_answers(name: str) -> None:
    answer = assembled(decode(GOLDEN[name][0]))
    message = sdk_message(encode(events_of(answer)))
    if name == "cut by max_tokens within arguments":  # Streamed as it came; the SDK shows what it can read of it.
        assert message.content[0].input in ({}, {"a": "b"})
        return
    whole = json.loads(ANTHROPIC.encode_answer(answer, ASKED))
    content = [block.model_dump(exclude_none=True) for block in message.content]
    assert content == whole["content"]
    assert message.stop_reason == whole["stop_reason"]
    assert message.usage.input_tokens == whole["usage"]["input_tokens"]
    assert message.usage.output_tokens == whole["usage"]["output_tokens"]


def test_the_sdk_raises_our_error_in_the_middle() -> None:
    anthropic = pytest.importorskip("anthropic", reason=SDK)
    raw = encode([Begin(id="c", model="m"), Broken(message="busy", kind="overloaded")])
    with pytest.raises(anthropic.APIStatusError, match="busy"):
        sdk_message(raw)
