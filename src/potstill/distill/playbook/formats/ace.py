"""ACE's playbook text, both dialects: with counters (ace-agent/ace) and without (ace-agent/ace-appworld).

    ## FORMULAS & CALCULATIONS
    [calc-00001] helpful=5 harmful=0 :: Divide by the mean of both years.      with counters
    [calc-00001] Divide by the mean of both years.                             without

What it knows: headings, bullets over several lines, code fences in them, text before the first heading, ids that stand
twice. What it does not do: repair a counter that is no number (the file is refused, with the line).
The release's own parser takes one line for one bullet, and passes over every line that is none; ``write`` keeps to
that, and ``formats.joined`` says which bullets it costs their line ends.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from potstill.distill.playbook.formats.imported import (
    Imported,
    ImportedBullet,
    counter,
    imported,
    in_sections,
    one_line,
    refuse,
    repeated_ids,
    text_of,
)
from potstill.distill.playbook.operations import Bullet
from potstill.distill.playbook.sections import OTHERS, Sections
from potstill.types import Struct

_COUNTED = re.compile(
    r"[ \t]*(?:[-*][ \t]+)?\[(?P<id>[^\]\n]{1,80})\][ \t]*helpful=(?P<helpful>[0-9]+)[ \t,]*harmful=(?P<harmful>[0-9]+)"
    r"(?:[ \t,]*neutral=(?P<neutral>[0-9]+))?[ \t]*::[ \t]*(?P<text>.*)$"
)
_PLAIN = re.compile(
    r"[ \t]*(?:[-*][ \t]+)?\[(?P<id>[A-Za-z][A-Za-z0-9_]{0,31}-[0-9]{1,9})\](?P<mark>[ \t]*::)?[ \t]*(?P<text>.*)$"
)
_BROKEN = re.compile(r"(?:helpful|harmful)[ \t]*=")
_FENCE = re.compile(r"[ \t]*```")

SLUGS = {
    "financial_strategies_and_insights": "fin",
    "formulas_and_calculations": "calc",
    "code_snippets_and_templates": "code",
    "common_mistakes_to_avoid": "err",
    "problem_solving_heuristics": "prob",
    "context_clues_and_indicators": "ctx",
    "others": "misc",
    "meta_strategies": "meta",
    "strategies_and_hard_rules": "shr",
    "apis_to_use_for_specific_information": "api",
    "useful_code_snippets_and_templates": "code",
    "common_mistakes_and_correct_strategies": "cms",
    "problem_solving_heuristics_and_workflows": "psw",
    "verification_checklist": "vc",
    "troubleshooting_and_pitfalls": "ts",
}
"""Section, as the release normalises its name, to the beginning of its bullets' ids (``utils.get_section_slug``; the
lower half: as in the playbooks of ace-appworld)."""

_SECTION_OF = {slug: name.replace("_", " ") for name, slug in reversed(SLUGS.items())}


class _Open(Struct, frozen=True, kw_only=True):
    """A bullet whose further lines may come."""

    id: str
    section: str
    helpful: int
    harmful: int
    neutral: int
    first: str
    line: int


def read(data: bytes, *, skip_bad: bool = False) -> Imported:
    """Both dialects, also mixed. Raises ``BadPlaybookFile`` with the line where counters are damaged, or where there is
    neither a heading nor a bullet."""
    lines = text_of(data).split("\n")
    found: list[tuple[_Open, list[str]]] = []
    before, headings, guessed = 0, 0, 0
    section = ""
    fence_ends = -1
    for number, line in enumerate(lines, start=1):
        opened = _bullet(line, number, section)
        if opened is not None:
            guessed += not section
            found.append((opened, [opened.first]))
            fence_ends = -1
        elif number > fence_ends and (heading := _heading(line)):
            section, headings = heading, headings + 1
            continue
        elif found and found[-1][0].section == (section or found[-1][0].section):
            found[-1][1].append(line)
            if number > fence_ends and _FENCE.match(line):
                fence_ends = _fence_end(lines, number)
        elif line.strip():
            before += 1
    if not found and not headings:
        refuse(
            "No bullet such as '[calc-00001] helpful=0 harmful=0 :: text' and no heading such as '## SECTION'.",
            "If it is another format, name it with --format.",
        )
    return _result(found, before, guessed, skip_bad)


def write(bullets: Sequence[Bullet], sections: Sections) -> bytes:
    """The dialect with counters. ``neutral`` has no place in it, and a bullet becomes one line."""
    return _lines(
        bullets,
        sections,
        lambda bullet: f"helpful={bullet.helpful} harmful={bullet.harmful} :: {one_line(bullet.content)}",
    )


def write_plain(bullets: Sequence[Bullet], sections: Sections) -> bytes:
    """The dialect without counters; a text that would be read as counters stands behind ``::``."""
    return _lines(bullets, sections, lambda bullet: _plain(one_line(bullet.content)))


def slug(section: str) -> str:
    """The beginning of ids in a section: the release's own, else first letters; at least three letters, because its
    pattern for ids in answers finds no fewer."""
    name = re.sub(r"[^a-z0-9]+", "_", section.lower().replace("&", "and")).strip("_")
    if name in SLUGS and len(SLUGS[name]) > 2:
        return SLUGS[name]
    words = re.findall(r"[a-z]+", name)
    letters = "".join(word[0] for word in words[:5])
    letters = letters if len(letters) > 2 else "".join(words)[:4]
    return letters if len(letters) > 2 else "misc"


def _bullet(line: str, number: int, section: str) -> _Open | None:
    if match := _COUNTED.match(line):
        helpful, harmful, neutral = (
            counter(_number(match[name]), name, f"Line {number}") for name in ("helpful", "harmful", "neutral")
        )
        return _Open(
            id=match["id"],
            section=section or _guess(match["id"]),
            helpful=helpful,
            harmful=harmful,
            neutral=neutral,
            first=match["text"],
            line=number,
        )
    match = _PLAIN.match(line)
    if match is None:
        return None
    if match["mark"] is None and _BROKEN.match(match["text"]):
        refuse(
            f"Line {number}: the counters of [{match['id']}] are damaged: {match['text'][:60]!r}.",
            "Write them as 'helpful=0 harmful=0 :: text'.",
        )
    section = section or _guess(match["id"])
    return _Open(id=match["id"], section=section, helpful=0, harmful=0, neutral=0, first=match["text"], line=number)


def _heading(line: str) -> str:
    """The name behind ``##``, empty for any other line."""
    line = line.strip()
    return line.lstrip("#").strip().rstrip(":").rstrip() if line.startswith("##") else ""


def _number(digits: str | None) -> int:
    """More digits than a counter can have stay too many."""
    return int((digits or "").lstrip("0")[:19] or "0")


def _guess(id: str) -> str:
    return _SECTION_OF.get(id.rsplit("-", 1)[0].lower(), OTHERS)


def _fence_end(lines: Sequence[str], opened: int) -> int:
    """The number of the line that closes the fence opened on line ``opened``; -1 where a bullet comes first."""
    for index in range(opened, len(lines)):
        if _COUNTED.match(lines[index]) or _PLAIN.match(lines[index]):
            return -1
        if _FENCE.match(lines[index]):
            return index + 1
    return -1


def _result(found: Sequence[tuple[_Open, list[str]]], before: int, guessed: int, skip_bad: bool) -> Imported:
    items = [
        ImportedBullet(
            section=opened.section,
            content="\n".join(lines).strip(),
            helpful=opened.helpful,
            harmful=opened.harmful,
            neutral=opened.neutral,
            foreign_id=opened.id,
            place=f"line {opened.line}",
        )
        for opened, lines in found
    ]
    warnings = repeated_ids(items)
    if before:
        warnings.append(f"{before} lines belong to no bullet and are left out.")
    if guessed:
        warnings.append(f"{guessed} bullets stand before the first heading; their sections come from their ids.")
    return imported(items, "ace", warnings, skip_bad=skip_bad)


def _plain(text: str) -> str:
    return f":: {text}" if _BROKEN.match(text) or text.startswith("::") else text


def _lines(bullets: Sequence[Bullet], sections: Sections, text: Callable[[Bullet], str]) -> bytes:
    blocks = []
    for section, members in in_sections(bullets, sections):
        rows = [f"[{slug(section)}-{bullet.number:05d}] {text(bullet)}" for bullet in members]
        blocks.append("\n".join([f"## {section}", *rows]))
    return ("\n\n".join(blocks) + "\n").encode()
