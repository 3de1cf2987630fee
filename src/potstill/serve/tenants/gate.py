"""The gate: who may ask, for which routes, how often, and for how much a day.

What it knows: virtual keys, tenants and their limits, and the words in which a client is refused. What it does not do:
HTTP, dialects, prices. A key that is refused is never repeated, stored or logged: it may be a provider's.

An admission of a key in use takes microseconds and touches no store: see ``key_cache`` for how soon a revocation is
seen and ``accounts`` for how far a budget can be overshot.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from enum import Enum
from typing import NamedTuple, Protocol

from potstill.errors import StoreError
from potstill.serve.seams import Admission
from potstill.serve.settings import Tenant
from potstill.serve.tenants import keys
from potstill.serve.tenants.accounts import NO_KEY, UNLIMITED, Account, Accounts, Limit, SpendRows
from potstill.serve.tenants.key_cache import KeyCache, KeyRows
from potstill.serve.tenants.keys import Presented, VirtualKey
from potstill.serve.tenants.limits import MICROS, Means, day_of, until_tomorrow_s
from potstill.wire.dialect import Problem

SYNC_S = 1.0
"""How often spend is written and read, and keys in use are read again."""
HELD_S = 5.0
"""When to ask again, where what is left of a budget is held for requests under way."""
UNSEEN_USD = 0.01
"""The most that is charged for a request of unknown cost where none before it has shown what they cost: a cent."""
LOST_S = 3600.0
"""What is held for a request that was never settled is let go after this."""
OPEN_TENANT = "default"
"""Whose requests those without a key are, where no key is required."""


_log = logging.getLogger("potstill.gateway")


class TenantRows(KeyRows, SpendRows, Protocol):
    """What the gate asks of the store. Blocking; called from threads."""


class _Held(NamedTuple):
    account: Account
    micros: int
    tokens: int


class _Ticket(NamedTuple):
    at: float
    held: Sequence[_Held]
    micros: int
    """The most that was held of any account: what is charged where nobody can say what it cost."""
    tokens: int
    learned: bool
    """What is held comes from requests that were seen, not from the budget."""

    @property
    def guess(self) -> tuple[int, int]:
        """Micro-dollars and tokens of a request of which nobody can say what it cost."""
        return self.micros if self.learned else min(self.micros, round(UNSEEN_USD * MICROS)), self.tokens


class _Ask(Enum):
    ASK = "the store must be asked"


_ASK = _Ask.ASK


class TenantGate:
    """A ``seams.Gate`` for one event loop. ``start`` keeps it in step with the store, ``aclose`` writes the rest."""

    def __init__(
        self,
        rows: TenantRows,
        tenants: Sequence[Tenant] = (),
        *,
        keys_required: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._tenants = {tenant.name: tenant for tenant in tenants}
        self._limits = {
            one.name: _limit(one.budget_usd_per_day, one.budget_tokens_per_day, one.requests_per_minute)
            for one in tenants
        }
        self._keys_required = keys_required
        self._clock = clock
        self._readers = ThreadPoolExecutor(2, thread_name_prefix="potstill-keys")
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="potstill-spend")
        self.cache = KeyCache(rows, self._readers)
        self.accounts = Accounts(rows, self._writer)
        self._key_limits: dict[str, tuple[VirtualKey, Limit]] = {}
        self._means = Means()
        self._tickets: dict[int, _Ticket] = {}
        self._last_ticket = 0
        self._stopping = asyncio.Event()
        self._loop: asyncio.Task[None] | None = None
        self.refused: Counter[str] = Counter()
        """By kind of problem."""
        self.unpriced = 0
        """Requests of which nobody could say what they cost."""
        self.lost = 0
        """Admissions that were never settled."""

    # --- who may ask ------------------------------------------------------------------------------------------------

    async def admit(self, key: str | None, route: str, at: float) -> Admission | Problem:
        """See ``seams.Gate``. Waits for the store only where the key or its account is new here.

        An empty route: whose key is this? For requests that ask no model; no limit is looked at, nothing is counted.
        """
        owner = self._seen(key, at)
        if isinstance(owner, _Ask):
            owner = await self._asked(key or "", at)
        found = owner if isinstance(owner, Problem) else await self._let_in(owner, route, at)
        if isinstance(found, Problem):
            self.refused[found.kind] += 1
        return found

    async def _let_in(self, owner: VirtualKey | None, route: str, at: float) -> Admission | Problem:
        tenant, key_id = (OPEN_TENANT, None) if owner is None else (owner.tenant, owner.id)
        if not route:
            return Admission(tenant=tenant, key_id=key_id)
        known = self._tenants.get(tenant)
        for allowed in (() if known is None else known.models, () if owner is None else owner.routes):
            if allowed and not keys.may_ask(allowed, route):
                return _not_allowed(route, allowed)
        limited = self._limited(tenant, owner, at)
        ticket = 0
        if limited:
            if not all(account.asked for account in limited):
                await self.accounts.load(limited)
            problem = _within_limits(limited, at)
            if problem is not None:
                return problem
            ticket = self._hold(limited, self._means.get((tenant, route)), at)
        self.accounts.add(tenant, key_id or NO_KEY, at, requests=1)
        return Admission(tenant=tenant, key_id=key_id, route=route, ticket=ticket)

    def _limited(self, tenant: str, owner: VirtualKey | None, at: float) -> list[Account]:
        """The accounts that bound this request: its tenant's and its key's, where they have limits."""
        found = []
        limit = self._limits.get(tenant, UNLIMITED)
        if limit is not UNLIMITED:
            found.append(self.accounts.open(tenant, None, limit, at))
        if owner is not None and (limit := self._limit(owner)) is not UNLIMITED:
            found.append(self.accounts.open(tenant, owner.id, limit, at))
        return found

    def _seen(self, key: str | None, at: float) -> VirtualKey | Problem | _Ask | None:
        """The key's row; None: no key is needed and none of ours was sent; ``_ASK``: the store must be asked."""
        if key is None or not key.startswith(keys.PREFIX):
            return (_NO_KEY if not key else _NOT_OURS) if self._keys_required else None
        presented = keys.parse(key)
        if presented is None:
            return _WRONG
        row = self.cache.known(presented.id, at)
        return _ASK if row is None else _checked(row, presented, at)

    async def _asked(self, key: str, at: float) -> VirtualKey | Problem:
        presented = keys.parse(key)
        if presented is None:
            return _WRONG
        try:
            return _checked(await self.cache.find(presented.id, at), presented, at)
        except StoreError:
            return _CANNOT_TELL

    def _limit(self, key: VirtualKey) -> Limit:
        """The same object for the same row, which spares comparing at each request."""
        known = self._key_limits.get(key.id)
        if known is not None and known[0] is key:
            return known[1]
        if len(self._key_limits) > 20_000:
            self._key_limits.clear()
        limit = _limit(key.budget_usd_per_day, key.budget_tokens_per_day, key.requests_per_minute)
        self._key_limits[key.id] = (key, limit)
        return limit

    # --- what it costs ----------------------------------------------------------------------------------------------

    def _hold(self, accounts: Sequence[Account], mean: tuple[float, float] | None, at: float) -> int:
        """Take from the buckets, and hold what the request is expected to spend of each budget."""
        held = []
        most_micros = most_tokens = 0
        for account in accounts:
            if account.bucket is not None:
                account.bucket.take()
            micros, tokens = account.expects(mean)
            if micros or tokens:
                account.meter.hold(micros, tokens)
                held.append(_Held(account, micros, tokens))
                most_micros, most_tokens = max(most_micros, micros), max(most_tokens, tokens)
        if not held:
            return 0
        self._last_ticket += 1
        self._tickets[self._last_ticket] = _Ticket(at, held, most_micros, most_tokens, mean is not None)
        return self._last_ticket

    def settle(
        self,
        admission: Admission,
        *,
        usd: float | None,
        tokens: int,
        at: float,
        unknown: bool = False,
        guessed: bool = False,
    ) -> None:
        """See ``seams.Gate``. Sums that are no number count as unknown; negative ones as nothing."""
        ticket = self._let_go(admission.ticket)
        key_id = admission.key_id or NO_KEY
        known = usd if usd is not None and math.isfinite(usd) else None
        tokens, unknown = max(0, tokens), unknown or known is None
        self.unpriced += unknown or guessed
        micros = self.accounts.micros(admission.tenant, key_id, max(0.0, known or 0.0))
        if unknown:
            more = (0, 0) if ticket is None else ticket.guess
            micros, tokens = micros + more[0], tokens or more[1]
        elif micros or known or tokens:
            self._means.see((admission.tenant, admission.route), max(0.0, known or 0.0), tokens)
        if micros or tokens:
            self.accounts.add(admission.tenant, key_id, at, micros=micros, tokens=tokens)

    def may_spend(self, tenant: str, key_id: str | None) -> bool:
        """Whether a tenant and its key have budget left for work that no client waits for."""
        day = day_of(self._clock())
        for account in self.accounts.known(tenant, key_id):
            account.meter.enter(day)
            if account.exhausted(held=True) is not None:
                return False
        return True

    def _let_go(self, number: int) -> _Ticket | None:
        ticket = self._tickets.pop(number, None)
        for account, micros, tokens in () if ticket is None else ticket.held:
            account.meter.hold(-micros, -tokens)
        return ticket

    # --- in step with the store -------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Begin to keep in step with the store, in the background."""
        self._loop = asyncio.create_task(self._keep_in_step())

    async def aclose(self) -> None:
        """Write what is not yet written and stop."""
        self._stopping.set()
        if self._loop is not None:
            await self._loop
        await self.accounts.sync(self._clock())
        self._readers.shutdown(wait=False, cancel_futures=True)
        self._writer.shutdown(wait=False)

    async def sync(self) -> None:
        """What happens every ``SYNC_S``. Never raises."""
        at = self._clock()
        for number in [number for number, ticket in self._tickets.items() if at - ticket.at > LOST_S]:
            self._let_go(number)
            self.lost += 1
        await asyncio.gather(self.accounts.sync(at), self.cache.refresh(at))

    async def _keep_in_step(self) -> None:
        while not self._stopping.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), SYNC_S)
            try:
                await self.sync()
            except Exception:
                _log.exception("the gate could not be brought in step with the store")

    def counters(self) -> Mapping[str, int]:
        """For metrics and the status page."""
        return {
            "unpriced": self.unpriced,
            "lost": self.lost,
            "store_failures": self.accounts.failures + self.cache.failures,
            **{f"refused_{kind}": count for kind, count in self.refused.items()},
        }


def _limit(usd: float | None, tokens: int | None, requests: int | None) -> Limit:
    """``UNLIMITED`` itself where there is none."""
    limit = Limit(usd, tokens, requests)
    return UNLIMITED if limit == UNLIMITED else limit


def _checked(row: VirtualKey | None, presented: Presented, at: float) -> VirtualKey | Problem:
    """The secret is compared first: who does not have it learns nothing about the key."""
    if not keys.matches(row, presented) or row is None:
        return _WRONG
    if row.revoked_at is not None:
        return _REVOKED
    return _EXPIRED if row.expires_at is not None and at >= row.expires_at else row


# --- refusals ---------------------------------------------------------------------------------------------------------


def _unauthorized(message: str) -> Problem:
    return Problem(status=401, kind="authentication", message=message, code="invalid_api_key")


_HOW = "Send a virtual key as 'Authorization: Bearer psk_...' or as 'x-api-key: psk_...'."
_NO_KEY = _unauthorized(f"No key was sent. {_HOW}")
_NOT_OURS = _unauthorized(f"This is no virtual key of the gateway; a provider's key is not wanted here. {_HOW}")
_WRONG = _unauthorized("The virtual key is not valid. Check that it was copied whole, or ask for a new one.")
_REVOKED = _unauthorized("The virtual key was revoked. Ask for a new one.")
_EXPIRED = _unauthorized("The virtual key has expired. Ask for a new one.")
_CANNOT_TELL = Problem(
    status=503, kind="overloaded", message="The virtual key cannot be checked at the moment.", retry_after_s=2.0
)


def _not_allowed(route: str, allowed: tuple[str, ...]) -> Problem:
    shown = ", ".join(allowed[:20])
    message = f"This key may not ask for '{route[:200]}'. It may ask for: {shown}."
    return Problem(status=403, kind="permission", message=message, code="model_not_allowed")


def _within_limits(accounts: Sequence[Account], at: float) -> Problem | None:
    """Budgets first: a request that is refused for its budget takes nothing from the rate."""
    for account in accounts:
        if (problem := _budget_problem(account, at)) is not None:
            return problem
    wait_s, slowest = 0.0, None
    for account in accounts:
        if account.bucket is not None and (own_s := account.bucket.wait_s(at)) > wait_s:
            wait_s, slowest = own_s, account
    if slowest is None:
        return None
    limit = slowest.limit.requests_per_minute
    message = f"{_whose(slowest)} may send {limit} requests a minute. Try again in {wait_s:.1f} s."
    return Problem(
        status=429, kind="rate_limit", message=message, code="rate_limit_exceeded", retry_after_s=round(wait_s, 3)
    )


def _budget_problem(account: Account, at: float) -> Problem | None:
    what = account.exhausted(held=True)
    if what is None:
        return None
    limit = account.limit
    budget = f"${limit.usd_per_day:g}" if what == "usd" else f"{limit.tokens_per_day:,} tokens"
    whose = _whose(account).lower()
    if account.exhausted(held=False) is None:
        message = f"What is left of the budget of {budget} a day is held for requests under way ({whose}). Try again."
        return Problem(status=429, kind="rate_limit", message=message, code="rate_limit_exceeded", retry_after_s=HELD_S)
    wait_s = until_tomorrow_s(at)
    message = f"The budget of {budget} a day (UTC) is used up ({whose}). Try again in {wait_s:,.0f} s."
    return Problem(status=429, kind="quota", message=message, code="insufficient_quota", retry_after_s=round(wait_s, 3))


def _whose(account: Account) -> str:
    return "This tenant" if account.key_id is None else "This key"
