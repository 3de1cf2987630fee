"""The journal: exchanges as rows, each stored as what differs from an earlier one of its episode.

What it knows: the table of exchanges and that of open episodes. What it does not do: threads, transactions, folding
(``folding``), or any dialect.

A row is a full copy (no base) or names the row that it is compared with, which came before it in the same episode. Its
digest covers its own frame and its base's digest: a row is known to be whole only with everything that it stands on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from potstill.errors import StoreError
from potstill.trajectories import delta, rows
from potstill.trajectories.delta import Content, Piece
from potstill.trajectories.exchange import Exchange, OpenEpisode, Recorded
from potstill.trajectories.heads import Head, Heads, Key, make_head
from potstill.trajectories.sql import Connection, insert_rows

KEYFRAME_EVERY = 32
"""A full copy at least this often: reading one exchange reads at most as many rows."""
SMALL = 8
"""A frame of an eighth of the bodies is a difference that pays, whatever their common ends are."""
DIGEST_BYTES = 16

_exchange_decoder = msgspec.json.Decoder(Exchange)


class Entry(NamedTuple):
    """An exchange ready to be inserted: nothing is left that can fail but the disk."""

    key: Key
    first_at: float
    last_at: float
    content: Content


class Row(NamedTuple):
    """As it stands in the table."""

    seq: int
    namespace: str
    episode: str
    base: int | None
    depth: int
    digest: bytes
    frame: bytes

    @property
    def key(self) -> Key:
        return self.namespace, self.episode


# --- an exchange as content -----------------------------------------------------------------------------------------


def prepare(exchange: Exchange) -> Entry:
    """Take apart, encode, verify. Raises ``StoreError`` for what cannot be kept exactly."""
    what = f"an exchange of episode {exchange.episode_id!r}"
    for name, value in (("namespace", exchange.namespace), ("episode_id", exchange.episode_id)):
        check_name(what, name, value)
    bare = msgspec.structs.replace(
        exchange,
        request=b"",
        response=b"",
        calls=tuple(
            msgspec.structs.replace(call, request=_present(call.request), response=_present(call.response))
            for call in exchange.calls
        ),
    )
    fields = rows.encode(bare, _exchange_decoder, what).encode()
    requests = [call.request for call in exchange.calls if call.request is not None]
    responses = [call.response for call in exchange.calls if call.response is not None]
    return Entry(
        key=(exchange.namespace, exchange.episode_id),
        first_at=exchange.started_at,
        last_at=exchange.started_at + exchange.latency_s,
        content=Content((exchange.request, *requests), (exchange.response, *responses, fields)),
    )


def check_name(what: str, name: str, value: str) -> None:
    """Raises ``StoreError`` for a text that a database may refuse as a key."""
    if not isinstance(value, str) or not value or "\x00" in value:
        raise StoreError(
            f"Cannot store {what}: its {name} is {value!r}; it must be a text that is not empty, without NUL."
        )


def _present(body: bytes | None) -> bytes | None:
    return None if body is None else b""


def exchange_of(content: Content) -> Exchange:
    """The exchange that ``prepare`` took apart. Raises ``ValueError`` or ``msgspec.MsgspecError`` where none was."""
    bare = _exchange_decoder.decode(content.others[-1])
    bodies, others = iter(content.bodies), iter(content.others[:-1])
    try:
        request, response = next(bodies), next(others)
        calls = tuple(
            msgspec.structs.replace(
                call,
                request=None if call.request is None else next(bodies),
                response=None if call.response is None else next(others),
            )
            for call in bare.calls
        )
    except (StopIteration, RuntimeError) as error:
        raise ValueError("it holds fewer bodies than its fields name") from error
    return msgspec.structs.replace(bare, request=request, response=response, calls=calls)


# --- writing --------------------------------------------------------------------------------------------------------


def append(connection: Connection, heads: Heads, entries: Sequence[Entry]) -> list[int]:
    """Insert inside the caller's transaction; returns the sequence numbers, in order.

    May run again after a rollback: the heads that it leaves behind are then found to stand nowhere.
    """
    seqs = _insert(connection, heads, entries)
    episodes: dict[Key, tuple[int, float, float]] = {}
    for entry in entries:
        count, first, last = episodes.get(entry.key, (0, entry.first_at, entry.last_at))
        episodes[entry.key] = (count + 1, min(first, entry.first_at), max(last, entry.last_at))
    insert_rows(
        connection,
        "INSERT INTO open_episodes(namespace, episode, exchanges, first_at, last_at) VALUES ",
        [(*key, *values) for key, values in episodes.items()],
        " ON CONFLICT(namespace, episode) DO UPDATE SET "
        "exchanges = open_episodes.exchanges + excluded.exchanges, "
        "first_at = min(open_episodes.first_at, excluded.first_at), "
        "last_at = max(open_episodes.last_at, excluded.last_at)",
    )
    return seqs


def _insert(connection: Connection, heads: Heads, entries: Sequence[Entry]) -> list[int]:
    """The database numbers the first; the others follow it, for no other writer is in between."""
    newest = _keep_standing(connection, heads, list(dict.fromkeys(entry.key for entry in entries)))
    seqs: list[int] = []
    rest: list[tuple[object, ...]] = []
    for entry in entries:
        packed = pack(entry, heads.of(entry.key) or newest.get(entry.key, ()))
        row = (*entry.key, packed.base, packed.depth, packed.digest, packed.frame)
        if seqs:
            seqs.append(seqs[-1] + 1)
            rest.append((seqs[-1], *row))
        else:
            seqs.append(int(connection.execute(_INSERT_FIRST, row).fetchone()[0]))
        heads.put(entry.key, head_of(seqs[-1], packed, entry), packed.continues)
    if rest:
        insert_rows(connection, _INSERT_NEXT, rest)
        connection.execute("UPDATE sqlite_sequence SET seq = ? WHERE name = 'journal'", (seqs[-1],))
    return seqs


_INSERT_FIRST = (
    "INSERT INTO journal(namespace, episode, base, depth, digest, frame) VALUES (?, ?, ?, ?, ?, ?) RETURNING seq"
)
_INSERT_NEXT = "INSERT INTO journal(seq, namespace, episode, base, depth, digest, frame) VALUES "


class Packed(NamedTuple):
    """An entry as a row, and the head whose history it continues (its base, unless it is a full copy)."""

    base: int | None
    depth: int
    digest: bytes
    frame: bytes
    continues: Head | None


def head_of(seq: int, packed: Packed, entry: Entry) -> Head:
    return make_head(seq, packed.digest, packed.depth, delta.base_of(entry.content))


def pack(entry: Entry, heads: Sequence[Head]) -> Packed:
    """A difference from the head that leaves least; a full copy where the chain is long or it saves little."""
    content = entry.content
    size = sum(map(len, content.bodies))
    head, found = _closest(heads, content.bodies)
    if head is None:
        return _full_copy(entry, None)
    continues = head if 2 * delta.own_bytes(found) <= size else None
    if head.depth + 1 >= KEYFRAME_EVERY:
        return _full_copy(entry, continues)
    frame = delta.encode(content, found, head.base)
    if continues is None and SMALL * len(frame) <= size:
        continues = head  # the beginning and the end differ, the rest does not
    if continues is None and 5 * len(frame) >= 4 * len((full := _full_copy(entry, None)).frame):
        return full
    return Packed(head.seq, head.depth + 1, digest_of(entry.key, head.digest, frame), frame, continues)


def _full_copy(entry: Entry, continues: Head | None) -> Packed:
    frame = delta.encode(entry.content, delta.pieces(entry.content.bodies, None), None)
    return Packed(None, 0, digest_of(entry.key, b"", frame), frame, continues)


def _closest(heads: Sequence[Head], bodies: Sequence[bytes]) -> tuple[Head | None, tuple[Piece, ...]]:
    best: tuple[Head | None, tuple[Piece, ...]] = (None, ())
    least, size = -1, sum(map(len, bodies))
    for head in reversed(heads):
        found = delta.pieces(bodies, head.base)
        own = delta.own_bytes(found)
        if least < 0 or own < least:
            best, least = (head, found), own
        if size - own >= sum(map(len, head.base.bodies)):
            break  # all of it is repeated: this is what the request goes on from
    return best


def _keep_standing(connection: Connection, heads: Heads, keys: Sequence[Key]) -> dict[Key, list[Head]]:
    """Of these episodes' heads keep those that are rows of the journal. Where there are none (after a restart), returns
    the newest row."""
    read: dict[Key, list[Head]] = {}
    held = {key: heads.of(key) for key in keys}
    digests = _digests(connection, [head.seq for own in held.values() for head in own])
    for key, own in held.items():
        gone = [head for head in own if digests.get(head.seq) != head.digest]
        for head in gone:
            heads.drop(key, head)
        if len(gone) == len(own) and (newest := _newest(connection, key)) is not None:
            heads.put(key, newest)
            read[key] = [newest]
    return read


def _digests(connection: Connection, seqs: Sequence[int]) -> dict[int, bytes]:
    """Of those rows that are there. Asked for in few different numbers: each is a statement to prepare."""
    found: dict[int, bytes] = {}
    for at in range(0, len(seqs), _ASKED):
        some = seqs[at : at + _ASKED]
        places = min(count for count in _COUNTS if count >= len(some))
        query = f"SELECT seq, digest FROM journal WHERE seq IN ({', '.join('?' * places)})"
        found.update(connection.execute(query, (*some, *[some[-1]] * (places - len(some)))).fetchall())
    return found


_COUNTS = (1, 8, 64, 512)
_ASKED = _COUNTS[-1]


def _newest(connection: Connection, key: Key) -> Head | None:
    query = "SELECT max(seq) FROM journal WHERE namespace = ? AND episode = ?"
    seq = connection.execute(query, key).fetchone()[0]
    if seq is None:
        return None
    reader = Reader(skip_damaged=True)  # a row that cannot be read is no reason not to record the next
    reader.read(connection, "seq = ?", (seq,))
    return reader.head(seq)


def digest_of(key: Key, base: bytes, frame: bytes) -> bytes:
    """Of a row: over the digest of its base (empty for a full copy), its episode and its frame."""
    digest = hashlib.blake2b(base, digest_size=DIGEST_BYTES)
    digest.update(msgspec.msgpack.encode(key))
    digest.update(frame)
    return digest.digest()


# --- reading --------------------------------------------------------------------------------------------------------

_CHAINS = """
WITH RECURSIVE wanted(seq, base) AS (SELECT seq, base FROM journal WHERE {where} ORDER BY seq LIMIT {limit}),
chain(seq, base) AS (
  SELECT seq, base FROM wanted
  UNION
  SELECT journal.seq, journal.base FROM journal JOIN chain ON journal.seq = chain.base
)
SELECT seq, namespace, episode, base, depth, digest, frame, seq IN (SELECT seq FROM wanted)
FROM journal WHERE seq IN (SELECT seq FROM chain) ORDER BY seq
"""


class Reader:
    """Reads rows with all that they stand on, once. ``damaged`` collects what it skips; otherwise it raises."""

    def __init__(self, *, skip_damaged: bool = False) -> None:
        self._skip = skip_damaged
        self.damaged: list[int] = []
        self._heads: dict[int, Head] = {}

    def read(
        self, connection: Connection, where: str, values: Sequence[object], limit: int | None = None
    ) -> list[Recorded]:
        """The exchanges of which ``where`` is true, in order. Raises ``StoreError`` for the first damaged row."""
        query = _CHAINS.format(where=where, limit=-1 if limit is None else int(limit))
        found: list[Recorded] = []
        for *fields, wanted in connection.execute(query, tuple(values)):
            row = Row(*fields)
            try:
                content = self._content(row)
                if wanted:
                    found.append(Recorded(seq=row.seq, exchange=exchange_of(content)))
            except (ValueError, msgspec.MsgspecError) as error:
                if not self._skip:
                    raise StoreError(
                        f"Exchange {row.seq} of episode {row.episode!r} (namespace {row.namespace!r}) in the journal "
                        f"is damaged: {error}."
                    ) from error
                if wanted:
                    self.damaged.append(row.seq)
        return found

    def head(self, seq: int) -> Head | None:
        """What was read, to compare others with; None if it is not there or damaged."""
        return self._heads.get(seq)

    def _content(self, row: Row) -> Content:
        base = None if row.base is None else self._heads.get(row.base)
        if row.base is not None and base is None:
            raise ValueError(f"exchange {row.base}, which it builds on, is missing or damaged")
        if digest_of(row.key, b"" if base is None else base.digest, row.frame) != row.digest:
            raise ValueError("its bytes have another hash")
        content = delta.decode(row.frame, None if base is None else base.base)
        self._heads[row.seq] = make_head(row.seq, row.digest, row.depth, delta.base_of(content))
        return content


def last_seq(connection: Connection) -> int:
    """The largest sequence number ever given, 0 for none: rows that are gone count."""
    row = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'journal'").fetchone()
    return 0 if row is None else int(row[0])


def baseless(connection: Connection) -> list[int]:
    """Rows whose base is not there: none, in a sound store."""
    query = (
        "SELECT one.seq FROM journal AS one LEFT JOIN journal AS base ON base.seq = one.base "
        "AND base.namespace = one.namespace AND base.episode = one.episode "
        "WHERE one.base IS NOT NULL AND base.seq IS NULL ORDER BY one.seq"
    )
    return [seq for (seq,) in connection.execute(query)]


def open_episodes(
    connection: Connection,
    namespace: str | None,
    idle_before: float | None,
    outcome_known: bool | None,
    limit: int | None,
) -> list[OpenEpisode]:
    query = (
        "SELECT namespace, episode, exchanges, first_at, last_at, outcome IS NOT NULL FROM open_episodes "
        "WHERE exchanges > 0 AND (?1 IS NULL OR namespace = ?1) AND (?2 IS NULL OR last_at < ?2) "
        "AND (?3 IS NULL OR (outcome IS NOT NULL) = ?3) ORDER BY last_at, namespace, episode LIMIT ?4"
    )
    values = (namespace, idle_before, outcome_known, -1 if limit is None else limit)
    return [
        OpenEpisode(
            namespace=space, episode_id=id, exchanges=count, first_at=first, last_at=last, outcome_known=bool(known)
        )
        for space, id, count, first, last, known in connection.execute(query, values)
    ]
