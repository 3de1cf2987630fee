"""Rows of foreign logs, made up but of the real shape and size: sessions of up to 20 turns, prompts of 5 to 30 kB.

Each generator takes a seed and a number of bytes and yields lines (bytes, without the line feed) until they are made.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

_WORDS = [f"{stem}{number}" for number in range(400) for stem in ("order", "path/file_", "error: ", "value=", "the ")]
_TOOL = {"name": "bash", "description": "Run a command.", "parameters": {"properties": {"command": {"type": "string"}}}}
_MODEL = "gpt-4.1-mini-2025-04-14"
Turn = tuple[list[dict[str, Any]], dict[str, Any], int, int]
"""(messages of the prompt, the answer's message, input tokens, cached tokens) of one call."""


def _text(rng: random.Random, characters: int) -> str:
    return " ".join(rng.choices(_WORDS, k=max(1, characters // 10)))


def turns(rng: random.Random) -> Iterator[Turn]:
    """The calls of one session."""
    messages: list[dict[str, Any]] = [
        {"role": "system", "content": _text(rng, 4000)},
        {"role": "user", "content": _text(rng, 800)},
    ]
    cached = 0
    for turn in range(rng.randint(8, 20)):
        identity = f"call_{rng.getrandbits(64):016x}"
        arguments = json.dumps({"command": _text(rng, 80), "timeout": 30.0, "turn": turn})
        call = {"id": identity, "type": "function", "function": {"name": "bash", "arguments": arguments}}
        answer = {"role": "assistant", "content": None, "refusal": None, "tool_calls": [call]}
        size = sum(len(message["content"] or "") for message in messages) // 4
        yield list(messages), answer, size, cached
        cached = size // 128 * 128
        messages += [answer, {"role": "tool", "tool_call_id": identity, "content": _text(rng, rng.randint(200, 1500))}]


def _usage(size: int, cached: int) -> dict[str, Any]:
    details = {"cached_tokens": cached, "audio_tokens": 0}
    return {"prompt_tokens": size, "completion_tokens": 40, "total_tokens": size + 40, "prompt_tokens_details": details}


def _completion(rng: random.Random, turn: Turn) -> dict[str, Any]:
    _, answer, size, cached = turn
    choice = {"index": 0, "message": answer, "finish_reason": "tool_calls", "logprobs": None}
    head = {"id": f"chatcmpl-{rng.getrandbits(64):016x}", "object": "chat.completion", "created": 1767225600}
    return {**head, "model": _MODEL, "choices": [choice], "usage": _usage(size, cached)}


def openai_chat(rng: random.Random, turn: Turn, number: int) -> dict[str, Any]:
    request = {"model": "gpt-4.1-mini", "messages": turn[0], "tools": [{"type": "function", "function": _TOOL}]}
    return {
        "timestamp": 1767225600.5 + number,
        "request": request,
        "response": _completion(rng, turn),
        "latency_ms": 900,
    }


def anthropic(rng: random.Random, turn: Turn, number: int) -> dict[str, Any]:
    messages, answer, size, cached = turn
    request = {
        "model": "claude-sonnet-4-5",
        "max_tokens": 1024,
        "system": [{"type": "text", "text": messages[0]["content"], "cache_control": {"type": "ephemeral"}}],
        "messages": [_blocks(message) for message in messages[1:]],
        "tools": [{"name": "bash", "input_schema": _TOOL["parameters"]}],
    }
    response = {
        "id": f"msg_{rng.getrandbits(64):016x}",
        "type": "message",
        "model": "claude-sonnet-4-5-20250929",
        **_blocks(answer),
        "usage": {
            "input_tokens": 5,
            "cache_read_input_tokens": cached,
            "cache_creation_input_tokens": max(0, size - cached - 5),
            "output_tokens": 40,
        },
    }
    return {"timestamp": "2026-01-01T00:00:01.500Z", "request": request, "response": response}


def _blocks(message: dict[str, Any]) -> dict[str, Any]:
    if message["role"] == "tool":
        block = {"type": "tool_result", "tool_use_id": message["tool_call_id"], "content": message["content"]}
        return {"role": "user", "content": [block]}
    calls = message.get("tool_calls", ())
    blocks: list[dict[str, Any]] = [
        {"type": "tool_use", "id": call["id"], "name": "bash", "input": json.loads(call["function"]["arguments"])}
        for call in calls
    ]
    text = [{"type": "text", "text": message["content"]}] if message["content"] else []
    return {"role": message["role"], "content": text + blocks}


def otel(rng: random.Random, turn: Turn, number: int) -> dict[str, Any]:
    messages, answer, size, cached = turn
    attributes = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": _MODEL,
        "gen_ai.conversation.id": f"session-{number // 12}",
        "gen_ai.usage.input_tokens": size,
        "gen_ai.usage.output_tokens": 40,
        "gen_ai.usage.cache_read.input_tokens": cached,
        "gen_ai.input.messages": json.dumps([_parts(message) for message in messages]),
        "gen_ai.output.messages": json.dumps([_parts(answer)]),
    }
    span = {
        "traceId": f"{rng.getrandbits(128):032x}",
        "spanId": f"{rng.getrandbits(64):016x}",
        "name": "chat",
        "startTimeUnixNano": str((1767225600 + number) * 10**9),
        "endTimeUnixNano": str((1767225601 + number) * 10**9),
        "attributes": [
            {"key": key, "value": {"intValue": str(value)} if isinstance(value, int) else {"stringValue": value}}
            for key, value in attributes.items()
        ],
        "status": {},
    }
    return {"resourceSpans": [{"resource": {"attributes": []}, "scopeSpans": [{"scope": {}, "spans": [span]}]}]}


def _parts(message: dict[str, Any]) -> dict[str, Any]:
    if message["role"] == "tool":
        part = {"type": "tool_call_response", "id": message["tool_call_id"], "response": message["content"]}
        return {"role": "tool", "parts": [part]}
    calls = [
        {"type": "tool_call", "id": call["id"], "name": "bash", "arguments": json.loads(call["function"]["arguments"])}
        for call in message.get("tool_calls", ())
    ]
    text = [{"type": "text", "content": message["content"]}] if message["content"] else []
    return {"role": message["role"], "parts": [*text, *calls]}


def litellm(rng: random.Random, turn: Turn, number: int) -> dict[str, Any]:
    response = _completion(rng, turn)
    counts = {name: response["usage"][name] for name in ("prompt_tokens", "completion_tokens", "total_tokens")}
    return {
        "request_id": response["id"],
        "call_type": "acompletion",
        "spend": 0.001,
        **counts,
        "startTime": "2026-01-01T00:00:01.500000Z",
        "endTime": "2026-01-01T00:00:02.500000Z",
        "model": _MODEL,
        "cache_hit": "False",
        "session_id": f"session-{number // 12}",
        "messages": turn[0],
        "response": response,
        "metadata": {"status": "success", "usage_object": response["usage"]},
    }


def langfuse(rng: random.Random, turn: Turn, number: int) -> dict[str, Any]:
    messages, answer, size, cached = turn
    return {
        "id": f"gen-{number}",
        "traceId": f"trace-{number // 12}",
        "type": "GENERATION",
        "startTime": "2026-01-01T00:00:01.500Z",
        "endTime": "2026-01-01T00:00:02.500Z",
        "model": _MODEL,
        "input": {"messages": messages},
        "output": answer,
        "usageDetails": {"input": size - cached, "input_cached_tokens": cached, "output": 40, "total": size + 40},
        "costDetails": {"total": 0.001},
    }


def openai_responses(rng: random.Random, turn: Turn, number: int) -> dict[str, Any]:
    messages, answer, size, cached = turn
    items = [item for message in messages[1:] for item in _items(message)]
    usage = {"input_tokens": size, "input_tokens_details": {"cached_tokens": cached}, "output_tokens": 40}
    return {
        "timestamp": 1767225600.5 + number,
        "request": {"model": "gpt-4.1-mini", "instructions": messages[0]["content"], "input": items, "tools": [_TOOL]},
        "response": {
            "id": f"resp_{rng.getrandbits(64):016x}",
            "object": "response",
            "model": _MODEL,
            "output": _items(answer),
            "usage": usage,
        },
    }


def _items(message: dict[str, Any]) -> list[dict[str, Any]]:
    if message["role"] == "tool":
        return [{"type": "function_call_output", "call_id": message["tool_call_id"], "output": message["content"]}]
    calls = [
        {"type": "function_call", "call_id": call["id"], **call["function"]} for call in message.get("tool_calls", ())
    ]
    return calls or [{"role": message["role"], "content": message["content"]}]


def swe_agent(rng: random.Random, turns: Sequence[Turn], number: int) -> dict[str, Any]:
    """mini-swe-agent's document, one a line."""
    messages: list[dict[str, Any]] = list(turns[0][0])
    for prompt, answer, size, cached in turns:
        messages += prompt[len(messages) :]
        response = {"id": f"chatcmpl-{rng.getrandbits(64):016x}", "model": _MODEL, "usage": _usage(size, cached)}
        messages.append({**answer, "extra": {"response": response, "cost": 0.001, "timestamp": 1767225600.5}})
    info = {"exit_status": "Submitted", "submission": "diff", "config": {"model": {"model_name": _MODEL}}}
    return {"instance_id": f"issue-{number}", "info": info, "messages": messages}


def inspect_ai(rng: random.Random, turns: Sequence[Turn], number: int) -> dict[str, Any]:
    """A sample as it lies in an ``.eval`` file: its calls point into the sample's pool of messages."""
    pool = [*turns[-1][0], turns[-1][1]]
    events = [
        {
            "event": "model",
            "uuid": f"{rng.getrandbits(64):016x}",
            "timestamp": "2026-01-01T00:00:01.500000+00:00",
            "model": "openai/gpt-4.1-mini",
            "input_refs": [[0, len(prompt)]],
            "output": {
                "choices": [{"message": answer}],
                "time": 0.9,
                "usage": {
                    "input_tokens": size - cached,
                    "input_tokens_cache_read": cached,
                    "output_tokens": 40,
                    "total_tokens": size + 40,
                },
            },
        }
        for prompt, answer, size, cached in turns
    ]
    return {
        "id": number,
        "epoch": 1,
        "target": "done",
        "scores": {"match": {"value": "C"}},
        "output": {"model": "openai/gpt-4.1-mini", "completion": "done"},
        "messages": pool,
        "events_data": {"messages": pool},
        "events": events,
    }


def tau_bench(rng: random.Random, turns: Sequence[Turn], number: int) -> dict[str, Any]:
    traj = [*turns[-1][0], turns[-1][1]]
    return {"task_id": number % 115, "reward": float(rng.random() < 0.5), "info": {}, "traj": traj, "trial": 0}


MAKERS: dict[str, Callable[[random.Random, Turn, int], dict[str, Any]]] = {
    "openai-chat": openai_chat,
    "anthropic": anthropic,
    "otel": otel,
    "litellm": litellm,
    "langfuse": langfuse,
    "openai-responses": openai_responses,
}
SESSIONS: dict[str, Callable[[random.Random, Sequence[Turn], int], dict[str, Any]]] = {
    "swe-agent": swe_agent,
    "inspect-ai": inspect_ai,
    "tau-bench": tau_bench,
}
"""Formats in which a row is a whole session."""


def lines(name: str, seed: int, total_bytes: int) -> Iterator[bytes]:
    """Lines of the format ``name`` until ``total_bytes`` are made."""
    rng, made, number = random.Random(seed), 0, 0
    while made < total_bytes:
        session = list(turns(rng))
        if name in SESSIONS:
            rows = [SESSIONS[name](rng, session, number)]
        else:
            rows = [MAKERS[name](rng, turn, number + index) for index, turn in enumerate(session)]
        for row in rows:
            line = json.dumps(row, separators=(",", ":")).encode()
            yield line
            made, number = made + len(line) + 1, number + 1
