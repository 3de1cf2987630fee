"""Attempts out of files and stores, for the commands that need samples: parsing of options and wiring only."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from potstill.cli.output import note

if TYPE_CHECKING:
    from potstill.logs.records import Attempt, Record
    from potstill.measure.ledger import LedgerRow, Pricing
    from potstill.measure.prices import PriceTable
    from potstill.measure.samples import Price, Recorded
    from potstill.trajectories.store import Store
    from potstill.types import Call, Trajectory

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
            click.option("--price-student-as", help="In a store: price students as this model. [default: as planned]"),
            click.option("--price-teacher-as", help="In a store: price teachers as this model. [default: as planned]"),
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

    _check_sides(students, teacher)
    table = PriceTable.load(options["prices"], options["date"])
    found = collect(_records(files, table, options), students, teacher, price_of(table))
    for one in found:
        for text in one.found.notes():
            note(f"note: {text}")
    return found


def _check_sides(students: tuple[str, ...], teacher: str) -> None:
    """Raises ``ConfigError`` for a model that would be checked against itself."""
    from potstill.errors import ConfigError

    if teacher in students:
        raise ConfigError(
            f"--student and --teacher are both '{teacher}': a cascade needs two sides. "
            f"Name another model, or two runs of it: --student {teacher}@RUN --teacher {teacher}@OTHER"
        )


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
    """True for a file that is a SQLite database, and for a database's URL."""
    from potstill.trajectories.opening import is_url

    if is_url(file):
        return True
    path = Path(file)
    if not path.is_file():
        return False
    with path.open("rb") as opened:
        return opened.read(16) == b"SQLite format 3\x00"


def _episodes(path: str, table: PriceTable, options: dict[str, Any]) -> Iterator[Attempt]:
    """Whole episodes without their calls.

    A cascade's steps are no samples here: its teacher was asked where the student was doubted, not at random.
    """
    import msgspec

    for attempt in store_attempts(path, table, options):
        yield msgspec.structs.replace(attempt, calls=())


def store_attempts(path: str, table: PriceTable, options: dict[str, Any]) -> Iterator[Attempt]:
    """Episodes of a store with their calls, priced as ``potstill measure`` prices them."""
    from potstill.logs.formats.trajectory import attempt_of
    from potstill.trajectories.opening import read_store

    with read_store(path) as store:
        pricing = pricing_of(store, options)
        for episode in store.select(namespace=options["namespace"]):
            yield _with_dollars(attempt_of(episode), episode, table, pricing)


def pricing_of(store: Store, options: dict[str, Any]) -> Pricing:
    """As what the sides' calls are priced: as typed, else as all runs of the store were planned."""
    from potstill.measure.ledger import Pricing

    planned = [run.config for run in store.runs(namespace=options["namespace"])]
    return Pricing(
        student_as=options["price_student_as"] or _agreed(planned, "price_student_as"),
        teacher_as=options["price_teacher_as"] or _agreed(planned, "price_teacher_as"),
    )


def calls_of(episode: Trajectory) -> list[Call]:
    """Every call of an episode, in order."""
    return [call for step in episode.steps for call in step.calls]


def _with_dollars(attempt: Attempt, episode: Trajectory, table: PriceTable, pricing: Pricing) -> Attempt:
    """The attempt with what it and its calls cost; unknown where a model has no price."""
    import msgspec

    from potstill.errors import UnknownPrice
    from potstill.measure.cache import ledger

    try:
        rows = ledger(calls_of(episode), table, cache="simulated", pricing=pricing)
    except UnknownPrice:
        return attempt
    calls = tuple(
        msgspec.structs.replace(call, cost_usd=row.total_usd, usage=row.usage, model=_priced(call.model, row))
        for call, row in zip(attempt.calls, rows, strict=True)
    )
    costs = [row.total_usd for row in rows]
    known = [cost for cost in costs if cost is not None]
    return msgspec.structs.replace(attempt, cost_usd=sum(known) if len(known) == len(costs) else None, calls=calls)


def _priced(model: str, row: LedgerRow) -> str:
    """The name that a call's price goes by; CPU time has none."""
    return row.priced_as if row.priced_as is not None and row.price_row is not None else model


def _agreed(configs: list[dict[str, Any]], key: str) -> str | None:
    """How the runs were planned to be priced, where they agree."""
    names = {config[key] for config in configs if config.get(key)}
    return names.pop() if len(names) == 1 else None
