"""Which format a file has, by its bytes alone.

What it knows: the marks by which the formats differ. What it does not do: check the file; reading it does.
"""

from __future__ import annotations

import re

import msgspec

from potstill.distill.playbook.formats import kayba, own
from potstill.distill.playbook.formats.imported import refuse, text_of
from potstill.distill.playbook.formats.skill import BEGIN
from potstill.errors import NOT_JSON

_ACE = re.compile(
    r"^[ \t]*(?:[-*][ \t]+)?\[[^\]\n]{1,80}\][ \t]*(?:helpful=[0-9]|::)"
    r"|^[ \t]*(?:[-*][ \t]+)?\[[A-Za-z][A-Za-z0-9_]*-[0-9]+\][ \t]",
    re.M,
)
_SKILL = re.compile(r"---[ \t]*\n")
_LIST = re.compile(r"^ {0,3}(?:[-*+]|[0-9]{1,9}[.)])[ \t]+\S", re.M)
_HEADING = re.compile(r"^##", re.M)


def sniff(data: bytes) -> str:
    """A name of ``FORMATS``. ``AGENTS.md`` is Markdown, unless it has our marks. Raises ``BadPlaybookFile`` where it
    looks like none of them."""
    text = text_of(data)
    if text.lstrip().startswith(("{", "[{")):
        return _json(text)
    for name, holds in (
        ("dynamic-cheatsheet", "<memory_item>" in text or "<cheatsheet>" in text),
        ("skill", _SKILL.match(text)),
        ("agents", BEGIN in text),
        ("ace", _ACE.search(text)),
        ("markdown", _LIST.search(text)),
        ("ace", _HEADING.search(text)),
    ):
        if holds:
            return name
    refuse("The file looks like none of the formats.", "Name its format with --format.")


def _json(text: str) -> str:
    try:
        document = msgspec.json.decode(text)
    except NOT_JSON as error:
        refuse(f"The file begins like JSON and is not: {error}.", "Give the whole file.")
    if isinstance(document, dict) and document.get("format") == own.NAME:
        return "json"
    version = kayba.version_of(document)
    if version is None:
        refuse("The file is JSON of an unknown kind.", "Known are potstill's playbooks and Kayba's skillbooks.")
    return "kayba-v1" if version == 1 else "kayba-v2"
