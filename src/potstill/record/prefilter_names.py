"""Could a name for a secret stand in these bytes, with a value behind it? A part of ``prefilter``.

What it knows: that a colon or an equals sign stands between the two, how the names end, and how JSON escapes both. What
it does not do: secrets that are known by their own looks (``prefilter``). Says yes wherever a rule could match.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

_BEHIND = b"\"'\\ \t\r\n"
_BEHIND_NAME = bytes(1 if byte in _BEHIND else 0 for byte in range(256))
_MOST = 64
"""Bytes between a name and its sign; where there are more, nobody counts them."""
_LONGEST = 48
_SMALL = 16 * 1024
_FEW = 48
"""Signs that are looked at one by one: sooner done than all at once."""
_STEMS = (b"passw", b"secret", b"cookie", b"authorization", b"token", b"key")
"""Each name has one; all are soon looked for in few bytes."""
_CASES = 0x20202020
_LAST = frozenset(b"_key,-key, key,ikey,ekey,skey,cret,oken,word,sswd,okie,tion".split(b","))
_ENDS = sorted(int.from_bytes(end, "big") | _CASES for end in _LAST)
"""The last four bytes of the names, small or capital, as numbers."""
_TION = int.from_bytes(b"tion", "big") | _CASES
_OKEN = int.from_bytes(b"oken", "big") | _CASES
_BEFORE_TOKEN = sorted(b"_-shSH")
"""What stands before the word in such a name (accesstoken, refresh_token); log-probabilities repeat a bare one."""
_BETWEEN = rb"(?:\\[tnr]|[ \t\r\n\"'\\]){0,24}"
_KEY = re.compile(
    rb"(?i)(?:(?:api|private)[-_ ]?key|client[-_]?secret|(?:access|refresh)[-_]?token|secret[-_]?access[-_]?key)\Z"
)
_LONG = re.compile(_BETWEEN + rb"[A-Za-z0-9_+/.~\\-]{20}")
_VARIABLE = re.compile(rb"(?:API_?KEY|(?:ACCESS|SECRET|PRIVATE)_KEY|[A-Z0-9]_(?:SECRET|TOKEN|PASSWORD|PASSWD))\Z")
_SHORT = re.compile(_BETWEEN + rb"[^\s'\",;]{4}")
_FIELD = re.compile(
    rb"(?i)['\"](?:(?:proxy-)?authorization|(?:set-)?cookie|(?:x-)?(?:goog-)?api[-_]?key|(?:access|refresh)_token"
    rb"|client_secret|aws_secret_access_key|private_key)\Z"
)
_TEXT = re.compile(rb"(?:\s|\\[tnr])*+(?:\Z|\"(?!\")|'(?!')|\\++[\"'](?!\\*+[\"']))")
"""A text that is not empty, in one way of writing it."""
_HEADER = re.compile(rb"(?i)authorization\Z")
_COOKIE = re.compile(rb"(?i)cookie\Z")
_CRUMB = re.compile(_BETWEEN + rb"[^\s'\"=]{1,1600}=")
_NAMED = ((_KEY, _LONG), (_VARIABLE, _SHORT), (_HEADER, _SHORT), (_COOKIE, _CRUMB), (_FIELD, _TEXT))


def among(values: Any, known: Sequence[int]) -> Any:
    """Which of the values are among a few numbers in order."""
    import numpy as np

    numbers = np.array(known, np.uint32)
    return numbers[np.minimum(np.searchsorted(numbers, values), len(numbers) - 1)] == values


def holds_named(data: bytes) -> bool:
    """False: no built-in rule that wants a name before the secret matches, and no field of JSON is for secrets."""
    if len(data) < _SMALL and not _holds_stem(data.lower()):
        return False
    import numpy as np

    bytes_ = np.frombuffer(data, np.uint8)
    signs = np.flatnonzero((bytes_ == 58) | (bytes_ == 61))
    signs = signs[signs > 4]
    if not len(signs):
        return False
    if len(signs) <= _FEW:
        return any(_is_named_before(data, sign) for sign in signs.tolist())
    ends, skipped = _ends(bytes_, signs)
    if skipped:
        return True
    far = ends > 3
    ends, signs = ends[far], signs[far]
    last = (bytes_[ends - 3].astype(np.uint32) << 24) | (bytes_[ends - 2].astype(np.uint32) << 16)
    last |= (bytes_[ends - 1].astype(np.uint32) << 8) | bytes_[ends]
    last |= np.uint32(_CASES)
    named = among(last, _ENDS)
    named &= (last != _TION) | (bytes_[np.maximum(ends - 5, 0)] | 32 == ord("z"))  # of all ...tions, authorization
    named &= (last != _OKEN) | among(bytes_[np.maximum(ends - 5, 0)].astype(np.uint32), _BEFORE_TOKEN)
    pairs = zip(ends[named].tolist(), signs[named].tolist(), strict=True)
    return any(_is_named(data, end + 1, sign) for end, sign in pairs)


def _holds_stem(folded: bytes) -> bool:
    return any(stem in folded for stem in _STEMS)


def _ends(bytes_: Any, signs: Any) -> tuple[Any, bool]:
    """Where the names before the signs end, and whether there was one with too much behind it to say."""
    import numpy as np

    behind = np.frombuffer(_BEHIND_NAME, np.uint8)
    ends = signs - 1
    for _ in range(_MOST):
        more = behind[bytes_[ends]] & (ends > 0)
        if not more.any():
            return ends, False
        ends = ends - more
    return ends, True


def _is_named_before(data: bytes, sign: int) -> bool:
    before = data[max(0, sign - _MOST) : sign].rstrip(_BEHIND)
    if not before:
        return sign >= _MOST
    start = sign - min(sign, _MOST)
    return before[-4:].lower() in _LAST and _is_named(data, start + len(before), sign)


def _is_named(data: bytes, end: int, sign: int) -> bool:
    name = data[max(0, end - _LONGEST) : end]
    for names, value in _NAMED:
        if names.search(name) is None or value.match(data, sign + 1) is None:
            continue
        if names is not _FIELD or data[end : end + 1] in (b'"', b"'", b"\\"):
            return True
    variable = _VARIABLE.search(name) is not None and data[end : end + 1] in (b'"', b"\\")
    return variable and _TEXT.match(data, sign + 1) is not None
