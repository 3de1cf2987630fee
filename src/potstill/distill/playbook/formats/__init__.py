"""Playbooks from and to files of others: which formats there are, what each can carry, and which one a file has.

>>> from potstill.distill.playbook import formats
>>> book = formats.read(b"## OTHERS\\n[misc-00001] helpful=2 harmful=0 :: Read the docs first.\\n")
>>> book.format, book.items[0].helpful
('ace', 2)

What it knows: names and functions. What it does not do: parse (one file a format).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

import msgspec

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
    "FORMATS",
    "BadPlaybookFile",
    "Book",
    "Format",
    "Imported",
    "ImportedBullet",
    "batches",
    "became",
    "exported",
    "follow_up",
    "format_named",
    "read",
    "read_book",
    "sniff",
    "write",
]


Reader = Callable[[bytes], Imported]
Writer = Callable[[Sequence[Bullet], Sections], bytes]


class Format(Struct, frozen=True, kw_only=True):
    name: str
    summary: str
    """For the help of the command line."""
    read: Reader
    write: Writer
    carries: frozenset[str]
    """Fields of a bullet, beside section and content, that come back after an export and an import."""
    whole: bool = False
    """Whether it holds bullets that are removed, quarantined or in shadow, and says that they are."""


def _format(name: str, summary: str, read: Reader, write: Writer, carries: str = "", whole: bool = False) -> Format:
    return Format(name=name, summary=summary, read=read, write=write, carries=frozenset(carries.split()), whole=whole)


FORMATS = {
    entry.name: entry
    for entry in (
        _format("json", "potstill's own: everything", own.read, own.write, " ".join(own.CARRIES), whole=True),
        _format("ace", "ACE text with counters", ace.read, ace.write, "helpful harmful"),
        _format("ace-plain", "ACE text without counters", ace.read, ace.write_plain),
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


def read(data: bytes, format: str | None = None) -> Imported:
    """The bullets of a file. ``format``: one of ``FORMATS``; None: what the bytes look like.

    Raises ``BadPlaybookFile`` (nothing is read then) and ``UnknownName``.
    """
    found = format_named(format or sniff(data)).read(data)
    return msgspec.structs.replace(found, digest=hashlib.sha256(data).hexdigest())


def write(format: str, bullets: Sequence[Bullet], sections: Sections = DEFAULT, *, shadow: bool = False) -> bytes:
    """A file for others: the bullets under ``sections`` in their order, then under the sections that only bullets name.

    A format that cannot say that a bullet is removed, quarantined or in shadow does not get such bullets: whoever reads
    the file would be shown them. ``shadow``: those in shadow all the same. Raises ``UnknownName``.
    """
    chosen = format_named(format)
    return chosen.write(exported(format, bullets, shadow=shadow), sections)


def exported(format: str, bullets: Sequence[Bullet], *, shadow: bool = False) -> tuple[Bullet, ...]:
    """The bullets that ``write`` writes; the difference in number is what to tell the user."""
    if format_named(format).whole:
        return tuple(bullets)
    usable = (bullet for bullet in bullets if not bullet.removed and not bullet.quarantined)
    return tuple(bullet for bullet in usable if shadow or bullet.stage is not Stage.SHADOW)
