"""Trajectories as rows: what is computed before writing, the inserts, and the reading back.

What it knows: encodings, digests, the SQL of single trajectories. What it does not do: threads, transactions, filters.

Everything is encoded, hashed and *decoded again* in the caller's thread before it is handed to the writer: what is
acknowledged is known to read back equal.
"""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec

from potstill.errors import StoreError
from potstill.trajectories import records, uses
from potstill.trajectories.records import NOTHING, Flat, Ref
from potstill.trajectories.sql import Connection
from potstill.types import Message, Outcome, Step, ToolSpec, Trajectory

DAY_S = 86400.0
FAR_DAYS = 2**40

_header_decoder = msgspec.json.Decoder(Trajectory)
_step_decoder = msgspec.json.Decoder(Step)
_message_decoder = msgspec.json.Decoder(Message)
_tools_decoder = msgspec.json.Decoder(tuple[ToolSpec, ...])
_outcome_decoder = msgspec.json.Decoder(Outcome)

Hashed = tuple[bytes, str]
"""A digest and the body that it addresses."""


class Prepared(msgspec.Struct, frozen=True):
    """A trajectory ready to be inserted: nothing is left that can fail but the disk."""

    trajectory: Trajectory
    digest: bytes
    header: str
    outcome: str | None
    steps: list[str]
    messages: list[Hashed]
    nodes: list[tuple[bytes, int, int]]
    """Digest, position of the parent node (-1: root), position of the message."""
    toolsets: list[Hashed]
    refs: tuple[Ref, ...]
    blobs: set[str]
    use: str | None = None
    """Of a playbook."""


def encode(value: Any, decoder: msgspec.json.Decoder[Any], what: str) -> str:
    """JSON that is proven to decode to an equal value. Raises ``StoreError`` that names the field otherwise."""
    try:
        text = msgspec.json.encode(value)
        if decoder.decode(text) == value:
            return text.decode()
        problem = "it holds a value that JSON cannot carry unchanged"
    except (msgspec.MsgspecError, ValueError, TypeError, OverflowError, RecursionError) as error:
        problem = str(error)
    raise StoreError(f"Cannot store {what}: {records.first_unstorable(value) or problem}.")


def prepare(trajectory: Trajectory) -> Prepared:
    """Take apart, encode, hash, verify. Raises ``StoreError`` for values that cannot be kept exactly."""
    what = f"trajectory {trajectory.id!r}"
    try:
        flat = records.flatten(trajectory)
    except (TypeError, AttributeError) as error:
        raise StoreError(f"Cannot store {what}: {error}.") from error
    if not -(2**63) <= trajectory.seed < 2**63:
        raise StoreError(f"Cannot store {what}: seed {trajectory.seed} does not fit into 64 bits.")
    bare = flat.bare
    header = encode(msgspec.structs.replace(bare, steps=(), outcome=None), _header_decoder, what)
    outcome = None if bare.outcome is None else encode_outcome(bare.outcome, what)
    steps = [encode(step, _step_decoder, f"{what}, step {i}") for i, step in enumerate(bare.steps)]
    messages = [_hashed(encode(message, _message_decoder, what)) for message in flat.messages]
    toolsets = [_hashed(encode(tools, _tools_decoder, what)) for tools in flat.toolsets]
    nodes = _hash_nodes(flat, messages)
    return Prepared(
        trajectory=trajectory,
        digest=_digest(header, outcome, steps, nodes, toolsets, flat.refs),
        header=header,
        outcome=outcome,
        steps=steps,
        messages=messages,
        nodes=nodes,
        toolsets=toolsets,
        refs=flat.refs,
        blobs=records.blobs(flat),
        use=uses.prepare(trajectory),
    )


def encode_outcome(outcome: Outcome, what: str) -> str:
    return encode(outcome, _outcome_decoder, what)


def node_digest(parent: bytes | None, message: bytes) -> bytes:
    """Address of a prompt: SHA-256 over the parent prompt's address (32 zero bytes at the root) and the message's."""
    return hashlib.sha256((parent or bytes(32)) + message).digest()


def _hashed(body: str) -> Hashed:
    return hashlib.sha256(body.encode()).digest(), body


def _hash_nodes(flat: Flat, messages: list[Hashed]) -> list[tuple[bytes, int, int]]:
    nodes: list[tuple[bytes, int, int]] = []
    for parent, message in flat.nodes:
        above = nodes[parent][0] if parent != NOTHING else None
        nodes.append((node_digest(above, messages[message][0]), parent, message))
    return nodes


def _digest(
    header: str,
    outcome: str | None,
    steps: list[str],
    nodes: list[tuple[bytes, int, int]],
    toolsets: list[Hashed],
    refs: tuple[Ref, ...],
) -> bytes:
    """Address of the whole trajectory as it was appended; an outcome that comes later does not change it."""
    places = [
        (
            r.position,
            r.slot,
            nodes[r.node][0].hex() if r.node >= 0 else "",
            toolsets[r.toolset][0].hex() if r.toolset >= 0 else "",
        )
        for r in refs
    ]
    return hashlib.sha256(msgspec.json.encode((header, outcome, steps, places))).digest()


# --- writing --------------------------------------------------------------------------------------------------------


def insert(connection: Connection, prepared: Prepared, now: float) -> bool:
    """Insert inside the caller's transaction. False: the same trajectory is there already.

    Raises ``StoreError`` if the id is taken by a different one.
    """
    t = prepared.trajectory
    existing = connection.execute("SELECT seq, digest FROM trajectories WHERE id = ?", (t.id,)).fetchone()
    if existing is not None:
        if existing[1] == prepared.digest or read(connection, existing[0]) == t:
            return False
        raise StoreError(
            f"A different trajectory with id {t.id!r} is in the store already. "
            "Ids are unique: give this one another id, or remove the old one first."
        )
    seq = _insert_header(connection, prepared, now)
    connection.executemany(
        "INSERT INTO steps(trajectory, position, body) VALUES (?, ?, ?)",
        ((seq, position, body) for position, body in enumerate(prepared.steps)),
    )
    put_prompts(connection, seq, prepared)
    connection.executemany("INSERT INTO blob_refs VALUES (?, ?)", ((seq, digest) for digest in sorted(prepared.blobs)))
    if prepared.use is not None:
        uses.insert(connection, seq, t, prepared.use)
    return True


def put_prompts(connection: Connection, seq: int, prepared: Prepared) -> None:
    """Messages, prompts and tools of a trajectory whose row is there, and has none."""
    messages = [_intern(connection, "messages", digest, body) for digest, body in prepared.messages]
    nodes = _intern_nodes(connection, prepared.nodes, messages)
    toolsets = [_intern(connection, "toolsets", digest, body) for digest, body in prepared.toolsets]
    connection.executemany(
        "INSERT INTO refs(trajectory, position, slot, node, toolset) VALUES (?, ?, ?, ?, ?)",
        (
            (
                seq,
                r.position,
                r.slot,
                nodes[r.node] if r.node >= 0 else None,
                toolsets[r.toolset] if r.toolset >= 0 else None,
            )
            for r in prepared.refs
        ),
    )


def _insert_header(connection: Connection, prepared: Prepared, now: float) -> int:
    t = prepared.trajectory
    row = {
        "id": t.id,
        "digest": prepared.digest,
        "schema": t.schema,
        "namespace": t.namespace,
        "run_id": t.run_id,
        "environment": t.task.environment,
        "task_id": t.task.id,
        "split": t.task.split,
        "arm": t.arm,
        "kind": t.kind,
        "seed": t.seed,
        "success": _success(t.outcome),
        "started_at": t.started_at,
        "segment": segment_of(t.started_at or now),
        "header": prepared.header,
        "outcome": prepared.outcome,
        "step_count": len(t.steps),
    }
    names, marks = ", ".join(row), ", ".join(f":{name}" for name in row)
    statement = f"INSERT INTO trajectories({names}) VALUES ({marks}) RETURNING seq"
    return int(connection.execute(statement, row).fetchone()[0])


def segment_of(unix_s: float) -> int:
    """The time segment, a day in UTC, as days since 1970. Episodes without a start count from when they were stored."""
    return int(min(max(unix_s // DAY_S, -FAR_DAYS), FAR_DAYS))


def _success(outcome: Outcome | None) -> int | None:
    return None if outcome is None or outcome.success is None else int(outcome.success)


def _intern(connection: Connection, table: str, digest: bytes, body: str) -> int:
    row = connection.execute(f"SELECT id FROM {table} WHERE digest = ?", (digest,)).fetchone()
    if row is None:
        row = connection.execute(
            f"INSERT INTO {table}(digest, body) VALUES (?, ?) RETURNING id", (digest, body)
        ).fetchone()
    return int(row[0])


def _intern_nodes(connection: Connection, nodes: list[tuple[bytes, int, int]], messages: list[int]) -> list[int]:
    ids: list[int] = []
    for digest, parent, message in nodes:
        row = connection.execute("SELECT id FROM nodes WHERE digest = ?", (digest,)).fetchone()
        if row is None:
            row = connection.execute(
                "INSERT INTO nodes(digest, parent, message) VALUES (?, ?, ?) RETURNING id",
                (digest, ids[parent] if parent >= 0 else None, messages[message]),
            ).fetchone()
        ids.append(int(row[0]))
    return ids


def set_outcome(connection: Connection, id: str, outcome: Outcome, body: str) -> bool:
    cursor = connection.execute(
        "UPDATE trajectories SET outcome = ?, success = ? WHERE id = ?", (body, _success(outcome), id)
    )
    return cursor.rowcount == 1


# --- reading --------------------------------------------------------------------------------------------------------

_CHAIN = """
WITH RECURSIVE chain(id, parent, message) AS (
  SELECT id, parent, message FROM nodes WHERE id IN (SELECT node FROM refs WHERE trajectory = ?1)
  UNION
  SELECT nodes.id, nodes.parent, nodes.message FROM nodes JOIN chain ON nodes.id = chain.parent
)
SELECT chain.id, chain.parent, chain.message, messages.body
FROM chain JOIN messages ON messages.id = chain.message ORDER BY chain.id
"""


def read(connection: Connection, seq: int) -> Trajectory | None:
    """One trajectory inside the caller's transaction; None if it is gone. Raises ``StoreError`` for a damaged row."""
    row = connection.execute("SELECT id, header, outcome FROM trajectories WHERE seq = ?", (seq,)).fetchone()
    if row is None:
        return None
    try:
        return records.inflate(_read_flat(connection, seq, row[1], row[2]))
    except (msgspec.MsgspecError, ValueError, KeyError) as error:
        raise StoreError(f"Trajectory {row[0]!r} in the store is damaged: {error}.") from error


def _read_flat(connection: Connection, seq: int, header: str, outcome: str | None) -> Flat:
    bodies = connection.execute("SELECT body FROM steps WHERE trajectory = ? ORDER BY position", (seq,))
    bare = msgspec.structs.replace(
        _header_decoder.decode(header),
        steps=tuple(_step_decoder.decode(body) for (body,) in bodies),
        outcome=None if outcome is None else _outcome_decoder.decode(outcome),
    )
    node_at: dict[int | None, int] = {None: NOTHING}
    message_at: dict[int, int] = {}
    nodes: list[tuple[int, int]] = []
    messages: list[Message] = []
    for node, parent, message, body in connection.execute(_CHAIN, (seq,)):  # parents have smaller ids: they come first
        if message not in message_at:
            message_at[message] = len(messages)
            messages.append(_message_decoder.decode(body))
        node_at[node] = len(nodes)
        nodes.append((node_at[parent], message_at[message]))
    tools_at: dict[int | None, int] = {None: NOTHING}
    toolsets: list[tuple[ToolSpec, ...]] = []
    query = "SELECT id, body FROM toolsets WHERE id IN (SELECT toolset FROM refs WHERE trajectory = ?)"
    for toolset, body in connection.execute(query, (seq,)):
        tools_at[toolset] = len(toolsets)
        toolsets.append(_tools_decoder.decode(body))
    query = "SELECT position, slot, node, toolset FROM refs WHERE trajectory = ?"
    refs = tuple(Ref(p, s, node_at[n], tools_at[t]) for p, s, n, t in connection.execute(query, (seq,)))
    return Flat(bare=bare, messages=tuple(messages), nodes=tuple(nodes), toolsets=tuple(toolsets), refs=refs)
