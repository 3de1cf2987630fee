"""Short pieces that tell who or what a forgotten text was about: numbers, addresses, names; and runs of words.

What it knows: which pieces shorter than ``traces.FRAGMENT_CHARACTERS`` point at somebody. What it does not do: find
whole texts and long pieces (``traces``), or what is said in other words: nobody can.

- A *number* has four digits or more, with at most two of `` .()/-`` between any of them: a telephone, an order, a year.
- An *address* has an ``@`` with a dot behind it.
- A *name* is two words in a row that begin with a capital, in whatever case they stand elsewhere. A pair that more than
  ``COMMON`` of the texts that stay have is the book's own word.
- A *run* is four words in a row of 20 characters or more, which at most ``COMMON`` of the texts that stay have.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise

from potstill.distill.playbook.traces import fold

LEAST_DIGITS = 4
COMMON = 3
RUN_WORDS, RUN_CHARACTERS = 4, 20
_CONTAINED = 6
"""So many digits are found inside of a longer number too."""
_NUMBER = re.compile(r"[0-9](?:[ .()/\-\u2010-\u2013]{0,2}[0-9])+")
_GROUP = re.compile(rf"[0-9]{{{LEAST_DIGITS},}}")
_ADDRESS = re.compile(r"[^\s@<>(),;:\"']+@[^\s@<>(),;:\"']+\.\w+")
_WORD = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*")


class Telling:
    """The telling pieces of erased texts. ``kept``: texts that stay, by which a name is known to be a common word."""

    def __init__(self, texts: Iterable[str], kept: Iterable[str] = ()) -> None:
        texts = [unicodedata.normalize("NFKC", text) for text in texts]
        self._numbers = {number for text in texts for number in _numbers(text)}
        self._addresses = {fold(one) for text in texts for one in _ADDRESS.findall(text)}
        names = {pair for text in texts for pair in _names(text)}
        self._names = names - (_common(names, map(_padded, kept)) if names else set())

    def __bool__(self) -> bool:
        return bool(self._numbers or self._addresses or self._names)

    def piece(self, text: str) -> str:
        """One that a text holds, folded; empty: none."""
        if not self:
            return ""
        if self._numbers and (number := self._number(unicodedata.normalize("NFKC", text))):
            return number
        words = _padded(text)
        return next((one for one in sorted(self._addresses | self._names) if f" {one} " in words), "")

    def _number(self, text: str) -> str:
        there_are = sorted(_numbers(text), key=lambda number: (-len(number), number))
        for there in there_are:
            if there in self._numbers:
                return there
            for one in sorted(self._numbers):
                if min(len(one), len(there)) >= _CONTAINED and (one in there or there in one):
                    return one
        return ""


def runs_shared(texts: Iterable[str], kept: Sequence[tuple[str, str]]) -> tuple[str, ...]:
    """Names of kept texts (each a name and a text) that hold a run of words of an erased text; each once."""
    wanted = {run for text in texts for run in _runs(text)}
    if not wanted:
        return ()
    found = [(name, wanted & _runs(text)) for name, text in kept]
    times = Counter(run for _, runs in found for run in runs)
    return tuple(dict.fromkeys(name for name, runs in found if any(times[run] <= COMMON for run in runs)))


def _numbers(text: str) -> set[str]:
    found = set(_GROUP.findall(text))
    for match in _NUMBER.findall(text):
        digits = re.sub("[^0-9]", "", match)
        if len(digits) >= LEAST_DIGITS:
            found.add(digits)
    return found


def _names(text: str) -> set[str]:
    """Pairs of capitalised words with nothing but a space between them, folded."""
    found = set()
    for left, right in pairwise(_WORD.finditer(text)):
        if _capital(left[0]) and _capital(right[0]) and not text[left.end() : right.start()].strip():
            found.add(fold(f"{left[0]} {right[0]}"))
    return found


def _capital(word: str) -> bool:
    return len(word) > 1 and word[0].isupper() and not word.isupper()


def _common(names: set[str], kept: Iterable[str]) -> set[str]:
    times = Counter(name for words in kept for name in names if f" {name} " in words)
    return {name for name, count in times.items() if count > COMMON}


def _padded(text: str) -> str:
    return f" {fold(text)} "


def _runs(text: str) -> set[str]:
    words = fold(text).split()
    runs = (" ".join(words[start : start + RUN_WORDS]) for start in range(len(words) - RUN_WORDS + 1))
    return {run for run in runs if len(run) >= RUN_CHARACTERS}
