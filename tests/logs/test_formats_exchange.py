"""Requests and answers of OpenAI and Anthropic, as the official SDKs write them (openai 3.54, anthropic 2.12)."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from potstill.logs.formats.anthropic import Anthropic
from potstill.logs.formats.base import Skipped
from potstill.logs.formats.openai_chat import OpenAIChat
from potstill.logs.formats.openai_responses import OpenAIResponses
from potstill.logs.records import LogCall, Source
from potstill.types import Usage

SAMPLES = Path(__file__).parent / "samples"
FORMATS = {"chat": OpenAIChat(), "responses": OpenAIResponses(), "anthropic": Anthropic()}


def rows(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (SAMPLES / name).read_text().splitlines()]


def read(dialect: str, row: dict[str, Any], line: int = 1) -> LogCall:
    assert [name for name, known in FORMATS.items() if known.fits(row)] == [dialect]
    (call,) = FORMATS[dialect].records(json.dumps(row).encode(), Source("log.jsonl", line), {})
    return call


def read_all(dialect: str, name: str) -> list[LogCall]:
    return [read(dialect, row, line) for line, row in enumerate(rows(name), start=1)]


def test_chat_completions_with_request_and_response() -> None:
    first, second, refused = read_all("chat", "openai_chat.jsonl")
    assert (first.model, first.call_id, first.roles) == ("gpt-4.1-mini-2025-04-14", "chatcmpl-1", "su")
    assert (first.started_at, first.latency_s) == (1767225601.5, 0.812)
    assert first.usage == Usage(input_tokens=120, output_tokens=18, cache_reported=True)
    assert second.usage == Usage(input_tokens=150, cache_read_tokens=128, output_tokens=6, cache_reported=True)
    assert first.after == second.prefixes[2], "the next request repeats the answer in other words"
    assert first.tools == second.tools != (0, 0)
    assert [name for name, _ in first.tool_calls] == ["get_order"]
    assert (second.prompt_preview, second.answer_preview) == ('{"status":"shipped"}', "It was shipped.")
    assert (second.source.line, second.problems, second.episode_id) == (2, (), None)
    assert (refused.error, refused.usage, refused.model) == ("Rate limit reached", None, "gpt-4.1-mini")


def test_a_batch_is_billed_as_one_and_has_no_prompts() -> None:
    done, expired = rows("openai_batch_output.jsonl")
    call = read("chat", done)
    assert (call.service, call.roles, call.answer_preview, call.call_id) == (
        "batch",
        "",
        "It was shipped.",
        "chatcmpl-2",
    )
    assert call.usage is not None
    assert call.usage.input_tokens == 150
    with pytest.raises(Skipped, match="failed, and no model is named"):
        read("chat", expired)


def test_a_batchs_requests_are_told_apart_from_its_answers() -> None:
    with pytest.raises(Skipped) as skipped:
        read("chat", rows("openai_batch_input.jsonl")[0])
    assert skipped.value.reason == "a batch's request, without its answer"


def test_the_responses_api() -> None:
    first, second = read_all("responses", "openai_responses.jsonl")
    assert first.roles == "su"
    assert second.roles == "suat"
    assert first.after == second.prefixes[2]
    assert first.usage == Usage(
        input_tokens=120, cache_read_tokens=100, output_tokens=30, reasoning_tokens=12, cache_reported=True
    )
    assert second.answer_preview == "It was shipped."


def test_anthropic_messages() -> None:
    first, second, overloaded = read_all("anthropic", "anthropic.jsonl")
    assert first.usage == Usage(input_tokens=1520, cache_write_tokens=1500, output_tokens=40, cache_reported=True)
    assert second.usage == Usage(
        input_tokens=1585, cache_read_tokens=1520, cache_write_tokens=60, output_tokens=8, cache_reported=True
    )
    assert first.roles == "su"
    assert second.roles == "suat"
    assert first.after == second.prefixes[2], "thinking is left out of the next request"
    assert first.episode_id == second.episode_id == "8e2b7a90-1111-4222-8333-444455556666"
    assert (overloaded.error, overloaded.usage) == ("Overloaded", None)


def test_anthropic_batches() -> None:
    done, *broken = rows("anthropic_batch.jsonl")
    assert read("anthropic", done).service == "batch"
    for row in broken:
        with pytest.raises(Skipped, match="failed, and no model is named"):
            read("anthropic", row)


def variants(row: dict[str, Any]) -> dict[str, dict[str, Any]]:
    request, response = row["request"], row["response"]
    return {
        "bodies as text": {"request_body": json.dumps(request), "response_body": json.dumps(response)},
        "input and output": {"input": request, "output": response},
        "HTTP messages": {"request": {"body": request}, "response": {"status_code": 200, "body": response}},
        "flat request": {**request, "response": response},
        "flat": {**request, **response},
    }


@pytest.mark.parametrize("shape", variants({"request": {}, "response": {}}))
@pytest.mark.parametrize(("dialect", "name"), [("chat", "openai_chat.jsonl"), ("anthropic", "anthropic.jsonl")])
def test_the_shapes_that_proxies_write(dialect: str, name: str, shape: str) -> None:
    row = rows(name)[1]
    expected, call = read(dialect, row), read(dialect, variants(row)[shape])
    for field in ("model", "usage", "roles", "prefixes", "after", "tools", "call_id", "answer_preview"):
        assert getattr(call, field) == getattr(expected, field), field


def test_an_answer_without_its_request_still_counts() -> None:
    call = read("chat", {"response": rows("openai_chat.jsonl")[0]["response"]})
    assert (call.roles, call.started_at) == ("", 1767225600.0)
    assert call.usage is not None


@pytest.mark.parametrize(
    ("usage", "kinds"),
    [
        (None, []),
        ({}, []),
        ({"prompt_tokens": None, "completion_tokens": None}, []),
        ({"prompt_tokens": 10, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 11}}, ["bad_usage"]),
        ({"prompt_tokens": -1, "completion_tokens": 5}, ["bad_usage"]),
        ({"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 50}, ["bad_usage"]),
        ({"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}, ["bad_usage"]),
        ({"prompt_tokens": 1.5, "completion_tokens": 5}, ["bad_usage"]),
    ],
)
def test_counts_that_contradict_each_other_are_unknown(usage: Any, kinds: list[str]) -> None:
    row = copy.deepcopy(rows("openai_chat.jsonl")[0])
    row["response"]["usage"] = usage
    call = read("chat", row)
    assert call.usage is None
    assert [problem.kind for problem in call.problems] == kinds


def test_numbers_that_cannot_be_are_unknown_and_told() -> None:
    row = rows("openai_chat.jsonl")[0] | {"cost": -1, "latency_ms": "soon", "timestamp": "yesterday"}
    call = read("chat", row)
    assert (call.cost_usd, call.latency_s, call.started_at) == (None, None, 1767225600.0)
    assert [problem.kind for problem in call.problems] == ["bad_number"] * 3


def test_ids_and_dollars_around_the_exchange() -> None:
    row = rows("openai_chat.jsonl")[0]
    row["request"]["metadata"] = {"session_id": "s-1", "task_id": 7}
    row["response"]["usage"]["cost"] = 0.25
    call = read("chat", row | {"run": "nightly"})
    assert (call.episode_id, call.task_id, call.run, call.cost_usd) == ("s-1", "7", "nightly", 0.25)
    late = read(
        "chat", row | {"timestamp": None, "start_time": 1767225601000, "end_time": 1767225600000, "latency_ms": None}
    )
    assert (late.started_at, late.latency_s) == (1767225601.0, None)
    assert [problem.kind for problem in late.problems] == ["bad_value"]


def test_pieces_of_a_stream_are_put_together() -> None:
    row = rows("openai_chat.jsonl")[0]

    def chunk(delta: dict[str, Any], **more: Any) -> dict[str, Any]:
        head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "model": "gpt-4.1-mini-2025-04-14"}
        return {**head, "choices": [{"index": 0, "delta": delta}], **more}

    whole = row["response"]["choices"][0]["message"]["tool_calls"][0]
    start = {"index": 0, "id": whole["id"], "function": {"name": "get_order", "arguments": '{"order'}}
    rest = {"index": 0, "function": {"arguments": '_id": "17"}'}}
    pieces = [
        chunk({"role": "assistant", "content": None}),
        chunk({"tool_calls": [start]}),
        chunk({"tool_calls": [rest]}),
    ]
    pieces.append({**chunk({}), "choices": [], "usage": row["response"]["usage"]})
    text = "".join(f"data: {json.dumps(piece)}\n\n" for piece in pieces) + "data: [DONE]\n\n"
    expected = read("chat", row)
    for response in (pieces, text, {"status_code": 200, "body": text}):
        streamed = read("chat", row | {"response": response})
        assert (streamed.after, streamed.usage, streamed.model) == (expected.after, expected.usage, expected.model)


def test_pieces_of_an_anthropic_stream_are_put_together() -> None:
    row = rows("anthropic.jsonl")[0]
    response = row["response"]
    started = {**response, "content": [], "usage": {**response["usage"], "output_tokens": 1}}
    pieces: list[dict[str, Any]] = [{"type": "message_start", "message": started}]
    for index, block in enumerate(response["content"][1:]):
        opened = {**block, "text": ""} if block["type"] == "text" else {**block, "input": {}}
        text = {"type": "text_delta", "text": block.get("text")}
        arguments = {"type": "input_json_delta", "partial_json": json.dumps(block.get("input"))}
        pieces.append({"type": "content_block_start", "index": index, "content_block": opened})
        delta = text if block["type"] == "text" else arguments
        pieces.append({"type": "content_block_delta", "index": index, "delta": delta})
    pieces.append({"type": "message_delta", "delta": {}, "usage": {"output_tokens": 40}})
    streamed, expected = read("anthropic", row | {"response": pieces}), read("anthropic", row)
    assert (streamed.after, streamed.usage, streamed.model) == (expected.after, expected.usage, expected.model)
