"""What the gateway reads of an upstream's answer in bytes: the usage, and whether a stream came to its end.

What it knows: where each dialect writes these two. What it does not do: content (the dialects' files), or meaning of
counts (``wire.usage``). Read once, after the last byte, out of the bytes that are kept for the record anyway.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from potstill.serve.problems import ANTHROPIC, CHAT, RESPONSES
from potstill.wire.sse import Parser

TRIES = 8
"""How many of the last mentions of a usage are looked at: streams may repeat ``"usage":null`` in every event."""

END_MARKS = {
    CHAT: (b"[DONE]",),
    ANTHROPIC: (b"message_stop",),
    RESPONSES: (b"response.completed", b"response.incomplete", b"response.failed"),
}
"""What the last event of a stream holds; a model's text may hold it too."""
_DONE = re.compile(rb"(?:^|\n\n|\r\n\r\n)data: ?\[DONE\]\r?\n\r?\n")
_LAST = (b"\n\ndata: [DONE]\n\n", b"\n\ndata:[DONE]\n\n")
"""As nearly everybody writes it."""
_ENDS = {
    ANTHROPIC: frozenset({"message_stop"}),
    RESPONSES: frozenset({"response.completed", "response.incomplete", "response.failed"}),
}


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
    """Whether a stream says itself that it is complete. Some servers leave ``[DONE]`` out behind the finish reasons."""
    if dialect == CHAT:
        return body.endswith(_LAST) or _DONE.search(body) is not None or _done(body)
    if not any(mark in body for mark in END_MARKS[dialect]):
        return False
    last = body.rstrip(b"\r\n").rpartition(b"\n")[2]
    return any(_event(data).type in _ENDS[dialect] for data in (last.removeprefix(b"data:"), *events_of(body)))


def stream_told_error(body: bytes) -> bool:
    """Whether the last event of the stream is an error of the upstream's own."""
    last = _event(next(reversed(events_of(body)), b""))
    return last.type == "error" or last.error is not None


def is_said(data: bytes) -> bool:
    """Whether an event's data are whole."""
    return data.strip() == b"[DONE]" or _event(data) is not _NOTHING


class _Event(msgspec.Struct, frozen=True):
    """What an event says of the stream it stands in."""

    type: Any = None
    error: Any = None
    choices: Any = None


_NOTHING = _Event()
_events = msgspec.json.Decoder(_Event)


def _event(data: bytes) -> _Event:
    """``_NOTHING`` for what is no JSON object."""
    try:
        return _events.decode(data)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return _NOTHING


def events_of(body: bytes) -> list[bytes]:
    """The data of all events of a stream."""
    parser, data = Parser(len(body) + 1), list[bytes]()
    data.extend(frame.data for frame in parser.feed(body))
    data.extend(frame.data for frame in parser.close())
    return data


def _done(body: bytes) -> bool:
    """Whether an event is ``[DONE]``, or every choice has a reason why it ended."""
    finished: dict[Any, bool] = {}
    for data in events_of(body):
        if data.strip() == b"[DONE]":
            return True
        choices = _event(data).choices
        for choice in choices if isinstance(choices, list) else ():
            if isinstance(choice, dict) and isinstance(index := choice.get("index", 0), int):
                finished[index] = finished.get(index, False) or isinstance(choice.get("finish_reason"), str)
    return bool(finished) and all(finished.values())


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
