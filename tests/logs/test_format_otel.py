"""Spans made with the OpenTelemetry SDK 1.45: one call said in five conventions is the same call."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from potstill.logs.conversation import told
from potstill.logs.formats.base import Skipped
from potstill.logs.formats.otel import OpenTelemetry
from potstill.logs.records import LogCall, Source
from potstill.types import Usage

SAMPLES = Path(__file__).parent / "samples"
FORMAT = OpenTelemetry()
CALL = {"id": "call_a1", "function": {"name": "get_order", "arguments": '{"order_id":"17"}'}}
EXPECTED = told(
    [{"role": "system", "content": "You are a shop's agent."}, {"role": "user", "content": "Where is order 17?"}],
    {"role": "assistant", "content": None, "tool_calls": [CALL]},
)


def read(row: dict[str, Any]) -> list[LogCall]:
    assert FORMAT.fits(row)
    return list(FORMAT.records(json.dumps(row).encode(), Source("spans.json", 1), {}))


def document() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((SAMPLES / "otel.json").read_text())
    return found


def lines(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (SAMPLES / name).read_text().splitlines()]


def test_calls_of_an_agent_are_read_and_its_own_span_and_tools_are_not() -> None:
    first, second, refused = read(document())
    assert (first.model, first.provider, first.run) == ("gpt-4.1-mini-2025-04-14", "openai", "shop-agent")
    assert (first.call_id, first.episode_id) == ("chatcmpl-1", "conv-7")
    assert (first.started_at, first.latency_s) == (1767225600.001, pytest.approx(0.8))
    assert (first.roles, first.prefixes, first.after) == (EXPECTED.roles, EXPECTED.prefixes, EXPECTED.after)
    assert first.tools[1] > 0
    assert second.usage == Usage(input_tokens=150, cache_read_tokens=128, output_tokens=6, cache_reported=True)
    assert second.prefixes[2] == first.after
    assert (second.roles, second.prompt_preview, second.answer_preview) == (
        "suat",
        '{"status":"shipped"}',
        "It was shipped.",
    )
    assert (refused.error, refused.usage) == ("Rate limit reached", None)
    assert refused.episode_id == document()["resourceSpans"][0]["scopeSpans"][0]["spans"][0]["traceId"]


def test_older_names_and_openinference_say_the_same_call() -> None:
    openllmetry, openinference, chain, events = lines("otel_older.jsonl")
    with pytest.raises(Skipped, match="no span is a call of a model"):
        read(chain)
    for row in (openllmetry, openinference, events):
        (call,) = read(row)
        assert (call.roles, call.prefixes, call.after) == (EXPECTED.roles, EXPECTED.prefixes, EXPECTED.after)
        assert call.usage is not None
        assert (call.usage.input_tokens, call.usage.output_tokens) == (99, 7)
        assert call.tool_calls == EXPECTED.tool_calls
    (call,) = read(openinference)
    assert call.usage == Usage(input_tokens=99, cache_read_tokens=64, output_tokens=7, cache_reported=True)
    assert (call.model, call.episode_id) == ("gpt-4o-2024-08-06", "sess-1")
    (call,) = read(openllmetry)
    assert call.episode_id is None, "the root of a trace: the episode is not known"


def test_the_parts_of_an_export_are_rows_too() -> None:
    whole = document()
    resource = whole["resourceSpans"][0]
    assert read(resource) == read(whole)
    spans = [span for span in resource["scopeSpans"][0]["spans"] if span["name"].startswith("chat")]
    alone = [call for span in spans for call in read(span)]
    assert [call.prefixes for call in alone] == [call.prefixes for call in read(whole)]


def test_spans_as_the_sdk_writes_them_to_the_console() -> None:
    first, tool = lines("otel_spans.jsonl")
    (call,) = read(first)
    expected = read(document())[0]
    for field in ("model", "usage", "prefixes", "after", "started_at", "call_id", "episode_id", "run"):
        assert getattr(call, field) == getattr(expected, field), field
    with pytest.raises(Skipped):
        read(tool)


def test_a_call_that_two_instrumentations_saw_counts_once() -> None:
    whole = document()
    spans = whole["resourceSpans"][0]["scopeSpans"][0]["spans"]
    inner = copy.deepcopy(spans[0])
    inner["parentSpanId"], inner["spanId"] = spans[0]["spanId"], "00000000000000ff"
    spans.append(inner)
    assert len(read(whole)) == 3


def test_counts_that_contradict_each_other_are_unknown() -> None:
    whole = document()
    for pair in whole["resourceSpans"][0]["scopeSpans"][0]["spans"][0]["attributes"]:
        if pair["key"] == "gen_ai.usage.cache_read.input_tokens":
            pair["value"] = {"intValue": "121"}
    call = read(whole)[0]
    assert call.usage is None
    assert [problem.kind for problem in call.problems] == ["bad_usage"]


def test_a_span_without_a_model_is_told() -> None:
    span = {
        "traceId": "1",
        "spanId": "2",
        "attributes": [{"key": "gen_ai.operation.name", "value": {"stringValue": "chat"}}],
    }
    (call,) = read(span)
    assert (call.model, call.usage, call.started_at) == ("unknown", None, None)
    assert [problem.kind for problem in call.problems] == ["bad_value"]


def test_spans_of_our_own_gateway_tell_the_cost_the_answerer_and_the_tenant() -> None:
    def told(tenant: str) -> LogCall:
        said = {
            "gen_ai.operation.name": {"stringValue": "chat"},
            "gen_ai.response.model": {"stringValue": "big-1"},
            "gen_ai.conversation.id": {"stringValue": "ep-1"},
            "gen_ai.usage.input_tokens": {"intValue": "9"},
            "gen_ai.usage.cache_write.input_tokens": {"intValue": "4"},
            "gen_ai.usage.output_tokens": {"intValue": "2"},
            "potstill.cost_usd": {"doubleValue": 0.25},
            "potstill.answerer": {"stringValue": "student"},
            "potstill.tenant": {"stringValue": tenant},
            "potstill.task.id": {"stringValue": "t-1"},
        }
        attributes = [{"key": key, "value": value} for key, value in said.items()]
        (call,) = read({"traceId": "1", "spanId": "2", "attributes": attributes})
        return call

    call = told("default")
    assert (call.cost_usd, call.answerer, call.task_id, call.run) == (0.25, "student", "t-1", "")
    assert call.usage is not None
    assert (call.usage.cache_write_tokens, call.usage.output_tokens) == (4, 2)
    assert told("acme").run == "/acme", "two tenants may give an episode the same name"
