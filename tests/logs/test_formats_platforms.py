"""LiteLLM's spend logs and Langfuse's exports: the same two calls as in the sample of chat completions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from potstill.logs.formats.base import LogFormat, Skipped
from potstill.logs.formats.langfuse import Langfuse
from potstill.logs.formats.litellm import LiteLLM
from potstill.logs.formats.openai_chat import OpenAIChat
from potstill.logs.records import Attempt, LogCall, Record, Source
from potstill.types import Usage

SAMPLES = Path(__file__).parent / "samples"
FIRST = Usage(input_tokens=120, output_tokens=18, cache_reported=True)
SECOND = Usage(input_tokens=150, cache_read_tokens=128, output_tokens=6, cache_reported=True)


def load(name: str) -> Any:
    text = (SAMPLES / name).read_text()
    return [json.loads(line) for line in text.splitlines()] if name.endswith("l") else json.loads(text)


def read(known: LogFormat, row: dict[str, Any]) -> Record:
    assert known.fits(row)
    (record,) = known.records(json.dumps(row).encode(), Source("log.json", 1), {})
    return record


def call(known: LogFormat, row: dict[str, Any]) -> LogCall:
    record = read(known, row)
    assert isinstance(record, LogCall)
    return record


def chat_calls() -> list[LogCall]:
    return [call(OpenAIChat(), row) for row in load("openai_chat.jsonl")[:2]]


def same_conversation(one: LogCall, two: LogCall) -> bool:
    return (one.roles, one.prefixes, one.after, one.tool_calls) == (two.roles, two.prefixes, two.after, two.tool_calls)


def test_litellm_spend_logs() -> None:
    rows = load("litellm.json")
    first, second, refused = (call(LiteLLM(), rows[index]) for index in (0, 1, 3))
    assert all(map(same_conversation, (first, second), chat_calls()))
    assert (first.usage, second.usage) == (FIRST, SECOND)
    assert (first.cost_usd, first.call_id, first.provider) == (7.68e-05, "chatcmpl-1", "openai")
    assert (first.episode_id, first.task_id) == ("sess-42", "order-17")
    assert (first.started_at, first.latency_s) == (1767225601.5, pytest.approx(0.812))
    assert (refused.error, refused.usage, refused.cost_usd) == ("Rate limit reached", None, None)
    assert refused.problems == ()


@pytest.mark.parametrize(("index", "reason"), [(2, "nothing was billed"), (4, "not a call of a chat model")])
def test_litellm_rows_that_no_model_answered_say_so(index: int, reason: str) -> None:
    with pytest.raises(Skipped, match=reason):
        read(LiteLLM(), load("litellm.json")[index])


def test_litellm_without_prompts_and_without_a_price() -> None:
    row = load("litellm.json")[0] | {"messages": {}, "response": {}, "spend": 0.0, "model": "my/local"}
    found = call(LiteLLM(), row)
    assert (found.roles, found.after, found.cost_usd) == ("", None, None)
    assert found.usage == FIRST


def test_litellm_callback_payload() -> None:
    row = load("litellm.json")[1]
    payload = {name: row[name] for name in ("call_type", "total_tokens", "prompt_tokens", "completion_tokens", "model")}
    payload |= {
        "id": "chatcmpl-2",
        "trace_id": "t-1",
        "response_cost": 3.12e-05,
        "status": "success",
        "cache_hit": None,
    }
    payload |= {"startTime": 1767225603.0, "endTime": 1767225603.401, "messages": json.loads(row["messages"])}
    payload |= {"response": json.loads(row["response"]), "metadata": json.loads(row["metadata"])}
    found = call(LiteLLM(), payload)
    assert same_conversation(found, chat_calls()[1])
    assert (found.usage, found.cost_usd, found.episode_id) == (SECOND, 3.12e-05, "t-1")


def test_langfuse_observations() -> None:
    span, *generations = load("langfuse_observations.json")["data"]
    with pytest.raises(Skipped, match="not a generation: SPAN"):
        read(Langfuse(), span)
    first, second, refused = (call(Langfuse(), row) for row in generations)
    assert all(map(same_conversation, (first, second), chat_calls()))
    assert (first.tools, second.tools) == tuple(found.tools for found in chat_calls())
    assert (first.usage, second.usage) == (Usage(input_tokens=120, output_tokens=18), SECOND)
    assert (first.episode_id, first.call_id, first.cost_usd) == ("trace-1", "gen-1", 7.68e-5)
    assert (refused.error, refused.usage, refused.cost_usd) == ("Rate limit reached", None, None)


def test_langfuse_blob_storage() -> None:
    first, second = (call(Langfuse(), row) for row in load("langfuse_blob.jsonl"))
    assert all(map(same_conversation, (first, second), chat_calls()))
    assert (second.usage, second.episode_id, second.started_at) == (SECOND, "chat-9", 1767225603.0)


def test_a_scored_langfuse_trace_is_an_attempt() -> None:
    trace = load("langfuse_trace.json")
    attempt = read(Langfuse(), trace)
    assert isinstance(attempt, Attempt)
    assert (attempt.task_id, attempt.episode_id, attempt.success, attempt.run) == ("order-17", "trace-1", True, "v3")
    assert (attempt.cost_usd, attempt.latency_s, len(attempt.calls)) == (1.08e-4, 9.0, 2)
    assert attempt.calls[0].after == attempt.calls[1].prefixes[2]
    unscored = trace | {"scores": []}
    assert len(list(Langfuse().records(json.dumps(unscored).encode(), Source("t.json", 1), {}))) == 2
    other = trace | {"scores": [{"name": "helpfulness", "value": 1, "dataType": "NUMERIC"}]}
    assert isinstance(found := read(Langfuse(), other), Attempt)
    assert found.success is None


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ({"input": 22, "input_cached_tokens": 128, "output": 6, "total": 156}, (150, 128, 6)),
        ({"input": 150, "input_cached_tokens": 128, "output": 6, "total": 156}, (150, 128, 6)),
        ({"input": 22, "cache_read_input_tokens": 128, "output": 6}, (150, 128, 6)),
        ({"input": 20, "input_audio_tokens": 2, "input_cached_tokens": 128, "output": 6, "total": 156}, (150, 128, 6)),
        ({"input": 150, "output": 2, "output_reasoning_tokens": 4, "total": 156}, (150, 0, 6)),
        ({"input": 150, "input_cached_tokens": 128, "output": 6, "total": 200}, None),
        ({"input": -150, "output": 6, "total": -144}, None),
        ({"input": 10, "input_cached_tokens": 4, "output": 10, "output_reasoning_tokens": 4, "total": 24}, None),
    ],
)
def test_langfuse_counts_are_read_by_their_total(counts: dict[str, int], expected: tuple[int, int, int] | None) -> None:
    found = call(Langfuse(), load("langfuse_observations.json")["data"][1] | {"usageDetails": counts})
    if expected is None:
        assert found.usage is None
        assert [problem.kind for problem in found.problems] == ["bad_usage"]
    else:
        assert found.usage is not None
        usage = found.usage
        assert (usage.input_tokens, usage.cache_read_tokens, usage.output_tokens) == expected
