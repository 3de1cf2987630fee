"""Which of many texts may hold one of some words or a piece of a text: a quick look at hundreds of them at once.

What it knows: ASCII bytes, blocks of them, windows of eight. What it does not do: tell what a text holds (``traces``):
it may suspect one that holds nothing, and never leaves one out that does.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

Windows = NDArray[np.uint64]
_SPACE, _END = 32, 255
_FOLDED = bytes(ord(chr(code).lower()) if chr(code).isalnum() else _SPACE for code in range(128)).ljust(255) + b"\xff"
_WINDOW = 8
_REST = np.uint64(44)  # bits of a window behind its first 20
_MIXED = np.uint64(0x9E3779B97F4A7C15)


class Suspects:
    """Looks for words, each with a space at either end, and for pieces of ``length`` (8 or more) characters."""

    def __init__(self, words: Iterable[str], pieces: Collection[str], length: int) -> None:
        self._words = [word.encode() for word in words if word.isascii()]
        self._length = length
        together = "".join(piece for piece in pieces if piece.isascii()).encode()
        starts = np.arange(0, len(together), length)
        self._pieces = np.unique(self._windows(np.frombuffer(together, dtype=np.uint8), starts))
        self._begin = np.zeros(1 << 20, dtype=np.bool_)
        self._begin[(self._pieces >> _REST).astype(np.int64)] = True

    def among(self, texts: Sequence[str]) -> NDArray[np.bool_]:
        """Which of these may hold something: all that are not ASCII or hold an escape, and of the others, once they are
        folded and padded (``traces.fold``), those with a word, or with a piece where a multiple of ``length`` is."""
        plain = [place for place, text in enumerate(texts) if text.isascii() and "\\" not in text and "&" not in text]
        suspected = np.ones(len(texts), dtype=np.bool_)
        if plain:
            suspected[plain] = self._held(b" \xff ".join(texts[place].encode() for place in plain))
        return suspected

    def _held(self, joined: bytes) -> NDArray[np.bool_]:
        """For each of the texts between the ends."""
        raw = np.frombuffer((b" " + joined + b" ").translate(_FOLDED), dtype=np.uint8)
        spaces = raw == _SPACE
        folded = raw[~np.concatenate([[False], spaces[1:] & spaces[:-1]])]
        ends = np.append(np.flatnonzero(folded == _END), len(folded))
        held = np.zeros(len(ends), dtype=np.bool_)
        self._mark_words(folded.tobytes(), ends, held)
        begins = np.append(0, ends[:-1] + 1)
        many = np.maximum(ends - begins, 0) // self._length
        texts = np.repeat(np.arange(len(ends)), many)
        steps = np.arange(len(texts)) - np.repeat(np.cumsum(many) - many, many)
        windows = self._windows(folded, begins[texts] + self._length * steps)
        maybe = self._begin[(windows >> _REST).astype(np.int64)]  # few; the search among all pieces is slower
        places = np.searchsorted(self._pieces, windows[maybe]) if maybe.any() else np.empty(0, dtype=np.int64)
        equal = self._pieces[np.minimum(places, len(self._pieces) - 1)] == windows[maybe]
        held[texts[maybe][equal]] = True
        return held

    def _mark_words(self, folded: bytes, ends: NDArray[np.int64], held: NDArray[np.bool_]) -> None:
        for word in self._words:
            at = folded.find(word)
            while at >= 0:
                text = int(np.searchsorted(ends, at))
                held[text] = True
                at = folded.find(word, int(ends[text]))

    def _windows(self, folded: NDArray[np.uint8], starts: NDArray[np.int64]) -> Windows:
        """The first and the last eight characters of the piece that begins at each place, as one number."""
        if not len(starts):
            return np.empty(0, dtype=np.uint64)
        eight = np.ndarray((len(folded) - _WINDOW + 1,), dtype="<u8", buffer=folded.tobytes(), strides=(1,))
        mixed: Windows = eight[starts] * _MIXED + eight[starts + self._length - _WINDOW]
        return mixed
