"""What a Reflector, a Curator and a Generator may say: the roles and fields of arXiv 2510.04618, section 3.

What it knows: fields. ``msgspec.json.schema(Curation)`` is the JSON Schema of a Curator's answer, for models that take
one. What it does not do: read anything (``border``). No field is an id that is given, a counter, a stage or a revision.
"""

from __future__ import annotations

from typing import Literal

from potstill.types import Struct


class BulletTag(Struct, frozen=True, kw_only=True):
    """What a Reflector thinks of a bullet that was shown."""

    id: str
    tag: Literal["helpful", "harmful", "neutral"]


class Reflection(Struct, frozen=True, kw_only=True):
    """What a Reflector may say about an episode."""

    reasoning: str = ""
    error_identification: str = ""
    root_cause_analysis: str = ""
    correct_approach: str = ""
    key_insight: str = ""
    bullet_tags: tuple[BulletTag, ...] = ()


class SaidAdd(Struct, frozen=True, kw_only=True, tag="ADD"):
    section: str
    content: str


class SaidUpdate(Struct, frozen=True, kw_only=True, tag="UPDATE"):
    id: str
    content: str


class SaidMerge(Struct, frozen=True, kw_only=True, tag="MERGE"):
    """One bullet with this content instead of these."""

    ids: tuple[str, ...]
    content: str


class SaidRemove(Struct, frozen=True, kw_only=True, tag="REMOVE"):
    id: str
    reason: str = ""


Said = SaidAdd | SaidUpdate | SaidMerge | SaidRemove


class Curation(Struct, frozen=True, kw_only=True):
    """What a Curator may say."""

    reasoning: str = ""
    operations: tuple[Said, ...]


class Generated(Struct, frozen=True, kw_only=True):
    """What a Generator that answers in JSON says. Its texts are as it wrote them: they are graded, not kept."""

    reasoning: str = ""
    bullet_ids: tuple[str, ...] = ()
    final_answer: str
