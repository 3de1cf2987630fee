"""The bytes of an answer while it goes through: held once, whole for the record or only as its two ends.

What it knows: sizes, and where events of a stream may be cut. What it does not do: count them against a bound
(``recording.recorder``).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

EDGE = 64 * 1024
"""Bytes of each end of an answer that nobody records: its usage, and how it ended, stand there."""


class Kept:
    """Chunks that become one body. Once ``cut``, only the events at both ends of a stream stay."""

    __slots__ = ("_chunks", "_head", "_size")

    def __init__(self, chunks: Iterable[bytes] = ()) -> None:
        self._chunks = deque(chunks)
        self._size = sum(map(len, self._chunks))
        self._head: bytes | None = None

    def append(self, chunk: bytes) -> None:
        self._chunks.append(chunk)
        self._size += len(chunk)
        if self._head is not None:
            while self._size - len(self._chunks[0]) >= EDGE:
                self._size -= len(self._chunks.popleft())

    def cut(self) -> None:
        """Nobody records it: let the middle go, now and of what still comes."""
        if self._head is not None:
            return
        whole = self.joined()
        if len(whole) <= 2 * EDGE:
            self._head = b""
            return
        self._head = whole[: whole.rfind(b"\n\n", 0, EDGE) + 2] if b"\n\n" in whole[:EDGE] else b""
        after = whole.find(b"\n\n", len(whole) - EDGE)
        tail = whole[after + 2 :] if after >= 0 else b""
        self._chunks, self._size = deque([tail]), len(tail)

    def joined(self) -> bytes:
        """All of it; afterwards that is what is held, and not the chunks too."""
        if len(self._chunks) > 1:
            self._chunks = deque([b"".join(self._chunks)])
        return (self._head or b"") + self._chunks[0] if self._chunks else self._head or b""
