"""Bodies of requests on their way in, within limits of size, time, number and bytes in all.

What it knows: ASGI messages of a request. What it does not do: who may send one (``app`` asks first), or what a body
holds. A request whose body lies there whole, as nearly all do, waits for nobody and takes no place.
"""

from __future__ import annotations

import asyncio
import time
from typing import Protocol

from potstill.serve.clients.client import Connection, Message, Receive
from potstill.serve.clients.problems import Refused, refused
from potstill.serve.settings import Limits


class Arriving(Protocol):
    """A request whose head was read."""

    connection: Connection | None
    receive: Receive
    started: float
    """By ``time.perf_counter``."""

    def header(self, wanted: bytes) -> str | None: ...


HURRY_S = 0.5
"""What a body may take where as many as may be sent at a time are being sent already."""


class Bodies:
    """Reads them. Beside ``max_inflight`` requests that are served, as many may still be sending their bodies, and all
    of these together hold ``max_queue_bytes``."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.reading = 0
        """Requests whose bodies are not there to their ends."""
        self.bytes = 0
        """What came of them."""

    def check(self, call: Arriving) -> None:
        """Raises ``Refused`` for a body that the head says would not be taken."""
        encoding = call.header(b"content-encoding")
        if encoding not in (None, "identity"):
            raise refused(415, "invalid_request", f"Content-Encoding '{encoding}' is not understood; send plain JSON.")
        told = call.header(b"content-length")
        if told is not None and int(told) > self._limits.max_request_bytes:
            raise self._too_large(int(told))

    async def read(self, call: Arriving) -> bytes:
        """The whole body. Raises ``Refused`` for one that is too large, too slow or too many."""
        if call.connection is not None and call.connection.whole:
            body = _part_of(await call.receive())
            if len(body) > self._limits.max_request_bytes:
                raise self._too_large(len(body))
            return body
        if self.reading >= self._limits.max_inflight:
            return await self._hurried(call)
        self.reading += 1
        try:
            return await self._gathered(call, self._limits.body_timeout_s)
        finally:
            self.reading -= 1

    async def _hurried(self, call: Arriving) -> bytes:
        """Slow senders have all places: only who sends at once is read. Many clients send head and body apart."""
        try:
            return await self._gathered(call, HURRY_S)
        except Refused as refusal:
            if refusal.problem.kind != "timeout":
                raise
            raise _busy(f"{self.reading} requests are being sent already (max_inflight)") from None

    async def _gathered(self, call: Arriving, within_s: float) -> bytes:
        chunks, size = list[bytes](), 0
        until = call.started + within_s
        try:
            while True:
                message = await self._more(call, until - time.perf_counter())
                part = _part_of(message)
                chunks.append(part)
                size += len(part)
                self.bytes += len(part)
                if size > self._limits.max_request_bytes:
                    raise self._too_large(size)
                if not message["more_body"]:
                    return b"".join(chunks)
                if self.bytes > self._limits.max_queue_bytes and self.bytes > size:
                    raise _busy("The requests that are being sent hold all the memory for them (max_queue_bytes)")
        finally:
            self.bytes -= size

    async def _more(self, call: Arriving, within_s: float) -> Message:
        try:
            async with asyncio.timeout(max(0.0, within_s)):
                return await call.receive()
        except TimeoutError:
            allowed = self._limits.body_timeout_s
            raise refused(408, "timeout", f"The request's body did not come within {allowed:g} s.") from None

    def _too_large(self, size: int) -> Refused:
        limit = self._limits.max_request_bytes
        return refused(413, "too_large", f"The request has {size} bytes or more; {limit} are allowed.")


def _part_of(message: Message) -> bytes:
    if message["type"] == "http.disconnect":
        raise refused(499, "invalid_request", "The client left before its request was whole.")
    part: bytes = message["body"]
    return part


def _busy(why: str) -> Refused:
    return refused(503, "overloaded", f"{why}.", retry_after_s=1.0)
