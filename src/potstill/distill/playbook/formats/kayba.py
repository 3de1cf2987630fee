"""Kayba skillbooks: JSON as ace-framework writes it, version 1 (0.1 to 0.9) and version 2 (0.10 to 0.13).

What it knows: version 1 has no ``schema_version`` and a skill has ``content`` (0.1 to 0.4 call skills bullets; up to
0.7 they have counters); version 2 has ``schema_version`` "2" and a skill has ``issue``, ``insight``, ``keywords``,
counts and ``active``, with two sections only. What it does not do: embeddings, similarity decisions, usage counts.
ace-framework 0.13 refuses files of version 1; ``read_v1`` and ``write_v2`` together are the way over.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Annotated, Any, TypeVar

import msgspec

from potstill.distill.playbook.formats.ace import slug
from potstill.distill.playbook.formats.imported import (
    MAX_COUNTER,
    Imported,
    ImportedBullet,
    imported,
    in_sections,
    refuse,
    text_of,
)
from potstill.distill.playbook.operations import Bullet
from potstill.distill.playbook.sections import OTHERS, Sections
from potstill.errors import NOT_JSON

Book = TypeVar("Book")
Skill = TypeVar("Skill")
Count = Annotated[int, msgspec.Meta(ge=0, le=MAX_COUNTER)]
_SECTION_FIELD = "potstill_section"
"""Version 2 has only the sections ``context`` and ``harness``; its loader drops fields that it does not know, so our
own section may stand beside them."""


class _Source(msgspec.Struct):
    trace_uid: str | None = None


class _Skill1(msgspec.Struct):
    id: str
    content: str
    section: str = OTHERS
    helpful: Count = 0
    harmful: Count = 0
    neutral: Count = 0
    justification: str | None = None
    evidence: str | None = None
    status: str = "active"
    sources: list[_Source] | None = None


class _Skill2(msgspec.Struct):
    id: str
    issue: str
    section: str = "context"
    insight: str | None = None
    occurrences: list[_Source] | None = None
    active: bool = True
    helpful_count: Count = 0
    harmful_count: Count = 0
    neutral_count: Count = 0
    potstill_section: str = ""


class _Book1(msgspec.Struct):
    skills: dict[str, _Skill1] | None = None
    bullets: dict[str, _Skill1] | None = None
    sections: dict[str, list[str]] = {}


class _Book2(msgspec.Struct):
    skills: dict[str, _Skill2]
    sections: dict[str, list[str]] = {}


def read_v1(data: bytes, *, skip_bad: bool = False) -> Imported:
    """Raises ``BadPlaybookFile`` with the field where the file is damaged or of version 2."""
    document = _document(data, 1)
    book = _convert(document, _Book1)
    skills = book.skills if book.skills is not None else book.bullets
    if skills is None:
        refuse("The file has neither 'skills' nor 'bullets'.", "If it is another format, name it with --format.")
    active = {key: skill for key, skill in skills.items() if skill.status == "active"}
    items = [
        ImportedBullet(
            section=skill.section,
            content=skill.content,
            helpful=skill.helpful,
            harmful=skill.harmful,
            neutral=skill.neutral,
            foreign_id=key,
            place=f"skill {number}",
            sources=_sources(skill.sources),
        )
        for number, key, skill in _in_order(active, book.sections, list(skills))
    ]
    warnings = _left_out(document, len(skills) - len(active), list(skills))
    if reasons := sum(bool(skill.justification or skill.evidence) for skill in active.values()):
        warnings.append(f"{reasons} skills have a justification or evidence; only their content is taken.")
    return imported(items, "kayba-v1", warnings, skip_bad=skip_bad)


def read_v2(data: bytes, *, skip_bad: bool = False) -> Imported:
    """A skill's issue and insight become one text. Raises ``BadPlaybookFile`` with the field where the file is damaged,
    of version 1, or newer than version 2."""
    document = _document(data, 2)
    book = _convert(document, _Book2)
    active = {key: skill for key, skill in book.skills.items() if skill.active}
    items = [
        ImportedBullet(
            section=skill.potstill_section or skill.section,
            content=_joined(skill.issue, skill.insight or ""),
            helpful=skill.helpful_count,
            harmful=skill.harmful_count,
            neutral=skill.neutral_count,
            foreign_id=key,
            place=f"skill {number}",
            sources=_sources(skill.occurrences),
        )
        for number, key, skill in _in_order(active, book.sections, list(book.skills))
    ]
    warnings = _left_out(document, len(book.skills) - len(active), list(book.skills))
    return imported(items, "kayba-v2", warnings, skip_bad=skip_bad)


def write_v1(bullets: Sequence[Bullet], sections: Sections) -> bytes:
    """What 0.5 to 0.9 load; 0.8 and 0.9 have no counters and pass over them."""
    skills: dict[str, Any] = {}
    ids: dict[str, list[str]] = {}
    for section, members in in_sections(bullets, sections):
        ids[section] = [_id(bullet) for bullet in members]
        for bullet in members:
            skills[_id(bullet)] = {
                "id": _id(bullet),
                "section": section,
                "content": bullet.content,
                "helpful": bullet.helpful,
                "harmful": bullet.harmful,
                "neutral": bullet.neutral,
                "status": "active",
            }
    return _json({"skills": skills, "sections": ids, "next_id": _next(bullets), "similarity_decisions": {}})


def write_v2(bullets: Sequence[Bullet], sections: Sections) -> bytes:
    """What 0.10 to 0.13 load. Our section becomes the first keyword, as their own migration does it."""
    skills: dict[str, Any] = {}
    for section, members in in_sections(bullets, sections):
        for bullet in members:
            skills[_id(bullet)] = {
                "id": _id(bullet),
                "section": "context",
                "keywords": [re.sub(r"\s+", "_", section.strip().lower())],
                "issue": bullet.content,
                "insight": None,
                "occurrences": [],
                "active": True,
                "used_count": 0,
                "helpful_count": bullet.helpful,
                "harmful_count": bullet.harmful,
                "neutral_count": bullet.neutral,
                _SECTION_FIELD: section,
            }
    return _json(
        {
            "schema_version": "2",
            "skills": skills,
            "sections": {"context": list(skills)},
            "next_id": _next(bullets),
            "similarity_decisions": {},
        }
    )


def version_of(document: object) -> int | None:
    """1 or 2 for a skillbook's JSON document, a higher number for a newer one, None for anything else."""
    if not isinstance(document, dict) or not isinstance(document.get("skills", document.get("bullets")), dict):
        return None
    version = document.get("schema_version")
    if version is None:
        return 1
    return int(version) if str(version).isdecimal() else None


def _document(data: bytes, wanted: int) -> dict[str, Any]:
    try:
        document = msgspec.json.decode(text_of(data))
    except NOT_JSON as error:
        refuse(f"The file is not JSON: {error}.", "A skillbook is saved by ace-framework's save_to_file.")
    version = version_of(document)
    if version is None:
        refuse("The file is no Kayba skillbook: no object with 'skills'.", "Name its format with --format.")
    if version > 2:
        refuse(
            f"The skillbook has schema_version {version}, known are 1 and 2.", "Type: pip install --upgrade potstill"
        )
    if version != wanted:
        refuse(f"The skillbook has version {version}, not {wanted}.", f"Type: --format kayba-v{version}")
    assert isinstance(document, dict)
    return document


def _convert(document: object, type: type[Book]) -> Book:
    try:
        return msgspec.convert(document, type)
    except msgspec.ValidationError as error:
        refuse(f"The skillbook is damaged: {error}.", "Correct that field in the file.")


def _in_order(
    skills: dict[str, Skill], sections: dict[str, list[str]], keys: Sequence[str]
) -> list[tuple[int, str, Skill]]:
    """As the sections list them, then the ones that no section lists; each with its place among the file's ``keys``."""
    places = {key: number for number, key in enumerate(keys, start=1)}
    listed = dict.fromkeys(key for ids in sections.values() for key in ids if key in skills)
    ordered = [*listed, *(key for key in skills if key not in listed)]
    return [(places[key], key, skills[key]) for key in ordered]


def _sources(sources: Iterable[_Source] | None) -> tuple[str, ...]:
    return tuple(dict.fromkeys(source.trace_uid for source in sources or () if source.trace_uid))


def _joined(issue: str, insight: str) -> str:
    issue, insight = issue.strip(), insight.strip()
    if not issue or not insight:
        return issue or insight
    return f"{issue} {insight}" if issue.endswith((".", "!", "?", ":")) else f"{issue}: {insight}"


def _left_out(document: dict[str, Any], inactive: int, ids: Sequence[str]) -> list[str]:
    warnings = []
    if inactive:
        warnings.append(f"{inactive} skills are inactive and are left out.")
    listed = {key for keys in document.get("sections", {}).values() for key in keys}
    if missing := len(listed - set(ids)):
        warnings.append(f"{missing} ids are listed under a section and have no skill.")
    if decisions := len(document.get("similarity_decisions") or {}):
        warnings.append(f"{decisions} decisions to keep similar skills apart are left out.")
    return warnings


def _id(bullet: Bullet) -> str:
    return f"{slug(bullet.section)}-{bullet.number:05d}"


def _next(bullets: Sequence[Bullet]) -> int:
    return max((bullet.number for bullet in bullets), default=0)


def _json(document: dict[str, Any]) -> bytes:
    return msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n"
