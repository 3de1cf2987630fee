"""An HTTP client's byte stream that is noted while it is read.

What it knows: httpx's two kinds of streams, which must be of httpx's own classes (of whichever httpx the client uses).
What it does not do: encodings, dialects, holding back a byte.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable, Iterator
from functools import lru_cache
from typing import Any

Done = Callable[[list[bytes], bool], None]
"""Told once: the chunks, and whether the stream was read to its end."""


class Noted:
    """What was read so far. ``finish`` counts once: at the end, on an error, when the stream is closed early, or when
    its episode ends before it."""

    def __init__(self, done: Done) -> None:
        self._done: Done | None = done
        self.chunks: list[bytes] = []

    def finish(self, complete: bool) -> None:
        done, self._done = self._done, None
        if done is not None:
            done(self.chunks, complete)


def recorded_stream(stream: Any, noted: Noted) -> Any:
    """``stream``, noted. Both kinds of interface are kept: some streams have both."""
    return _kinds(_package(type(stream)))(stream, noted)


def _package(kind: type) -> str:
    for base in kind.__mro__:
        if base.__name__ in ("SyncByteStream", "AsyncByteStream"):
            return base.__module__.partition(".")[0]
    return kind.__module__.partition(".")[0]


@lru_cache(maxsize=4)
def _kinds(package: str) -> Callable[[Any, Noted], Any]:
    module = sys.modules[package]
    sync_base: Any = module.SyncByteStream
    async_base: Any = module.AsyncByteStream

    class NotedStream(sync_base):  # type: ignore[misc]
        def __init__(self, stream: Any, noted: Noted) -> None:
            self._stream, self._noted = stream, noted

        def __iter__(self) -> Iterator[bytes]:
            for chunk in self._stream:
                self._noted.chunks.append(chunk)
                yield chunk
            self._noted.finish(True)

        def close(self) -> None:
            try:
                self._stream.close()
            finally:
                self._noted.finish(False)

    class AsyncNotedStream(async_base):  # type: ignore[misc]
        def __init__(self, stream: Any, noted: Noted) -> None:
            self._stream, self._noted = stream, noted

        async def __aiter__(self) -> AsyncIterator[bytes]:
            async for chunk in self._stream:
                self._noted.chunks.append(chunk)
                yield chunk
            self._noted.finish(True)

        async def aclose(self) -> None:
            try:
                await self._stream.aclose()
            finally:
                self._noted.finish(False)

    def made(stream: Any, noted: Noted) -> Any:
        return AsyncNotedStream(stream, noted) if isinstance(stream, async_base) else NotedStream(stream, noted)

    return made
