"""Forgetting a source, or bullets: what was taught is erased from the log, and the book is what the rest of it makes.

What it knows: whose a text is. What it does not do: write to the store, or prove that nothing is left (``traces``).

What goes: every operation of every batch that names the source, its votes among them, and copies of its texts. What is
left of an operation is its kind and the bullets that it named (``Erased``); of an actor, whether it was a role or a
user. Decisions go too: a bullet that was removed or put in quarantine on the source's word alone comes back, and is
listed. A later ``UPDATE`` by another source gives its text to the bullet, as if it had been its first.

Whose a text is:

- A text of an ``ADD`` or ``UPDATE`` is its batch's sources'.
- A ``MERGE``, and any text of a batch without sources (an edit by hand, a way back, a compaction), may only have moved
  what was there. It goes where it says what an erased text said; and, without sources, where the bullets in it were
  learnt from the source and now from nothing else, or a piece of an erased text is in it.
- A text that somebody else wrote first, or learnt from another source, stays.

A bullet is forgotten with every operation that names it alone or merges into it; copies of its texts go as above.

Where an erased ``UPDATE`` without sources had taken the place of a text that stays (a way back, for one), this text
does not come back by it: the bullet has none, and is gone unless somebody gave it one later. Where the text whose place
it took is erased as well, now or later, what was there before that comes back: nobody who is left took it away.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Mapping, Sequence, Set

import msgspec

from potstill.distill.playbook.apply import Entry, Erased, advance, erase, kind_of, named, replay, steps
from potstill.distill.playbook.blame import step_ids
from potstill.distill.playbook.effects import Book
from potstill.distill.playbook.operations import Add, Batch, Bullet, Merge, Operation, Update
from potstill.distill.playbook.telling import Telling
from potstill.distill.playbook.traces import fold, traces
from potstill.types import Struct

ROLES = frozenset({"admin", "curator", "import", "refine", "reflector"})
"""Actors that name no person."""
_SAYING = (Add, Update)
_WRITING = frozenset({"ADD", "UPDATE", "MERGE"})
"""Operations that give a text to the first bullet that they name."""


class Forgotten(Struct, frozen=True, kw_only=True):
    """A book without a source. Everything but ``texts`` may be kept and shown."""

    entries: tuple[Entry, ...]
    """The log: as many rows as before, with the same numbers."""
    bullets: dict[str, Bullet]
    erased: tuple[int, ...] = ()
    """Revisions of the rows that say less than before."""
    gone: tuple[str, ...] = ()
    """Bullets that nobody else gave a text. Their ids are not given again."""
    kept: tuple[str, ...] = ()
    """Bullets that had a text of the source and stay with another's."""
    returned: tuple[str, ...] = ()
    """Bullets that were removed, merged away, in quarantine or in shadow on the source's word alone. Look at them."""
    recounted: tuple[str, ...] = ()
    """Bullets that stay, without the source's votes."""
    alike: tuple[str, ...] = ()
    """Bullets that stay and hold words of an erased text, a telling piece of one (``telling``), or the source's id:
    another's text says the same, or took them over. Look at them."""
    prompts: tuple[str, ...] = ()
    """Recorded episodes whose prompts showed it, and lost those lines. A log alone does not know of any."""
    texts: tuple[str, ...] = ()
    """The erased texts that nobody else wrote, for the scan that proves they are gone. Do not keep them."""

    @property
    def rows(self) -> dict[int, Entry]:
        """The rows that say less than before, by revision."""
        erased = frozenset(self.erased)
        return {entry.revision: entry for entry in self.entries if entry.revision in erased}


def source_digest(source: str) -> str:
    """SHA-256 (hexadecimal) of a source's id: what the row of a ``FORGET`` says of it (``Entry.forgot``)."""
    return hashlib.sha256(source.encode(errors="surrogatepass")).hexdigest()


def forget(entries: Sequence[Entry], source: str, held: Mapping[str, Bullet] | None = None) -> Forgotten:
    """The log and the book without ``source``. Where no batch names it, nothing changes: so when it is done again, and
    ``erased`` and ``texts`` are empty then.

    To be written as it is, over every row in ``erased`` and all bullets; the next number stays what it was. ``held``:
    the bullets as the log makes them, if they are at hand: then only those are replayed that it may change.
    """
    if not any(source in entry.batch.sources for entry in entries):
        return Forgotten(entries=tuple(entries), bullets=replay(entries) if held is None else dict(held))
    return _forget(entries, source, frozenset(), held)


def forget_bullets(
    entries: Sequence[Entry], ids: Collection[str], held: Mapping[str, Bullet] | None = None
) -> Forgotten:
    """The log and the book without these bullets, whoever taught them, and all their texts; otherwise as ``forget``."""
    return _forget(entries, "", frozenset(ids), held)


def _forget(entries: Sequence[Entry], source: str, ids: frozenset[str], held: Mapping[str, Bullet] | None) -> Forgotten:
    moving = None if held is None else _may_change(entries, source) | ids
    search = _Search(source, held, moving, ids)
    bare = [search.erase(entry) for entry in entries]
    texts = search.lost()
    before, after = search.before(), search.after()
    telling = Telling(search.texts(), (bullet.content for bullet in after.values()))
    log = _without_sections(_without_reasons(bare, texts, source, telling), set(after))
    return Forgotten(
        entries=log,
        bullets=after,
        erased=tuple(new.revision for old, new in zip(entries, log, strict=True) if old != new),
        gone=tuple(id for id in before if id not in after),
        kept=tuple(id for id in after if id in search.taught),
        returned=tuple(id for id in after if id in before and _returned(before[id], after[id])),
        recounted=tuple(id for id in after if id in before and _counters(before[id]) != _counters(after[id])),
        alike=_alike(after, search.texts(), source, telling),
        texts=texts,
    )


class _Search:
    """Goes through the log once, from its beginning, with two books beside it: as it was, and as it is without.

    ``moving``: the bullets whose steps are done; None: all. Others stay as they are ``held``.
    """

    def __init__(
        self,
        source: str,
        held: Mapping[str, Bullet] | None = None,
        moving: Set[str] | None = None,
        bullets: Set[str] = frozenset(),
    ) -> None:
        self._moving = moving
        self._bullets = bullets
        self._reached = set(bullets)
        """These, and whatever they were merged into."""
        self._resting = {} if moving is None else {id: one for id, one in (held or {}).items() if id not in moving}
        self.taught: set[str] = set()
        """Bullets that ever had a text of the source."""
        self._source = source
        self._before, self._after = Book({}, 1), Book({}, 1)
        self._erased: dict[str, str] = {}
        """Folded -> as it stood."""
        self._said: set[str] = set()
        """Texts that stay, folded."""
        self._wrote: dict[str, int] = {}
        """The revision with which each bullet last was given a text, whether or not it was erased."""

    def erase(self, entry: Entry) -> Entry:
        """The row as it will be, with the sections of ``ADD``s, until it is known which bullets stay."""
        if self._rests(entry):
            for step in entry.batch.operations:
                self._pass(step)
            return entry
        given = iter(entry.ids)
        left = [self._left(entry, index, step, step_ids(step, given)) for index, step in enumerate(steps(entry))]
        erased = tuple(step for step in left if isinstance(step, Erased))
        whole = self._names(entry.batch)
        if len(erased) == len(entry.erased) and not whole:
            return entry
        operations = tuple(step for step in left if not isinstance(step, Erased))
        batch = _bare(entry.batch) if whole else msgspec.structs.replace(entry.batch, operations=operations)
        if self._bullets and not operations:
            batch = msgspec.structs.replace(batch, reason="", key="")  # all of it was about them
        return msgspec.structs.replace(entry, batch=batch, erased=erased)

    def _rests(self, entry: Entry) -> bool:
        """Whether all of it is by others, on bullets of which nothing goes: most of a long log."""
        moving = self._moving
        if moving is None or entry.erased or self._names(entry.batch) or not moving.isdisjoint(entry.ids):
            return False
        return all(moving.isdisjoint(named(step)) for step in entry.batch.operations)

    def _left(self, entry: Entry, index: int, step: Operation | Erased, ids: tuple[str, ...]) -> Operation | Erased:
        """What is left of a step, once both books have taken it."""
        if self._moving is not None and self._moving.isdisjoint(ids):
            self._pass(step)
            return step
        left = step
        if not isinstance(step, Erased):
            if goes := ids[0] in self._bullets or self._goes(step, entry.batch):
                moved = isinstance(step, Update) and not (self._names(entry.batch) or ids[0] in self._bullets)
                left = _tombstone(entry, step, ids, index, self._wrote.get(ids[0], 0) if moved else 0)
            if isinstance(step, Add | Update | Merge):
                self._note(step.content, ids[0], goes)
        if _kind(step) == "MERGE" and not self._reached.isdisjoint(ids):
            self._reached.add(ids[0])
        if _kind(step) in _WRITING:
            self._wrote[ids[0]] = entry.revision
        advance(self._before, step, entry)
        advance(self._after, left, entry)
        return left

    def _pass(self, step: Operation | Erased) -> None:
        """A step by others on bullets of which nothing goes."""
        if isinstance(step, _SAYING):
            self._said.add(_words_of(step.content))
            if isinstance(step, Add):
                self._before.skip()
                self._after.skip()

    def _names(self, batch: Batch) -> bool:
        return self._source in batch.sources

    def _goes(self, step: Operation, batch: Batch) -> bool:
        if self._names(batch):
            return True
        if isinstance(step, Merge):
            return self._is_theirs(step, batch)
        return isinstance(step, Add | Update) and not batch.sources and self._is_theirs(step, batch)

    def _is_theirs(self, step: Add | Update | Merge, batch: Batch) -> bool:
        if (folded := _words_of(step.content)) in self._said:
            return False
        if folded in self._erased:
            return True
        if self._bullets:
            return not self._reached.isdisjoint(named(step)) and self._holds_a_piece(step.content)
        if batch.sources or self._source not in _learnt(self._before, step):
            return False
        return self._holds_a_piece(step.content) or not _learnt(self._after, step)

    def _holds_a_piece(self, content: str) -> bool:
        texts = self._erased.values()
        return bool(traces(texts, self._source, [("", content)]) or Telling(texts).piece(content))

    def _note(self, content: str, id: str, goes: bool) -> None:
        if goes:
            self.taught.add(id)
            self._erased.setdefault(_words_of(content), content)
        else:
            self._said.add(_words_of(content))

    def before(self) -> dict[str, Bullet]:
        return self._whole(self._before)

    def after(self) -> dict[str, Bullet]:
        return self._whole(self._after)

    def _whole(self, book: Book) -> dict[str, Bullet]:
        moved = _with_text(book)
        if not self._resting:
            return moved
        ordered = sorted((*self._resting.values(), *moved.values()), key=lambda bullet: bullet.number)
        return {bullet.id: bullet for bullet in ordered}

    def texts(self) -> tuple[str, ...]:
        return tuple(self._erased.values())

    def lost(self) -> tuple[str, ...]:
        """Texts that only the source's batches, and copies of them, held."""
        return tuple(text for folded, text in self._erased.items() if folded not in self._said)


def _may_change(entries: Sequence[Entry], source: str) -> set[str]:
    """Every bullet that a forgetting may change or must know: those of batches of the source's or of nobody's, of rows
    of which something was erased, and all that was ever merged."""
    moving: set[str] = set()
    for entry in entries:
        batch = entry.batch
        if entry.erased or not batch.sources or source in batch.sources:
            given = iter(entry.ids)
            moving.update(id for step in steps(entry) for id in step_ids(step, given))
        else:
            moving.update(id for one in batch.operations if isinstance(one, Merge) for id in named(one))
    return moving


def _learnt(book: Book, step: Operation) -> set[str]:
    """Sources of the bullets that a step names."""
    return {source for id in named(step) if id in book for source in book[id].sources}


def _with_text(book: Book) -> dict[str, Bullet]:
    return {bullet.id: bullet for bullet in book if bullet.content}


def _words_of(text: str) -> str:
    """What makes two texts the same; of one without any word, itself."""
    return fold(text) or text


# --- erasing --------------------------------------------------------------------------------------------------------


def _tombstone(entry: Entry, operation: Operation, ids: tuple[str, ...], index: int, after: int) -> Erased:
    alone = msgspec.structs.replace(entry.batch, operations=(operation,))
    row = msgspec.structs.replace(entry, batch=alone, ids=ids, erased=())
    return msgspec.structs.replace(erase(row, ids).erased[0], index=index, after=after)


def _kind(step: Operation | Erased) -> str:
    return step.kind if isinstance(step, Erased) else kind_of(step)


def _bare(batch: Batch) -> Batch:
    actor = batch.actor if batch.actor in ROLES else "user"
    return Batch(operations=(), actor=actor, base=batch.base)


def _without_sections(entries: Sequence[Entry], stay: set[str]) -> tuple[Entry, ...]:
    """A section is the source's word as well, unless a bullet stands under it that stays."""

    def cleared(erased: Erased) -> Erased:
        return erased if stay.issuperset(erased.ids) else msgspec.structs.replace(erased, section="")

    return tuple(
        msgspec.structs.replace(entry, erased=tuple(map(cleared, entry.erased))) if entry.erased else entry
        for entry in entries
    )


def _without_reasons(entries: Sequence[Entry], texts: Sequence[str], source: str, telling: Telling) -> list[Entry]:
    """Without the reasons and keys of others that speak of the source, or hold words or a telling piece of a text."""
    places = [(f"{at}", word) for at, entry in enumerate(entries) for word in _words(entry.batch)]
    hit = {int(trace.place) for trace in traces(texts, source, places)}
    hit |= {int(at) for at, word in places if telling.piece(word)}
    return [_mute(entry) if at in hit else entry for at, entry in enumerate(entries)]


def _words(batch: Batch) -> Iterator[str]:
    yield from (word for word in (batch.reason, batch.key) if word)
    yield from (reason for operation in batch.operations if (reason := getattr(operation, "reason", "")))


def _mute(entry: Entry) -> Entry:
    operations = tuple(
        msgspec.structs.replace(operation, reason="") if getattr(operation, "reason", "") else operation
        for operation in entry.batch.operations
    )
    batch = msgspec.structs.replace(entry.batch, operations=operations, reason="", key="")
    return msgspec.structs.replace(entry, batch=batch)


# --- what became of the bullets -------------------------------------------------------------------------------------


def _returned(before: Bullet, after: Bullet) -> bool:
    closed = before.removed or before.quarantined
    return (closed and not (after.removed or after.quarantined)) or (after.shown and not before.shown)


def _counters(bullet: Bullet) -> tuple[int, int, int]:
    return bullet.helpful, bullet.harmful, bullet.neutral


def _alike(bullets: dict[str, Bullet], texts: Sequence[str], source: str, telling: Telling) -> tuple[str, ...]:
    places = [(id, text) for id, bullet in bullets.items() for text in (bullet.section, bullet.content)]
    found = {trace.place for trace in traces(texts, source, places)}
    found |= {id for id, text in places if telling.piece(text)}
    return tuple(id for id in bullets if id in found)
