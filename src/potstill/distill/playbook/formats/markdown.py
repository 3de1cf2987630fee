"""Markdown: lists under headings, a top-level list item is a bullet, the nearest heading above is its section.

What it knows: CommonMark through markdown-it-py, so that nested lists, code fences, comments and lazy lines are what
they are for everybody else. What it does not do: take prose, tables or code outside of lists (it says how much there
is), nor comments, which a reader of the rendered page never sees.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from potstill.distill.playbook.formats.imported import (
    Imported,
    ImportedBullet,
    imported,
    in_sections,
    refuse,
    text_of,
)
from potstill.distill.playbook.operations import Bullet
from potstill.distill.playbook.sections import OTHERS, Sections

if TYPE_CHECKING:
    from markdown_it.token import Token

_MARKER = re.compile(r" {0,3}(?:[-*+]|[0-9]{1,9}[.)])(?P<blanks>[ \t]+|$)")
_TASK = re.compile(r"\[[ xX]\][ \t]+")
_RULE = re.compile(r"[-*_](?:[ \t]*[-*_])*[ \t]*$")


def read(data: bytes, *, skip_bad: bool = False) -> Imported:
    """Raises ``BadPlaybookFile`` where the file has no list."""
    return read_body(text_of(data), "markdown", skip_bad=skip_bad)


def read_body(text: str, format: str, *, skip_bad: bool = False) -> Imported:
    """Of text without front matter: what ``SKILL.md`` and ``AGENTS.md`` share with plain Markdown."""
    lines = text.split("\n")
    items: list[ImportedBullet] = []
    section, others = OTHERS, 0
    tokens = _tokens(text)
    for index, token in enumerate(tokens):
        if token.type == "heading_open" and token.level == 0:
            section = tokens[index + 1].content.strip() or OTHERS
        elif token.type == "list_item_open" and token.level == 1 and token.map:
            content = _item(lines[token.map[0] : token.map[1]])
            items.append(ImportedBullet(section=section, content=content, foreign_id=f"line {token.map[0] + 1}"))
        elif token.level == 0 and token.map and token.type in _NOT_TAKEN:
            others += token.map[1] - token.map[0]
    if not items:
        refuse(
            "The file has no list: a bullet is a line such as '- text' under a heading.",
            "If it is another format, name it with --format.",
        )
    warnings = [f"{others} lines of prose, tables or code stand outside of lists and are left out."] if others else []
    return imported(items, format, warnings, skip_bad=skip_bad)


def write(bullets: Sequence[Bullet], sections: Sections) -> bytes:
    """Headings and lists: counters, ids and stages have no place."""
    return (body(bullets, sections) + "\n").encode()


def body(bullets: Sequence[Bullet], sections: Sections) -> str:
    """The sections that have bullets, as headings with lists, without a newline at the end."""
    blocks = [
        f"## {section}\n\n" + "\n".join(_line(bullet.content) for bullet in members)
        for section, members in in_sections(bullets, sections)
        if members
    ]
    return "\n\n".join(blocks)


_NOT_TAKEN = frozenset({"paragraph_open", "table_open", "fence", "code_block", "blockquote_open"})


def _tokens(text: str) -> list[Token]:
    """Blocks only: what stands in a line is text to us, and its parser takes quadratic time for some lines."""
    from markdown_it import MarkdownIt

    return MarkdownIt("commonmark", {"maxNesting": 20}).enable("table").disable("inline").parse(text)


def _item(lines: Sequence[str]) -> str:
    """The text of a list item from its lines: marker, indentation and a task's box away."""
    marker = _MARKER.match(lines[0])
    start = marker.end() if marker else 0
    first = lines[0][start:].strip()
    if task := _TASK.match(first):
        first = first[task.end() :]
    if first.startswith("\\") and _RULE.match(first.lstrip("\\")):
        first = first[1:]
    return "\n".join([first, *lines[1:]])


def _line(content: str) -> str:
    """One list item. Its further lines are indented, as neutral texts have them; a first line that makes a rule of the
    whole (``- -``) is escaped."""
    return f"- \\{content}" if _RULE.match(content.split("\n")[0].lstrip("\\")) else f"- {content}"
