"""Asks an ASGI application without a server: one request, one whole answer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple
from urllib.parse import quote, unquote

import msgspec


class Answer(NamedTuple):
    status: int
    headers: list[tuple[str, str]]
    body: bytes

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.body)

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key == name), None)


async def ask(
    app: Callable[..., Awaitable[None]],
    method: str,
    target: str,
    json: object = None,
    *,
    body: bytes | None = None,
    headers: dict[str, str] | None = None,
    address: str = "10.0.0.1",
    scheme: str = "http",
) -> Answer:
    """``json`` is encoded and said to be JSON; ``body`` goes as it is."""
    path, _, query = target.partition("?")
    sent = {"host": "gateway.test", **(headers or {})}
    if json is not None:
        body = msgspec.json.encode(json)
        sent.setdefault("content-type", "application/json")
    scope = {
        "type": "http",
        "method": method,
        "path": unquote(path),
        "raw_path": quote(path).encode(),
        "query_string": query.encode(),
        "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in sent.items()],
        "client": (address, 4711),
        "scheme": scheme,
    }
    messages = [{"type": "http.request", "body": body or b"", "more_body": False}]
    said: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        if messages:
            return messages.pop()
        await asyncio.Event().wait()
        raise AssertionError

    async def send(message: dict[str, Any]) -> None:
        said.append(message)

    await app(scope, receive, send)
    start, *rest = said
    assert start["type"] == "http.response.start"
    found = [(name.decode(), value.decode("latin-1")) for name, value in start["headers"]]
    return Answer(start["status"], found, b"".join(message.get("body", b"") for message in rest))
