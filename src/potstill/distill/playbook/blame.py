"""Who is answerable for a bullet: each operation that named it, who did it, from which sources, and whose votes it has.

What it knows: entries of the log. What it does not do: say what is right, or name a source that was forgotten: of what
was erased it says when it was and what kind of operation, and nothing more.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from potstill.distill.playbook.apply import Entry, Erased, kind_of, named, replay, steps
from potstill.distill.playbook.operations import Add, Bullet, Merge, Operation, Tag, Update
from potstill.errors import ConfigError
from potstill.types import Struct


class BlameLine(Struct, frozen=True, kw_only=True):
    """One operation at the bullet. Votes are summed apart."""

    revision: int
    """The book's."""
    at: float
    """Unix seconds."""
    actor: str
    kind: str
    """``ADD``, ``UPDATE``, ``MERGE``, ``REMOVE``, ..."""
    content: str | None = None
    """That it gave this bullet; None: none, or it was erased."""
    sources: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
    """Of a ``MERGE`` the other bullets in it, where this one is merged into another: that one first."""
    reason: str = ""
    erased: bool = False


class Votes(Struct, frozen=True, kw_only=True):
    """What the ``TAG``s of batches with the same sources add up to."""

    sources: tuple[str, ...] = ()
    """More than one where batches name several: nobody can say whose of them a vote is."""
    via: str = ""
    """The merged bullet that was voted on; empty: the bullet itself."""
    helpful: int = 0
    harmful: int = 0
    neutral: int = 0


class Blame(Struct, frozen=True, kw_only=True):
    id: str
    lines: tuple[BlameLine, ...]
    """The oldest first."""
    current: int | None
    """Which of them (from 0) wrote the content that stands now; None: the bullet was forgotten."""
    votes: tuple[Votes, ...]
    """They add up to the bullet's counters."""


def blame(entries: Sequence[Entry], id: str) -> Blame:
    """Everything that was done to a bullet. Raises ``ConfigError`` for an id that the book never gave."""
    bullets = replay(entries)
    lines = tuple(_lines(entries, id))
    if not lines:
        raise ConfigError(f"The playbook has no bullet {id[:40]!r}, and never had. Type: potstill playbook list")
    contents = [number for number, line in enumerate(lines) if line.content is not None]
    current = contents[-1] if contents and id in bullets else None
    return Blame(id=id, lines=lines, current=current, votes=_votes(entries, id, _closure(bullets, id)))


def as_json(blame: Blame) -> dict[str, Any]:
    """The blame as plain JSON values."""
    return dict(msgspec.to_builtins(blame))


def _lines(entries: Iterable[Entry], id: str) -> Iterator[BlameLine]:
    for entry in entries:
        given = iter(entry.ids)
        for step in steps(entry):
            ids = step_ids(step, given)
            if id in ids and _kind(step) != "TAG":
                yield _line(entry, step, id, tuple(one for one in ids if one != id))


def step_ids(step: Operation | Erased, given: Iterator[str]) -> tuple[str, ...]:
    """Bullets that one of ``steps(entry)`` names or made; ``given``: the entry's ids that no step before it took."""
    if _kind(step) == "ADD":
        return (next(given),)
    return step.ids if isinstance(step, Erased) else named(step)


def _kind(step: Operation | Erased) -> str:
    return step.kind if isinstance(step, Erased) else kind_of(step)


def _line(entry: Entry, step: Operation | Erased, id: str, others: tuple[str, ...]) -> BlameLine:
    batch, kind = entry.batch, _kind(step)
    who = BlameLine(revision=entry.revision, at=entry.at, actor=batch.actor, kind=kind, others=others)
    if isinstance(step, Erased):
        return msgspec.structs.replace(who, erased=True)
    writes = isinstance(step, Add | Update) or (isinstance(step, Merge) and step.into == id)
    content: str | None = getattr(step, "content", None) if writes else None
    reason = getattr(step, "reason", "") or batch.reason
    return msgspec.structs.replace(who, content=content, reason=reason, sources=batch.sources)


def _closure(bullets: Mapping[str, Bullet], id: str) -> set[str]:
    """The bullet and all that were merged into it, directly or through others."""
    found, new = set[str](), {id}
    while new:
        found |= new
        lineage = {one for here in new if here in bullets for one in bullets[here].lineage}
        new = (lineage | {one for one, bullet in bullets.items() if bullet.merged_into in new}) - found
    return found


def _votes(entries: Iterable[Entry], id: str, ids: set[str]) -> tuple[Votes, ...]:
    """In the order of the first vote of each group."""
    groups: dict[tuple[tuple[str, ...], str], Votes] = {}
    for entry in entries:
        for step in entry.batch.operations:
            if isinstance(step, Tag) and step.id in ids:
                via = "" if step.id == id else step.id
                sources = entry.batch.sources
                so_far = groups.get((sources, via), Votes(sources=sources, via=via))
                groups[sources, via] = _plus(so_far, step)
    return tuple(groups.values())


def _plus(votes: Votes, tag: Tag) -> Votes:
    return msgspec.structs.replace(
        votes,
        helpful=votes.helpful + tag.helpful,
        harmful=votes.harmful + tag.harmful,
        neutral=votes.neutral + tag.neutral,
    )
