"""Filters as data, and their SQL: parameters are always bound, names come from a fixed list.

What it knows: which columns can be filtered, the light row of a listing. What it does not do: connections.
"""

from __future__ import annotations

from typing import TypedDict

from potstill.types import Struct, TrajectoryKind

DEFAULT_NAMESPACE = "default"


class Filters(TypedDict, total=False):
    """What ``select``, ``ids`` and ``summaries`` take. Left out or None: not filtered, except ``namespace``."""

    run_id: str | None
    arm: str | None
    kind: TrajectoryKind | str | None
    environment: str | None
    task_id: str | None
    split: str | None
    namespace: str | None
    """``default`` if left out; None asks for every tenant's episodes and must be said explicitly."""
    success: bool | None
    """True or False; episodes whose outcome is not known match neither."""
    since: float | None
    """Unix seconds, inclusive, compared with ``started_at``."""
    until: float | None
    """Unix seconds, exclusive."""
    before_seq: int | None
    """Only those that were appended before the one with this ``Summary.seq``: the next page of a listing."""
    limit: int | None
    newest_first: bool
    """Order of listing: by when they were appended, oldest first unless this is True."""


class Summary(Struct, frozen=True, kw_only=True):
    """The light row of a listing."""

    id: str
    task_id: str
    environment: str
    split: str
    arm: str
    kind: TrajectoryKind
    seed: int
    success: bool | None
    steps: int
    started_at: float
    run_id: str
    namespace: str
    error: str | None = None
    """The kind of error that the episode broke with."""
    seq: int = 0
    """Its place in the order in which episodes were appended."""


SUMMARY_COLUMNS = (
    "id, task_id, environment, split, arm, kind, seed, success, step_count, started_at, run_id, namespace, "
    "CASE WHEN json_valid(header) THEN json_extract(header, '$.error.kind') END, seq"
)

_EQUAL = ("run_id", "arm", "kind", "environment", "task_id", "split", "namespace")
_KNOWN = frozenset(Filters.__annotations__)


def statement(columns: str, filters: Filters) -> tuple[str, list[object]]:
    """A SELECT over ``trajectories`` and its parameters. Raises ``TypeError`` for a filter that does not exist."""
    if unknown := set(filters) - _KNOWN:
        raise TypeError(f"no filter named {sorted(unknown)[0]!r}; there are: {', '.join(sorted(_KNOWN))}")
    wanted: dict[str, object] = {"namespace": DEFAULT_NAMESPACE, **filters}
    clauses, values = ["TRUE"], []
    for column in _EQUAL:
        if (value := wanted.get(column)) is not None:
            clauses.append(f"{column} = ?")
            values.append(str(value))
    for clause, value in (
        ("success = ?", None if wanted.get("success") is None else int(bool(wanted["success"]))),
        ("started_at >= ?", wanted.get("since")),
        ("started_at < ?", wanted.get("until")),
        ("seq < ?", wanted.get("before_seq")),
    ):
        if value is not None:
            clauses.append(clause)
            values.append(value)  # type: ignore[arg-type]
    order = "DESC" if wanted.get("newest_first") else "ASC"
    limit = wanted.get("limit")
    values.append(-1 if limit is None else limit)  # type: ignore[arg-type]
    return f"SELECT {columns} FROM trajectories WHERE {' AND '.join(clauses)} ORDER BY seq {order} LIMIT ?", list(
        values
    )


def summary(row: tuple[object, ...]) -> Summary:
    names = Summary.__struct_fields__
    fields = dict(zip(names, row, strict=True))
    fields["kind"] = TrajectoryKind(str(fields["kind"]))
    fields["success"] = None if fields["success"] is None else bool(fields["success"])
    return Summary(**fields)  # type: ignore[arg-type]
