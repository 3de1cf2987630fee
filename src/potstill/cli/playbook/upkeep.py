"""``potstill playbook duplicates, compact, check, runs``: what could be merged, the text put in order anew, whether the
book is what its log says, and which runs taught it.

What it knows: proposals. What it does not do: merge unless told (``--apply``), or mend a book.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from potstill.cli.output import emit_json, emit_table, json_option, note
from potstill.cli.playbook.books import Place, actor_option, applied, book_options
from potstill.cli.playbook.shown import limit_options, many, part_of, shortened, when
from potstill.cli.trajectories import reading
from potstill.errors import StoreError

if TYPE_CHECKING:
    from potstill.distill.playbook.gate import Cluster


@click.command()
@book_options
@click.option(
    "--threshold",
    type=click.FloatRange(0, 1, min_open=True),
    default=0.80,
    show_default=True,
    help="Least share of common letters; 1: only exact ones.",
)
@click.option("--apply", "apply_", is_flag=True, help="Merge them: texts of the first stay, votes add up.")
@actor_option
@limit_options
@json_option
def duplicates(
    place: Place, threshold: float, apply_: bool, actor: str, limit: int | None, offset: int, json_mode: bool
) -> None:
    """List bullets that say nearly the same, as the merges that --apply would do. 'restore' takes one out again.

    Bullets that differ in a number, a name from code, a negation or an opposite are kept apart.
    """
    from potstill.distill.playbook.gate import clusters, refine
    from potstill.distill.playbook.twins import BookIndex, Gate, Thresholds

    gate = Gate(thresholds=Thresholds(lexical=threshold))
    with place.writing() if apply_ else place.reading() as book:
        index = BookIndex(book.bullets().values())
        found = clusters(index, gate)
        batch = refine(index, gate, found=found, actor=actor)
        done = applied(book, batch).revision if apply_ and batch.operations else None
    part = part_of(found, limit, offset, json_mode)
    if json_mode:
        told = [{"into": one.into.id, "ids": [b.id for b in one.bullets[1:]], **_texts(one)} for one in part]
        emit_json({"book": book.name, "applied": done is not None, "revision": done, "clusters": told})
    else:
        rows = [
            (cluster.into.id, bullet.id, shortened(cluster.into.content, 80), shortened(bullet.content, 80))
            for cluster in part
            for bullet in cluster.bullets[1:]
        ]
        emit_table(("into", "id", "stays", "goes"), rows, json_mode=False)
    if not found:
        note("No two bullets say nearly the same.")
    elif done is None:
        going = sum(len(one.bullets) - 1 for one in found)
        note(f"{many(going, 'bullet')} could go into others. To merge, type: --apply")
    else:
        note(f"Merged in revision {done}. To undo this, type: potstill playbook rollback {done - 1}{place.typed}")
        if len(batch.operations) < len(found):
            note(f"{len(found) - len(batch.operations)} merges are left: type it again.")


def _texts(cluster: Cluster) -> dict[str, list[str]]:
    return {"contents": [bullet.content for bullet in cluster.bullets]}


@click.command()
@book_options
@click.option("--budget", type=click.IntRange(0), default=10_000, show_default=True, help="Tokens of the text.")
@json_option
def compact(place: Place, budget: int, json_mode: bool) -> None:
    """Put the text that students are shown in order anew: by sections, the best that fit the budget.

    The best are those whose help was measured ('report'), then those with the better votes.

    Between two compactions the text only grows at its end, so that prompt caches stay warm; this breaks them once. It
    is done by itself when enough lines are out of date. Running gateways take it from the next episode on.
    """
    from potstill.distill.playbook.budget import Budget
    from potstill.distill.playbook.context import PlaybookConfig, PlaybookContext
    from potstill.distill.playbook.credit.utility import Measured

    with place.writing() as book:
        config = PlaybookConfig(budget=Budget(tokens=budget))
        context = PlaybookContext.of(book, config, utility=Measured(book))
        before = context.page().ids
        epoch = context.compact()
    out = (*epoch.pinned_out, *epoch.left_out)
    moved = sum(one not in before for one in epoch.ids) + sum(one not in epoch.ids for one in before)
    row = (book.name, epoch.revision, len(epoch.ids), len(out), moved)
    emit_table(("book", "revision", "bullets", "left_out", "came_or_went"), [row], json_mode=json_mode)
    if epoch.pinned_out:
        note(
            f"Pinned and yet without room: {shortened(', '.join(epoch.pinned_out))}. Unpin others, or raise the budget."
        )


@click.command()
@book_options
@json_option
def check(place: Place, json_mode: bool) -> None:
    """Replay a book's log and compare: exit code 5 where the bullets are not what the log says."""
    with place.reading() as book:
        revision, problems = book.checked()
    if json_mode:
        emit_json({"book": book.name, "revision": revision, "problems": problems})
    else:
        emit_table(("problem",), [(problem,) for problem in problems], json_mode=False)
    if problems:
        raise StoreError(f"The playbook '{book.name}' has {many(len(problems), 'problem')}. Keep a copy of the store.")
    batches = many(revision, "batch", "batches")
    note(f"All is well: the bullets of '{book.name}' are what a replay of its {batches} gives.")


RUN_COLUMNS = (
    "run",
    "book",
    "mode",
    "stopped",
    "learnt_from",
    "success",
    "written",
    "not_written",
    "revision",
    "cost_usd",
    "started_at",
)


@click.command()
@book_options
@json_option
def runs(place: Place, json_mode: bool) -> None:
    """List the learning runs of a namespace, or of --book, the oldest first, with what they cost."""
    from potstill.cli.playbook.outcomes import success_cell
    from potstill.distill.playbook.book import Playbook
    from potstill.distill.playbook.learn.result import result_of

    with reading(place.db) as store:
        known = store.learning_runs(place.namespace, place.book)
        books = {one.name: Playbook(store, place.namespace, one.name) for one in known}
        results = [(one, result_of(books[one.name], one.run)) for one in known]
        found = [(one, done, success_cell(books[one.name], done)) for one, done in results]
    rows = [
        (
            one.run,
            one.name,
            str(done.mode),
            str(done.stopped),
            done.episodes,
            success,
            sum(done.applied.values()),
            sum(done.refused.values()),
            done.revision,
            done.cost_usd,
            one.started_at if json_mode else when(one.started_at),
        )
        for one, done, success in found
    ]
    emit_table(RUN_COLUMNS, rows, json_mode=json_mode, left_out_first=("started_at", "not_written", "revision"))
    if not rows:
        note("There is no learning run. Type: potstill distill playbook --help")
