"""Taking episodes out again and giving their disk space back.

What it knows: which content only the removed episodes used, how SQLite shrinks a file. What it does not do: policy.

Content is shared, so a message goes only when the last prompt that holds it went. Only the removed episodes' own
chains are looked at: the cost follows what is removed, not what is kept.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from datetime import date

from potstill.trajectories import episode_rows
from potstill.trajectories.sql import Connection
from potstill.types import Struct

CHUNK = 100
"""Episodes removed in one transaction: other writers get their turn between, and the log stays small."""
VACUUM_PAGES = 2000
_EPOCH = date(1970, 1, 1).toordinal()
BLOB_GRACE_S = 3600.0
"""An image is put before the episode that shows it: images younger than this are never swept."""


class PruneReport(Struct, frozen=True, kw_only=True):
    """What ``Store.remove`` and ``Store.prune`` did. Bytes are those of the database file and its log on disk."""

    removed: int
    bytes_before: int
    bytes_after: int
    exchanges: int = 0
    """Of episodes that were still open."""


class Segment(Struct, frozen=True, kw_only=True):
    """A time segment: one day in UTC (``2026-11-20``) and what it holds."""

    day: str
    trajectories: int
    steps: int


def day_of(segment: int) -> str:
    """The date of a segment; of one beyond the calendar, how far it is."""
    try:
        return date.fromordinal(_EPOCH + segment).isoformat()
    except (ValueError, OverflowError):
        return f"{segment:+} days from 1970-01-01"


def remove_chunk(connection: Connection, ids: Sequence[str], now: float, *, replaced: bool = False) -> int:
    """Delete episodes and the content that nothing else uses, in the caller's transaction; return how many went.

    ``replaced``: others take their places, so that the state of these episodes stays.
    """
    connection.execute("CREATE TEMP TABLE IF NOT EXISTS doomed(seq INTEGER PRIMARY KEY)")
    connection.execute("DELETE FROM temp.doomed")
    connection.executemany(
        "INSERT INTO temp.doomed SELECT seq FROM trajectories WHERE id = ?", ((one,) for one in dict.fromkeys(ids))
    )
    doomed = "(SELECT seq FROM temp.doomed)"
    nodes = connection.execute(_SUSPECT_NODES).fetchall()
    toolsets = connection.execute(
        f"SELECT DISTINCT toolset FROM refs WHERE trajectory IN {doomed} AND toolset IS NOT NULL"
    ).fetchall()
    blobs = connection.execute(f"SELECT DISTINCT digest FROM blob_refs WHERE trajectory IN {doomed}").fetchall()
    if not replaced:
        query = f"SELECT namespace, episode FROM folded WHERE trajectory IN {doomed}"
        episode_rows.forget(connection, connection.execute(query).fetchall())
    removed = connection.execute(f"DELETE FROM trajectories WHERE seq IN {doomed}").rowcount
    sweep(connection, nodes, toolsets)
    connection.executemany(
        "DELETE FROM blobs WHERE digest = ?1 AND touched_at <= ?2 "
        "AND NOT EXISTS (SELECT 1 FROM blob_refs WHERE digest = ?1)",
        ((digest, now - BLOB_GRACE_S) for (digest,) in blobs),
    )
    return removed


_SUSPECT_NODES = """
WITH RECURSIVE chain(id, parent, message) AS (
  SELECT id, parent, message FROM nodes
  WHERE id IN (SELECT node FROM refs WHERE trajectory IN (SELECT seq FROM temp.doomed))
  UNION
  SELECT nodes.id, nodes.parent, nodes.message FROM nodes JOIN chain ON nodes.id = chain.parent
)
SELECT id, message FROM chain ORDER BY id DESC
"""


def sweep(connection: Connection, nodes: list[tuple[int, int]], toolsets: list[tuple[int]]) -> None:
    """Delete of these nodes (with their messages, the largest id first) and tool sets what nobody uses.

    Children have larger ids than their parents, so one pass from the largest id down removes whole chains."""
    connection.executemany(
        "DELETE FROM nodes WHERE id = ?1 AND NOT EXISTS (SELECT 1 FROM refs WHERE node = ?1) "
        "AND NOT EXISTS (SELECT 1 FROM nodes AS child WHERE child.parent = ?1)",
        ((node,) for node, _ in nodes),
    )
    connection.executemany(
        "DELETE FROM messages WHERE id = ?1 AND NOT EXISTS (SELECT 1 FROM nodes WHERE message = ?1)",
        ((message,) for message in {message for _, message in nodes}),
    )
    connection.executemany(
        "DELETE FROM toolsets WHERE id = ?1 AND NOT EXISTS (SELECT 1 FROM refs WHERE toolset = ?1)", toolsets
    )


def give_back(connection: sqlite3.Connection) -> None:
    """Return free pages to the file system, outside any transaction. Readers at work may delay the last part."""
    while (free := int(connection.execute("PRAGMA freelist_count").fetchone()[0])) > 0:
        # execute() would stop after the first page and commit it alone: this pragma gives a row without columns a page
        connection.executescript(f"PRAGMA incremental_vacuum({VACUUM_PAGES})")
        if int(connection.execute("PRAGMA freelist_count").fetchone()[0]) >= free:
            break
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
