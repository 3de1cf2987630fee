"""What the hot path reads of a request's body, and how a field of it is replaced without touching the rest.

What it knows: the fields that all three dialects call the same (``model``, ``stream``, ``stream_options``, ``n``), and
where a field's bytes stand. What it does not do: messages (``record.outline``), tools, or answers.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import msgspec

from potstill.errors import NOT_JSON, BadRequest
from potstill.record import outline as record

_KEY = re.compile(rb'[ \t\r\n]*"(?:[^"\\]|\\.)*"[ \t\r\n]*:[ \t\r\n]*', re.DOTALL)
_AFTER = re.compile(rb"[ \t\r\n]*([,}])")


class _Routing(msgspec.Struct, gc=False):
    """The few fields that routing needs; everything else of the body is skipped unread."""

    model: str
    stream: bool | None = None
    stream_options: msgspec.Raw = msgspec.Raw()
    n: int | None = None


class Outline(record.Outline, kw_only=True):
    """What routing needs, and what placing needs: the body is read once for both."""

    model: str
    stream: bool | None = None
    stream_options: msgspec.Raw = msgspec.Raw()
    n: int | None = None


_outline = msgspec.json.Decoder(Outline)
_routing = msgspec.json.Decoder(_Routing)
_members = msgspec.json.Decoder(dict[str, msgspec.Raw])
_options = msgspec.json.Decoder(dict[str, msgspec.Raw] | None)


def outline_of(body: bytes) -> Outline:
    """Raises ``BadRequest``, naming the field at fault.

    >>> outline_of(b'{"messages": [{"model": "no"}], "model": "gpt-6.1-sol", "stream": true}').model
    'gpt-6.1-sol'
    """
    try:
        return _outline.decode(body).of(body)
    except NOT_JSON:
        routing = _routing_of(body)
    return Outline(model=routing.model, stream=routing.stream, stream_options=routing.stream_options, n=routing.n)


def _routing_of(body: bytes) -> _Routing:
    """For a body of which placing can make nothing."""
    try:
        return _routing.decode(body)
    except msgspec.ValidationError as error:
        raise BadRequest(f"The request's body is not as expected: {error}.") from None
    except NOT_JSON as error:
        raise BadRequest(f"The request's body is not JSON: {error}.") from None


def with_fields(body: bytes, changes: Mapping[str, bytes]) -> bytes:
    """``body`` with these top-level fields set to these JSON texts; every other byte as it was.

    A body that repeats a key is written anew with the last of each, as parsers read it: what we route by is then what
    the upstream reads. Raises ``BadRequest`` for a body that is no JSON object.

    >>> with_fields(b'{ "model" : "a", "x": "\\\\"model\\\\": 1" }', {"model": b'"b"'})
    b'{ "model" : "b", "x": "\\\\"model\\\\": 1" }'
    """
    try:
        members = _members.decode(body)
    except NOT_JSON as error:
        raise BadRequest(f"The request's body is not a JSON object: {error}.") from None
    spans = _spans(body, members)
    if spans is None:
        merged = {key: bytes(raw) for key, raw in members.items()} | dict(changes)
        return b"{" + b",".join(msgspec.json.encode(key) + b":" + raw for key, raw in merged.items()) + b"}"
    pieces: list[bytes] = []
    at = 0
    for key, (start, stop) in spans.items():
        if key in changes:
            pieces += (body[at:start], changes[key])
            at = stop
    added = [msgspec.json.encode(key) + b":" + raw for key, raw in changes.items() if key not in spans]
    if not added:
        return b"".join((*pieces, body[at:]))
    end = body.rindex(b"}")
    comma = b"," if spans else b""
    return b"".join((*pieces, body[at:end], comma, b",".join(added), body[end:]))


def _spans(body: bytes, members: Mapping[str, msgspec.Raw]) -> dict[str, tuple[int, int]] | None:
    """Where each member's value stands; None where the text does not hold exactly these members in this order."""
    at = len(body) - len(body.lstrip(b" \t\r\n")) + 1
    spans: dict[str, tuple[int, int]] = {}
    closing = b"}" if not members else b""
    for key, raw in members.items():
        found = _KEY.match(body, at)
        if found is None:
            return None
        value = bytes(raw)
        start, stop = found.end(), found.end() + len(value)
        after = _AFTER.match(body, stop)
        if after is None or body[start:stop] != value:
            return None
        spans[key] = (start, stop)
        at, closing = after.end(), after[1]
    return spans if closing == b"}" else None


# --- usage at the end of a stream of chat completions -----------------------------------------------------------------


def asks_for_usage(outline: Outline) -> bool:
    """Whether the client itself wants the chunk with the usage."""
    options = _stream_options(outline)
    return options.get("include_usage") == b"true"


def with_usage_asked(body: bytes, outline: Outline) -> bytes:
    """The body with ``stream_options.include_usage``, whatever else the client's ``stream_options`` say."""
    options = _stream_options(outline) | {"include_usage": b"true"}
    text = b",".join(msgspec.json.encode(key) + b":" + raw for key, raw in options.items())
    return with_fields(body, {"stream_options": b"{" + text + b"}"})


def _stream_options(outline: Outline) -> dict[str, bytes]:
    raw = bytes(outline.stream_options)
    if not raw:
        return {}
    try:
        return {key: bytes(value) for key, value in (_options.decode(raw) or {}).items()}
    except NOT_JSON as error:
        raise BadRequest(f"stream_options must be an object: {error}.") from None
