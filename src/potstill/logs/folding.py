"""One message of any dialect in canonical form, so that an answer and its repetition in the next request are equal.

What it knows: how OpenAI's chat and responses, Anthropic, OpenTelemetry's parts and LangChain's names write texts,
calls of tools, their results, images and thoughts. What it does not do: conversations, or raise: whatever stands where
a message should be is taken as it is.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Iterator, Mapping, Sequence
from hashlib import blake2b
from typing import Any

import msgspec

from potstill.logs.hashing import arguments_hash, first, framed, hash_of, normal_json, text_of, without_marks

ROLES = {
    "system": "s",
    "developer": "s",
    "user": "u",
    "human": "u",
    "assistant": "a",
    "ai": "a",
    "model": "a",
    "tool": "t",
    "function": "t",
    "function_call": "a",
    "function_call_output": "t",
    "custom_tool_call": "a",
    "custom_tool_call_output": "t",
}
_CALLS = {"tool_use", "tool_call", "function_call", "server_tool_use", "custom_tool_call"}
_RESULTS = {"tool_result", "tool_call_response", "function_call_output", "custom_tool_call_output"}
_THOUGHTS = {"thinking", "redacted_thinking", "reasoning"}


class Folded(msgspec.Struct, gc=False):
    """One message in canonical form."""

    letter: str
    text: str
    size: int
    calls: tuple[tuple[str, int], ...] = ()
    rest: bytes = b""
    """What counts beside role and text: ids, tools called, images."""


def listed(messages: Any, role: str) -> Sequence[Any]:
    """Messages as a list; a bare text is the content of one message of ``role``."""
    if messages is None:
        return ()
    if isinstance(messages, str):
        return ({"role": role, "content": messages},)
    return messages if isinstance(messages, list | tuple) else (messages,)


def fold(message: Any, default: str) -> Iterable[Folded]:
    """A message in canonical form; none for the reasoning items of the responses API."""
    if not isinstance(message, dict):
        message = {"content": message if isinstance(message, str | list) else text_of(message)}
    role = message.get("role")
    kind = role if role is not None else message.get("type")
    kind = kind if isinstance(kind, str) else ""
    letter = ROLES.get(kind, default)
    content = message.get("content")
    if role is not None and letter != "a" and type(content) is str:
        return (Folded(letter, content, len(content), (), _tool_id(message) if letter == "t" else b""),)
    if role is not None and letter == "a" and (plain := _plain_answer(message, content)) is not None:
        return (plain,)
    if role is None and kind in _THOUGHTS:
        return ()
    if role is None and (kind in _CALLS or kind in _RESULTS):
        content = [message]
    elif content is None:
        content = message.get("parts")
    return _fold_parts(message, letter, content)


def _plain_answer(message: dict[str, Any], content: Any) -> Folded | None:
    """An answer of text and calls of tools, as most are; None for one of another shape."""
    text = content
    if content is None and not message.get("parts") and not message.get("refusal"):
        text = ""
    if type(text) is not str or "function_call" in message:
        return None
    given = message.get("tool_calls")
    if not given:
        return Folded("a", text, len(text)) if given is None or type(given) is list else None
    if type(given) is not list:
        return None
    size, calls, rest = len(text), [], []
    for call in given:
        if type(call) is not dict:
            return None
        called, characters, identity = _tool_call(call)
        size += characters
        calls.append(called)
        rest.append(identity)
    return Folded("a", text, size, tuple(calls), b"".join(rest))


def _tool_call(call: dict[str, Any]) -> tuple[tuple[str, int], int, bytes]:
    """A call of a tool, however it is written: (name, hash of the arguments), characters, what identifies it."""
    function = call.get("function")
    inner = function if isinstance(function, dict) else call
    name = inner.get("name")
    name = name if isinstance(name, str) else function if isinstance(function, str) else ""
    arguments = first(inner, "arguments", "input", "args")
    if isinstance(arguments, str):
        hashed, size = arguments_hash(arguments), len(arguments)
    else:
        normal = normal_json(arguments)
        hashed, size = hash_of(normal), len(normal)
    identity = framed(_identity(call)) + framed(name) + hashed.to_bytes(8, "little")
    return (name, hashed), len(name) + size, identity


def _fold_parts(message: Mapping[str, Any], letter: str, content: Any) -> Iterator[Folded]:
    """A message of several parts: results of tools are messages of their own, the rest is one."""
    told_parts = _Parts()
    if isinstance(content, str):
        told_parts.texts.append(content)
    elif content is not None:
        parts = content if isinstance(content, list | tuple) else (content,)
        for part in parts:
            result = told_parts.take(part)
            if result is not None:
                yield result
    for call in listed(message.get("tool_calls"), ""):
        told_parts.call(call)
    if isinstance(message.get("function_call"), dict):
        told_parts.call(message["function_call"])
    refusal = message.get("refusal")
    if isinstance(refusal, str) and not told_parts.texts:
        told_parts.texts.append(refusal)
    if told_parts.results and not (told_parts.texts or told_parts.calls or told_parts.rest):
        return
    if letter == "t":
        told_parts.rest.append(_tool_id(message))
    yield told_parts.folded(letter)


class _Parts:
    """Gathers what the parts of one message say."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.calls: list[tuple[str, int]] = []
        self.rest: list[bytes] = []
        self.characters = 0
        self.results = 0

    def take(self, part: Any) -> Folded | None:
        """Note a part; a tool's result is given back as a message of its own."""
        if isinstance(part, str):
            self.texts.append(part)
            return None
        if not isinstance(part, dict):
            self.texts.append(text_of(part))
            return None
        named = part.get("type")
        kind = named if isinstance(named, str) else ""
        text = part.get("text")
        if isinstance(text, str) and kind not in _THOUGHTS:
            self.texts.append(text)
        elif kind in _CALLS or "functionCall" in part:
            self.call(part.get("functionCall", part))
        elif kind in _RESULTS or "functionResponse" in part:
            self.results += 1
            return _result(part.get("functionResponse", part))
        elif kind not in _THOUGHTS:
            self._other(part, kind)
        return None

    def call(self, call: Any) -> None:
        """Note a call of a tool, however it is written."""
        if not isinstance(call, dict):
            self.texts.append(text_of(call))
            return
        called, characters, identity = _tool_call(call)
        self.calls.append(called)
        self.characters += characters
        self.rest.append(identity)

    def folded(self, letter: str) -> Folded:
        text = self.texts[0] if len(self.texts) == 1 else "".join(self.texts)
        return Folded(letter, text, len(text) + self.characters, tuple(self.calls), b"".join(self.rest))

    def _other(self, part: Mapping[str, Any], kind: str) -> None:
        """A part that is neither text nor tool: refusals, OpenTelemetry's texts, images and files."""
        spoken = part.get("refusal") if kind == "refusal" else part.get("content") if kind == "text" else None
        if isinstance(spoken, str):
            self.texts.append(spoken)
        else:
            self.rest.append(b"i" + blake2b(_media(part), digest_size=8).digest())


def _result(part: Mapping[str, Any]) -> Folded:
    """A tool's result as the message of a tool."""
    content = first(part, "content", "output", "response", "result")
    inner = _Parts()
    for piece in content if isinstance(content, list) else (content,):
        if piece is not None:
            inner.take(piece if isinstance(piece, str) or _is_part(piece) else text_of(piece))
    inner.rest.append(_tool_id(part))
    return inner.folded("t")


def _is_part(piece: Any) -> bool:
    return isinstance(piece, dict) and isinstance(piece.get("type"), str)


def _media(part: Mapping[str, Any]) -> bytes:
    """The bytes of an image or file, where it holds them; else its address; else the part as it is."""
    for value in (part, *(inner for inner in part.values() if isinstance(inner, dict))):
        found = first(value, "data", "url", "image_url", "file_data", "content", "file_id", "uri")
        if isinstance(found, str):
            encoded = found.partition(";base64,")[2] if found.startswith("data:") else found
            try:
                return base64.b64decode(encoded, validate=True)
            except (binascii.Error, ValueError):
                return found.encode("utf-8", "surrogatepass")
    return normal_json(without_marks(part))


def _tool_id(message: Mapping[str, Any]) -> bytes:
    return framed(first(message, "tool_call_id", "tool_use_id", "call_id", "id") or "")


def _identity(call: Mapping[str, Any]) -> Any:
    """The id by which a result names its call (the responses API gives the item another one)."""
    return call.get("call_id") or call.get("id") or ""
