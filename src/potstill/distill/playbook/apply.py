"""What a batch does to bullets: decided here, without reading or writing anything.

What it knows: which operations are allowed, what each changes, how a log is replayed, what two books are compared by.
What it does not do: read or write (``book``), judge what bullets say (``border``, the gates).

A batch sees its own effects in the order of its operations; the ids of its own ``ADD``s cannot be named in it. The
first operation that is not allowed refuses the whole batch.

Counters. A bullet's counters are the sum of all ``TAG``s at its id and at the ids that are merged into it, directly or
through others. So a ``TAG`` of a merged bullet counts for it and for whatever it has become, a ``RESTORE`` of one takes
its share out of the survivor again, and a ``TAG`` gives the same result before and after every other operation.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from enum import StrEnum
from typing import Any

import msgspec

from potstill.distill.playbook.effects import Book, effect
from potstill.distill.playbook.operations import (
    MAX_CONTENT_CHARACTERS,
    MAX_OPERATIONS,
    MAX_SECTION_CHARACTERS,
    Add,
    Batch,
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
from potstill.errors import PotstillError
from potstill.types import Struct

MAX_NAME_CHARACTERS = 200
"""Of an actor, an idempotency key, and each id of a source."""
MAX_REASON_CHARACTERS = 1000
MAX_SOURCES = 1000
"""Of one batch."""
_DECISIONS = (Remove, Pin, Quarantine, Restore, SetStage)
MAX_TAG = 1_000_000
"""How much one ``TAG`` may add to a counter; as much may be taken from it, which is how one is undone."""


class Why(StrEnum):
    """Why a batch was refused."""

    STALE = "stale"
    """The bullet has changed since it was read. Read it again, decide again."""
    UNKNOWN = "unknown"
    REMOVED = "removed"
    QUARANTINED = "quarantined"
    ITSELF = "itself"
    FORGOTTEN = "forgotten"
    """It was learnt from a source that the book has forgotten. Nothing is learnt from that again."""
    INVALID = "invalid"
    """Not a batch that could ever be applied: its size, a text, a number."""


class Refused(PotstillError):
    """A batch that was not applied, and nothing of it was. ``index``: of the operation at fault, from 0; None: the
    batch itself."""

    def __init__(self, index: int | None, why: Why, reason: str, id: str = "") -> None:
        where = "The batch" if index is None else f"Operation {index + 1} of the batch"
        super().__init__(f"{where} was refused, and nothing was applied: {reason}")
        self.index = index
        self.why = why
        self.reason = reason
        self.id = id
        """Of the bullet at fault, where there is one."""


class Change(Struct, frozen=True, kw_only=True):
    """What a batch does."""

    changed: tuple[Bullet, ...] = ()
    """Bullets that were there, as they are now."""
    added: tuple[Bullet, ...] = ()

    @property
    def ids(self) -> tuple[str, ...]:
        """Of the bullets that its ``ADD``s made, in their order."""
        return tuple(bullet.id for bullet in self.added)


def touched(batch: Batch) -> set[str]:
    """Ids that the batch names: of bullets that ``apply`` must be given, with all that they were merged into."""
    return {id for operation in batch.operations for id in named(operation)}


def named(operation: Operation) -> tuple[str, ...]:
    """Ids in an operation; of a ``MERGE`` the survivor's first."""
    match operation:
        case Add():
            return ()
        case Merge(into=into, ids=ids):
            return (into, *ids)
        case _:
            return (operation.id,)


def gathered(batch: Batch, read: Callable[[set[str]], Mapping[str, Bullet]]) -> dict[str, Bullet]:
    """The bullets that ``apply`` must be given, by one call of ``read`` or, where some were merged, a few."""
    found: dict[str, Bullet] = {}
    wanted = touched(batch)
    while wanted:
        some = read(wanted)
        found.update(some)
        wanted = {one.merged_into for one in some.values() if one.merged_into} - found.keys()
    return found


def apply(bullets: Mapping[str, Bullet], batch: Batch, *, revision: int, next_number: int) -> Change:
    """What the batch changes, or ``Refused``.

    ``bullets``: those it names, closed under ``merged_into`` (``gathered``); more does no harm. ``revision``: what the
    book's will be with this batch. ``next_number``: of the first bullet that it adds.
    """
    check_batch(batch)
    book = Book(bullets, next_number)
    for index, operation in enumerate(batch.operations):
        _check(index, operation, bullets, book)
        effect(book, operation, batch.sources, revision)
    return Change(changed=book.changed(), added=book.added())


# --- what is allowed ------------------------------------------------------------------------------------------------


def check_batch(batch: Batch) -> None:
    """Everything that needs no bullet. Raises ``Refused``."""
    if not 1 <= len(batch.operations) <= MAX_OPERATIONS:
        raise _invalid(None, f"it has {len(batch.operations)} operations; 1 to {MAX_OPERATIONS} are allowed.")
    if len(batch.sources) > MAX_SOURCES:
        raise _invalid(None, f"it names {len(batch.sources)} sources; at most {MAX_SOURCES} are allowed.")
    check_texts(batch)
    for index, operation in enumerate(batch.operations):
        _check_alone(index, operation)


def check_texts(batch: Batch) -> None:
    """The batch's own: who, from what, why. Raises ``Refused``."""
    _text(None, "actor", batch.actor, MAX_NAME_CHARACTERS)
    for source in batch.sources:
        _text(None, "source", source, MAX_NAME_CHARACTERS)
    if batch.key:
        _text(None, "key", batch.key, MAX_NAME_CHARACTERS)
    if batch.reason:
        _text(None, "reason", batch.reason, MAX_REASON_CHARACTERS)


def _check_alone(index: int, operation: Operation) -> None:
    match operation:
        case Add(section=section, content=content):
            _text(index, "section", section, MAX_SECTION_CHARACTERS)
            _text(index, "content", content, MAX_CONTENT_CHARACTERS, lines=True)
        case Update(content=content):
            _text(index, "content", content, MAX_CONTENT_CHARACTERS, lines=True)
        case Merge():
            _check_merge_alone(index, operation)
        case Tag():
            for counter in ("helpful", "harmful", "neutral"):
                count = getattr(operation, counter)
                if type(count) is not int or abs(count) > MAX_TAG:
                    raise _invalid(index, f"{counter} is {count!r}; it may be {-MAX_TAG} to {MAX_TAG}.", operation.id)
        case _:
            if reason := getattr(operation, "reason", ""):
                _text(index, "reason", reason, MAX_REASON_CHARACTERS)


def _check_merge_alone(index: int, merge: Merge) -> None:
    _text(index, "content", merge.content, MAX_CONTENT_CHARACTERS, lines=True)
    if merge.into in merge.ids:
        raise Refused(index, Why.ITSELF, f"{merge.into} is merged into itself; name other bullets.", merge.into)
    if not merge.ids or len(set(merge.ids)) < len(merge.ids):
        raise _invalid(index, f"it merges {list(merge.ids)}; name one bullet or more, each once.", merge.into)
    if len(merge.revisions) != 1 + len(merge.ids):
        given, wanted = len(merge.revisions), 1 + len(merge.ids)
        raise _invalid(index, f"it has {given} revisions; {wanted} are needed, the survivor's first.", merge.into)


def _check(index: int, operation: Operation, bullets: Mapping[str, Bullet], book: Book) -> None:
    """Against the bullets as they are after the operations before this one."""
    ids = named(operation)
    for id in ids:
        if id not in bullets:
            hint = "Ids are given by the book. Type: potstill playbook show"
            raise Refused(index, Why.UNKNOWN, f"there is no bullet {id[:40]!r}. {hint}", id)
    if isinstance(operation, Update):
        _check_content(index, book[operation.id], operation.revision)
    elif isinstance(operation, _DECISIONS) and operation.revision is not None:
        _check_revision(index, book[operation.id], operation.revision)
    if isinstance(operation, Merge):
        for id, revision in zip(ids, operation.revisions, strict=True):
            _check_content(index, bullet := book[id], revision)
            if bullet.quarantined:
                raise Refused(
                    index, Why.QUARANTINED, f"{id} is in quarantine and cannot be merged. Restore it first.", id
                )


def _check_content(index: int, bullet: Bullet, revision: int) -> None:
    if bullet.removed:
        gone = f"was merged into {bullet.merged_into}" if bullet.merged_into else "was removed"
        hint = f"Change {bullet.merged_into} instead, or restore it" if bullet.merged_into else "Restore it first"
        raise Refused(index, Why.REMOVED, f"{bullet.id} {gone}. {hint}.", bullet.id)
    _check_revision(index, bullet, revision)


def _check_revision(index: int, bullet: Bullet, revision: int) -> None:
    if bullet.revision != revision:
        found = f"{bullet.id} is at revision {bullet.revision} now, this was written for {revision}."
        raise Refused(index, Why.STALE, f"{found} Read it again and decide again.", bullet.id)


_NOT_IN_A_LINE = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_NOT_IN_LINES = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


def _text(index: int | None, name: str, text: str, most: int, *, lines: bool = False) -> None:
    """Not blank, not too long, and nothing that a terminal, a database or an encoder stumbles over."""
    if not text.strip():
        raise _invalid(index, f"its {name} is empty; it must say something.")
    if len(text) > most:
        raise _invalid(index, f"its {name} has {len(text)} characters; at most {most} are allowed.")
    if found := (_NOT_IN_LINES if lines else _NOT_IN_A_LINE).search(text):
        character = found.group()
        kind = "half of a character," if character >= "\ud800" else "the control character"
        raise _invalid(index, f"its {name} holds {kind} {character!r}; take it out.")


def _invalid(index: int | None, reason: str, id: str = "") -> Refused:
    return Refused(index, Why.INVALID, reason, id)


# --- the log --------------------------------------------------------------------------------------------------------


class Erased(Struct, frozen=True, kw_only=True):
    """What is left of an operation whose source was forgotten: enough to replay the others."""

    kind: str
    """``ADD``, ``UPDATE``, ..."""
    ids: tuple[str, ...]
    """That it named; of an ``ADD`` the one that it was given."""
    section: str = ""
    """Of an ``ADD`` whose bullet has a content from elsewhere by now; empty otherwise."""
    stage: Stage = Stage.SHADOW
    """Of an ``ADD``."""
    index: int = 0
    """Where it stood among the operations of its batch, from 0: others of them may be left."""
    after: int = 0
    """Of an ``UPDATE`` of a batch without sources: the revision with which the text came that it took the place of. If
    that text is still in the log, it does not come back. 0: whatever text there was may come back."""


class Entry(Struct, frozen=True, kw_only=True):
    """A row of the log: a batch that was applied."""

    revision: int
    """The book's with it, from 1."""
    at: float
    """Unix seconds."""
    batch: Batch
    """Without sources, key and reason and the operations that were erased, where it was."""
    ids: tuple[str, ...] = ()
    """Of the bullets that its ``ADD``s made."""
    erased: tuple[Erased, ...] = ()
    """What stands in place of operations whose source was forgotten."""
    forgot: str = ""
    """Of a ``FORGET``: the SHA-256 of the source's id. Such a batch has no operations."""


def erase(entry: Entry, survivors: Iterable[str]) -> Entry:
    """The row without anything that its sources taught. ``survivors``: bullets with a content from elsewhere by now."""
    kept, given = set(survivors), iter(entry.ids)
    operations = enumerate(entry.batch.operations)
    erased = tuple(_erased(index, operation, given, kept) for index, operation in operations)
    bare = Batch(operations=(), actor=entry.batch.actor, base=entry.batch.base)
    return msgspec.structs.replace(entry, batch=bare, erased=entry.erased or erased)


def _erased(index: int, operation: Operation, given: Iterable[str], kept: set[str]) -> Erased:
    kind = kind_of(operation)
    if not isinstance(operation, Add):
        return Erased(kind=kind, ids=named(operation), index=index)
    id = next(iter(given))
    section = operation.section if id in kept else ""
    return Erased(kind=kind, ids=(id,), section=section, stage=operation.stage, index=index)


def steps(entry: Entry) -> Iterator[Operation | Erased]:
    """The operations of a row, and what is left of erased ones, in the order in which they were."""
    if not entry.erased:
        yield from entry.batch.operations
        return
    erased = {one.index: one for one in entry.erased}
    left = iter(entry.batch.operations)
    for index in range(len(erased) + len(entry.batch.operations)):
        yield erased[index] if index in erased else next(left)


def kind_of(operation: Operation) -> str:
    """``ADD``, ``UPDATE``, ``TAG``, ..."""
    return str(operation.__struct_config__.tag)


def replay(entries: Iterable[Entry]) -> dict[str, Bullet]:
    """The bullets after these entries, which begin with the book's first and leave none out; by their ids.

    Nothing is refused: each entry was allowed once. Where one was erased since, the others do what is left for them to
    do: an ``UPDATE`` of a bullet whose ``ADD`` was erased gives it the text; one that nobody gave a text is gone.
    """
    book = Book({}, 1)
    for entry in entries:
        if entry.erased:
            for step in steps(entry):
                advance(book, step, entry)
            continue
        sources, revision = entry.batch.sources, entry.revision
        for operation in entry.batch.operations:
            effect(book, operation, sources, revision)
    return {bullet.id: bullet for bullet in book if bullet.content}


def advance(book: Book, step: Operation | Erased, entry: Entry) -> None:
    """Do one step of a replay."""
    if isinstance(step, Erased):
        _leave_trace(book, step, entry.revision)
    else:
        effect(book, step, entry.batch.sources, entry.revision)


def _leave_trace(book: Book, erased: Erased, revision: int) -> None:
    """Numbers and revisions go on as if it had happened, since later batches name them."""
    if erased.kind == kind_of(Add(section="", content="")):
        book.add(erased.section, "", erased.stage, (), revision)
    elif erased.kind != kind_of(Tag(id="")):
        for id in erased.ids:
            if id in book and erased.after and book[id].changed_in == erased.after:
                book.put(id, content="")
            elif id in book:
                book.put(id)


# --- comparing ------------------------------------------------------------------------------------------------------

_NOT_FREE = ("id", "number", "revision", "added_in", "changed_in")


def state_hash(bullets: Mapping[str, Bullet]) -> str:
    """SHA-256 (hexadecimal) of everything about these bullets. Equal for two replays of one log."""
    ordered = sorted(bullets.values(), key=lambda bullet: bullet.number)
    return hashlib.sha256(msgspec.json.encode(ordered)).hexdigest()


def free_hash(bullets: Mapping[str, Bullet]) -> str:
    """As ``state_hash``, but without what depends on the order in which bullets came: ids, numbers and revisions.

    Equal for two orders of the same batches where these only add and tag. Where bullets name others (a merge), the
    text of those stands for them.
    """
    encoded = sorted(msgspec.json.encode(_free(bullet, bullets), order="deterministic") for bullet in bullets.values())
    return hashlib.sha256(b"\n".join(encoded)).hexdigest()


def _free(bullet: Bullet, bullets: Mapping[str, Bullet]) -> dict[str, Any]:
    def text(id: str) -> list[str]:
        return [bullets[id].section, bullets[id].content] if id in bullets else []

    fields = {name: getattr(bullet, name) for name in bullet.__struct_fields__ if name not in _NOT_FREE}
    fields["merged_into"] = text(bullet.merged_into)
    fields["lineage"] = sorted(text(id) for id in bullet.lineage)
    return fields
