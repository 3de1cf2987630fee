"""What the gateway reads of an upstream's answer in bytes: the usage, and whether a stream came to its end.

What it knows: where each dialect writes these two. What it does not do: content (the dialects' files), or meaning of
counts (``wire.usage``). Read once, after the last byte, out of the bytes that are kept for the record anyway.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from potstill.serve.problems import ANTHROPIC, CHAT, RESPONSES

TRIES = 8
"""How many of the last mentions of a usage are looked at: streams may repeat ``"usage":null`` in every event."""

END_MARKS = {
    CHAT: (b"[DONE]",),
    ANTHROPIC: (b"message_stop",),
    RESPONSES: (b"response.completed", b"response.incomplete", b"response.failed"),
}
"""What the last event of a stream holds."""
_FINISHED = re.compile(rb'"finish_reason"[ \t]*:[ \t]*"')
_ERROR = re.compile(rb'^data:[ \t]*\{[ \t]*"(?:error"|type"[ \t]*:[ \t]*"error")', re.MULTILINE)


class _Body(msgspec.Struct):
    usage: dict[str, Any] | None = None


class _Holder(msgspec.Struct):
    """An event that carries a message or a response, or the usage itself."""

    usage: dict[str, Any] | None = None
    message: _Body | None = None
    response: _Body | None = None


class _Chunk(msgspec.Struct):
    choices: list[msgspec.Raw] = []
    usage: dict[str, Any] | None = None


_body = msgspec.json.Decoder(_Body)
_holder = msgspec.json.Decoder(_Holder)
_chunk = msgspec.json.Decoder(_Chunk)


def usage_of(body: bytes) -> dict[str, Any] | None:
    """The usage in a whole answer of any dialect. Raises ``msgspec.DecodeError`` for what is no JSON object."""
    return _body.decode(body).usage


def usage_of_stream(body: bytes, dialect: str) -> dict[str, Any] | None:
    """The usage that a stream told; Anthropic's is what it said first, corrected by what it said last."""
    if dialect == ANTHROPIC:
        first, last = _usage_at(body, body.find(b'"usage"')), _last_usage(body)
        told = {key: value for key, value in (last or {}).items() if value is not None}
        return {**(first or {}), **told} or None
    return _last_usage(body)


def stream_ended(body: bytes, dialect: str) -> bool:
    """Whether a stream says itself that it is complete. Some servers leave ``[DONE]`` out behind a finish reason."""
    if any(mark in body for mark in END_MARKS[dialect]):
        return True
    return dialect == CHAT and _FINISHED.search(body) is not None


def stream_told_error(body: bytes) -> bool:
    """Whether an event of the stream is an error of the upstream's own."""
    return _ERROR.search(body) is not None


def is_usage_chunk(event: bytes) -> bool:
    """Whether an event of a chat completion's stream is the one that only tells the usage."""
    start = event.find(b"{")
    try:
        chunk = _chunk.decode(event[start:]) if start >= 0 else None
    except msgspec.DecodeError:
        return False
    return chunk is not None and chunk.usage is not None and not chunk.choices


def _last_usage(body: bytes) -> dict[str, Any] | None:
    at = len(body)
    for _ in range(TRIES):
        at = body.rfind(b'"usage"', 0, at)
        if at < 0:
            return None
        found = _usage_at(body, at)
        if found is not None:
            return found
    return None


def _usage_at(body: bytes, at: int) -> dict[str, Any] | None:
    """The usage in the event whose data hold position ``at``."""
    if at < 0:
        return None
    line_end = body.find(b"\n", at)
    line = body[body.rfind(b"\n", 0, at) + 1 : line_end if line_end >= 0 else len(body)]
    try:
        event = _holder.decode(line[line.index(b"{") :])
    except (msgspec.DecodeError, ValueError):
        return None
    inner = event.message or event.response
    return event.usage or (inner.usage if inner is not None else None)
