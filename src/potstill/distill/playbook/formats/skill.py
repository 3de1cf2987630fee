"""Files that agents read by themselves: ``SKILL.md`` (front matter, then Markdown) and ``AGENTS.md`` (Markdown).

What it knows: the two fields that a skill's front matter must have, and their limits (name: 64 lower-case letters,
digits and hyphens; description: 1024 characters), and the marked block that ``put_into`` keeps within somebody's
``AGENTS.md``. What it does not do: parse YAML; front matter is passed over on import.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from potstill.distill.playbook import neutral
from potstill.distill.playbook.formats import markdown
from potstill.distill.playbook.formats.imported import Imported, refuse, text_of
from potstill.distill.playbook.operations import Bullet
from potstill.distill.playbook.sections import Sections

BEGIN, END = "<!-- potstill:playbook:begin -->", "<!-- potstill:playbook:end -->"
_MAX_NAME, _MAX_DESCRIPTION = 64, 1024


def read_skill(data: bytes) -> Imported:
    """The lists behind the front matter. Raises ``BadPlaybookFile`` where the front matter has no end or no list
    follows."""
    return markdown.read_body(_without_front_matter(text_of(data)), "skill")


def read_agents(data: bytes) -> Imported:
    """The lists of an ``AGENTS.md``, those in our own block too."""
    return markdown.read_body(_without_front_matter(text_of(data)), "agents")


def write_skill(
    bullets: Sequence[Bullet],
    sections: Sections,
    name: str = "playbook",
    description: str = "Lessons from earlier episodes. Read them before you start on a task.",
) -> bytes:
    """A skill that an agent loads by its description. ``name`` becomes lower case with hyphens."""
    name = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:_MAX_NAME].rstrip("-") or "playbook"
    description = json.dumps(neutral.line(description)[:_MAX_DESCRIPTION].rstrip(), ensure_ascii=False)
    head = f"---\nname: {name}\ndescription: {description}\n---\n\n# {name}\n"
    return "\n".join(filter(None, [head, _body(bullets, sections)])).encode()


def write_agents(bullets: Sequence[Bullet], sections: Sections) -> bytes:
    """A whole ``AGENTS.md``. For a file that has other text already there is ``put_into``."""
    return f"{BEGIN}\n\n{_body(bullets, sections)}\n{END}\n".encode()


def put_into(data: bytes, bullets: Sequence[Bullet], sections: Sections) -> bytes:
    """Somebody's ``AGENTS.md`` with our block replaced, or added at its end; every other byte stays. Raises
    ``BadPlaybookFile`` where a mark is missing or stands twice: guessing could delete text of theirs."""
    block = write_agents(bullets, sections)
    if not data.strip():
        return block
    begin, end = BEGIN.encode(), END.encode()
    counts = data.count(begin), data.count(end)
    if counts == (0, 0):
        return data.rstrip(b"\r\n") + b"\n\n" + block
    if counts != (1, 1) or data.index(begin) > data.index(end):
        refuse(
            f"The file has {counts[0]} lines '{BEGIN}' and {counts[1]} lines '{END}', or in the wrong order.",
            "Leave one of each around the playbook, or delete them all.",
        )
    return data[: data.index(begin)] + block.rstrip(b"\n") + data[data.index(end) + len(end) :]


def _body(bullets: Sequence[Bullet], sections: Sections) -> str:
    text = markdown.body(bullets, sections)
    return text + "\n" if text else ""


def _without_front_matter(text: str) -> str:
    if not re.match(r"---[ \t]*\n", text):
        return text
    end = re.search(r"\n(?:---|\.\.\.)[ \t]*(?:\n|$)", text[3:])
    if end is None:
        refuse("The front matter has no end: '---' opens the file and never comes again.", "Add the line '---'.")
    return "\n" * text[: 3 + end.end()].count("\n") + text[3 + end.end() :]
