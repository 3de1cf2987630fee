"""Playbooks from and to files of others: which formats there are, what each can carry, and which one a file has.

>>> from potstill.distill.playbook import formats
>>> book = formats.read(b"## OTHERS\\n[misc-00001] helpful=2 harmful=0 :: Read the docs first.\\n")
>>> book.format, book.items[0].helpful
('ace', 2)

What it knows: names and functions. What it does not do: parse (one file a format).
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

from potstill.distill.playbook import neutral
from potstill.distill.playbook.formats import ace, cheatsheet, kayba, markdown, own, skill
from potstill.distill.playbook.formats.batches import batches, became, follow_up
from potstill.distill.playbook.formats.imported import BadPlaybookFile, Imported, ImportedBullet
from potstill.distill.playbook.formats.own import Book, read_book
from potstill.distill.playbook.formats.sniff import sniff
from potstill.distill.playbook.operations import Bullet, Stage
from potstill.distill.playbook.sections import DEFAULT, Sections
from potstill.errors import UnknownName
from potstill.types import Struct

__all__ = [
    "FIELDS",
    "FORMATS",
    "HIDDEN",
    "NEW_IN_EACH_BOOK",
    "BadPlaybookFile",
    "Book",
    "Format",
    "Imported",
    "ImportedBullet",
    "batches",
    "became",
    "dropped",
    "exported",
    "follow_up",
    "format_named",
    "joined",
    "left_out",
    "read",
    "read_book",
    "sniff",
    "write",
]


class Reader(Protocol):
    def __call__(self, data: bytes, *, skip_bad: bool = False) -> Imported: ...


Writer = Callable[[Sequence[Bullet], Sections], bytes]


class Format(Struct, frozen=True, kw_only=True):
    name: str
    summary: str
    """For the help of the command line."""
    read: Reader
    write: Writer
    carries: frozenset[str]
    """Fields of a bullet, beside section and content, that come back after an export and an import: of ``FIELDS``."""
    whole: bool = False
    """Whether it holds bullets that are removed, quarantined or in shadow, and says that they are."""
    lines: bool = True
    """Whether a bullet's lines stay lines. Where not, its program code is no longer any."""


FIELDS = {
    "helpful": "helpful votes",
    "harmful": "harmful votes",
    "neutral": "neutral votes",
    "stage": "stage",
    "pinned": "pins",
    "sources": "sources",
    "lineage": "what was merged into it",
}
"""Fields that not every format carries, and what people call them."""
NEW_IN_EACH_BOOK = ("id", "number", "revision", "added_in", "changed_in")
"""Fields that a bullet gets anew with an import, also of our own file, which holds them."""
HIDDEN = {"removed": "removed", "quarantined": "quarantined", "shadow": "in shadow"}
"""Why a bullet may not be in a file, and how that is said."""


def _format(
    name: str, summary: str, read: Reader, write: Writer, carries: str = "", *, whole: bool = False, lines: bool = True
) -> Format:
    fields = frozenset(carries.split())
    return Format(name=name, summary=summary, read=read, write=write, carries=fields, whole=whole, lines=lines)


FORMATS = {
    entry.name: entry
    for entry in (
        _format("json", "potstill's own: everything", own.read, own.write, " ".join(own.CARRIES), whole=True),
        _format("ace", "ACE text with counters", ace.read, ace.write, "helpful harmful", lines=False),
        _format("ace-plain", "ACE text without counters", ace.read, ace.write_plain, lines=False),
        _format("kayba-v1", "ace-framework 0.5 to 0.9", kayba.read_v1, kayba.write_v1, "helpful harmful neutral"),
        _format("kayba-v2", "ace-framework 0.10 to 0.13", kayba.read_v2, kayba.write_v2, "helpful harmful neutral"),
        _format("dynamic-cheatsheet", "memory items with counts", cheatsheet.read, cheatsheet.write, "helpful"),
        _format("markdown", "lists under headings", markdown.read, markdown.write),
        _format("skill", "SKILL.md", skill.read_skill, skill.write_skill),
        _format("agents", "AGENTS.md", skill.read_agents, skill.write_agents),
    )
}


def format_named(name: str) -> Format:
    """Raises ``UnknownName`` with the nearest name."""
    if name not in FORMATS:
        raise UnknownName("playbook format", name, FORMATS)
    return FORMATS[name]


def read(data: bytes, format: str | None = None, *, skip_bad: bool = False) -> Imported:
    """The bullets of a file. ``format``: one of ``FORMATS``; None: what the bytes look like. ``skip_bad``: leave out
    bullets without text or with more than a book takes, and say which.

    Raises ``BadPlaybookFile`` (nothing is read then) and ``UnknownName``.
    """
    found = format_named(format or sniff(data)).read(data, skip_bad=skip_bad)
    return msgspec.structs.replace(found, digest=hashlib.sha256(data).hexdigest())


def write(format: str, bullets: Sequence[Bullet], sections: Sections = DEFAULT, *, shadow: bool = False) -> bytes:
    """A file for others: the bullets under ``sections`` in their order, then under the sections that only bullets name.

    A format that cannot say that a bullet is removed, quarantined or in shadow does not get such bullets: whoever reads
    the file would be shown them. ``shadow``: those in shadow all the same. Raises ``UnknownName``.
    """
    chosen = format_named(format)
    return chosen.write(exported(format, bullets, shadow=shadow), sections)


def exported(format: str, bullets: Sequence[Bullet], *, shadow: bool = False) -> tuple[Bullet, ...]:
    """The bullets that ``write`` writes; ``left_out`` counts the others, which is to be told to the user."""
    if format_named(format).whole:
        return tuple(bullets)
    usable = (bullet for bullet in bullets if not bullet.removed and not bullet.quarantined)
    return tuple(bullet for bullet in usable if shadow or bullet.stage is not Stage.SHADOW)


def left_out(format: str, bullets: Sequence[Bullet], *, shadow: bool = False) -> dict[str, int]:
    """How many of the bullets are not in the file, by ``HIDDEN``'s reasons."""
    kept = {bullet.id for bullet in exported(format, bullets, shadow=shadow)}
    return dict(Counter(_hidden(bullet) for bullet in bullets if bullet.id not in kept))


def dropped(format: str, bullets: Sequence[Bullet]) -> dict[str, int]:
    """How many of these bullets have something that the format does not carry, by field of ``FIELDS``.

    A bullet whose field is at its default loses nothing: an import begins with the same.
    """
    chosen = format_named(format)
    if chosen.whole:
        return {}
    lost = Counter(
        field
        for bullet in bullets
        for field in FIELDS
        if field not in chosen.carries and getattr(bullet, field) != _DEFAULTS[field]
    )
    return {field: lost[field] for field in FIELDS if lost[field]}


def joined(format: str, bullets: Sequence[Bullet]) -> tuple[str, ...]:
    """The ids of those of these bullets that lose their line ends in this format; to be told to the user."""
    if format_named(format).lines:
        return ()
    return tuple(bullet.id for bullet in bullets if "\n" in neutral.content(bullet.content))


_DEFAULTS = {field.name: field.default for field in msgspec.structs.fields(Bullet)}


def _hidden(bullet: Bullet) -> str:
    return "removed" if bullet.removed else "quarantined" if bullet.quarantined else "shadow"
