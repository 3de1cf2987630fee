"""``potstill playbook import`` and ``export``: books from and to files of others and our own.

What it knows: in which order an import's batches go in, and which file an export may replace. What it does not do:
parse or write formats (``formats``), find twins (``gate``).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import click

from potstill.cli.output import emit_json, emit_table, emit_text, json_option, note
from potstill.cli.playbook.books import FIRST, Place, applied, book_options
from potstill.cli.playbook.change import STAGES
from potstill.cli.playbook.shown import many, shortened
from potstill.cli.playbook.typed import safe_import
from potstill.cli.trajectories import reading
from potstill.errors import ConfigError, StoreError

if TYPE_CHECKING:
    from potstill.cli.playbook.importing import Done
    from potstill.distill.playbook.book import Playbook
    from potstill.distill.playbook.formats import Imported
    from potstill.distill.playbook.operations import Bullet

FORMATS = (
    "json",
    "ace",
    "ace-plain",
    "kayba-v1",
    "kayba-v2",
    "dynamic-cheatsheet",
    "markdown",
    "skill",
    "agents",
)
"""As ``formats.FORMATS``, which help shall not import; a test compares them."""
BY_NAME = {"skill.md": "skill", "agents.md": "agents", "claude.md": "agents"}
BY_SUFFIX = {".json": "json", ".md": "markdown", ".txt": "ace"}
COLUMNS = ("book", "format", "bullets", "added", "twins", "repeated", "revision")


@click.command("import")
@click.argument("file", type=click.File("rb"))
@book_options
@click.option(
    "--format", "format_", type=click.Choice(("auto", *FORMATS)), default="auto", show_default=True, help="Of the file."
)
@click.option("--stage", type=click.Choice(STAGES), help="Of all bullets. [default: as the file says, else shadow]")
@click.option("--source", "sources", multiple=True, metavar="ID", help="By which 'forget' knows it; repeatable.")
@click.option("--again", is_flag=True, help="Add its bullets again, if this very file was imported before.")
@click.option("--skip-bad", is_flag=True, help="Leave out bullets that are too long or have no text, and name them.")
@click.option("--dry-run", is_flag=True, help="Say what would be added, and add nothing.")
@click.option("--actor", default="import", show_default=True, help="Who does it, for the log.")
@json_option
def import_(
    file: BinaryIO,
    place: Place,
    format_: str,
    stage: str | None,
    sources: tuple[str, ...],
    again: bool,
    skip_bad: bool,
    dry_run: bool,
    actor: str,
    json_mode: bool,
) -> None:
    """Add the bullets of FILE (- for stdin) to a book. What the book says already is not added twice.

    The whole file is read before anything is written; one with a mistake is refused whole. An import that was
    interrupted is finished by typing it again.
    """
    from potstill.cli.playbook.importing import import_into, with_sources, would_import
    from potstill.distill.playbook import formats
    from potstill.distill.playbook.formats.imported import MAX_FILE_BYTES
    from potstill.distill.playbook.operations import Stage

    named = None if format_ == "auto" else format_
    imported = formats.read(file.read(MAX_FILE_BYTES + 1), named, skip_bad=skip_bad)
    imported = safe_import(imported, skip_bad=skip_bad)
    imported = with_sources(imported, sources)
    chosen = None if stage is None else Stage(stage)
    if dry_run:
        name, there = _present(place)
        done = would_import(there, imported, chosen)._replace(book=name)
    else:
        with place.writing(new=True) as book:
            done = import_into(book, imported, chosen, actor, key="" if again else None, applied=applied)
    row = (done.book, imported.format, len(imported.items), done.added, done.twins, done.repeated, done.revision)
    if json_mode:
        about = {"dry_run": dry_run, "ids": done.ids, "warnings": list(imported.warnings)}
        emit_json({**dict(zip(COLUMNS, row, strict=True)), **about})
    else:
        emit_table(COLUMNS, [row], json_mode=False)
    _tell(imported, done, place, dry_run)


def _present(place: Place) -> tuple[str, list[Bullet]]:
    """The book's name and the bullets that are there; none where the book, or the store, is not there yet."""
    from potstill.distill.playbook.book import Playbook
    from potstill.trajectories.opening import is_url

    try:
        with reading(place.db) as store:
            name = place.name_in(store)
            return name, list(Playbook(store, place.namespace, name).bullets().values())
    except StoreError:
        if is_url(place.db) or Path(place.db).expanduser().exists():
            raise
        return place.book or FIRST, []


def _tell(imported: Imported, done: Done, place: Place, dry_run: bool) -> None:
    for warning in imported.warnings:
        note(warning)
    if dry_run:
        note("Nothing was added: it was a dry run.")
    elif done.repeated:
        note("This very file was imported before: nothing was added. To add its bullets again, type: --again")
    elif done.shadow:
        note(
            f"{many(done.shadow, 'bullet')} in shadow, where nobody is shown them. To show them, type: "
            f"potstill playbook stage live --from shadow{place.typed}"
        )


# --- export ---------------------------------------------------------------------------------------------------------


@click.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path, allow_dash=True))
@book_options
@click.option("--format", "format_", type=click.Choice(FORMATS), help="[default: by the file's name; stdout: json]")
@click.option("--as-of", type=click.IntRange(0), metavar="REVISION", help="As the book was then.")
@click.option("--shadow", is_flag=True, help="With bullets in shadow, in formats that cannot say that they are.")
@click.option("--force", is_flag=True, help="Replace a file that is there.")
@json_option
def export(
    file: Path, place: Place, format_: str | None, as_of: int | None, shadow: bool, force: bool, json_mode: bool
) -> None:
    """Write a book to FILE (- for stdout).

    'json' holds everything but the log. Others get what may be shown: no removed, quarantined or shadow bullets. An
    AGENTS.md that is there keeps its own text and the blocks of other books: only this book's block is written.
    """
    from potstill.cli.playbook.look import bullets_at
    from potstill.distill.playbook import formats

    to_stdout = str(file) == "-"
    name = format_ or ("json" if to_stdout else _by_name(file))
    with place.reading() as book:
        revision, bullets = bullets_at(book, as_of)
    kept = formats.exported(name, bullets, shadow=shadow)
    if to_stdout:
        _to_stdout(_bytes(name, kept, book, b"", force))
    else:
        _write(file, name, kept, book, force)
    warnings = _lost(name, bullets, kept, shadow)
    if json_mode and not to_stdout:
        about = {"bullets": len(kept), "file": str(file), "warnings": warnings}
        lost = {"left_out": formats.left_out(name, bullets, shadow=shadow), "dropped": formats.dropped(name, kept)}
        emit_json({"book": book.name, "revision": revision, "format": name, **about, **lost})
    note(f"{len(kept):,} of {many(len(bullets), 'bullet')} written to {'stdout' if to_stdout else file} as {name}.")
    for warning in warnings:
        note(warning)


def _lost(name: str, bullets: Sequence[Bullet], kept: Sequence[Bullet], shadow: bool) -> list[str]:
    """Sentences on what of the book's bullets is not in the file."""
    from potstill.distill.playbook import formats

    said = []
    if out := formats.left_out(name, bullets, shadow=shadow):
        said.append(f"Left out: {', '.join(f'{count:,} {formats.HIDDEN[why]}' for why, count in out.items())}.")
    lost = {formats.FIELDS[field]: count for field, count in formats.dropped(name, kept).items()}
    ids = formats.joined(name, kept)
    if ids:
        lost["line ends"] = len(ids)
    if lost:
        named = ", ".join(f"{what} ({many(count, 'bullet')})" for what, count in lost.items())
        said.append(f"The format does not carry: {named}. Type for everything: --format json")
    if ids:
        what = "1 bullet of several lines is" if len(ids) == 1 else f"{len(ids):,} bullets of several lines are"
        said.append(f"{what} one line each in the file, also program code in them: {', '.join(ids)}")
    return said


def _to_stdout(data: bytes) -> None:
    """The file's bytes; a terminal is shown them."""
    if sys.stdout.isatty():
        emit_text(data.decode().rstrip("\n"))
        return
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


def _by_name(file: Path) -> str:
    found = BY_NAME.get(file.name.lower()) or BY_SUFFIX.get(file.suffix.lower())
    if found is None:
        raise ConfigError(f"'{shortened(file.name, 80)}' does not say its format. Type: --format {'|'.join(FORMATS)}")
    return found


def _write(file: Path, name: str, bullets: Sequence[Bullet], book: Playbook, force: bool) -> None:
    from potstill.durable import replacing

    there = file.read_bytes() if file.exists() else b""
    if there.strip() and name != "agents" and not force:
        raise ConfigError(f"{file} is there already. To replace it, type: --force")
    data = _bytes(name, bullets, book, there, force)
    with replacing(file) as target:
        target.write(data)
    if there.strip() and name == "agents":
        note(f"{file} was there already: all its other text stays as it was.")


def _bytes(name: str, bullets: Sequence[Bullet], book: Playbook, there: bytes, force: bool) -> bytes:
    from potstill.distill.playbook import formats
    from potstill.distill.playbook.formats import skill
    from potstill.distill.playbook.sections import DEFAULT

    if name == "agents":
        return skill.put_into(there, bullets, DEFAULT, book.name, force=force)
    if name == "skill":
        return skill.write_skill(bullets, DEFAULT, name=book.name)
    return formats.format_named(name).write(bullets, DEFAULT)
