"""Bytes stored as what differs from bytes that came before: byte-exact, and without knowing any dialect.

What it knows: common beginnings and ends, and a frame that holds what is left over. What it does not do: rows, which
earlier content to compare with, when to keep a full copy (``journal``).

An agent's request repeats its history: most of it is the beginning and the end of an earlier one. What stands between
is packed with Zstandard together with the answers, and what stood between the same two ends *before* serves as its
dictionary: a clock in the system prompt costs a few bytes, not the whole history.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

LEVEL = 1
"""Of Zstandard. 3 saves a twentieth of the bytes and takes half as much again."""
END_BYTES = 8 * 1024
"""How much of the content before serves as dictionary beside what stood between the ends."""
DICTIONARY_BYTES = 256 * 1024
"""Level 1 looks back 512 KiB at most."""
LITTLE = 16
"""A body that is like another but for a sixteenth is not compared with more."""
_SMALLEST_DICTIONARY = 8
_LENGTH_BYTES = 4
_FIRST_STEP, _FASTER = 8, 16

_layout_decoder: msgspec.msgpack.Decoder[Layout]


class Damaged(ValueError):
    """A frame that cannot have been written by ``encode`` with this base."""


class Piece(msgspec.Struct, frozen=True, array_like=True):
    """One body: where it is like another, and how many bytes it has of its own between."""

    source: int
    """0: like none; k: the base's body k - 1; -k: body k - 1 of its own content, which stands before it."""
    prefix: int
    suffix: int
    middle: int


class Layout(msgspec.Struct, frozen=True, array_like=True):
    pieces: tuple[Piece, ...]
    others: tuple[int, ...]
    """Lengths."""


class Content(NamedTuple):
    """``bodies`` are expected to repeat (requests), ``others`` are not (answers, fields)."""

    bodies: tuple[bytes, ...]
    others: tuple[bytes, ...]


class Base(NamedTuple):
    """What later content is compared with."""

    bodies: tuple[bytes, ...]
    end: bytes

    @property
    def size(self) -> int:
        return sum(map(len, self.bodies)) + len(self.end)


def base_of(content: Content) -> Base:
    end = b"".join(content.others)
    return Base(content.bodies, end[-END_BYTES:])


# --- comparing ------------------------------------------------------------------------------------------------------


def common_prefix(a: bytes, b: bytes, limit: int | None = None) -> int:
    """How many bytes, ``limit`` at most, both begin with: by bisection, each comparison one memcmp.

    Looked for from the end at first: histories that grow differ from what they were in their last few bytes.
    """
    high = min(len(a), len(b)) if limit is None else limit
    if a.startswith(b[:high]):
        return high
    low, step = 0, _FIRST_STEP  # the first ``low`` are known to be equal, the first ``high`` not to be
    while step < high:
        if a.startswith(b[: high - step]):
            low = high - step
            break
        high, step = high - step, step * _FASTER
    while high - low > 1:
        middle = (low + high) // 2
        if a.startswith(b[low:middle], low):
            low = middle
        else:
            high = middle
    return low


def common_suffix(a: bytes, b: bytes, limit: int | None = None) -> int:
    """How many bytes, ``limit`` at most, both end with."""
    high = min(len(a), len(b)) if limit is None else limit
    if a.endswith(b[len(b) - high :]):
        return high
    low = 0
    while high - low > 1:
        middle = (low + high) // 2
        if a.endswith(b[len(b) - middle : len(b) - low], 0, len(a) - low):
            low = middle
        else:
            high = middle
    return low


def pieces(bodies: Sequence[bytes], base: Base | None) -> tuple[Piece, ...]:
    """Each body against those of the base and those before it; the first that leaves little, or the least, is taken.

    The base's body in the same place comes first: it mostly is the same kind of request.
    """
    if base is not None and len(bodies) == len(base.bodies) == 1:
        return (_piece(1, bodies[0], base.bodies[0]),)
    found: list[Piece] = []
    sources = [] if base is None else list(enumerate(base.bodies, start=1))
    for number, body in enumerate(bodies, start=1):
        best = Piece(0, 0, 0, len(body))
        for source, other in sorted(sources, key=lambda pair: pair[0] != number) if len(sources) > 1 else sources:
            if best.source and best.middle * LITTLE <= len(body):
                break
            piece = _piece(source, body, other)
            if piece.middle < best.middle:
                best = piece
        found.append(best)
        sources.append((-number, body))
    return tuple(found)


def _piece(source: int, body: bytes, other: bytes) -> Piece:
    prefix = common_prefix(body, other)
    suffix = common_suffix(body, other, min(len(body), len(other)) - prefix)
    middle = len(body) - prefix - suffix
    return Piece(source, prefix, suffix, middle) if middle < len(body) else Piece(0, 0, 0, middle)


def own_bytes(found: Sequence[Piece]) -> int:
    """How many bytes are in no other body."""
    return found[0].middle if len(found) == 1 else sum([piece.middle for piece in found])


# --- frames ---------------------------------------------------------------------------------------------------------


def encode(content: Content, found: tuple[Piece, ...], base: Base | None) -> bytes:
    """The frame of a content whose ``pieces`` against the same base were found.

    >>> old = Content((b'{"say":["a"],"n":1}',), (b"yes",))
    >>> new = Content((b'{"say":["a","b"],"n":1}',), (b"no",))
    >>> base = base_of(old)
    >>> decode(encode(new, pieces(new.bodies, base), base), base) == new
    True
    """
    layout = msgspec.msgpack.encode(Layout(found, tuple(map(len, content.others))))
    middles = [body[piece.prefix : len(body) - piece.suffix] for body, piece in zip(content.bodies, found, strict=True)]
    packed = _pack(b"".join((*middles, *content.others)), _dictionary(found, base))
    return b"".join((len(layout).to_bytes(_LENGTH_BYTES), layout, packed))


def decode(frame: bytes, base: Base | None) -> Content:
    """What was encoded with this base. Raises ``Damaged``."""
    start = _LENGTH_BYTES + int.from_bytes(frame[:_LENGTH_BYTES])
    try:
        layout = _layout_decoder.decode(frame[_LENGTH_BYTES:start])
    except msgspec.MsgspecError as error:
        raise Damaged(f"its layout cannot be read: {error}") from error
    _check(layout, base)
    rest = _unpack(frame[start:], _dictionary(layout.pieces, base))
    if len(rest) != own_bytes(layout.pieces) + sum(layout.others):
        raise Damaged(f"it holds {len(rest)} bytes where its layout says another number")
    at = 0
    bodies: list[bytes] = []
    for piece in layout.pieces:
        middle = rest[at : at + piece.middle]
        at += piece.middle
        bodies.append(_joined(piece, middle, _source(piece, bodies, base)))
    others: list[bytes] = []
    for length in layout.others:
        others.append(rest[at : at + length])
        at += length
    return Content(tuple(bodies), tuple(others))


def _source(piece: Piece, own: Sequence[bytes], base: Base | None) -> bytes:
    if piece.source < 0:
        return own[-piece.source - 1]
    return b"" if base is None or piece.source == 0 else base.bodies[piece.source - 1]


def _joined(piece: Piece, middle: bytes, source: bytes) -> bytes:
    if piece.prefix + piece.suffix > len(source):
        raise Damaged("it repeats more bytes than what it is compared with has")
    return b"".join((source[: piece.prefix], middle, source[len(source) - piece.suffix :]))


def _check(layout: Layout, base: Base | None) -> None:
    held = 0 if base is None else len(base.bodies)
    for position, piece in enumerate(layout.pieces):
        if not -position <= piece.source <= held or min(piece.prefix, piece.suffix, piece.middle) < 0:
            raise Damaged(f"its body {position} is compared with one that is not there")
    if min(layout.others, default=0) < 0:
        raise Damaged("its layout has a negative length")


def _dictionary(found: Sequence[Piece], base: Base | None) -> bytes:
    """What stood in the base where the new bytes stand, then how the base ended; the nearest bytes last."""
    if base is None:
        return b""
    before = []
    for piece in found:
        if piece.source > 0 and piece.middle:
            body = base.bodies[piece.source - 1]
            before.append(body[piece.prefix : len(body) - piece.suffix])
    return b"".join((*before, base.end))[-DICTIONARY_BYTES:]


def _pack(data: bytes, dictionary: bytes) -> bytes:
    from potstill import zstandard

    if len(dictionary) < _SMALLEST_DICTIONARY:
        return zstandard.compress(data, LEVEL)
    return zstandard.compress(data, LEVEL, zstd_dict=zstandard.ZstdDict(dictionary, is_raw=True).as_prefix)


def _unpack(packed: bytes, dictionary: bytes) -> bytes:
    from potstill import zstandard

    try:
        if len(dictionary) < _SMALLEST_DICTIONARY:
            return zstandard.decompress(packed)
        return zstandard.decompress(packed, zstd_dict=zstandard.ZstdDict(dictionary, is_raw=True).as_prefix)
    except zstandard.ZstdError as error:
        raise Damaged(f"it cannot be unpacked: {error}") from error


_layout_decoder = msgspec.msgpack.Decoder(Layout)
