"""The chat completions dialect: what is sent, and what is read from answers good and bad."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from potstill.errors import BadResponse
from potstill.types import Blob, FinishReason, Message, Request, ToolCall, ToolSpec
from potstill.wire.openai_chat import Dialect, decode_error, decode_response, encode_request

HI = Request(messages=(Message(role="user", content="hi"),))


def encoded(request: Request, n: int = 1, **options: Any) -> dict[str, Any]:
    return json.loads(encode_request(request, "m", n, **options))


def answer(message: dict[str, Any], **choice: Any) -> bytes:
    return json.dumps({"id": "x", "choices": [{"index": 0, "message": message, **choice}]}).encode()


def test_a_plain_request_has_only_what_was_asked() -> None:
    assert encoded(HI) == {
        "model": "m",
        "messages": [{"role": "user", "content": "hi"}],
        "max_tokens": 256,
        "temperature": 0.0,
    }


def test_everything_that_a_request_can_say() -> None:
    request = Request(
        messages=(
            Message(role="system", content="s"),
            Message(role="assistant", tool_calls=(ToolCall(id="c1", name="look", arguments='{"at":1}'),)),
            Message(role="tool", content="a cat", tool_call_id="c1"),
        ),
        tools=(ToolSpec(name="look", description="See.", parameters={"type": "object"}),),
        admissible=("a",),
        stop=("\n",),
        seed=7,
        top_logprobs=2,
        temperature=0.5,
        max_tokens=9,
        handle=object(),
    )
    assert encoded(request, 3, seed_offset=2) == {
        "model": "m",
        "messages": [
            {"role": "system", "content": "s"},
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"at":1}'}}],
            },
            {"role": "tool", "content": "a cat", "tool_call_id": "c1"},
        ],
        "max_tokens": 9,
        "temperature": 0.5,
        "n": 3,
        "stop": ["\n"],
        "seed": 9,
        "logprobs": True,
        "top_logprobs": 2,
        "tools": [
            {"type": "function", "function": {"name": "look", "description": "See.", "parameters": {"type": "object"}}}
        ],
    }


def test_dialects_move_and_omit_fields() -> None:
    dialect = Dialect(
        max_tokens_field="max_completion_tokens",
        seed_field="random_seed",
        logprobs=False,
        omit=frozenset({"temperature"}),
        extra={"reasoning_effort": "low"},
    )
    request = msgspec.structs.replace(HI, seed=1, top_logprobs=3)
    body = encoded(request, dialect=dialect)
    assert body == {
        "model": "m",
        "messages": [{"role": "user", "content": "hi"}],
        "max_completion_tokens": 256,
        "random_seed": 1,
        "reasoning_effort": "low",
    }


def test_cache_breakpoints_end_the_static_part_and_the_history() -> None:
    texts = ("system", "goal", "observation", "now")
    request = Request(messages=tuple(Message(role="user", content=text) for text in texts), static_messages=2)
    messages = encoded(request, dialect=Dialect(cache_breakpoints=True))["messages"]
    marked = [isinstance(message["content"], list) for message in messages]
    assert marked == [False, True, True, False]
    assert messages[1]["content"] == [{"type": "text", "text": "goal", "cache_control": {"type": "ephemeral"}}]


def test_images_are_inlined_by_the_reader() -> None:
    blob = Blob(digest="00", media_type="image/png", size_bytes=3)
    request = Request(messages=(Message(role="user", content="see", images=(blob,)),))
    content = encoded(request, read_blob=lambda _: b"abc")["messages"][0]["content"]
    assert content[1] == {"type": "image_url", "image_url": {"url": "data:image/png;base64,YWJj"}}
    with pytest.raises(KeyError, match="00"):
        encode_request(request, "m")


def test_replies_come_in_the_order_of_their_index() -> None:
    choices = [{"index": index, "message": {"content": str(index)}} for index in (2, 0, 1)]
    decoded = decode_response(json.dumps({"choices": choices, "unknown": [1]}).encode())
    assert [reply.text for reply in decoded.replies] == ["0", "1", "2"]
    assert decoded.usage is None


def test_deviations_of_near_compatible_servers_are_read() -> None:
    body = answer(
        {
            "content": [
                {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]},
                {"type": "text", "text": "go"},
            ],
            "tool_calls": [{"function": {"name": "f", "arguments": {"a": 1}}}, {"function": {"name": "g"}}],
        },
        finish_reason="function_call",
    )
    reply = decode_response(body).replies[0]
    assert (reply.text, reply.reasoning, reply.finish_reason) == ("go", "hm", FinishReason.TOOL_CALLS)
    assert reply.tool_calls == (ToolCall(id="call_0", name="f", arguments='{"a":1}'), ToolCall(id="call_1", name="g"))


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
def test_reasoning_is_kept_apart(field: str) -> None:
    reply = decode_response(answer({"content": "go", field: "because"})).replies[0]
    assert (reply.text, reply.reasoning) == ("go", "because")


def test_a_refusal_is_no_answer() -> None:
    reply = decode_response(answer({"content": None, "refusal": "No."}, finish_reason="stop")).replies[0]
    assert (reply.text, reply.finish_reason) == ("No.", FinishReason.CONTENT_FILTER)


@pytest.mark.parametrize("end", ["", "<|im_end|>", "\n"])
def test_the_end_of_generation_does_not_count_in_the_sum(end: str) -> None:
    tokens = [(" go", -0.5), (" north", -0.25), (end, -6.6)]
    content = [{"token": token, "logprob": logprob, "top_logprobs": []} for token, logprob in tokens]
    reply = decode_response(answer({"content": "go north"}, logprobs={"content": content})).replies[0]
    assert reply.logprob == -0.75
    assert len(reply.token_logprobs) == 2


def test_alternatives_are_kept() -> None:
    top = [{"token": "a", "logprob": -0.1, "bytes": [97]}, {"token": "b", "logprob": -2.5, "bytes": [98]}]
    content = [{"token": "a", "logprob": -0.1, "top_logprobs": top}]
    reply = decode_response(answer({"content": "a"}, logprobs={"content": content})).replies[0]
    assert reply.token_logprobs[0].top == (("a", -0.1), ("b", -2.5))


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"<html><body>Bad gateway", "<html>"),
        (b"", r"\(empty\)"),
        (b"[]", "chat completion"),
        (b'{"choices": []}', "without choices"),
        (b'{"choices": [{"text": "old dialect"}]}', "message"),
        (b'{"choices": {"0": 1}}', "choices"),
        (b'{"object": "list", "data": []}', "choices"),
        (b'{"error": {"message": "model overloaded", "code": 503}}', "model overloaded"),
        (b'{"choices": [{"message": {"content": "ha"}, "finish_reason": "error"}]}', "broke off"),
        (b"data: {}\n\n", "data:"),
        (b'{"choices": [{"message": {"content": "\xff\xfe"}}]}', "chat completion"),
    ],
)
def test_what_is_no_answer_is_said_with_an_excerpt(body: bytes, said: str) -> None:
    with pytest.raises(BadResponse, match=said) as caught:
        decode_response(body)
    assert len(str(caught.value)) < 400


@given(st.binary(max_size=200) | st.text(max_size=100).map(str.encode))
def test_any_bytes_give_replies_or_bad_response(body: bytes) -> None:
    assert decode_error(body).message
    with pytest.raises(BadResponse):
        decode_response(body)


@pytest.mark.parametrize(
    "error",
    [
        {"message": "This model's maximum context length is 8192 tokens", "code": "context_length_exceeded"},
        {"message": "the request exceeds the available context size", "type": "exceed_context_size_error"},
        {"message": "prompt is too long: 210000 tokens > 200000 maximum", "type": "invalid_request_error"},
        {"message": "The input token count (2000000) exceeds the maximum number of tokens allowed"},
    ],
)
def test_overflow_is_told_from_other_refusals(error: dict[str, Any]) -> None:
    assert decode_error(json.dumps({"error": error}).encode()).is_overflow
    assert decode_error(json.dumps([{"error": error}]).encode()).is_overflow


@pytest.mark.parametrize("body", [b'{"error": {"message": "bad temperature"}}', b'{"detail": "no"}', b"nope", b"3"])
def test_other_refusals_are_not_overflow(body: bytes) -> None:
    assert not decode_error(body).is_overflow


@given(st.text())
def test_requests_survive_any_text(text: str) -> None:
    text = text.encode("utf-8", "replace").decode()
    body = encoded(Request(messages=(Message(role="user", content=text),)))
    assert body["messages"][0]["content"] == text
