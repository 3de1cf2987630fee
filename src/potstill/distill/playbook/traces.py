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

from potstill.types import Struct

FRAGMENT_CHARACTERS = 40
"""As many characters in a row of a forgotten text, letters and digits with single spaces between words, are a trace."""
MAX_ESCAPED = 4
"""How many times over a text may have been escaped (JSON in JSON) and is still found."""
EXCERPT_CHARACTERS = 80

_WORDS = re.compile(r"[^\W_]+")
_ESCAPE = re.compile(r'\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|["\\/bfnrt])')
_SHORT = {'"': '"', "\\": "\\", "/": "/", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}


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
    found: list[Trace] = []
    for place, text in haystack:
        plain = tuple(_unescaped(text))
        forms = _padded(map(fold, plain))
        found += _whole(place, TraceKind.SOURCE, name, forms)
        found += (
            _whole(place, TraceKind.TEXT, wanted, forms)
            or _signs(place, signs, plain)
            or _fragment(place, bare, pieces, forms, fragment)
        )
    return tuple(found)


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


Pieces = dict[str, list[tuple[int, int]]]
"""A piece of half a fragment's length -> the texts that hold it, each with where it stands there."""


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
