"""uvicorn's HTTP protocol with bounds on what a client may take its time for before a request is whole.

What it knows: when the head of a request is being read, when the connection is lost (``client.Watch`` asks), and which
writes go out together. What it does not do: bodies (``app`` bounds those).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from potstill.serve.client import CONNECTION

MAX_HEAD_BYTES = 64 * 1024
_TOO_LARGE = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-type: application/json\r\n"
    b'content-length: 71\r\n\r\n{"error":{"message":"The head of the request is longer than 64 KiB."}}\n'
)


class JoiningTransport:
    """A transport on which the head of an answer can wait for the beginning of its body: one packet for both."""

    __slots__ = ("_held", "_holds", "_transport", "is_closing")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._held = b""
        self._holds = False
        self.is_closing = transport.is_closing

    def hold(self) -> None:
        self._holds = True

    def write(self, data: bytes) -> None:
        if self._holds:
            self._holds = False
            self._held += data
        elif self._held:
            held, self._held = self._held, b""
            self._transport.writelines((held, data))
        else:
            self._transport.write(data)

    def close(self) -> None:
        if self._held:
            self.write(b"")
        self._transport.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class BoundedProtocol(HttpToolsProtocol):
    """Closes connections that send no whole head within ``header_timeout_s``, and heads beyond ``MAX_HEAD_BYTES``."""

    header_timeout_s = 15.0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.lost = False
        self.on_lost: Callable[[], None] | None = None
        self._in_head = True
        self._head_bytes = 0
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.joining = JoiningTransport(transport)
        self.transport = cast(asyncio.Transport, self.joining)
        self._arm()

    def connection_lost(self, exc: Exception | None) -> None:
        self._disarm()
        super().connection_lost(exc)
        self.lost = True
        if self.on_lost is not None:
            self.on_lost()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if not self._in_head or self.transport.is_closing():
            return
        self._head_bytes += len(data)
        if self._head_bytes > MAX_HEAD_BYTES:
            self.transport.write(_TOO_LARGE)
            self.transport.close()
        elif self._deadline is None:
            self._arm()

    def on_message_begin(self) -> None:
        self._in_head, self._head_bytes = True, 0
        super().on_message_begin()
        self.scope[CONNECTION] = self  # type: ignore[literal-required]

    @property
    def whole(self) -> bool:
        """Whether the body of the request that was read last is there to its end."""
        return self.cycle is not None and not self.cycle.more_body

    def hold_head(self) -> None:
        self.joining.hold()

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._disarm()
        super().on_headers_complete()

    def _arm(self) -> None:
        self._deadline = self.loop.call_later(self.header_timeout_s, self._too_slow)

    def _disarm(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _too_slow(self) -> None:
        self._deadline = None
        if not self.transport.is_closing():
            self.transport.close()
