"""What an import reads: bullets of somebody's file, before they are operations, and the errors that reading may raise.

What it knows: the fields that any of the formats carries, limits, which bullets no book takes, and how bytes become
text. What it does not do: parse a format (one file each), write to a book (``batches`` makes the operations).
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

_NAMED = 50
"""Bullets that one message names."""

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
    place: str = ""
    """Where it stands, such as ``line 12``; empty: ``foreign_id`` says it."""
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


def imported(
    items: Sequence[ImportedBullet], format: str, warnings: Sequence[str] = (), *, skip_bad: bool = False
) -> Imported:
    """Neutralises the texts of what a format's parser found; says which are not kept letter by letter.

    Raises ``BadPlaybookFile`` as ``checked`` does.
    """
    neutralised = [_neutral(item) for item in items]
    kept, notes = checked(neutralised, skip_bad=skip_bad)
    texts = zip(items, neutralised, strict=True)
    changed = [_called(one) for was, one in texts if one.content and one.content.split() != was.content.split()]
    notes = [*warnings, *notes]
    notes += [
        f"{_called(item)} has {len(item.sources)} sources; the first {MAX_SOURCES} are taken."
        for item in items
        if len(item.sources) > MAX_SOURCES
    ]
    if changed:
        notes.append(_broken_up(changed))
    if not kept:
        notes.append("The file holds no bullets.")
    return Imported(items=tuple(kept), format=format, warnings=tuple(notes))


def checked(items: Sequence[ImportedBullet], *, skip_bad: bool) -> tuple[list[ImportedBullet], list[str]]:
    """The bullets that a book takes, and a note on those that are left out because ``skip_bad`` says so.

    Raises ``BadPlaybookFile``, with the place of each, where some have no text or too much and ``skip_bad`` is False.
    A text is never cut: half of a lesson may say the opposite.
    """
    bad = [(item, why) for item in items if (why := _why_bad(item.content))]
    if not bad:
        return list(items), []
    named = "; ".join(f"{_at(item)} {why}" for item, why in bad[:_NAMED])
    named += f"; and {len(bad) - _NAMED:,} more" if len(bad) > _NAMED else ""
    if not skip_bad:
        refuse(
            f"{'1 bullet' if len(bad) == 1 else f'{len(bad):,} bullets'} cannot be taken: {named}. A bullet has 1 to "
            f"{MAX_CONTENT_CHARACTERS:,} characters.",
            "Shorten or divide what is too long, take out what is empty; to import all others, type: --skip-bad",
        )
    what = "1 bullet is" if len(bad) == 1 else f"{len(bad):,} bullets are"
    return [item for item in items if not _why_bad(item.content)], [f"{what} left out: {named}."]


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


def _neutral(item: ImportedBullet) -> ImportedBullet:
    """Its texts as a book keeps them, however long."""
    return msgspec.structs.replace(
        item,
        section=section_key(item.section),
        content=neutral.content(item.content, 8 * len(item.content)),
        foreign_id=neutral.line(item.foreign_id, 80),
        sources=tuple(_source(source) for source in item.sources[:MAX_SOURCES]),
    )


def _why_bad(content: str) -> str:
    if not content:
        return "has no text"
    return f"has {len(content):,} characters" if len(content) > MAX_CONTENT_CHARACTERS else ""


def _at(item: ImportedBullet) -> str:
    """Where a bullet stands in its file, and what it is called there."""
    name = neutral.line(item.foreign_id, 80)
    if not item.place:
        return name or f"a bullet under '{section_key(item.section)}'"
    return f"{item.place} ({name})" if name else item.place


def _broken_up(names: Sequence[str]) -> str:
    """The note for texts that are not kept as the file has them."""
    shown = ", ".join(name.removeprefix("The bullet ") for name in names[:_NAMED])
    more = f" and {len(names) - _NAMED:,} more" if len(names) > _NAMED else ""
    what = "1 bullet is" if len(names) == 1 else f"{len(names):,} bullets are"
    return (
        f"{what} not kept letter by letter ({shown}{more}): what reads like a heading, a bullet, an id, a fence or a "
        "token of a template is broken up with a backslash or a space, and what nobody sees is left out."
    )


def _called(item: ImportedBullet) -> str:
    name = neutral.line(item.foreign_id, 80)
    return f"The bullet {name}" if name else f"A bullet under '{section_key(item.section)}'"


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(neutral.line(name, 80) for name in names[:3])
    return shown if len(names) <= 3 else f"{shown}, ..."
