"""Could these bytes hold a secret? Answered for clean bodies at memory's pace, so that only the others are parsed.

What it knows: that every key is a long run of word characters, and the few words and shapes that other secrets stand
beside. It may say yes to a clean body (which then costs a parse), and says no only where no built-in rule can match.
"""

from __future__ import annotations

import re
from typing import Any

from potstill.record.pieces import holds, within
from potstill.record.prefilter_names import among, holds_named
from potstill.record.secrets_rules import luhn

_WORD = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-"
_CLASSES = bytes(1 if byte in _WORD else 0 for byte in range(256))
_BEGINS = re.compile(
    rb"sk[-_]|rk_|(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16}|gh[pousr]_|github_pat_|glpat-|xox[abeoprs]-|AIza|hf_|npm_|gsk_"
    rb"|xai-|pplx-|r8_|dckr_pat_|eyJ[A-Za-z0-9_-]{17,4000}\.eyJ"
)
_THREE = b"sk- sk_ rk_ AKI ASI ABI ACC ghp gho ghu ghs ghr git glp xox AIz hf_ npm gsk xai ppl r8_ dck eyJ"
_FIRST = sorted(int.from_bytes(first, "big") for first in _THREE.split())
"""What ``_BEGINS`` may begin with, as numbers of three bytes."""
_INNER = re.compile(rb"[_-]sk-")
_HEAD = 48
"""So far into a run a key may begin, behind a name (and an escape's letters)."""
_BEFORE_RUN = bytes(1 if byte in b" \t\r\n\\." else 0 for byte in range(256))
"""What may stand between a word that announces a key and the key: the end of an escape, too."""
_BESIDE = re.compile(rb"(?i)(?:bearer(?:[ \t\r\n]|\\[tnr]){0,3}\\?|\bsg\.|\bya29\.|\\[nrt](?:sg|ya29)\.)\Z")
_BEFORE = 20
_BEGIN = b"-----BEGIN"
_TO_SLASHES = re.compile(rb":\\{0,9}/\\{0,9}/\Z")
_USER = re.compile(rb"[^\s:@'\"]{1,1200}:[^\s@'\"]{3,2400}")
_URL = 3700
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
_REACH = 4096
"""More than any shape here reads before or behind the place that it is known by; a JWT's second part is looked for
wherever it is."""
_SIZE = 256 * 1024
"""Bytes that are looked at in one go: what numpy holds beside them is a few times as much."""


def may_hold_secret(data: bytes) -> bool:
    """False: no built-in rule matches (a text that is written in ASCII escapes counts as one that may)."""
    return holds(data, _BEGIN) or within(data, _may_hold, _REACH, _SIZE) or _jwt_over_edges(data)


def _may_hold(data: bytes) -> bool:
    if b"\\" in data and b"\\u00" in data and _ESCAPED.search(data):
        return True
    return _url(data) or _key(data) or holds_named(data) or _card(data)


def _url(data: bytes) -> bool:
    """Whether a name and a password stand before an ``@``, behind the last slash there is."""
    at = data.find(b"@")
    while at >= 0:
        slash = data.rfind(b"/", max(0, at - _URL), at)
        after_slashes = slash >= 0 and _TO_SLASHES.search(data[max(0, slash - 20) : slash + 1])
        if after_slashes and _USER.fullmatch(data, slash + 1, at):
            return True
        at = data.find(b"@", at + 1)
    return False


def _jwt_over_edges(data: bytes) -> bool:
    """Whether a JWT may stand where the data were cut: its first part is longer than the cuts reach."""
    return len(data) > _SIZE and holds(data, b".eyJ")


def _key(data: bytes) -> bool:
    """Whether a long run of word characters begins as a key does, or stands beside a word for one."""
    import numpy as np

    starts = _long_runs(data)
    if not len(starts):
        return False
    bytes_ = np.frombuffer(data + b"\x00\x00", np.uint8)
    first = (bytes_[starts].astype(np.uint32) << 16) | (bytes_[starts + 1].astype(np.uint32) << 8) | bytes_[starts + 2]
    if any(_BEGINS.match(data, start) for start in starts[among(first, _FIRST)].tolist()):
        return True
    if any(_INNER.search(data, start, start + _HEAD) for start in _inner(data, starts)):
        return True
    before = np.where(starts > 0, bytes_[starts - 1], 0)
    return any(_beside(data, start) for start in starts[np.frombuffer(_BEFORE_RUN, np.uint8)[before] == 1].tolist())


def _inner(data: bytes, starts: Any) -> list[int]:
    """The runs that may have a key behind a name: none where nothing looks like it."""
    found: list[int] = starts.tolist() if b"-sk-" in data or b"_sk-" in data else []
    return found


def _beside(data: bytes, start: int) -> bool:
    if data[start - 1 : start] == b"\\" and _begins_behind_escape(data, start):
        return True
    return _BESIDE.search(data[max(0, start - _BEFORE) : start]) is not None


def _begins_behind_escape(data: bytes, start: int) -> bool:
    r"""Whether a run begins as a key does, without the letter (and the digits) of an escape such as ``\n`` or
    ``\u00e9``."""
    skip = 5 if data[start : start + 1] == b"u" else 1
    return _BEGINS.match(data, start + skip) is not None


def _long_runs(data: bytes) -> Any:
    """Where runs of at least 20 word characters begin: each fills four aligned groups of four bytes."""
    import numpy as np

    classes = data.translate(_CLASSES) + bytes(-len(data) % 4 + 4)
    full = np.frombuffer(classes, np.uint32) == 0x01010101
    inside = np.flatnonzero(full[:-3] & full[1:-2] & full[2:-1] & full[3:])
    if not len(inside):
        return inside
    others = np.flatnonzero(np.frombuffer(classes, np.uint8) == 0)  # the padding is among them
    behind = np.searchsorted(others, 4 * inside)
    behind = behind[np.flatnonzero(np.diff(behind, prepend=-1))]
    return np.where(behind > 0, others[behind - 1] + 1, 0)


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
