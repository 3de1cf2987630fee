"""A book's bullets, indexed to be asked: which of them says this already?

What it knows: exact duplicates, near ones by letters and by vectors, thresholds by section, what was decided to be kept
apart, and which small differences make another lesson. What it does not do: decide what to do about it (``gate``).
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from enum import StrEnum
from typing import Literal

import numpy as np

from potstill.distill.playbook.operations import Bullet
from potstill.distill.playbook.similar import (
    LexicalIndex,
    Near,
    Pair,
    Spellings,
    best,
    check_threshold,
    fingerprint,
    normalised,
    similarity,
)
from potstill.distill.playbook.similar_vectors import SemanticIndex, unit_rows
from potstill.errors import ConfigError
from potstill.protocols import Embedder, FloatMatrix
from potstill.retrieval.vectors import FloatVector, VectorIndex, checked_rows
from potstill.types import Struct

Kept = AbstractSet[tuple[str, str]]
"""Pairs that somebody decided to keep both of, as ``keep_both`` gives them. They name texts and not ids, so they hold
for an ``ADD`` too, and end when one of the two texts changes. Whoever forgets a source drops the pairs with its texts.
"""


class Thresholds(Struct, frozen=True, kw_only=True):
    """From which similarity two bullets are one, each in (0, 1]; raises ``ConfigError``."""

    lexical: float = 0.80
    semantic: float = 0.90

    def __post_init__(self) -> None:
        check_threshold(self.lexical)
        check_threshold(self.semantic)


class Gate(Struct, frozen=True, kw_only=True):
    """How near-duplicates are found and treated. Raises ``ConfigError``."""

    thresholds: Thresholds = Thresholds()
    sections: Mapping[str, Thresholds] = {}
    """Other thresholds for the bullets of these sections."""
    mode: Literal["proactive", "lazy"] = "proactive"
    """``proactive``: near-duplicates do not get into the book. ``lazy``: only exact ones are kept out, and a ``refine``
    proposes merges when the book has become too long."""
    repeat: Literal["neutral", "helpful"] = "neutral"
    """What a repeated lesson counts for the one that is there. In the paper counters say what a Reflector saw a bullet
    do in an episode; that it was thought of twice says nothing of that, and a model that repeats itself must not be
    able to raise what it likes. So: neutral."""
    longer: float = 1.25
    """An ``ADD`` of more than this many times its twin's characters says more than the twin: it is let in and left to
    ``refine``, instead of being thrown away."""
    careful: bool = True
    """Bullets that ``differ`` in a number, a name from code, a negation or an opposite are not near-duplicates."""

    def __post_init__(self) -> None:
        if not self.longer >= 1:
            raise ConfigError(f"A gate's 'longer' of {self.longer} is not possible. Allowed: 1 or more.")

    def of(self, section: str) -> Thresholds:
        return self.sections.get(section, self.thresholds)


class How(StrEnum):
    """By what two texts were found to be the same."""

    EXACT = "exact"
    """Equal but for letter case, spaces and ways to write a character (lookalikes too); in whatever section."""
    LEXICAL = "lexical"
    SEMANTIC = "semantic"


class Twin(Struct, frozen=True, kw_only=True):
    """A bullet that says the same."""

    id: str
    how: How
    similarity: float


def keep_both(first: str, second: str) -> tuple[str, str]:
    """The decision that these two contents are different lessons; to be kept by whoever made it."""
    a, b = sorted((fingerprint(first), fingerprint(second)))
    return a, b


_NUMBER = re.compile(r"\d+(?:[.,:]\d+)*")
_WORD = re.compile(r"[^\W\d_]+(?:['\u2019]t\b)?")
_CODE = re.compile(r"`([^`\n]{1,80})`|\b([^\W_]+(?:[_./]+[^\W_]+)+)|\b([a-z]+[A-Z][^\W_]*)")
_NEGATIONS = frozenset({"not", "no", "never", "none", "nothing", "nor", "neither", "without", "cannot"})
_OPPOSITES = (
    ("before", "after"),
    ("above", "below"),
    ("more", "less"),
    ("most", "least"),
    ("maximum", "minimum"),
    ("max", "min"),
    ("increase", "decrease"),
    ("left", "right"),
    ("first", "last"),
    ("true", "false"),
    ("enable", "disable"),
    ("enabled", "disabled"),
    ("open", "close"),
    ("include", "exclude"),
    ("add", "remove"),
    ("start", "stop"),
    ("up", "down"),
    ("on", "off"),
)
_MEANT = 64
"""Bullets near by their vectors that are looked at: the first that does not ``differ`` is the twin."""
_TURNS = tuple(word for two in _OPPOSITES for word in two if word not in ("on", "up"))


def differ(first: str, second: str, how: How = How.LEXICAL) -> bool:
    """Whether two near texts differ in their numbers, in names from code (``get_user``, ``getUser``, ``a.b``, whatever
    stands in backticks), or in words that turn a lesson into another one (English).

    Texts that are near by their letters share nearly every word, so a negation or one word of a pair of opposites more
    or less is enough. Near by their meaning they may be put in other words: there the numbers and negations must be
    equally many, and no word may stand where the other text has its opposite.

    >>> differ("Wait 30 s before a retry.", "Wait 60 s before a retry."), differ("Open the fridge.", "Open a fridge.")
    (True, False)
    """
    a, b = normalised(first), normalised(second)
    if any(name not in b for name in _names(first)) or any(name not in a for name in _names(second)):
        return True
    if Counter(_NUMBER.findall(a)) != Counter(_NUMBER.findall(b)):
        return True
    one, other = Counter(_WORD.findall(a)), Counter(_WORD.findall(b))
    if _negations(one) != _negations(other):
        return True
    if how is not How.SEMANTIC:
        return any(one[word] != other[word] for word in _TURNS)
    return any((one[x] - one[y]) * (other[x] - other[y]) < 0 for x, y in _OPPOSITES)


def _names(text: str) -> set[str]:
    return {normalised(next(filter(None, found))) for found in _CODE.findall(text)}


def _negations(words: Mapping[str, int]) -> int:
    return sum(count for word, count in words.items() if word in _NEGATIONS or word.endswith(("n't", "n\u2019t")))


class BookIndex:
    """The bullets of a book that an ``ADD`` may repeat: all but removed ones, quarantined ones too (a lesson that was
    locked up does not come back as a new bullet). Sections are compared as they are written.

    With an ``embedder`` meanings are compared as well; ``approximate`` makes its index (``FaissIndex``), exact without.
    It is a cache: ``put`` it whatever a batch changed. Not for several threads at once.
    """

    def __init__(
        self,
        bullets: Iterable[Bullet] = (),
        *,
        embedder: Embedder | None = None,
        approximate: Callable[[int], VectorIndex] | None = None,
        vectors: Mapping[str, FloatVector] | None = None,
        spellings: Spellings | None = None,
    ) -> None:
        self.embedder = embedder
        self.spellings = Spellings() if spellings is None else spellings
        """Of contents that were asked for or put lately; another index may share them."""
        self._bullets: dict[str, Bullet] = {}
        self._prints: dict[str, str] = {}
        self._same: defaultdict[str, set[str]] = defaultdict(set)
        self._sentences: dict[str, str] = {}
        self._said: defaultdict[str, set[str]] = defaultdict(set)
        self._lexical = LexicalIndex()
        self._semantic = SemanticIndex(embedder.dimension, approximate) if embedder is not None else None
        self.put(bullets, vectors=vectors)

    def __len__(self) -> int:
        return len(self._bullets)

    def __contains__(self, id: str) -> bool:
        return id in self._bullets

    def __getitem__(self, id: str) -> Bullet:
        return self._bullets[id]

    def __iter__(self) -> Iterator[Bullet]:
        return iter(self._bullets.values())

    def put(self, bullets: Iterable[Bullet], *, vectors: Mapping[str, FloatVector] | None = None) -> None:
        """The present state of these bullets: new, changed or removed. Only new contents are embedded, and of these
        only the ones that ``vectors`` does not give. Where the embedder fails nothing is changed."""
        last = {bullet.id: bullet for bullet in bullets}
        fresh = {id: bullet for id, bullet in last.items() if not bullet.removed and self._has_new_text(bullet)}
        self._put_vectors(fresh, vectors or {})
        for id, bullet in last.items():
            if bullet.removed:
                self.drop(id)
                continue
            if id in fresh:
                self._drop_text(id)
                spelling = self.spellings[bullet.content]
                self._prints[id] = spelling.fingerprint
                self._same[spelling.fingerprint].add(id)
                self._sentences[id] = spelling.sentence
                self._said[spelling.sentence].add(id)
                self._lexical.add(id, bullet.section, spelling)
            self._bullets[id] = bullet

    def _has_new_text(self, bullet: Bullet) -> bool:
        old = self._bullets.get(bullet.id)
        return old is None or (old.section, old.content) != (bullet.section, bullet.content)

    def _put_vectors(self, fresh: Mapping[str, Bullet], known: Mapping[str, FloatVector]) -> None:
        if self._semantic is None or not fresh:
            return
        missing = [id for id in fresh if id not in known]
        embedded = dict(zip(missing, self.embed([fresh[id].content for id in missing]), strict=True))
        matrix = np.stack([known[id] if id in known else embedded[id] for id in fresh]).astype(np.float32)
        checked = dict(zip(fresh, unit_rows(checked_rows(matrix, self._semantic.dimension)), strict=True))
        sections: defaultdict[str, list[str]] = defaultdict(list)
        for id, bullet in fresh.items():
            sections[bullet.section].append(id)
        for section, ids in sections.items():
            self._semantic.add_many(ids, section, np.stack([checked[id] for id in ids]))

    def embed(self, texts: Sequence[str]) -> FloatMatrix | tuple[None, ...]:
        """A row for each text; without an embedder None for each."""
        if self.embedder is None:
            return (None,) * len(texts)
        return self.embedder.embed(texts) if texts else ()

    def drop(self, id: str) -> None:
        """Forget a bullet; nothing happens where there is none."""
        gone = self._bullets.pop(id, None)
        if gone is not None:
            self.spellings.pop(gone.content, None)
        self._drop_text(id)
        if self._semantic is not None:
            self._semantic.remove(id)

    def _drop_text(self, id: str) -> None:
        print_ = self._prints.pop(id, None)
        if print_ is None:
            return
        self._same[print_].discard(id)
        if not self._same[print_]:
            del self._same[print_]
        said = self._sentences.pop(id)
        self._said[said].discard(id)
        if not self._said[said]:
            del self._said[said]
        self._lexical.remove(id)

    def twin(
        self,
        section: str,
        content: str,
        gate: Gate,
        *,
        kept: Kept = frozenset(),
        without: Collection[str] = (),
        vector: FloatVector | None = None,
        meant: Sequence[Near] | None = None,
    ) -> Twin | None:
        """The bullet that says this: an exact one of any section first, then the nearest of this section by letters,
        then one of any section that only its last sign makes another text, then by ``vector`` (as ``embed`` gives it).
        ``without``: ids that do not count. ``meant``: what ``meant`` found by the vector already."""
        same = [
            self._bullets[id] for id in self._same.get(self.spellings[content].fingerprint, ()) if id not in without
        ]
        if same:
            first = min(same, key=lambda bullet: (bullet.section != section, bullet.quarantined, bullet.number))
            return Twin(id=first.id, how=How.EXACT, similarity=1.0)
        seen = set(without)
        for how, found in self._near(section, content, gate.of(section), vector, meant):
            for near in found:
                if near.id not in seen and not _apart(content, self._bullets[near.id].content, how, gate, kept):
                    return Twin(id=near.id, how=how, similarity=near.similarity)
                seen.add(near.id)
        return None

    def _near(
        self,
        section: str,
        content: str,
        thresholds: Thresholds,
        vector: FloatVector | None,
        meant: Sequence[Near] | None,
    ) -> Iterator[tuple[How, Sequence[Near]]]:
        yield How.LEXICAL, self._lexical.nearest(section, self.spellings[content], thresholds.lexical)
        yield How.LEXICAL, self._elsewhere(content, thresholds.lexical)
        if meant is not None:
            yield How.SEMANTIC, meant
        elif self._semantic is not None and vector is not None:
            yield How.SEMANTIC, self._semantic.nearest(section, vector, thresholds.semantic, _MEANT)

    def _elsewhere(self, content: str, threshold: float) -> list[Near]:
        """The same sentence in any section, closed by another sign."""
        ids = self._said.get(self.spellings[content].sentence, ())
        found = (Near(id=id, similarity=similarity(content, self._bullets[id].content)) for id in ids)
        return best((near for near in found if near.similarity >= threshold), None)

    def meant(self, asked: Sequence[tuple[str, FloatVector | None]], gate: Gate) -> tuple[Sequence[Near] | None, ...]:
        """What is near by vectors, for several contents at once (section and vector): an exact index is read through
        once for all of a section. None where ``twin`` had better ask by itself, which it does only if letters do not
        tell."""
        found: list[Sequence[Near] | None] = [None] * len(asked)
        if self._semantic is None or not self._semantic.exact:
            return tuple(found)
        sections: defaultdict[str, dict[int, FloatVector]] = defaultdict(dict)
        for place, (section, vector) in enumerate(asked):
            if vector is not None:
                sections[section][place] = vector
        for section, vectors in sections.items():
            rows = np.stack(list(vectors.values()))
            near = self._semantic.nearest_many(section, rows, gate.of(section).semantic, _MEANT)
            for place, each in zip(vectors, near, strict=True):
                found[place] = each
        return tuple(found)

    def same(self) -> dict[str, list[Bullet]]:
        """Bullets by the fingerprint of their content."""
        return {print_: [self._bullets[id] for id in sorted(ids)] for print_, ids in self._same.items()}

    def pairs(self, only: Collection[str], gate: Gate, kept: Kept = frozenset()) -> list[Pair]:
        """All pairs of near-duplicates among these ids, within their sections, by letters or by vectors."""
        found: dict[tuple[str, str], tuple[Pair, How]] = {}
        for section in sorted({self._bullets[id].section for id in only}):
            thresholds = gate.of(section)
            for pair in self._lexical.pairs(section, thresholds.lexical, only=only):
                found[pair.a, pair.b] = pair, How.LEXICAL
            if self._semantic is not None:
                for pair in self._semantic.pairs(section, thresholds.semantic, only=only):
                    found.setdefault((pair.a, pair.b), (pair, How.SEMANTIC))
        text = {id: self._bullets[id].content for id in only}
        return [pair for pair, how in found.values() if not _apart(text[pair.a], text[pair.b], how, gate, kept)]


def _apart(first: str, second: str, how: How, gate: Gate, kept: Kept) -> bool:
    return (gate.careful and differ(first, second, how)) or (bool(kept) and keep_both(first, second) in kept)
