"""Documents do not rot: made parts are as they would be made now, links lead somewhere, quoted commands exist."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

import cli_docs
import tables
from potstill.cli import main as command_line
from potstill.measure.prices import PriceTable

ROOT = Path(__file__).resolve().parents[2]
PAGES = [*tables.documents(), ROOT / "AGENTS.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)#\s]+)(?:#[^)]*)?\)")
FENCE = re.compile(r"^```(?:bash|sh|console)\n(.*?)^```", re.DOTALL | re.MULTILINE)


def test_the_page_of_the_command_line_is_made_from_help() -> None:
    assert cli_docs.PAGE.read_text(encoding="utf-8") == cli_docs.page(), "stale: python scripts/cli_docs.py"


def test_every_command_is_documented() -> None:
    page = cli_docs.PAGE.read_text(encoding="utf-8")
    root = click.Context(command_line.cli, info_name="potstill")
    paths = [context.command_path for context in cli_docs.commands(command_line.cli, root)]
    assert len(paths) > 20
    assert [path for path in paths if f"# `{path}`" not in page] == []


@pytest.mark.parametrize("path", tables.documents(), ids=lambda path: str(path.relative_to(ROOT)))
def test_tables_show_the_measured_numbers(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert tables.render(text) == text, "stale: python bench/tables.py"


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_relative_links_lead_somewhere(path: Path) -> None:
    targets = [target for target in LINK.findall(path.read_text(encoding="utf-8")) if "://" not in target]
    assert [target for target in targets if not (path.parent / target).exists()] == []


def quoted_commands() -> list[tuple[str, str]]:
    found = []
    for path in PAGES:
        for block in FENCE.findall(path.read_text(encoding="utf-8")):
            for line in block.replace("\\\n", " ").splitlines():
                words = line.split("#")[0].strip() if " #" in line else line.strip()
                if re.match(r"(\w+=\S* )*potstill ", words):
                    found.append((str(path.relative_to(ROOT)), words))
    return found


def test_quoted_commands_and_their_options_exist() -> None:
    """Parsed by the real command line, not run: a renamed option makes the page that quotes it fail."""
    quoted = quoted_commands()
    assert len(quoted) > 10
    wrong = []
    for page, line in quoted:
        words = shlex.split(line)
        arguments = words[words.index("potstill") + 1 :]
        try:
            parse(arguments)
        except (click.ClickException, KeyError) as error:
            wrong.append(f"{page}: {line}: {error}")
    assert wrong == []


def test_quoted_models_have_a_price() -> None:
    table = PriceTable.load()
    named = {
        name for _, line in quoted_commands() for name in re.findall(r"--price-(?:teacher|student)-as[ =](\S+)", line)
    }
    assert len(named) > 1
    assert [name for name in named if not table.has(name)] == []


def parse(arguments: list[str]) -> None:
    name, *rest = arguments
    if name.startswith("-"):
        return
    command: click.Command = command_line.load(name) if name in command_line.SUBCOMMANDS else missing(name)
    context = click.Context(command, info_name=name)
    while isinstance(command, click.Group):
        if not rest or rest[0].startswith("-"):
            return
        command = command.commands.get(rest[0]) or missing(rest[0])
        rest = rest[1:]
    if rest not in (["--help"], ["-h"]):
        command.make_parser(context).parse_args(list(rest))


def missing(name: str) -> click.Command:
    raise KeyError(f"no command '{name}'")


@pytest.mark.extra
def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("material", reason="mkdocs-material is not installed: pip install 'potstill[docs]'")
    from mkdocs.commands.build import build
    from mkdocs.config import load_config

    build(load_config(str(ROOT / "mkdocs.yml"), site_dir=str(tmp_path / "site"), strict=True))
    index = (tmp_path / "site" / "index.html").read_text(encoding="utf-8")
    assert "potstill" in index
    assert (tmp_path / "site" / "reference" / "cli" / "index.html").exists()
