"""The rows of a price table: rates, their dates and tiers, and the compact snapshot that they are stored in.

What it knows: shapes and which rate applies to a prompt of a given length. What it does not do: files, finding models.

Numbers are binary floats (IEEE double). A list price has at most eight significant digits and an episode a few thousand
calls, so a sum is exact to about 1e-12 of itself; a ``Decimal`` would cost ten times the time for digits nobody is
billed. Totals are defined as the sum of their parts, so parts and whole always agree to the last bit.
"""

from __future__ import annotations

from typing import Any

import msgspec

from potstill.measure.prices.cache_rules import CacheRule

SNAPSHOT_SCHEMA = 1
TOKENS_PER_RATE = 1_000_000


class Rates(msgspec.Struct, frozen=True, array_like=True):
    """US dollars per million tokens. ``None``: no rate of its own.

    Where a rate is missing, providers bill: cache reads and writes as input, one-hour writes as writes, reasoning as
    output. A missing output rate means that the model (an embedder) is not billed for output at all by the token.
    """

    input: float
    cache_read: float | None = None
    cache_write: float | None = None
    cache_write_1h: float | None = None
    output: float | None = None
    reasoning: float | None = None

    @property
    def read_rate(self) -> float:
        return self.input if self.cache_read is None else self.cache_read

    @property
    def write_rate(self) -> float:
        return self.input if self.cache_write is None else self.cache_write

    @property
    def write_1h_rate(self) -> float:
        return self.write_rate if self.cache_write_1h is None else self.cache_write_1h

    @property
    def reasoning_rate(self) -> float | None:
        return self.output if self.reasoning is None else self.reasoning


class Tier(msgspec.Struct, frozen=True, array_like=True):
    """Rates for prompts of more than ``above`` tokens. Every token of such a request is billed at them."""

    above: int
    rates: Rates


class Period(msgspec.Struct, frozen=True, array_like=True):
    """Prices that hold from ``since`` (ISO date; ``None``: always) until the next period begins."""

    since: str | None
    rates: Rates
    tiers: tuple[Tier, ...] = ()


class ModelRow(msgspec.Struct, frozen=True, array_like=True):
    """One model of one provider as the snapshot stores it. ``match`` is explained in ``matching.py``."""

    id: str
    match: list[Any]
    periods: tuple[Period, ...]
    services: dict[str, tuple[Period, ...]] = {}
    """Prices of other service levels (``batch``, ``flex``, ``priority``, ``fast``)."""


class ProviderRow(msgspec.Struct, frozen=True, array_like=True):
    id: str
    home: list[Any]
    """Which bare model names belong to this provider; empty: none, they need ``provider/model``."""
    fallback: tuple[str, ...]
    models: tuple[ModelRow, ...]


class Snapshot(msgspec.Struct, frozen=True):
    schema: int
    source: str
    date: str
    """ISO date on which the prices were compiled."""
    left_out: dict[str, int]
    """How many models the compiler could not express, by reason."""
    providers: tuple[ProviderRow, ...]


class ModelPrice(msgspec.Struct, frozen=True, kw_only=True):
    """The price of one model on one day.

    ``row`` names where the price came from (``anthropic/claude-sonnet-5-5``), ``since`` the day from which it holds.
    """

    model: str
    provider: str
    row: str
    date: str
    since: str | None
    rates: Rates
    tiers: tuple[Tier, ...] = ()
    service: str = "standard"
    source: str = ""
    cache: CacheRule

    def rates_for(self, input_tokens: int) -> tuple[Rates, int | None]:
        """Rates for a prompt of ``input_tokens``, and the tier's threshold (``None``: the base rates).

        A tier applies to prompts of strictly more tokens than its threshold, and then to all of their tokens.
        """
        for tier in reversed(self.tiers):
            if input_tokens > tier.above:
                return tier.rates, tier.above
        return self.rates, None


def period_on(periods: tuple[Period, ...], day: str) -> Period:
    """The period in force on ``day`` (ISO). Before the first dated one, the first is the best that is known."""
    chosen = periods[0]
    for period in periods:
        if period.since is None or period.since <= day:
            chosen = period
    return chosen
