"""The one place that prints: data to stdout, notes and progress to stderr.

Data are a table on a terminal, tab-separated in a pipe, JSON on request. Text from stores and models is data:
control characters are shown, never sent to the terminal. Nothing here knows what the data mean.
"""

from __future__ import annotations

import math
import os
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol, TextIO

import click
import msgspec

if TYPE_CHECKING:
    from rich.console import Console

json_option = click.option("--json", "json_mode", is_flag=True, help="Print JSON instead of a table.")
"""Decorator: the ``--json`` that every command with data takes, as the argument ``json_mode``."""

_TURNING = "\\u061c\\u200e\\u200f\\u202a-\\u202e\\u2066-\\u2069"
"""Marks that turn the direction of the text after them, so that it reads as something else (Unicode TR 36)."""
_CONTROL = re.compile(rf"[\x00-\x08\x0b-\x1f\x7f-\x9f{_TURNING}]")
_CONTROL_AND_BREAKS = re.compile(rf"[\x00-\x1f\x7f-\x9f{_TURNING}]")
_RAW_IN_JSON = re.compile(rf"[\x7f-\x9f{_TURNING}]")
"""What JSON may hold as it is, and a terminal obeys."""
_PASSWORD = re.compile(r"(postgres(?:ql)?://[^:@/\s]*:).*(?=@)|([?&](?:ssl)?password=)[^&\s]*")
_ESCAPES = {"\t": "\\t", "\n": "\\n", "\r": "\\r"}


def emit_table(
    columns: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    json_mode: bool,
    title: str | None = None,
    left_out_first: Sequence[str] = (),
) -> None:
    """Print rows to stdout: JSON list of objects, a table on a terminal, or tab-separated lines with a header.

    Column names are the JSON keys, so units stand in them (``cost_usd``). ``None`` is unknown: null, ``-`` or empty.
    Numbers have full precision in JSON, six significant digits in a pipe, and four on a terminal.
    A terminal too narrow for the table does without the columns of ``left_out_first``, in that order; a note says so.
    """
    table = [list(row) for row in rows]
    if json_mode:
        emit_json([dict(zip(columns, row, strict=True)) for row in table])
    elif sys.stdout.isatty():
        _emit_rich(columns, table, title, left_out_first)
    else:
        lines = [columns, *([_plain(value) for value in row] for row in table)]
        click.echo("\n".join("\t".join(line) for line in lines))


def emit_estimate(row: Mapping[str, object], json_mode: bool) -> None:
    """What ``--dry-run`` of a command that writes a file prints."""
    emit_table(list(row), [list(row.values())], json_mode=json_mode, title="an estimate, nothing was written")


def without_passwords(text: str) -> str:
    """A message in which no URL of a database holds a password, whatever it was made of."""
    return _PASSWORD.sub(r"\1\2***", text)


def emit_json(value: object) -> None:
    """Print any value of plain types or msgspec structs as indented JSON to stdout."""
    encoded = msgspec.json.format(msgspec.json.encode(value, enc_hook=str), indent=2)
    click.echo(_RAW_IN_JSON.sub(lambda match: f"\\u{ord(match[0]):04x}", encoded.decode()))


def emit_text(text: str) -> None:
    """Print prose or a document to stdout, with control characters made visible."""
    click.echo(visible(text))


def note(text: str) -> None:
    """A hint for a person: stderr, so that it never mixes with data."""
    click.echo(visible(without_passwords(text)), err=True)


def visible(text: str) -> str:
    """The text with every control character except tab and newline shown as an escape."""
    return _CONTROL.sub(lambda match: _escape(match[0]), text)


def _escape(character: str) -> str:
    code = ord(character)
    return _ESCAPES.get(character) or (f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}")


def _plain(value: object) -> str:
    """A cell of a tab-separated line: six significant digits, no character that would break the line."""
    if value is None:
        return ""
    text = value if isinstance(value, str) else _scalar(value)
    return _CONTROL_AND_BREAKS.sub(lambda match: _escape(match[0]), text)


def _scalar(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple | dict | msgspec.Struct):
        return msgspec.json.encode(value, enc_hook=str).decode()
    return str(_rounded(value) if isinstance(value, float) else value)


def _rounded(value: float) -> float:
    """Six significant digits, and every one before the point: not 0.30000000000000004, and 12345678.9 dollars whole."""
    if not math.isfinite(value):
        return value
    return float(f"{value:.{max(6, len(str(int(abs(value)))))}g}")


def _shown(value: object) -> str:
    """A cell for people: four significant digits, a dash for unknown."""
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.4g}"
    return visible(value) if isinstance(value, str) else _scalar(value)


def _emit_rich(
    columns: Sequence[str], rows: Sequence[Sequence[object]], title: str | None, left_out_first: Sequence[str]
) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    console = _console(sys.stdout)
    cells = [[_shown(value) for value in row] for row in rows]
    shown, wrapped = _that_fit(columns, cells, left_out_first, console.width)
    table = Table(title=None if title is None else Text(title), box=box.SIMPLE_HEAD, title_justify="left")
    for index in shown:
        numeric = bool(rows) and all(isinstance(row[index], int | float | None) for row in rows)
        heading = columns[index].replace("_", " ") if wrapped else columns[index]
        width = _least_width(columns[index], [row[index] for row in cells]) if wrapped else None
        table.add_column(Text(heading), justify="right" if numeric else "left", overflow="fold", width=width)
    for row in cells:
        table.add_row(*(Text(row[index]) for index in shown))
    console.print(table)
    if missing := [name for index, name in enumerate(columns) if index not in shown]:
        note(f"left out on this narrow terminal, but there with --json and in a pipe: {', '.join(missing)}")


_BETWEEN = 3
"""Characters between two columns, and around the table."""


def _that_fit(
    columns: Sequence[str], cells: Sequence[Sequence[str]], left_out_first: Sequence[str], width: int
) -> tuple[list[int], bool]:
    """Indices of the columns that a terminal holds, and whether their headings are wrapped at each word.

    Where even the others do not fit, all of them are kept and their cells are folded.
    """
    kept = list(range(len(columns)))
    by_column = [[row[index] for row in cells] for index in kept]
    whole = [max(map(len, [name, *column])) for name, column in zip(columns, by_column, strict=True)]
    if not left_out_first or sum(whole) + _BETWEEN * (len(kept) + 1) <= width:
        return kept, False
    least = [_least_width(name, column) for name, column in zip(columns, by_column, strict=True)]
    for name in (None, *left_out_first):
        kept = [index for index in kept if columns[index] != name]
        if sum(least[index] for index in kept) + _BETWEEN * (len(kept) + 1) <= width:
            return kept, True
    return kept, False


def _least_width(heading: str, cells: Sequence[str]) -> int:
    """Characters that a column needs if its heading is wrapped between words and its cells are not."""
    return max(len(text) for text in (*heading.split("_"), *cells))


def _console(stream: TextIO) -> Console:
    from rich.console import Console

    # Rich reads NO_COLOR when it is set at all; https://no-color.org says "present and not empty".
    return Console(file=stream, no_color=bool(os.environ.get("NO_COLOR")), highlight=False)


class ProgressBar(Protocol):
    """What ``progress`` gives: say how far it is, and anything worth showing beside it."""

    def update(self, advance: float = 0, **shown: object) -> None:
        """Move on by ``advance`` units; ``shown`` are values to display beside the bar (``success="12/20"``)."""


@contextmanager
def progress(
    description: str,
    total: float | None = None,
    *,
    unit: str = "",
    every_s: float = 10.0,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[ProgressBar]:
    """A progress bar on stderr; where stderr is not a terminal, a plain line at most every ``every_s`` seconds.

    >>> with progress("demonstrations", total=40, unit="episodes") as bar:
    ...     bar.update(1, success="1/1", spend="$0.02")
    """
    if not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
        lines = _Lines(description, total, unit, every_s, clock)
        try:
            yield lines
        finally:
            lines.close()
        return
    with _rich_progress() as bars:
        task = bars.add_task(description, total=total, shown="", unit=unit)
        yield _RichBar(bars, task)


def _rich_progress() -> Any:
    from rich import progress as bars

    return bars.Progress(
        bars.TextColumn("{task.description}", markup=False),
        bars.BarColumn(bar_width=24),
        bars.MofNCompleteColumn(),
        bars.TextColumn("{task.fields[unit]}", markup=False),
        bars.TextColumn("{task.fields[shown]}", markup=False),
        bars.TimeElapsedColumn(),
        bars.TimeRemainingColumn(),
        console=_console(sys.stderr),
    )


class _RichBar:
    def __init__(self, bars: Any, task: Any) -> None:
        self._bars, self._task, self._shown = bars, task, dict[str, object]()

    def update(self, advance: float = 0, **shown: object) -> None:
        self._shown |= shown
        self._bars.update(self._task, advance=advance, shown=_beside(self._shown))


class _Lines:
    """Progress for logs and pipes: first, periodic and last state as lines of text."""

    def __init__(self, description: str, total: float | None, unit: str, every_s: float, clock: Callable[[], float]):
        self._description, self._total, self._unit = description, total, unit
        self._every_s, self._clock = every_s, clock
        self._started = self._last_line = clock()
        self._done = 0.0
        self._shown: dict[str, object] = {}
        self._printed: str | None = None

    def update(self, advance: float = 0, **shown: object) -> None:
        self._done += advance
        self._shown |= shown
        if self._clock() - self._last_line >= self._every_s:
            self._print()

    def close(self) -> None:
        self._print()

    def _print(self) -> None:
        self._last_line = self._clock()
        count = f"{self._done:g}" if self._total is None else f"{self._done:g}/{self._total:g}"
        state = " ".join(part for part in (f"{count} {self._unit}".strip(), _beside(self._shown)) if part)
        if state != self._printed:
            self._printed = state
            note(f"{self._description}: {state}{self._time_left()}")

    def _time_left(self) -> str:
        if self._total is None or not 0 < self._done < self._total:
            return ""
        left_s = (self._clock() - self._started) * (self._total - self._done) / self._done
        return f", {left_s / 60:.0f} min left" if left_s >= 90 else f", {left_s:.0f} s left"


def _beside(shown: dict[str, object]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {_shown(value)}" for name, value in shown.items())
