"""Bullets as text: which bytes a model sees, and why they stay the same from episode to episode.

    ## STRATEGIES & HARD RULES
    [b-3] Open a container before taking from it.
    [b-7] Look at the shelf first.

    ## COMMON MISTAKES TO AVOID
    [b-5] Do not put two things down at once.

What it knows: lines, headers, and which bytes may change when. What it does not do: choose bullets (``budget``), hold
a text over time (``page``), clean what a model wrote (``border`` and ``neutral`` do so before anything is stored).

*Unforgeable by itself.* Only this file writes what stands at the start of a line: ``##`` and a section's title, or the
id that a bullet's number gives. Content stands behind its id; its further lines begin with four spaces. It is made
neutral once more, whatever the store held: that is the identity on what the border let in. So any content renders as
exactly one bullet.

*Stable.* No counter, stage or date is in the text. A header is written wherever the section changes, so a text grows by
pure appending: sections come again at the tail, and a compaction gathers them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from potstill.distill.playbook.neutral import INDENT, content
from potstill.distill.playbook.operations import Bullet
from potstill.distill.playbook.sections import DEFAULT, Sections, section_key
from potstill.types import Struct

_BULLET = re.compile(r"\[(b-[1-9][0-9]*)\](?: (.*))?")
_HEADER = "## "


class Entry(Struct, frozen=True, kw_only=True):
    """One bullet as it stands in a text: its line is kept while the book goes on."""

    id: str
    section: str
    """A key."""
    line: str
    sources: tuple[str, ...] = ()
    """What the line was learnt from, as the book said when it was written: how a forgotten source is noticed."""


def entry(bullet: Bullet) -> Entry:
    return Entry(
        id=bullet.id, section=section_key(bullet.section), line=bullet_line(bullet), sources=tuple(bullet.sources)
    )


def bullet_line(bullet: Bullet) -> str:
    """``[b-12] content``, without a line feed at its end. The id is written from the bullet's number.

    >>> bullet_line(Bullet(id="b-2", number=2, section="tools", content="See [b-9]: sum first."))
    '[b-2] See [b - 9]: sum first.'
    """
    return f"[b-{bullet.number}] {content(bullet.content)}".rstrip()


def header(section: str, sections: Sections = DEFAULT) -> str:
    return _HEADER + sections.title(section)


def render(entries: Iterable[Entry], sections: Sections = DEFAULT) -> str:
    """The text of entries in the order given; none give an empty text."""
    return "".join(pieces(entries, sections))


def pieces(entries: Iterable[Entry], sections: Sections = DEFAULT, after: str | None = None) -> list[str]:
    """What each entry adds to the text. ``after``: the section of the entry before the first; None: there is none."""
    made = []
    for one in entries:
        if one.section == after:
            made.append(f"\n{one.line}")
        else:
            gap = "" if after is None else "\n\n"
            made.append(f"{gap}{header(one.section, sections)}\n{one.line}")
        after = one.section
    return made


def in_order(bullets: Iterable[Bullet], sections: Sections = DEFAULT) -> list[Bullet]:
    """By section, then by number: the order that a compaction fixes."""
    return sorted(bullets, key=lambda bullet: (sections.rank(bullet.section), bullet.number))


def read_back(text: str) -> list[tuple[str, str, str]]:
    """(title of the section, id, content) of each bullet of a rendered text.

    Raises ``ValueError`` for a line that this file did not write.
    """
    found: list[tuple[str, str, str]] = []
    title = ""
    for line in text.split("\n"):
        match = _BULLET.fullmatch(line)
        if match:
            found.append((title, match[1], match[2] or ""))
        elif line.startswith(_HEADER):
            title = line[len(_HEADER) :]
        elif line.startswith(INDENT) and found:
            found[-1] = (*found[-1][:2], f"{found[-1][2]}\n{line}")
        elif line:
            raise ValueError(f"not a line of a playbook: {line!r}")
    return found


def ids_of(entries: Sequence[Entry]) -> tuple[str, ...]:
    return tuple(one.id for one in entries)
