"""What belongs to retrieval and is kept beside the episodes: utility counters and vectors.

What it knows: their tables. What it does not do: ranking, embedding; the index in memory is rebuilt from here.
Vectors are little-endian float32 blobs, one row each, never a pickled index.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from potstill.errors import StoreError
from potstill.trajectories.sql import Connection
from potstill.types import Struct

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from potstill.protocols import FloatMatrix

    FloatVector = NDArray[np.float32]


class Counter(Struct, frozen=True, kw_only=True):
    """How often something was shown, and in how many of these episodes the task was solved."""

    shown: int = 0
    succeeded: int = 0


def bump(connection: Connection, namespace: str, counts: Sequence[tuple[str, int, int]]) -> None:
    connection.executemany(
        "INSERT INTO counters(namespace, key, shown, succeeded) VALUES (?, ?, ?, ?) "
        "ON CONFLICT(namespace, key) DO UPDATE SET "
        "shown = counters.shown + excluded.shown, succeeded = counters.succeeded + excluded.succeeded",
        ((namespace, key, shown, succeeded) for key, shown, succeeded in counts),
    )


def counters(connection: Connection, namespace: str) -> dict[str, Counter]:
    rows = connection.execute(
        "SELECT key, shown, succeeded FROM counters WHERE namespace = ? ORDER BY key", (namespace,)
    )
    return {key: Counter(shown=shown, succeeded=succeeded) for key, shown, succeeded in rows}


def checked_matrix(space: str, ids: Sequence[str], matrix: FloatMatrix) -> FloatMatrix:
    """The matrix as contiguous little-endian float32, shape (len(ids), dimension). Raises ``StoreError``."""
    import numpy as np

    checked = np.ascontiguousarray(matrix, dtype="<f4")
    if checked.ndim != 2 or checked.shape[0] != len(ids) or checked.shape[1] == 0:
        raise StoreError(f"Vectors of space {space!r} have shape {checked.shape}; {len(ids)} ids need ({len(ids)}, d).")
    if not np.isfinite(checked).all():
        raise StoreError(f"Vectors of space {space!r} hold NaN or infinity; only finite numbers can be stored.")
    return checked


def put_vectors(connection: Connection, space: str, ids: Sequence[str], matrix: FloatMatrix) -> None:
    """Add vectors, or replace those whose id is there already (they keep their place)."""
    dimension = int(matrix.shape[1])
    row = connection.execute("SELECT id, dimension FROM spaces WHERE name = ?", (space,)).fetchone()
    if row is None:
        row = connection.execute(
            "INSERT INTO spaces(name, dimension) VALUES (?, ?) RETURNING id, dimension", (space, dimension)
        ).fetchone()
    if row[1] != dimension:
        raise StoreError(
            f"Space {space!r} holds vectors of {row[1]} numbers; these have {dimension}. Use another space."
        )
    connection.executemany(
        "INSERT INTO vectors(space, id, vector) VALUES (?, ?, ?) "
        "ON CONFLICT(space, id) DO UPDATE SET vector = excluded.vector",
        ((row[0], one, matrix[i].tobytes()) for i, one in enumerate(ids)),
    )


def vectors(connection: Connection, space: str) -> tuple[list[str], FloatMatrix]:
    """All ids and vectors of a space in the order in which they were put; an unknown space is empty, shape (0, 0)."""
    import numpy as np

    row = connection.execute("SELECT id, dimension FROM spaces WHERE name = ?", (space,)).fetchone()
    if row is None:
        return [], np.empty((0, 0), dtype=np.float32)
    number, dimension = row
    count = connection.execute("SELECT count(*) FROM vectors WHERE space = ?", (number,)).fetchone()[0]
    matrix = np.empty((count, dimension), dtype=np.float32)
    ids: list[str] = []
    rows = connection.execute("SELECT id, vector FROM vectors WHERE space = ? ORDER BY seq", (number,))
    for i, (one, vector) in enumerate(rows):
        if len(vector) != dimension * 4:
            raise StoreError(f"The vector {one!r} of space {space!r} is damaged. Drop the space and embed again.")
        ids.append(one)
        matrix[i] = np.frombuffer(vector, dtype="<f4")
    return ids, matrix


def nearest(ids: Sequence[str], matrix: FloatMatrix, query: FloatVector, k: int) -> list[tuple[str, float]]:
    """The largest inner products among all, ties in the order in which they were put. Raises ``StoreError``."""
    import numpy as np

    if not ids:
        return []
    check_dimension(matrix.shape[1], len(query))
    scores = matrix @ query
    order = np.argsort(-scores, kind="stable")[: max(0, k)]
    return [(ids[at], float(scores[at])) for at in order]


def check_dimension(held: int, asked: int) -> None:
    if held != asked:
        raise StoreError(f"A query of {asked} numbers does not fit a space whose vectors have {held}.")


def remove_vectors(connection: Connection, space: str, ids: Sequence[str] | None) -> int:
    """Remove some vectors, or (ids None) the space with all it holds."""
    if ids is None:
        count = connection.execute(
            "DELETE FROM vectors WHERE space = (SELECT id FROM spaces WHERE name = ?)", (space,)
        ).rowcount
        connection.execute("DELETE FROM spaces WHERE name = ?", (space,))
        return count
    return connection.executemany(
        "DELETE FROM vectors WHERE space = (SELECT id FROM spaces WHERE name = ?) AND id = ?",
        ((space, one) for one in ids),
    ).rowcount
