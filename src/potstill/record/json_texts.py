"""Texts in JSON: found, decoded and written a piece at a time, so that no long one keeps other threads waiting.

What it knows: how JSON writes texts, and bytes that are no UTF-8 within them (they come back as they were). What it
does not do: values, or whether the JSON is well formed.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from typing import NamedTuple

PIECE = 64 * 1024
"""Bytes, or characters, of a text that one call of C looks at: well under 1 ms."""
_SHORT = re.compile(rb'"([^"\\]{0,16384}+(?:\\.[^"\\]{0,1024}+){0,64}+)(?:"(\s*+:)?|())|-?[0-9][0-9.eE+-]*+', re.DOTALL)
_MORE = re.compile(
    rb'(?:[^"\\]{1,4096}+|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|\\u[0-9a-fA-F]{4}|\\.){0,16}+',
    re.DOTALL,
)
_CLOSED = re.compile(rb'"(\s*+:)?')


class Token(NamedTuple):
    """A text with its quotes (``parts``: what stands between them, cut where that is possible), or a number (None).

    ``sign``: the colon behind the name of a field, with the space before it.
    """

    start: int
    end: int
    parts: list[bytes] | None
    sign: bytes | None


def tokens(data: bytes) -> Iterator[Token]:
    """All texts and numbers, in order. A text that does not end is none, nor is what stands behind its beginning."""
    at = 0
    while (found := _SHORT.search(data, at)) is not None:
        if found[1] is None or found[3] is None:
            parts = None if found[1] is None else [found[1]]
            token: Token | None = Token(found.start(), found.end(), parts, found[2])
        else:
            token = _long(data, found.start())
        if token is None:
            return
        yield token
        at = token.end


def _long(data: bytes, start: int) -> Token | None:
    parts, at = [], start + 1
    while (found := _MORE.match(data, at)) is not None and found[0]:
        parts.append(found[0])
        at = found.end()
    closed = _CLOSED.match(data, at)
    return None if closed is None else Token(start, closed.end(), parts, closed[1])


def decoded(parts: list[bytes]) -> str:
    """The text. Bytes that are no UTF-8 become surrogates; an escape that JSON does not have stays as it is."""
    if len(parts) == 1:
        return _unescaped(parts[0].decode("utf-8", "surrogateescape"))
    decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
    texts = [_unescaped(decoder.decode(part)) for part in parts]
    return "".join([*texts, decoder.decode(b"", True)])


def _unescaped(text: str) -> str:
    if "\\" not in text:
        return text
    try:
        plain: str = json.loads(f'"{text}"', strict=False)
    except ValueError:
        return text
    return plain


def encoded(text: str, parts: list[bytes]) -> bytes:
    """A text with its quotes. ``parts``: what it was before, which tells what its surrogates are."""
    written = [_encoded(text[at : at + PIECE], parts) for at in range(0, len(text), PIECE)]
    return b'"%b"' % b"".join(written)


def _encoded(text: str, parts: list[bytes]) -> bytes:
    plain = json.dumps(text, ensure_ascii=False)[1:-1]
    try:
        return plain.encode()
    except UnicodeEncodeError:
        if any(b"\\ud" in part.lower() for part in parts):
            return json.dumps(text)[1:-1].encode()
        return plain.encode("utf-8", "surrogateescape")
