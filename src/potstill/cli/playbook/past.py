"""``potstill playbook log, diff, blame`` and ``rollback``: what was done to a book, by whom, and the way back.

What it knows: revisions. What it does not do: erase; a rollback is one more batch in the log, and can be undone itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from potstill.cli.output import emit_json, emit_table, emit_text, json_option, note
from potstill.cli.playbook.books import Place, actor_option, applied, book_options, reason_option
from potstill.cli.playbook.shown import (
    LOG_COLUMNS,
    LOG_LEFT_OUT_FIRST,
    blame_lines,
    limit_options,
    log_json,
    log_rows,
    many,
    part_of,
)

if TYPE_CHECKING:
    from potstill.distill.playbook.history import Difference


@click.command()
@book_options
@click.option("--after", type=click.IntRange(0), default=0, metavar="REVISION", help="Only later ones.")
@click.option("--until", type=click.IntRange(1), metavar="REVISION", help="Only up to this one.")
@limit_options
@json_option
def log(place: Place, after: int, until: int | None, limit: int | None, offset: int, json_mode: bool) -> None:
    """List what was done to a book, the newest first, each batch with who did it and why."""
    with place.reading() as book:
        entries = book.log(after, until=until)[::-1]
    part = part_of(entries, limit, offset, json_mode)
    if json_mode:
        emit_json([log_json(entry) for entry in part])
    else:
        emit_table(LOG_COLUMNS, log_rows(part), json_mode=False, left_out_first=LOG_LEFT_OUT_FIRST)


@click.command()
@click.argument("before", type=click.IntRange(0), metavar="A")
@click.argument("after", type=click.IntRange(0), metavar="[B]", required=False)
@book_options
@limit_options
@json_option
def diff(before: int, after: int | None, place: Place, limit: int | None, offset: int, json_mode: bool) -> None:
    """Say what changed between revisions A and B, or between A and now."""
    from potstill.distill.playbook import history
    from potstill.distill.playbook.apply import replay

    with place.reading() as book:
        entries = book.log()
    last = entries[-1].revision if after is None else after
    then, now = (replay(history.as_of(entries, revision)) for revision in (before, last))
    changes = history.diff(then, now)
    part = part_of(changes, limit, offset, json_mode)
    if json_mode:
        emit_json({"book": book.name, "before": before, "after": last, "changes": history.as_json(part)})
    elif changes:
        emit_text("\n".join([f"--- revision {before}", f"+++ revision {last}", *history.as_lines(part)]))
    else:
        note(f"Nothing differs between revisions {before} and {last}.")


@click.command()
@click.argument("id")
@book_options
@json_option
def blame(id: str, place: Place, json_mode: bool) -> None:
    """Say who wrote a bullet, from which episodes, and whose votes it has."""
    from potstill.distill.playbook import blame as blaming

    with place.reading() as book:
        found = blaming.blame(book.log(), id)
        bullets = book.bullets({id})
    if json_mode:
        emit_json(blaming.as_json(found))
    else:
        emit_text("\n".join(blame_lines(found, bullets)))


@click.command()
@click.argument("revision", type=click.IntRange(0))
@book_options
@click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")
@actor_option
@reason_option
@json_option
def rollback(revision: int, place: Place, dry_run: bool, actor: str, reason: str, json_mode: bool) -> None:
    """Bring a book back to what it was at REVISION. Votes stay, and so does the log: a rollback can be rolled back.

    Where somebody edits at the same moment nothing is changed; type it again.
    """
    from potstill.distill.playbook import history
    from potstill.distill.playbook.apply import replay
    from potstill.distill.playbook.undo import undo

    with place.reading() if dry_run else place.writing() as book:
        entries = book.log()
        batch = undo(entries, revision, actor=actor, reason=reason)
        done = entries[-1].revision if entries else 0
        if batch.operations and not dry_run:
            done = applied(book, batch).revision
        now, then = book.bullets(), replay(history.as_of(entries, revision))
    if dry_run:
        _print_way_back(history.diff(now, then), json_mode)
        return
    row = (book.name, done, len(batch.operations))
    emit_table(("book", "revision", "operations"), [row], json_mode=json_mode)
    if not batch.operations:
        note(f"The book is as it was at revision {revision}: nothing was done.")
    else:
        note(f"To undo this, type: potstill playbook rollback {done - 1}{place.typed}")


def _print_way_back(changes: Sequence[Difference], json_mode: bool) -> None:
    from potstill.distill.playbook import history

    kept = [one for one in changes if one.kind is not history.DifferenceKind.COUNTED]
    if json_mode:
        emit_json({"dry_run": True, "changes": history.as_json(kept)})
    elif kept:
        emit_text("\n".join(history.as_lines(kept)))
    note(f"{many(len(kept), 'bullet')} would change; votes and sources stay. Nothing was done.")
