"""Going back: the batch that brings a book to what it was at an earlier revision. The log only grows by it.

What it knows: which operations undo which. What it does not do: apply the batch, or take votes back. Counters stay
what the votes made them, since outcomes stay true whatever was written; a merge's undoing takes the merged bullet's
votes out of the survivor again. Sources stay too: they say who ever taught a bullet. Bullets that came since are
removed, their ids are not given again, and what was forgotten stays forgotten.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from potstill.distill.playbook.apply import Entry, advance, steps
from potstill.distill.playbook.effects import Book, effect
from potstill.distill.playbook.history import as_of
from potstill.distill.playbook.operations import (
    MAX_OPERATIONS,
    Batch,
    Bullet,
    Merge,
    Operation,
    Pin,
    Quarantine,
    Remove,
    Restore,
    SetStage,
    Update,
)
from potstill.errors import ConfigError


def undo(entries: Sequence[Entry], to_revision: int, *, actor: str = "admin", reason: str = "", key: str = "") -> Batch:
    """The batch after which the book is as it was at ``to_revision``, but for counters, sources and revisions.

    Texts, sections, stages, pins, quarantine, removals and merges (with the order of a lineage) are equal then. It
    names the revisions that it read, so it is refused where somebody edits meanwhile. Without operations where nothing
    has to be done. Raises ``ConfigError`` for a revision that the log does not reach, and where the way back takes
    more operations than a batch may have.
    """
    operations = undoing(entries, to_revision)
    if len(operations) > MAX_OPERATIONS:
        nearer = _nearest(entries, to_revision)
        raise ConfigError(
            f"Going back to revision {to_revision} takes {len(operations)} operations; a batch has at most "
            f"{MAX_OPERATIONS}. Go back to revision {nearer} first, then further."
        )
    return Batch(
        operations=operations,
        actor=actor,
        key=key,
        base=entries[-1].revision if entries else 0,
        reason=reason or f"back to revision {to_revision}",
    )


def undoing(entries: Sequence[Entry], to_revision: int) -> tuple[Operation, ...]:
    """The operations of ``undo``, in their order and however many they are."""
    return _way_back(*_then_and_now(entries, to_revision))


def _nearest(entries: Sequence[Entry], revision: int) -> int:
    """A revision after this one that one batch reaches: the earliest where the way grows with the distance."""
    far, near = revision, entries[-1].revision
    while near - far > 1:
        middle = (near + far) // 2
        fits = len(undoing(entries, middle)) <= MAX_OPERATIONS
        far, near = (far, middle) if fits else (middle, near)
    return near


def _then_and_now(entries: Sequence[Entry], revision: int) -> tuple[dict[str, Bullet], dict[str, Bullet]]:
    """Both by one replay."""
    before = as_of(entries, revision)
    book = Book({}, 1)
    _play(book, before)
    past = {bullet.id: bullet for bullet in book if bullet.content}
    _play(book, entries[len(before) :])
    return past, {bullet.id: bullet for bullet in book if bullet.content}


def _play(book: Book, entries: Sequence[Entry]) -> None:
    for entry in entries:
        for step in steps(entry):
            advance(book, step, entry)


def _way_back(past: Mapping[str, Bullet], now: Mapping[str, Bullet]) -> tuple[Operation, ...]:
    plan = _Plan(past, now)
    plan.open()
    plan.write()
    plan.merge()
    plan.settle()
    return tuple(plan.operations)


class _Plan:
    """Operations found so far, and the bullets as they are after these.

    Only an open bullet (neither removed nor in quarantine) takes a text or part in a merge. So what needs one is opened
    first, and what was closed in the past is closed at the end.
    """

    def __init__(self, past: Mapping[str, Bullet], now: Mapping[str, Bullet]) -> None:
        self.operations: list[Operation] = []
        self._past = {id: bullet for id, bullet in past.items() if id in now}
        self._now = now
        self._book = Book(now, 1 + max((bullet.number for bullet in now.values()), default=0))
        self._kept = {id: _common(self._merged(past, id), self._merged(now, id)) for id in now}
        """Of each bullet, how many of those that were merged into it may stay so: lineages keep their order."""

    def _merged(self, bullets: Mapping[str, Bullet], id: str) -> tuple[str, ...]:
        return tuple(one for one in bullets[id].lineage if one in self._now) if id in bullets else ()

    def _joined(self, id: str) -> tuple[str, ...]:
        """What has to be merged into it."""
        return self._merged(self._past, id)[self._kept[id] :]

    def _do(self, operation: Operation) -> None:
        effect(self._book, operation, (), 0)
        self.operations.append(operation)

    def open(self) -> None:
        """What is restored leaves its merge, and so does what was merged after it: again, until nothing is added."""
        opened: set[str] = set()
        while new := self._to_open() - opened:
            opened |= new
            for id in new:
                into = self._now[id].merged_into
                if into in self._now:
                    self._kept[into] = min(self._kept[into], self._merged(self._now, into).index(id))
        for id in sorted(opened, key=lambda id: self._now[id].number):
            self._do(Restore(id=id, revision=self._read(id)))

    def _to_open(self) -> set[str]:
        leaving = {one for id in self._now for one in self._merged(self._now, id)[self._kept[id] :]}
        leaving = {id for id in leaving if id in self._past or self._now[id].merged_into in self._past}
        merging = {id for id in self._past if self._joined(id)} | {one for id in self._past for one in self._joined(id)}
        closed = {id for id in merging if self._now[id].removed or self._now[id].quarantined}
        return leaving | closed | {id for id, past in self._past.items() if _frees(past, self._now[id])}

    def write(self) -> None:
        for id, past in self._past.items():
            if self._book[id].content != past.content and not self._joined(id):
                self._do(Update(id=id, content=past.content, revision=self._read(id)))

    def merge(self) -> None:
        """What is merged into others itself comes first."""
        survivors = [id for id in self._past if self._joined(id)]
        for into in sorted(survivors, key=self._depth, reverse=True):
            ids = self._joined(into)
            revisions = tuple(self._read(id) for id in (into, *ids))
            self._do(Merge(into=into, ids=ids, content=self._past[into].content, revisions=revisions))

    def _depth(self, id: str) -> int:
        depth = 0
        while (id := self._past[id].merged_into) in self._past:
            depth += 1
        return depth

    def settle(self) -> None:
        for id in self._now:
            if past := self._past.get(id):
                self._settle(past, self._book[id])
            elif not self._book[id].removed:
                self._do(Remove(id=id, revision=self._read(id)))

    def _settle(self, past: Bullet, now: Bullet) -> None:
        if now.stage is not past.stage:
            self._do(SetStage(id=past.id, stage=past.stage, revision=self._read(past.id)))
        if now.pinned != past.pinned:
            self._do(Pin(id=past.id, pinned=past.pinned, revision=self._read(past.id)))
        if past.quarantined and not now.quarantined:
            self._do(Quarantine(id=past.id, revision=self._read(past.id)))
        if past.removed and not now.removed:
            self._do(Remove(id=past.id, revision=self._read(past.id)))

    def _read(self, id: str) -> int:
        """A bullet's revision after the operations so far."""
        return self._book[id].revision


def _frees(past: Bullet, now: Bullet) -> bool:
    """Whether the bullet itself has to be restored: to be shown again, or to be given its text."""
    freed = (now.removed and not past.removed) or (now.quarantined and not past.quarantined)
    return freed or (now.removed and now.content != past.content)


def _common(left: Sequence[str], right: Sequence[str]) -> int:
    """The length of the common beginning."""
    pairs = zip(left, right, strict=False)
    return next((at for at, (one, other) in enumerate(pairs) if one != other), min(len(left), len(right)))
