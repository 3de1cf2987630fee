"""What is wrong with the data, before any figure is believed; and what was read.

What it knows: an audit's warnings and files. What it does not do: hide a warning that it does not know.
"""

from __future__ import annotations

from collections.abc import Sequence

from potstill.measure.audit.result import Audit, FileRead, Skips, Warned
from potstill.measure.html.table import left_out, paragraph, section, table
from potstill.measure.html.text import Html, clip, count, esc, join, name, plural
from potstill.measure.html.words import as_words

_INLINE = 2
_MOST_DETAILS = 40
_DETAIL_CHARACTERS = 400


def warnings_section(audit: Audit) -> Html:
    """All warnings, by kind; a calm line if there are none."""
    skipped = sum(skips.count for file in audit.files for skips in file.skipped)
    if not audit.warnings and not skipped:
        text = paragraph("No duplicates, broken attempts or other dirt were found, and every row was understood.")
        return Html(f'<section class="clean" aria-label="Data quality">{text}</section>')
    kinds: dict[str, list[Warned]] = {}
    for warning in audit.warnings:
        kinds.setdefault(warning.kind, []).append(warning)
    items = [_kind(kind, kinds[kind]) for kind in kinds]
    if skipped and "skipped_rows" not in kinds:
        items.append(_kind("skipped_rows", [_skipped(skipped)]))
    title = "Before you believe the figures"
    head = Html(f'<h2 id="warnings-h"><span aria-hidden="true">⚠</span> {esc(title)}</h2>')
    return Html(
        f'<section id="warnings" class="warnings" aria-labelledby="warnings-h">{head}<ul>{join(items)}</ul></section>'
    )


def _skipped(rows: int) -> Warned:
    return Warned(kind="skipped_rows", run=None, count=rows, detail="rows that gave no record")


def _sum(warnings: Sequence[Warned]) -> int:
    return sum(warning.count for warning in warnings)


def _kind(kind: str, warnings: Sequence[Warned]) -> Html:
    head = Html(f'<strong>{esc(name(as_words(kind)))}</strong> <span class="badge">{esc(count(_sum(warnings)))}</span>')
    where = Html(' (<a href="#files">why, and where</a>)') if kind == "skipped_rows" else Html("")
    if len(warnings) <= _INLINE:
        return Html(f"<li>{head} {join((_detail(warning) for warning in warnings), '; ')}{where}</li>")
    details = join(Html(f"<li>{_detail(warning)}</li>") for warning in warnings[:_MOST_DETAILS])
    rest = left_out(len(warnings) - _MOST_DETAILS, "warnings")
    summary = f"in {plural(len(warnings), 'place')}"
    return Html(f"<li>{head} <details><summary>{summary}</summary><ul>{details}</ul>{rest}</details>{where}</li>")


def _detail(warning: Warned) -> Html:
    where = f"{name(warning.run)}: " if warning.run else ""
    return esc(where + clip(warning.detail, _DETAIL_CHARACTERS))


def files_section(audit: Audit) -> Html:
    """Each file with its format, rows, and why rows were skipped."""
    rows = [_file(file) for file in audit.files]
    columns = ("file", "format", "skipped, and why", "rows", "understood")
    stitched = ""
    if audit.stitched_episodes:
        stitched = (
            f"{plural(audit.stitched_episodes, 'episode')} put together from calls that named none, by the hashes of "
            "their prompts' beginnings."
        )
    return section(
        "files",
        "What was read",
        table("files", columns, rows, words=(0, 1, 2)),
        paragraph(stitched) if stitched else "",
    )


def _file(file: FileRead) -> tuple[object, ...]:
    skips = join((_skips(skips) for skips in file.skipped[:20]), "<br>") if file.skipped else Html("none")
    return (
        Html(f'<span class="long">{esc(name(file.path, 160))}</span>'),
        name(file.format),
        skips,
        count(file.rows),
        count(file.understood),
    )


def _skips(skips: Skips) -> Html:
    lines = ", ".join(f"{line:,}" for line in skips.lines[:8])
    more = ", …" if skips.count > len(skips.lines[:8]) else ""
    where = f" (line {lines}{more})" if lines else ""
    detail = f": {clip(skips.detail, 160)}" if skips.detail else ""
    return esc(f"{skips.count:,} × {name(as_words(skips.reason))}{where}{detail}")
