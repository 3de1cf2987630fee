"""The ledger: what one billed call costs, part by part.

What it knows: which price row a call is billed by, the tier that its prompt falls into, and how tokens become dollars
(``price_usage`` has the only formula).
What it does not do: simulate caches (``cache.py``), add up episodes (``summary.py``), or guess: tokens that nobody
reported give a cost of ``None``, never zero.

A row adds up twice: ``uncached + read + write`` tokens are the input, and the dollar parts are the whole.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import msgspec

from potstill.errors import ConfigError
from potstill.measure.prices.rows import TOKENS_PER_RATE, ModelPrice, Rates
from potstill.measure.prices.table import PriceTable
from potstill.types import Answerer, Call, Purpose, Struct, Usage

CachePolicy = Literal["reported", "simulated", "none"]
"""``reported``: cache counts as the endpoint gave them (none given: no hits). ``simulated``: as reported by the model
that is priced, simulated for others. ``none``: every input token at the full rate."""

NOT_BILLED = frozenset({"KeyRefused", "RateLimited", "ModelUnavailable", "ContextOverflow"})
"""Errors of requests that a provider turned away: it bills nothing for them. A time-out may have been billed."""

CacheTtl = Literal["provider", "1h"]
"""Which lifetime a simulated cache is written with. ``1h``: an hour, at its own write rate, where a provider lists one;
elsewhere the provider's only lifetime."""


class Pricing(Struct, frozen=True, kw_only=True):
    """How calls are priced where their own list price is not wanted. Names are those of ``PriceTable.price``."""

    student_as: str | None = None
    teacher_as: str | None = None
    service: str = "standard"
    """Service level: ``standard``, ``batch``, ``flex``, ``priority`` or ``fast``."""
    student_service: str | None = None
    teacher_service: str | None = None
    """Of one side's calls alone, in place of ``service``."""
    cache_ttl: CacheTtl = "provider"
    cache_reliability: float = 1.0
    """Share of what a simulated cache holds that is found in it. Providers promise none: 1 is the most that a cache can
    give, recorded runs of two OpenAI models had 0.85 and 0.91 of it (``bench/plan_recorded.py``)."""

    def __post_init__(self) -> None:
        if not 0 <= self.cache_reliability <= 1:
            raise ConfigError(f"Cache reliability is {self.cache_reliability}; allowed: 0 to 1, for example 0.85.")

    def service_for(self, call: Call) -> str:
        """The service level that ``call`` is priced at."""
        own = {Answerer.STUDENT: self.student_service, Answerer.TEACHER: self.teacher_service}.get(call.answerer)
        return own or self.service

    def name_for(self, call: Call) -> str | None:
        """The model that ``call`` is priced as, or ``None`` if by its own name."""
        if call.answerer is Answerer.STUDENT and self.student_as:
            return self.student_as
        if call.answerer is Answerer.TEACHER and self.teacher_as:
            return self.teacher_as
        return call.priced_as


AS_RECORDED = Pricing()


class Basis(msgspec.Struct, frozen=True, kw_only=True):
    """By what a call is priced. ``price`` None: by CPU time at ``cpu_hour_usd``."""

    price: ModelPrice | None
    priced_as: str | None = None
    cpu_hour_usd: float | None = None


class LedgerRow(Struct, frozen=True, kw_only=True):
    """One call with its tokens and dollars. Tokens and dollars are ``None`` where they are not known."""

    model: str
    answerer: Answerer
    purpose: Purpose
    priced_as: str | None = None
    """The model whose price was used, if not its own; ``cpu`` for CPU time."""
    price_row: str | None = None
    prices_date: str
    tier_above_tokens: int | None = None
    cache: CachePolicy = "reported"
    usage: Usage | None = None
    """The tokens as they were priced (after cache simulation, if any)."""
    uncached_usd: float | None = None
    read_usd: float | None = None
    write_usd: float | None = None
    output_usd: float | None = None
    compute_usd: float | None = None
    """CPU time of a local model; it has no token price, so the other parts are zero then."""

    @property
    def total_usd(self) -> float | None:
        """The sum of the parts; ``None`` if any is unknown."""
        parts = (self.uncached_usd, self.read_usd, self.write_usd, self.output_usd, self.compute_usd)
        known = [part for part in parts if part is not None]
        return sum(known) if len(known) == len(parts) else None


class Parts(NamedTuple):
    """What tokens cost, in US dollars, and by which row and tier. The parts are all of it."""

    uncached_usd: float
    read_usd: float
    write_usd: float
    output_usd: float
    tier_above_tokens: int | None
    price_row: str

    @property
    def total_usd(self) -> float:
        return self.uncached_usd + self.read_usd + self.write_usd + self.output_usd


def price_usage(
    usage: Usage, model: str, table: PriceTable, *, service: str = "standard", date: str | None = None
) -> Parts:
    """What the tokens of one request cost, without a ``Call`` around them: made for logs of millions of requests.

    ``service``: ``standard``, ``batch``, ``flex``, ``priority`` or ``fast``. ``date`` (ISO): prices of that day instead
    of the table's. Raises ``UnknownPrice``.

    >>> table = PriceTable.load(date="2026-11-21")
    >>> price_usage(Usage(input_tokens=1_000_000, output_tokens=100), "claude-sonnet-5-5", table).total_usd
    2.001
    """
    return price_tokens(usage, (table if date is None else table.on(date)).price(model, service))


def rates_for(
    model: str, input_tokens: int, table: PriceTable, *, service: str = "standard", date: str | None = None
) -> Rates:
    """Dollars per million tokens of a request of ``input_tokens``, its tier applied. Raises ``UnknownPrice``."""
    return (table if date is None else table.on(date)).price(model, service).rates_for(input_tokens)[0]


def price_tokens(usage: Usage, price: ModelPrice, requests: int = 1) -> Parts:
    """What the tokens of ``requests`` equal requests cost. The length of one decides the tier, not the sum."""
    rates, tier = price.rates_for(usage.input_tokens // requests)
    read, written, written_1h = usage.cache_read_tokens, usage.cache_write_tokens, usage.cache_write_1h_tokens
    spoken = usage.output_tokens - usage.reasoning_tokens
    return Parts(
        (usage.input_tokens - read - written) * rates.input / TOKENS_PER_RATE,
        read * rates.read_rate / TOKENS_PER_RATE if read else 0.0,
        ((written - written_1h) * rates.write_rate + written_1h * rates.write_1h_rate) / TOKENS_PER_RATE
        if written
        else 0.0,
        (spoken * (rates.output or 0.0) + usage.reasoning_tokens * (rates.reasoning_rate or 0.0)) / TOKENS_PER_RATE,
        tier,
        price.row,
    )


def basis_of(call: Call, table: PriceTable, pricing: Pricing = AS_RECORDED) -> Basis:
    """By what ``call`` is priced: as another model, by its own list price, or by CPU time, in this order.

    Raises ``UnknownPrice`` if there is none.
    """
    name = pricing.name_for(call)
    if name is not None:
        return Basis(price=table.price(name, pricing.service_for(call)), priced_as=name)
    if table.cpu_hour_usd is not None and not table.has(call.model):
        return Basis(price=None, priced_as="cpu", cpu_hour_usd=table.cpu_hour_usd)
    return Basis(price=table.price(call.model, pricing.service_for(call)))


def cost_of(
    call: Call,
    table: PriceTable,
    *,
    cache: CachePolicy = "reported",
    pricing: Pricing = AS_RECORDED,
    usage: Usage | None = None,
) -> LedgerRow:
    """The ledger row of one call.

    ``usage`` replaces the recorded tokens, for a cache simulation: on its own a call meets a cold cache, so with
    ``cache="simulated"`` use ``potstill.measure.cache.ledger``, which walks the calls of an episode in order.
    Raises ``UnknownPrice`` if the model has no price.
    """
    basis = basis_of(call, table, pricing)
    requests = requests_of(call, basis)
    tokens = usage if usage is not None else _apart(call.usage, requests)
    if tokens is not None and cache == "none":
        tokens = without_cache(tokens)
    head = LedgerRow(
        model=call.model,
        answerer=call.answerer,
        purpose=call.purpose,
        priced_as=basis.priced_as,
        price_row=basis.price.row if basis.price is not None else None,
        prices_date=table.date,
        cache=cache,
        usage=tokens,
    )
    if turned_away(call):
        return _with_parts(head, 0.0, 0.0, 0.0, 0.0, 0.0)
    if basis.price is None:
        return _by_cpu(head, call, basis.cpu_hour_usd or 0.0)
    return head if tokens is None else _by_tokens(head, tokens, basis.price, requests)


def requests_of(call: Call, basis: Basis) -> int:
    """How many requests the model that is priced would have needed for what one call gave.

    A model of one's own reads the prompt once for n samples. Priced as a model whose provider bills the prompt for each
    sample, such a call is n requests. Calls priced by their own name were billed as they were made.
    """
    if basis.price is None or basis.priced_as is None or basis.price.cache.n_shares_prompt:
        return 1
    return max(1, len(call.replies))


def _apart(usage: Usage | None, requests: int) -> Usage | None:
    """The tokens of ``requests`` requests with the same prompt; of the repeated ones nothing is known to be cached."""
    if usage is None or requests == 1:
        return usage
    return msgspec.structs.replace(usage, input_tokens=usage.input_tokens * requests)


def turned_away(call: Call) -> bool:
    """The provider refused the request before answering, and so did not bill it."""
    return call.usage is None and not call.replies and call.error is not None and call.error.kind in NOT_BILLED


def without_cache(usage: Usage) -> Usage:
    """The same tokens as if nothing were cached."""
    changes = {"cache_read_tokens": 0, "cache_write_tokens": 0, "cache_write_1h_tokens": 0}
    return msgspec.structs.replace(usage, **changes)


def _by_tokens(head: LedgerRow, usage: Usage, price: ModelPrice, requests: int) -> LedgerRow:
    parts = price_tokens(usage, price, requests)
    row = _with_parts(head, parts.uncached_usd, parts.read_usd, parts.write_usd, parts.output_usd, 0.0)
    return msgspec.structs.replace(row, tier_above_tokens=parts.tier_above_tokens)


def _by_cpu(head: LedgerRow, call: Call, cpu_hour_usd: float) -> LedgerRow:
    if call.cpu_s is None:
        return head
    return _with_parts(head, 0.0, 0.0, 0.0, 0.0, call.cpu_s / 3600 * cpu_hour_usd)


def _with_parts(row: LedgerRow, uncached: float, read: float, write: float, output: float, compute: float) -> LedgerRow:
    return msgspec.structs.replace(
        row, uncached_usd=uncached, read_usd=read, write_usd=write, output_usd=output, compute_usd=compute
    )
