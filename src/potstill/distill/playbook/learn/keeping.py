"""What a run does to the book beside learning: merge near-duplicates, and go back to the state that did best.

What it knows: when others wrote into the same book, whose work is not undone. What it does not do: decide what is a
near-duplicate (``gate``) or how the way back goes (``undo``).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import msgspec

from potstill.distill.playbook.apply import Entry, Refused, kind_of
from potstill.distill.playbook.learn.doubts import ACTOR
from potstill.distill.playbook.learn.journal import Kind, Row
from potstill.distill.playbook.learn.plan import Turn
from potstill.distill.playbook.learn.policy import NotTaken, Why
from potstill.distill.playbook.learn.result import Validated
from potstill.distill.playbook.learn.writing import Tools, Write
from potstill.distill.playbook.operations import Batch, Tag
from potstill.distill.playbook.undo import undo
from potstill.errors import ConfigError

_TRIES = 4
"""Of writing what others may overtake."""


def refine(tools: Tools, turn: Turn, revision: int) -> Write | None:
    """Merge the near-duplicates that the batch of this revision may have left, as the position of this turn; None:
    there are none, and nothing is noted. Blocks. Where others keep changing the same bullets, they stay."""
    reason = ""
    for _ in range(_TRIES):
        tools.desk.look()
        batch = tools.desk.refinement(revision, tools.key(turn))
        if not batch.operations:
            return None
        try:
            return _applied(tools, turn, Row(kind=Kind.REFINE, epoch=turn.epoch), batch)
        except Refused as refused:
            reason = refused.reason
    return _left(tools, turn, Row(kind=Kind.REFINE, epoch=turn.epoch), NotTaken(Why.OVERTAKEN, reason))


def keep_best(tools: Tools, turn: Turn, best: Validated | None, last: Validated | None) -> Write:
    """Go back to the book that did best in validation, where the last one did worse. Blocks.

    Only what this run wrote is undone: where others changed the book since, it stays as it is, and the result says so.
    Votes stay, whatever was written (``undo``).
    """
    row = Row(kind=Kind.KEEP, epoch=turn.epoch)
    if best is None or last is None or last.share is None or best.share is None or last.share >= best.share:
        return _left(tools, turn, row)
    reason, tries, near = "", 0, None
    while tries < _TRIES:
        entries = tools.desk.book.log()
        if strangers := _by_others(tools, entries, best.revision):
            said = f"Revision {best.revision} did better, and is not gone back to: {strangers} wrote since."
            return _left(tools, turn, row, NotTaken(Why.OVERTAKEN, said))
        try:
            done = _back(tools, turn, msgspec.structs.replace(row, back_to=best.revision), best.revision, entries, near)
        except Refused as refused:
            reason, tries = refused.reason, tries + 1
            continue
        if isinstance(done, Write):
            return done
        near = done
    return _left(tools, turn, row, NotTaken(Why.OVERTAKEN, reason))


def _back(tools: Tools, turn: Turn, row: Row, revision: int, entries: Sequence[Entry], near: int | None) -> Write | int:
    """By the log as it was read: what came since is not touched. A number: one batch cannot hold the way, and a part of
    it is gone, back to that revision, which the next part begins at (``near``); the last part does the position."""
    key = tools.key(turn, part=len(entries))
    try:
        batch = undo(entries, revision, actor=ACTOR, key=key)
    except ConfigError:
        batch, reached = _part_of_the_way(entries, revision, entries[-1].revision if near is None else near, key)
        tools.desk.book.apply(batch)
        return reached
    return _applied(tools, turn, row, batch) if batch.operations else _left(tools, turn, row)


def _part_of_the_way(entries: Sequence[Entry], revision: int, near: int, key: str) -> tuple[Batch, int]:
    """To a revision before ``near``, which the book is at, that one batch reaches. Always nearer to the end: the parts
    end. Raises ``ConfigError`` where not even one step is."""
    too_far, nothing = revision, near
    while nothing - too_far > 1:
        middle = (too_far + nothing) // 2
        try:
            batch = undo(entries, middle, actor=ACTOR, key=key)
        except ConfigError:
            too_far = middle
            continue
        if batch.operations:
            return batch, middle
        nothing = middle
    return undo(entries, too_far, actor=ACTOR, key=key), too_far


def _by_others(tools: Tools, entries: Sequence[Entry], revision: int) -> str:
    """Who wrote anything but votes after this revision, beside this run; empty: nobody."""
    others = {
        entry.batch.actor
        for entry in entries
        if entry.revision > revision
        and not entry.batch.key.startswith(tools.prefix)
        and any(not isinstance(one, Tag) for one in entry.batch.operations)
    }
    return ", ".join(sorted(others))


def _applied(tools: Tools, turn: Turn, row: Row, batch: Batch) -> Write:
    row = msgspec.structs.replace(row, applied=dict(Counter(kind_of(one) for one in batch.operations)))
    applied = tools.desk.book.apply(batch, noted=tools.journal.noted(turn.position, row))
    return Write(msgspec.structs.replace(row, revision=applied.revision), ())


def _left(tools: Tools, turn: Turn, row: Row, *not_taken: NotTaken) -> Write:
    refused = dict(Counter(str(one.why) for one in not_taken))
    row = msgspec.structs.replace(row, refused=refused, revision=tools.desk.book.revision)
    tools.journal.note(turn.position, row)
    return Write(row, not_taken)
