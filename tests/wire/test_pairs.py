"""Every ordered pair of dialects: what an upstream said in one is what a client reads in the other.

Read back as plain JSON by hand here, with the official SDKs in ``test_pairs_sdk``; requests: ``test_pairs_requests``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import product
from typing import Any

import pytest
from pair_samples import (
    ANTHROPIC,
    BODIES,
    CASES,
    CHAT,
    ERRORS,
    NAMES,
    QUESTIONS,
    RESPONSES,
    STREAMS,
    Says,
)

from potstill.wire.dialect import dialect
from potstill.wire.events import Event

PAIRS = list(product(NAMES, NAMES))
PAIR_IDS = [f"{upstream}>{client}" for upstream, client in PAIRS]
pairs = pytest.mark.parametrize(("upstream", "client"), PAIRS, ids=PAIR_IDS)
cases = pytest.mark.parametrize("case", CASES)


def question(client: str, *, stream: bool) -> bytes:
    asked = dict(QUESTIONS[client])
    if not stream:
        asked.pop("stream_options", None)
    return json.dumps(asked | {"stream": stream}).encode()


def translate(upstream: str, client: str, body: bytes) -> bytes:
    prompt = dialect(client).decode_request(question(client, stream=False))
    return dialect(client).encode_answer(dialect(upstream).decode_answer(body), prompt)


def translate_stream(upstream: str, client: str, chunks: Sequence[bytes]) -> bytes:
    prompt = dialect(client).decode_request(question(client, stream=True))
    decoder, encoder = dialect(upstream).stream_decoder(), dialect(client).stream_encoder(prompt)
    events: list[Event] = [event for chunk in chunks for event in decoder.feed(chunk)]
    events += decoder.close()
    return b"".join(encoder.encode(event) for event in events)


def cut(data: bytes, size: int) -> list[bytes]:
    return [data[start : start + size] for start in range(0, len(data), size)]


def expected(says: Says, upstream: str, client: str) -> Says:
    """What the client must read. Anthropic has no refusals but a reason to stop, so that there they are text."""
    if says.refusal and ANTHROPIC in (upstream, client):
        says = replace(says, text=says.refusal, refusal="")
        if upstream == ANTHROPIC:
            says = replace(says, finish="content_filter")
    return says


# --- reading by hand --------------------------------------------------------------------------------------------------


def frames(body: bytes) -> list[dict[str, Any]]:
    """The JSON of a stream's frames; their names must be the types inside."""
    found = []
    for block in body.decode().split("\n\n"):
        lines = [line.partition(": ") for line in block.splitlines()]
        data = "".join(value for name, _, value in lines if name == "data")
        names = [value for name, _, value in lines if name == "event"]
        if data and data != "[DONE]":
            found.append(json.loads(data))
            assert not names or names == [found[-1]["type"]]
    return found


def read_chat(body: bytes) -> Says:
    raw = json.loads(body)
    (choice,), message = raw["choices"], raw["choices"][0]["message"]
    return Says(
        text=message["content"] or "",
        thinking=message.get("reasoning_content", ""),
        refusal=message.get("refusal") or "",
        calls=tuple(
            (call["id"], call["function"]["name"], json.loads(call["function"]["arguments"]))
            for call in message.get("tool_calls", ())
        ),
        finish=choice["finish_reason"],
        usage=chat_tokens(raw["usage"]),
    )


def chat_tokens(usage: dict[str, Any] | None) -> tuple[int, int, int, int]:
    assert usage is not None
    return (
        usage["prompt_tokens"],
        usage["prompt_tokens_details"]["cached_tokens"],
        usage["completion_tokens"],
        usage["completion_tokens_details"]["reasoning_tokens"],
    )


def read_chat_stream(body: bytes) -> Says:
    text = thinking = refusal = finish = error = ""
    calls: dict[int, list[str]] = {}
    usage = None
    for chunk in frames(body):
        if chunk.get("error"):
            error = chunk["error"]["message"]
            continue
        usage = chunk.get("usage") or usage
        for choice in chunk["choices"]:
            delta = choice["delta"]
            text += delta.get("content") or ""
            thinking += delta.get("reasoning_content") or ""
            refusal += delta.get("refusal") or ""
            finish = choice["finish_reason"] or finish
            for call in delta.get("tool_calls") or ():
                held = calls.setdefault(call["index"], ["", "", ""])
                held[0] += call.get("id") or ""
                held[1] += call["function"].get("name") or ""
                held[2] += call["function"].get("arguments") or ""
    assert error or body.endswith(b"data: [DONE]\n\n")
    return Says(
        text=text,
        thinking=thinking,
        refusal=refusal,
        calls=tuple((held[0], held[1], json.loads(held[2])) for held in calls.values() if not error),
        finish=finish,
        usage=chat_tokens(usage) if not error else Says().usage,
        error=error,
    )


def read_response(raw: dict[str, Any]) -> Says:
    text = thinking = refusal = ""
    calls = []
    for item in raw["output"]:
        if item["type"] == "reasoning":
            thinking += "".join(part["text"] for part in item["summary"])
        elif item["type"] == "message":
            text += "".join(part.get("text", "") for part in item["content"])
            refusal += "".join(part.get("refusal", "") for part in item["content"])
        else:
            assert item["type"] == "function_call"
            calls.append((item["call_id"], item["name"], item["arguments"]))
    failed = raw["status"] == "failed"
    finish = "tool_calls" if calls else "stop"
    if raw["status"] == "incomplete":
        finish = {"max_output_tokens": "length"}.get(*[raw["incomplete_details"]["reason"]] * 2)  # type: ignore[arg-type]
    usage = raw["usage"] or {}
    return Says(
        text=text,
        thinking=thinking,
        refusal=refusal,
        calls=() if failed else tuple((call[0], call[1], json.loads(call[2])) for call in calls),
        finish="" if failed else finish,
        usage=(
            usage["input_tokens"],
            usage["input_tokens_details"]["cached_tokens"],
            usage["output_tokens"],
            usage["output_tokens_details"]["reasoning_tokens"],
        )
        if not failed
        else Says().usage,
        error=raw["error"]["message"] if failed else "",
    )


def read_responses_stream(body: bytes) -> Says:
    """The last event's response, after its deltas were seen to say the same."""
    events = frames(body)
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert [event["type"] for event in events[:2]] == ["response.created", "response.in_progress"]
    said: dict[tuple[int, str], str] = {}
    done: dict[int, dict[str, Any]] = {}
    for event in events:
        if event["type"].endswith(".delta"):
            key = (event["output_index"], event["type"].split(".")[1])
            said[key] = said.get(key, "") + event["delta"]
        if event["type"] == "response.output_item.done":
            done[event["output_index"]] = event["item"]
    last = events[-1]
    says = read_response(last["response"])
    if not says.error:
        assert [done[index] for index in sorted(done)] == last["response"]["output"]
    texts = {kind: "".join(text for (_, k), text in sorted(said.items()) if k == kind) for _, kind in said}
    assert texts.get("output_text", "") == says.text
    assert texts.get("refusal", "") == says.refusal
    assert texts.get("reasoning_summary_text", "") == says.thinking
    return says


_FINISH = {"end_turn": "stop", "max_tokens": "length", "tool_use": "tool_calls", "refusal": "content_filter"}


def read_message(raw: dict[str, Any]) -> Says:
    blocks = raw["content"]
    assert all(block.get("signature") for block in blocks if block["type"] == "thinking")
    usage = raw["usage"]
    cached = usage.get("cache_read_input_tokens") or 0
    return Says(
        text="".join(block["text"] for block in blocks if block["type"] == "text"),
        thinking="".join(block["thinking"] for block in blocks if block["type"] == "thinking"),
        calls=tuple((block["id"], block["name"], block["input"]) for block in blocks if block["type"] == "tool_use"),
        finish=_FINISH.get(raw["stop_reason"] or "", ""),
        usage=(
            usage["input_tokens"] + cached,
            cached,
            usage["output_tokens"],
            (usage.get("output_tokens_details") or {}).get("thinking_tokens", 0),
        ),
    )


def read_anthropic_stream(body: bytes) -> Says:
    message: dict[str, Any] = {}
    raw: dict[int, str] = {}
    error = ""
    for event in frames(body):
        match event["type"]:
            case "message_start":
                message = event["message"]
            case "content_block_start":
                assert event["index"] == len(message["content"])
                message["content"].append(event["content_block"])
            case "content_block_delta":
                block, delta = message["content"][event["index"]], event["delta"]
                for key in ("text", "thinking", "signature"):
                    block[key] = block.get(key, "") + delta.get(key, "") if key in delta else block.get(key, "")
                raw[event["index"]] = raw.get(event["index"], "") + delta.get("partial_json", "")
            case "message_delta":
                message |= event["delta"]
                message["usage"] |= event["usage"]
            case "error":
                error = event["error"]["message"]
    for index, block in enumerate(message["content"]):
        if block["type"] == "tool_use" and not error:
            block["input"] = json.loads(raw[index])
    says = read_message(message)
    return replace(says, error=error, usage=Says().usage, calls=(), finish="") if error else says


READ: dict[str, Callable[[bytes], Says]] = {
    CHAT: read_chat,
    RESPONSES: lambda body: read_response(json.loads(body)),
    ANTHROPIC: lambda body: read_message(json.loads(body)),
}
READ_STREAM: dict[str, Callable[[bytes], Says]] = {
    CHAT: read_chat_stream,
    RESPONSES: read_responses_stream,
    ANTHROPIC: read_anthropic_stream,
}


# --- answers ----------------------------------------------------------------------------------------------------------


@pairs
@cases
def test_a_whole_answer_says_the_same_in_the_clients_dialect(upstream: str, client: str, case: str) -> None:
    says = CASES[case]
    body = translate(upstream, client, BODIES[upstream](says))
    assert READ[client](body) == expected(says, upstream, client)


@pairs
@cases
@pytest.mark.parametrize("size", [1, 7, 1 << 20])
def test_a_stream_says_the_same_in_the_clients_dialect(upstream: str, client: str, case: str, size: int) -> None:
    says = CASES[case]
    body = translate_stream(upstream, client, cut(b"".join(STREAMS[upstream](says)), size))
    assert READ_STREAM[client](body) == expected(says, upstream, client)


def first_half(upstream: str) -> list[bytes]:
    stream = STREAMS[upstream](Says(text="Half an answer"))
    return stream[: next(index for index, one in enumerate(stream) if b'"answ"' in one)]


@pairs
def test_an_error_in_the_middle_of_a_stream_reaches_the_client_after_what_was_said(upstream: str, client: str) -> None:
    half = first_half(upstream)
    body = translate_stream(upstream, client, [*half, ERRORS[upstream]])
    read = READ_STREAM[client](body)
    assert "the engine fell over" in read.error
    assert read.text == "Half an "


@pairs
def test_a_connection_that_is_cut_is_an_error_to_the_client(upstream: str, client: str) -> None:
    half = first_half(upstream)
    for chunks in (half, [*half, b'data: {"type":"respo']):
        read = READ_STREAM[client](translate_stream(upstream, client, chunks))
        assert read.error
        assert read.text == "Half an "


@pairs
def test_a_stream_cut_in_a_tool_call_is_never_complete(upstream: str, client: str) -> None:
    stream = STREAMS[upstream](CASES["one tool call"])
    half = stream[: next(index for index, one in enumerate(stream) if b"city" in one or b'\\"ci' in one) + 1]
    assert READ_STREAM[client](translate_stream(upstream, client, half)).error
