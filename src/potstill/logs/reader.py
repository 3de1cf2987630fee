"""Reads logs: any files, of any known format, as one stream of records, with an account of what was not understood.

What it knows: what to open, how, and in which order. What it does not do: formats (``formats/``), counting what records
mean (``measure.audit``). Memory is constant: records are handed out one by one and not kept.

>>> reading = read(["attempts.jsonl"])                       # doctest: +SKIP
>>> for record in reading:                                   # doctest: +SKIP
...     print(record.model, record.source.line)
>>> reading.files[0].understood                              # doctest: +SKIP
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Generator, Iterator, Sequence

from potstill.errors import NOT_JSON, ConfigError
from potstill.logs import documents
from potstill.logs.documents import Broken, Document, NothingWhole
from potstill.logs.formats.base import LogFormat
from potstill.logs.formats.registry import format_named, formats
from potstill.logs.inputs import STDIN, Input, Opener, inputs
from potstill.logs.lines import LINE_LIMIT
from potstill.logs.pieces import Plan, read_lines, read_parallel
from potstill.logs.records import Record
from potstill.logs.report import NO_FORMAT, NOTHING, FileReport, Tally
from potstill.logs.rows import Interpreter
from potstill.logs.sniff import HEAD_BYTES, Layout, layout_of, lines_layout
from potstill.logs.tables import read_table

INLINE_BYTES = 50_000_000
"""Files below are read by one process: starting others takes longer than it saves."""

Progress = Callable[[int], None]
"""Told how many bytes of ``Reading.total_bytes`` were read so far."""


def read(
    paths: Sequence[str | os.PathLike[str]],
    *,
    format: str | None = None,
    jobs: int = 1,
    progress: Progress | None = None,
    line_limit: int = LINE_LIMIT,
) -> Reading:
    """Read files, folders and standard input (``-``).

    ``format`` names the format of all files; without it each file's is found. ``jobs``: how many processes share a
    large file of JSON lines. Raises ``ConfigError`` for what cannot be opened, has no known format or is all empty; for
    standard input and whole JSON documents only when they are reached.
    """
    forced = format_named(format) if format is not None else None
    return Reading(inputs(paths), forced, jobs, progress, line_limit)


class Reading:
    """Records, once, in the order of the files. ``files`` tells what came of each so far."""

    def __init__(
        self, sources: Sequence[Input], forced: LogFormat | None, jobs: int, progress: Progress | None, line_limit: int
    ) -> None:
        self.total_bytes = sum(source.size for source in sources)
        """Bytes on disk; standard input counts as none, for nobody knows."""
        self._forced = forced
        self._jobs = jobs
        self._progress = progress
        self._limit = line_limit
        self._done = 0
        self._reports: list[FileReport] = []
        self._current: tuple[str, str, Tally] | None = None
        layouts = [None if source.path == STDIN else self._layout(Opener(source)) for source in sources]
        if all(layout is not None and layout.kind == "empty" for layout in layouts):
            raise ConfigError(_all_empty(sources))
        self._records = self._read_all(list(zip(sources, layouts, strict=True)))

    def __iter__(self) -> Iterator[Record]:
        return self._records

    def close(self) -> None:
        """Stop reading; files and worker processes are let go."""
        self._records.close()

    @property
    def files(self) -> tuple[FileReport, ...]:
        """What came of each file, the one that is being read included."""
        if self._current is None:
            return tuple(self._reports)
        path, name, tally = self._current
        return (*self._reports, tally.report(path, name))

    def _layout(self, opener: Opener) -> Layout:
        """What the file is. Raises ``ConfigError`` if it is named by the user and no log that can be read."""
        try:
            layout = layout_of(opener.peek(HEAD_BYTES), opener.source.path, self._forced)
            if layout.kind in ("unknown", "empty") and opener.damage:
                why = f"it is cut off or damaged before its first row is complete ({opener.damage}): get it again"
                layout = Layout("unknown", why=why)
        except (OSError, EOFError, zlib.error) as error:
            layout = Layout("unknown", why=f"it cannot be read: {error}")
        if layout.kind == "archive" and opener.source.path == STDIN:
            layout = Layout("unknown", why="archives cannot be read from standard input; name the file")
        if layout.kind == "unknown" and opener.source.named:
            raise _no_format(opener.source.path, layout.why)
        return layout

    def _read_all(self, sources: list[tuple[Input, Layout | None]]) -> Generator[Record, None, None]:
        for source, known in sources:
            opener = Opener(source, self._report_progress)
            layout = known if known is not None else self._layout(opener)
            if layout.kind == "empty" and len(sources) == 1:
                raise ConfigError(_all_empty([source]))
            tally = Tally(notes=list(layout.notes))
            yield from self._read_one(opener, layout, tally)
            path, name, tally = self._current or (source.path, NO_FORMAT, tally)
            self._current = None
            self._reports.append(tally.report(path, name))
            self._done += source.size
            self._report_progress(0)

    def _read_one(self, opener: Opener, layout: Layout, tally: Tally) -> Iterator[Record]:
        name = layout.format.name if layout.format is not None else NOTHING if layout.kind == "empty" else NO_FORMAT
        self._current = (opener.source.path, name, tally)
        try:
            if layout.kind == "unknown":
                tally.skip("no known format", 1, layout.why)
            elif layout.kind == "lines":
                yield from self._lines(opener, layout, tally)
            elif layout.kind == "table" and layout.format is not None:
                with opener.open() as file:
                    strict = self._forced is not None
                    path, mark = opener.source.path, layout.delimiter
                    yield from read_table(file, path, layout.format, mark, tally, strict=strict, limit=self._limit)
            elif layout.kind in ("document", "archive"):
                yield from self._document(opener, layout, tally)
        except (OSError, EOFError, zlib.error) as error:
            tally.skip("file cut off or damaged", tally.rows + 1, str(error))

    def _lines(self, opener: Opener, layout: Layout, tally: Tally) -> Iterator[Record]:
        assert layout.format is not None
        plan = Plan(
            path=opener.source.path,
            format=layout.format.name,
            inner=layout.inner,
            strict=self._forced is not None,
            line_limit=self._limit,
        )
        if self._jobs > 1 and opener.source.size >= INLINE_BYTES and opener.plain:
            yield from read_parallel(plan, tally, self._jobs, self._report_progress)
            return
        with opener.open() as file:
            yield from read_lines(file, plan, tally)

    def _document(self, opener: Opener, layout: Layout, tally: Tally) -> Iterator[Record]:
        path = opener.source.path
        try:
            found = self._opened_document(opener, layout)
            if isinstance(found, Layout):
                self._current = (path, found.format.name if found.format is not None else NO_FORMAT, tally)
                yield from self._lines(opener, found, tally)
                return
            if found is None:
                self._no_rows(opener, tally, "it is JSON, but no format's rows are in it")
                return
            self._current = (path, found.format.name, tally)
            interpreter = Interpreter(path, found.format, tally, found.head, strict=self._forced is not None)
            for number, row in enumerate(found.rows, 1):
                yield from interpreter.records(row, number)
        except NothingWhole as broken:
            self._no_rows(opener, tally, str(broken))
        except Broken as broken:
            tally.skip("document cut off or damaged", broken.element, str(broken))

    def _opened_document(self, opener: Opener, layout: Layout) -> Document | Layout | None:
        """The document with its format; or, if it is none but JSON lines, their layout; None: no format fits it."""
        if layout.kind == "archive":
            return documents.archive(opener.source.path, self._forced)
        start = opener.peek(documents.SMALL_BYTES + 1).removeprefix(b"\xef\xbb\xbf")
        if len(start) <= documents.SMALL_BYTES:
            try:
                return documents.small(start, self._forced)
            except NOT_JSON:
                mended = documents.mended(start)
                if mended is not None:
                    return documents.small(mended, self._forced)
                lines = lines_layout(start, self._forced)
                if lines.kind == "lines" and start[:1] == b"{":
                    return lines
        opener.keep()
        return documents.large(opener.open, self._forced)

    def _no_rows(self, opener: Opener, tally: Tally, why: str) -> None:
        if opener.source.named:
            raise _no_format(opener.source.path, why)
        tally.skip("no known format", 1, why)

    def _report_progress(self, done: int) -> None:
        if self._progress is not None:
            self._progress(min(self._done + done, self.total_bytes))


def _no_format(path: str, why: str) -> ConfigError:
    names = ", ".join(known.name for known in formats())
    shown = "Standard input" if path == STDIN else f"'{path}'"
    return ConfigError(
        f"{shown} is in no known format: {why}. Formats: {names}. "
        "If you know which one it is, type: --format NAME; any log can be turned into 'attempts', "
        "described in docs/reference/attempts-format.md."
    )


def _all_empty(sources: Sequence[Input]) -> str:
    shown = ", ".join("standard input" if source.path == STDIN else f"'{source.path}'" for source in sources[:5])
    more = " and others" if len(sources) > 5 else ""
    return f"Nothing to read: {shown}{more} {'is' if len(sources) == 1 else 'are'} empty."
