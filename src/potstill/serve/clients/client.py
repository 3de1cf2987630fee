"""The client's side of one exchange: what is sent to it, when its first byte went out, and whether it is still there.

What it knows: ASGI messages. What it does not do: what an answer holds.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any, Protocol

from potstill.serve.clients.problems import Headers

PIECE = 64 * 1024
"""Bytes that are written at once: behind each it is waited until the connection has room again."""

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


def _pieces(chunk: bytes) -> Iterable[bytes | memoryview]:
    if len(chunk) <= PIECE:
        return (chunk,)
    view = memoryview(chunk)
    return (view[at : at + PIECE] for at in range(0, len(chunk), PIECE))


class Client:
    """Writes one answer. ``ours``: the gateway's own headers, which every answer carries. ``connection``: where it is
    known, the head of an answer and the beginning of its body go out together (never for ``HEAD``: no body follows)."""

    __slots__ = ("_connection", "_send", "first_byte_at", "ours", "started")

    def __init__(self, send: Send, ours: Headers, connection: Connection | None = None) -> None:
        self._send = send
        self._connection = connection
        self.ours = ours
        self.started = False
        self.first_byte_at: float | None = None
        """By ``time.perf_counter``."""

    async def whole(self, status: int, headers: Headers, body: bytes) -> None:
        length = (b"content-length", b"%d" % len(body))
        await self._start(status, [*headers, length], joined=True)
        await self.end(body)

    async def begin(self, status: int, headers: Headers, *, joined: bool = False) -> None:
        """``joined``: the first bytes of the body follow at once."""
        await self._start(status, headers, joined=joined)

    async def write(self, chunk: bytes) -> None:
        """Returns when the client has all but ``PIECE`` bytes or so, which are the connection's."""
        for piece in _pieces(chunk):
            await self._send({"type": "http.response.body", "body": piece, "more_body": True})

    async def end(self, chunk: bytes = b"") -> None:
        """As ``write``: a client that reads slowly holds one body, the caller's, and no copy in its connection."""
        if len(chunk) > PIECE:
            await self.write(chunk)
            chunk = b""
        await self._send({"type": "http.response.body", "body": chunk})

    async def _start(self, status: int, headers: Headers, *, joined: bool) -> None:
        self.started = True
        self.first_byte_at = time.perf_counter()
        if joined and self._connection is not None:
            self._connection.hold_head()
        await self._send({"type": "http.response.start", "status": status, "headers": [*headers, *self.ours]})


class Connection(Protocol):
    """A client's connection, where the server gives it in the scope: see ``CONNECTION``."""

    lost: bool
    on_lost: Callable[[], None] | None
    """Called once when the connection is lost."""

    @property
    def whole(self) -> bool:
        """Whether the request's body is there to its end: ``receive`` gives it at once."""

    def reads(self) -> bool:
        """False: for ``STALLED_S`` there was too much that the client had not taken."""

    def hold_head(self) -> None:
        """What is written next waits for what is written after it."""


CONNECTION = "potstill.connection"
"""The scope's key for it. Asking it costs less than a task that waits for ``http.disconnect``."""


class Watch:
    """Cancels the task that serves a request as soon as its client has left. Begin when the body was read."""

    __slots__ = ("_connection", "_task", "_watcher", "left")

    def __init__(self, receive: Receive, connection: Connection | None = None) -> None:
        self.left = False
        self._task = asyncio.current_task()
        self._connection = connection
        self._watcher: asyncio.Future[Message] | None = None
        if connection is None:
            self._watcher = asyncio.ensure_future(receive())
            self._watcher.add_done_callback(self._disconnected)
        elif connection.lost:
            self._gone()
        else:
            connection.on_lost = self._gone

    def _disconnected(self, watcher: asyncio.Future[Message]) -> None:
        if not watcher.cancelled():
            self._gone()

    def _gone(self) -> None:
        if self._task is not None:
            self.left = True
            self._task.cancel()

    def stop(self) -> None:
        if self._connection is not None:
            self._connection.on_lost = None
        if self._watcher is not None:
            self._watcher.remove_done_callback(self._disconnected)
            self._watcher.cancel()
