"""Writes ``docs/reference/cli.md`` out of the ``--help`` of every command. ``--check`` fails where it is stale."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import click

from potstill.cli.main import cli

PAGE = Path(__file__).resolve().parent.parent / "docs" / "reference" / "cli.md"
WIDTH = 110
HEAD = """# The command line

Data go to stdout: a table on a terminal, tab-separated lines in a pipe, JSON with `--json`. Progress and hints go to
stderr. `NO_COLOR` is honoured. Every option that is also a [setting](settings.md) takes its default from there.
What the exit codes mean stands in [exit codes](exit-codes.md). This page is made from `--help`.
"""


def commands(command: click.Command, context: click.Context) -> Iterator[click.Context]:
    """The command and all below it, depth first, in the order of their help."""
    yield context
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            nested = command.get_command(context, name)
            if nested is not None and not nested.hidden:
                yield from commands(nested, click.Context(nested, info_name=name, parent=context))


def page() -> str:
    root = click.Context(cli, info_name="potstill", terminal_width=WIDTH, max_content_width=WIDTH)
    sections = [HEAD]
    for context in commands(cli, root):
        level = "##" if context.parent is None or context.parent is root else "###"
        text = "\n".join(line.rstrip() for line in context.command.get_help(context).splitlines())
        sections.append(f"{level} `{context.command_path}`\n\n```text\n{text}\n```\n")
    return "\n".join(sections)


def main() -> int:
    made = page()
    if PAGE.exists() and PAGE.read_text(encoding="utf-8") == made:
        return 0
    if "--check" in sys.argv:
        print(f"{PAGE.name} is stale. Type: python scripts/cli_docs.py", file=sys.stderr)
        return 1
    PAGE.write_text(made, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
