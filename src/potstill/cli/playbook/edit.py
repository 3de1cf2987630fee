"""``potstill playbook edit``: another text for a bullet, in an editor or from the command line, compare-and-set.

What it knows: that somebody else may have edited the bullet meanwhile; then nothing is written, both texts are shown,
and the one that was typed is kept in a file. What it does not do: merge texts.
"""

from __future__ import annotations

import os
import shlex
import sys
import tempfile
from typing import TYPE_CHECKING, BinaryIO, NoReturn

import click

from potstill.cli.output import emit_json, emit_table, emit_text, json_option, note
from potstill.cli.playbook.books import Place, actor_option, applied, book_options, bullets_named, reason_option
from potstill.cli.playbook.shown import indented
from potstill.cli.playbook.typed import read_text, safe_text
from potstill.errors import ConfigError, PotstillError

if TYPE_CHECKING:
    from pathlib import Path

    from potstill.distill.playbook.operations import Applied, Batch, Bullet


@click.command()
@click.argument("id")
@click.option("--content", metavar="TEXT", help="The new text; - for stdin. [default: your $EDITOR]")
@click.option("--content-file", type=click.File("rb"), help="The new text, out of a file.")
@click.option("--revision", type=click.IntRange(1), help="The bullet's that you read. [default: the present one]")
@click.option("--source", "sources", multiple=True, metavar="ID", help="Episode it was learnt from; repeatable.")
@book_options
@actor_option
@reason_option
@json_option
def edit(
    id: str,
    content: str | None,
    content_file: BinaryIO | None,
    revision: int | None,
    sources: tuple[str, ...],
    place: Place,
    actor: str,
    reason: str,
    json_mode: bool,
) -> None:
    """Give a bullet another text.

    Where somebody else edited it since it was read, nothing is changed: both texts are shown, yours is kept in a file,
    and the line to type for either is given.
    """
    from potstill.distill.playbook.operations import Batch, Update

    with place.reading() as book:
        before = bullets_named(place, book, (id,))[0]
    if before.removed:
        where = f"merged into {before.merged_into}" if before.merged_into else "removed"
        raise ConfigError(f"{id} was {where}. Type: potstill playbook restore {id}{place.typed}")
    if revision is not None and revision > before.revision:
        raise ConfigError(
            f"--revision {revision}: {id} is at revision {before.revision} and never was at a later one. Leave "
            "--revision away for the present one. Nothing was changed."
        )
    text = _written(before, content, None if content_file is None else read_text(content_file, "--content-file"))
    if text is None:
        note(f"Nothing was changed: {id} says what it said.")
        return
    update = Update(id=id, content=safe_text(text), revision=revision or before.revision)
    batch = Batch(operations=(update,), actor=actor, sources=sources, reason=reason)
    try:
        done = _apply(place, batch, id, text, update.revision, json_mode)
    except (PotstillError, OSError) as error:
        if not isinstance(error, EditConflict):
            note(f"Your text is kept in {_kept(id, text)}")
        raise
    emit_table(
        ("book", "revision", "bullets"), [(book.name, done.revision, [id] if json_mode else id)], json_mode=json_mode
    )


class EditConflict(PotstillError):
    """Somebody else was faster."""


def _written(before: Bullet, content: str | None, from_file: str | None) -> str | None:
    """The new text; None: it is the old one."""
    if content is not None and from_file is not None:
        raise ConfigError("--content and --content-file both give a text. Leave one away.")
    text = from_file if content is None else content
    if text == "-":
        text = read_text(sys.stdin.buffer, "stdin")
    if text is None:
        if not sys.stdin.isatty() and not os.environ.get("EDITOR") and not os.environ.get("VISUAL"):
            raise ConfigError("There is no terminal to edit in. Type: --content TEXT, or --content - for stdin")
        text = click.edit(before.content + "\n", extension=".txt")
    if text is None or text.strip() == before.content.strip():
        return None
    return text


def _apply(place: Place, batch: Batch, id: str, text: str, read: int, json_mode: bool) -> Applied:
    from potstill.distill.playbook.apply import Refused, Why
    from potstill.distill.playbook.blame import blame

    with place.writing() as book:
        try:
            return applied(book, batch)
        except PotstillError as error:
            cause = error.__cause__
            if not isinstance(cause, Refused) or cause.why not in (Why.STALE, Why.REMOVED):
                raise
            now = bullets_named(place, book, (id,))[0]
            who = blame(book.log(), id).lines[-1].actor
    _conflict(place, now, who, text, read, json_mode)


def _conflict(place: Place, now: Bullet, who: str, text: str, read: int, json_mode: bool) -> NoReturn:
    """Both texts, and what to type."""
    path = _kept(now.id, text)
    again = f"potstill playbook edit {now.id}{place.typed} --content-file {shlex.quote(str(path))}"
    if now.removed:
        again = f"potstill playbook restore {now.id}{place.typed}, and then {again}"
    else:
        again += f" --revision {now.revision}"
    if json_mode:
        theirs = {"content": now.content, "revision": now.revision, "actor": who, "removed": now.removed}
        emit_json({"conflict": {"id": now.id, "read": read, "yours": text, "theirs": theirs, "file": str(path)}})
    else:
        emit_text("\n".join((*indented("theirs", now.content, ""), *indented("yours", text.strip(), ""))))
    what = "removed" if now.removed else f"changed by '{who}'"
    raise EditConflict(
        f"{now.id} was {what} since you read it (revision {read}, now {now.revision}): nothing was changed. Both texts "
        f"are above, and yours is kept in {path}. To put yours in its place, type: {again}"
    )


def _kept(id: str, text: str) -> Path:
    """A file with the text, which only its owner may read."""
    from pathlib import Path

    handle, path = tempfile.mkstemp(prefix=f"potstill-{id}-", suffix=".txt")
    with os.fdopen(handle, "w", encoding="utf-8", errors="surrogateescape") as file:
        file.write(text)
    return Path(path)
