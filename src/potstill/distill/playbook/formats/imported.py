"""What an import reads: bullets of somebody's file, before they are operations, and the errors that reading may raise.

What it knows: the fields that any of the formats carries, limits, and how bytes become text. What it does not do: parse
a format (one file each), write to a book (``batches`` makes the operations).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import NoReturn

import msgspec

from potstill.distill.playbook import neutral
from potstill.distill.playbook.apply import MAX_NAME_CHARACTERS, MAX_SOURCES
from potstill.distill.playbook.operations import MAX_CONTENT_CHARACTERS, Bullet, Stage
from potstill.distill.playbook.sections import Sections, section_key
from potstill.errors import ConfigError
from potstill.types import Struct

MAX_FILE_BYTES = 64 << 20
"""Of a file to import. The largest playbook that was published has 359 bullets in about 100 KB."""

MAX_COUNTER = 1_000_000_000
"""Of one counter in a file: more is a damaged file."""


class BadPlaybookFile(ConfigError):
    """A file that cannot be imported: nothing of it was read. The message names the place and what to type."""


class ImportedBullet(Struct, frozen=True, kw_only=True):
    """One bullet as a file has it, its texts neutralised."""

    section: str
    """Its key (``sections.section_key``); ``others`` where the file has no heading above it."""
    content: str
    helpful: int = 0
    harmful: int = 0
    neutral: int = 0
    foreign_id: str = ""
    """What the file calls it. The book gives ids of its own; this one is for messages."""
    stage: Stage | None = None
    """None: the file does not say."""
    pinned: bool = False
    quarantined: bool = False
    sources: tuple[str, ...] = ()
    """Trajectories that it was learnt from, where the file says so: what ``forget --source`` looks for."""


class Imported(Struct, frozen=True, kw_only=True):
    """What a file holds, in its order, and what of it could not be taken along."""

    items: tuple[ImportedBullet, ...]
    format: str
    digest: str = ""
    """SHA-256 of the file, in hex: makes a repeated import of the same file recognisable."""
    warnings: tuple[str, ...] = ()
    """Sentences for people: everything that stands in the file and is not in ``items``."""


def refuse(what: str, advice: str) -> NoReturn:
    """Raise ``BadPlaybookFile``: what is wrong with the file, and what to do."""
    raise BadPlaybookFile(f"{what} Nothing was imported. {advice}")


def text_of(data: bytes) -> str:
    """The file as text with ``\\n`` line ends. Raises ``BadPlaybookFile`` where it is empty, too large or no UTF-8."""
    if len(data) > MAX_FILE_BYTES:
        refuse(f"The file has {len(data):,} bytes, allowed are {MAX_FILE_BYTES:,}.", "Split it at its headings.")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        refuse(
            f"The file is not UTF-8: byte {error.start} is 0x{data[error.start]:02x}.",
            "Type: iconv -t UTF-8 FILE > COPY, and import the copy.",
        )
    if "\x00" in text:
        refuse(f"The file is not text: character {text.index(chr(0))} is NUL.", "Give the file that was exported.")
    if not text.strip():
        refuse("The file is empty.", "Give the file that was exported.")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def counter(value: int, name: str, place: str) -> int:
    """A counter from a file. Raises ``BadPlaybookFile`` outside of 0 to ``MAX_COUNTER``."""
    if not 0 <= value <= MAX_COUNTER:
        refuse(f"{place}: {name} is {value}, allowed are 0 to {MAX_COUNTER:,}.", "Correct the number in the file.")
    return value


def imported(items: Sequence[ImportedBullet], format: str, warnings: Sequence[str] = ()) -> Imported:
    """Neutralises the texts of what a format's parser found; says which bullets have no text left, or were cut."""
    kept: list[ImportedBullet] = []
    notes = list(warnings)
    for item in items:
        content = neutral.content(item.content)
        if not content:
            notes.append(f"{_called(item)} has no text and is left out.")
            continue
        if content.endswith(" characters, cut here]") and not item.content.endswith(content[-30:]):
            notes.append(
                f"{_called(item)} has {len(item.content):,} characters and is cut to {MAX_CONTENT_CHARACTERS:,}."
            )
        kept.append(
            msgspec.structs.replace(
                item,
                section=section_key(item.section),
                content=content,
                foreign_id=neutral.line(item.foreign_id, 80),
                sources=tuple(_source(source) for source in item.sources[:MAX_SOURCES]),
            )
        )
        if len(item.sources) > MAX_SOURCES:
            notes.append(f"{_called(item)} has {len(item.sources)} sources; the first {MAX_SOURCES} are taken.")
    if not kept:
        notes.append("The file holds no bullets.")
    return Imported(items=tuple(kept), format=format, warnings=tuple(notes))


def repeated_ids(items: Sequence[ImportedBullet]) -> list[str]:
    """The warning for ids that stand in a file more than once; all of their bullets are kept."""
    seen: set[str] = set()
    twice: dict[str, None] = {}
    for item in items:
        if item.foreign_id and item.foreign_id in seen:
            twice[item.foreign_id] = None
        seen.add(item.foreign_id)
    if not twice:
        return []
    return [f"{len(twice)} ids stand more than once ({_some(list(twice))}); every bullet of them is kept."]


def in_sections(bullets: Sequence[Bullet], sections: Sections) -> list[tuple[str, list[Bullet]]]:
    """The bullets, neutral, under their section's title; every known section, in order, then the others by key."""
    found: dict[str, list[Bullet]] = {section.key: [] for section in sections.known}
    for bullet in bullets:
        content = neutral.content(bullet.content)
        found.setdefault(section_key(bullet.section), []).append(msgspec.structs.replace(bullet, content=content))
    return [(sections.title(key), found[key]) for key in sorted(found, key=sections.rank)]


def one_line(text: str) -> str:
    """For formats whose bullet is a line: its lines with a blank between."""
    return " ".join(line.strip() for line in text.split("\n"))


def _source(source: str) -> str:
    """The id of a trajectory as it is, or the hash of one that no book accepts."""
    fits = source.isprintable() and 0 < len(source.strip()) <= MAX_NAME_CHARACTERS
    return source if fits else "sha256:" + hashlib.sha256(source.encode("utf-8", "replace")).hexdigest()


def _called(item: ImportedBullet) -> str:
    name = neutral.line(item.foreign_id, 80)
    return f"The bullet {name}" if name else f"A bullet under '{section_key(item.section)}'"


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(neutral.line(name, 80) for name in names[:3])
    return shown if len(names) <= 3 else f"{shown}, ..."
