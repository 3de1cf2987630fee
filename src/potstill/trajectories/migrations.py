"""The database's schema as a list of migrations, and the function that brings any older file to the newest.

What it knows: every table of the store. What it does not do: reading or writing episodes.

Rules: a released migration never changes; a change is a new entry at the end. Each migration runs with all others that
are due in one transaction, so a kill leaves the old schema or the new one. ``PRAGMA user_version`` counts the entries.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

from potstill.errors import SchemaTooNew, StoreError

APPLICATION_ID = 0x506F7473
"""``PRAGMA application_id`` of our files ("Pots"), so that we never write into somebody else's database."""

V1 = """
CREATE TABLE runs (
  id TEXT PRIMARY KEY, config TEXT NOT NULL, created_at REAL NOT NULL
) STRICT;
CREATE TABLE messages (
  id INTEGER PRIMARY KEY, digest BLOB NOT NULL UNIQUE, body TEXT NOT NULL
) STRICT;
CREATE TABLE nodes (
  id INTEGER PRIMARY KEY, digest BLOB NOT NULL UNIQUE,
  parent INTEGER REFERENCES nodes(id), message INTEGER NOT NULL REFERENCES messages(id)
) STRICT;
CREATE INDEX nodes_parent ON nodes(parent);
CREATE INDEX nodes_message ON nodes(message);
CREATE TABLE toolsets (
  id INTEGER PRIMARY KEY, digest BLOB NOT NULL UNIQUE, body TEXT NOT NULL
) STRICT;
CREATE TABLE trajectories (
  seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, digest BLOB NOT NULL, schema INTEGER NOT NULL,
  namespace TEXT NOT NULL, run_id TEXT NOT NULL, environment TEXT NOT NULL, task_id TEXT NOT NULL,
  split TEXT NOT NULL, arm TEXT NOT NULL, kind TEXT NOT NULL, seed INTEGER NOT NULL, success INTEGER,
  started_at REAL NOT NULL, segment INTEGER NOT NULL, header TEXT NOT NULL, outcome TEXT
) STRICT;
CREATE INDEX trajectories_run ON trajectories(namespace, run_id, arm);
CREATE INDEX trajectories_segment ON trajectories(segment);
CREATE TABLE steps (
  trajectory INTEGER NOT NULL REFERENCES trajectories(seq) ON DELETE CASCADE,
  position INTEGER NOT NULL, body TEXT NOT NULL
) STRICT;
CREATE UNIQUE INDEX steps_position ON steps(trajectory, position);
CREATE TABLE refs (
  trajectory INTEGER NOT NULL REFERENCES trajectories(seq) ON DELETE CASCADE,
  position INTEGER NOT NULL, slot INTEGER NOT NULL,
  node INTEGER REFERENCES nodes(id), toolset INTEGER REFERENCES toolsets(id),
  PRIMARY KEY (trajectory, position, slot)
) STRICT, WITHOUT ROWID;
CREATE INDEX refs_node ON refs(node);
CREATE INDEX refs_toolset ON refs(toolset);
CREATE TABLE blobs (
  digest TEXT PRIMARY KEY, media_type TEXT NOT NULL, content BLOB NOT NULL, touched_at REAL NOT NULL
) STRICT;
CREATE TABLE blob_refs (
  trajectory INTEGER NOT NULL REFERENCES trajectories(seq) ON DELETE CASCADE,
  digest TEXT NOT NULL, PRIMARY KEY (trajectory, digest)
) STRICT, WITHOUT ROWID;
CREATE INDEX blob_refs_digest ON blob_refs(digest);
"""

V2 = """
ALTER TABLE trajectories ADD COLUMN step_count INTEGER NOT NULL DEFAULT 0;
UPDATE trajectories SET step_count = (SELECT count(*) FROM steps WHERE steps.trajectory = trajectories.seq);
CREATE TABLE counters (
  namespace TEXT NOT NULL, key TEXT NOT NULL, shown INTEGER NOT NULL, succeeded INTEGER NOT NULL,
  PRIMARY KEY (namespace, key)
) STRICT, WITHOUT ROWID;
CREATE TABLE spaces (
  id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, dimension INTEGER NOT NULL
) STRICT;
CREATE TABLE vectors (
  seq INTEGER PRIMARY KEY, space INTEGER NOT NULL REFERENCES spaces(id) ON DELETE CASCADE,
  id TEXT NOT NULL, vector BLOB NOT NULL
) STRICT;
CREATE UNIQUE INDEX vectors_id ON vectors(space, id);
"""

V3 = """
CREATE TABLE journal (
  seq INTEGER PRIMARY KEY AUTOINCREMENT, namespace TEXT NOT NULL, episode TEXT NOT NULL,
  base INTEGER, depth INTEGER NOT NULL, digest BLOB NOT NULL, frame BLOB NOT NULL
) STRICT;
CREATE INDEX journal_episode ON journal(namespace, episode, seq);
CREATE TABLE open_episodes (
  namespace TEXT NOT NULL, episode TEXT NOT NULL, exchanges INTEGER NOT NULL,
  first_at REAL NOT NULL, last_at REAL NOT NULL, outcome TEXT, PRIMARY KEY (namespace, episode)
) STRICT, WITHOUT ROWID;
CREATE INDEX open_episodes_last ON open_episodes(last_at);
CREATE TABLE folded (
  namespace TEXT NOT NULL, episode TEXT NOT NULL,
  trajectory INTEGER NOT NULL UNIQUE REFERENCES trajectories(seq) ON DELETE CASCADE,
  upto INTEGER NOT NULL, PRIMARY KEY (namespace, episode)
) STRICT, WITHOUT ROWID;
CREATE TABLE state (
  kind TEXT NOT NULL, key TEXT NOT NULL, version INTEGER NOT NULL, body TEXT NOT NULL,
  PRIMARY KEY (kind, key)
) STRICT, WITHOUT ROWID;
CREATE TABLE spend (
  namespace TEXT NOT NULL, key_id TEXT NOT NULL, day TEXT NOT NULL,
  usd_micros INTEGER NOT NULL, tokens INTEGER NOT NULL, requests INTEGER NOT NULL,
  PRIMARY KEY (namespace, day, key_id)
) STRICT, WITHOUT ROWID;
CREATE TABLE leases (
  name TEXT PRIMARY KEY, holder TEXT NOT NULL, until REAL NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE tenant_keys (
  id TEXT PRIMARY KEY, tenant TEXT NOT NULL, salt BLOB NOT NULL, digest BLOB NOT NULL,
  created_at REAL NOT NULL, revoked_at REAL, limits TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX tenant_keys_tenant ON tenant_keys(tenant, created_at);
"""

V4 = """
CREATE TABLE traces (
  namespace TEXT NOT NULL, hash INTEGER NOT NULL, episode TEXT NOT NULL, at REAL NOT NULL,
  PRIMARY KEY (namespace, hash, episode)
) STRICT, WITHOUT ROWID;
CREATE INDEX traces_at ON traces(at);
"""

V5 = """
CREATE TABLE playbooks (
  namespace TEXT NOT NULL, name TEXT NOT NULL, revision INTEGER NOT NULL, next_number INTEGER NOT NULL,
  erasures INTEGER NOT NULL, created_at REAL NOT NULL, changed_at REAL NOT NULL, PRIMARY KEY (namespace, name)
) STRICT, WITHOUT ROWID;
CREATE TABLE playbook_log (
  namespace TEXT NOT NULL, name TEXT NOT NULL, revision INTEGER NOT NULL, at REAL NOT NULL, key BLOB,
  body TEXT NOT NULL, PRIMARY KEY (namespace, name, revision)
) STRICT;
CREATE UNIQUE INDEX playbook_log_key ON playbook_log(namespace, name, key);
CREATE TABLE playbook_sources (
  namespace TEXT NOT NULL, source TEXT NOT NULL, name TEXT NOT NULL, revision INTEGER NOT NULL,
  PRIMARY KEY (namespace, source, name, revision)
) STRICT, WITHOUT ROWID;
CREATE TABLE playbook_bullets (
  namespace TEXT NOT NULL, name TEXT NOT NULL, id TEXT NOT NULL, number INTEGER NOT NULL,
  written INTEGER NOT NULL, body TEXT NOT NULL, PRIMARY KEY (namespace, name, id)
) STRICT;
CREATE INDEX playbook_bullets_written ON playbook_bullets(namespace, name, written);
"""

V6 = """
CREATE TABLE playbook_uses (
  trajectory INTEGER PRIMARY KEY REFERENCES trajectories(seq) ON DELETE CASCADE,
  namespace TEXT NOT NULL, name TEXT NOT NULL, body TEXT NOT NULL
) STRICT;
CREATE INDEX playbook_uses_name ON playbook_uses(namespace, name, trajectory);
CREATE TABLE learning (
  namespace TEXT NOT NULL, name TEXT NOT NULL, run TEXT NOT NULL, position INTEGER NOT NULL,
  at REAL NOT NULL, body TEXT NOT NULL, PRIMARY KEY (namespace, name, run, position)
) STRICT;
"""

Migration = str | Callable[[sqlite3.Connection], None]
MIGRATIONS: tuple[Migration, ...] = (V1, V2, V3, V4, V5, V6)
"""Entry i brings schema i to schema i + 1: SQL statements, or a function for what SQL cannot say."""


def migrate(connection: sqlite3.Connection, path: Path, migrations: tuple[Migration, ...] = MIGRATIONS) -> int:
    """Bring the open database to the newest schema and return how many migrations ran.

    Raises ``SchemaTooNew`` for a file of a later potstill, ``StoreError`` for a database that is not ours.
    """
    if version_of(connection, path, len(migrations)) == len(migrations):
        return 0
    connection.execute("BEGIN IMMEDIATE")
    try:
        version = version_of(connection, path, len(migrations))  # another process may have been faster
        for migration in migrations[version:]:
            _apply(connection, migration)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {len(migrations)}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return len(migrations) - version


def _apply(connection: sqlite3.Connection, migration: Migration) -> None:
    if callable(migration):
        migration(connection)
        return
    for statement in migration.split(";\n"):
        if statement.strip():
            connection.execute(statement)


def version_of(connection: sqlite3.Connection, path: Path, newest: int = len(MIGRATIONS)) -> int:
    """Schema of an open database, 0 if it is empty; raises as ``migrate`` does. Only reads."""
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    owner = int(connection.execute("PRAGMA application_id").fetchone()[0])
    tables = int(connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0])
    if owner != APPLICATION_ID and tables:
        raise StoreError(f"{path} is an SQLite database of another program. Give another file with --db.")
    if version > newest:
        raise SchemaTooNew(
            f"{path} was written by a newer potstill (schema {version}; this one knows up to {newest}). "
            "Type: pip install --upgrade potstill"
        )
    return version
