"""Recorded prompts that are given other words: what forgetting needs of episodes, folded or not.

What it knows: which rows hold prompts, that content is shared between episodes and tenants, and that an episode keeps
its row. What it does not do: know what goes (``distill.playbook.renderings``): functions are handed in for that, which
run inside the writer's transaction.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import msgspec

from potstill.errors import NOT_JSON
from potstill.trajectories import folding, journal, retention, rows
from potstill.trajectories.erasing import overwriting
from potstill.trajectories.exchange import Exchange, Recorded
from potstill.trajectories.heads import Key
from potstill.trajectories.journaling import JournalMethods
from potstill.trajectories.sql import Connection
from potstill.types import Message, Trajectory

_message = msgspec.json.Decoder(Message).decode
_AT_ONCE = 500
"""Rows of one read."""
_OF_MESSAGE = """
WITH RECURSIVE below(id) AS (
  SELECT id FROM nodes WHERE message = ?1
  UNION
  SELECT nodes.id FROM nodes JOIN below ON nodes.parent = below.id
)
SELECT DISTINCT trajectories.seq, trajectories.id FROM below JOIN refs ON refs.node = below.id
JOIN trajectories ON trajectories.seq = refs.trajectory WHERE trajectories.namespace = ?2 ORDER BY trajectories.seq
"""
_CHAIN = """
WITH RECURSIVE chain(id, parent, message) AS (
  SELECT id, parent, message FROM nodes WHERE id IN (SELECT node FROM refs WHERE trajectory = ?1)
  UNION
  SELECT nodes.id, nodes.parent, nodes.message FROM nodes JOIN chain ON nodes.id = chain.parent
)
SELECT id, message FROM chain ORDER BY id DESC
"""


class RenderingMethods(JournalMethods):
    """Writes return when they are durable."""

    # --- reading ----------------------------------------------------------------------------------------------------

    def prompted(self, namespace: str, may: Callable[[Message], bool]) -> list[str]:
        """Ids of a tenant's episodes in whose prompts a message stands of which ``may`` is true, in order."""
        return list(dict(self._prompted(namespace, may)).values())

    def _prompted(self, namespace: str, may: Callable[[Message], bool]) -> list[tuple[int, str]]:
        found: dict[int, str] = {}
        for message, body in self._bodies("messages"):
            if _is(may, body):
                with self._reading() as connection:
                    found.update(connection.execute(_OF_MESSAGE, (message, namespace)).fetchall())
        return sorted(found.items())

    def recorded_texts(self, namespace: str) -> Iterator[tuple[str, str]]:
        """What episodes hold in words: where, and what stands there. Messages and tools of all tenants, which share
        them: ``episodes_at`` says whose they are."""
        for table in ("messages", "toolsets"):
            for number, body in self._bodies(table):
                yield f"{table}.body of {number}", body
        last = 0
        while True:
            query = (
                "SELECT seq, id, header, outcome FROM trajectories WHERE namespace = ? AND seq > ? ORDER BY seq LIMIT ?"
            )
            with self._reading() as connection:
                found = connection.execute(query, (namespace, last, _AT_ONCE)).fetchall()
                for seq, id, *own in found:
                    steps = connection.execute("SELECT body FROM steps WHERE trajectory = ?", (seq,)).fetchall()
                    texts = [*own, *(body for (body,) in steps)]
                    yield from ((f"episode {id}", text) for text in texts if text)
            if len(found) < _AT_ONCE:
                return
            last = found[-1][0]

    def _bodies(self, table: str) -> Iterator[tuple[int, str]]:
        last = 0
        while True:
            query = f"SELECT id, body FROM {table} WHERE id > ? ORDER BY id LIMIT ?"
            with self._reading() as connection:
                found = connection.execute(query, (last, _AT_ONCE)).fetchall()
            yield from found
            if len(found) < _AT_ONCE:
                return
            last = found[-1][0]

    def episodes_at(self, namespace: str, place: str) -> list[str]:
        """Ids of a tenant's episodes that hold what stands at a place of ``recorded_texts``."""
        table, _, number = place.partition(".body of ")
        if place.startswith("episode "):
            return [place.removeprefix("episode ")]
        query = _OF_MESSAGE if table == "messages" else _OF_TOOLSET
        with self._reading() as connection:
            return [id for _, id in connection.execute(query, (int(number), namespace))]

    # --- rewriting --------------------------------------------------------------------------------------------------

    def rewrite_prompts(
        self, namespace: str, may: Callable[[Message], bool], change: Callable[[Trajectory], Trajectory]
    ) -> list[str]:
        """Give episodes other prompts; ids of those that changed.

        Asked are episodes with a message of which ``may`` is true. ``change`` may differ in prompts alone, and
        returns the same object where nothing changes; it may run more than once. An episode keeps its place, its
        outcome and whatever names it; content that nobody uses any more is overwritten in the file too (on PostgreSQL:
        its space is freed for other rows).
        """
        seqs = self._prompted(namespace, may)
        changed: list[str] = []
        for start in range(0, len(seqs), retention.CHUNK):
            some = seqs[start : start + retention.CHUNK]
            changed += self._write(partial(_rewrite, some=some, change=change))
        if changed:
            self._give_back()
        return changed

    def rewrite_journal(self, namespace: str, change: Callable[[Exchange], Exchange]) -> list[str]:
        """Give exchanges of open episodes other requests; ids of the episodes that changed.

        ``change`` returns the same object where nothing changes. Numbers stay; a fold makes its trajectory of what the
        exchanges are then.
        """
        changed: list[str] = []
        for one in self.open_episodes(namespace):
            key = (namespace, one.episode_id)
            if last := self._write(partial(_rewrite_open, key=key, change=change)):
                self._heads.forget(key, last)
                changed.append(one.episode_id)
        if changed:
            self._give_back()
        return changed


_OF_TOOLSET = (
    "SELECT DISTINCT trajectories.seq, trajectories.id FROM refs JOIN trajectories "
    "ON trajectories.seq = refs.trajectory WHERE refs.toolset = ?1 AND trajectories.namespace = ?2 "
    "ORDER BY trajectories.seq"
)


def _is(may: Callable[[Message], bool], body: str) -> bool:
    try:
        return may(_message(body))
    except NOT_JSON:
        return False  # a damaged row: whoever reads its episode is told


def _rewrite(
    connection: Connection, some: list[tuple[int, str]], change: Callable[[Trajectory], Trajectory]
) -> list[str]:
    changed = []
    with overwriting(connection):
        for seq, id in some:
            trajectory = rows.read(connection, seq)
            if trajectory is None or (other := change(trajectory)) is trajectory:
                continue
            nodes = connection.execute(_CHAIN, (seq,)).fetchall()
            prepared = rows.prepare(other)
            connection.execute("DELETE FROM refs WHERE trajectory = ?", (seq,))
            rows.put_prompts(connection, seq, prepared)
            connection.execute("UPDATE trajectories SET digest = ? WHERE seq = ?", (prepared.digest, seq))
            retention.sweep(connection, nodes, [])
            changed.append(id)
    return changed


def _rewrite_open(connection: Connection, key: Key, change: Callable[[Exchange], Exchange]) -> int:
    """The last number of the episode, or 0 where nothing changed."""
    held = journal.Reader(skip_damaged=True).read(connection, "namespace = ? AND episode = ?", key)
    new = [Recorded(seq=one.seq, exchange=change(one.exchange)) for one in held]
    if all(one.exchange is other.exchange for one, other in zip(held, new, strict=True)):
        return 0
    with overwriting(connection):
        folding.repack(connection, new)
    return new[-1].seq
