"""What each operation does to bullets, once it is allowed.

What it knows: bullets in memory, and which of them were changed. What it does not do: refuse (``apply``).

Every operation but a ``TAG`` makes each bullet that it names one revision newer, also where nothing else changes: so
revisions do not depend on what was there, and a log of which something was erased can still be replayed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec

from potstill.distill.playbook.operations import (
    Add,
    Bullet,
    Merge,
    Operation,
    Pin,
    Quarantine,
    Remove,
    Restore,
    SetStage,
    Stage,
    Tag,
    Update,
)

PREFIX = "b-"


def bullet_id(number: int) -> str:
    """The id of a book's how-manieth bullet, from 1."""
    return f"{PREFIX}{number}"


class Book:
    """Bullets at work: those given, as they are after what was done so far."""

    def __init__(self, bullets: Mapping[str, Bullet], next_number: int) -> None:
        self._given = bullets
        self._new: dict[str, Bullet] = {}
        self._first = self._next = next_number

    def __contains__(self, id: str) -> bool:
        return id in self._new or id in self._given

    def __getitem__(self, id: str) -> Bullet:
        return self._new[id] if id in self._new else self._given[id]

    def __iter__(self) -> Iterator[Bullet]:
        """Those that were touched, by number."""
        return iter(sorted(self._new.values(), key=lambda bullet: bullet.number))

    def changed(self) -> tuple[Bullet, ...]:
        return tuple(bullet for bullet in self if bullet.number < self._first)

    def added(self) -> tuple[Bullet, ...]:
        return tuple(bullet for bullet in self if bullet.number >= self._first)

    def add(self, section: str, content: str, stage: Stage, sources: tuple[str, ...], revision: int) -> None:
        number, self._next = self._next, self._next + 1
        id = bullet_id(number)
        self._new[id] = Bullet(
            id=id,
            number=number,
            section=section,
            content=content,
            stage=stage,
            sources=_each_once(sources),
            added_in=revision,
            changed_in=revision,
        )

    def skip(self) -> None:
        """A bullet of which nobody asks here took the next number."""
        self._next += 1

    def put(self, id: str, **fields: Any) -> None:
        """Change something, and the bullet's revision."""
        self._set(id, revision=self[id].revision + 1, **fields)

    def count(self, id: str, helpful: int, harmful: int, neutral: int) -> None:
        """Add to the counters of a bullet and of all that it was merged into."""
        while (bullet := self._new.get(id) or self._given.get(id)) is not None:
            self._new[id] = msgspec.structs.replace(
                bullet,
                helpful=bullet.helpful + helpful,
                harmful=bullet.harmful + harmful,
                neutral=bullet.neutral + neutral,
            )
            id = bullet.merged_into

    def part(self, id: str) -> None:
        """Undo what a merge of this bullet did to the survivor's counters and lineage."""
        bullet = self[id]
        if not bullet.merged_into:
            return
        self.count(bullet.merged_into, -bullet.helpful, -bullet.harmful, -bullet.neutral)
        if bullet.merged_into in self:
            survivor = self[bullet.merged_into]
            self._set(survivor.id, lineage=tuple(one for one in survivor.lineage if one != id))
        self._set(id, merged_into="")

    def join(self, id: str, into: str) -> None:
        """Merge one into another that is merged into nothing."""
        bullet, survivor = self[id], self[into]
        self.count(into, bullet.helpful, bullet.harmful, bullet.neutral)
        self._set(into, lineage=(*survivor.lineage, id), pinned=survivor.pinned or bullet.pinned)
        self._set(into, sources=_each_once((*survivor.sources, *bullet.sources)))
        self.put(id, removed=True, merged_into=into)

    def _set(self, id: str, **fields: Any) -> None:
        self._new[id] = msgspec.structs.replace(self[id], **fields)


def effect(book: Book, operation: Operation, sources: tuple[str, ...], revision: int) -> None:
    """Do it. What names a bullet that is not there does nothing; of a ``MERGE``, that bullet is left out."""
    if isinstance(operation, Tag):  # the most frequent first: a replay does all of a log
        book.count(operation.id, operation.helpful, operation.harmful, operation.neutral)
    elif isinstance(operation, Add):
        book.add(operation.section, operation.content, operation.stage, sources, revision)
    elif isinstance(operation, Merge):
        _merge(book, operation, sources, revision)
    elif operation.id in book:
        _one(book, operation, sources, revision)


def _one(
    book: Book,
    operation: Update | Remove | Pin | Quarantine | Restore | SetStage,
    sources: tuple[str, ...],
    revision: int,
) -> None:
    match operation:
        case Update(id=id, content=content):
            learnt = _each_once((*book[id].sources, *sources))
            book.put(id, content=content, sources=learnt, changed_in=revision)
        case Remove(id=id):
            book.put(id, removed=True)
        case Pin(id=id, pinned=pinned):
            book.put(id, pinned=pinned)
        case Quarantine(id=id):
            book.put(id, quarantined=True)
        case Restore(id=id):
            book.part(id)
            book.put(id, removed=False, quarantined=False)
        case SetStage(id=id, stage=stage):
            book.put(id, stage=stage)


def _merge(book: Book, merge: Merge, sources: tuple[str, ...], revision: int) -> None:
    """Bullets that are merged into something already are taken out of that first: only in a replay after something
    was erased, and so that no bullet is ever merged into itself through others."""
    if merge.into not in book:
        return
    book.part(merge.into)
    for id in merge.ids:
        if id in book and id != merge.into:
            book.part(id)
            book.join(id, merge.into)
    learnt = _each_once((*book[merge.into].sources, *sources))
    book.put(merge.into, content=merge.content, sources=learnt, changed_in=revision)


def _each_once(ids: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(ids))
