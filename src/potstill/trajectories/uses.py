"""Which bullets of a playbook an episode was shown, as rows beside its trajectory, and how it ended.

What it knows: the table, what a row is made of, reading it without reading trajectories. What it does not do: say what
a bullet is worth. A row is written in the transaction of its trajectory, whoever appends it (a run, the gateway's fold,
an import), and goes with it. It holds ids and numbers, no text of the episode. The outcome is the trajectory's as it is
now, so one that came late counts, and one that was corrected counts as it was corrected.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import msgspec

from potstill.errors import NOT_JSON, StoreError
from potstill.trajectories.access import Access
from potstill.trajectories.sql import Connection
from potstill.types import Answerer, ErrorRecord, Outcome, PlaybookUse, Struct, Trajectory

AT_ONCE = 500
"""Rows of one read transaction."""


class UseRow(NamedTuple):
    """An episode that was given a playbook."""

    seq: int
    """Of the trajectory, in the order in which they were stored; a live episode that goes on is stored anew, under its
    id and with a larger number."""
    trajectory_id: str
    use: PlaybookUse
    outcome: Outcome | None
    """As it is known now."""
    error: ErrorRecord | None = None
    """Where the episode broke."""
    calls: int = 0
    """Billed requests to the student, in each of which the page stood."""
    started_at: float = 0.0
    """Unix seconds."""


class _Kept(Struct, frozen=True, kw_only=True):
    """A row's body."""

    use: PlaybookUse
    error: ErrorRecord | None = None
    calls: int = 0


_kept = msgspec.json.Decoder(_Kept).decode
_outcome = msgspec.json.Decoder(Outcome).decode

_QUERY = (
    "SELECT playbook_uses.trajectory, trajectories.id, playbook_uses.body, trajectories.outcome, "
    "trajectories.started_at FROM playbook_uses JOIN trajectories ON trajectories.seq = playbook_uses.trajectory "
    "WHERE playbook_uses.namespace = ? AND playbook_uses.name = ? AND playbook_uses.trajectory > ? "
    "ORDER BY playbook_uses.trajectory LIMIT ?"
)


class UseMethods(Access):
    """What became of a book's bullets."""

    def playbook_uses(self, namespace: str, name: str, *, after: int = 0) -> Iterator[UseRow]:
        """Every episode of a tenant that was given this book, oldest first; ``after``: only those with a larger number.

        Reads a few hundred at a time, so it may run beside writers, and sees what they append meanwhile. Outcomes that
        come later are seen by who reads again from 0. Raises ``StoreError`` for a damaged row.
        """
        while True:
            with self._reading() as connection:
                rows = connection.execute(_QUERY, (namespace, name, after, AT_ONCE)).fetchall()
            for row in rows:
                yield _read(row)
            if len(rows) < AT_ONCE:
                return
            after = rows[-1][0]


def prepare(trajectory: Trajectory) -> str | None:
    """The body of its row; None: it was given no playbook. Raises ``StoreError`` for a name that cannot be kept."""
    use = trajectory.playbook
    if use is None:
        return None
    if not use.name or "\x00" in use.name:
        raise StoreError(
            f"Cannot store trajectory {trajectory.id!r}: its playbook's name is {use.name!r}; it must be a text that "
            "is not empty, without NUL."
        )
    calls = sum(call.answerer is Answerer.STUDENT for step in trajectory.steps for call in step.calls)
    return msgspec.json.encode(_Kept(use=use, error=trajectory.error, calls=calls)).decode()


def insert(connection: Connection, seq: int, trajectory: Trajectory, body: str) -> None:
    """Inside the transaction that inserts the trajectory."""
    assert trajectory.playbook is not None
    connection.execute(
        "INSERT INTO playbook_uses(trajectory, namespace, name, body) VALUES (?, ?, ?, ?)",
        (seq, trajectory.namespace, trajectory.playbook.name, body),
    )


def _read(row: tuple[int, str, str, str | None, float]) -> UseRow:
    seq, id, body, outcome, started_at = row
    try:
        kept = _kept(body)
        said = None if outcome is None else _outcome(outcome)
    except NOT_JSON as error:
        raise StoreError(f"What is kept of the playbook of trajectory {id!r} is damaged: {error}.") from error
    return UseRow(seq, id, kept.use, said, kept.error, kept.calls, started_at)
