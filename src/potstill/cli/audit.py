"""``potstill audit``: read logs, count, print. Parsing and wiring only.

Heavy modules load inside the command, so that ``--help`` stays fast.
"""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from potstill.cli.attempt_files import is_store, store_attempts
from potstill.cli.open_episodes import open_line
from potstill.cli.output import emit_json, emit_table, emit_text, json_option, note, progress

INTERRUPTED = 130

if TYPE_CHECKING:
    from potstill.logs.report import FileReport
    from potstill.measure.audit.audit import Auditor
    from potstill.measure.audit.result import Audit, FileRead, Group
    from potstill.measure.prices import PriceTable

COLUMNS = (
    "model",
    "run",
    "n",
    "n_infrastructure_errors",
    "n_duplicates",
    "success",
    "success_ci",
    "cost_per_episode_usd",
    "cost_of_pass_usd",
    "cost_of_pass_ci_usd",
    "input_tokens",
    "cached_input_tokens",
    "output_tokens",
    "on_hull",
)
MOST_WARNINGS = 20
LEFT_OUT_FIRST = (
    "output_tokens",
    "cached_input_tokens",
    "input_tokens",
    "on_hull",
    "cost_of_pass_ci_usd",
    "n_duplicates",
    "n_infrastructure_errors",
)


@click.command()
@click.argument("files", nargs=-1, required=True, metavar="FILES...")
@click.option("--format", "format_name", help="Of all files. [default: each file's own, by its first rows]")
@click.option("--html", type=click.Path(dir_okay=False), help="Write a self-contained report.")
@click.option("--prices", type=click.Path(), help="TOML file with your prices. [default: potstill-prices.toml]")
@click.option("--date", help="Prices of this day, YYYY-MM-DD. [default: of the day of each record]")
@click.option("--confidence", type=float, default=0.95, show_default=True, help="Of all intervals.")
@click.option(
    "--bloated",
    type=click.IntRange(min=1),
    default=8000,
    show_default=True,
    metavar="CHARACTERS",
    help="An observation longer than this counts as bloated.",
)
@click.option(
    "--jobs", type=click.IntRange(1, 64), default=2, show_default=True, help="Processes that read large files."
)
@click.option("--ignore-ids", is_flag=True, help="Put calls together by their prompts, whatever ids the log has.")
@click.option("--price-student-as", help="In a store: price students as this model. [default: as planned]")
@click.option("--price-teacher-as", help="In a store: price teachers as this model. [default: as planned]")
@click.option("--namespace", default="default", show_default=True, help="The tenant, where a file is a store.")
@json_option
def audit(files: tuple[str, ...], json_mode: bool, **options: Any) -> None:
    """Tell from logs where an agent's money goes and what could be saved.

    FILES are logs of model calls or of whole episodes in any of the known formats, folders of them, stores of
    potstill, or - for standard input. The format is recognised; what was not understood is counted and said.
    """
    if options["html"] is not None:
        from potstill.measure.html import check_available

        check_available()
        _check_writable(Path(options["html"]))
    found = _audit(files, options)
    if options["html"] is not None:
        _write_html(found, Path(options["html"]), options["confidence"])
    show(found, json_mode=json_mode)
    if found.partial:
        click.get_current_context().exit(INTERRUPTED)


def show(found: Audit, *, json_mode: bool) -> None:
    """Print an audit: the JSON contract, or headline and tables with the dirt on stderr."""
    if json_mode:
        emit_json(found.to_json())
        return
    from potstill.measure.audit.headline import headline

    for file in found.files:
        _tell_file(file)
    _tell_warnings(found)
    if sys.stdout.isatty():
        emit_text("\n".join(headline(found)))
    else:
        note("\n".join(headline(found)))
    on_hull = {(row.model, row.run): row.on_hull for row in found.frontier}
    rows = [_row(group, on_hull[group.model, group.run]) for group in found.groups]
    title = f"Prices of {found.prices_date}"
    emit_table(COLUMNS, rows, json_mode=False, title=title, left_out_first=LEFT_OUT_FIRST)
    if sys.stdout.isatty():
        _show_spending(found)


def _tell_warnings(found: Audit) -> None:
    for warned in found.warnings[:MOST_WARNINGS]:
        run = f" in {warned.run}" if warned.run else ""
        note(f"warning: {warned.kind}{run}: {warned.count:,} {warned.detail}")
    more = len(found.warnings) - MOST_WARNINGS
    if more > 0:
        note(f"and {more} more warnings; --json and --html tell all")


def _tell_file(file: FileRead) -> None:
    note(f"{file.path}: {file.format}, {file.understood:,} of {file.rows:,} rows understood")
    for skips in file.skipped:
        lines = ", ".join(str(line) for line in skips.lines[:5])
        more = ", ..." if skips.count > len(skips.lines[:5]) else ""
        detail = f" ({skips.detail})" if skips.detail else ""
        note(f"  skipped {skips.count:,}: {skips.reason}{detail}, lines {lines}{more}")


def _row(group: Group, on_hull: bool) -> list[object]:
    special: dict[str, object] = {
        "success_ci": _interval(group.success_ci),
        "cost_of_pass_ci_usd": _interval(group.cost_of_pass_ci_usd),
        "on_hull": "yes" if on_hull else "",
    }
    return [special[name] if name in special else getattr(group, name) for name in COLUMNS]


def _interval(interval: tuple[float | None, float | None] | None) -> str | None:
    if interval is None:
        return None
    low, high = ("inf" if bound is None else f"{bound:.3g}" for bound in interval)
    return f"{low} to {high}"


SPEND = ("name", "usd", "share", "calls", "episodes", "input_tokens", "cached_input_tokens", "output_tokens")
WASTE = ("kind", "count", "episodes", "share", "tokens", "usd")
STUDENT_STEP = ("model", "against", "step_type", "n", "agreement", "success")
SHOWN = 12
"""Rows of each of the smaller tables."""


def _show_spending(found: Audit) -> None:
    """More tables for a terminal; a pipe gets the groups alone, and ``--json`` everything."""
    parts = (("by model", found.by_model), ("by step type", found.by_step_type), ("by outcome", found.by_outcome))
    for title, spends in parts:
        _show(f"Spending {title}", SPEND, spends)
    _show("Waste (kinds overlap)", WASTE, found.waste)
    _show("Steps that a cheaper model answered alike", STUDENT_STEP, found.student_steps)


def _show(title: str, columns: tuple[str, ...], parts: Sequence[object]) -> None:
    if parts:
        rows = [[getattr(part, name) for name in columns] for part in parts[:SHOWN]]
        emit_table(columns, rows, json_mode=False, title=title)


# --- wiring -----------------------------------------------------------------------------------------------------------


def _audit(files: tuple[str, ...], options: dict[str, Any]) -> Audit:
    from potstill.errors import ConfigError
    from potstill.measure.audit.audit import AuditOptions, Auditor
    from potstill.measure.prices import PriceTable
    from potstill.record.stitch import Stitcher

    stores = [file for file in files if is_store(file)]
    logs = [file for file in files if file not in stores]
    settings = AuditOptions(
        confidence=options["confidence"],
        bloated=options["bloated"],
        ignore_ids=options["ignore_ids"],
        dated=options["date"] is None,
    )
    table = PriceTable.load(options["prices"], options["date"])
    stitcher = Stitcher(ignore_ids=options["ignore_ids"])
    auditor = Auditor(table, settings, place=stitcher.episode_of, now=time.time())
    stitcher.on_drop = auditor.drop
    files_read: list[FileReport] = []
    partial = False
    if logs:
        files_read, partial = _read_logs(logs, options, auditor)
    for store in () if partial else stores:
        files_read.append(_read_store(store, table, options, auditor))
    going = [] if partial else _still_open(stores, options["namespace"])
    if not auditor.records:
        raise ConfigError(_nothing(files_read, stores, going, options["namespace"]))
    for line in going:
        note(f"note: {line}")
    return auditor.result(files_read, stitched=stitcher.stitched, partial=partial)


def _read_store(path: str, table: PriceTable, options: dict[str, Any], auditor: Auditor) -> FileReport:
    from potstill.logs.report import FileReport
    from potstill.trajectories.opening import shown

    before = auditor.records
    for attempt in store_attempts(path, table, options):
        auditor.add(attempt)
    rows = auditor.records - before
    return FileReport(path=shown(path), format="potstill store", rows=rows, understood=rows)


def _read_logs(files: list[str], options: dict[str, Any], auditor: Auditor) -> tuple[list[FileReport], bool]:
    """Read, with a bar over the bytes. Ctrl-C stops reading: True, and what was read so far is told."""
    from potstill.logs.reader import read

    with progress("read", total=None, unit="MB") as bar:
        done = 0.0

        def moved(read_bytes: int) -> None:
            nonlocal done
            megabytes = round(read_bytes / 1e6, 1)
            bar.update(megabytes - done, records=f"{auditor.records:,}")
            done = megabytes

        reading = read(files, format=options["format_name"], jobs=options["jobs"], progress=moved)
        try:
            for record in reading:
                auditor.add(record)
        except KeyboardInterrupt:
            reading.close()
            if not auditor.records:
                note("Interrupted before anything was read.")
                click.get_current_context().exit(INTERRUPTED)
            note(f"Interrupted: what follows tells the first {auditor.records:,} records only.")
            return list(reading.files), True
    return list(reading.files), False


def _still_open(stores: Iterable[str], namespace: str) -> list[str]:
    from potstill.trajectories.opening import read_store

    lines = []
    for place in stores:
        with read_store(place) as store:
            lines.append(open_line(store, place, namespace))
    return list(filter(None, lines))


def _nothing(files: Sequence[FileReport], stores: Sequence[str], going: Sequence[str], namespace: str) -> str:
    if going or len(stores) == len(files):
        shown = ", ".join(file.path for file in files)
        return " ".join((f"There are no episodes of namespace '{namespace}' in {shown}.", *going))
    told = [f"{f.path}: {f.format}, {f.rows} rows, " + "; ".join(s.reason for s in f.skipped) for f in files]
    return "Nothing in the files was understood. " + " | ".join(told) + " The formats: docs/reference/log-formats.md"


def _check_writable(path: Path) -> None:
    """Say before reading for minutes that the report has nowhere to go."""
    from potstill.errors import ConfigError

    folder = path.absolute().parent
    if not folder.is_dir():
        raise ConfigError(f"There is no folder {folder} for --html {path}. Make it, or name another file.")


def _write_html(found: Audit, path: Path, confidence: float) -> None:
    from potstill.errors import PotstillError
    from potstill.measure.html import write

    try:
        write(found, path, command=shlex.join(["potstill", *sys.argv[1:]]), confidence=confidence)
    except OSError as error:
        raise PotstillError(f"Cannot write --html {path}: {error.strerror or error}.") from error
    note(f"wrote {path}")
