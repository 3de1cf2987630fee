"""Files that agents read by themselves: ``SKILL.md`` (front matter, then Markdown) and ``AGENTS.md`` (Markdown).

What it knows: the two fields that a skill's front matter must have, and their limits (name: 64 lower-case letters,
digits and hyphens; description: 1024 characters), and the marked blocks, one for each book, that ``put_into``
keeps within somebody's ``AGENTS.md``. What it does not do: parse YAML; front matter is passed over on import.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from itertools import zip_longest
from typing import NoReturn
from urllib.parse import quote, unquote

from potstill.distill.playbook import neutral
from potstill.distill.playbook.formats import markdown
from potstill.distill.playbook.formats.imported import Imported, refuse, text_of
from potstill.distill.playbook.operations import Bullet
from potstill.distill.playbook.sections import Sections
from potstill.errors import ConfigError

BEGIN, END = "<!-- potstill:playbook:begin", "<!-- potstill:playbook:end"
"""How our marks begin; behind it stand the book's name, in the letters of a URL, and ``-->``."""
_MARK = re.compile(rb"<!-- potstill:playbook:(?P<which>begin|end)(?: +(?P<name>[!-~]+?))? *-->")
_MAX_NAME, _MAX_DESCRIPTION = 64, 1024


def read_skill(data: bytes, *, skip_bad: bool = False) -> Imported:
    """The lists behind the front matter. Raises ``BadPlaybookFile`` where the front matter has no end or no list
    follows."""
    return markdown.read_body(_without_front_matter(text_of(data)), "skill", skip_bad=skip_bad)


def read_agents(data: bytes, *, skip_bad: bool = False) -> Imported:
    """The lists of an ``AGENTS.md``, those in our own block too."""
    return markdown.read_body(_without_front_matter(text_of(data)), "agents", skip_bad=skip_bad)


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


def write_agents(bullets: Sequence[Bullet], sections: Sections, name: str = "") -> bytes:
    """A whole ``AGENTS.md``. For a file that has other text already there is ``put_into``. ``name``: the book's, which
    the marks carry."""
    return f"{_mark(BEGIN, name)}\n\n{_body(bullets, sections)}\n{_mark(END, name)}\n".encode()


def put_into(
    data: bytes, bullets: Sequence[Bullet], sections: Sections, name: str = "", *, force: bool = False
) -> bytes:
    """Somebody's ``AGENTS.md`` with this book's block replaced, or added at its end; every other byte stays, the blocks
    of other books too. ``force``: one block that does not say whose it is may be replaced.

    Raises ``BadPlaybookFile`` where a mark is missing or stands twice, and ``ConfigError`` where it is not known whose
    a block is: guessing could delete text of others.
    """
    block = write_agents(bullets, sections, name)
    if not data.strip():
        return block
    blocks = _blocks(data)
    place = blocks.get(name)
    if place is None and name and "" in blocks:
        if not force:
            raise ConfigError(
                f"The file has a block that does not say which book it is of. Write ' {quote(name, safe='')}' before "
                "the '-->' of both of its marks, if it is this book's. To replace it, type: --force"
            )
        place = blocks[""]
    if place is None:
        return data.rstrip(b"\r\n") + b"\n\n" + block
    return data[: place[0]] + block.rstrip(b"\n") + data[place[1] :]


def _mark(start: str, name: str) -> str:
    return f"{start} {quote(name, safe='')} -->" if name else f"{start} -->"


def _blocks(data: bytes) -> dict[str, tuple[int, int]]:
    """Where each book's block begins and ends, by the book's name; empty for one that does not say it."""
    found: dict[str, tuple[int, int]] = {}
    marks = list(_MARK.finditer(data))
    if len(marks) != data.count(BEGIN.encode()) + data.count(END.encode()):
        _refuse_marks(data)
    for begin, end in zip_longest(marks[::2], marks[1::2]):
        name = _named(begin)
        if end is None or (begin["which"], end["which"]) != (b"begin", b"end") or _named(end) != name or name in found:
            _refuse_marks(data)
        found[name] = begin.start(), end.end()
    return found


def _refuse_marks(data: bytes) -> NoReturn:
    refuse(
        f"The file has {data.count(BEGIN.encode())} marks '{BEGIN} ... -->' and {data.count(END.encode())} marks "
        f"'{END} ... -->'; one is missing, damaged, stands twice, or they are in the wrong order.",
        "Leave one of each around each playbook, or delete them all.",
    )


def _named(mark: re.Match[bytes]) -> str:
    return unquote((mark["name"] or b"").decode("ascii"))


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
