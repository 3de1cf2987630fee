"""Keys and spend in the store: what the gate asks of it, over the store's own rows.

What it knows: how a ``VirtualKey`` becomes a row and back, and days as dates. What it does not do: SQL, caches, limits.
All of it blocks; from an event loop call it in a thread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from datetime import UTC, date, datetime
from typing import Any, Protocol

import msgspec

from potstill.errors import StoreError
from potstill.serve.tenants.keys import VirtualKey
from potstill.serve.tenants.limits import NOTHING, Amount
from potstill.trajectories.state import KeyRow, Spend
from potstill.trajectories.writer import CommitUnknown

_EPOCH = date(1970, 1, 1).toordinal()
_LIMITS = ("name", "routes", "budget_usd_per_day", "budget_tokens_per_day", "requests_per_minute", "expires_at")
"""Fields of ``VirtualKey`` that are kept as the row's limits."""


class KeyStore(Protocol):
    """The store, as far as keys and spend go."""

    def add_spend_nowait(self, spent: Iterable[Spend]) -> Future[list[Spend]]: ...

    def spend(
        self, namespace: str | None, *, key_id: str | None = None, since: str | None = None, until: str | None = None
    ) -> list[Spend]: ...

    def put_key(self, key: KeyRow) -> None: ...

    def key_by_id(self, id: str) -> KeyRow | None: ...

    def keys(self, tenant: str | None = None) -> list[KeyRow]: ...

    def revoke_key(self, id: str) -> bool: ...


class StoreRows:
    """``gate.TenantRows`` over a store, and what the admin API and the command line do with keys."""

    def __init__(self, store: KeyStore) -> None:
        self._store = store
        self._unknown: list[Callable[[], Future[list[Spend]]]] = []
        """Additions whose commit may or may not have been one."""

    # --- keys ---------------------------------------------------------------------------------------------------------

    def virtual_key(self, id: str) -> VirtualKey | None:
        row = self._store.key_by_id(id)
        return None if row is None else key_of(row)

    def all_keys(self, tenant: str | None = None) -> list[VirtualKey]:
        """A tenant's, or everybody's; revoked ones among them."""
        return [key_of(row) for row in self._store.keys(tenant)]

    def put(self, key: VirtualKey) -> None:
        """Keep a new key, or new limits of one. Raises ``StoreError`` for an id that is another key's."""
        self._store.put_key(row_of(key))

    def revoke(self, id: str) -> bool:
        """Revoke a key for good, in every process within seconds; False if there is none. Again: does nothing."""
        return self._store.revoke_key(id) or self._store.key_by_id(id) is not None

    # --- spend --------------------------------------------------------------------------------------------------------

    def add_spend(self, batch: Mapping[tuple[str, str, int], Amount]) -> None:
        """Add, never overwrite; all or none; returns when it is durable.

        Returns too where a connection was lost in the commit and the database does not say whether it was one: whoever
        adds the same again might add it twice. It is asked at the next call, and what is missing is added then; the
        process that ends before may have counted too little, never too much.
        """
        self._settle()
        rows = [
            Spend(
                namespace=tenant,
                key_id=key_id,
                day=iso_day(day),
                usd_micros=amount.micros,
                tokens=amount.tokens,
                requests=amount.requests,
            )
            for (tenant, key_id, day), amount in batch.items()
        ]
        self._once(lambda: self._store.add_spend_nowait(rows))

    def _settle(self) -> None:
        """Add what a lost commit turns out not to have added. Raises ``StoreError`` while nobody can be asked."""
        asked, self._unknown = self._unknown, []
        while asked:
            try:
                self._once(asked[0])
            except StoreError:
                self._unknown += asked
                raise
            asked.pop(0)

    def _once(self, add: Callable[[], Future[list[Spend]]]) -> None:
        try:
            add().result()
        except CommitUnknown as error:
            self._unknown.append(error.again)

    def spent(self, tenant: str, key_id: str | None, day: int) -> Amount:
        """Of a key; None: of the whole tenant."""
        self._settle()
        total = NOTHING
        for row in self._store.spend(tenant, key_id=key_id, since=iso_day(day), until=iso_day(day + 1)):
            total = total.plus(Amount(row.usd_micros, row.tokens, row.requests))
        return total

    def spent_on(self, day: int) -> list[Spend]:
        """Everybody's, by tenant and key."""
        return self._store.spend(None, since=iso_day(day), until=iso_day(day + 1))


def iso_day(day: int) -> str:
    """Days since 1970-01-01 as a date."""
    return date.fromordinal(_EPOCH + day).isoformat()


def moment(at: float | None) -> str | None:
    """Unix seconds as a time in UTC, for people; None for what is no time."""
    return (
        None
        if at is None or not 0.0 < at < 253402300800.0
        else datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    )


def row_of(key: VirtualKey) -> KeyRow:
    kept: dict[str, Any] = {}
    for name in _LIMITS:
        value = getattr(key, name)
        if value:  # left out: None, no name, all routes
            kept[name] = list(value) if isinstance(value, tuple) else value
        elif value is not None and name.startswith("budget"):
            kept[name] = value
    return KeyRow(
        id=key.id,
        tenant=key.tenant,
        salt=key.salt,
        digest=key.digest,
        created_at=key.created_at,
        revoked_at=key.revoked_at,
        limits=kept,
    )


def key_of(row: KeyRow) -> VirtualKey:
    """Raises ``StoreError`` for limits that this version cannot read: a key whose limits are unknown opens nothing."""
    fields = {name: getattr(row, name) for name in ("id", "tenant", "salt", "digest", "created_at", "revoked_at")}
    try:
        limits = msgspec.convert(row.limits, _Limits)
    except msgspec.ValidationError as error:
        raise StoreError(
            f"The limits of key '{row.id}' cannot be read: {error}. Revoke it and make a new one."
        ) from None
    return VirtualKey(**fields, **msgspec.structs.asdict(limits))


class _Limits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    name: str = ""
    routes: tuple[str, ...] = ()
    budget_usd_per_day: float | None = None
    budget_tokens_per_day: int | None = None
    requests_per_minute: int | None = None
    expires_at: float | None = None
