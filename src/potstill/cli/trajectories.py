"""``potstill trajectories``: list, show, export, import, remove and prune recorded episodes.

Callbacks parse and call the store; what is printed is in ``potstill.cli.output`` and ``trajectory_view``.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar, cast

import click

from potstill.cli.open_episodes import open_line
from potstill.cli.output import emit_json, emit_table, json_option, note
from potstill.cli.store_option import db_option, namespace_option
from potstill.errors import ConfigError, PotstillError, StoreError

if TYPE_CHECKING:
    from potstill.trajectories import Store
    from potstill.trajectories.importing import ImportReport
    from potstill.trajectories.journaling import OpenDay
    from potstill.trajectories.queries import Filters
    from potstill.trajectories.retention import Segment

F = TypeVar("F", bound=Callable[..., Any])
FORMATS = (
    *("jsonl", "openai-chat", "trl", "trl-steps", "ms-swift", "llama-factory", "verl"),
    *("preferences", "ranking", "arrays", "parquet"),
)
BINARY = {
    "parquet": "Parquet is not text. Type: -o FILE.parquet",
    "verl": "Parquet is not text. Type: -o FILE.parquet",
    "arrays": "Arrays are not text. Type: -o FILE.npz",
}
KINDS = ("teacher", "student", "cascade", "control")
NAMED_LINES = 10
"""So many bad lines of an import are named; all are counted."""
IMPORT_HELP = "potstill trajectories import --help"
COLUMNS = ("id", "task_id", "environment", "arm", "kind", "seed", "success", "error", "steps", "started_at", "run_id")
PRUNED_COLUMNS = ("day", "episodes", "steps", "open_episodes", "exchanges")
LEFT_OUT_FIRST = ("run_id", "environment", "kind", "started_at", "task_id", "steps", "seed", "error")
"""Columns that a narrow terminal does without; an id that is cut over several lines cannot be copied."""


@click.group()
def trajectories() -> None:
    """List, show, export, import and remove recorded episodes."""


def filter_options(command: F) -> F:
    """The options that choose episodes; ``filters_of`` turns them into a filter."""
    for option in reversed(
        (
            click.option("--run", "run_id", metavar="RUN", help="Only this run."),
            click.option("--arm", help="Only this arm."),
            click.option("--kind", type=click.Choice(KINDS), help="Only this kind of episode."),
            click.option("--env", "environment", metavar="ENV", help="Only this environment."),
            click.option("--split", help="Only tasks of this split."),
            click.option("--task", "task_id", metavar="TASK", help="Only this task."),
            click.option("--namespace", default="default", show_default=True, help="The tenant."),
            click.option("--all-namespaces", is_flag=True, help="Every tenant's episodes."),
            click.option("--success/--failure", default=None, help="Only episodes that succeeded, or that did not."),
            click.option("--since", metavar="DATE", help="Started on or after this date (UTC)."),
            click.option("--until", metavar="DATE", help="Started before this date (UTC)."),
            click.option("--limit", type=click.IntRange(min=0), metavar="N", help="At most N episodes."),
        )
    ):
        command = option(command)
    return command


def filters_of(options: dict[str, Any]) -> Filters:
    filters = dict(options)
    if filters.pop("all_namespaces"):
        filters["namespace"] = None
    for name in ("since", "until"):
        if filters[name] is not None:
            filters[name] = unix_seconds(filters[name])
    return cast("Filters", filters)


def unix_seconds(text: str) -> float:
    """A date or time in ISO 8601, UTC unless it says otherwise. Raises ``ConfigError``."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError(f"'{text}' is not a date. Type it as 2026-11-20 or 2026-11-20T18:30.") from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def reading(db: str) -> Store:
    """The store, of which nothing is changed."""
    from potstill.trajectories.opening import read_store

    return read_store(db)


def writing(db: str, *, create: bool = False) -> Store:
    from potstill.trajectories.opening import open_store

    return open_store(db, create=create)


@trajectories.command("list")
@db_option
@filter_options
@json_option
def list_(db: str, json_mode: bool, **options: Any) -> None:
    """List episodes, newest first."""
    chosen = filters_of(options)
    chosen["newest_first"] = True
    with reading(db) as store:
        found = store.summaries(**chosen)
        going = open_line(store, db, chosen.get("namespace"))
    rows = [[_cell(summary, column) for column in COLUMNS] for summary in found]
    emit_table(COLUMNS, rows, json_mode=json_mode, left_out_first=LEFT_OUT_FIRST)
    if not found:
        others = " Other tenants' episodes need --namespace NAME or --all-namespaces."
        note(f"No episode matches.{'' if options['all_namespaces'] else others}")
    if going:
        note(going)


def _cell(summary: Any, column: str) -> object:
    value = getattr(summary, column)
    if column == "started_at":
        return _when(value)
    return str(value) if column == "kind" else value


def _when(unix_s: float) -> str | None:
    if not 0 < unix_s < 253402300800:
        return None
    return datetime.fromtimestamp(unix_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@trajectories.command()
@db_option
@namespace_option
@click.option("--all-namespaces", is_flag=True, help="Every tenant's episodes.")
@click.option(
    "--idle", default=0.0, show_default=True, metavar="S", help="Only those without a call for so many seconds."
)
@json_option
def fold(db: str, namespace: str, all_namespaces: bool, idle: float, json_mode: bool) -> None:
    """Make trajectories of episodes that a gateway still takes to be running.

    A gateway does this itself some seconds after an outcome, when an episode was idle for long, and when it stops. An
    episode that goes on afterwards stays one trajectory.
    """
    from potstill.record.folding import fold_episode

    folded = left = 0
    with writing(db) as store:
        for one in store.open_episodes(None if all_namespaces else namespace, idle_before=time.time() - idle):
            try:
                folded += fold_episode(store, one.namespace, one.episode_id) is not None
            except StoreError as error:
                left += 1
                note(f"{one.episode_id}: {error}")
    emit_table(("folded", "failed"), [(folded, left)], json_mode=json_mode)
    if left:
        raise PotstillError(f"{left} episodes could not be folded; they stay where they are")


@trajectories.command()
@click.argument("id")
@db_option
@namespace_option
@json_option
@click.option("--prompts", is_flag=True, help="Print every call's whole prompt, too.")
def show(id: str, db: str, namespace: str, json_mode: bool, prompts: bool) -> None:
    """Print one episode step by step: what was seen and done, who answered, why, and with which tokens."""
    from potstill.cli.trajectory_view import print_trajectory

    with reading(db) as store:
        _must_be_there(store, [id], namespace)
        trajectory = store.get(id, namespace=namespace)
    if json_mode:
        emit_json(trajectory)
    else:
        print_trajectory(trajectory, prompts=prompts)


@trajectories.command()
@db_option
@filter_options
@click.option("--format", "format_", type=click.Choice(FORMATS), default="jsonl", show_default=True)
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), help="A file; stdout if left out.")
@click.option("--all-outcomes", is_flag=True, help="To learn from: failed episodes, too.")
@click.option("--answerer", type=click.Choice(("teacher", "student")), help="To learn from: only its answers.")
@click.option("--reasoning", is_flag=True, help="Of conversations: what was thought before each action, too.")
def export(
    db: str,
    format_: str,
    output: Path | None,
    all_outcomes: bool,
    answerer: str | None,
    reasoning: bool,
    **options: Any,
) -> None:
    """Write episodes as JSONL (exact), to learn from, or as Parquet (a row a step).

    To learn from: openai-chat is OpenAI's fine-tuning JSONL; trl and trl-steps are TRL's conversations, whole or one
    row for each answer; in openai-chat other answerers' messages have weight 0. ms-swift, llama-factory (ShareGPT) and
    verl (Parquet) are those of these trainers. preferences are pairs for TRL's
    DPOTrainer: what the teacher did, and what else was done after the very same. ranking is a line for each of the
    teacher's choices among listed actions; arrays are the same with vectors or images (NumPy's .npz). They hold
    episodes that succeeded; preferences take from failed ones what not to do.
    """
    from potstill.durable import replacing
    from potstill.trajectories.export import UNITS, Format
    from potstill.trajectories.export import export as write
    from potstill.types import Answerer

    left_out: Counter[str] = Counter()
    with reading(db) as store:
        chosen = store.select(**filters_of(options))
        told: dict[str, Any] = {
            "all_outcomes": all_outcomes,
            "answerers": None if answerer is None else {Answerer(answerer)},
            "read_blob": store.get_blob,
            "left_out": left_out,
            "reasoning": reasoning,
        }
        if output is not None:
            with replacing(output) as target:
                count = write(chosen, target, format_, **told)
        elif format_ in BINARY and sys.stdout.isatty():
            raise ConfigError(BINARY[format_])
        else:
            count = write(chosen, sys.stdout.buffer, format_, **told)
    for reason, times in left_out.most_common():
        note(f"{times} left out: {reason}")
    note(f"{count} {UNITS.get(Format(format_), 'episodes')} written to {output or 'stdout'}.")


@trajectories.command("import")
@click.argument("file", type=click.File("rb"))
@db_option
@click.option("--format", "format_", type=click.Choice(FORMATS[:2]), default="jsonl", show_default=True)
@click.option("--namespace", help="Put the episodes into this tenant's, whatever the file says.")
@json_option
def import_(file: BinaryIO, db: str, format_: str, namespace: str | None, json_mode: bool) -> None:
    """Read episodes from FILE (- for stdin). Good lines are kept; bad lines are named and give exit code 1."""
    from potstill.trajectories.importing import import_file

    with writing(db, create=True) as store:
        report = import_file(store, file, format_, namespace=namespace)
    row = (report.added, report.unchanged, len(report.bad))
    emit_table(("added", "unchanged", "bad_lines"), [row], json_mode=json_mode)
    if report.bad:
        raise PotstillError(_bad_lines(report, "stdin" if file.name == "<stdin>" else file.name))


def _bad_lines(report: ImportReport, name: str) -> str:
    """One sentence on what could not be read; the first few lines are named before it."""
    for bad in report.bad[:NAMED_LINES]:
        note(f"line {bad.line}: {bad.problem}")
    count = len(report.bad)
    more = f", the first {NAMED_LINES} are named above" if count > NAMED_LINES else ""
    if not report.added and not report.unchanged:
        return f"No line of {name} is an episode ({count} bad lines{more}). Type for its formats: {IMPORT_HELP}"
    lines = "1 line" if count == 1 else f"{count} lines"
    return f"{lines} of {name} could not be read{more}; the other episodes are kept"


def _must_be_there(store: Store, ids: Sequence[str], namespace: str) -> None:
    known = set(store.ids(namespace=namespace))
    if missing := [id for id in ids if id not in known]:
        raise ConfigError(
            f"No trajectory '{missing[0]}' in namespace '{namespace}'. Type: potstill trajectories list"
            + ("" if namespace == "default" else f" --namespace {namespace}")
        )


@trajectories.command()
@click.argument("ids", nargs=-1, required=True, metavar="ID...")
@db_option
@namespace_option
@json_option
def rm(ids: tuple[str, ...], db: str, namespace: str, json_mode: bool) -> None:
    """Remove episodes by id and give their disk space back."""
    with writing(db) as store:
        _must_be_there(store, ids, namespace)
        report = store.remove(ids)
    _emit_report(report, json_mode)


@trajectories.command()
@click.option("--before", required=True, metavar="DATE", help="Remove days (UTC) that ended before this date.")
@namespace_option
@click.option("--all-namespaces", is_flag=True, help="Every tenant's episodes.")
@click.option("--dry-run", is_flag=True, help="List what each day holds; remove nothing.")
@db_option
@json_option
def prune(before: str, namespace: str, all_namespaces: bool, dry_run: bool, db: str, json_mode: bool) -> None:
    """Remove old episodes by whole days and give their disk space back."""
    moment = unix_seconds(before)
    tenant = None if all_namespaces else namespace
    if dry_run:
        with reading(db) as store:
            ended = {one.day: one for one in store.segments(before=moment, namespace=tenant)}
            going = {one.day: one for one in store.open_days(before=moment, namespace=tenant)}
        emit_table(PRUNED_COLUMNS, [_day(day, ended, going) for day in sorted({*ended, *going})], json_mode=json_mode)
        return
    with writing(db) as store:
        report = store.prune(moment, namespace=tenant)
    row = (report.removed, report.exchanges, report.bytes_before, report.bytes_after)
    emit_table(("removed", "exchanges", "bytes_before", "bytes_after"), [row], json_mode=json_mode)


def _day(day: str, ended: Mapping[str, Segment], going: Mapping[str, OpenDay]) -> tuple[object, ...]:
    """A day's row of what would be removed."""
    episodes = (ended[day].trajectories, ended[day].steps) if day in ended else (0, 0)
    return (day, *episodes, *(going[day][1:] if day in going else (0, 0)))


def _emit_report(report: Any, json_mode: bool) -> None:
    row = (report.removed, report.bytes_before, report.bytes_after)
    emit_table(("removed", "bytes_before", "bytes_after"), [row], json_mode=json_mode)
