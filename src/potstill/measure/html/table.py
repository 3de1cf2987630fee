"""Tables that scroll inside their own box, by finger and by keyboard, and lists that are cut with a word about it.

What it knows: HTML tables. What it does not do: know what stands in them.
"""

from __future__ import annotations

from collections.abc import Sequence

from potstill.measure.html.text import Html, count, esc, join

Row = Sequence[object]
"""The first cell names the row."""
LONG = 8
"""Rows beyond which a secondary table is closed at first."""


def table(
    label: str, columns: Sequence[str], rows: Sequence[Row], *, words: Sequence[int] = (0,), limit: int = 100
) -> Html:
    """A table. The columns ``words`` (from 0) hold words and stand left, the others numbers; ``limit`` rows at most."""
    if not rows:
        return Html("")
    kinds = ["w" if at in words else "n" for at in range(len(columns))]
    head = join(
        Html(f'<th scope="col" class="{kind}">{esc(column)}</th>') for kind, column in zip(kinds, columns, strict=True)
    )
    body = join(_row(row, kinds) for row in rows[:limit])
    box = f'<div class="scroll" tabindex="0" role="region" aria-label="Table: {esc(label)}">'
    rest = left_out(len(rows) - limit, "rows")
    return Html(f"{box}<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>{rest}")


def _row(row: Row, kinds: Sequence[str]) -> Html:
    cells = [Html(f'<th scope="row" class="{kinds[0]}">{esc(row[0])}</th>')]
    cells += [Html(f'<td class="{kind}">{esc(cell)}</td>') for kind, cell in zip(kinds[1:], row[1:], strict=True)]
    return Html(f"<tr>{join(cells)}</tr>")


def left_out(number: int, what: str) -> Html:
    """A line that says how many are not shown; nothing if all are."""
    if number <= 0:
        return Html("")
    return Html(f'<p class="quiet">{count(number)} more {esc(what)} are in the output of --json.</p>')


def section(identity: str, title: str, *parts: object) -> Html:
    """A part of the page under its own heading."""
    head = f'<section id="{identity}" aria-labelledby="{identity}-h"><h2 id="{identity}-h">{esc(title)}</h2>'
    return Html(f"{head}{join(parts)}</section>")


def paragraph(text: object, kind: str = "") -> Html:
    """A paragraph; ``kind`` is a class of the style sheet."""
    attribute = f' class="{kind}"' if kind else ""
    return Html(f"<p{attribute}>{esc(text)}</p>")


def explained(terms: Sequence[tuple[str, str]]) -> Html:
    """What words of a table mean, in small type below it."""
    lines = join(Html(f"<li><b>{esc(term)}</b>: {esc(meaning)}</li>") for term, meaning in terms)
    return Html(f'<ul class="quiet terms">{lines}</ul>') if terms else Html("")


def folded(title: str, inside: Html, rows: int) -> Html:
    """A part under its own heading, closed at first where it is long."""
    if rows <= LONG:
        return Html(f"<h3>{esc(title)}</h3>{inside}")
    return Html(f'<details class="folded"><summary><h3>{esc(title)}</h3></summary>{inside}</details>')
