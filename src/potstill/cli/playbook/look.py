"""``potstill playbook list`` and ``show``: which books there are, and what one says, now or at an earlier revision.

What it knows: filters. What it does not do: change anything; the store is opened to be read.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from potstill.cli.output import emit_json, emit_table, emit_text, json_option, note
from potstill.cli.playbook.books import Place, book_options
from potstill.cli.playbook.shown import (
    BULLET_COLUMNS,
    LEFT_OUT_FIRST,
    as_plain,
    bullet_lines,
    bullet_rows,
    limit_options,
    many,
    part_of,
    when,
)
from potstill.cli.store_option import db_option, namespace_option
from potstill.cli.trajectories import reading
from potstill.errors import ConfigError

if TYPE_CHECKING:
    from potstill.distill.playbook.book import Playbook
    from potstill.distill.playbook.operations import Bullet

LIST_COLUMNS = ("namespace", "name", "revision", "bullets", "created_at", "changed_at")


@click.command("list")
@db_option
@namespace_option
@click.option("--all-namespaces", is_flag=True, help="Every tenant's playbooks.")
@json_option
def list_(db: str, namespace: str, all_namespaces: bool, json_mode: bool) -> None:
    """List playbooks by name. Bullets count removed ones, too."""
    with reading(db) as store:
        found = store.playbooks(None if all_namespaces else namespace)
    if json_mode:
        emit_json([info._asdict() for info in found])
        return
    rows = [(*info[:4], when(info.created_at), when(info.changed_at)) for info in found]
    emit_table(LIST_COLUMNS, rows, json_mode=False, left_out_first=("created_at", "namespace"))
    if not found:
        note(
            "There is no playbook." + ("" if all_namespaces else " Others' need --namespace NAME or --all-namespaces.")
        )


@click.command()
@click.argument("ids", nargs=-1, metavar="[ID]...")
@book_options
@click.option("--as-of", type=click.IntRange(0), metavar="REVISION", help="As the book was then.")
@click.option("--rendered", is_flag=True, help="The text that a student is shown.")
@click.option("--budget", type=click.IntRange(0), default=10_000, show_default=True, help="Tokens, with --rendered.")
@click.option("--all", "removed_too", is_flag=True, help="Removed and merged bullets, too.")
@click.option("--section", help="Only this section.")
@click.option("--stage", type=click.Choice(("shadow", "canary", "live")), help="Only this stage.")
@click.option("--match", metavar="TEXT", help="Only bullets whose text holds this, in upper or lower case.")
@limit_options
@json_option
def show(
    ids: tuple[str, ...],
    place: Place,
    as_of: int | None,
    rendered: bool,
    budget: int,
    removed_too: bool,
    section: str | None,
    stage: str | None,
    match: str | None,
    limit: int | None,
    offset: int,
    json_mode: bool,
) -> None:
    """Print a book's bullets, or with IDs everything about these.

    Counters, stages and removed bullets are never part of the text that --rendered prints.
    """
    if rendered and (ids or section or stage or match):
        raise ConfigError("--rendered prints the whole text. Leave ids and filters away.")
    with place.reading() as book:
        revision, bullets = bullets_at(book, as_of)
        if rendered:
            from potstill.cli.playbook.text import print_text

            print_text(book, bullets, revision, budget, json_mode, place, past=as_of is not None)
            return
    chosen: Sequence[Bullet]
    chosen = _named(bullets, ids, book.name, revision, place) if ids else [one for one in bullets if not one.removed]
    if removed_too and not ids:
        chosen = bullets
    chosen = _filtered(chosen, section, stage, match)
    part = part_of(chosen, limit, offset, json_mode)
    if json_mode:
        head = {"book": book.name, "namespace": book.namespace, "revision": revision, "matching": len(chosen)}
        emit_json({**head, "bullets": [as_plain(one) for one in part]})
    elif ids:
        emit_text("\n\n".join("\n".join(bullet_lines(one)) for one in part))
    else:
        title = f"playbook {book.name}, revision {revision}: {many(len(chosen), 'bullet')}"
        emit_table(BULLET_COLUMNS, bullet_rows(part), json_mode=False, title=title, left_out_first=LEFT_OUT_FIRST)


def bullets_at(book: Playbook, as_of: int | None) -> tuple[int, list[Bullet]]:
    """The book's bullets now or then, with the revision."""
    if as_of is None:
        since = book.since(0)
        return since.revision, list(since.bullets.values())
    from potstill.distill.playbook import history
    from potstill.distill.playbook.apply import replay

    return as_of, list(replay(history.as_of(book.log(), as_of)).values())


def _named(bullets: Sequence[Bullet], ids: Sequence[str], name: str, revision: int, place: Place) -> list[Bullet]:
    by_id = {bullet.id: bullet for bullet in bullets}
    if missing := [id for id in ids if id not in by_id]:
        raise ConfigError(
            f"The playbook '{name}' has no bullet '{missing[0][:40]}' at revision {revision}. "
            f"Type: potstill playbook show{place.typed}"
        )
    return [by_id[id] for id in dict.fromkeys(ids)]


def _filtered(bullets: Sequence[Bullet], section: str | None, stage: str | None, match: str | None) -> Sequence[Bullet]:
    if section is not None:
        from potstill.distill.playbook.sections import section_key

        bullets = [one for one in bullets if section_key(one.section) == section_key(section)]
    if stage is not None:
        bullets = [one for one in bullets if one.stage == stage]
    if match is not None:
        bullets = [one for one in bullets if match.casefold() in one.content.casefold()]
    return bullets
