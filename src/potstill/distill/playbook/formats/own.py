"""potstill's own playbook file: JSON with everything that the table of bullets has, nothing lost.

    {"format": "potstill-playbook", "version": 1, "sections": [...], "bullets": [{...}, ...]}

What it knows: the version, and what a file must fulfil to be a book (each id and number once, counters in range). What
it does not do: hold the log, which stays in the store.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import msgspec

from potstill.distill.playbook.formats.imported import (
    MAX_COUNTER,
    Imported,
    ImportedBullet,
    counter,
    imported,
    refuse,
    text_of,
)
from potstill.distill.playbook.operations import Bullet
from potstill.distill.playbook.sections import Section, Sections
from potstill.errors import NOT_JSON
from potstill.types import Struct

NAME = "potstill-playbook"
VERSION = 1
CARRIES = ("helpful", "harmful", "neutral", "stage", "pinned", "quarantined", "sources")
"""Fields that an import takes into another book; ``read_book`` has them all."""


class _Head(msgspec.Struct):
    format: str
    version: Annotated[int, msgspec.Meta(ge=1)]


class Book(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A playbook's present state, with removed and quarantined bullets."""

    sections: tuple[Section, ...]
    bullets: tuple[Bullet, ...]
    format: Literal["potstill-playbook"] = "potstill-playbook"
    version: int = VERSION


def write(bullets: Sequence[Bullet], sections: Sections) -> bytes:
    """Every field of every bullet; those at their default are left out."""
    book = msgspec.to_builtins(Book(sections=sections.known, bullets=tuple(bullets)))
    document = {"format": NAME, "version": VERSION, "sections": book["sections"], "bullets": book["bullets"]}
    return msgspec.json.format(msgspec.json.encode(document), indent=1) + b"\n"


def read_book(data: bytes) -> Book:
    """What ``write`` wrote, exactly. Raises ``BadPlaybookFile``: damaged, from a newer version, or no book at all."""
    text = text_of(data)
    try:
        head = msgspec.json.decode(text, type=_Head)
    except NOT_JSON as error:
        refuse(f"The file is no {NAME} file: {error}.", "If it is another format, name it with --format.")
    if head.format != NAME:
        refuse(f"The file says format {head.format!r}, not {NAME!r}.", "Name its format with --format.")
    if head.version > VERSION:
        refuse(
            f"The file has version {head.version} of {NAME}, this potstill reads up to {VERSION}.",
            "Type: pip install --upgrade potstill",
        )
    try:
        book = msgspec.json.decode(text, type=Book)
    except NOT_JSON as error:
        refuse(f"The file is damaged: {error}.", "Export the playbook anew.")
    _check(book)
    _check_fields(text)
    return book


def read(data: bytes, *, skip_bad: bool = False) -> Imported:
    """The bullets to add to another book: those that are not removed, with stage, pin, quarantine and sources."""
    book = read_book(data)
    items = [
        ImportedBullet(
            section=bullet.section,
            content=bullet.content,
            helpful=bullet.helpful,
            harmful=bullet.harmful,
            neutral=bullet.neutral,
            foreign_id=bullet.id,
            place=f"bullet {number}",
            stage=bullet.stage,
            pinned=bullet.pinned,
            quarantined=bullet.quarantined,
            sources=bullet.sources,
        )
        for number, bullet in enumerate(book.bullets, start=1)
        if not bullet.removed
    ]
    removed = len(book.bullets) - len(items)
    warnings = [f"{removed} removed bullets are left out."] if removed else []
    return imported(items, "json", warnings, skip_bad=skip_bad)


def _check_fields(text: str) -> None:
    """A field that this version does not know would be lost."""
    known = set(Bullet.__struct_fields__)
    for bullet in msgspec.json.decode(text)["bullets"]:
        if unknown := sorted(bullet.keys() - known):
            refuse(f"A bullet has the unknown field {unknown[0]!r}.", "Take it out of the file, or upgrade potstill.")


def _check(book: Book) -> None:
    for what, values in (
        ("id", [bullet.id for bullet in book.bullets]),
        ("number", [bullet.number for bullet in book.bullets]),
    ):
        seen: set[object] = set()
        for value in values:
            if value in seen:
                refuse(f"The {what} {value} stands twice.", "Export the playbook anew.")
            seen.add(value)
    for bullet in book.bullets:
        counts = {"helpful": bullet.helpful, "harmful": bullet.harmful, "neutral": bullet.neutral}
        for name, value in counts.items():
            counter(value, name, bullet.id)
        if not 1 <= bullet.number <= MAX_COUNTER or bullet.revision < 1:
            refuse(
                f"{bullet.id} has number {bullet.number} and revision {bullet.revision}; both begin at 1.",
                "Export the playbook anew.",
            )
