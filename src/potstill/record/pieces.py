"""Searches long texts a piece at a time: the same matches, and no single call of C that keeps other threads waiting.

What it knows: that Python's matcher and ``find`` hold the interpreter's lock from their beginning to their end, and how
far a rule looks. What it does not do: rules (``secrets_rules``), or what becomes of a match.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, AnyStr

if TYPE_CHECKING:
    from potstill.record.secrets_rules import Rule

PIECE = 32 * 1024
"""Characters in which a match of a rule may begin, for one call: 1 ms or less."""
WINDOW = 1024 * 1024
"""Characters that one plain ``find`` looks at: well under 1 ms."""
SEGMENT = 64 * 1024
"""Bytes of a stream that one pattern of JSON looks at: about 1 ms."""
LONGEST_NEED = 64
SHORT = 1024
"""Characters of a text that is searched as a whole."""
SPARSE = 8
"""Up to so many places of a piece where a match may begin are tried one by one; beyond, the piece is searched."""


def holds(data: AnyStr, needle: AnyStr) -> bool:
    """``needle in data``, in windows."""
    if len(data) <= WINDOW:
        return needle in data
    reach = len(needle) - 1
    return any(data.find(needle, at, at + WINDOW + reach) >= 0 for at in range(0, len(data), WINDOW))


def holds_any(data: AnyStr, needles: Iterable[AnyStr]) -> bool:
    return any(holds(data, needle) for needle in needles)


class Needs:
    """What of the needs of rules a text holds; each is looked for once."""

    def __init__(self, text: str) -> None:
        reach = WINDOW + LONGEST_NEED
        self._windows = [text] if len(text) <= WINDOW else [text[at : at + reach] for at in range(0, len(text), WINDOW)]
        self._folded: list[str] | None = None
        self._known: dict[tuple[bool, str], bool] = {}

    def met(self, rule: Rule) -> bool:
        """Whether the text holds any of what a match of this rule needs."""
        return not rule.needs or any(self._holds(rule.folds, need) for need in rule.needs)

    def _holds(self, folds: bool, need: str) -> bool:
        known = self._known.get((folds, need))
        if known is None:
            known = self._known[folds, need] = any(need in window for window in self._texts(folds))
        return known

    def _texts(self, folds: bool) -> list[str]:
        if not folds:
            return self._windows
        if self._folded is None:
            self._folded = [window.lower() for window in self._windows]
        return self._folded


def within(data: bytes, looks: Callable[[bytes], bool], reach: int, size: int = WINDOW) -> bool:
    """Whether ``looks`` says yes to a window of the data, each ``reach`` longer at both ends than what is new in it."""
    if len(data) <= size + reach:
        return looks(data)
    return any(looks(data[max(0, at - reach) : at + size + reach]) for at in range(0, len(data), size))


def segments(data: bytes, size: int = SEGMENT) -> Iterator[bytes]:
    """The data cut behind ends of lines, into pieces of ``size`` or as much longer as a line is."""
    at = 0
    while at < len(data):
        end = data.find(b"\n", at + size) + 1 or len(data)
        yield data[at:end] if at or end < len(data) else data
        at = end


def substituted(rule: Rule, text: str, masked: Callable[[re.Match[str]], str], piece: int = PIECE) -> str:
    """``rule.pattern.sub(masked, text)``, a piece at a time where the rule says how far it looks."""
    if not rule.reach or len(text) <= min(piece, SHORT if rule.needs else piece):
        return rule.pattern.sub(masked, text)
    out, end = [], 0
    for found in _matches(rule, text, piece):
        out += [text[end : found.start()], masked(found)]
        end = found.end()
    return "".join([*out, text[end:]]) if out else text


def _matches(rule: Rule, text: str, piece: int) -> Iterator[re.Match[str]]:
    """What ``finditer`` finds. A search that ends ``reach`` behind a piece sees all that a match beginning in the piece
    depends on; one that it finds to begin behind the piece may have been cut, and is found again with its own."""
    at = 0
    while at < len(text):
        end = min(at + piece, len(text))
        for found in _begun(rule, text, at, end):
            yield found
            at = found.end()
        at = max(at, end)


def _begun(rule: Rule, text: str, at: int, end: int) -> Iterator[re.Match[str]]:
    """The matches that begin in a piece."""
    places = _places(rule, text, at, end) if rule.needs else None
    if places is None:
        until = min(end + rule.reach, len(text))
        while at < end and (found := rule.pattern.search(text, at, until)) is not None and found.start() < end:
            yield found
            at = found.end()
        return
    for place in places:
        for begin in range(max(at, place - rule.lead), min(place + 1, end)):
            if begin >= at and (found := rule.pattern.match(text, begin)) is not None:
                yield found
                at = found.end()


def _places(rule: Rule, text: str, at: int, end: int) -> list[int] | None:
    """Where in a piece something stands that a match needs; None: at too many places to try each."""
    part = text[at : end + rule.lead + rule.longest_need]
    if rule.folds:
        folded = part.casefold()
        if len(folded) != len(part):
            return None
        part = folded
    places: list[int] = []
    for need in rule.needs:
        found = part.find(need)
        while found >= 0:
            places.append(at + found)
            if len(places) > SPARSE:
                return None
            found = part.find(need, found + 1)
    return sorted(places)
