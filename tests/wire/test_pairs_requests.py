"""Every ordered pair of dialects, the other way: what a client asked in one is what the upstream is asked in the other.

The history is one that agents have: images, reasoning, two calls at once, their results, a failed result.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from pair_samples import ANTHROPIC, CHAT, NAMES, RESPONSES
from test_pairs import pairs

from potstill.errors import BadRequest, Untranslatable
from potstill.wire.dialect import dialect

PIXEL = "iVBORw0KGgo="
URL = "https://example.org/cat.png"
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
ARGUMENTS = {"city": "Zürich"}

CHAT_REQUEST: dict[str, Any] = {
    "model": "m",
    "messages": [
        {"role": "system", "content": "Be brief."},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "What is this?"},
                {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}},
                {"type": "image_url", "image_url": {"url": URL}},
            ],
        },
        {
            "role": "assistant",
            "content": "Let me look.",
            "reasoning_content": "I need both.",
            "tool_calls": [
                {"id": "call_b", "type": "function", "function": {"name": "look", "arguments": json.dumps(ARGUMENTS)}},
                {"id": "call_a", "type": "function", "function": {"name": "now", "arguments": "{}"}},
            ],
        },
        {"role": "tool", "tool_call_id": "call_b", "content": "A cat."},
        {"role": "tool", "tool_call_id": "call_a", "content": "Error: no clock"},
        {"role": "assistant", "content": "A cat, I think."},
        {"role": "user", "content": "Sure?"},
    ],
    "tools": [
        {"type": "function", "function": {"name": "look", "description": "Looks.", "parameters": SCHEMA}},
        {"type": "function", "function": {"name": "now", "parameters": {"type": "object", "properties": {}}}},
    ],
    "tool_choice": "required",
    "parallel_tool_calls": False,
    "max_completion_tokens": 300,
    "temperature": 0.5,
    "top_p": 0.9,
    "stream": True,
}
RESPONSES_REQUEST: dict[str, Any] = {
    "model": "m",
    "instructions": "Be brief.",
    "input": [
        {
            "role": "user",
            "content": [
                {"type": "input_text", "text": "What is this?"},
                {"type": "input_image", "image_url": f"data:image/png;base64,{PIXEL}", "detail": "auto"},
                {"type": "input_image", "image_url": URL, "detail": "auto"},
            ],
        },
        {
            "type": "reasoning",
            "id": "rs_1",
            "summary": [{"type": "summary_text", "text": "I need both."}],
            "encrypted_content": "gAAAA",
        },
        {
            "type": "message",
            "id": "msg_1",
            "role": "assistant",
            "status": "completed",
            "content": [{"type": "output_text", "text": "Let me look.", "annotations": []}],
        },
        {"type": "function_call", "call_id": "call_b", "name": "look", "arguments": json.dumps(ARGUMENTS)},
        {"type": "function_call", "call_id": "call_a", "name": "now", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "call_b", "output": "A cat."},
        {"type": "function_call_output", "call_id": "call_a", "output": "Error: no clock"},
        {"role": "assistant", "content": "A cat, I think."},
        {"role": "user", "content": "Sure?"},
    ],
    "tools": [
        {"type": "function", "name": "look", "description": "Looks.", "parameters": SCHEMA, "strict": False},
        {"type": "function", "name": "now", "parameters": {"type": "object", "properties": {}}, "strict": False},
    ],
    "tool_choice": "required",
    "parallel_tool_calls": False,
    "max_output_tokens": 300,
    "temperature": 0.5,
    "top_p": 0.9,
    "stream": True,
}
ANTHROPIC_REQUEST: dict[str, Any] = {
    "model": "m",
    "system": "Be brief.",
    "messages": [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "What is this?"},
                {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PIXEL}},
                {"type": "image", "source": {"type": "url", "url": URL}},
            ],
        },
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "I need both.", "signature": "EqQBsig"},
                {"type": "text", "text": "Let me look."},
                {"type": "tool_use", "id": "call_b", "name": "look", "input": ARGUMENTS},
                {"type": "tool_use", "id": "call_a", "name": "now", "input": {}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "call_b", "content": "A cat."},
                {"type": "tool_result", "tool_use_id": "call_a", "content": "Error: no clock", "is_error": True},
            ],
        },
        {"role": "assistant", "content": "A cat, I think."},
        {"role": "user", "content": "Sure?"},
    ],
    "tools": [
        {"name": "look", "description": "Looks.", "input_schema": SCHEMA},
        {"name": "now", "input_schema": {"type": "object", "properties": {}}},
    ],
    "tool_choice": {"type": "any", "disable_parallel_tool_use": True},
    "max_tokens": 300,
    "temperature": 0.5,
    "top_p": 0.9,
    "stream": True,
}
REQUESTS = {CHAT: CHAT_REQUEST, RESPONSES: RESPONSES_REQUEST, ANTHROPIC: ANTHROPIC_REQUEST}

HISTORY: list[tuple[Any, ...]] = [
    ("system", "Be brief."),
    ("user", "What is this?"),
    ("image", PIXEL),
    ("image", URL),
    ("thinking", "I need both."),
    ("assistant", "Let me look."),
    ("call", "call_b", "look", ARGUMENTS),
    ("call", "call_a", "now", {}),
    ("output", "call_b", "A cat."),
    ("output", "call_a", "Error: no clock"),
    ("assistant", "A cat, I think."),
    ("user", "Sure?"),
]
TEXT_KEEPS_THINKING = {(CHAT, CHAT), (CHAT, RESPONSES), (RESPONSES, RESPONSES), (ANTHROPIC, ANTHROPIC)} | {
    (ANTHROPIC, RESPONSES)
}
"""(client, upstream). Anthropic refuses thoughts that it did not sign, and signed ones are not said as plain text in
chat completions."""


def translate(client: str, upstream: str, request: dict[str, Any]) -> dict[str, Any]:
    prompt = dialect(client).decode_request(json.dumps(request).encode())
    found: dict[str, Any] = json.loads(dialect(upstream).encode_request(prompt))
    return found


# --- outlines by hand -------------------------------------------------------------------------------------------------


def image_of(url: str) -> tuple[str, str]:
    return ("image", url.removeprefix("data:image/png;base64,"))


def outline_chat(body: dict[str, Any]) -> list[tuple[Any, ...]]:
    found: list[tuple[Any, ...]] = []
    for message in body["messages"]:
        role = message["role"]
        if message.get("reasoning_content"):
            found.append(("thinking", message["reasoning_content"]))
        content = message["content"]
        parts = [{"type": "text", "text": content}] if isinstance(content, str) else content or []
        if role == "tool":
            found.append(("output", message["tool_call_id"], "".join(part["text"] for part in parts)))
            continue
        for part in parts:
            found.append((role, part["text"]) if part["type"] == "text" else image_of(part["image_url"]["url"]))
        for call in message.get("tool_calls", ()):
            found.append(("call", call["id"], call["function"]["name"], json.loads(call["function"]["arguments"])))
    return found


def outline_responses(body: dict[str, Any]) -> list[tuple[Any, ...]]:
    found: list[tuple[Any, ...]] = [("system", body["instructions"])] if body.get("instructions") else []
    for item in body["input"]:
        match item.get("type", "message"):
            case "message":
                content = item["content"]
                for part in [{"type": "input_text", "text": content}] if isinstance(content, str) else content:
                    text = part["type"] in ("input_text", "output_text")
                    found.append((item["role"], part["text"]) if text else image_of(part["image_url"]))
            case "reasoning":
                found.append(("thinking", "".join(part["text"] for part in item["summary"])))
            case "function_call":
                found.append(("call", item["call_id"], item["name"], json.loads(item["arguments"])))
            case "function_call_output":
                output = item["output"]
                text = output if isinstance(output, str) else "".join(part["text"] for part in output)
                found.append(("output", item["call_id"], text))
    return found


def outline_anthropic(body: dict[str, Any]) -> list[tuple[Any, ...]]:
    found: list[tuple[Any, ...]] = [("system", body["system"])] if body.get("system") else []
    for message in body["messages"]:
        content = message["content"]
        for block in [{"type": "text", "text": content}] if isinstance(content, str) else content:
            match block["type"]:
                case "text":
                    found.append((message["role"], block["text"]))
                case "image":
                    found.append(("image", block["source"].get("data") or block["source"]["url"]))
                case "thinking":
                    found.append(("thinking", block["thinking"]))
                case "tool_use":
                    found.append(("call", block["id"], block["name"], block["input"]))
                case "tool_result":
                    found.append(("output", block["tool_use_id"], block["content"]))
    return found


OUTLINE: dict[str, Callable[[dict[str, Any]], list[tuple[Any, ...]]]] = {
    CHAT: outline_chat,
    RESPONSES: outline_responses,
    ANTHROPIC: outline_anthropic,
}


def settings(upstream: str, body: dict[str, Any]) -> dict[str, Any]:
    tools = body["tools"]
    if upstream == CHAT:
        tools = [tool["function"] for tool in tools]
    schema = "input_schema" if upstream == ANTHROPIC else "parameters"
    choice = body["tool_choice"]
    return {
        "model": body["model"],
        "tools": [(tool["name"], tool.get("description"), tool[schema]) for tool in tools],
        "choice": {"any": "required"}.get(choice["type"]) if isinstance(choice, dict) else choice,
        "parallel": not choice["disable_parallel_tool_use"] if upstream == ANTHROPIC else body["parallel_tool_calls"],
        "limit": body.get("max_completion_tokens") or body.get("max_output_tokens") or body.get("max_tokens"),
        "sampling": (body["temperature"], body["top_p"]),
        "stream": body["stream"],
    }


# --- what holds -------------------------------------------------------------------------------------------------------


@pairs
def test_the_history_is_kept_in_order_with_images_calls_and_results(upstream: str, client: str) -> None:
    body = translate(client, upstream, REQUESTS[client])
    thinks = (client, upstream) in TEXT_KEEPS_THINKING
    assert OUTLINE[upstream](body) == [entry for entry in HISTORY if thinks or entry[0] != "thinking"]


@pairs
def test_tools_and_settings_are_kept(upstream: str, client: str) -> None:
    assert settings(upstream, translate(client, upstream, REQUESTS[client])) == settings(client, REQUESTS[client])


@pytest.mark.parametrize("client", [CHAT, ANTHROPIC])
def test_responses_are_told_that_tools_are_not_strict_and_nothing_is_stored(client: str) -> None:
    body = translate(client, RESPONSES, REQUESTS[client])
    assert [tool["strict"] for tool in body["tools"]] == [False, False]
    assert body["store"] is False


@pytest.mark.parametrize("client", [CHAT, ANTHROPIC])
def test_reasoning_of_other_providers_goes_to_responses_without_id_and_proof(client: str) -> None:
    (item,) = [item for item in translate(client, RESPONSES, REQUESTS[client])["input"] if item["type"] == "reasoning"]
    assert item == {"type": "reasoning", "summary": [{"type": "summary_text", "text": "I need both."}]}


def test_openais_own_reasoning_goes_back_with_id_and_proof() -> None:
    items = translate(RESPONSES, RESPONSES, RESPONSES_REQUEST)["input"]
    assert items[1] == RESPONSES_REQUEST["input"][1]


@pytest.mark.parametrize("client", [RESPONSES, ANTHROPIC])
@pytest.mark.parametrize("upstream", NAMES)
def test_an_image_that_a_tool_gave_reaches_every_upstream(client: str, upstream: str) -> None:
    request = json.loads(json.dumps(REQUESTS[client]))
    if client == RESPONSES:
        image = {"type": "input_image", "image_url": f"data:image/png;base64,{PIXEL}X"}
        request["input"][5]["output"] = [{"type": "input_text", "text": "A cat."}, image]
    else:
        source = {"type": "base64", "media_type": "image/png", "data": f"{PIXEL}X"}
        request["messages"][2]["content"][0]["content"] = [
            {"type": "text", "text": "A cat."},
            {"type": "image", "source": source},
        ]
    assert f"{PIXEL}X" in json.dumps(translate(client, upstream, request))


SCHEMA_ASKED = {"name": "answer", "schema": SCHEMA, "strict": True}


def test_structured_output_is_asked_for_in_every_dialect() -> None:
    asked: dict[str, dict[str, Any]] = {
        CHAT: {"response_format": {"type": "json_schema", "json_schema": SCHEMA_ASKED}},
        RESPONSES: {"text": {"format": {"type": "json_schema"} | SCHEMA_ASKED}},
        ANTHROPIC: {"output_config": {"format": {"type": "json_schema", "schema": SCHEMA}}},
    }
    for client, fields in asked.items():
        for upstream in NAMES:
            body = translate(client, upstream, REQUESTS[client] | fields)
            found = {
                CHAT: lambda body: body["response_format"]["json_schema"],
                RESPONSES: lambda body: body["text"]["format"],
                ANTHROPIC: lambda body: body["output_config"]["format"],
            }[upstream](body)
            assert found["schema"] == SCHEMA
            assert found["strict"] if ANTHROPIC not in (client, upstream) else True


@pytest.mark.parametrize("upstream", [CHAT, ANTHROPIC])
@pytest.mark.parametrize(
    "field", [{"previous_response_id": "resp_1"}, {"conversation": "conv_1"}, {"prompt": {"id": "pmpt_1"}}]
)
def test_a_history_that_lies_at_the_provider_is_never_left_out(upstream: str, field: dict[str, Any]) -> None:
    with pytest.raises(Untranslatable, match=next(iter(field))):
        translate(RESPONSES, upstream, {"model": "m", "input": "go on"} | field)


@pytest.mark.parametrize("upstream", [CHAT, ANTHROPIC])
def test_fields_that_change_no_answer_are_left_out(upstream: str) -> None:
    fields = {"store": True, "service_tier": "auto", "truncation": "auto", "include": ["reasoning.encrypted_content"]}
    more = {"prompt_cache_key": "k", "safety_identifier": "u", "max_tool_calls": 3, "background": False}
    translate(RESPONSES, upstream, {"model": "m", "input": "hi"} | fields | more)


@pytest.mark.parametrize("upstream", [CHAT, ANTHROPIC])
@pytest.mark.parametrize(
    "item",
    [
        {"type": "item_reference", "id": "msg_1"},
        {"type": "web_search_call", "id": "ws_1", "status": "completed"},
        {"type": "custom_tool_call", "call_id": "c", "name": "sh", "input": "ls"},
        {"type": "computer_call_output", "call_id": "c", "output": {}},
        {"role": "user", "content": [{"type": "input_file", "file_id": "file_1"}]},
        {"role": "user", "content": [{"type": "input_image", "file_id": "file_1"}]},
        {"type": "function_call_output", "call_id": "c", "output": [{"type": "input_file", "file_id": "f"}]},
    ],
)
def test_items_that_only_responses_have_are_refused_and_stay_within_the_dialect(
    upstream: str, item: dict[str, Any]
) -> None:
    request = {"model": "m", "input": [{"role": "user", "content": "hi"}, item]}
    with pytest.raises(Untranslatable, match="openai-responses"):
        translate(RESPONSES, upstream, request)
    kept = translate(RESPONSES, RESPONSES, request)["input"][-1]
    assert {key: kept[key] for key in item} == item


@pytest.mark.parametrize(
    ("client", "fields"),
    [
        (CHAT, {"stop": ["\n"]}),
        (CHAT, {"n": 2}),
        (CHAT, {"logit_bias": {"1": 5}}),
        (CHAT, {"presence_penalty": 0.5}),
        (CHAT, {"tools": [{"type": "custom", "custom": {"name": "sh"}}]}),
        (ANTHROPIC, {"stop_sequences": ["\n"]}),
        (ANTHROPIC, {"top_k": 5}),
        (ANTHROPIC, {"tools": [{"type": "bash_20250124", "name": "bash"}]}),
        (ANTHROPIC, {"mcp_servers": [{"type": "url", "url": "https://example.org"}]}),
    ],
)
def test_what_responses_cannot_say_is_refused(client: str, fields: dict[str, Any]) -> None:
    with pytest.raises(Untranslatable):
        translate(client, RESPONSES, REQUESTS[client] | fields)


def test_fields_that_say_nothing_are_no_reason_to_refuse() -> None:
    fields = {"logit_bias": {}, "presence_penalty": 0, "frequency_penalty": 0.0, "stop": None, "seed": 1, "n": 1}
    body = translate(CHAT, RESPONSES, CHAT_REQUEST | fields | {"verbosity": "low", "prompt_cache_key": "k"})
    assert body["text"] == {"verbosity": "low"}
    assert body["prompt_cache_key"] == "k"


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "body", [b"", b"[]", b"null", b"{", b'{"model": 3}', b"\xff", b'{"model":"m"}', b"[" * 100_000]
)
def test_what_is_no_request_is_refused(name: str, body: bytes) -> None:
    with pytest.raises(BadRequest):
        dialect(name).decode_request(body)
