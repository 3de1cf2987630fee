"""The bytes of an answer while it goes through: held once, whole for the record or only as its two ends.

What it knows: sizes, and where events of a stream may be cut. What it does not do: count them against a bound
(``recording.recorder``), or say how a stream ended (``upstreams.told``): that must not hang on what is kept.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable

EDGE = 64 * 1024
"""Bytes of each end of an answer that nobody records: its ids stand there."""
LAST = 1024 * 1024
"""Bytes of the last event, which stays whole if it is no longer: some dialects repeat the whole answer in it."""
_BLANKS = (b"\n\n", b"\r\n\r\n", b"\r\r")
_BLANK = re.compile(rb"\n\n|\r\n\r\n|\r\r")


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
            while self._chunks and (self._size - len(self._chunks[0]) >= EDGE or self._size > EDGE + LAST):
                self._size -= len(self._chunks.popleft())

    def cut(self) -> None:
        """Nobody records it: let the middle go, now and of what still comes."""
        if self._head is not None:
            return
        whole = self.joined()
        if len(whole) <= 2 * EDGE:
            self._head, tail = whole, b""
        else:
            self._head, tail = whole[: _last_blank(whole, EDGE)], _tail(whole)
        self._chunks, self._size = deque([tail]), len(tail)

    def joined(self) -> bytes:
        """All of it; afterwards that is what is held, and not the chunks too."""
        if len(self._chunks) > 1:
            self._chunks = deque([b"".join(self._chunks)])
        return (self._head or b"") + self._chunks[0] if self._chunks else self._head or b""


def _last_blank(whole: bytes, before: int) -> int:
    """Where the last event ends that ends there; 0: none does."""
    return max(found + len(blank) if (found := whole.rfind(blank, 0, before)) >= 0 else 0 for blank in _BLANKS)


def _tail(whole: bytes) -> bytes:
    """Whole events of the last ``EDGE`` bytes; the last one alone if it is longer, but for one beyond ``LAST``."""
    blank = _BLANK.search(whole, len(whole) - EDGE)
    begin = len(whole) if blank is None else blank.end()
    if begin >= len(whole):
        begin = _last_blank(whole, len(whole) - EDGE)
    return whole[begin:] if len(whole) - begin <= LAST else b""
