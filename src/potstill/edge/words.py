"""Texts as numbers of words: the one way that training and acting read a text.

A word is a run of letters or a run of digits, in lower case (``[a-z]+|[0-9]+``): ``cabinet 12`` is two words, and so is
``cabinet12``. The vocabulary's words have its positions as numbers; any other falls into one of the buckets behind it,
by CRC-32. Knows words. Does not know vectors, nor which words a vocabulary should hold.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence

_WORD = re.compile(r"[a-z]+|[0-9]+")


def split(text: str) -> list[str]:
    """The words of a text in order.

    >>> split("Go to Cabinet 12!")
    ['go', 'to', 'cabinet', '12']
    """
    return _WORD.findall(text.lower())


class Words:
    """A vocabulary with buckets behind it. ``len(words)`` is the number of numbers: rows of the table of embeddings.

    >>> words = Words(["go", "to"], buckets=4)
    >>> words.encode("go to 7"), len(words)
    ([0, 1, 3], 6)
    """

    def __init__(self, vocabulary: Sequence[str], buckets: int) -> None:
        """Raises ``ValueError`` for a vocabulary with something that is not a word, or twice, or without a bucket."""
        if buckets < 1:
            raise ValueError(f"buckets is {buckets}; unknown words need at least 1.")
        self.vocabulary, self.buckets = tuple(vocabulary), buckets
        self._positions = {word: position for position, word in enumerate(self.vocabulary)}
        if len(self._positions) < len(self.vocabulary):
            raise ValueError("The vocabulary holds a word twice.")
        for word in self.vocabulary:
            if not isinstance(word, str) or _WORD.fullmatch(word) is None:
                raise ValueError(f"{word!r} in the vocabulary is not one word in lower case ([a-z]+ or [0-9]+).")

    def __len__(self) -> int:
        return len(self.vocabulary) + self.buckets

    def encode(self, text: str) -> list[int]:
        """The numbers of a text's words, in order, each in ``range(len(self))``."""
        return [self._number(word) for word in split(text)]

    def _number(self, word: str) -> int:
        position = self._positions.get(word)
        if position is not None:
            return position
        return len(self.vocabulary) + zlib.crc32(word.encode("ascii")) % self.buckets
