"""Requests and answers of the gateway's own JSON endpoints (the admin API, outcomes), over raw ASGI.

What it knows: sizes, strict decoding, headers that keep a browser from reading an answer as anything but data. What it
does not do: who may ask for what (``admin.api``), and the dialects' endpoints, which do not pass through here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any, TypeVar
from urllib.parse import parse_qsl

import msgspec

from potstill.types import Struct

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
T = TypeVar("T")

MAX_BODY_BYTES = 64 * 1024
MAX_QUERY_BYTES = 4096
BODY_S = 15.0
"""For a whole body."""
HEADERS = (
    (b"content-type", b"application/json; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"referrer-policy", b"no-referrer"),
)


class Refusal(Exception):
    """An answer that is an error."""

    def __init__(self, status: int, kind: str, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.status, self.kind, self.message, self.retry_after_s = status, kind, message, retry_after_s


class Disconnected(Exception):
    """The client left before its request was whole."""


class Call(Struct, frozen=True, kw_only=True):
    """A request, without its body."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    address: str
    """Of the client, as the socket knows it."""

    @classmethod
    def of(cls, scope: Scope) -> Call:
        """Raises ``Refusal`` for a query that is too long."""
        raw = scope.get("query_string", b"")
        if len(raw) > MAX_QUERY_BYTES:
            raise Refusal(414, "too_large", f"A query has at most {MAX_QUERY_BYTES} bytes.")
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope.get("headers", ())}
        return cls(
            method=scope["method"].upper(),
            path=scope["path"],
            query=dict(parse_qsl(raw.decode("latin-1"), keep_blank_values=True)),
            headers=headers,
            address=str((scope.get("client") or ("unknown",))[0]),
        )

    @property
    def key(self) -> str | None:
        """What was sent as a key, a bearer before ``x-api-key``."""
        scheme, _, value = self.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and value.strip():
            return value.strip()
        return self.headers.get("x-api-key", "").strip() or None


async def read_body(receive: Receive, limit: int = MAX_BODY_BYTES) -> bytes:
    """Raises ``Refusal`` for a longer one or one that does not come, ``Disconnected``."""
    try:
        async with asyncio.timeout(BODY_S):
            return await _parts_of(receive, limit)
    except TimeoutError:
        raise Refusal(408, "timeout", f"The body did not come within {BODY_S:g} s.") from None


async def _parts_of(receive: Receive, limit: int) -> bytes:
    parts, size = [], 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Disconnected
        part = message.get("body", b"")
        size += len(part)
        if size > limit:
            raise Refusal(413, "too_large", f"The body is larger than {limit} bytes.")
        parts.append(part)
        if not message.get("more_body", False):
            return b"".join(parts)


def decode(call: Call, body: bytes, shape: type[T]) -> T:
    """The body as ``shape``, strictly. Raises ``Refusal`` saying what is wrong with it."""
    content_type = call.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type not in ("application/json", ""):
        raise Refusal(415, "invalid_request", "Send JSON, with 'Content-Type: application/json'.")
    try:
        return msgspec.json.decode(body, type=shape)
    except (msgspec.MsgspecError, UnicodeError) as error:
        raise Refusal(400, "invalid_request", f"The body is not what is expected here: {error}") from None
    except RecursionError:
        raise Refusal(400, "invalid_request", "The body is nested too deeply.") from None


def query(call: Call, shape: type[T]) -> T:
    """The query's parameters as ``shape``. Raises ``Refusal`` for unknown ones and wrong values."""
    try:
        return msgspec.convert(call.query, type=shape, strict=False)
    except msgspec.ValidationError as error:
        raise Refusal(400, "invalid_request", f"The query is not what is expected here: {error}") from None


def encode(value: object) -> bytes:
    """JSON in which no character can end a script or begin a tag, whatever the texts hold."""
    raw = msgspec.json.encode(value, enc_hook=str)
    for character, escape in _ESCAPES:
        raw = raw.replace(character, escape)
    return raw


_ESCAPES = (
    (b"<", b"\\u003c"),
    (b">", b"\\u003e"),
    (b"&", b"\\u0026"),
    ("\u2028".encode(), b"\\u2028"),
    ("\u2029".encode(), b"\\u2029"),
)


async def answer(send: Send, status: int, value: object, headers: Iterable[tuple[bytes, bytes]] = ()) -> None:
    body = encode(value)
    all_headers = [*HEADERS, (b"content-length", str(len(body)).encode()), *headers]
    await send({"type": "http.response.start", "status": status, "headers": all_headers})
    await send({"type": "http.response.body", "body": body})


async def refuse(send: Send, refusal: Refusal) -> None:
    headers = []
    if refusal.retry_after_s is not None:
        headers.append((b"retry-after", str(max(1, int(refusal.retry_after_s + 0.999))).encode()))
    if refusal.status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    await answer(send, refusal.status, {"error": {"kind": refusal.kind, "message": refusal.message}}, headers)
