"""From the journal to a trajectory, in one transaction, and the outcomes that come whenever they come.

What it knows: the tables ``open_episodes`` and ``folded``, and what must go together. What it does not do: making the
trajectory (``record``), threads, transactions.

An episode may go on after it was folded. Its later exchanges are then folded into a trajectory that replaces the
earlier one under the same id; who makes it reads that one first. ``after_seq`` proves that it was the newest.
"""

from __future__ import annotations

from typing import Any

import msgspec

from potstill.errors import StoreError
from potstill.trajectories import episode_rows, journal, retention, rows
from potstill.trajectories.exchange import Episode, Folded, OutcomePlace, Recorded
from potstill.trajectories.heads import Head, Key
from potstill.trajectories.rows import Prepared
from potstill.trajectories.sql import Connection
from potstill.types import Outcome

_outcome_decoder = msgspec.json.Decoder(Outcome)

_FOLDED = (
    "SELECT folded.upto, trajectories.id, trajectories.seq, trajectories.outcome FROM folded "
    "JOIN trajectories ON trajectories.seq = folded.trajectory WHERE folded.namespace = ? AND folded.episode = ?"
)


def episode(connection: Connection, key: Key) -> Episode:
    """What is known of an episode; an empty one if nothing is."""
    reader = journal.Reader(skip_damaged=True)
    exchanges = reader.read(connection, "namespace = ? AND episode = ?", key)
    outcome = _outcome(connection, key)
    folded = connection.execute(_FOLDED, key).fetchone()
    return Episode(
        namespace=key[0],
        episode_id=key[1],
        exchanges=tuple(exchanges),
        damaged=tuple(reader.damaged),
        outcome=None if outcome is None else _outcome_decoder.decode(outcome),
        trajectory_id=None if folded is None else folded[1],
        folded_seq=0 if folded is None else folded[0],
    )


def _outcome(connection: Connection, key: Key) -> str | None:
    query = "SELECT outcome FROM open_episodes WHERE namespace = ? AND episode = ?"
    row = connection.execute(query, key).fetchone()
    return None if row is None else row[0]


# --- folding --------------------------------------------------------------------------------------------------------


def fold(connection: Connection, key: Key, prepared: Prepared, upto_seq: int, after_seq: int, now: float) -> Folded:
    """See ``Store.fold``; inside the caller's transaction."""
    query = "SELECT 1 FROM journal WHERE namespace = ? AND episode = ? AND seq <= ? LIMIT 1"
    if connection.execute(query, (*key, upto_seq)).fetchone() is None:
        return Folded.ALREADY
    before = connection.execute(_FOLDED, key).fetchone()
    if (0 if before is None else before[0]) != after_seq:
        return Folded.STALE
    outcome = _outcome(connection, key) or prepared.outcome or (None if before is None else before[3])
    seq = _put(connection, prepared, before, now)
    if outcome is not None and outcome != prepared.outcome:
        rows.set_outcome(connection, prepared.trajectory.id, _outcome_decoder.decode(outcome), outcome)
    connection.execute(
        "INSERT INTO folded(namespace, episode, trajectory, upto) VALUES (?, ?, ?, ?) "
        "ON CONFLICT(namespace, episode) DO UPDATE SET trajectory = excluded.trajectory, upto = excluded.upto",
        (*key, seq, upto_seq),
    )
    _clear(connection, key, upto_seq)
    return Folded.DONE


def _put(connection: Connection, prepared: Prepared, before: tuple[Any, ...] | None, now: float) -> int:
    """Insert the trajectory, in the place of what was folded before; returns its row's number.

    The old one goes last and under another name, so that what both hold is never swept.
    """
    id = prepared.trajectory.id
    if before is not None:
        if before[1] != id:
            raise StoreError(f"This episode was folded into trajectory {before[1]!r} before; {id!r} cannot replace it.")
        aside = f"{id}\x1freplaced"
        connection.execute("UPDATE trajectories SET id = ? WHERE seq = ?", (aside, before[2]))
        rows.insert(connection, prepared, now)
        retention.remove_chunk(connection, [aside], now, replaced=True)
    else:
        rows.insert(connection, prepared, now)
    return int(connection.execute("SELECT seq FROM trajectories WHERE id = ?", (id,)).fetchone()[0])


def _clear(connection: Connection, key: Key, upto_seq: int) -> None:
    """Remove what was folded; exchanges that came since stay, and no longer build on it."""
    later = journal.Reader(skip_damaged=True).read(
        connection, "namespace = ? AND episode = ? AND seq > ?", (*key, upto_seq)
    )
    connection.execute("DELETE FROM journal WHERE namespace = ? AND episode = ? AND seq <= ?", (*key, upto_seq))
    repack(connection, later)
    query = "SELECT count(*) FROM journal WHERE namespace = ? AND episode = ?"
    left = int(connection.execute(query, key).fetchone()[0])
    if not left:
        connection.execute("DELETE FROM open_episodes WHERE namespace = ? AND episode = ?", key)
        return
    connection.execute(
        "UPDATE open_episodes SET exchanges = ?, outcome = NULL, first_at = ? WHERE namespace = ? AND episode = ?",
        (left, min((one.exchange.started_at for one in later), default=0.0), *key),
    )


def repack(connection: Connection, kept: list[Recorded]) -> None:
    """Write these rows of one episode anew, each compared with the one before it: nothing else stands under them."""
    heads: list[Head] = []
    for one in kept:
        entry = journal.prepare(one.exchange)
        packed = journal.pack(entry, heads)
        connection.execute(
            "UPDATE journal SET base = ?, depth = ?, digest = ?, frame = ? WHERE seq = ?",
            (packed.base, packed.depth, packed.digest, packed.frame, one.seq),
        )
        heads = [journal.head_of(one.seq, packed, entry)]


# --- outcomes -------------------------------------------------------------------------------------------------------


def set_outcome(connection: Connection, key: Key, outcome: Outcome, body: str, now: float) -> OutcomePlace:
    """See ``Store.set_episode_outcome``; inside the caller's transaction."""
    open_now = connection.execute(
        "UPDATE open_episodes SET outcome = ? WHERE namespace = ? AND episode = ? AND exchanges > 0", (body, *key)
    ).rowcount
    folded = connection.execute(_FOLDED, key).fetchone()
    if folded is not None:
        rows.set_outcome(connection, folded[1], outcome, body)
        return OutcomePlace.BOTH if open_now else OutcomePlace.TRAJECTORY
    if open_now:
        return OutcomePlace.JOURNAL
    connection.execute(
        "INSERT INTO open_episodes(namespace, episode, exchanges, first_at, last_at, outcome) "
        "VALUES (?, ?, 0, ?, ?, ?) "
        "ON CONFLICT(namespace, episode) DO UPDATE SET last_at = excluded.last_at, outcome = excluded.outcome",
        (*key, now, now, body),
    )
    return OutcomePlace.UNSEEN


# --- retention ------------------------------------------------------------------------------------------------------


def prune(connection: Connection, before: float, namespace: str | None, limit: int) -> tuple[int, int]:
    """Remove up to ``limit`` open episodes without a call since ``before``: how many, and how many exchanges."""
    found = connection.execute(
        "SELECT namespace, episode FROM open_episodes WHERE last_at < ?1 AND (?2 IS NULL OR namespace = ?2) "
        "ORDER BY last_at LIMIT ?3",
        (before, namespace, limit),
    ).fetchall()
    removed = 0
    for key in found:
        removed += connection.execute("DELETE FROM journal WHERE namespace = ? AND episode = ?", key).rowcount
        connection.execute("DELETE FROM open_episodes WHERE namespace = ? AND episode = ?", key)
        if connection.execute(_FOLDED, key).fetchone() is None:
            episode_rows.forget(connection, [key])
    return len(found), removed
