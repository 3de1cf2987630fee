"""Clients of each dialect against upstreams of each other, through a running gateway; then a real language model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from upstream_double import (
    END,
    STREAM,
    USAGE_EVENT,
    Upstream,
    chat_answer,
    chat_event,
    chat_stream,
    chunk,
    reply,
)

from potstill.serve.settings import Mode, Model, Route
from potstill.serve.settings_file import from_flags

MESSAGES = {"model": "claude-x", "max_tokens": 50, "messages": [{"role": "user", "content": "hi"}]}
RESPONSES = {"model": "gpt-x", "input": "hi"}
TOOL = {
    "name": "weather",
    "description": "now",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}},
}


def chat_upstream(request: Any) -> Any:
    if request.json.get("stream"):
        return [
            STREAM,
            *(chunk(event) for event in (*chat_stream("hel", "lo")[:-1], USAGE_EVENT)),
            chunk(b"data: [DONE]\n\n"),
            END,
        ]
    return reply(chat_answer("hello"))


def events(body: bytes) -> list[dict[str, Any]]:
    lines = [line for line in body.decode().split("\n") if line.startswith("data: {")]
    return [json.loads(line[6:]) for line in lines]


def test_messages_over_chat_completions(start) -> None:
    with Upstream(chat_upstream) as upstream:
        gateway = start(teacher=f"{upstream.url}#big-1")
        whole = gateway.post("/v1/messages", MESSAGES, x_api_key="k", anthropic_version="2023-06-01").json
        assert whole["content"] == [{"type": "text", "text": "hello"}]
        assert (whole["usage"]["input_tokens"], whole["usage"]["output_tokens"]) == (11, 3)
        streamed = gateway.post("/v1/messages", {**MESSAGES, "stream": True})
        told = events(streamed.body)
        assert "".join(one["delta"].get("text", "") for one in told if one["type"] == "content_block_delta") == "hello"
        assert told[-1]["type"] == "message_stop"
        assert upstream.requests[0].path == "/v1/chat/completions"
        assert upstream.requests[0].json["model"] == "big-1"
        assert upstream.requests[1].json["stream_options"] == {"include_usage": True}
        assert "anthropic-version" not in upstream.requests[0].headers
        assert upstream.requests[0].headers["authorization"] == "Bearer k"
        assert "x-api-key" not in upstream.requests[0].headers
    exchanges = gateway.exchanges()
    assert [exchange.dialect for exchange in exchanges] == ["anthropic"] * 2
    for exchange in exchanges:
        (call,) = exchange.calls
        assert call.dialect == "openai-chat"
        assert call.raw_usage == {"prompt_tokens": 11, "completion_tokens": 3, "total_tokens": 14}
        assert call.request is not None
        assert call.response is not None


def test_responses_over_chat_completions(start) -> None:
    with Upstream(chat_upstream) as upstream:
        gateway = start(teacher=f"{upstream.url}#big-1")
        whole = gateway.post("/v1/responses", RESPONSES).json
        assert whole["output"][0]["content"][0]["text"] == "hello"
        told = events(gateway.post("/v1/responses", {**RESPONSES, "stream": True}).body)
        assert told[-1]["type"] == "response.completed"
        assert "".join(one["delta"] for one in told if one["type"] == "response.output_text.delta") == "hello"


def test_a_tool_call_over_another_dialect(start) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Bern"}'}}
    answer = chat_answer("")
    answer["choices"][0] = {
        "index": 0,
        "message": {"role": "assistant", "content": None, "tool_calls": [call]},
        "finish_reason": "tool_calls",
    }
    with Upstream(lambda request: reply(answer)) as upstream:
        gateway = start(teacher=f"{upstream.url}#m")
        whole = gateway.post("/v1/messages", {**MESSAGES, "tools": [TOOL]}).json
        (block,) = whole["content"]
        assert (block["type"], block["name"], block["input"]) == ("tool_use", "weather", {"city": "Bern"})
        assert whole["stop_reason"] == "tool_use"
        assert upstream.requests[0].json["tools"][0]["function"]["name"] == "weather"


def test_what_the_upstream_cannot_be_told_is_a_400_that_says_so(start) -> None:
    gateway = start(teacher="http://127.0.0.1:9/v1#m")
    document = {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "AAAA"}}
    asked = {**MESSAGES, "messages": [{"role": "user", "content": [document]}]}
    answered = gateway.post("/v1/messages", asked)
    assert answered.status == 400
    assert answered.json["type"] == "error"
    assert "document" in answered.json["error"]["message"]


@pytest.mark.parametrize(("path", "body"), [("/v1/messages", MESSAGES), ("/v1/responses", RESPONSES)])
def test_an_upstreams_error_is_told_in_the_clients_dialect(start, path: str, body: dict[str, Any]) -> None:
    with Upstream(lambda request: reply({"error": {"message": "no such model", "type": "x"}}, 404)) as upstream:
        gateway = start(teacher=f"{upstream.url}#m")
        answered = gateway.post(path, body)
        assert answered.status == 404
        assert "no such model" in answered.json["error"]["message"]
        assert ("type" in answered.json) == (path == "/v1/messages")


def test_half_a_stream_is_told_in_the_clients_dialect(start) -> None:
    half = [STREAM, chunk(chat_event({"role": "assistant", "content": "hel"})), 0.05, -1.0]
    with Upstream(lambda request: half) as upstream:
        gateway = start(teacher=f"{upstream.url}#m")
        told = events(gateway.post("/v1/messages", {**MESSAGES, "stream": True}).body)
        assert told[-1]["type"] == "error"
    assert not gateway.exchanges()[0].complete


def test_an_anthropic_upstream_gets_its_own_headers_and_bytes(start, monkeypatch) -> None:
    monkeypatch.setenv("TEST_ANTHROPIC_KEY", "sk-ant-test")
    said = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-x",
        "content": [{"type": "text", "text": "hello"}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": 5, "output_tokens": 2},
    }
    with Upstream(lambda request: reply(said)) as upstream:
        settings = from_flags(f"{upstream.url}#claude-x", dialect="anthropic", key_env="TEST_ANTHROPIC_KEY")
        gateway = start(settings)
        assert gateway.post("/v1/messages", MESSAGES, x_api_key="mine", anthropic_beta="b1").json == said
        chat = gateway.post("/v1/chat/completions", {"model": "x", "messages": [{"role": "user", "content": "hi"}]})
        assert chat.json["choices"][0]["message"]["content"] == "hello"
        gateway.post("/v1/messages/count_tokens", MESSAGES)
        first, second, third = upstream.requests
        assert (first.path, third.path) == ("/v1/messages", "/v1/messages/count_tokens")
        assert (first.headers["x-api-key"], first.headers["anthropic-beta"]) == ("sk-ant-test", "b1")
        assert second.headers["anthropic-version"] == "2023-06-01"


def test_the_student_answers_where_the_route_says_so(start) -> None:
    with Upstream(chat_upstream) as teacher, Upstream(lambda request: reply(chat_answer("mine", "small"))) as student:
        gateway = start(teacher=f"{teacher.url}#big", student=f"{student.url}#small", mode=Mode.STUDENT)
        answered = gateway.post("/v1/chat/completions", {"model": "x", "messages": [{"role": "user", "content": "q"}]})
        assert answered.headers["x-potstill-answerer"] == "student"
        assert answered.json["choices"][0]["message"]["content"] == "mine"
        streamed = gateway.post("/v1/messages", {**MESSAGES, "stream": True})
        assert events(streamed.body)[-1]["type"] == "message_stop"
        assert student.requests
        assert not teacher.requests
    exchange = gateway.exchanges()[0]
    assert exchange.answerer == "student"
    assert exchange.calls[0].answerer == "student"
    assert exchange.decision is not None


def test_a_student_that_is_away_is_made_up_for(start) -> None:
    with Upstream(chat_upstream) as teacher:
        gateway = start(teacher=f"{teacher.url}#big", student="http://127.0.0.1:9/v1#small", mode=Mode.STUDENT)
        answered = gateway.post("/v1/chat/completions", {"model": "x", "messages": [{"role": "user", "content": "q"}]})
        assert answered.status == 200
        assert answered.headers["x-potstill-answerer"] == "teacher"
    (exchange,) = gateway.exchanges()
    assert any("student" in note for note in exchange.notes)
    assert [call.status for call in exchange.calls] == [0, 200]


@pytest.mark.llm
def test_a_real_model_behind_every_dialect(start, smollm2: Path) -> None:
    from potstill.models.llama_server import LlamaServer

    server = LlamaServer(smollm2, threads=2, context_tokens=1024, slots=2)
    try:
        settings = from_flags(f"{server.url}/v1#smollm2")
        upstream = msgspec.structs.replace(settings.upstreams[0], headers=server.headers)
        gateway = start(msgspec.structs.replace(settings, upstreams=(upstream,)))
        chat = {"model": "m", "max_tokens": 8, "messages": [{"role": "user", "content": "Name a colour."}]}
        whole = gateway.post("/v1/chat/completions", chat).json
        assert whole["usage"]["completion_tokens"] <= 8
        streamed = gateway.post("/v1/chat/completions", {**chat, "stream": True})
        assert streamed.body.endswith(b"data: [DONE]\n\n")
        assert b'"completion_tokens"' not in streamed.body
        messages = gateway.post("/v1/messages", {**chat, "stream": True})
        assert events(messages.body)[-1]["type"] == "message_stop"
        responses = gateway.post("/v1/responses", {"model": "m", "max_output_tokens": 8, "input": "Name a colour."})
        assert responses.json["output"]
    finally:
        server.close()
    exchanges = gateway.exchanges()
    assert len(exchanges) == 4
    assert all(exchange.calls[0].raw_usage for exchange in exchanges)


def test_routes_are_found_by_name(start) -> None:
    with Upstream(chat_upstream) as upstream:
        settings = from_flags(f"{upstream.url}#big-1")
        more = Route(name="potstill/other", teacher="other")
        other = Model(name="other", upstream="teacher", model="other-1")
        settings = msgspec.structs.replace(settings, models=(*settings.models, other), routes=(*settings.routes, more))
        gateway = start(settings)
        for name in ("potstill/other", "unheard-of"):
            gateway.post("/v1/chat/completions", {"model": name, "messages": []})
        assert [request.json["model"] for request in upstream.requests] == ["other-1", "big-1"]
