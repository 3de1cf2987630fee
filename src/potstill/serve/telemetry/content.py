"""Prompts and answers as the messages of OpenTelemetry's GenAI conventions: only where content was opted in.

What it knows: the conventions' parts (text, reasoning, tool_call, tool_call_response, file, uri), read 2026-11. What it
does not do: spans (``spans``), redaction (what comes here is what the store has), bytes of images: those are told
by the digest under which the store keeps them, and what only one provider knows by its kind.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Sequence
from hashlib import sha256
from typing import Any

import msgspec

from potstill.errors import NOT_JSON
from potstill.types import FinishReason
from potstill.wire.neutral import (
    Answer,
    Image,
    Opaque,
    OpaqueTool,
    Part,
    Prompt,
    Refusal,
    Text,
    Thinking,
    Tool,
    ToolOutput,
    ToolUse,
    Turn,
)

Json = dict[str, Any]
_FINISHED = {FinishReason.TOOL_CALLS: "tool_call", FinishReason.OTHER: "error"}
_APART = ("anthropic", "openai-responses")
"""Dialects that tell the system's text beside the messages."""


def input_attributes(prompt: Prompt, dialect: str) -> Json:
    """``gen_ai.input.messages``, ``gen_ai.system_instructions`` and ``gen_ai.tool.definitions``, as JSON texts."""
    turns = list(prompt.turns)
    told: Json = {}
    if dialect in _APART and turns and turns[0].role == "system":
        told["gen_ai.system_instructions"] = _text(_parts(turns.pop(0).parts))
    told["gen_ai.input.messages"] = _text([_message(turn) for turn in turns])
    if prompt.tools:
        told["gen_ai.tool.definitions"] = _text([_tool(tool) for tool in prompt.tools])
    return told


def output_attributes(answer: Answer) -> Json:
    """``gen_ai.output.messages``: a message for each sample."""
    messages = [
        {
            "role": "assistant",
            "parts": _parts(choice.parts),
            "finish_reason": _FINISHED.get(choice.finish, choice.finish.value),
        }
        for choice in answer.choices
    ]
    return {"gen_ai.output.messages": _text(messages)}


def _message(turn: Turn) -> Json:
    return {"role": turn.role, "parts": _parts(turn.parts), **({"name": turn.name} if turn.name else {})}


def _parts(parts: Iterable[Part]) -> list[Json]:
    return [part for one in parts for part in _part(one)]


def _part(part: Part) -> list[Json]:
    """One part; none for reasoning that the model did not show, and for hints that change no answer."""
    match part:
        case Text() | Refusal():
            return [{"type": "text", "content": part.text}]
        case Thinking():
            return [{"type": "reasoning", "content": part.text}] if part.text else []
        case ToolUse():
            return [{"type": "tool_call", "id": part.id, "name": part.name, "arguments": _arguments(part.arguments)}]
        case ToolOutput():
            return [{"type": "tool_call_response", "id": part.call_id, "response": _response(part.parts)}]
        case Image():
            return [_image(part)]
        case Opaque():
            return [] if part.hint else [{"type": part.kind}]


def _response(parts: Sequence[Text | Image]) -> str | list[Json]:
    """A text where it is one."""
    if all(isinstance(part, Text) for part in parts):
        return "\n".join(part.text for part in parts if isinstance(part, Text) and part.text)
    return _parts(parts)


def _image(image: Image) -> Json:
    if image.data is None:
        return {"type": "uri", "modality": "image", "uri": image.url or ""}
    named: Json = {"type": "file", "modality": "image", "file_id": f"sha256:{_digest(image.data)}"}
    return {**named, "mime_type": image.media_type} if image.media_type else named


def _digest(data: str) -> str:
    """As the store names the bytes; of the text where it is not base64."""
    try:
        content = base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError):
        content = data.encode("utf-8", "surrogatepass")
    return sha256(content).hexdigest()


def _arguments(text: str) -> Any:
    """As an object where the model wrote valid JSON."""
    try:
        return msgspec.json.decode(text)
    except NOT_JSON:
        return text


def _tool(tool: Tool | OpaqueTool) -> Json:
    if isinstance(tool, OpaqueTool):
        return {"type": str(tool.value.get("type", "unknown")), "name": str(tool.value.get("name", ""))}
    told: Json = {"type": "function", "name": tool.name}
    if tool.description is not None:
        told["description"] = tool.description
    return {**told, "parameters": tool.parameters} if tool.parameters is not None else told


def _text(value: Any) -> str:
    return msgspec.json.encode(value).decode()
