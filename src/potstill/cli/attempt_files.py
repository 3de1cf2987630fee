"""Attempts out of files and stores, for the commands that need samples: parsing of options and wiring only."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from potstill.cli.output import note

if TYPE_CHECKING:
    from potstill.logs.records import Attempt, Record
    from potstill.measure.prices import PriceTable
    from potstill.measure.samples import Price, Recorded

F = TypeVar("F", bound=Callable[..., Any])


def reading_options(command: F) -> F:
    """Decorator: the files, and how they are read and priced."""
    for option in reversed(
        (
            click.argument("files", nargs=-1, required=True, metavar="FILES..."),
            click.option("--format", "format_name", help="Of all files. [default: each file's own, by its first rows]"),
            click.option(
                "--prices", type=click.Path(), help="TOML file with your prices. [default: potstill-prices.toml]"
            ),
            click.option("--date", help="Prices of this day, YYYY-MM-DD. [default: the day of the price table]"),
            click.option("--price-student-as", help="Of a store's episodes: price the student as this model."),
            click.option("--price-teacher-as", help="Of a store's episodes: price the teacher as this model."),
            click.option(
                "--namespace", default="default", show_default=True, help="The tenant, where a file is a store."
            ),
        )
    ):
        command = option(command)
    return command


def recorded(
    files: tuple[str, ...], students: tuple[str, ...], teacher: str, options: dict[str, Any]
) -> list[Recorded]:
    """The samples of each student beside the teacher's answers, with what is odd about them told on stderr."""
    from potstill.measure.prices import PriceTable
    from potstill.measure.samples import collect

    table = PriceTable.load(options["prices"], options["date"])
    found = collect(_records(files, table, options), students, teacher, price_of(table))
    for one in found:
        for text in one.found.notes():
            note(f"note: {text}")
    return found


def price_of(table: PriceTable) -> Price:
    """What an attempt cost: as its log says, else by the table from its tokens; ``None`` where neither can be known."""
    from potstill.measure.comparison_sides import costs_of

    unpriced: set[str] = set()

    def price(attempt: Attempt) -> float | None:
        if attempt.cost_usd is not None:
            return attempt.cost_usd
        if attempt.model in unpriced:
            return None
        usd = costs_of(attempt, table).usd
        if usd is None and not attempt.calls and not table.has(attempt.model):
            unpriced.add(attempt.model)
            note(f"note: '{attempt.model}' has no price: what it cost is known only where the log says it")
        return usd

    return price


def _records(files: tuple[str, ...], table: PriceTable, options: dict[str, Any]) -> Iterator[Record]:
    from potstill.logs.reader import read

    stores = [file for file in files if is_store(file)]
    logs = [file for file in files if file not in stores]
    if logs:
        reading = read(logs, format=options["format_name"])
        yield from reading
        for file in reading.files:
            for skips in file.skipped:
                note(f"{file.path}: skipped {skips.count:,} rows: {skips.reason}, first in line {skips.lines[0]}")
    for store in stores:
        yield from _episodes(store, table, options)


def is_store(file: str) -> bool:
    """True for a file that is a SQLite database."""
    path = Path(file)
    if not path.is_file():
        return False
    with path.open("rb") as opened:
        return opened.read(16) == b"SQLite format 3\x00"


def _episodes(path: str, table: PriceTable, options: dict[str, Any]) -> Iterator[Attempt]:
    """Whole episodes of students and teachers alone; ``run`` is the arm, the number of a sample its seed.

    A cascade's steps are no samples here: its teacher was asked where the student was doubted, not at random.
    """
    from potstill.cli.wiring import pricer
    from potstill.logs.records import Attempt
    from potstill.measure.ledger import Pricing
    from potstill.measure.tally import task_key
    from potstill.trajectories import Store
    from potstill.types import TrajectoryKind

    pricing = Pricing(student_as=options["price_student_as"], teacher_as=options["price_teacher_as"])
    price = pricer(table, pricing)
    with Store.read(path) as store:
        for episode in store.select(namespace=options["namespace"]):
            model = {TrajectoryKind.TEACHER: episode.teacher, TrajectoryKind.STUDENT: episode.student}.get(episode.kind)
            if model is None:
                continue
            success = None if episode.outcome is None else episode.outcome.success
            yield Attempt(
                task_id=task_key(episode),
                model=model,
                run=episode.arm,
                episode_id=episode.id,
                sample=episode.seed,
                success=success,
                error=episode.error.kind if success is None and episode.error is not None else None,
                cost_usd=price(episode),
                started_at=episode.started_at,
            )
