"""Lines of large files: bounded in length, and in pieces that several processes can read.

What it knows: bytes and newlines. What it does not do: formats, or decoding.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

LINE_LIMIT = 64 * 2**20
"""Bytes. A longer line is passed over without being held in memory."""
PIECE_BYTES = 8 * 2**20
_BLOCK = 2**20


class TooLong(NamedTuple):
    """Stands for a line beyond the limit."""

    size: int


def numbered(
    file: BinaryIO, first: int = 1, *, limit: int = LINE_LIMIT, stop: int | None = None
) -> Iterator[tuple[int, bytes | TooLong]]:
    """Lines with their numbers, blank ones left out. ``stop``: how many bytes to read from where the file stands."""
    number, done = first - 1, 0
    readline = file.readline
    while stop is None or done < stop:
        line = readline(limit + 1)
        if not line:
            return
        number += 1
        done += len(line)
        if len(line) > limit and not line.endswith(b"\n"):
            rest = _pass_over(file)
            done += rest
            yield number, TooLong(len(line) + rest)
        elif not line.isspace():
            yield number, line


def _pass_over(file: BinaryIO) -> int:
    """Read to the end of the line; returns how many bytes that took."""
    passed = 0
    while block := file.readline(_BLOCK):
        passed += len(block)
        if block.endswith(b"\n"):
            break
    return passed


class Piece(NamedTuple):
    """A part of a file that starts at a line's start and stops behind a line's end."""

    start: int
    stop: int
    first_line: int


def pieces(path: str, size: int = PIECE_BYTES) -> Iterator[Piece]:
    """A file in pieces of about ``size`` bytes, with the number of each one's first line.

    Each piece is read once to count its lines, which also warms the system's cache for whoever parses it.
    """
    start, line = 0, 1
    with open(path, "rb", buffering=_BLOCK) as file:
        while True:
            read, count = _counted(file, size)
            if not read:
                return
            yield Piece(start, start + read, line)
            start += read
            line += count


def split(path: str, count: int) -> list[Piece]:
    """A file in ``count`` pieces of about the same size, fewer where lines are long."""
    return list(pieces(path, max(1, -(-os.path.getsize(path) // count))))


def _counted(file: BinaryIO, size: int) -> tuple[int, int]:
    """Bytes and newlines of the next piece, which is ``size`` bytes and the rest of the last line."""
    read = count = 0
    ended = True
    while read < size and (block := file.read(min(_BLOCK, size - read))):
        read += len(block)
        count += block.count(b"\n")
        ended = block.endswith(b"\n")
    if not ended and (rest := _pass_over(file)):
        read += rest
        count += 1
    return read, count
