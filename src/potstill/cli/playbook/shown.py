"""Bullets, batches and differences as rows and lines for people and pipes.

What it knows: columns, how much of a long book a terminal is shown. What it does not do: read or change books.
Stored text is indented or in a cell of its own, so that it cannot look like a heading or a row of ours.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

import click
import msgspec

from potstill.cli.output import note

if TYPE_CHECKING:
    from potstill.distill.playbook.apply import Entry
    from potstill.distill.playbook.blame import Blame
    from potstill.distill.playbook.operations import Bullet

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])

ON_A_TERMINAL = 50
"""Bullets or batches that a terminal is shown where nobody says how many; pipes and ``--json`` get all."""
CELL_CHARACTERS = 160
"""Of a bullet's content in a table on a terminal."""
BULLET_COLUMNS = ("id", "section", "stage", "state", "helpful", "harmful", "neutral", "revision", "content")
LOG_COLUMNS = ("revision", "at", "actor", "did", "bullets", "sources", "reason")
LEFT_OUT_FIRST = ("revision", "neutral", "section", "harmful", "helpful")
LOG_LEFT_OUT_FIRST = ("sources", "bullets", "at")


def limit_options(command: F) -> F:
    """``--limit`` and ``--offset`` of commands that print many rows."""
    limit = click.option(
        "--limit", type=click.IntRange(1), metavar="N", help="At most N. [default: 50 on a terminal, else all]"
    )
    offset = click.option("--offset", type=click.IntRange(0), default=0, metavar="N", help="Leave out the first N.")
    return limit(offset(command))


def part_of(items: Sequence[T], limit: int | None, offset: int, json_mode: bool) -> Sequence[T]:
    """The items to print, with a note on how many are left."""
    if limit is None and not json_mode and sys.stdout.isatty():
        limit = ON_A_TERMINAL
    part = items[offset:] if limit is None else items[offset : offset + limit]
    left = len(items) - offset - len(part)
    if left > 0:
        note(f"{left:,} more. Type: --limit N, --offset {offset + len(part)}, or pipe it: | less")
    return part


# --- bullets --------------------------------------------------------------------------------------------------------


def bullet_rows(bullets: Sequence[Bullet]) -> list[list[object]]:
    cut = sys.stdout.isatty()
    return [[_bullet_cell(bullet, column, cut) for column in BULLET_COLUMNS] for bullet in bullets]


def _bullet_cell(bullet: Bullet, column: str, cut: bool) -> object:
    if column == "state":
        return state_of(bullet)
    value = getattr(bullet, column)
    if column == "content":
        return shortened(value) if cut else value
    return str(value) if column == "stage" else value


def state_of(bullet: Bullet) -> str:
    """What a stage does not say: why nobody is shown it, or that it stays."""
    if bullet.removed:
        return f"merged into {bullet.merged_into}" if bullet.merged_into else "removed"
    if bullet.quarantined:
        return "quarantined"
    return "pinned" if bullet.pinned else ""


def shortened(text: str, most: int = CELL_CHARACTERS) -> str:
    """One line, cut."""
    line = " ".join(text.split())
    return line if len(line) <= most else f"{line[: most - 3].rstrip()}..."


def as_plain(value: Any) -> dict[str, Any]:
    """A struct as JSON has it, every field of it, also those at their default."""
    return {name: msgspec.to_builtins(getattr(value, name)) for name in value.__struct_fields__}


def bullet_lines(bullet: Bullet) -> Iterator[str]:
    """Everything about one bullet."""
    state = state_of(bullet)
    yield f"{bullet.id} {state}".rstrip()
    yield from indented("section", bullet.section)
    yield from indented("content", bullet.content)
    yield f"  stage: {bullet.stage}"
    yield f"  votes: {bullet.helpful} helpful, {bullet.harmful} harmful, {bullet.neutral} neutral"
    yield f"  revision: {bullet.revision} (added in {bullet.added_in} of the book, its text in {bullet.changed_in})"
    for name, values in (("merged from", bullet.lineage), ("learnt from", bullet.sources)):
        yield from indented(name, ", ".join(values))


def indented(label: str, text: str, indent: str = "  ") -> Iterator[str]:
    """``label: text`` with further lines indented more, whatever a terminal takes for a line end."""
    if text:
        first, *rest = text.splitlines() or [""]
        yield f"{indent}{label}: {first}"
        yield from (f"{indent}    {line.rstrip()}" for line in rest)


# --- the log --------------------------------------------------------------------------------------------------------


def log_rows(entries: Sequence[Entry]) -> list[list[object]]:
    return [
        [
            entry.revision,
            when(entry.at),
            entry.batch.actor,
            did(entry),
            ", ".join(bullets_of(entry)[:8]) + (", ..." if len(bullets_of(entry)) > 8 else ""),
            len(entry.batch.sources),
            entry.batch.reason,
        ]
        for entry in entries
    ]


def log_json(entry: Entry) -> dict[str, Any]:
    """``revision``, ``at`` (Unix seconds), and the batch's own fields beside them."""
    from potstill.distill.playbook.apply import kind_of

    batch = as_plain(entry.batch)
    return {
        "revision": entry.revision,
        "at": entry.at,
        "did": did(entry),
        **{name: batch[name] for name in ("actor", "reason", "sources", "key", "base")},
        "operations": [{"type": kind_of(one), **as_plain(one)} for one in entry.batch.operations],
        "ids": list(entry.ids),
        "erased": [as_plain(erased) for erased in entry.erased],
        "forgot": entry.forgot,
    }


def did(entry: Entry) -> str:
    """``2 ADD, 1 TAG``; what was erased is said so."""
    from potstill.distill.playbook.apply import kind_of

    if entry.forgot:
        return "FORGET"
    counts = Counter(kind_of(operation) for operation in entry.batch.operations)
    erased = Counter(one.kind for one in entry.erased)
    parts = [f"{count} {kind}" for kind, count in counts.items()]
    return ", ".join(parts + [f"{count} {kind} (erased)" for kind, count in erased.items()])


def bullets_of(entry: Entry) -> list[str]:
    """Ids that a batch made or named, each once."""
    from potstill.distill.playbook.apply import Erased, named, steps

    found = list(entry.ids)
    for step in steps(entry):
        found += step.ids if isinstance(step, Erased) else named(step)
    return list(dict.fromkeys(found))


def many(count: int, what: str, plural: str = "") -> str:
    """``1 bullet``, ``2,000 bullets``."""
    return f"{count:,} {what if count == 1 else plural or what + 's'}"


def when(unix_s: float) -> str | None:
    if not 0 < unix_s < 253402300800:
        return None
    return datetime.fromtimestamp(unix_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


# --- blame ----------------------------------------------------------------------------------------------------------


def blame_lines(blame: Blame, bullets: Mapping[str, Bullet]) -> Iterator[str]:
    bullet = bullets.get(blame.id)
    yield f"{blame.id} {'is forgotten' if bullet is None else state_of(bullet)}".rstrip()
    for number, line in enumerate(blame.lines):
        mark = " (the text of now)" if number == blame.current else ""
        others = f" with {', '.join(line.others)}" if line.others else ""
        erased = ", erased since" if line.erased else ""
        yield f"revision {line.revision}, {when(line.at) or 'at no known time'}: {line.kind}{others}{erased}{mark}"
        yield from indented("by", line.actor)
        yield from indented("reason", line.reason)
        yield from indented("learnt from", ", ".join(line.sources))
        yield from indented("text", line.content or "")
    for votes in blame.votes:
        via = f" by way of {votes.via}" if votes.via else ""
        yield f"votes{via}: {votes.helpful} helpful, {votes.harmful} harmful, {votes.neutral} neutral"
        yield from indented("learnt from", ", ".join(votes.sources))
