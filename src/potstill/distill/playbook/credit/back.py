"""The way back: the batches that bring a book that became worse to its last good revision.

What it knows: which of the operations that undo are allowed here, their order, and how they are split where one batch
does not reach so far. What it does not do: find out that a book became worse (``guard``), apply.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import msgspec

from potstill.distill.playbook.apply import Entry, named, replay
from potstill.distill.playbook.credit.decide import digest
from potstill.distill.playbook.credit.guard import Regression
from potstill.distill.playbook.credit.past import ACTOR, BACK, PART
from potstill.distill.playbook.effects import Book, effect
from potstill.distill.playbook.history import as_of
from potstill.distill.playbook.operations import (
    MAX_OPERATIONS,
    Add,
    Batch,
    Bullet,
    Merge,
    Operation,
    Quarantine,
    Remove,
    SetStage,
    Stage,
    Tag,
)
from potstill.distill.playbook.undo import undoing


def way_back(
    entries: Sequence[Entry],
    bullets: Mapping[str, Bullet],
    found: Regression,
    *,
    last: int,
    most: int = MAX_OPERATIONS,
) -> tuple[Batch, ...]:
    """The batches that bring the book back to the last good revision, to be applied in this order; none: there is
    nothing to do. More than one where it takes more than ``most`` operations.

    As ``undo``, but nothing that credit or a person put out of sight comes into sight by it: no quarantine is lifted,
    no stage raised, and what was out of sight then stays so. Bullets that came since go into quarantine instead of
    being removed, and pinned ones stay as they are. What hides a bullet by itself comes first. Only the last batch
    counts as the book's having been brought back (``past.last_back``): where it was not reached, after a kill or since
    somebody edited a bullet meanwhile, the rest of the way is found again. Raises ``ConfigError`` for a revision that
    the log does not reach.
    """
    if found.good is None:
        return ()
    reason = f"The book became worse: {found.sentence}"
    operations = list(_revised(_sorted(_allowed(entries, bullets, found.good, reason)), bullets))
    base = entries[-1].revision if entries else 0
    return tuple(
        Batch(operations=part, actor=ACTOR, base=base, key=f"{prefix}{last}-{digest(base, part)}", reason=reason)
        for prefix, part in _parts(operations, most)
    )


def _parts(operations: Sequence[Operation], most: int) -> Iterator[tuple[str, tuple[Operation, ...]]]:
    for start in range(0, len(operations), most):
        ends = start + most >= len(operations)
        yield BACK if ends else PART, tuple(operations[start : start + most])


def _allowed(entries: Sequence[Entry], bullets: Mapping[str, Bullet], good: int, reason: str) -> list[Operation]:
    closed = {id for id, bullet in bullets.items() if bullet.pinned or bullet.quarantined}
    operations = [
        _milder(one, reason)
        for one in undoing(entries, good)
        if not closed & set(named(one)) and not _raises(one, bullets)
    ]
    past, now = replay(as_of(entries, good)), Book(bullets, _next(bullets))
    for one in operations:
        effect(now, one, (), 0)
    freed = [one.id for one in now if _open(one) and not _open(bullets[one.id])]
    return [*operations, *(Quarantine(id=id, reason=reason) for id in freed if id not in past or not _open(past[id]))]


def _next(bullets: Mapping[str, Bullet]) -> int:
    return 1 + max((bullet.number for bullet in bullets.values()), default=0)


def _open(bullet: Bullet) -> bool:
    return not bullet.removed and not bullet.quarantined


def _milder(operation: Operation, reason: str) -> Operation:
    return Quarantine(id=operation.id, reason=reason) if isinstance(operation, Remove) else operation


_HEIGHT = {Stage.SHADOW: 0, Stage.CANARY: 1, Stage.LIVE: 2}


def _raises(operation: Operation, bullets: Mapping[str, Bullet]) -> bool:
    if not isinstance(operation, SetStage) or operation.id not in bullets:
        return False
    return _HEIGHT[operation.stage] > _HEIGHT[bullets[operation.id].stage]


def _sorted(operations: Sequence[Operation]) -> list[Operation]:
    """First the quarantines of bullets that nothing else here names: they depend on nothing, and protect."""
    times = Counter(id for one in operations for id in named(one))
    return sorted(operations, key=lambda one: not (isinstance(one, Quarantine) and times[one.id] == 1))


def _revised(operations: Sequence[Operation], bullets: Mapping[str, Bullet]) -> Iterator[Operation]:
    """Each with the revisions that its bullets have once those before it are done, from the bullets that were read."""
    book = Book(bullets, _next(bullets))
    for one in operations:
        yield _at(one, book)
        effect(book, one, (), 0)


def _at(operation: Operation, book: Book) -> Operation:
    if isinstance(operation, Merge):
        return msgspec.structs.replace(operation, revisions=tuple(book[id].revision for id in named(operation)))
    if isinstance(operation, Add | Tag):
        return operation
    return msgspec.structs.replace(operation, revision=book[operation.id].revision)
