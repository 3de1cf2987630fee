"""Writes ``docs/reference/cli.md`` out of what every command's ``--help`` says. ``--check`` fails where it is stale.

It reads commands and options, not the text that click makes of them, whose layout depends on what ran before.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from potstill.cli.main import cli

PAGE = Path(__file__).resolve().parent.parent / "docs" / "reference" / "cli.md"
HEAD = """# The command line

Data go to stdout: a table on a terminal, tab-separated lines in a pipe, JSON with `--json`. Progress and hints go to
stderr. `NO_COLOR` is honoured. Every option that is also a [setting](settings.md) takes its default from there.
What the exit codes mean stands in [exit codes](exit-codes.md). This page is made from the commands themselves; each
also takes `--help`.
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
    root = click.Context(cli, info_name="potstill")
    return "\n".join([HEAD, *(section(context, root) for context in commands(cli, root))])


def section(context: click.Context, root: click.Context) -> str:
    command = context.command
    level = "##" if context.parent is None or context.parent is root else "###"
    arguments = [parameter for parameter in command.params if isinstance(parameter, click.Argument)]
    options = [parameter for parameter in command.params if isinstance(parameter, click.Option)]
    parts = [f"{level} `{context.command_path}`", usage(context, arguments), prose(command.help or "")]
    if isinstance(command, click.Group):
        names = command.list_commands(context)
        parts.append("Commands: " + ", ".join(f"[`{name}`](#{anchor(context, name)})" for name in names) + ".")
    if options:
        rows = [f"| {names_of(option)} | {cell(option.help or '')} | {default(option)} |" for option in options]
        parts.append("\n".join(["| option | meaning | default |", "|---|---|---|", *rows]))
    return "\n\n".join(part for part in parts if part) + "\n"


def usage(context: click.Context, arguments: list[click.Argument]) -> str:
    words = [context.command_path, "[OPTIONS]"]
    for argument in arguments:
        name = (argument.metavar or argument.name or "").upper().strip("[].")
        name += "..." if argument.nargs == -1 else ""
        words.append(name if argument.required else f"[{name}]")
    if isinstance(context.command, click.Group):
        words.append("COMMAND")
    return f"```text\n{' '.join(words)}\n```"


def prose(text: str) -> str:
    """Paragraphs as they are; those marked with click's ``\\b`` keep their lines."""
    paragraphs = []
    for paragraph in inspect.cleandoc(text).split("\n\n"):
        kept = paragraph.removeprefix("\b\n")
        paragraphs.append(paragraph if kept == paragraph else f"```text\n{kept}\n```")
    return "\n\n".join(paragraphs)


def anchor(context: click.Context, name: str) -> str:
    return f"{context.command_path} {name}".replace(" ", "-")


def names_of(option: click.Option) -> str:
    names = ", ".join(option.opts) + (" / " + ", ".join(option.secondary_opts) if option.secondary_opts else "")
    if option.is_flag or option.count:
        return f"`{names}`"
    choices = "\\|".join(map(str, option.type.choices)) if isinstance(option.type, click.Choice) else ""
    value = option.metavar or choices or option.type.name.upper().removesuffix(" RANGE")
    return f"`{names} {value}`"


def default(option: click.Option) -> str:
    if not option.show_default:
        return ""
    if isinstance(option.show_default, str):
        return option.show_default
    if option.secondary_opts:
        return f"`{(option.opts if option.default else option.secondary_opts)[0]}`"
    return f"`{option.default}`"


def cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


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
