"""What conversations of open episodes hash to, so that several processes find the episode of the next call.

What it knows: the table of these hashes. What it does not do: hash (``logs.conversation``), choose (``record``).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from potstill.trajectories.access import Access
from potstill.trajectories.sql import Connection

_MOST = 400
"""Hashes in one question; the first ones are the longest beginnings."""
_SIGN, _RANGE = 2**63, 2**64


class Trace(NamedTuple):
    """A conversation that an episode has led to. ``hashed`` is below 2**64, ``at`` Unix seconds."""

    namespace: str
    hashed: int
    episode_id: str
    at: float


class TraceMethods(Access):
    """Blocking, each in one transaction."""

    def leave_traces(self, traces: Sequence[Trace]) -> None:
        """Keep them; what was kept before only becomes younger."""

        def work(connection: Connection) -> None:
            connection.executemany(
                "INSERT INTO traces(namespace, hash, episode, at) VALUES (?, ?, ?, ?) "
                "ON CONFLICT(namespace, hash, episode) DO UPDATE SET at = max(traces.at, excluded.at)",
                sorted((t.namespace, _signed(t.hashed), t.episode_id, t.at) for t in set(traces)),
            )

        self._write(work)

    def follow_traces(self, namespace: str, hashes: Sequence[int]) -> tuple[int, str | None] | None:
        """The first of these hashes that leads to exactly one episode, and this episode.

        Where there are several at each of them, the first one and None; None where there is none at any.
        """
        asked = list(dict.fromkeys(hashes))[:_MOST]
        if not asked:
            return None
        marks = ", ".join("?" * len(asked))
        query = (
            "SELECT hash, CASE WHEN count(*) = 1 THEN min(episode) END FROM traces WHERE namespace = ? "
            f"AND hash IN ({marks}) GROUP BY hash"
        )
        with self._reading() as connection:
            found = dict(connection.execute(query, (namespace, *map(_signed, asked))).fetchall())
        known = [(one, found[_signed(one)]) for one in asked if _signed(one) in found]
        return next((pair for pair in known if pair[1] is not None), known[0] if known else None)

    def forget_traces(self, before: float) -> int:
        """Remove those left before a time (Unix seconds); how many."""
        return self._write(lambda connection: connection.execute("DELETE FROM traces WHERE at < ?", (before,)).rowcount)


def _signed(hashed: int) -> int:
    return hashed if hashed < _SIGN else hashed - _RANGE
