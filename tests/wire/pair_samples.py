"""What upstreams of each dialect send for the same answer, as their endpoints send it, and what an answer says.

Used by ``test_pairs`` and ``test_responses_stream``.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any

CHAT, RESPONSES, ANTHROPIC = "openai-chat", "openai-responses", "anthropic"
NAMES = (CHAT, RESPONSES, ANTHROPIC)
MODEL = "upstream-model"


@dataclass(frozen=True)
class Says:
    """An answer, in the words of no dialect. ``usage``: input, of which cached, output, of which reasoning."""

    text: str = ""
    thinking: str = ""
    refusal: str = ""
    calls: tuple[tuple[str, str, Any], ...] = ()
    finish: str = "stop"
    usage: tuple[int, int, int, int] = (11, 0, 7, 0)
    error: str = ""

    @property
    def told(self) -> str:
        """All that a person reads: a dialect without refusals writes them as text."""
        return self.text + self.refusal


ONE_CALL = (("call_7f", "get_weather", {"city": "Zürich", "unit": "°C"}),)
TWO_CALLS = (*ONE_CALL, ("call_80", "now", {}))
CASES: dict[str, Says] = {
    "text": Says(text="Grüezi! 👋\n\nHow can I help?"),
    "one tool call": Says(text="Let me look.", calls=ONE_CALL, finish="tool_calls"),
    "parallel tool calls": Says(calls=TWO_CALLS, finish="tool_calls"),
    "reasoning then text": Says(thinking="2 and 2\nmake 4.", text="4", usage=(20, 0, 30, 12)),
    "reasoning then tool": Says(thinking="I need the weather.", calls=ONE_CALL, finish="tool_calls"),
    "refusal": Says(refusal="I can't help with that."),
    "length": Says(text="Once upon a", finish="length"),
    "cached tokens": Says(text="ok", usage=(1200, 1024, 1, 0)),
    "empty": Says(usage=(11, 0, 0, 0)),
}


def pieces(text: str, size: int = 4) -> list[str]:
    return [text[start : start + size] for start in range(0, len(text), size)]


def frame(data: Any, event: str = "") -> bytes:
    text = data if isinstance(data, str) else json.dumps(data)
    return (f"event: {event}\n" if event else "").encode() + f"data: {text}\n\n".encode()


# --- chat completions -------------------------------------------------------------------------------------------------


def chat_usage(says: Says) -> dict[str, Any]:
    prompt, cached, output, reasoning = says.usage
    return {
        "prompt_tokens": prompt,
        "completion_tokens": output,
        "total_tokens": prompt + output,
        "prompt_tokens_details": {"cached_tokens": cached, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": reasoning, "accepted_prediction_tokens": 0},
    }


def _chat_call(number: int, call: tuple[str, str, Any]) -> dict[str, Any]:
    function = {"name": call[1], "arguments": json.dumps(call[2])}
    return {"id": call[0], "type": "function", "function": function}


def chat_body(says: Says) -> bytes:
    message: dict[str, Any] = {"role": "assistant", "content": says.text or None, "refusal": says.refusal or None}
    if says.thinking:
        message["reasoning_content"] = says.thinking
    if says.calls:
        message["tool_calls"] = [_chat_call(number, call) for number, call in enumerate(says.calls)]
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": says.finish}
    body = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1790000000, "model": MODEL}
    return json.dumps(body | {"choices": [choice], "usage": chat_usage(says)}).encode()


def chat_stream(says: Says) -> list[bytes]:
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1790000000, "model": MODEL}

    def chunk(delta: dict[str, Any], finish: str | None = None) -> bytes:
        return frame(head | {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}], "usage": None})

    frames = [chunk({"role": "assistant", "content": "", "refusal": None})]
    frames += [chunk({"reasoning_content": piece}) for piece in pieces(says.thinking)]
    frames += [chunk({"content": piece}) for piece in pieces(says.text)]
    frames += [chunk({"refusal": piece}) for piece in pieces(says.refusal)]
    for number, call in enumerate(says.calls):
        function = {"name": call[1], "arguments": ""}
        frames.append(
            chunk({"tool_calls": [{"index": number, "id": call[0], "type": "function", "function": function}]})
        )
        for piece in pieces(json.dumps(call[2])):
            frames.append(chunk({"tool_calls": [{"index": number, "function": {"arguments": piece}}]}))
    frames.append(chunk({}, says.finish))
    frames.append(frame(head | {"choices": [], "usage": chat_usage(says)}))
    return [*frames, frame("[DONE]")]


# --- responses --------------------------------------------------------------------------------------------------------


def responses_usage(says: Says) -> dict[str, Any]:
    prompt, cached, output, reasoning = says.usage
    return {
        "input_tokens": prompt,
        "input_tokens_details": {"cached_tokens": cached, "cache_write_tokens": 0},
        "output_tokens": output,
        "output_tokens_details": {"reasoning_tokens": reasoning},
        "total_tokens": prompt + output,
    }


def responses_items(says: Says) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = []
    if says.thinking:
        items.append(
            {
                "id": "rs_1",
                "type": "reasoning",
                "summary": [{"type": "summary_text", "text": says.thinking}],
                "encrypted_content": "gAAAA",
            }
        )
    contents: list[dict[str, Any]] = []
    if says.text:
        contents.append({"type": "output_text", "text": says.text, "annotations": [], "logprobs": []})
    if says.refusal:
        contents.append({"type": "refusal", "refusal": says.refusal})
    if contents:
        status = "incomplete" if says.finish == "length" else "completed"
        message = {"id": "msg_1", "type": "message", "status": status, "role": "assistant"}
        items.append(message | {"content": contents})
    for number, (call_id, name, arguments) in enumerate(says.calls):
        call = {"id": f"fc_{number}", "type": "function_call", "status": "completed", "call_id": call_id}
        items.append(call | {"name": name, "arguments": json.dumps(arguments)})
    return items


def _response(says: Says, status: str, output: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "id": "resp_1",
        "object": "response",
        "created_at": 1790000000,
        "model": MODEL,
        "status": status,
        "error": None,
        "incomplete_details": {"reason": "max_output_tokens"} if status == "incomplete" else None,
        "instructions": None,
        "metadata": {},
        "output": output,
        "parallel_tool_calls": True,
        "temperature": 1.0,
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "usage": responses_usage(says) if status in ("completed", "incomplete") else None,
    }


def _status(says: Says) -> str:
    return "incomplete" if says.finish == "length" else "completed"


def responses_body(says: Says) -> bytes:
    return json.dumps(_response(says, _status(says), responses_items(says))).encode()


def responses_stream(says: Says) -> list[bytes]:
    events: list[dict[str, Any]] = [
        {"type": "response.created", "response": _response(says, "in_progress", [])},
        {"type": "response.in_progress", "response": _response(says, "in_progress", [])},
    ]
    for index, item in enumerate(responses_items(says)):
        at = {"item_id": item["id"], "output_index": index}
        bare = {"summary": []} if item["type"] == "reasoning" else {"status": "in_progress"}
        bare |= {"content": []} if item["type"] == "message" else {}
        bare |= {"arguments": ""} if item["type"] == "function_call" else {}
        added = {key: value for key, value in item.items() if key != "encrypted_content"} | bare
        events.append({"type": "response.output_item.added", "output_index": index, "item": added})
        events += _INNER[item["type"]](item, at)
        events.append({"type": "response.output_item.done", "output_index": index, "item": item})
    last = _response(says, _status(says), responses_items(says))
    events.append({"type": f"response.{_status(says)}", "response": last})
    return [frame({"sequence_number": number, **event}, event["type"]) for number, event in enumerate(events)]


def _inner_message(item: dict[str, Any], at: dict[str, Any]) -> list[dict[str, Any]]:
    events: list[dict[str, Any]] = []
    for index, content in enumerate(item["content"]):
        at = at | {"content_index": index}
        key, kind = ("text", "output_text") if content["type"] == "output_text" else ("refusal", "refusal")
        events.append({"type": "response.content_part.added", **at, "part": content | {key: ""}})
        for piece in pieces(content[key]):
            more = {"logprobs": [], "obfuscation": "x"} if key == "text" else {}
            events.append({"type": f"response.{kind}.delta", **at, "delta": piece, **more})
        events.append({"type": f"response.{kind}.done", **at, key: content[key]})
        events.append({"type": "response.content_part.done", **at, "part": content})
    return events


def _inner_reasoning(item: dict[str, Any], at: dict[str, Any]) -> list[dict[str, Any]]:
    at, part = at | {"summary_index": 0}, item["summary"][0]
    kind = "response.reasoning_summary"
    return [
        {"type": f"{kind}_part.added", **at, "part": part | {"text": ""}},
        *({"type": f"{kind}_text.delta", **at, "delta": piece} for piece in pieces(part["text"])),
        {"type": f"{kind}_text.done", **at, "text": part["text"]},
        {"type": f"{kind}_part.done", **at, "part": part},
    ]


def _inner_call(item: dict[str, Any], at: dict[str, Any]) -> list[dict[str, Any]]:
    kind = "response.function_call_arguments"
    deltas = [{"type": f"{kind}.delta", **at, "delta": piece} for piece in pieces(item["arguments"])]
    return [*deltas, {"type": f"{kind}.done", **at, "arguments": item["arguments"]}]


_INNER = {"message": _inner_message, "reasoning": _inner_reasoning, "function_call": _inner_call}

# --- messages ---------------------------------------------------------------------------------------------------------


def anthropic_usage(says: Says) -> dict[str, Any]:
    prompt, cached, output, reasoning = says.usage
    return {
        "input_tokens": prompt - cached,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": cached,
        "output_tokens": output,
        "output_tokens_details": {"thinking_tokens": reasoning},
        "service_tier": "standard",
    }


_STOP = {"stop": "end_turn", "tool_calls": "tool_use", "length": "max_tokens"}


def _stop_reason(says: Says) -> str:
    return "refusal" if says.refusal else _STOP[says.finish]


def anthropic_blocks(says: Says) -> list[dict[str, Any]]:
    blocks: list[dict[str, Any]] = []
    if says.thinking:
        blocks.append({"type": "thinking", "thinking": says.thinking, "signature": "EqQBsig"})
    if says.told:
        blocks.append({"type": "text", "text": says.told})
    for call_id, name, arguments in says.calls:
        blocks.append({"type": "tool_use", "id": call_id, "name": name, "input": arguments})
    return blocks


def anthropic_body(says: Says) -> bytes:
    body = {"id": "msg_01", "type": "message", "role": "assistant", "model": MODEL, "content": anthropic_blocks(says)}
    stop = {"stop_reason": _stop_reason(says), "stop_sequence": None}
    return json.dumps(body | stop | {"usage": anthropic_usage(says)}).encode()


def anthropic_stream(says: Says) -> list[bytes]:
    start = {"id": "msg_01", "type": "message", "role": "assistant", "model": MODEL, "content": []}
    start |= {"stop_reason": None, "stop_sequence": None, "usage": anthropic_usage(says) | {"output_tokens": 1}}
    start["usage"].pop("output_tokens_details")
    events: list[dict[str, Any]] = [{"type": "message_start", "message": start}, {"type": "ping"}]
    for index, block in enumerate(anthropic_blocks(says)):
        bare, deltas = _anthropic_deltas(block)
        events.append({"type": "content_block_start", "index": index, "content_block": block | bare})
        events += [{"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas]
        events.append({"type": "content_block_stop", "index": index})
    delta = {"stop_reason": _stop_reason(says), "stop_sequence": None}
    usage = {key: value for key, value in anthropic_usage(says).items() if key.startswith("output")}
    events.append({"type": "message_delta", "delta": delta, "usage": usage})
    events.append({"type": "message_stop"})
    return [frame(event, event["type"]) for event in events]


def _anthropic_deltas(block: dict[str, Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    if block["type"] == "thinking":
        deltas = [{"type": "thinking_delta", "thinking": piece} for piece in pieces(block["thinking"])]
        signed = {"type": "signature_delta", "signature": block["signature"]}
        return {"thinking": "", "signature": ""}, [*deltas, signed]
    if block["type"] == "text":
        return {"text": ""}, [{"type": "text_delta", "text": piece} for piece in pieces(block["text"])]
    raw = pieces(json.dumps(block["input"])) if block["input"] else []
    return {"input": {}}, [{"type": "input_json_delta", "partial_json": piece} for piece in ["", *raw]]


# --- all --------------------------------------------------------------------------------------------------------------

BODIES = {CHAT: chat_body, RESPONSES: responses_body, ANTHROPIC: anthropic_body}
STREAMS = {CHAT: chat_stream, RESPONSES: responses_stream, ANTHROPIC: anthropic_stream}
ERRORS = {
    CHAT: frame({"error": {"message": "the engine fell over", "type": "server_error", "code": None}}),
    RESPONSES: frame(
        {
            "type": "response.failed",
            "sequence_number": 9,
            "response": {
                "id": "resp_1",
                "object": "response",
                "model": MODEL,
                "status": "failed",
                "output": [],
                "error": {"code": "server_error", "message": "the engine fell over"},
            },
        },
        "response.failed",
    ),
    ANTHROPIC: frame({"type": "error", "error": {"type": "api_error", "message": "the engine fell over"}}, "error"),
}
"""What an upstream says when it breaks off in the middle."""

QUESTIONS: dict[str, dict[str, Any]] = {
    CHAT: {
        "model": "m",
        "messages": [{"role": "user", "content": "hi"}],
        "stream_options": {"include_usage": True},
    },
    RESPONSES: {"model": "m", "input": "hi"},
    ANTHROPIC: {"model": "m", "max_tokens": 100, "messages": [{"role": "user", "content": "hi"}]},
}
"""What a client of each dialect asks."""


def merge_texts(says: Says) -> Says:
    return replace(says, text=says.told, refusal="")
