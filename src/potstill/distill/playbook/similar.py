"""Which short texts are nearly the same by their letters, and how pairs become groups.

What it knows: character n-grams, sections, pairs. What it does not do: keep and search sets of grams (``postings``),
vectors (``similar_vectors``), bullets and operations (``gate``), models, files.

*The lexical similarity* of two texts is the cosine of their sets of character n-grams (3 to 5): shared grams over the
geometric mean of the two sizes. Sets, because a repeated word says nothing new and whole numbers give exact bounds; the
cosine, because Jaccard falls faster when one text is the other with a clause more; and no weights by rarity: these
change as a book grows, so that one pair would be a duplicate today and none tomorrow, depending on who came first.
Grams are 32-bit hashes: of two texts with 500 grams each, one in 17,000 pairs counts one gram too many.
"""

from __future__ import annotations

import hashlib
import re
import threading
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import cached_property

import numpy as np

from potstill.distill.playbook.lookalikes import plain_words
from potstill.distill.playbook.postings import Grams, Postings, cosine, distinct
from potstill.errors import ConfigError
from potstill.types import Struct

SHORTEST, LONGEST = 3, 5
"""Lengths of the n-grams, in characters of the normalised text."""
MOST_PAIRS = 5_000_000
"""Pairs that one call gives back (some 500 MB): more means that the threshold tells nothing apart."""
_REMEMBERED = 256
_SPACE = re.compile(r"\s+")


class Near(Struct, frozen=True, kw_only=True):
    """A stored text and how near it is, in (0, 1]."""

    id: str
    similarity: float


class Pair(Struct, frozen=True, kw_only=True):
    """Two ids, ``a`` before ``b`` as strings, and how near they are."""

    a: str
    b: str
    similarity: float


def normalised(text: str) -> str:
    """What two texts have in common that differ in letter case, spaces and ways to write one character (NFKC), also
    with letters of another script that look alike within a word.

    >>> normalised("  Open the\\n FRIDGE first ")
    'open the fridge first'
    """
    folded, before = _folded(text), text
    while not folded.isascii() and folded != before:
        folded, before = _folded(plain_words(folded)), folded
    return _SPACE.sub(" ", folded).strip()


def _folded(text: str) -> str:
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())


def fingerprint(text: str) -> str:
    """32 hexadecimal digits that are equal where the normalised texts are."""
    return _digest(normalised(text))


def sentence(text: str) -> str:
    """As ``fingerprint``, but for what closes the text: a full stop, or an exclamation mark behind a word (behind a
    lone letter or a digit it may be a factorial).

    >>> sentence("Ask first!") == sentence("Ask first."), sentence("Divide by n!") == sentence("Divide by n.")
    (True, False)
    """
    return _sentence(normalised(text))


def _sentence(plain: str) -> str:
    said = plain.rstrip(" .\u3002")
    if said[-3:-1].isalpha() or said.endswith("!!"):
        said = said.rstrip("!")
    return _digest(said or plain)


def _digest(plain: str) -> str:
    return hashlib.sha256(plain.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def grams(text: str) -> Grams:
    """The sorted set of hashes of a text's n-grams; one space stands at either end, so that "a" has a gram as well."""
    return _grams(normalised(text))


def _grams(plain: str) -> Grams:
    if not plain:
        return np.empty(0, dtype=np.uint32)
    points = np.frombuffer(f" {plain} ".encode("utf-32-le", "surrogatepass"), dtype="<u4").astype(np.uint64)
    rolling, found = np.zeros(len(points), dtype=np.uint64), []
    for length in range(1, min(LONGEST, len(points)) + 1):
        rolling = rolling[: len(points) - length + 1] * np.uint64(0x100000001B3) + points[length - 1 :]
        if length >= SHORTEST:
            mixed = (rolling ^ (rolling >> np.uint64(29)) ^ np.uint64(length << 56)) * np.uint64(0x9E3779B97F4A7C15)
            found.append((mixed >> np.uint64(32)).astype(np.uint32))
    return distinct(np.concatenate(found))


class Spelling:
    """A text's letters as they are compared; each thing about it is worked out when it is first asked for."""

    def __init__(self, text: str) -> None:
        self.text = text

    @cached_property
    def plain(self) -> str:
        return normalised(self.text)

    @cached_property
    def fingerprint(self) -> str:
        return _digest(self.plain)

    @cached_property
    def sentence(self) -> str:
        return _sentence(self.plain)

    @cached_property
    def grams(self) -> Grams:
        return _grams(self.plain)


class Spellings(dict[str, Spelling]):
    """Of texts that were asked for lately: one that is looked for is often entered next."""

    def __missing__(self, text: str) -> Spelling:
        if len(self) >= _REMEMBERED:
            self.clear()
        self[text] = spelling = Spelling(text)
        return spelling


def similarity(first: str, second: str) -> float:
    """The lexical similarity of two texts, in [0, 1]; 0 where one is empty.

    "abc" has the grams " ab", "abc", "bc ", " abc", "abc " and " abc ": 6. "abd" shares " ab" only: 1 / 6.

    >>> round(similarity("abc", "abd"), 4)
    0.1667
    """
    a, b = grams(first), grams(second)
    return float(cosine(len(np.intersect1d(a, b, assume_unique=True)), len(a), len(b)))


def check_threshold(threshold: float) -> None:
    if not 0 < threshold <= 1:
        raise ConfigError(f"A similarity threshold of {threshold} is not possible. Allowed: above 0, up to 1.")


def best(found: Iterable[Near], limit: int | None) -> list[Near]:
    return sorted(found, key=lambda near: (-near.similarity, near.id))[:limit]


# --- letters --------------------------------------------------------------------------------------------------------


class LexicalIndex:
    """The texts of a book by section, to be asked for near ones by their letters. Exact; safe in threads.

    Memory: about 8 bytes a distinct gram of each text, some 3 grams a character, and 30 MB a large section.

    >>> index = LexicalIndex(); index.add("b-1", "rules", "Open the fridge before you look for the milk.")
    >>> [near.id for near in index.nearest("rules", "open the fridge before you look for milk", 0.8)]
    ['b-1']
    """

    def __init__(self) -> None:
        self._sections: dict[str, Postings] = {}
        self._slots: dict[str, tuple[str, int]] = {}
        self._lock = threading.RLock()

    def __len__(self) -> int:
        return len(self._slots)

    def __contains__(self, id: str) -> bool:
        return id in self._slots

    def add(self, id: str, section: str, text: str | Spelling) -> None:
        """Keep a text. One that was there under this id is replaced, in whatever section it stood."""
        found = _grams_of(text)
        with self._lock:
            self.remove(id)
            postings = self._sections.setdefault(section, Postings())
            self._slots[id] = (section, postings.add(id, found))

    def remove(self, id: str) -> None:
        """Forget a text; nothing happens where there is none."""
        with self._lock:
            if id not in self._slots:
                return
            section, slot = self._slots.pop(id)
            self._sections[section].remove(slot)
            if self._sections[section].mostly_removed:
                self._rewrite(section)

    def _rewrite(self, section: str) -> None:
        old, new = self._sections[section], Postings()
        for _, id, found in old.living():
            self._slots[id] = (section, new.add(id, found))
        self._sections[section] = new

    def nearest(self, section: str, text: str | Spelling, threshold: float, limit: int | None = None) -> list[Near]:
        """Every text of the section that reaches the threshold, nearest first, ties by id. ``ConfigError``: a
        threshold outside (0, 1]."""
        check_threshold(threshold)
        if section not in self._sections:
            return []
        query = _grams_of(text)
        with self._lock:
            postings = self._sections.get(section)
            if postings is None or not len(query):
                return []
            return best((Near(id=id, similarity=value) for id, value in postings.near(query, threshold)), limit)

    def pairs(
        self, section: str, threshold: float, *, only: Collection[str] | None = None, most: int = MOST_PAIRS
    ) -> list[Pair]:
        """All pairs of the section (or of ``only`` these of it) that reach the threshold, in the order of their ids,
        whatever the order of insertion was. ``ConfigError``: more than ``most``."""
        check_threshold(threshold)
        found: list[Pair] = []
        with self._lock:
            postings = self._sections.get(section, Postings())
            for slot, id, query in postings.living():
                if len(query) and (only is None or id in only):
                    near = postings.near(query, threshold, before=slot)
                    found.extend(make_pair(id, other, value) for other, value in near if only is None or other in only)
                    check_count(len(found), most, threshold)
        return sorted(found, key=lambda pair: (pair.a, pair.b))


def _grams_of(text: str | Spelling) -> Grams:
    return text.grams if isinstance(text, Spelling) else grams(text)


def make_pair(first: str, second: str, value: float) -> Pair:
    return Pair(a=min(first, second), b=max(first, second), similarity=value)


def check_count(count: int, most: int, threshold: float) -> None:
    if count > most:
        raise ConfigError(
            f"More than {most:,} pairs are as similar as {threshold}: this threshold tells hardly anything apart. "
            "Raise it, or remove exact duplicates first."
        )


# --- groups ---------------------------------------------------------------------------------------------------------


def components(pairs: Iterable[Pair]) -> list[tuple[str, ...]]:
    """What hangs together through any chain of pairs, each sorted, in the order of their first ids."""
    parents: dict[str, str] = {}

    def root(id: str) -> str:
        while parents.setdefault(id, id) != id:
            parents[id] = parents[parents[id]]
            id = parents[id]
        return id

    for pair in pairs:
        a, b = root(pair.a), root(pair.b)
        parents[max(a, b)] = min(a, b)
    members: defaultdict[str, list[str]] = defaultdict(list)
    for id in sorted(parents):
        members[root(id)].append(id)
    return sorted(tuple(each) for each in members.values())


def groups(
    pairs: Sequence[Pair], rank: Callable[[str], object], apart: Collection[tuple[str, str]] = ()
) -> list[tuple[str, ...]]:
    """Every component split into stars: a leader and those that are near the *leader itself*.

    Against chaining (A near B, B near C, A far from C: one text would swallow another that it has little to do with):
    ids are taken in the order of ``rank`` (smallest first, ties by id), each joins the nearest leader that it makes a
    pair with, and leads where there is none. ``apart``: pairs of ids that never share a group. Leaders stand first;
    groups of one are left out. The order of ``pairs`` does not matter.
    """
    near: defaultdict[str, dict[str, float]] = defaultdict(dict)
    for pair in pairs:
        near[pair.a][pair.b] = near[pair.b][pair.a] = pair.similarity
    forbidden = {frozenset(two) for two in apart}
    led: dict[str, list[str]] = {}
    for id in sorted(near, key=lambda id: (rank(id), id)):
        leaders = (leader for leader in near[id] if leader in led)
        fitting = [each for each in leaders if all(frozenset((id, member)) not in forbidden for member in led[each])]
        if fitting:
            led[min(fitting, key=lambda leader: (-near[id][leader], leader))].append(id)
        else:
            led[id] = [id]
    return [tuple(members) for _, members in sorted(led.items()) if len(members) > 1]
