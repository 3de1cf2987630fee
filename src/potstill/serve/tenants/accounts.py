"""Accounts: what keys and tenants spent today and may still spend, kept together with other processes over the store.

What it knows: meters and buckets (``limits``), which account a key belongs to, when to write and to read. What it does
not do: check keys, choose words for clients (``gate``), or know SQL.

A request is admitted while what is spent, and what requests under way here are expected to spend, is below the budget.
So the budget can be overshot, by no more than: what the requests under way cost above what was expected of them, plus
what other processes spent since they last wrote (about a second), plus the one request that crosses the line. Nothing
is ever stuck below it. A process that is killed forgets what it settled within the last second.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterable
from concurrent.futures import Executor
from typing import NamedTuple, Protocol

from potstill.serve.tenants.limits import MICROS, NOTHING, Amount, Bucket, Carry, Meter, day_of

Owner = tuple[str, str | None]
"""A tenant and its key; None: the tenant as a whole."""
Rows = dict[tuple[str, str, int], Amount]
"""By tenant, key and day."""

NO_KEY = ""
"""The key's id under which requests without a key are counted."""
IDLE_S = 900.0
"""An account unused for this long, with nothing to write, is forgotten (the store knows it)."""
ACTIVE_S = 10.0
"""Accounts used within so long are read every time."""
LOAD_S = 2.0
"""So long the first request of an account waits for the store."""
MANY = 20_000
FIRST_SHARE = 0.01
"""Of a budget: what a request is expected to cost before any was seen. So at most a hundred start unseen."""


class SpendRows(Protocol):
    """Where spend is kept. Blocking; called from a thread."""

    def add_spend(self, batch: Rows) -> None:
        """Add all or none, and never overwrite: other processes add to the same rows."""

    def spent(self, tenant: str, key_id: str | None, day: int) -> Amount:
        """Of a key; None: of the whole tenant."""


class Limit(NamedTuple):
    usd_per_day: float | None = None
    tokens_per_day: int | None = None
    requests_per_minute: int | None = None


UNLIMITED = Limit()


class Account:
    """A key, or a tenant (``key_id`` None), on one day."""

    __slots__ = (
        "_most_micros", "_most_tokens", "asked", "bucket", "key_id", "limit", "limited", "meter", "tenant", "used_at",
    )  # fmt: skip

    def __init__(self, tenant: str, key_id: str | None, limit: Limit, at: float) -> None:
        self.tenant, self.key_id = tenant, key_id
        self._bound(limit)
        self.meter = Meter(day_of(at))
        self.bucket = _bucket(limit, at)
        self.used_at = at
        self.asked = False
        """Whether the store was asked what it knows of the account, in vain or not."""

    def _bound(self, limit: Limit) -> None:
        usd, tokens = limit.usd_per_day, limit.tokens_per_day
        self.limit, self.limited = limit, limit != UNLIMITED
        self._most_micros = math.inf if usd is None else round(usd * MICROS)
        self._most_tokens = math.inf if tokens is None else tokens

    def use(self, limit: Limit, at: float) -> None:
        """Another request: of another day or under another limit than the last, perhaps."""
        self.used_at = at
        if limit is not self.limit and limit != self.limit:
            if limit.requests_per_minute != self.limit.requests_per_minute:
                self.bucket = _bucket(limit, at)
            self._bound(limit)
            self.asked = self.meter.loaded
        self.meter.enter(day_of(at))

    def expects(self, mean: tuple[float, float] | None) -> tuple[int, int]:
        """Micro-dollars and tokens to hold for a request, of the budgets that there are."""
        usd, tokens = self.limit.usd_per_day, self.limit.tokens_per_day
        if mean is None:
            mean = ((usd or 0.0) * FIRST_SHARE, (tokens or 0) * FIRST_SHARE)
        return (0 if usd is None else round(mean[0] * MICROS), 0 if tokens is None else round(mean[1]))

    def exhausted(self, *, held: bool) -> str | None:
        """``usd`` or ``tokens``, where a budget is used up; ``held``: counting what is reserved."""
        meter = self.meter
        if meter.spent_micros + held * meter.held_micros >= self._most_micros:
            return "usd"
        return "tokens" if meter.spent_tokens + held * meter.held_tokens >= self._most_tokens else None


class Accounts:
    """All accounts in use. Used from one event loop; only the reads and writes of ``sync`` and ``load`` leave it."""

    def __init__(self, rows: SpendRows, executor: Executor) -> None:
        self._rows = rows
        self._executor = executor
        self._accounts: dict[Owner, Account] = {}
        self._carries: dict[tuple[str, str], Carry] = {}
        self._waiting: dict[tuple[str, str, int], list[int]] = {}
        self._busy = asyncio.Lock()
        self._forgot_at = float("-inf")
        self.failures = 0
        """How often the store could not be written or read."""

    def open(self, tenant: str, key_id: str | None, limit: Limit, at: float) -> Account:
        account = self._accounts.get((tenant, key_id))
        if account is None:
            account = self._accounts[tenant, key_id] = Account(tenant, key_id, limit, at)
        else:
            account.use(limit, at)
        return account

    def known(self, tenant: str, key_id: str | None) -> list[Account]:
        """Those in use of a tenant and its key; of others nothing is known here."""
        owners = ((tenant, None),) if key_id is None else ((tenant, None), (tenant, key_id))
        return [account for owner in owners if (account := self._accounts.get(owner)) is not None]

    def add(self, tenant: str, key_id: str, at: float, *, micros: int = 0, tokens: int = 0, requests: int = 0) -> None:
        """Count for the key and its tenant, on the day of ``at``. Only in memory; ``sync`` writes."""
        day = day_of(at)
        row = (tenant, key_id, day)
        waiting = self._waiting.get(row)
        if waiting is None:
            self._waiting[row] = [micros, tokens, requests]
        else:
            waiting[0] += micros
            waiting[1] += tokens
            waiting[2] += requests
        for account in (self._accounts.get((tenant, key_id)), self._accounts.get((tenant, None))):
            if account is not None:
                meter = account.meter
                if meter.day != day:
                    meter.enter(day)
                if meter.day == day:
                    meter.add(micros, tokens, requests)

    def micros(self, tenant: str, key_id: str, usd: float) -> int:
        """Whole micro-dollars, what is below one being carried on."""
        if len(self._carries) > MANY:
            self._carries.clear()
        return self._carries.setdefault((tenant, key_id), Carry()).micros(usd)

    async def load(self, accounts: Iterable[Account]) -> None:
        """What the store knows of accounts that are new here.

        Where it fails or takes longer than ``LOAD_S``, nothing is known yet and nobody is refused; ``sync`` asks again.
        """
        try:
            async with asyncio.timeout(LOAD_S), self._busy:
                new = [account for account in accounts if not account.asked]
                if new:
                    await self._flush({}, new)
        except TimeoutError:
            self.failures += 1
        for account in accounts:
            account.asked = True

    async def sync(self, at: float) -> None:
        """Write what was counted, read what all processes counted, forget what is idle. Never raises."""
        async with self._busy:
            batch = {row: Amount(*amount) for row, amount in self._waiting.items()}
            self._waiting = {}
            touched = {owner for tenant, key_id, _ in batch for owner in ((tenant, key_id), (tenant, None))}
            used = [
                account
                for owner, account in self._accounts.items()
                if owner in touched or (account.limited and at - account.used_at <= ACTIVE_S)
            ]
            for account in used:
                account.meter.enter(day_of(at))
                account.meter.flush_begins()
            await self._flush(batch, used)
        if at - self._forgot_at > ACTIVE_S:
            self._forgot_at = at
            self._forget(at)

    async def _flush(self, batch: Rows, accounts: list[Account]) -> None:
        """Write ``batch`` and read ``accounts``; what cannot be written waits for the next time."""
        asked = [(account.tenant, account.key_id, account.meter.day, account.limited) for account in accounts]
        loop = asyncio.get_running_loop()
        failed, totals = await loop.run_in_executor(self._executor, self._write_and_read, batch, asked)
        missed: dict[tuple[Owner, int], Amount] = {}
        for row, amount in failed.items():
            self._waiting[row] = list(Amount(*self._waiting.get(row, NOTHING)).plus(amount))
            for owner in ((row[0], row[1]), (row[0], None)):
                missed[owner, row[2]] = missed.get((owner, row[2]), NOTHING).plus(amount)
        for account, (tenant, key_id, day, _), total in zip(accounts, asked, totals, strict=True):
            others = account.meter.flush_ends(day, total, missed.get(((tenant, key_id), day), NOTHING))
            if account.bucket is not None:
                account.bucket.drain(others)

    def _write_and_read(
        self, batch: Rows, asked: list[tuple[str, str | None, int, bool]]
    ) -> tuple[Rows, list[Amount | None]]:
        """In a thread. A store that failed once is not asked again this time; whatever it raises, counts go on."""
        left = batch
        totals: list[Amount | None] = []
        try:
            if batch:
                self._rows.add_spend(batch)
                left = {}
            for tenant, key_id, day, limited in asked:
                totals.append(self._rows.spent(tenant, key_id, day) if limited else None)
        except Exception:
            self.failures += 1
        return left, totals + [None] * (len(asked) - len(totals))

    def _forget(self, at: float) -> None:
        for owner, account in list(self._accounts.items()):
            if at - account.used_at > IDLE_S and account.meter.idle:
                del self._accounts[owner]


def _bucket(limit: Limit, at: float) -> Bucket | None:
    return None if limit.requests_per_minute is None else Bucket(limit.requests_per_minute, at)
