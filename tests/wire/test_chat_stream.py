"""Streams of chat completions: recorded shapes cut at every byte, deviating servers, and back to bytes."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from potstill.types import FinishReason, TokenLogprob, Usage
from potstill.wire.assemble import Assembler, events_of
from potstill.wire.chat_server import CHAT
from potstill.wire.events import Begin, Broken, Delta, Done, Event, Finish, PartBegin, PartEnd, Ping, Spent
from potstill.wire.neutral import Answer, Choice, Opaque, Prompt, Refusal, Text, Thinking, ToolUse, Turn
from potstill.wire.sse import Parser

PLAIN = Prompt(model="m", turns=(Turn(role="user", parts=(Text(text="hi"),)),), stream=True, dialect="openai-chat")
COUNTED = Prompt(
    model="m", turns=PLAIN.turns, stream=True, stream_usage=True, logprobs=True, top_logprobs=2, dialect="openai-chat"
)
HEAD = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1700000000, "model": "gpt-x"}
USAGE = {"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13, "prompt_tokens_details": {"cached_tokens": 5}}


def chunk(
    delta: dict[str, Any] | None = None, finish: str | None = None, index: int = 0, **more: Any
) -> dict[str, Any]:
    return (
        HEAD | {"choices": [{"index": index, "delta": delta or {}, "finish_reason": finish, "logprobs": None}]} | more
    )


def stream(*chunks: dict[str, Any], done: bool = True, end: str = "\n\n") -> bytes:
    body = "".join(f"data: {json.dumps(one)}{end}" for one in chunks)
    return (body + (f"data: [DONE]{end}" if done else "")).encode()


def decode(*pieces: bytes) -> list[Event]:
    decoder = CHAT.stream_decoder()
    return [event for piece in pieces for event in decoder.feed(piece)] + list(decoder.close())


def answer(body: bytes) -> Answer:
    assembler = Assembler()
    assembler.extend(decode(body))
    return assembler.answer()


def written(events: Iterable[Event], prompt: Prompt = PLAIN) -> list[Any]:
    encoder = CHAT.stream_encoder(prompt)
    body = b"".join(encoder.encode(event) for event in events)
    frames = [frame.data for frame in Parser().feed(body)]
    return [frame if frame == b"[DONE]" else json.loads(frame) for frame in frames]


def call(index: int | None, name: str | None = None, arguments: Any = "", id: str | None = None) -> dict[str, Any]:
    function = {"arguments": arguments} | ({"name": name} if name else {})
    return {key: value for key, value in {"index": index, "id": id, "function": function}.items() if value is not None}


# --- recorded shapes --------------------------------------------------------------------------------------------------

BEGIN = Begin(id="chatcmpl-1", model="gpt-x", created=1700000000.0, dialect="openai-chat")
SPENT = Spent(usage=Usage(input_tokens=9, cache_read_tokens=5, output_tokens=4, cache_reported=True), raw_usage=USAGE)
ROLE = {"role": "assistant", "content": "", "refusal": None}

TEXT = stream(
    chunk(ROLE),
    chunk({"content": "Hel"}),
    chunk({"content": "lo ä"}),
    chunk({}, "stop"),
    HEAD | {"choices": [], "usage": USAGE},
)
TEXT_EVENTS: list[Event] = [
    BEGIN,
    PartBegin(kind="text", index=0),
    Delta(index=0, text="Hel"),
    Delta(index=0, text="lo ä"),
    PartEnd(index=0),
    Finish(reason=FinishReason.STOP),
    SPENT,
    Done(),
]
CALLS = stream(
    chunk({"role": "assistant", "content": None}),
    chunk({"tool_calls": [call(0, "look", "", "call_a") | {"type": "function"}]}),
    chunk({"tool_calls": [call(0, arguments='{"at"')]}),
    chunk({"tool_calls": [call(0, arguments=": 1}")]}),
    chunk({"tool_calls": [call(1, "go", "", "call_b") | {"type": "function"}]}),
    chunk({"tool_calls": [call(1, arguments="{}")]}),
    chunk({}, "tool_calls"),
)
CALLS_EVENTS: list[Event] = [
    BEGIN,
    PartBegin(kind="tool_use", index=0, id="call_a", name="look"),
    Delta(index=0, text='{"at"'),
    Delta(index=0, text=": 1}"),
    PartEnd(index=0),
    PartBegin(kind="tool_use", index=1, id="call_b", name="go"),
    Delta(index=1, text="{}"),
    PartEnd(index=1),
    Finish(reason=FinishReason.TOOL_CALLS),
    Done(),
]
REASONED = stream(
    chunk({"role": "assistant", "content": None, "reasoning_content": "Hm"}),
    chunk({"content": None, "reasoning_content": "m."}),
    chunk({"content": "Yes", "reasoning_content": None}),
    chunk({"content": ""}, "stop", usage=USAGE),
)
REASONED_EVENTS: list[Event] = [
    BEGIN,
    PartBegin(kind="thinking", index=0),
    Delta(index=0, text="Hm"),
    Delta(index=0, text="m."),
    PartEnd(index=0),
    PartBegin(kind="text", index=1),
    Delta(index=1, text="Yes"),
    PartEnd(index=1),
    Finish(reason=FinishReason.STOP),
    SPENT,
    Done(),
]
REFUSED = stream(chunk(ROLE), chunk({"refusal": "I can"}), chunk({"refusal": "not."}), chunk({}, "stop"))
REFUSED_EVENTS: list[Event] = [
    BEGIN,
    PartBegin(kind="refusal", index=0),
    Delta(index=0, text="I can"),
    Delta(index=0, text="not."),
    PartEnd(index=0),
    Finish(reason=FinishReason.STOP),
    Done(),
]
TWO = stream(
    chunk(ROLE),
    chunk(ROLE, index=1),
    chunk({"content": "a"}),
    chunk({"content": "b"}, index=1),
    chunk({"content": "A"}),
    chunk({}, "stop", index=1),
    chunk({}, "length"),
)
TWO_EVENTS: list[Event] = [
    BEGIN,
    PartBegin(kind="text", index=0),
    Delta(index=0, text="a"),
    PartBegin(kind="text", choice=1, index=0),
    Delta(choice=1, index=0, text="b"),
    Delta(index=0, text="A"),
    PartEnd(choice=1, index=0),
    Finish(choice=1, reason=FinishReason.STOP),
    PartEnd(index=0),
    Finish(reason=FinishReason.LENGTH),
    Done(),
]
BROKEN = stream(
    chunk(ROLE),
    chunk({"content": "a"}),
    {"error": {"message": "The server is overloaded.", "type": "server_error", "code": 503}},
    done=False,
)
BROKEN_EVENTS: list[Event] = [
    BEGIN,
    PartBegin(kind="text", index=0),
    Delta(index=0, text="a"),
    Broken(message="The server is overloaded.", kind="overloaded", status=503),
]
GOLDEN = {
    "text": (TEXT, TEXT_EVENTS),
    "parallel calls": (CALLS, CALLS_EVENTS),
    "reasoning": (REASONED, REASONED_EVENTS),
    "refusal": (REFUSED, REFUSED_EVENTS),
    "two choices": (TWO, TWO_EVENTS),
    "error": (BROKEN, BROKEN_EVENTS),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_a_recorded_shape_means_the_same_wherever_it_is_cut(name: str) -> None:
    body, meant = GOLDEN[name]
    assert decode(body) == meant
    assert decode(*(bytes([byte]) for byte in body)) == meant
    assert decode(body.replace(b"\n", b"\r\n")) == meant
    for cut in range(0, len(body) + 1):
        assert decode(body[:cut], body[cut:]) == meant


@pytest.mark.parametrize("name", GOLDEN)
def test_a_recorded_shape_that_ends_early_is_broken_or_whole_never_something_else(name: str) -> None:
    body, meant = GOLDEN[name]
    for cut in range(0, len(body)):
        events = decode(body[:cut])
        assert isinstance(events[-1], Broken | Done)
        finishes = sum(isinstance(event, Finish) for event in meant)
        if isinstance(events[-1], Done):
            assert sum(isinstance(event, Finish) for event in events) == finishes


@pytest.mark.parametrize("name", GOLDEN)
def test_events_written_and_read_again_are_the_same(name: str) -> None:
    _, meant = GOLDEN[name]
    encoder = CHAT.stream_encoder(COUNTED)
    assert decode(b"".join(encoder.encode(event) for event in meant)) == meant


# --- servers that deviate ---------------------------------------------------------------------------------------------


def parts(*chunks: dict[str, Any], **options: Any) -> tuple[Any, ...]:
    return answer(stream(*chunks, **options)).choices[0].parts


def test_whole_calls_in_one_chunk() -> None:
    both = chunk({"tool_calls": [call(0, "look", '{"a":1}', "c1"), call(1, "go", "{}", "c2")]}, "tool_calls")
    assert parts(both) == (ToolUse(id="c1", name="look", arguments='{"a":1}'), ToolUse(id="c2", name="go"))


def test_calls_without_ids_or_indexes_get_ids_that_differ_between_answers() -> None:
    both = {"tool_calls": [call(None, "look", {"a": 1}), call(None, "look", {"a": 2})]}
    first = parts(chunk(both), chunk({}, "stop"))
    second = parts(chunk(both, id="chatcmpl-2"), chunk({}, "stop"))
    assert [use.arguments for use in first] == ['{"a":1}', '{"a":2}']
    assert len({use.id for use in (*first, *second)}) == 4
    assert first == parts(chunk(both), chunk({}, "stop"))


def test_every_call_numbered_zero() -> None:
    seen = parts(
        chunk({"tool_calls": [call(0, "a", '{"x":1}', "c1")]}),
        chunk({"tool_calls": [call(0, "b", '{"y":2}', "c2"), call(0, "b", '{"y":3}')]}),
        chunk({}, "stop"),
    )
    assert [(use.name, use.arguments) for use in seen] == [("a", '{"x":1}'), ("b", '{"y":2}'), ("b", '{"y":3}')]


def test_a_name_repeated_in_each_chunk_is_one_call() -> None:
    (use,) = parts(
        chunk({"tool_calls": [call(0, "a", '{"x"', "c1")]}),
        chunk({"tool_calls": [call(0, "a", ":1}", "c1")]}),
        chunk({}, "tool_calls"),
    )
    assert use == ToolUse(id="c1", name="a", arguments='{"x":1}')


def test_interleaved_calls_come_one_after_the_other() -> None:
    events = decode(
        stream(
            chunk({"tool_calls": [call(0, "a", '{"x"', "c1")]}),
            chunk({"tool_calls": [call(1, "b", '{"y"', "c2")]}),
            chunk({"tool_calls": [call(0, arguments=":1}")]}),
            chunk({"tool_calls": [call(1, arguments=":2}")]}),
            chunk({}, "tool_calls"),
        )
    )
    assert [type(event) for event in events[1:-2]] == [
        *(PartBegin, Delta, Delta, PartEnd),
        *(PartBegin, Delta, Delta, PartEnd),
    ]


def test_a_call_whose_arguments_never_come() -> None:
    seen = parts(
        chunk({"tool_calls": [call(0, "a", None, "c1")]}),
        chunk({"tool_calls": [call(1, "b", None, "c2")]}),
        chunk({}, "tool_calls"),
    )
    assert seen == (ToolUse(id="c1", name="a"), ToolUse(id="c2", name="b"))


def test_deprecated_function_calls() -> None:
    got = answer(
        stream(
            chunk({"role": "assistant", "function_call": {"name": "look", "arguments": ""}}),
            chunk({"function_call": {"arguments": "{}"}}),
            chunk({}, "function_call"),
        )
    )
    (choice,) = got.choices
    assert choice.finish is FinishReason.TOOL_CALLS
    assert choice.parts[0].name == "look"  # type: ignore[union-attr]


def test_calls_end_an_answer_even_where_the_server_says_stop() -> None:
    body = stream(chunk({"tool_calls": [call(0, "a", "{}", "c")]}), chunk({}, "stop"))
    finish = next(event for event in decode(body) if isinstance(event, Finish))
    assert finish == Finish(reason=FinishReason.TOOL_CALLS, raw="stop")
    assert written(decode(body))[-2]["choices"][0]["finish_reason"] == "stop"


@pytest.mark.parametrize(
    "more",
    [
        (chunk({}, "stop", usage=USAGE),),
        (chunk({}, "stop"), HEAD | {"choices": None, "usage": USAGE}),
        (chunk({}, "stop"), HEAD | {"usage": USAGE}),
        (chunk({}, "stop", x_groq={"usage": USAGE}),),
        (HEAD | {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop", "usage": USAGE}]},),
        (chunk({"content": ""}, usage={"prompt_tokens": 9, "completion_tokens": 1}), chunk({}, "stop", usage=USAGE)),
    ],
)
@pytest.mark.parametrize("done", [True, False])
def test_usage_wherever_it_stands_is_told_once(more: tuple[dict[str, Any], ...], done: bool) -> None:
    events = decode(stream(chunk({"content": "a"}), *more, done=done))
    assert [event for event in events if isinstance(event, Spent)] == [SPENT]
    assert events[-1] == Done()


def test_azure_sends_a_first_chunk_without_choices() -> None:
    first = {"id": "", "model": "", "choices": [], "prompt_filter_results": []}
    assert decode(stream(first, done=False) + TEXT) == TEXT_EVENTS


def test_comments_and_empty_frames_are_nothing() -> None:
    assert decode(b": OPENROUTER PROCESSING\n\ndata: \n\n" + TEXT) == TEXT_EVENTS


def test_content_as_parts_with_thinking() -> None:
    thinking = [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}]
    assert parts(chunk({"content": thinking}), chunk({"content": [{"type": "text", "text": "a"}]}, "stop")) == (
        Thinking(text="hm"),
        Text(text="a"),
    )


def test_details_of_reasoning_are_one_hint_at_the_end() -> None:
    seen = parts(
        chunk({"reasoning": "a", "reasoning_details": [{"type": "reasoning.text", "text": "a", "index": 0}]}),
        chunk({"reasoning": "b", "reasoning_details": [{"type": "reasoning.text", "text": "b", "index": 0}]}),
        chunk({"reasoning_details": [{"type": "reasoning.text", "signature": "s", "index": 0}]}),
        chunk({"content": "c"}, "stop"),
    )
    details = [{"type": "reasoning.text", "text": "ab", "index": 0, "signature": "s"}]
    opaque = Opaque(dialect="openai-chat", kind="message", value={"reasoning_details": details}, hint=True)
    assert seen == (Thinking(text="ab"), Text(text="c"), opaque)


def test_custom_tools_and_signatures_stay_within_the_dialect() -> None:
    body = stream(
        chunk({"tool_calls": [{"index": 0, "id": "c1", "type": "custom", "custom": {"name": "sh", "input": ""}}]}),
        chunk({"tool_calls": [{"index": 0, "custom": {"input": "ls"}}]}),
        chunk({"tool_calls": [call(1, "a", "{}", "c2") | {"extra_content": {"google": {"thought_signature": "x"}}}]}),
        chunk({}, "tool_calls"),
    )
    custom = {"id": "c1", "type": "custom", "custom": {"name": "sh", "input": "ls"}}
    extra = {"id": "c2", "extra": {"extra_content": {"google": {"thought_signature": "x"}}}}
    assert answer(body).choices[0].parts == (
        Opaque(dialect="openai-chat", kind="tool_call", value=custom),
        ToolUse(id="c2", name="a"),
        Opaque(dialect="openai-chat", kind="tool_call_extra", value=extra, hint=True),
    )
    encoder = CHAT.stream_encoder(PLAIN)
    again = b"".join(encoder.encode(event) for event in decode(body))
    assert answer(again) == answer(body)


def test_log_probabilities_of_deltas_stay_in_order() -> None:
    def tokens(*words: str) -> dict[str, Any]:
        top = [{"token": "x", "logprob": -3.0, "bytes": None}]
        return {"content": [{"token": word, "logprob": -0.5, "bytes": None, "top_logprobs": top} for word in words]}

    def told(delta: dict[str, Any], finish: str | None = None, *words: str) -> dict[str, Any]:
        made = chunk(delta, finish)
        made["choices"][0]["logprobs"] = tokens(*words)
        return made

    body = stream(told({"content": "a"}, None, "a"), told({"content": ""}, None, "b"), told({}, "stop", "c"))
    meant = tuple(TokenLogprob(token=word, logprob=-0.5, top=(("x", -3.0),)) for word in "abc")
    assert answer(body).choices[0].logprobs == meant
    assert answer(stream(told({}, "stop", "a", "b", "c"))).choices[0].logprobs == meant
    encoder = CHAT.stream_encoder(COUNTED)
    again = b"".join(encoder.encode(event) for event in decode(body))
    assert answer(again).choices[0].logprobs == meant
    assert all(made["choices"][0]["logprobs"] is None for made in written(decode(body))[:-1])


# --- streams that go wrong --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "bad",
    [
        b"data: {broken\n\n",
        b"data: []\n\n",
        b'data: {"choices": {}}\n\n',
        b'data: {"choices": [{"delta": {"tool_calls": [{"index": 0}]}, "finish_reason": "stop"}]}\n\n',
        b"data: " + b"[" * 100_000 + b"\n\n",
        2 * (b'data: {"choices":[{"delta":{"audio":%s}}]}\n\n' % (b'{"a":' * 700 + b"{}" + b"}" * 700)),
        b'data: {"error": {"message": "no"}}\n\n',
        b'data: {"error": "no"}\n\n',
        b'data: {"choices":[{"index":0,"delta":{"content":""},"finish_reason":"error"}]}\n\n',
        b'event: error\ndata: {"message": "no"}\n\n',
        b"data: \xff\xff\n\n",
        b"<html>502</html>",
        b"",
        b"data: [DONE]\n\n",
    ],
)
def test_what_is_no_stream_is_broken_and_nothing_follows(bad: bytes) -> None:
    events = decode(bad + (TEXT if bad.endswith(b"\n\n") else b""))
    assert isinstance(events[-1], Broken)
    assert events[-1].message
    assert sum(isinstance(event, Broken) for event in events) == 1


def test_more_arguments_for_a_call_that_was_complete_are_refused() -> None:
    events = decode(
        stream(
            chunk({"tool_calls": [call(0, "a", "{}", "c1")]}),
            chunk({"tool_calls": [call(1, "b", "{}", "c2")]}),
            chunk({"tool_calls": [call(0, arguments='{"x":1}')]}),
        )
    )
    assert isinstance(events[-1], Broken)
    assert "more arguments for the call of 'a'" in events[-1].message


def test_a_stream_without_its_last_word_is_whole_only_where_all_choices_finished() -> None:
    assert decode(stream(chunk({"content": "a"}, "stop"), done=False))[-1] == Done()
    assert isinstance(decode(stream(chunk({"content": "a"}), done=False))[-1], Broken)
    one_of_two = stream(chunk({"content": "a"}, "stop"), chunk({"content": "b"}, index=1), done=False)
    assert isinstance(decode(one_of_two)[-1], Broken)


SHAPES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 3)
    | st.text(max_size=4)
    | st.sampled_from(["stop", "error", "{}", "c1"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["index", "id", "x"]), inner, max_size=2)
    ),
    max_leaves=5,
)


def fields(*names: str, inner: Any = SHAPES) -> Any:
    return st.dictionaries(st.sampled_from(names), inner, max_size=4)


FUNCTIONS = fields("name", "arguments")
CALL_SHAPES = fields("index", "id", "type", "function", "custom", "extra_content", inner=SHAPES | FUNCTIONS)
DELTAS = fields(
    *("content", "refusal", "reasoning_content", "tool_calls", "function_call", "annotations", "audio"),
    inner=SHAPES | st.lists(CALL_SHAPES, max_size=3) | FUNCTIONS,
)
CHUNKS = fields(
    *("choices", "usage", "error", "id", "created"),
    inner=SHAPES | st.lists(fields("index", "delta", "finish_reason", "logprobs", inner=SHAPES | DELTAS), max_size=3),
)


@given(st.lists(CHUNKS, max_size=5))
@settings(max_examples=300)
def test_any_chunks_give_events_in_order(chunks: list[dict[str, Any]]) -> None:
    check_order(decode(stream(*chunks)))


@given(st.lists(st.binary(max_size=30) | st.sampled_from([TEXT, CALLS[:200]]), max_size=5))
def test_any_bytes_give_events_in_order(pieces: list[bytes]) -> None:
    check_order(decode(*pieces))


def check_order(events: list[Event]) -> None:
    assert isinstance(events[-1], Broken | Done)
    assert not any(isinstance(event, Broken | Done) for event in events[:-1])
    assert all(isinstance(event, Begin) == (place == 0) for place, event in enumerate(events[:-1]))
    open_part: dict[int, int | None] = {}
    finished: set[int] = set()
    for event in events:
        match event:
            case PartBegin(choice=choice, index=index):
                assert open_part.get(choice) is None
                assert choice not in finished
                open_part[choice] = index
            case Delta(choice=choice, index=index):
                assert open_part[choice] == index
            case PartEnd(choice=choice, index=index):
                assert open_part[choice] == index
                open_part[choice] = None
            case Finish(choice=choice):
                assert open_part.get(choice) is None
                finished.add(choice)
            case Done():
                assert set(open_part) <= finished


# --- writing ----------------------------------------------------------------------------------------------------------


def test_the_role_goes_first_and_done_last() -> None:
    first, *_, last = written(TEXT_EVENTS)
    assert first["choices"] == [{"index": 0, "delta": ROLE, "logprobs": None, "finish_reason": None}]
    assert last == b"[DONE]"
    roles = [
        made["choices"][0]["index"] for made in written(TWO_EVENTS)[:-1] if made["choices"][0]["delta"].get("role")
    ]
    assert roles == [0, 1]


def test_usage_is_told_only_to_who_asked_and_in_openais_shape() -> None:
    usage = Usage(input_tokens=10, cache_read_tokens=6, cache_write_tokens=3, output_tokens=5, reasoning_tokens=2)
    events = [
        Begin(id="msg_1", model="c", dialect="anthropic"),
        Finish(),
        Spent(usage=usage, raw_usage={"x": 1}),
        Done(),
    ]
    assert not any("usage" in made for made in written(events)[:-1])
    *others, told, _ = written(events, COUNTED)
    assert all(made["usage"] is None for made in others)
    assert told["choices"] == []
    assert told["usage"] == {
        "prompt_tokens": 10,
        "completion_tokens": 5,
        "total_tokens": 15,
        "prompt_tokens_details": {"cached_tokens": 6, "cache_write_tokens": 3},
        "completion_tokens_details": {"reasoning_tokens": 2},
    }


def test_arguments_that_never_came_are_written_as_an_empty_object() -> None:
    events = [BEGIN, PartBegin(kind="tool_use", index=0, id="c", name="a"), PartEnd(index=0), Finish(), Done()]
    text = "".join(
        one["function"]["arguments"]
        for made in written(events)[:-1]
        for one in made["choices"][0]["delta"].get("tool_calls", ())
    )
    assert text == "{}"


def test_an_error_in_the_middle_is_an_error_object() -> None:
    (made,) = written([Broken(message="gone", kind="overloaded", status=529)])
    assert made == {"error": {"message": "gone", "type": "server_error", "param": None, "code": "overloaded"}}
    (unknown,) = written([Broken(message="gone")])
    assert unknown["error"]["code"] == "upstream_error"


def test_pings_are_comments() -> None:
    assert CHAT.stream_encoder(PLAIN).encode(Ping()) == b": ping\n\n"


def test_what_only_another_dialect_can_say_is_refused_unless_it_is_a_hint() -> None:
    encoder = CHAT.stream_encoder(PLAIN)
    encoder.encode(Begin(id="a", model="m", dialect="anthropic"))
    part = PartBegin(kind="opaque", index=0, name="server_tool_use", value={}, dialect="anthropic", hint=True)
    assert b"server_tool_use" not in encoder.encode(part)
    said = encoder.encode(PartBegin(kind="opaque", index=1, name="server_tool_use", value={}, dialect="anthropic"))
    error = json.loads(said.removeprefix(b"data: "))["error"]
    assert error["type"] == "invalid_request_error"
    assert "server_tool_use" in error["message"]
    assert encoder.failure == error["message"]
    assert encoder.encode(Done()) == b""


def test_a_client_of_functions_gets_function_calls() -> None:
    prompt = Prompt(model="m", turns=PLAIN.turns, stream=True, dialect="openai-chat", spelling={"tools": "functions"})
    deltas = [made["choices"][0] for made in written(CALLS_EVENTS[:5] + CALLS_EVENTS[-2:], prompt)[:-1]]
    calls = [delta["delta"]["function_call"] for delta in deltas if "function_call" in delta["delta"]]
    assert calls == [{"name": "look", "arguments": ""}, {"arguments": '{"at"'}, {"arguments": ": 1}"}]
    assert deltas[-1]["finish_reason"] == "function_call"


def test_a_client_that_says_reasoning_reads_reasoning() -> None:
    prompt = Prompt(model="m", turns=PLAIN.turns, dialect="openai-chat", spelling={"thinking": "reasoning"})
    assert written(REASONED_EVENTS, prompt)[1]["choices"][0]["delta"] == {"reasoning": "Hm"}
    assert written(REASONED_EVENTS)[1]["choices"][0]["delta"] == {"reasoning_content": "Hm"}


# --- round trips ------------------------------------------------------------------------------------------------------

WORDS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=8)
TOKENS = st.builds(
    TokenLogprob,
    token=WORDS,
    logprob=st.floats(-20, 0),
    top=st.lists(st.tuples(WORDS, st.floats(-20, 0)), max_size=2).map(tuple),
)
OBJECTS = st.dictionaries(WORDS, st.integers() | WORDS, max_size=2).map(lambda value: json.dumps(value))
SPOKEN = st.sampled_from([Thinking, Text, Refusal]).flatmap(lambda kind: st.builds(kind, text=WORDS))
USES = st.builds(ToolUse, id=WORDS, name=WORDS, arguments=OBJECTS | WORDS)


@st.composite
def choices(draw: st.DrawFn) -> Choice:
    spoken = draw(st.lists(SPOKEN, max_size=4))
    apart = [part for place, part in enumerate(spoken) if place == 0 or type(part) is not type(spoken[place - 1])]
    uses = draw(st.lists(USES, max_size=3, unique_by=lambda use: use.id))
    finish = FinishReason.TOOL_CALLS if uses else draw(st.sampled_from([FinishReason.STOP, FinishReason.LENGTH]))
    parts = (*apart, *uses)
    logprobs = tuple(draw(st.lists(TOKENS, max_size=2))) if parts else ()
    return Choice(parts=parts, finish=finish, logprobs=logprobs)


ANSWERS = st.builds(
    Answer,
    id=WORDS,
    model=WORDS,
    created=st.integers(0, 2**33).map(float),
    choices=st.lists(choices(), min_size=1, max_size=3).map(tuple),
    raw_usage=st.none() | st.just(USAGE),
    usage=st.none(),
    dialect=st.just("openai-chat"),
)


@given(ANSWERS, st.integers(1, 64))
def test_an_answer_survives_its_way_through_events_and_bytes(sent: Answer, size: int) -> None:
    encoder = CHAT.stream_encoder(COUNTED)
    body = b"".join(encoder.encode(event) for event in events_of(sent))
    events = decode(*(body[at : at + size] for at in range(0, len(body), size)))
    check_order(events)
    assembler = Assembler()
    assembler.extend(events)
    got = assembler.answer()
    assert (got.id, got.model, got.created, got.choices, got.raw_usage) == (
        *(sent.id, sent.model, sent.created, sent.choices),
        sent.raw_usage,
    )


# --- the official SDK -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in GOLDEN if name != "error"])
@pytest.mark.parametrize("prompt", [PLAIN, COUNTED], ids=["plain", "with usage"])
def test_the_official_sdk_reads_every_chunk(name: str, prompt: Prompt) -> None:
    chat = pytest.importorskip("openai.types.chat", reason="needs the official SDK: pip install openai")
    for made in written(GOLDEN[name][1], prompt)[:-1]:
        parsed = chat.ChatCompletionChunk.model_validate(made, strict=True)
        assert parsed.to_dict() == made


@pytest.mark.parametrize("name", [name for name in GOLDEN if name != "error"])
def test_the_official_sdk_collects_the_answer_that_we_would_write_whole(name: str) -> None:
    sdk = pytest.importorskip("openai.lib.streaming.chat", reason="needs the official SDK: pip install openai")
    chat = pytest.importorskip("openai.types.chat", reason="needs the official SDK: pip install openai")
    state = sdk.ChatCompletionStreamState()
    for made in written(GOLDEN[name][1], COUNTED)[:-1]:
        state.handle_chunk(chat.ChatCompletionChunk.model_validate(made))
    assembler = Assembler()
    assembler.extend(GOLDEN[name][1])
    whole = json.loads(CHAT.encode_answer(assembler.answer(), COUNTED))
    collected = state.current_completion_snapshot.to_dict()
    assert collected.get("usage") == whole.get("usage")
    for got, meant in zip(collected["choices"], whole["choices"], strict=True):
        assert got["finish_reason"] == meant["finish_reason"]
        said = {key: value for key, value in got["message"].items() if value not in (None, "", [])}
        calls = said.pop("tool_calls", [])
        for call_ in calls:
            call_.pop("index", None)
            call_["function"].pop("parsed_arguments", None)
        told = {key: value for key, value in meant["message"].items() if value not in (None, "", [])}
        assert calls == told.pop("tool_calls", [])
        assert said == told
