"""The store: recorded episodes in one SQLite file, durable once acknowledged.

What it knows: connections, who may write, the public operations. What it does not do: prices, redaction (callers
redact before they append), HTTP. Synchronous and safe to use from many threads and several processes at once; from
asyncio, ``await asyncio.wrap_future(store.append_nowait(trajectory))``.
"""

from __future__ import annotations

import contextlib
import hashlib
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, Unpack

import msgspec

from potstill.errors import StoreError
from potstill.trajectories import connection as connections
from potstill.trajectories import journal, knowledge, queries, retention, rows
from potstill.trajectories.knowledge import Counter
from potstill.trajectories.learning import LearningMethods
from potstill.trajectories.migrations import MIGRATIONS, migrate, version_of
from potstill.trajectories.playbooks import PlaybookMethods
from potstill.trajectories.queries import Filters, Summary
from potstill.trajectories.records import first_unstorable
from potstill.trajectories.renderings import RenderingMethods
from potstill.trajectories.retention import PruneReport, Segment
from potstill.trajectories.sql import Connection
from potstill.trajectories.state import StateMethods
from potstill.trajectories.traces import TraceMethods
from potstill.trajectories.uses import UseMethods
from potstill.trajectories.writer import NoWriter, Writer
from potstill.types import Blob, Outcome, Struct, Trajectory

if TYPE_CHECKING:
    from potstill.protocols import FloatMatrix
    from potstill.trajectories.knowledge import FloatVector

T = TypeVar("T")

_BEFORE = "segment < ?1 AND (?2 IS NULL OR namespace = ?2)"


class Run(Struct, frozen=True, kw_only=True):
    """A run as it was started: its name, its configuration, when (Unix seconds)."""

    run_id: str
    config: dict[str, Any]
    created_at: float


class Store(RenderingMethods, LearningMethods, PlaybookMethods, StateMethods, TraceMethods, UseMethods):
    """Open with ``Store.open``; close it or use it in a ``with`` block.

    >>> with Store.open("potstill.db") as store:  # doctest: +SKIP
    ...     store.append(trajectory)
    ...     store.get(trajectory.id) == trajectory
    True
    """

    @classmethod
    def open(
        cls,
        path: str | Path,
        *,
        create: bool = True,
        max_bytes: int | None = None,
        clock: Callable[[], float] = time.time,
    ) -> Store:
        """Open a store, bringing an older schema to the newest.

        ``max_bytes`` limits the database file: what would make it larger raises ``DiskFull``. ``clock`` gives Unix
        seconds. Raises ``StoreError`` for a missing file (``create=False``) or one that is no store, ``SchemaTooNew``.
        """
        path = Path(path).expanduser().absolute()
        if not create:
            connections.must_hold_a_store(path)
        elif not path.exists():
            connections.make_folder(path)
        with connections.translated(path):
            connection = connections.connect(path)
            try:
                version_of(connection, path)  # before anything is changed in a file that may not be ours
                connections.prepare_writer(connection, max_bytes)
                migrate(connection, path)
            except BaseException:
                connection.close()
                raise
        return cls(path, Writer(connection, path), clock)

    @classmethod
    def read(cls, path: str | Path) -> Store:
        """Open a store that nothing is written into: a file that is none is neither made nor touched.

        A store of an older schema is read from a temporary copy. What would write raises ``StoreError``. Raises as
        ``open``.
        """
        path = Path(path).expanduser().absolute()
        connections.must_hold_a_store(path)
        with connections.translated(path):
            connection = connections.connect(path, readonly=True)
            try:
                newest = version_of(connection, path) == len(MIGRATIONS)
                store = cls(path, NoWriter(path)) if newest else cls._of_copy(connection, path)
            except BaseException:
                connection.close()
                raise
        store._readers.append(connection) if newest else connection.close()
        return store

    @classmethod
    def _of_copy(cls, connection: sqlite3.Connection, path: Path) -> Store:
        """A store to read, of a copy that may be brought to the newest schema."""
        folder = tempfile.TemporaryDirectory(prefix="potstill-")
        copied = Path(folder.name) / path.name
        with contextlib.closing(sqlite3.connect(copied)) as target:
            connection.backup(target)
        cls.open(copied).close()
        store = cls(copied, NoWriter(path))
        store._copy = folder
        return store

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    # --- episodes ---------------------------------------------------------------------------------------------------

    def append(self, trajectory: Trajectory) -> None:
        """Store an episode; returns when it is durable (fsync). Idempotent: the same episode again does nothing.

        Raises ``StoreError`` if its id belongs to a different one or a value cannot be kept exactly (NaN, wrong
        types), ``DiskFull`` when there is no space; the store is as before then.
        """
        self.append_nowait(trajectory).result()

    def append_nowait(self, trajectory: Trajectory) -> Future[bool]:
        """Queue an episode. The future resolves when it is durable: True if it is new, False if it was there.

        Encoding happens here: what cannot be kept raises ``StoreError`` at once. Waits while the queue is full.
        """
        prepared = rows.prepare(trajectory)
        now = self._clock()
        return self._writer.submit(lambda connection: rows.insert(connection, prepared, now))

    def get(self, id: str, *, namespace: str | None = None) -> Trajectory:
        """Raises ``StoreError`` if there is no such trajectory, in this namespace if one is given, or it is damaged."""
        query = "SELECT seq FROM trajectories WHERE id = ?1 AND (?2 IS NULL OR namespace = ?2)"
        with self._reading() as connection:
            row = connection.execute(query, (id, namespace)).fetchone()
            trajectory = None if row is None else rows.read(connection, row[0])
        if trajectory is None:
            tenant = "" if namespace is None else f" and namespace {namespace!r}"
            raise StoreError(f"No trajectory with id {id!r}{tenant} in {self.path}. Type: potstill trajectories list")
        return trajectory

    def select(self, **filters: Unpack[Filters]) -> Iterator[Trajectory]:
        """Episodes that match, in the order in which they were appended, read one at a time.

        Only namespace ``default`` unless ``namespace=`` says otherwise. Which episodes match is fixed at the start.
        """
        seqs = [seq for (seq,) in self._rows("seq", filters)]
        return self._read_all(seqs)

    def _read_all(self, seqs: list[int]) -> Iterator[Trajectory]:
        for seq in seqs:
            with self._reading() as connection:
                trajectory = rows.read(connection, seq)
            if trajectory is not None:
                yield trajectory

    def ids(self, **filters: Unpack[Filters]) -> list[str]:
        return [id for (id,) in self._rows("id", filters)]

    def summaries(self, **filters: Unpack[Filters]) -> list[Summary]:
        """Light rows for a listing; no bodies are read."""
        return [queries.summary(row) for row in self._rows(queries.SUMMARY_COLUMNS, filters)]

    def set_outcome(self, id: str, outcome: Outcome) -> None:
        """Set or replace an outcome that came later (a human, a judge). Raises ``StoreError`` for an unknown id."""
        body = rows.encode_outcome(outcome, f"the outcome of {id!r}")
        if not self._write(lambda connection: rows.set_outcome(connection, id, outcome, body)):
            raise StoreError(f"No trajectory with id {id!r} in {self.path}. Type: potstill trajectories list")

    # --- retention --------------------------------------------------------------------------------------------------

    def remove(self, ids: Iterable[str]) -> PruneReport:
        """Remove episodes with the content that no other uses, and give their space back. Unknown ids are ignored."""
        wanted = list(ids)
        before, removed = self._bytes(), 0
        for start in range(0, len(wanted), retention.CHUNK):
            removed += self._remove_chunk(wanted[start : start + retention.CHUNK])
        if removed:
            self._give_back()
        return PruneReport(removed=removed, bytes_before=before, bytes_after=self._bytes())

    def _bytes(self) -> int:
        """What the store takes on disk."""
        return connections.files_bytes(Path(self.path))

    def _remove_chunk(self, ids: Sequence[str]) -> int:
        now = self._clock()
        return self._write(lambda connection: retention.remove_chunk(connection, ids, now))

    def prune(self, before: float, *, namespace: str | None = None) -> PruneReport:
        """Remove all day segments (UTC) that ended at or before ``before`` (Unix seconds); the day it falls in stays.

        Open episodes of the journal go by the day of their last call. ``namespace`` None: of every tenant.
        Interrupted, it keeps what it did; type it again.
        """
        size = self._bytes()
        query = f"SELECT id FROM trajectories WHERE {_BEFORE} ORDER BY segment, seq"
        with self._reading() as connection:
            ids = [id for (id,) in connection.execute(query, (rows.segment_of(before), namespace))]
        exchanges = self.prune_journal(before, namespace=namespace)
        report = self.remove(ids)
        if exchanges and not report.removed:
            self._give_back()
        after = self._bytes()
        return PruneReport(removed=report.removed, exchanges=exchanges, bytes_before=size, bytes_after=after)

    def segments(self, *, before: float | None = None, namespace: str | None = None) -> list[Segment]:
        """What each day holds, oldest first; with ``before``, only what ``prune(before)`` would remove."""
        query = (
            "SELECT segment, count(*), sum(step_count) FROM trajectories "
            f"WHERE {_BEFORE} GROUP BY segment ORDER BY segment"
        )
        last = rows.FAR_DAYS + 1 if before is None else rows.segment_of(before)
        with self._reading() as connection:
            found = connection.execute(query, (last, namespace)).fetchall()
        return [Segment(day=retention.day_of(day), trajectories=count, steps=int(steps)) for day, count, steps in found]

    # --- blobs and runs ---------------------------------------------------------------------------------------------

    def put_blob(self, content: bytes, media_type: str) -> Blob:
        """Keep bytes under their SHA-256; put them before the episode that shows them. The same bytes are kept once."""
        blob = Blob(digest=hashlib.sha256(content).hexdigest(), media_type=media_type, size_bytes=len(content))
        values = (blob.digest, media_type, content, self._clock())
        self._write(
            lambda connection: (
                connection.execute(
                    "INSERT INTO blobs(digest, media_type, content, touched_at) VALUES (?, ?, ?, ?) "
                    "ON CONFLICT(digest) DO UPDATE SET touched_at = excluded.touched_at",
                    values,
                ).rowcount
            )
        )
        return blob

    def get_blob(self, digest: str) -> bytes:
        """Raises ``StoreError`` if the store does not hold it, or holds other bytes than the digest says."""
        with self._reading() as connection:
            row = connection.execute("SELECT content FROM blobs WHERE digest = ?", (digest,)).fetchone()
        if row is None:
            raise StoreError(f"No image or other blob {digest} in {self.path}.")
        content = bytes(row[0])
        if hashlib.sha256(content).hexdigest() != digest:
            raise StoreError(f"Blob {digest} in {self.path} is damaged: its bytes have another hash.")
        return content

    def put_run(self, run_id: str, config: dict[str, Any], *, replace: bool = False) -> None:
        """Keep a run's configuration. The same again does nothing; another one needs ``replace=True``."""
        if (problem := first_unstorable(config)) is not None:
            raise StoreError(f"Cannot store the configuration of run {run_id!r}: {problem}.")
        body = msgspec.json.encode(config).decode()
        now = self._clock()

        def work(connection: Connection) -> bool:
            row = connection.execute("SELECT config FROM runs WHERE id = ?", (run_id,)).fetchone()
            if row is not None and row[0] != body and not replace:
                return bool(msgspec.json.decode(row[0]) == msgspec.json.decode(body))
            connection.execute(
                "INSERT INTO runs(id, config, created_at) VALUES (?, ?, ?) "
                "ON CONFLICT(id) DO UPDATE SET config = excluded.config",
                (run_id, body, now),
            )
            return True

        if not self._write(work):
            raise StoreError(f"Run {run_id!r} is in the store with another configuration. Use another run id.")

    def runs(self, *, namespace: str | None = None) -> list[Run]:
        """All runs, oldest first; with ``namespace``, only those whose configuration names this tenant."""
        with self._reading() as connection:
            found = connection.execute("SELECT id, config, created_at FROM runs ORDER BY created_at, rowid").fetchall()
        runs = [Run(run_id=id, config=msgspec.json.decode(config), created_at=at) for id, config, at in found]
        return [run for run in runs if namespace in (None, run.config.get("namespace", queries.DEFAULT_NAMESPACE))]

    def get_run(self, run_id: str, *, namespace: str | None = None) -> dict[str, Any]:
        """A run's configuration. Raises ``StoreError`` if there is no such run, in this namespace if one is given."""
        runs = self.runs(namespace=namespace)
        for run in runs:
            if run.run_id == run_id:
                return run.config
        held = ", ".join(run.run_id for run in runs) or "none"
        raise StoreError(f"No run {run_id!r} in {self.path}. It holds: {held}.")

    # --- counters and vectors (for retrieval) -----------------------------------------------------------------------

    def bump(self, namespace: str, key: str, *, shown: int = 0, succeeded: int = 0) -> None:
        self.bump_many(namespace, [(key, shown, succeeded)])

    def bump_many(self, namespace: str, counts: Sequence[tuple[str, int, int]]) -> None:
        """Add to several counters at once: (key, shown, succeeded)."""
        self._write(lambda connection: knowledge.bump(connection, namespace, counts))

    def counters(self, namespace: str) -> dict[str, Counter]:
        with self._reading() as connection:
            return knowledge.counters(connection, namespace)

    def put_vectors(self, space: str, ids: Sequence[str], matrix: FloatMatrix) -> None:
        """Keep vectors, shape (len(ids), dimension), float32, under a space such as ``namespace/embedder/key``."""
        checked = knowledge.checked_matrix(space, ids, matrix)
        self._write(lambda connection: self._put_vectors(connection, space, ids, checked))

    def vectors(self, space: str) -> tuple[list[str], FloatMatrix]:
        """Ids and matrix of a space in the order in which they were put; ([], shape (0, 0)) if it is unknown."""
        with self._reading() as connection:
            return knowledge.vectors(connection, space)

    def nearest(self, space: str, query: FloatVector, k: int) -> list[tuple[str, float]]:
        """The ``k`` ids whose vectors have the largest inner product with ``query`` (dimension,), best first, and it.

        Compares all of the space's vectors, so for searches now and then; an index in memory is quicker. On PostgreSQL
        with pgvector the server searches. An unknown space is empty. Raises ``StoreError`` for another dimension.
        """
        checked = knowledge.checked_matrix(space, [""], query[None])[0]
        return knowledge.nearest(*self.vectors(space), checked, k)

    def _put_vectors(self, connection: Connection, space: str, ids: Sequence[str], matrix: FloatMatrix) -> None:
        knowledge.put_vectors(connection, space, ids, matrix)

    def remove_vectors(self, space: str, ids: Sequence[str] | None = None) -> int:
        """Remove some vectors of a space, or all of it; returns how many went."""
        return self._write(lambda connection: knowledge.remove_vectors(connection, space, ids))

    # --- inside -----------------------------------------------------------------------------------------------------

    def check(self) -> list[str]:
        """What SQLite's integrity and foreign-key checks complain about; empty if the file is sound."""
        with self._reading() as connection:
            found = [str(row[0]) for row in connection.execute("PRAGMA integrity_check") if row[0] != "ok"]
            found += [f"foreign key: {row}" for row in connection.execute("PRAGMA foreign_key_check")]
            return found + [f"exchange {seq}: its base is missing" for seq in journal.baseless(connection)]

    def _rows(self, columns: str, filters: Filters) -> list[tuple[Any, ...]]:
        sql, values = queries.statement(columns, filters)
        with self._reading() as connection:
            return connection.execute(sql, values).fetchall()
