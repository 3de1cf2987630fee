"""Could these bytes hold a secret? Answered for clean bodies at memory's pace, so that only the others are parsed.

What it knows: that every key is a long run of word characters, and the few words and shapes that other secrets stand
beside. It may say yes to a clean body (which then costs a parse), and says no only where no built-in rule can match.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from potstill.record.secrets_rules import luhn

_WORD = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-"
_CLASSES = bytes(1 if byte in _WORD else 0 for byte in range(256))
_FIRST = frozenset(
    b"sk- sk_ rk_ AKI ASI ABI ACC ghp gho ghu ghs ghr git glp xox AIz hf_ npm gsk xai ppl r8_ dck eyJ".split()
)
_INNER = re.compile(rb"[_-]sk-")
_HEAD = 48
"""So far into a run a key may begin, behind a name (and an escape's letters)."""
_BETWEEN = b" \t\r\n\\\"':="
_BESIDE = (b"key", b"secret", b"token", b"bearer", b"sg.", b"ya29.")
_BEFORE, _URL = 20, 310
_WORDS = (b"-----BEGIN", b"uthorization", b"ookie")
_ESCAPED = re.compile(rb"\\u00[2-7]")
_CARD = re.compile(
    rb"(?<![0-9A-Za-z.])(?=[0-9]{4}[ -]?[0-9]{4}[ -]?[0-9]{4}[ -]?[0-9]{2}|[0-9]{4}[ -]?[0-9]{6}[ -]?[0-9]{4})"
)
"""Where a card's number may begin, before its digits were added up."""
_NUMBERS = [
    re.compile(rb"[0-9]{4}[ -]?" + rest)
    for rest in (
        *(rb"[0-9]{4}[ -]?[0-9]{4}[ -]?[0-9]{%d}" % last for last in (2, 3, 4)),
        *(rb"[0-9]{4}[ -]?[0-9]{4}[ -]?[0-9]{%d}[ -]?[0-9]{3}" % last for last in (2, 3, 4)),
        *(rb"[0-9]{6}[ -]?[0-9]{%d}" % last for last in (4, 5)),
    )
]
_ESCAPED_CARD = re.compile(rb"\\[nrtbf](?:[0-9][ -]?){14}|\\u[0-9a-f]{4}(?:[0-9][ -]?){14}")
_CARD_DIGITS = 14
_GROUP = 8
_ONES = 0x0101010101010101


def may_hold_secret(data: bytes) -> bool:
    """False: no built-in rule matches (a text that is written in ASCII escapes counts as one that may)."""
    if any(word in data for word in _WORDS):
        return True
    if b"\\" in data and b"\\u00" in data and _ESCAPED.search(data):
        return True
    at = data.find(b"@")
    while at >= 0:
        if b"://" in data[max(0, at - _URL) : at]:
            return True
        at = data.find(b"@", at + 1)
    return _key(data) or _card(data)


def _key(data: bytes) -> bool:
    """Whether a long run of word characters begins as a key does, or stands beside a word for one."""
    for start in _long_runs(data):
        if data[start : start + 3] in _FIRST or _INNER.search(data, start, start + _HEAD):
            return True
        if data[start - 1 : start] == b"\\" and _behind_escape(data, start) in _FIRST:
            return True
        if data[max(0, start - _BEFORE) : start].rstrip(_BETWEEN).lower().endswith(_BESIDE):
            return True
    return False


def _behind_escape(data: bytes, start: int) -> bytes:
    r"""What a run begins with, without the letter (and the digits) of an escape such as ``\n`` or ``\u00e9``."""
    skip = 5 if data[start : start + 1] == b"u" else 1
    return data[start + skip : start + skip + 3]


def _long_runs(data: bytes) -> Iterator[int]:
    """Where runs of at least 20 word characters begin: each fills four aligned groups of four bytes."""
    import numpy as np

    classes = data.translate(_CLASSES) + bytes(-len(data) % 4 + 4)
    full = np.frombuffer(classes, np.uint32) == 0x01010101
    inside = full[:-3] & full[1:-2] & full[2:-1] & full[3:]
    end = 0
    for group in np.flatnonzero(inside).tolist():
        at = 4 * group
        if at >= end:
            end = classes.find(b"\x00", at)
            yield classes.rfind(b"\x00", 0, at) + 1


def _card(data: bytes) -> bool:
    """Whether a card's number stands somewhere, in one piece or in groups.

    It fills at least one aligned group of eight bytes with digits and separators, and has 14 digits there and in the
    groups beside.
    """
    if len(data) < 64:
        return _card_within(data, 0, len(data))
    import numpy as np

    bytes_ = np.frombuffer(data + bytes(-len(data) % _GROUP + _GROUP), np.uint8)
    digits = (bytes_ - np.uint8(48)) < np.uint8(10)
    full = (digits | (bytes_ == 32) | (bytes_ == 45)).view(np.uint64) == _ONES
    counts = (digits.view(np.uint64) * np.uint64(_ONES)) >> np.uint64(56)
    close = counts.copy()
    close[1:] += counts[:-1]
    close[:-1] += counts[1:]
    groups = np.flatnonzero(full & (close >= _CARD_DIGITS)).tolist()
    return any(_card_within(data, max(0, _GROUP * (g - 2)), _GROUP * (g + 3)) for g in groups)


def _card_within(data: bytes, start: int, end: int) -> bool:
    """Whether the digits there can be a card's: most long numbers cannot. Behind an escape nobody adds them up."""
    if _ESCAPED_CARD.search(data, start, end) is not None:
        return True
    return any(_is_card(data, found.start()) for found in _CARD.finditer(data, start, end))


def _is_card(data: bytes, start: int) -> bool:
    found = (number.match(data, start) for number in _NUMBERS)
    return any(luhn(one[0].decode()) for one in found if one is not None)
