"""The past of a playbook: the log up to a revision, what changed between two states, who wrote what.

What it knows: entries of the log and how to replay them. What it does not do: read the log, change it (``undo`` writes
a batch, ``forgetting`` erases), or decide who may see it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any

import msgspec

from potstill.distill.playbook.apply import Entry
from potstill.distill.playbook.operations import Bullet
from potstill.errors import ConfigError
from potstill.types import Struct

COUNTERS = ("helpful", "harmful", "neutral")
FIELDS = ("section", "content", "stage", "pinned", "quarantined", "merged_into", "lineage", "sources")
"""What a difference is about, beside the counters. A removal is its kind; revisions say nothing of their own."""


def as_of(entries: Sequence[Entry], revision: int) -> tuple[Entry, ...]:
    """The log as it was when the book had this revision; 0: before its first batch. To see the book, replay it.

    Raises ``ConfigError`` for a revision that the log does not reach.
    """
    last = entries[-1].revision if entries else 0
    if not 0 <= revision <= last:
        raise ConfigError(f"The playbook has no revision {revision}. Available: 0 (empty) to {last}.")
    return tuple(entry for entry in entries if entry.revision <= revision)


class DifferenceKind(StrEnum):
    ADDED = "added"
    REMOVED = "removed"
    """Taken out, merged into another one, or forgotten."""
    RESTORED = "restored"
    CHANGED = "changed"
    COUNTED = "counted"
    """Nothing but its counters."""


Value = str | int | bool | tuple[str, ...]


class FieldDifference(Struct, frozen=True, kw_only=True):
    """A field's value on both sides; ``None`` where the bullet is not."""

    field: str
    before: Value | None = None
    after: Value | None = None


class Difference(Struct, frozen=True, kw_only=True):
    """What became of one bullet between two states."""

    id: str
    kind: DifferenceKind
    fields: tuple[FieldDifference, ...] = ()
    counters: tuple[FieldDifference, ...] = ()
    """Apart: votes come and go without anybody having edited anything."""


def diff(before: Mapping[str, Bullet], after: Mapping[str, Bullet]) -> tuple[Difference, ...]:
    """What changed between two states of a book, in the order of the bullets' numbers.

    A bullet that is in neither, or removed on both sides and otherwise the same, is left out; so is one that came and
    was removed in between. Revisions are not compared: they grow when a change is undone, too.
    """
    bullets = {**before, **after}
    ids = sorted(bullets, key=lambda id: bullets[id].number)
    changes = (_change(id, before.get(id), after.get(id)) for id in ids)
    return tuple(change for change in changes if change is not None)


def _change(id: str, before: Bullet | None, after: Bullet | None) -> Difference | None:
    if before == after:  # most of a long book
        return None
    was, stands = _stands(before), _stands(after)
    if (before is None and not stands) or (after is None and not was):
        return None
    fields = _compare(before, after, FIELDS)
    counters = _compare(before, after, COUNTERS)
    if was != stands:
        kind = DifferenceKind.REMOVED if was else DifferenceKind.ADDED if before is None else DifferenceKind.RESTORED
    elif fields or counters:
        kind = DifferenceKind.CHANGED if fields else DifferenceKind.COUNTED
    else:
        return None
    return Difference(id=id, kind=kind, fields=fields, counters=counters)


def _stands(bullet: Bullet | None) -> bool:
    return bullet is not None and not bullet.removed


def _compare(before: Bullet | None, after: Bullet | None, names: tuple[str, ...]) -> tuple[FieldDifference, ...]:
    empty = Bullet(id="", number=0, section="", content="")
    pairs = ((name, getattr(before or empty, name), getattr(after or empty, name)) for name in names)
    return tuple(
        FieldDifference(field=name, before=old if before else None, after=new if after else None)
        for name, old, new in pairs
        if old != new
    )


def as_json(changes: Sequence[Difference]) -> list[dict[str, Any]]:
    """The changes as plain JSON values: ``id``, ``kind``, ``fields`` and ``counters``, each of these a list."""
    return [
        {
            "id": change.id,
            "kind": change.kind.value,
            "fields": [_field_json(field) for field in change.fields],
            "counters": [_field_json(field) for field in change.counters],
        }
        for change in changes
    ]


def _field_json(change: FieldDifference) -> dict[str, Any]:
    return {
        "field": change.field,
        "before": msgspec.to_builtins(change.before),
        "after": msgspec.to_builtins(change.after),
    }


def as_lines(changes: Sequence[Difference]) -> list[str]:
    """The changes for people, in the look of a unified diff: ``@@`` a bullet, ``-`` and ``+`` what its fields were and
    are, a space before the counters. No line break or other control character of a content reaches these lines."""
    lines: list[str] = []
    for change in changes:
        lines.append(f"@@ {change.id} {change.kind} @@")
        for field in change.fields:
            name = "" if field.field == "content" else f"{field.field}: "
            lines += [f"-{name}{_shown(field.before)}"] if field.before not in (None, "", (), False) else []
            lines += [f"+{name}{_shown(field.after)}"] if field.after not in (None, "", (), False) else []
        lines += [
            f" {count.field}: {_shown(count.before or 0)} -> {_shown(count.after or 0)}" for count in change.counters
        ]
    return lines


def _shown(value: Value | None) -> str:
    if isinstance(value, tuple):
        return ", ".join(map(_shown, value))
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
