"""What the gateway reads of an upstream's answer in bytes: the usage, and whether a stream came to its end.

What it knows: where each dialect writes these two. What it does not do: content (the dialects' files), or meaning of
counts (``wire.usage``). Read once, after the last byte, out of the bytes that are kept for the record anyway: on the
event loop, so only those events are parsed that name what is looked for, the last ones first.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from potstill.errors import NOT_JSON
from potstill.serve.clients.problems import ANTHROPIC, CHAT, RESPONSES
from potstill.wire.sse import Parser

TRIES = 8
"""How many of the last mentions of a usage are looked at: streams may repeat ``"usage":null`` in every event."""

END_MARKS = {
    CHAT: (b"[DONE]",),
    ANTHROPIC: (b"message_stop",),
    RESPONSES: (b"response.completed", b"response.incomplete", b"response.failed"),
}
"""What the last event of a stream holds; a model's text may hold it too."""
_LAST = (b"\n\ndata: [DONE]\n\n", b"\n\ndata:[DONE]\n\n")
"""How nearly every stream of chat completions ends."""
_BLANK = re.compile(rb"\n[\r\n]|\r\r")
"""Of whichever of the three line ends: the end of a line, and of an empty one."""
ENDS = {
    ANTHROPIC: ("message_stop",),
    RESPONSES: ("response.completed", "response.incomplete", "response.failed"),
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
    """The usage in a whole answer of any dialect. Raises what ``NOT_JSON`` holds for what is no JSON object."""
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
        if body.endswith(_LAST):
            return True
        said = (data for block in _blocks_with(body, END_MARKS[CHAT]) for data in events_of(block))
        return any(data.strip() == b"[DONE]" for data in said) or _finished(body)
    return any(
        event_in(data).type in ENDS[dialect]
        for block in _blocks_with(body, END_MARKS[dialect])
        for data in events_of(block)
    )


def stream_told_error(body: bytes) -> bool:
    """Whether the last event of the stream is an error of the upstream's own."""
    end = len(body.rstrip(b"\r\n"))
    for _ in range(TRIES):  # behind it may be comments
        begin = _begin(body, end)
        if data := events_of(body[begin:end]):
            return is_error(data[-1])
        end = begin - 2
        if end <= 0:
            return False
    return is_error(next(reversed(events_of(body)), b""))


def is_error(data: bytes) -> bool:
    event = event_in(data)
    return event.type == "error" or event.error is not None


def is_said(data: bytes) -> bool:
    """Whether an event's data are whole."""
    return data.strip() == b"[DONE]" or event_in(data) is not _NOTHING


class Event(msgspec.Struct, frozen=True):
    """What an event says of the stream it stands in."""

    type: Any = None
    error: Any = None
    choices: Any = None


_NOTHING = Event()
_events = msgspec.json.Decoder(Event)


def event_in(data: bytes) -> Event:
    """``_NOTHING`` for what is no JSON object."""
    try:
        return _events.decode(data)
    except NOT_JSON:
        return _NOTHING


def events_of(body: bytes) -> list[bytes]:
    """The data of all events of a stream."""
    parser, data = Parser(len(body) + 1), list[bytes]()
    data.extend(frame.data for frame in parser.feed(body))
    data.extend(frame.data for frame in parser.close())
    return data


def _blocks_with(body: bytes, marks: Iterable[bytes]) -> Iterator[bytes]:
    """The events that hold one of the marks, undecoded, the last one first."""
    places = {mark: body.rfind(mark) for mark in marks}
    while (at := max(places.values())) >= 0:
        begin = _begin(body, at)
        after = _BLANK.search(body, at)
        yield body[begin : len(body) if after is None else after.end()]
        places |= {mark: body.rfind(mark, 0, begin) for mark, place in places.items() if place >= begin}


def _begin(body: bytes, at: int) -> int:
    """Where the event that holds position ``at`` begins: behind the blank line before."""
    found = body.rfind(b"\n\n", 0, at)
    for blank in (b"\n\r", b"\r\r"):
        found = max(found, body.rfind(blank, max(0, found), at))
    return found + 2 if found >= 0 else 0


def _finished(body: bytes) -> bool:
    """Whether every choice has a reason why it ended."""
    if not _has_other(body, b'"finish_reason"', b"null"):
        return False
    if _has_other(body, b'"index"', b"0"):  # of a choice, or of a call of a tool
        reasons = reasons_of(events_of(body))
        return bool(reasons) and all(reasons.values())
    blocks = _blocks_with(body, (b'"finish_reason"',))
    return any(any(reasons_of(events_of(block)).values()) for block in blocks)


def _has_other(body: bytes, name: bytes, value: bytes) -> bool:
    """Whether a member has another value somewhere, without reading the events."""
    return body.count(name) > body.count(name + b":" + value) + body.count(name + b": " + value)


def reasons_of(said: Iterable[bytes]) -> dict[int, bool]:
    """Of each choice, whether an event gave a reason why it ended."""
    finished: dict[int, bool] = {}
    for data in said:
        choices = event_in(data).choices
        for choice in choices if isinstance(choices, list) else ():
            if isinstance(choice, dict) and isinstance(index := choice.get("index", 0), int):
                finished[index] = finished.get(index, False) or isinstance(choice.get("finish_reason"), str)
    return finished


def is_usage_chunk(event: bytes) -> bool:
    """Whether an event of a chat completion's stream is the one that only tells the usage."""
    start = event.find(b"{")
    try:
        chunk = _chunk.decode(event[start:]) if start >= 0 else None
    except NOT_JSON:
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
    except (*NOT_JSON, ValueError):
        return None
    inner = event.message or event.response
    return event.usage or (inner.usage if inner is not None else None)
