"""Streams of the responses dialect: events in, frames out, numbering, and servers that deviate."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pair_samples import CASES, frame, responses_body, responses_stream

from potstill.types import FinishReason, TokenLogprob, Usage
from potstill.wire.assemble import Assembler, events_of
from potstill.wire.events import Begin, Broken, Delta, Done, Event, Finish, PartBegin, PartEnd, Ping, Spent
from potstill.wire.neutral import Answer, Choice, Opaque, Part, Prompt, Refusal, Text, Thinking, ToolUse
from potstill.wire.openai_responses import RESPONSES

NAME = "openai-responses"
PROMPT = Prompt(model="m", turns=(), stream=True, logprobs=True, dialect=NAME)
CREATED = {"type": "response.created", "response": {"id": "resp_1", "model": "m", "status": "in_progress"}}


def decode(*events: dict[str, Any]) -> list[Event]:
    decoder = RESPONSES.stream_decoder()
    found = [event for one in events for event in decoder.feed(frame(one, one["type"]))]
    return [*found, *decoder.close()]


def answer_of(events: list[Event]) -> Answer:
    assembler = Assembler()
    assembler.extend(events)
    return assembler.answer()


def encode(*events: Event, prompt: Prompt = PROMPT) -> list[dict[str, Any]]:
    encoder = RESPONSES.stream_encoder(prompt)
    body = b"".join(encoder.encode(event) for event in events).decode()
    frames = [block.partition("data: ")[2] for block in body.split("\n\n") if "data: " in block]
    return [json.loads(one) for one in frames]


def completed(output: list[dict[str, Any]], status: str = "completed") -> dict[str, Any]:
    response = {"id": "resp_1", "model": "m", "status": status, "output": output}
    return {"type": f"response.{status}", "response": response}


# --- reading ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES)
def test_a_stream_assembles_to_the_answer_that_comes_without_one(case: str) -> None:
    decoder = RESPONSES.stream_decoder()
    events = [event for one in responses_stream(CASES[case]) for event in decoder.feed(one)]
    streamed, whole = answer_of([*events, *decoder.close()]), RESPONSES.decode_answer(responses_body(CASES[case]))
    assert streamed.choices == whole.choices
    assert (streamed.usage, streamed.raw_usage, streamed.id) == (whole.usage, whole.raw_usage, whole.id)


def test_the_events_of_a_call() -> None:
    assert decode(
        CREATED,
        {
            "type": "response.output_item.added",
            "output_index": 0,
            "item": {"type": "function_call", "id": "fc_1", "call_id": "c", "name": "f", "arguments": ""},
        },
        {"type": "response.function_call_arguments.delta", "output_index": 0, "item_id": "fc_1", "delta": '{"a":'},
        {"type": "response.function_call_arguments.delta", "output_index": 0, "item_id": "fc_1", "delta": "1}"},
        {"type": "response.function_call_arguments.done", "output_index": 0, "arguments": '{"a":1}'},
        completed([{"type": "function_call", "id": "fc_1", "call_id": "c", "name": "f", "arguments": '{"a":1}'}]),
    ) == [
        Begin(id="resp_1", model="m", dialect=NAME),
        PartBegin(kind="tool_use", index=0, id="c", name="f"),
        Delta(index=0, text='{"a":'),
        Delta(index=0, text="1}"),
        PartEnd(index=0),
        Finish(reason=FinishReason.TOOL_CALLS),
        Done(),
    ]


ITEMS: list[dict[str, Any]] = [
    {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "hm"}], "encrypted_content": "e"},
    {"type": "message", "id": "m_1", "role": "assistant", "content": [{"type": "output_text", "text": "hello"}]},
    {"type": "function_call", "id": "fc_1", "call_id": "c", "name": "f", "arguments": '{"a": 1}'},
    {"type": "web_search_call", "id": "ws_1", "status": "completed"},
]
PARTS = (
    Thinking(text="hm", redacted="e", id="rs_1"),
    Text(text="hello"),
    ToolUse(id="c", name="f", arguments='{"a": 1}'),
    Opaque(dialect=NAME, kind="web_search_call", value=ITEMS[3]),
)


def test_servers_that_tell_items_only_whole() -> None:
    done = [
        {"type": "response.output_item.done", "output_index": index, "item": item} for index, item in enumerate(ITEMS)
    ]
    assert answer_of(decode(CREATED, *done, completed([]))).choices[0].parts == PARTS
    assert answer_of(decode(CREATED, completed(ITEMS))).choices[0].parts == PARTS
    assert answer_of(decode(completed(ITEMS))).choices[0].parts == PARTS


def test_servers_without_content_events_and_indexes() -> None:
    events = decode(
        CREATED,
        {"type": "response.output_item.added", "item": {"type": "message", "id": "m_1", "content": []}},
        {"type": "response.output_text.delta", "item_id": "m_1", "delta": "hel"},
        {"type": "response.output_text.delta", "item_id": "m_1", "delta": "lo"},
        {"type": "response.output_item.done", "item": ITEMS[1]},
        {
            "type": "response.output_item.added",
            "item": {"type": "function_call", "id": "fc_1", "call_id": "c", "name": "f"},
        },
        {"type": "response.function_call_arguments.delta", "item_id": "fc_1", "delta": '{"a"'},
        {"type": "response.output_item.done", "item": ITEMS[2]},
        completed([ITEMS[1], ITEMS[2]]),
    )
    assert answer_of(events).choices[0].parts == PARTS[1:3]


def test_what_the_last_word_of_a_text_holds_beyond_its_deltas_is_told() -> None:
    events = decode(
        CREATED,
        {"type": "response.output_item.added", "output_index": 0, "item": {"type": "message", "id": "m_1"}},
        {"type": "response.output_text.delta", "output_index": 0, "content_index": 0, "delta": "he"},
        {"type": "response.output_text.done", "output_index": 0, "content_index": 0, "text": "hello"},
        completed([ITEMS[1]]),
    )
    assert [event.text for event in events if isinstance(event, Delta)] == ["he", "llo"]


@pytest.mark.parametrize("event", ["content_part.done", "output_item.done"])
def test_so_is_what_the_last_word_of_a_content_or_an_item_holds(event: str) -> None:
    at = {"output_index": 0, "content_index": 0}
    last = {"part": ITEMS[1]["content"][0]} if event == "content_part.done" else {"item": ITEMS[1]}
    events = decode(
        CREATED,
        {"type": "response.output_item.added", "output_index": 0, "item": {"type": "message", "id": "m_1"}},
        {"type": "response.output_text.delta", **at, "delta": "he"},
        {"type": f"response.{event}", **at, **last},
        {"type": "response.output_text.delta", **at, "delta": "never"},
        completed([]),
    )
    assert [event.text for event in events if isinstance(event, Delta)] == ["he", "llo"]


def test_an_item_that_starts_twice_is_one() -> None:
    added = {
        "type": "response.output_item.added",
        "output_index": 0,
        "item": {"type": "function_call", "id": "fc_1", "call_id": "c", "name": "f"},
    }
    assert answer_of(decode(CREATED, added, added, completed([ITEMS[2]]))).choices[0].parts == (PARTS[2],)


def test_several_summaries_are_one_thought() -> None:
    at = {"output_index": 0, "item_id": "rs_1"}
    summary = [{"type": "summary_text", "text": "one"}, {"type": "summary_text", "text": "two"}]
    item = {"type": "reasoning", "id": "rs_1", "summary": summary, "encrypted_content": "e"}
    events = decode(
        CREATED,
        {"type": "response.output_item.added", "output_index": 0, "item": {"type": "reasoning", "id": "rs_1"}},
        {"type": "response.reasoning_summary_text.delta", **at, "summary_index": 0, "delta": "one"},
        {"type": "response.reasoning_summary_text.delta", **at, "summary_index": 1, "delta": "tw"},
        {"type": "response.reasoning_summary_text.delta", **at, "summary_index": 1, "delta": "o"},
        {"type": "response.output_item.done", "output_index": 0, "item": item},
        completed([item]),
    )
    thought = next(part for part in answer_of(events).choices[0].parts if isinstance(part, Thinking))
    assert thought == Thinking(text="one\n\ntwo", redacted="e", id="rs_1")


def test_annotations_and_phases_are_hints() -> None:
    note = {"type": "url_citation", "url": "https://e.org", "title": "t", "start_index": 0, "end_index": 1}
    text = {"type": "output_text", "text": "hello", "annotations": [note]}
    item = {"type": "message", "id": "m_1", "role": "assistant", "phase": "commentary", "content": [text]}
    at = {"output_index": 0, "content_index": 0, "item_id": "m_1"}
    events = decode(
        CREATED,
        {"type": "response.output_item.added", "output_index": 0, "item": item | {"content": []}},
        {"type": "response.content_part.added", **at, "part": text | {"text": "", "annotations": []}},
        {"type": "response.output_text.delta", **at, "delta": "hello"},
        {"type": "response.output_text.annotation.added", **at, "annotation": note, "annotation_index": 0},
        {"type": "response.content_part.done", **at, "part": text},
        {"type": "response.output_item.done", "output_index": 0, "item": item},
        completed([item]),
    )
    parts = answer_of(events).choices[0].parts
    assert parts == RESPONSES.decode_answer(json.dumps(completed([item])["response"]).encode()).choices[0].parts
    assert [part.hint for part in parts if isinstance(part, Opaque)] == [True, True]
    (written,) = encode(*events)[-1]["response"]["output"]
    assert written["phase"] == "commentary"
    assert written["content"][0]["annotations"] == [note]


def test_log_probabilities_come_with_the_text() -> None:
    logprobs = [{"token": "hello", "logprob": -0.25, "top_logprobs": [{"token": "hi", "logprob": -2.0}]}]
    at = {"output_index": 0, "content_index": 0, "item_id": "m_1"}
    events = decode(
        CREATED,
        {"type": "response.output_item.added", "output_index": 0, "item": {"type": "message", "id": "m_1"}},
        {"type": "response.output_text.delta", **at, "delta": "hello", "logprobs": logprobs},
        completed([ITEMS[1]]),
    )
    token = TokenLogprob(token="hello", logprob=-0.25, top=(("hi", -2.0),))
    assert answer_of(events).choices[0].logprobs == (token,)
    frames = encode(*events)
    (delta,) = [one for one in frames if one["type"] == "response.output_text.delta"]
    assert delta["logprobs"][0]["token"] == "hello"
    quiet = encode(*events, prompt=Prompt(model="m", turns=(), dialect=NAME))
    assert [one["logprobs"] for one in quiet if one["type"] == "response.output_text.delta"] == [[]]


@pytest.mark.parametrize(
    ("event", "broken"),
    [
        (
            {"type": "response.failed", "response": {"error": {"code": "rate_limit_exceeded", "message": "slow"}}},
            Broken(message="slow", kind="rate_limit"),
        ),
        ({"type": "error", "code": "server_error", "message": "boom"}, Broken(message="boom", kind="upstream")),
        (
            {"type": "error", "error": {"message": "boom", "type": "overloaded_error"}},
            Broken(message="boom", kind="overloaded"),
        ),
        ({"type": "response.output_text.delta", "delta": 3}, None),
        ({"type": "response.output_item.added", "output_index": -1, "item": {"type": "message"}}, None),
    ],
)
def test_errors_and_nonsense_break_the_stream(event: dict[str, Any], broken: Broken | None) -> None:
    last = decode(CREATED, event, completed([]))[-1]
    assert isinstance(last, Broken)
    assert broken in (None, last)


def test_a_connection_that_ends_early_is_broken_and_a_keepalive_is_a_ping() -> None:
    begin, ping, broken = decode(CREATED, {"type": "keepalive", "sequence_number": 3})
    assert isinstance(begin, Begin)
    assert ping == Ping()
    assert isinstance(broken, Broken)
    assert isinstance(decode(CREATED, completed([], "incomplete"))[-1], Done)


# --- writing ----------------------------------------------------------------------------------------------------------


def test_the_frames_of_a_text_then_a_call() -> None:
    events = encode(
        Begin(id="x", model="up", created=5.0, dialect="openai-chat"),
        PartBegin(kind="text", index=0),
        Delta(index=0, text="a"),
        Delta(index=0, text="b"),
        PartEnd(index=0),
        PartBegin(kind="tool_use", index=1, id="c", name="f"),
        PartEnd(index=1),
        Finish(reason=FinishReason.TOOL_CALLS),
        Spent(usage=Usage(input_tokens=3, output_tokens=2)),
        Done(),
    )
    assert [event["type"].removeprefix("response.") for event in events] == [
        "created",
        "in_progress",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "output_item.added",
        "function_call_arguments.delta",
        "function_call_arguments.done",
        "output_item.done",
        "completed",
    ]
    assert [event["sequence_number"] for event in events] == list(range(14))
    assert {event["output_index"] for event in events[2:9]} == {0}
    assert {event["output_index"] for event in events[9:13]} == {1}
    message, call = events[-1]["response"]["output"]
    assert {event["item_id"] for event in events[3:8]} == {message["id"]}
    assert message["content"] == [{"type": "output_text", "text": "ab", "annotations": [], "logprobs": []}]
    assert (call["call_id"], call["name"], call["arguments"], call["status"]) == ("c", "f", "{}", "completed")
    assert events[-1]["response"]["usage"]["total_tokens"] == 5
    assert {event["response"]["id"] for event in (events[0], events[1], events[-1])} == {"resp_x"}


def test_neighbouring_texts_and_refusals_are_one_message() -> None:
    parts = (Text(text="a"), Refusal(text="no"), Thinking(text="hm"), Text(text="b"))
    events = encode(*events_of(Answer(id="1", model="x", choices=(Choice(parts=parts),))))
    added = [event["item"]["type"] for event in events if event["type"] == "response.output_item.added"]
    assert added == ["message", "reasoning", "message"]
    contents = [
        (event["output_index"], event["content_index"], event["part"]["type"])
        for event in events
        if event["type"] == "response.content_part.added"
    ]
    assert contents == [(0, 0, "output_text"), (0, 1, "refusal"), (2, 0, "output_text")]


def test_the_message_that_reached_the_limit_is_incomplete() -> None:
    choice = Choice(parts=(ToolUse(id="c", name="f"), Text(text="Once upon")), finish=FinishReason.LENGTH)
    answer = Answer(id="1", model="x", choices=(choice,))
    streamed = encode(*events_of(answer))
    whole = json.loads(RESPONSES.encode_answer(answer, PROMPT))
    assert [event["item"]["status"] for event in streamed if event["type"].endswith("item.done")] == [
        "completed",
        "incomplete",
    ]
    for response in (streamed[-1]["response"], whole):
        assert [item["status"] for item in response["output"]] == ["completed", "incomplete"]
        assert (response["status"], response["incomplete_details"]) == ("incomplete", {"reason": "max_output_tokens"})


def test_calls_whose_pieces_interleave_keep_their_own_items() -> None:
    events = encode(
        Begin(id="x", model="m"),
        PartBegin(kind="tool_use", index=0, id="a", name="f"),
        PartBegin(kind="tool_use", index=1, id="b", name="g"),
        Delta(index=1, text="[2]"),
        Delta(index=0, text="[1]"),
        PartEnd(index=1),
        PartEnd(index=0),
        Finish(),
        Done(),
    )
    output = events[-1]["response"]["output"]
    assert [(item["call_id"], item["arguments"]) for item in output] == [("a", "[1]"), ("b", "[2]")]
    done = {event["output_index"]: event["item"] for event in events if event["type"] == "response.output_item.done"}
    assert [done[0], done[1]] == output


def test_a_stream_that_breaks_fails_with_what_came_before() -> None:
    events = encode(
        Begin(id="x", model="m"),
        PartBegin(kind="text", index=0),
        Delta(index=0, text="half"),
        Broken(message="gone", kind="rate_limit"),
        Delta(index=0, text="never"),
        Done(),
    )
    last = events[-1]
    assert last["type"] == "response.failed"
    assert last["response"]["status"] == "failed"
    assert last["response"]["error"] == {"code": "rate_limit_exceeded", "message": "gone"}
    assert last["response"]["output"][0]["content"][0]["text"] == "half"
    assert last["response"]["output"][0]["status"] == "incomplete"


def test_a_stream_that_breaks_before_it_began_has_a_beginning() -> None:
    assert [event["type"] for event in encode(Broken(message="gone"))] == [
        "response.created",
        "response.in_progress",
        "response.failed",
    ]


@pytest.mark.parametrize(
    "event",
    [
        PartBegin(kind="opaque", index=0, name="document", value={}, dialect="anthropic"),
        PartBegin(kind="text", index=0, choice=1),
    ],
)
def test_what_cannot_be_said_breaks_the_stream(event: Event) -> None:
    last = encode(Begin(id="x", model="m", dialect="anthropic"), event, Done())[-1]
    assert last["type"] == "response.failed"
    assert last["response"]["error"]["code"] == "invalid_prompt"


def test_what_json_cannot_hold_breaks_the_stream() -> None:
    deep: dict[str, Any] = {}
    for _ in range(5000):
        deep = {"a": deep}
    begin, opaque = Begin(id="x", model="m"), PartBegin(kind="opaque", index=0, name="x", value=deep, dialect=NAME)
    for events in ((opaque,), (PartBegin(kind="text", index=0), Delta(index=0, text="\ud800"))):
        encoder = RESPONSES.stream_encoder(PROMPT)
        frames = [encoder.encode(event) for event in (begin, *events, Done())]
        assert b"cannot be written as JSON" in b"".join(frames)
        assert b'"status":"failed"' in frames[-2]
        assert not frames[-1]


def test_hints_of_other_dialects_are_left_out_and_pings_are_comments() -> None:
    hint = PartBegin(kind="opaque", index=0, name="citations", value={}, dialect="anthropic", hint=True)
    events = encode(Begin(id="x", model="m", dialect="anthropic"), hint, PartEnd(index=0), Finish(), Done())
    assert events[-1]["response"]["output"] == []
    assert RESPONSES.stream_encoder(PROMPT).encode(Ping()).startswith(b":")


texts = st.text(max_size=12)
parts = st.lists(
    st.builds(Text, text=texts)
    | st.builds(Refusal, text=texts)
    | st.builds(Thinking, text=texts, id=st.just("rs_1"), redacted=st.none() | st.just("enc"))
    | st.builds(ToolUse, id=st.text(min_size=1, max_size=9), name=texts, arguments=st.just('{"a": "ü"}'))
    | st.builds(Opaque, dialect=st.just(NAME), kind=st.just("web_search_call"), value=st.just(ITEMS[3])),
    max_size=6,
).map(tuple)


@given(said=parts, size=st.integers(1, 50), finish=st.sampled_from([FinishReason.LENGTH, FinishReason.CONTENT_FILTER]))
def test_a_stream_is_the_same_when_read_again(said: tuple[Part, ...], size: int, finish: FinishReason) -> None:
    choice = Choice(parts=said, finish=finish)
    encoder, decoder = RESPONSES.stream_encoder(PROMPT), RESPONSES.stream_decoder()
    answer = Answer(id="resp_1", model="m", choices=(choice,), dialect=NAME, raw_usage={"input_tokens": 3})
    body = b"".join(encoder.encode(event) for event in events_of(answer))
    events = [event for start in range(0, len(body), size) for event in decoder.feed(body[start : start + size])]
    again = answer_of([*events, *decoder.close()])
    assert again.choices == (choice,)
    assert again.raw_usage == {"input_tokens": 3}
