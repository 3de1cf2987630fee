"""Where forgotten words still stand: the scan that proves a forgetting.

What it knows: how a text looks after JSON, HTML or another case have been at it, and what counts as a piece of it.
What it does not do: erase (``forgetting``), or read tables: it is handed places and what stands there.
"""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Iterable, Iterator
from enum import StrEnum
from itertools import compress

from potstill.types import Struct

FRAGMENT_CHARACTERS = 40
"""As many characters in a row of a forgotten text, letters and digits with single spaces between words, are a trace."""
MAX_ESCAPED = 4
"""How many times over a text may have been escaped (JSON in JSON) and is still found."""
EXCERPT_CHARACTERS = 80
_AT_ONCE, _CHARACTERS = 1024, 1 << 20
"""Texts that are looked at at once, and of how many characters together."""
_MANY = 32  # texts from which on that is quicker than one by one
_LEAST_PIECE = 8

_WORDS = re.compile(r"[^\W_]+")
_ESCAPE = re.compile(r'\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|["\\/bfnrt])')
_FOLDED = {code: chr(code).lower() if chr(code).isalnum() else " " for code in range(128)}
_SHORT = {'"': '"', "\\": "\\", "/": "/", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}


Pieces = dict[str, list[tuple[int, int]]]
"""A piece of half a fragment's length -> the texts that hold it, each with where it stands there."""


class TraceKind(StrEnum):
    """What was found."""

    SOURCE = "source"
    """The id of the source."""
    TEXT = "text"
    """A whole text."""
    FRAGMENT = "fragment"
    """A piece of a text, of ``FRAGMENT_CHARACTERS`` or more."""


class Trace(Struct, frozen=True, kw_only=True):
    """One place that still holds something."""

    place: str
    kind: TraceKind
    excerpt: str
    """Of what was found, folded (lower case, words and single spaces) where it has words, cut to
    ``EXCERPT_CHARACTERS``."""


def fold(text: str) -> str:
    """Lower case, letters and digits only, one space between words: what spelling, markup and line breaks leave alone.

    >>> fold("Check  the\\n**Units** first!")
    'check the units first'
    """
    if text.isascii():
        return " ".join(text.translate(_FOLDED).split())
    return " ".join(_WORDS.findall(unicodedata.normalize("NFKC", text).casefold()))


def traces(
    texts: Iterable[str], source: str, haystack: Iterable[tuple[str, str]], *, fragment: int = FRAGMENT_CHARACTERS
) -> tuple[Trace, ...]:
    """Every place of ``haystack`` (a name and what stands there) that holds ``source``, one of ``texts`` or a piece.

    Found also where case, spaces or punctuation differ and where it was escaped for JSON or HTML. A text shorter than a
    fragment is found between word boundaries only, and then also where chance put the same words. One finding for each
    kind at a place, the whole text before the piece; none: the proof. ``fragment``: characters; at least 8.
    """
    if fragment < 8:
        raise ValueError(f"fragment is {fragment} characters; allowed is 8 or more: shorter pieces stand everywhere.")
    texts = tuple(texts)
    wanted = _padded(folded for text in texts for folded in map(fold, _unescaped(text)))
    name = _padded([fold(source)])
    signs = tuple(text.strip() for text in texts if text.strip() and not fold(text))
    bare = tuple(text.strip() for text in wanted)
    pieces = _pieces(bare, (fragment + 1) // 2)
    short = tuple(text for text, plain in zip(wanted, bare, strict=True) if len(plain) < fragment)
    least = min((len(text) for text in (*bare, *signs, *(one.strip() for one in name))), default=0)
    found: list[Trace] = []
    clean: set[str] = set()
    looked_at = haystack if signs else _suspected(haystack, (*name, *short), pieces, (fragment + 1) // 2)
    for place, text in looked_at:
        if text in clean or (len(text) < least and text.isascii()):
            continue
        plain, forms = _forms(text)
        piece = _fragment(place, bare, pieces, forms, fragment)
        here = _whole(place, TraceKind.SOURCE, name, forms)
        here += (  # a text as long as a piece stands only where a piece of it does
            _whole(place, TraceKind.TEXT, wanted if piece else short, forms) or _signs(place, signs, plain) or piece
        )
        found += here
        if not here and len(text) <= EXCERPT_CHARACTERS:  # names stand in many places
            clean.add(text)
    return tuple(found)


def _suspected(
    haystack: Iterable[tuple[str, str]], words: tuple[str, ...], pieces: Pieces, length: int
) -> Iterator[tuple[str, str]]:
    """Those that may hold something, in their order; where there are many, most of the others are left out."""
    from potstill.distill.playbook.suspects import Suspects

    suspects = None
    for block in _blocks(haystack):
        if length < _LEAST_PIECE or len(block) < _MANY:
            yield from block
            continue
        suspects = suspects or Suspects(words, pieces.keys(), length)
        yield from compress(block, suspects.among([text for _, text in block]))


def _blocks(haystack: Iterable[tuple[str, str]]) -> Iterator[list[tuple[str, str]]]:
    """In their order, so many at a time that memory stays what it is however long the texts are."""
    block: list[tuple[str, str]] = []
    characters = 0
    for one in haystack:
        block.append(one)
        characters += len(one[1])
        if len(block) == _AT_ONCE or characters >= _CHARACTERS:
            yield block
            block, characters = [], 0
    if block:
        yield block


def _forms(text: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The text as it is and unescaped, and each of these folded."""
    if "\\" not in text and "&" not in text:
        folded = fold(text)
        return (text,), (f" {folded} ",) if folded else ()
    plain = tuple(_unescaped(text))
    return plain, _padded(map(fold, plain))


def _unescaped(text: str) -> Iterator[str]:
    """The text, and what it is when it is read as escaped once, twice, ..."""
    yield text
    for _ in range(MAX_ESCAPED):
        if "\\" not in text and "&" not in text:
            return
        plain = html.unescape(_ESCAPE.sub(_unescape, text))
        if plain == text:
            return
        text = plain
        yield text


def _unescape(match: re.Match[str]) -> str:
    escape = match.group()[1:]
    if not escape.startswith("u"):
        return _SHORT[escape]
    units = b"".join(int(unit, 16).to_bytes(2, "big") for unit in escape[1:].split("\\u"))
    return units.decode("utf-16-be", errors="replace")


def _padded(texts: Iterable[str]) -> tuple[str, ...]:
    """With a word boundary at either end; each once, and none for a text without words."""
    return tuple(dict.fromkeys(f" {text} " for text in texts if text))


def _whole(place: str, kind: TraceKind, wanted: tuple[str, ...], forms: tuple[str, ...]) -> list[Trace]:
    for form in forms:
        for text in wanted:
            if text in form:
                return [Trace(place=place, kind=kind, excerpt=text.strip()[:EXCERPT_CHARACTERS])]
    return []


def _signs(place: str, wanted: tuple[str, ...], plain: tuple[str, ...]) -> list[Trace]:
    """Texts without a letter or digit: as they are."""
    for text in wanted:
        if any(text in form for form in plain):
            return [Trace(place=place, kind=TraceKind.TEXT, excerpt=text[:EXCERPT_CHARACTERS])]
    return []


def _pieces(wanted: tuple[str, ...], length: int) -> Pieces:
    pieces: Pieces = {}
    for number, text in enumerate(wanted):
        for start in range(len(text) - length + 1):
            pieces.setdefault(text[start : start + length], []).append((number, start))
    return pieces


def _fragment(
    place: str, wanted: tuple[str, ...], pieces: Pieces, forms: tuple[str, ...], fragment: int
) -> list[Trace]:
    """Looks at each half fragment's length only: whatever is as long as a fragment covers one such step whole."""
    length = (fragment + 1) // 2
    for form in forms:
        if len(form) < fragment:
            continue
        for start in range(0, len(form) - length + 1, length):
            for number, at in pieces.get(form[start : start + length], ()):
                common = _common(form, start, wanted[number], at, length)
                if len(common) >= fragment:
                    excerpt = common[:EXCERPT_CHARACTERS]
                    return [Trace(place=place, kind=TraceKind.FRAGMENT, excerpt=excerpt)]
    return []


def _common(left: str, i: int, right: str, j: int, length: int) -> str:
    """The longest common stretch around ``left[i:i + length] == right[j:j + length]``."""
    start = 0
    while start < min(i, j) and left[i - start - 1] == right[j - start - 1]:
        start += 1
    end = length
    while end < min(len(left) - i, len(right) - j) and left[i + end] == right[j + end]:
        end += 1
    return left[i - start : i + end]
