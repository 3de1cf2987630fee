"""Price what logs tell: a call or an attempt, by the table of its own day, each model looked up once.

What it knows: which price holds for a record. What it does not do: decide whether to trust the log's own dollars.

Attempts tell the sum of their requests' tokens, not each request's: for them the rates of short prompts are taken.
"""

from __future__ import annotations

import datetime

import msgspec

from potstill.errors import UnknownPrice
from potstill.logs.records import LogCall
from potstill.measure.audit.dirt import Dirt
from potstill.measure.audit.waste import CacheRates
from potstill.measure.ledger import Parts, price_tokens
from potstill.measure.prices.rows import TOKENS_PER_RATE, ModelPrice
from potstill.measure.prices.table import PriceTable
from potstill.types import Usage

_DAY_S = 86_400
_Key = tuple[str, str, str | None, int | None]


class LogPrices:
    """Prices of records. ``dated``: each record by the prices of its day; else all by those of the table's day."""

    def __init__(self, table: PriceTable, dirt: Dirt, *, dated: bool) -> None:
        self._table, self._dirt, self._dated = table, dirt, dated
        self._found: dict[_Key, ModelPrice | None] = {}
        self._short: dict[int, ModelPrice] = {}
        self._cache_rates: dict[tuple[int, int | None], CacheRates] = {}

    def of_call(self, call: LogCall) -> Parts | None:
        """What a call's tokens cost; ``None`` if they or the model's price are not known."""
        if call.usage is None:
            return None
        price = self.find(call.model, call.service, call.provider, call.started_at)
        return None if price is None else price_tokens(call.usage, price)

    def of_sum(self, model: str, usage: Usage, at: float | None) -> float | None:
        """What the tokens of a whole attempt cost."""
        price = self.find(model, "standard", None, at)
        if price is None:
            return None
        if price.tiers:
            price = self._short.setdefault(id(price), msgspec.structs.replace(price, tiers=()))
        return price_tokens(usage, price).total_usd

    def cache_rates(self, model: str, input_tokens: int) -> CacheRates | None:
        """What a token of a prompt of this length costs from a cache and without; ``None`` without a price."""
        price = self.find(model, "standard", None, None)
        if price is None:
            return None
        rates, tier = price.rates_for(input_tokens)
        key = (id(price), tier)
        if key not in self._cache_rates:
            self._cache_rates[key] = CacheRates(
                rates.input / TOKENS_PER_RATE,
                rates.read_rate / TOKENS_PER_RATE,
                rates.write_rate / TOKENS_PER_RATE,
                price.cache.minimum_tokens,
            )
        return self._cache_rates[key]

    def find(self, model: str, service: str, provider: str | None, at: float | None) -> ModelPrice | None:
        """The price row of a model on the day of a record; ``None`` if there is none, which is told once a model."""
        day = int(at // _DAY_S) if self._dated and at is not None and at >= 0 else None
        key = (model, service, provider, day)
        try:
            return self._found[key]
        except KeyError:
            found = self._found[key] = self._look_up(*key)
            return found

    def _look_up(self, model: str, service: str, provider: str | None, day: int | None) -> ModelPrice | None:
        table = self._table if day is None else self._table.on(_iso(day))
        names = [model] if provider is None else [model, f"{provider}/{model}"]
        for name in names:
            try:
                return table.price(name, service)
            except UnknownPrice:
                continue
        if day is None or (model, service, provider, None) not in self._found:
            self._found.setdefault((model, service, provider, None), None)
            self._dirt.note("unknown_price", None, model)
        return None


def _iso(day: int) -> str:
    try:
        return (datetime.date(1970, 1, 1) + datetime.timedelta(days=day)).isoformat()
    except OverflowError:
        return "1970-01-01"
