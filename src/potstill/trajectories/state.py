"""Small state that processes share, and the store's methods for it: rows with a version, spend, leases, tenants' keys.

What it knows: compare-and-set, adding up, who holds a lease. What it does not do: what the rows mean (rollout stages,
drift monitors, switches), prices, how a key is drawn or checked. Of keys it takes salted digests only.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from concurrent.futures import Future
from typing import Any, NamedTuple

import msgspec

from potstill.errors import StoreError
from potstill.trajectories.access import Access
from potstill.trajectories.journal import check_name
from potstill.trajectories.records import first_unstorable
from potstill.trajectories.sql import Connection
from potstill.types import Struct

_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")
_LARGEST = 2**63 - 1
_SALT_BYTES, _DIGEST_BYTES = 8, 32
"""At least."""


class Versioned(NamedTuple):
    """A row of state."""

    version: int
    """How often it was written, from 1."""
    value: Any


class Spend(Struct, frozen=True, kw_only=True):
    """What a tenant's key cost on a day. All three add up over keys and days."""

    namespace: str
    key_id: str = ""
    """Empty: no key was asked for."""
    day: str
    """UTC, ``2026-11-21``."""
    usd_micros: int = 0
    """Millionths of a dollar."""
    tokens: int = 0
    requests: int = 0


class KeyRow(Struct, frozen=True, kw_only=True):
    """A tenant's key as it is kept: enough to check one that is presented, not enough to make it again."""

    id: str
    """Public."""
    tenant: str
    salt: bytes
    digest: bytes
    """Of the key's secret, under the salt."""
    created_at: float = 0.0
    """Unix seconds."""
    revoked_at: float | None = None
    limits: dict[str, Any] = msgspec.field(default_factory=dict)
    """Budgets, rates, allowed models: JSON whose meaning is the caller's."""


class StateMethods(Access):
    """All writes return when they are durable, except those that are ``nowait``."""

    # --- versioned rows ---------------------------------------------------------------------------------------------

    def get_state(self, kind: str, key: str) -> Versioned | None:
        """The newest version and value; None if it was never put."""
        with self._reading() as connection:
            row = connection.execute(
                "SELECT version, body FROM state WHERE kind = ? AND key = ?", (kind, key)
            ).fetchone()
        return None if row is None else Versioned(row[0], msgspec.json.decode(row[1]))

    def states(self, kind: str) -> dict[str, Versioned]:
        """All rows of a kind by their keys."""
        query = "SELECT key, version, body FROM state WHERE kind = ? ORDER BY key"
        with self._reading() as connection:
            found = connection.execute(query, (kind,)).fetchall()
        return {key: Versioned(version, msgspec.json.decode(body)) for key, version, body in found}

    def put_state(self, kind: str, key: str, value: Any, expected_version: int) -> bool:
        """Compare and set: True if the row had ``expected_version`` (0: was not there) and now is one version newer.

        False: somebody else was faster, nothing was changed; read it again and decide again. ``value`` is plain JSON
        data; what JSON cannot carry raises ``StoreError``.
        """
        what = f"state {kind!r} {key!r}"
        for name, text in (("kind", kind), ("key", key)):
            check_name(what, name, text)
        body = _json(value, what)

        def work(connection: Connection) -> bool:
            if expected_version == 0:
                done = connection.execute(
                    "INSERT INTO state(kind, key, version, body) VALUES (?, ?, 1, ?) ON CONFLICT(kind, key) DO NOTHING",
                    (kind, key, body),
                )
            else:
                done = connection.execute(
                    "UPDATE state SET version = version + 1, body = ? WHERE kind = ? AND key = ? AND version = ?",
                    (body, kind, key, expected_version),
                )
            return done.rowcount == 1

        return self._write(work)

    # --- spend ------------------------------------------------------------------------------------------------------

    def add_spend(
        self, namespace: str, key_id: str, day: str, *, usd_micros: int = 0, tokens: int = 0, requests: int = 1
    ) -> Spend:
        """Add to a day's counters; returns what they stand at, with what other processes added."""
        one = Spend(
            namespace=namespace, key_id=key_id, day=day, usd_micros=usd_micros, tokens=tokens, requests=requests
        )
        return self.add_spend_nowait([one]).result()[0]

    def add_spend_nowait(self, spent: Iterable[Spend]) -> Future[list[Spend]]:
        """Queue additions, all or none; the future gives what each counter stands at once they are durable."""
        added = [_checked_spend(one) for one in spent]
        return self._writer.submit(lambda connection: [_add(connection, one) for one in added])

    def spend(
        self,
        namespace: str | None,
        *,
        key_id: str | None = None,
        since: str | None = None,
        until: str | None = None,
    ) -> list[Spend]:
        """Counters by day and key, oldest day first. ``since`` inclusive, ``until`` exclusive; None: not filtered."""
        query = (
            "SELECT namespace, key_id, day, usd_micros, tokens, requests FROM spend "
            "WHERE (?1 IS NULL OR namespace = ?1) AND (?2 IS NULL OR key_id = ?2) "
            "AND (?3 IS NULL OR day >= ?3) AND (?4 IS NULL OR day < ?4) "
            "ORDER BY day, namespace, key_id"
        )
        with self._reading() as connection:
            return [_spend(row) for row in connection.execute(query, (namespace, key_id, since, until))]

    # --- leases -----------------------------------------------------------------------------------------------------

    def lease(self, name: str, holder: str, seconds: float) -> bool:
        """Take or renew a lease: True if ``holder`` has it for so many seconds from now, False if another one does.

        For work that one process at a time should do. It is a promise about time, not a lock: a holder that was
        stopped for longer than its lease may find another at work, so what it writes must bear that.
        """
        if not 0 < seconds < float("inf"):
            raise StoreError(f"A lease lasts a positive number of seconds, not {seconds!r}.")
        for label, text in (("name", name), ("holder", holder)):
            check_name(f"lease {name!r}", label, text)

        def work(connection: Connection) -> bool:
            now = self._clock()
            done = connection.execute(
                "INSERT INTO leases(name, holder, until) VALUES (?1, ?2, ?3) ON CONFLICT(name) DO UPDATE SET "
                "holder = excluded.holder, until = excluded.until WHERE leases.holder = ?2 OR leases.until <= ?4",
                (name, holder, now + seconds, now),
            )
            return done.rowcount == 1

        return self._write(work)

    def release(self, name: str, holder: str) -> bool:
        """Give a lease back before its time; False if ``holder`` did not have it."""
        return self._write(
            lambda connection: (
                connection.execute("DELETE FROM leases WHERE name = ? AND holder = ?", (name, holder)).rowcount == 1
            )
        )

    # --- tenants' keys ----------------------------------------------------------------------------------------------

    def put_key(self, key: KeyRow) -> None:
        """Keep a new key, or new limits of one. What else it is cannot be changed; revoking has its own method.

        Raises ``StoreError`` for an id that is taken by another key, and for a digest that looks like a key's text.
        """
        what = f"key {key.id!r}"
        _check_key(key, what)
        limits = _json(key.limits, f"the limits of {what}")

        def work(connection: Connection) -> bool:
            done = connection.execute(
                "INSERT INTO tenant_keys(id, tenant, salt, digest, created_at, revoked_at, limits) "
                "VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT(id) DO UPDATE SET limits = excluded.limits "
                "WHERE tenant_keys.tenant = excluded.tenant AND tenant_keys.salt = excluded.salt "
                "AND tenant_keys.digest = excluded.digest",
                (key.id, key.tenant, key.salt, key.digest, key.created_at, key.revoked_at, limits),
            )
            return done.rowcount == 1

        if not self._write(work):
            raise StoreError(f"Another key with id {key.id!r} is in the store already. Ids are unique: draw a new one.")

    def key_by_id(self, id: str) -> KeyRow | None:
        """A key, revoked or not; None if there is none."""
        with self._reading() as connection:
            row = connection.execute(f"SELECT {_KEY_COLUMNS} FROM tenant_keys WHERE id = ?", (id,)).fetchone()
        return None if row is None else _key(row)

    def keys(self, tenant: str | None = None) -> list[KeyRow]:
        """A tenant's keys, or (None) everybody's, revoked ones among them, oldest first."""
        query = (
            f"SELECT {_KEY_COLUMNS} FROM tenant_keys WHERE (?1 IS NULL OR tenant = ?1) ORDER BY tenant, created_at, id"
        )
        with self._reading() as connection:
            return [_key(row) for row in connection.execute(query, (tenant,))]

    def revoke_key(self, id: str) -> bool:
        """Revoke a key from now on, for good; False if there is no such key or it was revoked before."""
        return self._write(
            lambda connection: (
                connection.execute(
                    "UPDATE tenant_keys SET revoked_at = ? WHERE id = ? AND revoked_at IS NULL", (self._clock(), id)
                ).rowcount
                == 1
            )
        )


# --- rows -----------------------------------------------------------------------------------------------------------

_KEY_COLUMNS = "id, tenant, salt, digest, created_at, revoked_at, limits"


def _json(value: Any, what: str) -> str:
    """JSON that decodes to an equal value. Raises ``StoreError``."""
    if (problem := first_unstorable(value)) is not None:
        raise StoreError(f"Cannot store {what}: {problem}.")
    try:
        body = msgspec.json.encode(value)
        if msgspec.json.decode(body) == value:
            return body.decode()
        problem = "it holds a value that JSON cannot carry unchanged"
    except (msgspec.MsgspecError, ValueError, TypeError, OverflowError, RecursionError) as error:
        problem = str(error)
    raise StoreError(f"Cannot store {what}: {problem}.")


def _checked_spend(spend: Spend) -> Spend:
    what = f"the spend of {spend.namespace!r}"
    check_name(what, "namespace", spend.namespace)
    if spend.key_id:
        check_name(what, "key_id", spend.key_id)
    if not _DAY.fullmatch(spend.day):
        raise StoreError(f"Cannot store {what}: the day is {spend.day!r}; it must be a date such as 2026-11-21.")
    for name in ("usd_micros", "tokens", "requests"):
        count = getattr(spend, name)
        if type(count) is not int or not -_LARGEST <= count <= _LARGEST:
            raise StoreError(f"Cannot store {what}: {name} is {count!r}; it must be a whole number of 64 bits.")
    return spend


def _add(connection: Connection, spend: Spend) -> Spend:
    row = connection.execute(
        "INSERT INTO spend(namespace, key_id, day, usd_micros, tokens, requests) VALUES (?, ?, ?, ?, ?, ?) "
        "ON CONFLICT(namespace, day, key_id) DO UPDATE SET "
        "usd_micros = spend.usd_micros + excluded.usd_micros, tokens = spend.tokens + excluded.tokens, "
        "requests = spend.requests + excluded.requests "
        "RETURNING namespace, key_id, day, usd_micros, tokens, requests",
        (spend.namespace, spend.key_id, spend.day, spend.usd_micros, spend.tokens, spend.requests),
    ).fetchone()
    return _spend(row)


def _spend(row: tuple[Any, ...]) -> Spend:
    return Spend(**dict(zip(("namespace", "key_id", "day", "usd_micros", "tokens", "requests"), row, strict=True)))


def _check_key(key: KeyRow, what: str) -> None:
    for name, text in (("id", key.id), ("tenant", key.tenant)):
        check_name(what, name, text)
    if not isinstance(key.salt, bytes) or len(key.salt) < _SALT_BYTES:
        raise StoreError(f"Cannot store {what}: its salt must be {_SALT_BYTES} bytes or more.")
    if not isinstance(key.digest, bytes) or len(key.digest) < _DIGEST_BYTES or key.digest.isascii():
        raise StoreError(  # what it is instead may be the key: it is not shown
            f"Cannot store {what}: its digest must be the {_DIGEST_BYTES} bytes or more of a hash. "
            "Only digests of keys are kept, never keys."
        )


def _key(row: tuple[Any, ...]) -> KeyRow:
    id, tenant, salt, digest, created_at, revoked_at, limits = row
    return KeyRow(
        id=id,
        tenant=tenant,
        salt=salt,
        digest=digest,
        created_at=created_at,
        revoked_at=revoked_at,
        limits=msgspec.json.decode(limits),
    )
