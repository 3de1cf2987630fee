"""Approximate nearest vectors through faiss (extra ``faiss``), for more than 300,000 rows, and its file.

What it knows: an inverted-file index that is trained once and again after it quadrupled; a file that is written to the
side, synced and renamed, and carries its own hash. What it does not do: keep the vectors of record (``VectorRecord``):
a lost, cut, foreign or outdated file is rebuilt from them.
"""

from __future__ import annotations

import hashlib
import logging
import math
import struct
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from potstill.durable import replacing
from potstill.errors import ConfigError, MissingExtra
from potstill.protocols import FloatMatrix
from potstill.retrieval.vectors import (
    ExactIndex,
    FloatVector,
    Positions,
    VectorIndex,
    VectorRecord,
    checked_query,
    checked_rows,
    rebuild,
)

FAISS_ABOVE = 300_000
"""Rows above which ``open_index`` prefers faiss: below, exact search takes less than a twentieth of a second."""
TRAIN_AT = 10_000
"""Rows below which an inverted file is not worth training: a flat faiss index answers."""
_MAGIC = b"potstill-faiss-1"
_HEADER = struct.Struct("<16sQ32s32s")  # magic, rows, hash of the ids and rows, hash of the payload
_TRAINED = struct.Struct("<Q")  # how the payload begins: rows at the last training
_log = logging.getLogger(__name__)


def _faiss() -> Any:
    try:
        import faiss  # type: ignore[import-not-found,import-untyped,unused-ignore]
    except ImportError as problem:
        raise MissingExtra("A faiss index", "faiss") from problem
    return faiss


class FaissIndex:
    """IVF-flat by inner product: ``add`` needs no training until the index has quadrupled. Safe in threads.

    ``scores`` gives the rows that the search visited their true score and all others the worst of the visited, which is
    an upper bound of theirs unless the search missed them.
    """

    def __init__(self, dimension: int, *, probes: int = 16, candidates: int = 1000, threads: int = 1) -> None:
        if dimension < 1:
            raise ConfigError(f"A vector index of dimension {dimension} is not possible. Allowed: 1 or more.")
        self._faiss = _faiss()
        self._faiss.omp_set_num_threads(threads)
        self._dimension, self._probes, self._candidates = dimension, probes, candidates
        self._index: Any = self._faiss.IndexFlatIP(dimension)
        self._trained_at = 0
        self._lock = threading.Lock()

    @property
    def dimension(self) -> int:
        return self._dimension

    def __len__(self) -> int:
        return int(self._index.ntotal)

    def add(self, matrix: FloatMatrix) -> None:
        rows = checked_rows(matrix, self._dimension)
        if not len(rows):
            return
        with self._lock:
            total = len(self) + len(rows)
            if total >= TRAIN_AT and total >= 4 * self._trained_at:
                self._train(np.concatenate([self._rows(), rows]))
            else:
                self._index.add(rows)

    def scores(self, query: FloatVector) -> FloatVector:
        positions, values = self.top(query, min(self._candidates, len(self)))
        floor = float(values[-1]) if len(values) else 0.0
        scores = np.full(len(self), floor, dtype=np.float32)
        scores[positions] = values
        return scores

    def top(self, query: FloatVector, k: int, mask: NDArray[np.bool_] | None = None) -> tuple[Positions, FloatVector]:
        """The ``k`` best visited positions where ``mask`` is true, best first; ties go to the earlier position."""
        vector = checked_query(query, self._dimension)
        k = min(k, len(self))
        if k <= 0:
            return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.float32)
        with self._lock:
            values, positions = self._index.search(vector[None, :], k, params=self._parameters(mask))
        found = positions[0] >= 0
        best, order = values[0][found], positions[0][found].astype(np.int64)
        ranks = np.lexsort((order, -best))
        return order[ranks], best[ranks]

    def _parameters(self, mask: NDArray[np.bool_] | None) -> Any:
        chosen: dict[str, Any] = {}
        if mask is not None:
            chosen["sel"] = self._faiss.IDSelectorBatch(np.flatnonzero(mask).astype(np.int64))
        if self._trained_at:
            return self._faiss.SearchParametersIVF(nprobe=self._probes, **chosen)
        return self._faiss.SearchParameters(**chosen) if chosen else None

    def _rows(self) -> FloatMatrix:
        if not len(self):
            return np.empty((0, self._dimension), dtype=np.float32)
        if self._trained_at:
            self._index.make_direct_map()
        rows = np.asarray(self._index.reconstruct_n(0, len(self)), dtype=np.float32)
        return rows

    def _train(self, rows: FloatMatrix) -> None:
        lists = max(16, int(2 * math.sqrt(len(rows))))
        quantizer = self._faiss.IndexFlatIP(self._dimension)
        index = self._faiss.IndexIVFFlat(quantizer, self._dimension, lists, self._faiss.METRIC_INNER_PRODUCT)
        index.cp.max_points_per_centroid, index.cp.niter, index.cp.seed = 64, 8, 1
        index.train(rows)
        index.add(rows)
        self._index, self._trained_at = index, len(rows)

    # --- file -------------------------------------------------------------------------------------------------------

    def save(self, path: Path, ids: Sequence[str], matrix: FloatMatrix) -> None:
        """Write the index so that a kill at any moment leaves the old file or the new one.

        ``ids`` and ``matrix``: what the index was made of, by position; the file names them by a hash.
        """
        if len(ids) != len(self):
            raise ConfigError(f"{len(ids)} ids do not fit an index of {len(self)} rows.")
        with self._lock:
            payload = _TRAINED.pack(self._trained_at) + self._faiss.serialize_index(self._index).tobytes()
        header = _HEADER.pack(_MAGIC, len(ids), _origin(ids, matrix), hashlib.sha256(payload).digest())
        with replacing(path) as file:
            file.write(header)
            file.write(payload)

    @classmethod
    def load(cls, path: Path, ids: Sequence[str], matrix: FloatMatrix, **options: int) -> FaissIndex | None:
        """The index of the first rows of ``ids``, or None if the file is absent, broken or of other vectors."""
        index = cls(int(matrix.shape[1]), **options)
        try:
            data = path.read_bytes()
        except OSError:
            return None
        if len(data) < _HEADER.size + _TRAINED.size:
            return None
        magic, count, origin, digest = _HEADER.unpack_from(data)
        payload = memoryview(data)[_HEADER.size :]
        whole = magic == _MAGIC and hashlib.sha256(payload).digest() == digest
        if not whole or count > len(ids) or _origin(ids[:count], matrix[:count]) != origin:
            return None
        loaded = index._faiss.deserialize_index(np.frombuffer(payload[_TRAINED.size :], dtype=np.uint8))
        if loaded.ntotal != count or loaded.d != index.dimension:
            return None
        index._index = loaded
        (index._trained_at,) = _TRAINED.unpack_from(payload)
        return index


def open_index(
    record: VectorRecord,
    space: str,
    dimension: int,
    *,
    path: Path | None = None,
    kind: str = "auto",
    above: int = FAISS_ABOVE,
) -> tuple[list[str], VectorIndex]:
    """The ids and the index of a space. ``kind``: ``exact``, ``faiss``, or ``auto`` (faiss above ``above`` rows).

    With ``path`` a faiss index is read from there, completed with the rows that came since, or rebuilt, and written
    back if it changed. ``auto`` without faiss installed stays exact (slower, never less right) and logs a warning.
    """
    if kind not in ("auto", "exact", "faiss"):
        raise ConfigError(f"No index kind named '{kind}'. Allowed: auto, exact, faiss.")
    ids, exact = rebuild(record, space, dimension)
    if kind == "exact" or (kind == "auto" and len(ids) <= above):
        return ids, exact
    try:
        return ids, _open_faiss(ids, exact, path)
    except MissingExtra as problem:
        if kind == "faiss":
            raise
        _log.warning("%d vectors are searched exactly. %s", len(ids), problem)
        return ids, exact


def _open_faiss(ids: list[str], exact: ExactIndex, path: Path | None) -> FaissIndex:
    index = FaissIndex.load(path, ids, exact.matrix) if path else None
    if index is None:
        if path and path.exists():
            _log.warning("The faiss index %s is broken or of other vectors; it is rebuilt.", path)
        index = FaissIndex(exact.dimension)
    elif len(index) == len(ids):
        return index
    index.add(exact.matrix[len(index) :])
    if path:
        index.save(path, ids, exact.matrix)
    return index


def _origin(ids: Sequence[str], matrix: FloatMatrix) -> bytes:
    """The hash of ids and rows: a row that was replaced in the record makes the file outdated."""
    digest = hashlib.sha256()
    for identifier in ids:
        raw = identifier.encode("utf-8", "surrogatepass")
        digest.update(len(raw).to_bytes(8, "little") + raw)
    digest.update(np.ascontiguousarray(matrix, dtype=np.float32).data)
    return digest.digest()
