"""Requests that do something at the provider are never sampled: the student's port sees none of them."""

from __future__ import annotations

from typing import Any

import pytest
from upstream_double import Request, Upstream, chat_answer, reply

from potstill.serve import settings_file

FUNCTION = {"type": "function", "name": "look", "parameters": {"type": "object", "properties": {}}}
RESPONSES: dict[str, Any] = {
    "model": "auto",
    "input": [
        {"role": "user", "content": "one"},
        {"role": "assistant", "content": "two"},
        {"role": "user", "content": "three"},
    ],
}
MESSAGES: dict[str, Any] = {"model": "auto", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}
CHAT: dict[str, Any] = {"model": "auto", "messages": [{"role": "user", "content": "hi"}]}
BUILT_IN = (
    {"type": "web_search"},
    {"type": "web_search_preview"},
    {"type": "file_search", "vector_store_ids": ["v"]},
    {"type": "code_interpreter", "container": {"type": "auto"}},
    {"type": "image_generation"},
    {"type": "mcp", "server_label": "s", "server_url": "https://example.com/mcp", "require_approval": "never"},
    {"type": "computer_use_preview", "display_width": 1, "display_height": 1, "environment": "linux"},
    {"type": "local_shell"},
)
ANTHROPICS = (
    {"type": "web_search_20250305", "name": "web_search"},
    {"type": "web_fetch_20250910", "name": "web_fetch"},
    {"type": "code_execution_20250825", "name": "code_execution"},
    {"type": "memory_20250818", "name": "memory"},
)
CASES: list[tuple[str, dict[str, Any]]] = [
    *(("/v1/responses", {**RESPONSES, "store": False, "tools": [FUNCTION, tool]}) for tool in BUILT_IN),
    *(("/v1/messages", {**MESSAGES, "tools": [tool]}) for tool in ANTHROPICS),
    ("/v1/messages", {**MESSAGES, "mcp_servers": [{"type": "url", "url": "https://example.com", "name": "m"}]}),
    ("/v1/messages", {**MESSAGES, "container": "c-1"}),
    ("/v1/responses", {**RESPONSES, "store": True}),
    ("/v1/responses", {**RESPONSES, "input": "hi"}),
    ("/v1/responses", {**RESPONSES, "background": True}),
    ("/v1/responses", {**RESPONSES, "previous_response_id": "resp_1"}),
    ("/v1/responses", {**RESPONSES, "conversation": "conv_1"}),
    ("/v1/responses", {**RESPONSES, "prompt": {"id": "pmpt_1"}}),
    ("/v1/chat/completions", {**CHAT, "store": True}),
    ("/v1/chat/completions", {**CHAT, "web_search_options": {}}),
    ("/v1/chat/completions", {**CHAT, "n": 2}),
    ("/v1/chat/completions", {**CHAT, "modalities": ["text", "audio"], "audio": {"voice": "a", "format": "wav"}}),
]
SAMPLED: list[tuple[str, dict[str, Any]]] = [
    ("/v1/responses", {**RESPONSES, "store": False, "tools": [FUNCTION]}),
    ("/v1/responses", RESPONSES),
    ("/v1/messages", {**MESSAGES, "tools": [{"name": "look", "input_schema": {"type": "object"}}]}),
    ("/v1/chat/completions", {**CHAT, "store": False}),
]


def student(request: Request) -> Any:
    answer = chat_answer("the student's")
    answer["choices"] = [{**answer["choices"][0], "index": index} for index in range(request.json.get("n", 1))]
    return reply(answer)


def gateway(start: Any, far: Upstream, near: Upstream, mode: str) -> Any:
    tables = {
        "upstreams": {"far": {"base_url": far.url}, "near": {"base_url": near.url, "n_shares_prompt": True}},
        "models": {"big": {"upstream": "far", "model": "b-1"}, "small": {"upstream": "near", "model": "s-1"}},
        "routes": {
            "auto": {"teacher": "big", "student": "small", "mode": mode, "rollout": False, "shadow_share": 1.0},
        },
    }
    return start(settings_file.parse(tables, "here"))


def name_of(case: tuple[str, dict[str, Any]]) -> str:
    path, body = case
    told = [key for key in body if key not in ("model", "messages", "input", "max_tokens", "tools")]
    tools = [tool.get("type", "") for tool in body.get("tools", ())]
    return f"{path.rpartition('/')[2]} {' '.join(told)} {' '.join(tools)}"


@pytest.mark.parametrize("mode", ["cascade", "student", "shadow"])
def test_only_the_teacher_is_asked(start: Any, mode: str) -> None:
    """Each case is asked; what the teacher here cannot be told in its dialect is refused, and never sampled."""
    with Upstream(lambda request: reply(chat_answer("the teacher's"))) as far, Upstream(student) as near:
        running = gateway(start, far, near, mode)
        for case in CASES:
            path, body = case
            answered = running.post(path, body, x_potstill_episode=name_of(case).replace(" ", "-"))
            assert answered.headers["x-potstill-answerer"] == "teacher", name_of(case)
            assert answered.status in (200, 400), name_of(case)
        running.server.stop()
        assert near.requests == []


def test_requests_without_effects_are_sampled(start: Any) -> None:
    with Upstream(lambda request: reply(chat_answer("the teacher's"))) as far, Upstream(student) as near:
        running = gateway(start, far, near, "cascade")
        for case in SAMPLED:
            path, body = case
            answered = running.post(path, body, x_potstill_episode=name_of(case).replace(" ", "-"))
            assert (answered.status, answered.headers["x-potstill-answerer"]) == (200, "student"), name_of(case)
        assert len(near.requests) == len(SAMPLED)
