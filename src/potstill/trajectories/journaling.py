"""The store's methods for exchanges and live episodes.

What it knows: which of them write. What it does not do: SQL (``journal``, ``folding``), making trajectories.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import NamedTuple

from potstill.errors import StoreError
from potstill.trajectories import folding, journal, retention, rows
from potstill.trajectories.access import Access
from potstill.trajectories.exchange import Episode, Exchange, Folded, OpenEpisode, OutcomePlace, Recorded
from potstill.trajectories.heads import MAX_BYTES, Heads
from potstill.trajectories.sql import Connection
from potstill.trajectories.writer import NoWriter, Writer
from potstill.types import Outcome, Trajectory

_FIRST = 4
"""Exchanges of an episode that are looked at for how it began: those before a route had stages say nothing."""


class OpenDay(NamedTuple):
    """What a day (``2026-11-20``) was the last one of."""

    day: str
    episodes: int
    exchanges: int


class JournalMethods(Access):
    """``head_bytes`` bounds the memory for last requests, with which the next ones are compared."""

    def __init__(
        self,
        path: Path | str,
        writer: Writer | NoWriter,
        clock: Callable[[], float] = time.time,
        head_bytes: int = MAX_BYTES,
    ) -> None:
        super().__init__(path, writer, clock)
        self._heads = Heads(head_bytes)

    # --- exchanges --------------------------------------------------------------------------------------------------

    def record(self, exchanges: Sequence[Exchange]) -> list[int]:
        """Append exchanges to the journal; returns their sequence numbers when they are durable (fsync)."""
        return self.record_nowait(exchanges).result()

    def record_nowait(self, exchanges: Sequence[Exchange]) -> Future[list[int]]:
        """Queue exchanges. The future gives their sequence numbers, in order, once they are durable: all or none.

        Numbers grow and are never given twice, also after rows are gone. What cannot be kept (NaN, a name that is
        empty or holds NUL) raises ``StoreError`` at once, a full disk ``DiskFull`` from the future. Waits while the
        writer's queue is full.
        """
        entries = [journal.prepare(exchange) for exchange in exchanges]
        return self._writer.submit(lambda connection: journal.append(connection, self._heads, entries))

    def last_seq(self) -> int:
        """The largest sequence number that was acknowledged, 0 for none.

        Every smaller one is durable too, or was folded or pruned since, or was never given to anybody.
        """
        with self._reading() as connection:
            return journal.last_seq(connection)

    def exchange(self, seq: int, namespace: str) -> Recorded:
        """Raises ``StoreError`` if the journal does not hold it for this tenant, or it is damaged."""
        with self._reading() as connection:
            found = journal.Reader().read(connection, "seq = ? AND namespace = ?", (seq, namespace))
        if not found:
            raise StoreError(
                f"No exchange {seq} of namespace {namespace!r} in the journal of {self.path}. "
                "When its episode ended it became part of a trajectory: potstill trajectories list"
            )
        return found[0]

    def exchanges(self, namespace: str, episode_id: str, *, after: int = 0) -> list[Recorded]:
        """An open episode's exchanges with a larger sequence number. Raises ``StoreError`` for a damaged one."""
        with self._reading() as connection:
            where = "namespace = ? AND episode = ? AND seq > ?"
            return journal.Reader().read(connection, where, (namespace, episode_id, after))

    def recent(self, namespace: str | None, after_seq: int, limit: int = 100) -> list[Recorded]:
        """The first exchanges after a sequence number, for a live tail; of every tenant only if ``namespace`` is None.

        Start at ``last_seq()`` less what you want to show. Damaged rows and those folded in the meantime are left out.
        """
        where = "seq > ?1 AND (?2 IS NULL OR namespace = ?2)"
        with self._reading() as connection:
            return journal.Reader(skip_damaged=True).read(connection, where, (after_seq, namespace), limit)

    # --- live episodes ----------------------------------------------------------------------------------------------

    def open_episodes(
        self,
        namespace: str | None = None,
        *,
        idle_before: float | None = None,
        outcome_known: bool | None = None,
        limit: int | None = None,
    ) -> list[OpenEpisode]:
        """Episodes in the journal, the longest idle first.

        ``idle_before``: those whose last answer ended before this time (Unix seconds). ``outcome_known``: those whose
        outcome has, or has not, been told since the last fold. ``namespace`` None: of every tenant.
        """
        with self._reading() as connection:
            return journal.open_episodes(connection, namespace, idle_before, outcome_known, limit)

    def episode_known(self, namespace: str, episode_id: str) -> bool:
        """Whether anything of an episode was recorded for this tenant, folded or not."""
        query = (
            "SELECT EXISTS (SELECT 1 FROM open_episodes WHERE namespace = ?1 AND episode = ?2 AND exchanges > 0) "
            "OR EXISTS (SELECT 1 FROM folded WHERE namespace = ?1 AND episode = ?2)"
        )
        with self._reading() as connection:
            return bool(connection.execute(query, (namespace, episode_id)).fetchone()[0])

    def episode_stage(self, namespace: str, episode_id: str) -> str | None:
        """In which stage an episode began, as its first exchange or its trajectory says; None where nothing of it is
        recorded."""
        query = (
            "SELECT trajectories.arm FROM folded JOIN trajectories ON trajectories.seq = folded.trajectory "
            "WHERE folded.namespace = ? AND folded.episode = ?"
        )
        key = (namespace, episode_id)
        with self._reading() as connection:
            folded = connection.execute(query, key).fetchone()
            if folded is not None:
                return str(folded[0])
            reader = journal.Reader(skip_damaged=True)
            first = reader.read(connection, "namespace = ? AND episode = ?", key, limit=_FIRST)
        return next((one.exchange.stage for one in first if one.exchange.stage), "") if first else None

    def episode(self, namespace: str, episode_id: str) -> Episode:
        """What the journal knows of an episode as of one moment, to fold it; empty if it knows nothing.

        Exchanges that cannot be read are named in ``damaged`` and do not keep the others from being folded.
        """
        with self._reading() as connection:
            return folding.episode(connection, (namespace, episode_id))

    def fold(
        self, namespace: str, episode_id: str, trajectory: Trajectory, upto_seq: int, *, after_seq: int = 0
    ) -> Folded:
        """Keep the trajectory and remove the episode's exchanges up to ``upto_seq``, in one transaction.

        ``after_seq`` is the ``folded_seq`` of the ``Episode`` that it was made from. Where that is not 0 the trajectory
        takes the place of the earlier one, has its id, and must hold its steps too. An outcome that was told since the
        last fold is put on it, else its own counts, else the one that it replaces had. Exchanges that came after
        ``upto_seq`` stay: the episode goes on. Raises ``StoreError`` as ``append`` does, and for another tenant's.
        """
        if trajectory.namespace != namespace:
            raise StoreError(
                f"Episode {episode_id!r} of namespace {namespace!r} cannot become trajectory {trajectory.id!r} of "
                f"namespace {trajectory.namespace!r}: episodes never cross tenants."
            )
        prepared = rows.prepare(trajectory)
        key = (namespace, episode_id)

        def folded(connection: Connection) -> Folded:
            done = folding.fold(connection, key, prepared, upto_seq, after_seq, self._clock())
            if done is Folded.DONE:
                self._heads.forget(key, upto_seq)
            return done

        return self._write(folded)

    def set_episode_outcome(self, namespace: str, episode_id: str, outcome: Outcome) -> OutcomePlace:
        """Set or replace an episode's outcome, be it running, folded, or not seen yet; tells where it went."""
        what = f"the outcome of episode {episode_id!r}"
        for name, value in (("namespace", namespace), ("episode_id", episode_id)):
            journal.check_name(what, name, value)
        body = rows.encode_outcome(outcome, what)
        key = (namespace, episode_id)
        return self._write(lambda connection: folding.set_outcome(connection, key, outcome, body, self._clock()))

    def open_days(self, *, before: float | None = None, namespace: str | None = None) -> list[OpenDay]:
        """Open episodes by the day (UTC) of their last call, oldest first; with ``before`` (Unix seconds), only what
        ``prune(before)`` would remove. ``namespace`` None: of every tenant."""
        query = (
            "SELECT last_at, exchanges FROM open_episodes "
            "WHERE (?1 IS NULL OR namespace = ?1) AND (?2 IS NULL OR last_at < ?2)"
        )
        limit = None if before is None else float(rows.segment_of(before) * rows.DAY_S)
        days: dict[int, tuple[int, int]] = {}
        with self._reading() as connection:
            for last_at, count in connection.execute(query, (namespace, limit)):
                episodes, exchanges = days.get(day := rows.segment_of(last_at), (0, 0))
                days[day] = (episodes + 1, exchanges + count)
        return [OpenDay(retention.day_of(day), *days[day]) for day in sorted(days)]

    # --- retention --------------------------------------------------------------------------------------------------

    def prune_journal(self, before: float, *, namespace: str | None = None) -> int:
        """Remove open episodes whose last call was on a day (UTC) that ended at or before ``before`` (Unix seconds).

        Returns how many exchanges went. ``Store.prune`` does this too. ``namespace`` None: of every tenant.
        """
        limit = rows.segment_of(before) * rows.DAY_S

        def work(connection: Connection) -> tuple[int, int]:
            return folding.prune(connection, limit, namespace, retention.CHUNK)

        removed = 0
        while (done := self._write(work))[0]:
            removed += done[1]
        return removed
