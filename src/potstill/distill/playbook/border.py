"""Where a model's words become operations: what is read by a strict schema gets in, and nothing else.

What it knows: which of the things that a model may say (``said``) are taken from its answer. What it does not do: find
and repair JSON (``spoken``), clean texts (``neutral``), apply anything (``apply``).

A model proposes texts and names bullets that it was shown. It gives no ids, counters, revisions, stages or pins: fields
of such names are ignored, operations of such names refused. Whatever is not taken has a reason that can be sent back.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import msgspec

from potstill.distill.playbook import neutral, operations
from potstill.distill.playbook.lookalikes import imitates
from potstill.distill.playbook.operations import MAX_CONTENT_CHARACTERS
from potstill.distill.playbook.said import (
    BulletTag,
    Generated,
    Reflection,
    Said,
    SaidAdd,
    SaidMerge,
    SaidRemove,
    SaidUpdate,
)
from potstill.distill.playbook.sections import DEFAULT, Sections
from potstill.distill.playbook.spoken import Found, Refusal, Why, find
from potstill.types import Struct

MAX_CURATED = 100
"""Operations in one answer of a Curator."""
MAX_TAGS = 200
MAX_MERGED = 50
"""Bullets in one ``MERGE``."""
MAX_REASON_CHARACTERS = 500
MAX_THOUGHT_CHARACTERS = 8000
"""Of each text in a reflection: longer ones are cut, with a mark."""


class Reflected(Struct, frozen=True, kw_only=True):
    reflection: Reflection | None = None
    """None: nothing could be read."""
    refused: tuple[Refusal, ...] = ()

    @property
    def tags(self) -> tuple[operations.Tag, ...]:
        """One vote for each bullet, as operations."""
        said = self.reflection.bullet_tags if self.reflection else ()
        votes = {"helpful": (1, 0, 0), "harmful": (0, 1, 0), "neutral": (0, 0, 1)}
        made = ((each.id, votes[each.tag]) for each in said)
        return tuple(operations.Tag(id=id, helpful=a, harmful=b, neutral=c) for id, (a, b, c) in made)


class Proposal(Struct, frozen=True, kw_only=True):
    """What of a Curator's answer may be applied."""

    operations: tuple[operations.Operation, ...] = ()
    refused: tuple[Refusal, ...] = ()
    reasoning: str = ""
    """In one line, fit for a batch's ``reason``."""

    @property
    def reasons(self) -> str:
        """All refusals as lines, to be sent back to the Curator."""
        return "\n".join(f"- {each}" for each in self.refused)


class Answered(Struct, frozen=True, kw_only=True):
    generated: Generated | None = None
    refused: tuple[Refusal, ...] = ()


# --- the three roles ------------------------------------------------------------------------------------------------


def read_curation(
    text: str,
    known: Mapping[str, int],
    sections: Sections = DEFAULT,
    *,
    lenient: bool = False,
    most: int = MAX_CURATED,
) -> Proposal:
    """A Curator's answer as operations.

    ``known``: id to revision of the bullets that the Curator was shown; others do not exist for it. A section that is
    none of ``sections`` is ``others``. One refused operation refuses all, unless ``lenient``: then the good ones are
    kept. Raises ``MissingExtra`` where almost-JSON needs a library that is not installed.

    >>> said = '{"operations": [{"type": "UPDATE", "id": "b-2", "content": "Check units.", "helpful": 99}]}'
    >>> read_curation(said, {"b-2": 5}).operations
    (Update(id='b-2', content='Check units.', revision=5),)
    >>> print(read_curation(said, {"b-1": 1}).reasons)
    - Operation 1 (UPDATE) names 'b-2', which is no bullet that was shown.
    """
    found = find(text, ("operations",), half=lenient)
    if isinstance(found, Refusal):
        return Proposal(refused=(found,))
    said = found.value["operations"]
    if not isinstance(said, list):
        return Proposal(refused=(_refusal(Why.SHAPE, f"'operations' is {_kind(said)}; it must be a list."),))
    curator = _Curator(known, sections)
    _read_all(curator, said, found, most)
    made = () if curator.refused and not lenient else tuple(curator.made)
    thought = found.value.get("reasoning")
    reasoning = neutral.line(thought, MAX_REASON_CHARACTERS) if isinstance(thought, str) else ""
    return Proposal(operations=made, refused=tuple(curator.refused), reasoning=reasoning)


def _read_all(curator: _Curator, said: list[Any], found: Found, most: int) -> None:
    if found.half and said:
        said = said[:-1]
        curator.refuse(Why.HALF, "The answer breaks off; its last operation was left out.", len(said) + 1)
    if len(said) > most:
        curator.refuse(Why.TOO_MANY, f"There are {len(said)} operations; at most {most} are taken.", most + 1)
    for position, one in enumerate(said[:most], start=1):
        curator.take(position, one)


def read_reflection(text: str, known_ids: Collection[str]) -> Reflected:
    """A Reflector's answer. ``known_ids``: of the bullets that it was shown. A tag that cannot count (another id, two
    opinions on one bullet) is left out, with the reason; the rest stands. Raises ``MissingExtra`` as ``read_curation``.

    >>> tags = '[{"id": "b-1", "tag": "helpful"}, {"id": "b-9", "tag": "harmful"}]'
    >>> heard = read_reflection('{"key_insight": "Check units.", "bullet_tags": %s}' % tags, {"b-1"})
    >>> heard.tags
    (Tag(id='b-1', helpful=1, harmful=0, neutral=0),)
    >>> str(heard.refused[0])
    "Tag 2 names 'b-9', which is no bullet that was shown."
    """
    fields = [field for field in Reflection.__struct_fields__ if field not in ("reasoning", "bullet_tags")]
    found = find(text, [*fields, "bullet_tags"])
    if isinstance(found, Refusal):
        return Reflected(refused=(found,))
    texts: dict[str, str] = {}
    for field in ["reasoning", *fields]:
        words = _words(found.value.get(field))
        if words is None:
            kind = _kind(found.value[field])
            return Reflected(refused=(_refusal(Why.SHAPE, f"'{field}' is {kind}; it must be a text."),))
        texts[field] = neutral.content(words, MAX_THOUGHT_CHARACTERS)
    tags, refused = _tags(found.value.get("bullet_tags"), known_ids)
    if not tags and not any(texts.values()):
        return Reflected(refused=(*refused, _refusal(Why.EMPTY, "The reflection says nothing.")))
    return Reflected(reflection=Reflection(**texts, bullet_tags=tags), refused=refused)


def read_generated(text: str, known_ids: Collection[str]) -> Answered:
    """A Generator's answer in the paper's JSON, with those of its ``bullet_ids`` that are known, each once.

    An agent that acts by tools or in prose answers otherwise: use ``cited`` there. Raises ``MissingExtra`` as
    ``read_curation``.
    """
    found = find(text, ("final_answer",))
    if isinstance(found, Refusal):
        return Answered(refused=(found,))
    answer, thought = found.value["final_answer"], found.value.get("reasoning")
    words = answer if isinstance(answer, str) else msgspec.json.encode(answer).decode()
    ids = found.value.get("bullet_ids")
    named = [_plain_id(id) for id in ids if isinstance(id, str)] if isinstance(ids, list) else []
    kept = tuple(dict.fromkeys(id for id in named if id in known_ids))
    reasoning = thought if isinstance(thought, str) else ""
    return Answered(generated=Generated(reasoning=reasoning, bullet_ids=kept, final_answer=words))


_ID = re.compile(neutral.ID)


def cited(text: str, known_ids: Collection[str]) -> tuple[str, ...]:
    """The known bullets that a text names, in the order of their first mention.

    Give it the model's own words only: an observation that it quotes is nobody's opinion.

    >>> cited("By [b-12] and b-3, not b-99 (see [b-12]).", {"b-3", "b-12"})
    ('b-12', 'b-3')
    """
    return tuple(dict.fromkeys(id for id in _ID.findall(text) if id in known_ids))


# --- one operation --------------------------------------------------------------------------------------------------


class _Curator:
    """Reads operations one by one and remembers what was said of which bullet."""

    def __init__(self, known: Mapping[str, int], sections: Sections) -> None:
        self._known = known
        self._sections = sections
        self._named: dict[str, int] = {}
        self.made: list[operations.Operation] = []
        self.refused: list[Refusal] = []

    def refuse(self, why: Why, message: str, position: int) -> None:
        self.refused.append(Refusal(why=why, message=message, position=position))

    def take(self, position: int, value: object) -> None:
        try:
            said = _said(value)
            made = self._operation(said)
            self._claim(position, said)
        except _Unfit as unfit:
            kind = value.get("type") if isinstance(value, dict) else None
            name = f" ({_shown(kind)})" if isinstance(kind, str) else ""
            self.refuse(unfit.why, f"Operation {position}{name} {unfit}", position)
        else:
            self.made.append(made)

    def _operation(self, said: Said) -> operations.Operation:
        match said:
            case SaidAdd():
                section = self._sections.place(neutral.section(said.section))
                return operations.Add(section=section, content=_content(said.content))
            case SaidUpdate():
                id = self._id(said.id)
                return operations.Update(id=id, content=_content(said.content), revision=self._known[id])
            case SaidMerge():
                return self._merge(said)
            case SaidRemove():
                return operations.Remove(id=self._id(said.id), reason=neutral.line(said.reason, MAX_REASON_CHARACTERS))

    def _merge(self, said: SaidMerge) -> operations.Merge:
        if len(said.ids) > MAX_MERGED:
            raise _Unfit(Why.TOO_MANY, f"names {len(said.ids)} bullets; at most {MAX_MERGED} are merged at once.")
        ids = sorted({self._id(id) for id in said.ids}, key=_number)
        if len(ids) < 2:
            raise _Unfit(Why.SHAPE, "names fewer than two different bullets; a merge needs two or more.")
        revisions = tuple(self._known[id] for id in ids)
        return operations.Merge(into=ids[0], ids=tuple(ids[1:]), content=_content(said.content), revisions=revisions)

    def _claim(self, position: int, said: Said) -> None:
        """No bullet is changed twice in one answer."""
        ids = said.ids if isinstance(said, SaidMerge) else () if isinstance(said, SaidAdd) else (said.id,)
        plain = list(dict.fromkeys(map(_plain_id, ids)))
        for id in plain:
            if id in self._named:
                raise _Unfit(Why.CONFLICT, f"changes {id}, as operation {self._named[id]} does. Say one of them.")
        self._named.update(dict.fromkeys(plain, position))

    def _id(self, written: str) -> str:
        return _known_id(written, self._known)


class _Unfit(Exception):
    """One operation cannot be taken; the message follows its name."""

    def __init__(self, why: Why, message: str) -> None:
        super().__init__(message)
        self.why = why


_KINDS = ("ADD", "UPDATE", "MERGE", "REMOVE")


def _said(value: object) -> Said:
    if not isinstance(value, dict):
        raise _Unfit(Why.SHAPE, f"is {_kind(value)}; it must be an object with a 'type'.")
    kind = value.get("type")
    if not isinstance(kind, str) or kind.strip().upper() not in _KINDS:
        raise _Unfit(Why.UNKNOWN_OPERATION, f"is none that a model may propose. Allowed: {', '.join(_KINDS)}.")
    try:
        said: Said = msgspec.convert({**value, "type": kind.strip().upper()}, Said)
    except msgspec.ValidationError as error:
        raise _Unfit(Why.SHAPE, f"has another shape than it must: {neutral.line(str(error)[:300], 200)}.") from None
    return said


def _content(text: str) -> str:
    most = MAX_CONTENT_CHARACTERS
    if len(text) <= 2 * most:
        made = neutral.content(text, 4 * most)
        if not any(each.isalnum() for each in made):
            raise _Unfit(Why.EMPTY, "has a 'content' that says nothing.")
        if len(made) <= most:
            return made
    raise _Unfit(Why.CONTENT_TOO_LONG, f"has a 'content' of {len(text):,} characters; at most {most:,} are taken.")


def _known_id(written: str, known: Collection[str]) -> str:
    if (id := _plain_id(written)) in known:
        return id
    if odd := imitates(written):
        raise _Unfit(Why.LOOKALIKE, f"names an id with characters that only look like those of one: {odd}.")
    raise _Unfit(Why.UNKNOWN_ID, f"names {_shown(written)!r}, which is no bullet that was shown.")


def _plain_id(written: str) -> str:
    """``[b-12]``, as the playbook shows it, is ``b-12``."""
    return written.strip().removeprefix("[").removesuffix("]").strip()


def _number(id: str) -> tuple[int, str]:
    """Sorts the oldest bullet first."""
    digits = id.rpartition("-")[2]
    return (int(digits) if digits.isdecimal() else 0), id


# --- tags -----------------------------------------------------------------------------------------------------------


def _tags(said: object, known_ids: Collection[str]) -> tuple[tuple[BulletTag, ...], tuple[Refusal, ...]]:
    if said is None:
        return (), ()
    if not isinstance(said, list):
        return (), (_refusal(Why.SHAPE, f"'bullet_tags' is {_kind(said)}; it must be a list."),)
    kept: dict[str, BulletTag] = {}
    contradicted: set[str] = set()
    refused: list[Refusal] = []
    if len(said) > MAX_TAGS:
        refused.append(_refusal(Why.TOO_MANY, f"There are {len(said)} tags; at most {MAX_TAGS} are taken."))
    for position, one in enumerate(said[:MAX_TAGS], start=1):
        try:
            tag = _tag(one, known_ids)
            if kept.setdefault(tag.id, tag) != tag:
                contradicted.add(tag.id)
                raise _Unfit(Why.CONFLICT, f"calls {tag.id} {tag.tag}, another one {kept[tag.id].tag}; neither counts.")
        except _Unfit as unfit:
            refused.append(Refusal(why=unfit.why, message=f"Tag {position} {unfit}", position=position))
    return tuple(tag for tag in kept.values() if tag.id not in contradicted), tuple(refused)


def _tag(value: object, known_ids: Collection[str]) -> BulletTag:
    try:
        said = msgspec.convert(value, BulletTag)
    except msgspec.ValidationError as error:
        raise _Unfit(Why.SHAPE, f"has another shape than it must: {neutral.line(str(error)[:300], 200)}.") from None
    return BulletTag(id=_known_id(said.id, known_ids), tag=said.tag)


# --- words ----------------------------------------------------------------------------------------------------------


def _words(value: object) -> str | None:
    """A text, or several as lines; None: something else."""
    if value is None:
        return ""
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "\n".join(value) if all(isinstance(each, str) for each in value) else None
    return value if isinstance(value, str) else None


def _kind(value: object) -> str:
    names = {dict: "an object", list: "a list", str: "a text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")


def _shown(text: str) -> str:
    """What a model wrote, fit for a message of ours."""
    if _ID.fullmatch(text):
        return text
    line = neutral.line(text[:200], 100)
    return line if len(text) <= 40 else f"{line[:40]}..."


def _refusal(why: Why, message: str) -> Refusal:
    return Refusal(why=why, message=message)
