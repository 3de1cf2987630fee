"""What reading a file came to: how much was understood, and what was not, with its lines.

What it knows: counts. What it does not do: read. The fields are those that an audit shows for each file.
"""

from __future__ import annotations

import msgspec

FIRST_LINES = 10
"""How many line numbers are kept for each reason."""
_DETAIL = 200
"""Characters of an explanation that are kept."""
NO_FORMAT = "unknown"
NOTHING = "empty"


class SkippedRows(msgspec.Struct, frozen=True, kw_only=True):
    """Rows that gave no record, by reason."""

    reason: str
    count: int
    lines: tuple[int, ...]
    """The first of them, from 1 (in whole JSON documents and archives: elements)."""
    detail: str = ""
    """What the first one's trouble was."""


class FileReport(msgspec.Struct, frozen=True, kw_only=True):
    """One file: ``rows`` are all that were not blank, ``understood`` those that gave a record."""

    path: str
    format: str
    """Name of the format, ``empty``, or ``unknown``."""
    rows: int
    understood: int
    skipped: tuple[SkippedRows, ...] = ()
    mixed: dict[str, int] = {}
    """Rows that were of another format than the file's: format -> rows. Understood, but worth a warning."""
    notes: tuple[str, ...] = ()
    """What is worth knowing but no trouble."""


def one_line(text: str) -> str:
    """What a parser said, in a line that a report can show."""
    return " ".join(text.split())[:_DETAIL]


class _Skips(msgspec.Struct):
    count: int
    lines: list[int]
    detail: str


class Tally(msgspec.Struct):
    """Counts while a file (or a piece of it) is read."""

    rows: int = 0
    understood: int = 0
    skips: dict[str, _Skips] = {}
    mixed: dict[str, int] = {}
    notes: list[str] = []

    def skip(self, reason: str, line: int, detail: str = "") -> None:
        """Count a row that gave nothing."""
        self.rows += 1
        known = self.skips.get(reason)
        if known is None:
            known = self.skips[reason] = _Skips(0, [], one_line(detail))
        known.count += 1
        if len(known.lines) < FIRST_LINES:
            known.lines.append(line)

    def add(self, later: Tally) -> None:
        """Count a later piece of the same file."""
        self.rows += later.rows
        self.understood += later.understood
        for reason, skips in later.skips.items():
            known = self.skips.setdefault(reason, _Skips(0, [], skips.detail))
            known.count += skips.count
            known.lines.extend(skips.lines[: FIRST_LINES - len(known.lines)])
        for name, count in later.mixed.items():
            self.mixed[name] = self.mixed.get(name, 0) + count

    def report(self, path: str, format_name: str) -> FileReport:
        return FileReport(
            path=path,
            format=format_name,
            rows=self.rows,
            understood=self.understood,
            skipped=tuple(
                SkippedRows(reason=reason, count=known.count, lines=tuple(known.lines), detail=known.detail)
                for reason, known in self.skips.items()
            ),
            mixed=dict(self.mixed),
            notes=tuple(self.notes),
        )
