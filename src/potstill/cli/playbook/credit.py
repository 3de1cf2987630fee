"""``potstill playbook report``: what each bullet does to success and what it costs, from outcomes; and what follows.

What it knows: columns and prices. What it does not do: estimate or decide (``distill.playbook.credit``); nothing is
changed unless ``--apply`` is typed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from potstill.cli.output import emit_json, emit_table, json_option, note
from potstill.cli.playbook.books import Place, applied, book_options
from potstill.cli.playbook.shown import limit_options, many, part_of
from potstill.errors import PotstillError

if TYPE_CHECKING:
    from potstill.distill.playbook.book import Playbook
    from potstill.distill.playbook.credit.report import Line, Report
    from potstill.distill.playbook.operations import Batch

COLUMNS = (
    "id",
    "stage",
    "tokens",
    "shown",
    "with",
    "without",
    "effect",
    "effect_low",
    "effect_high",
    "rent_usd",
    "break_even_usd",
    "act",
    "why",
)
LEFT_OUT_FIRST = ("break_even_usd", "effect_low", "effect_high", "tokens", "stage", "rent_usd", "shown")


@click.command()
@book_options
@click.option("--prices/--no-prices", "priced", default=True, help="With dollars, which each episode is read for.")
@click.option("--price-student-as", help="Price the student as this model. [default: as the runs were planned]")
@click.option("--price-teacher-as", help="Price the teacher as this model. [default: as the runs were planned]")
@click.option("--cpu-hour-usd", type=float, help="Price local models by CPU time, in dollars an hour.")
@click.option(
    "--value-of-success",
    type=click.FloatRange(0, min_open=True),
    metavar="USD",
    help="What one success is worth to you. [default: the value at which a bullet earns its rent is told]",
)
@click.option("--apply", "apply_", is_flag=True, help="Do what is proposed: retire, promote, send back.")
@limit_options
@json_option
def report(
    place: Place,
    priced: bool,
    price_student_as: str | None,
    price_teacher_as: str | None,
    cpu_hour_usd: float | None,
    value_of_success: float | None,
    apply_: bool,
    limit: int | None,
    offset: int,
    json_mode: bool,
) -> None:
    """Say what each bullet does to success, what it costs, and what follows for it.

    Effects compare trials: episodes in which each bullet was left out by lot, so nothing but the bullet differs. A
    bullet is retired only where its interval lies below zero. What is proposed is done with --apply, and can be undone.
    """
    from potstill.distill.playbook.credit.read import Reader
    from potstill.distill.playbook.credit.report import as_json
    from potstill.distill.playbook.credit.report import report as made
    from potstill.measure.ledger import Pricing
    from potstill.measure.prices import PriceTable

    table = PriceTable.load(cpu_hour_usd=cpu_hour_usd) if priced else None
    with place.writing() if apply_ else place.reading() as book:
        pricing = Pricing(
            student_as=price_student_as or _planned(book, "price_student_as"),
            teacher_as=price_teacher_as or _planned(book, "price_teacher_as"),
        )
        reader = Reader(book.store, book.namespace, book.name, table=table, pricing=pricing, cache="simulated")
        found = made(book, reader=reader, value_of_success_usd=value_of_success)
        revisions = _applied(book, found.batches) if apply_ else []
    part = part_of(found.lines, limit, offset, json_mode)
    if json_mode:
        told = as_json(found)
        shown = {line.bullet.id for line in part}
        told["bullets"] = [row for row in told["bullets"] if row["id"] in shown]
        emit_json({**told, "applied_in": revisions})
        return
    emit_table(COLUMNS, [_row(line) for line in part], json_mode=False, left_out_first=LEFT_OUT_FIRST)
    _tell(found, book, revisions, place)


def _applied(book: Playbook, batches: Sequence[Batch]) -> list[int]:
    """The revisions that they made. Batches that were applied stay so where a later one is refused."""
    revisions: list[int] = []
    for batch in batches:
        try:
            revisions.append(applied(book, batch).revision)
        except PotstillError as error:
            if not revisions:
                raise
            done = f"{len(revisions)} of {len(batches)} batches were applied, up to revision {revisions[-1]}."
            raise PotstillError(f"{done} Of the next one: {error} Type the command again for the rest.") from error
    return revisions


def _planned(book: Playbook, key: str) -> str | None:
    """How the runs of the tenant were planned to be priced, where they agree."""
    names = {run.config[key] for run in book.store.runs(namespace=book.namespace) if run.config.get(key)}
    return names.pop() if len(names) == 1 else None


def _row(line: Line) -> list[object]:
    effect, trials = line.decision.effect, line.decision.effect.trials
    low, high = effect.interval
    known = effect.difference is not None
    return [
        line.bullet.id,
        str(line.bullet.stage),
        line.rent.tokens,
        line.counts.shown,
        f"{trials.shown.successes}/{trials.shown.n}",
        f"{trials.withheld.successes}/{trials.withheld.n}",
        effect.difference,
        low if known else None,
        high if known else None,
        line.rent.usd,
        line.worth.break_even_usd,
        str(line.decision.act),
        str(line.decision.reason),
    ]


def _tell(found: Report, book: Playbook, revisions: Sequence[int], place: Place) -> None:
    note(
        f"{many(found.episodes, 'episode')} of '{book.name}', {many(found.trials, 'trial')} among them. Effects have "
        f"intervals of {found.confidence:.0%} that hold however often you look."
    )
    for said in found.notes:
        note(said)
    if found.regression is not None:
        note(f"The book became worse: {found.regression.sentence}")
    if not found.trials:
        note(
            "There is no trial yet, so no effect is known: a share of the episodes become trials while a book is shown."
        )
    proposed = sum(len(batch.operations) for batch in found.batches)
    if revisions:
        before = revisions[0] - 1
        note(f"Done in revision {revisions[-1]}. To undo, type: potstill playbook rollback {before}{place.typed}")
    elif proposed:
        parts = len(found.batches)
        split = f", in {parts} batches" if parts > 1 else ""
        note(f"{many(proposed, 'change')} proposed{split}. To do it, type: --apply")
