"""uvicorn's HTTP protocol with bounds on how long a client may take to send a head and to read an answer.

What it knows: when the head of a request is being read, when nothing or little of an answer is taken, when the
connection is lost (``client.Watch`` asks), and which writes go out together. What it does not do: bodies of requests
(``bodies`` bounds those).
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from potstill.serve.clients.client import CONNECTION

MAX_HEAD_BYTES = 64 * 1024
STALLED_S = 1.0
"""A client whose connection is full for so long does not read, or so slowly that others need not wait for it."""
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
    """Closes connections that send no whole head within ``header_timeout_s``, and heads beyond ``MAX_HEAD_BYTES``; and
    those that take nothing of an answer for ``write_timeout_s``: then they are lost, as if the client had left."""

    header_timeout_s = 15.0
    write_timeout_s = 120.0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.lost = False
        self.on_lost: Callable[[], None] | None = None
        self._in_head = True
        self._head_bytes = 0
        self._deadline: asyncio.TimerHandle | None = None
        self._stalled: asyncio.TimerHandle | None = None
        self._unread = 0
        self._paused_at: float | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.joining = JoiningTransport(transport)
        self.transport = cast(asyncio.Transport, self.joining)
        self._arm()

    def connection_lost(self, exc: Exception | None) -> None:
        self._disarm()
        self._taken()
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

    # --- answers ------------------------------------------------------------------------------------------------------

    def pause_writing(self) -> None:
        """The client reads more slowly than it is written to."""
        super().pause_writing()
        self._paused_at = self.loop.time()
        if self._stalled is None:
            self._expect_reading()

    def reads(self) -> bool:
        """Whether the client takes what is written, or has not for less than ``STALLED_S``."""
        return self._paused_at is None or self.loop.time() - self._paused_at < STALLED_S

    def resume_writing(self) -> None:
        self._paused_at = None
        self._taken()
        super().resume_writing()

    def _expect_reading(self) -> None:
        self._unread = self._waiting_bytes()
        self._stalled = self.loop.call_later(self.write_timeout_s, self._look_whether_it_reads)

    def _look_whether_it_reads(self) -> None:
        """Nothing is written meanwhile, so what waits becomes less if anything is taken."""
        self._stalled = None
        if self._waiting_bytes() < self._unread:
            self._expect_reading()
        else:
            self.transport.abort()

    def _taken(self) -> None:
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None

    def _waiting_bytes(self) -> int:
        """What the client has not taken: ours, and where the system tells it, the kernel's, which takes more of ours
        only when much of its own has gone."""
        ours = self.transport.get_write_buffer_size()
        try:
            import fcntl
            import termios

            told = fcntl.ioctl(self.transport.get_extra_info("socket").fileno(), termios.TIOCOUTQ, bytes(4))
        except (ImportError, OSError):
            return ours
        return ours + int.from_bytes(told, sys.byteorder)
