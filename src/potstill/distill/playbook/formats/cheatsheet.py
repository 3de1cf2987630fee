"""Dynamic Cheatsheet's memory (arXiv 2504.07952, cumulative variant): sections of memory items with a usage count.

    <cheatsheet>
    ## Reusable Code Snippets
    <memory_item>
    <description>When a sum must be 24 ... (Reference: Q1)</description>
    <example>from itertools import permutations ...</example>
    </memory_item>
    ** Count: 7
    </cheatsheet>

What it knows: items, their parts, counts (times a strategy was used with success: our ``helpful``), headings. What it
does not do: split free text into bullets. Neutral texts hold no tags, so none can close an item.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Sequence

from potstill.distill.playbook.formats.imported import (
    Imported,
    ImportedBullet,
    counter,
    imported,
    in_sections,
    refuse,
    text_of,
)
from potstill.distill.playbook.operations import Bullet
from potstill.distill.playbook.sections import OTHERS, Sections

_ITEM = re.compile(r"<memory_item>(?P<inside>.*?)</memory_item>(?:\s*\**[ \t]*Count:\**[ \t]*(?P<count>[0-9]+))?", re.S)
_TAG = re.compile(r"<(?P<end>/?)(?P<name>[a-z_]{1,40})>")
_COUNT = re.compile(r"\**[ \t]*Count:")
_AROUND = re.compile(r"</?cheatsheet>$|(?:\*\*)?Version:|\(empty\)$", re.I)


def read(data: bytes, *, skip_bad: bool = False) -> Imported:
    """Raises ``BadPlaybookFile`` where an item is not closed, a count is no count, or there are no items at all."""
    text = text_of(data)
    opened, closed = text.count("<memory_item>"), text.count("</memory_item>")
    if opened != closed:
        refuse(
            f"The cheatsheet has {opened} <memory_item> and {closed} </memory_item>.",
            "Close each item, or give a cheatsheet that was not cut off.",
        )
    if "<cheatsheet>" in text and "</cheatsheet>" not in text:
        refuse("<cheatsheet> is not closed: the file is cut off.", "Give the whole file.")
    if not opened and _between(text, OTHERS)[1]:
        refuse("No <memory_item> in the file.", "A cheatsheet of lists is read as Markdown. Type: --format markdown")
    items: list[ImportedBullet] = []
    section, stray, end = OTHERS, 0, 0
    for match in _ITEM.finditer(text):
        section, lines = _between(text[end : match.start()], section)
        stray += lines
        end = match.end()
        items.append(_item(match, section, len(items) + 1))
    stray += _between(text[end:], section)[1]
    warnings = [f"{stray} lines stand outside of memory items and are left out."] if stray else []
    return imported(items, "dynamic-cheatsheet", warnings, skip_bad=skip_bad)


def write(bullets: Sequence[Bullet], sections: Sections) -> bytes:
    """``helpful`` becomes the count; the other counters have no place."""
    blocks = ["<cheatsheet>"]
    for section, members in in_sections(bullets, sections):
        blocks.append(f"## {section}")
        blocks.extend(
            f"<memory_item>\n<description>\n{bullet.content}\n</description>\n</memory_item>\n"
            f"** Count: {bullet.helpful}"
            for bullet in members
        )
    return ("\n\n".join([*blocks, "</cheatsheet>"]) + "\n").encode()


def _item(match: re.Match[str], section: str, number: int) -> ImportedBullet:
    place = f"Memory item {number}"
    inside = match["inside"]
    if "<memory_item>" in inside:
        refuse(f"{place} begins inside of another one.", "Close the item before it.")
    texts = [text if name in ("", "description") else f"{name.capitalize()}: {text}" for name, text in _parts(inside)]
    return ImportedBullet(
        section=section,
        content="\n".join(texts),
        helpful=counter(int((match["count"] or "0").lstrip("0")[:19] or "0"), "the count", place),
        foreign_id=f"item {number}",
    )


def _parts(inside: str) -> list[tuple[str, str]]:
    """Name and text of each ``<name>text</name>``, and without a name the text outside of them; in one pass."""
    tags = list(_TAG.finditer(inside))
    ends: dict[str, list[int]] = {}
    for tag in tags:
        if tag["end"]:
            ends.setdefault(tag["name"], []).append(tag.start())
    parts, place = [], 0
    for tag in tags:
        closers = ends.get(tag["name"], [])
        found = bisect_left(closers, tag.end())
        if tag["end"] or tag.start() < place or found == len(closers):
            continue
        parts += [("", inside[place : tag.start()]), (tag["name"], inside[tag.end() : closers[found]])]
        place = closers[found] + len(tag["name"]) + 3
    parts.append(("", inside[place:]))
    return [(name, text.strip()) for name, text in parts if text.strip()]


def _between(text: str, section: str) -> tuple[str, int]:
    """The section that holds after this text between items, and how many lines of it are nothing that we know."""
    stray = 0
    for line in filter(None, map(str.strip, text.split("\n"))):
        if "memory_item>" in line:
            refuse("A </memory_item> stands before its <memory_item>.", "Close each item behind its beginning.")
        if _COUNT.match(line):
            refuse(f"A count is damaged: {line[:60]!r}.", "Write it as '** Count: 3' behind its item.")
        if _AROUND.match(line):
            continue
        if line.startswith(("#", "**")):
            section = line.lstrip("#*").rstrip("*: \t").strip() or section
        else:
            stray += 1
    return section, stray
