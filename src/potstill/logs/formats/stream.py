"""The pieces of a streamed answer, put together again: proxies write them into their logs, as a list or as the text
of the stream.

What it knows: chunks of chat completions, events of Anthropic messages and of the responses API, and how server-sent
events carry them. What it does not do: sockets.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from potstill.logs.formats.values import listed, mapping


def events(text: str) -> list[Any]:
    """The JSON in a stream of server-sent events; what is none is left out."""
    found = []
    for line in text.splitlines():
        if line.startswith("data:") and line[5:].lstrip().startswith("{"):
            piece = mapping(line[5:].strip())
            found += [piece] if piece else []
    return found


def joined(pieces: Sequence[Any]) -> dict[str, Any]:
    """The whole answer of its pieces, empty where they are no pieces of an answer."""
    parts = [piece for piece in pieces if isinstance(piece, Mapping)]
    if any(part.get("object") == "chat.completion.chunk" for part in parts):
        return _chat(parts)
    if any(part.get("type") == "message_start" for part in parts):
        return _anthropic(parts)
    done = [part for part in parts if str(part.get("type", "")).startswith("response.") and "response" in part]
    return dict(done[-1]["response"]) if done and isinstance(done[-1]["response"], Mapping) else {}


def _chat(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    whole: dict[str, Any] = {"object": "chat.completion", "choices": []}
    texts: list[str] = []
    calls: dict[str, dict[str, Any]] = {}
    for part in parts:
        whole |= {name: part[name] for name in ("id", "model", "created", "usage") if part.get(name) is not None}
        for choice in listed(part.get("choices")):
            delta = choice.get("delta") if isinstance(choice, Mapping) else None
            if not isinstance(delta, Mapping) or choice.get("index") not in (None, 0):
                continue
            if isinstance(delta.get("content"), str):
                texts.append(delta["content"])
            for piece in listed(delta.get("tool_calls")):
                _add_call(calls, piece)
    message = {"role": "assistant", "content": "".join(texts), "tool_calls": list(calls.values())}
    whole["choices"] = [{"index": 0, "message": message}]
    return whole


def _add_call(calls: dict[str, dict[str, Any]], piece: Any) -> None:
    if not isinstance(piece, Mapping):
        return
    call = calls.setdefault(str(piece.get("index", 0)), {"id": "", "function": {"name": "", "arguments": ""}})
    call["id"] = piece.get("id") or call["id"]
    function = piece.get("function")
    for name in ("name", "arguments"):
        if isinstance(function, Mapping) and isinstance(function.get(name), str):
            call["function"][name] += function[name]


def _anthropic(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    whole: dict[str, Any] = {"type": "message", "role": "assistant"}
    blocks: dict[str, dict[str, Any]] = {}
    usage: dict[str, Any] = {}
    for part in parts:
        index = str(part.get("index"))
        message, block, delta = (
            value if isinstance(value := part.get(name), Mapping) else {}
            for name in ("message", "content_block", "delta")
        )
        if part.get("type") == "message_start":
            whole |= message
        elif part.get("type") == "content_block_start":
            blocks[index] = dict(block)
        elif part.get("type") == "content_block_delta" and index in blocks:
            _grow(blocks[index], delta)
        for counted in (message.get("usage"), part.get("usage")):
            if isinstance(counted, Mapping):
                usage |= {name: value for name, value in counted.items() if value is not None}
    return whole | {"content": list(blocks.values()), "usage": usage}


def _grow(block: dict[str, Any], delta: Mapping[str, Any]) -> None:
    text, arguments = delta.get("text"), delta.get("partial_json")
    if isinstance(text, str):
        block["text"] = f"{block.get('text', '')}{text}"
    if isinstance(arguments, str):
        before = block.get("input")
        block["input"] = (before if isinstance(before, str) else "") + arguments
