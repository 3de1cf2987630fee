"""Our prices against the dollars that a payload itself reports.

What it knows: the fields in which providers, proxies and harnesses report a cost; whether two amounts agree; and, where
they do not, which other way to bill the same tokens would. What it does not do: decide who is right. Reported dollars
may hold fees, discounts and tools that no token price knows; ours may be of another day.

Fields (vendors' references, read in 2026-11): xAI ``usage.cost_in_usd_ticks``, ten billion to the dollar; OpenRouter
``usage.cost``, with keys of one's own (``is_byok``) only its fee, to which ``cost_details.upstream_inference_cost``
comes; Perplexity ``usage.cost.total_cost``; LiteLLM ``response_cost`` (also in ``_hidden_params``) and, in its logs,
``spend``; tau2-bench ``cost`` and ``agent_cost``; ``cost_usd`` and ``total_cost`` elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import Any, NamedTuple

import msgspec

from potstill.errors import UnknownPrice
from potstill.measure.ledger import price_tokens, price_usage, without_cache
from potstill.measure.prices.rows import ModelPrice
from potstill.measure.prices.table import PriceTable
from potstill.types import Usage

TOLERANCE = 0.01
"""Amounts within this share of each other agree."""
ROUNDING_USD = 5e-9
"""Amounts this near agree, whatever their ratio: logs round."""
TICKS_PER_USD = 10_000_000_000
_ROW_FIELDS = ("response_cost", "spend", "cost_usd", "cost", "total_cost", "agent_cost")
_SERVICES = ("batch", "flex", "priority", "fast")


class Verdict(StrEnum):
    AGREES = "agrees"
    DIFFERS = "differs"
    UNKNOWN = "unknown"
    """One of the two amounts is not known."""


class Why(StrEnum):
    """Another way to bill the same tokens that gives the reported dollars."""

    NO_CACHE_DISCOUNT = "cached tokens at the full rate"
    FREE_WRITES = "cache writes at the input rate"
    NO_TIER = "the base rates in place of those for long prompts"
    NO_REASONING = "reasoning tokens not billed"
    REASONING_ON_TOP = "reasoning tokens billed beside the output"
    BATCH = "batch rates"
    FLEX = "flex rates"
    PRIORITY = "priority rates"
    FAST = "fast rates"
    STANDARD = "standard rates"


class Reported(NamedTuple):
    usd: float
    field: str
    """Where it stood, for example ``usage.cost``."""


class Reconciled(NamedTuple):
    """Two amounts for the same tokens. ``ratio`` is reported over computed: above 1, more was billed than listed."""

    computed_usd: float | None
    reported_usd: float | None
    ratio: float | None
    verdict: Verdict
    why: Why | None = None
    """Where they differ: what would explain it, if one simple thing does."""


def reported_cost(payload: Mapping[str, Any] | None) -> Reported | None:
    """The dollars that a response, its usage object, or a log row says it cost; ``None`` if it does not.

    >>> reported_cost({"usage": {"cost_in_usd_ticks": 37_756_000}})
    Reported(usd=0.0037756, field='usage.cost_in_usd_ticks')
    """
    if not isinstance(payload, Mapping):
        return None
    usage = payload.get("usage")
    if isinstance(usage, Mapping) and (found := _in_usage(usage)) is not None:
        return Reported(found.usd, f"usage.{found.field}")
    if (found := _in_usage(payload)) is not None:
        return found
    hidden = payload.get("_hidden_params")
    if isinstance(hidden, Mapping) and (usd := _dollars(hidden.get("response_cost"))) is not None:
        return Reported(usd, "_hidden_params.response_cost")
    for field in _ROW_FIELDS:
        if (usd := _dollars(payload.get(field))) is not None:
            return Reported(usd, field)
    return None


def _in_usage(usage: Mapping[str, Any]) -> Reported | None:
    if (ticks := _dollars(usage.get("cost_in_usd_ticks"))) is not None:
        return Reported(ticks / TICKS_PER_USD, "cost_in_usd_ticks")
    cost = usage.get("cost")
    if isinstance(cost, Mapping):
        total = _dollars(cost.get("total_cost"))
        return None if total is None else Reported(total, "cost.total_cost")
    fee = _dollars(cost)
    if fee is None:
        return None
    details = usage.get("cost_details")
    upstream = _dollars(details.get("upstream_inference_cost")) if isinstance(details, Mapping) else None
    if usage.get("is_byok") is True and upstream is not None:
        return Reported(fee + upstream, "cost + cost_details.upstream_inference_cost")
    return Reported(fee, "cost")


def _dollars(value: object) -> float | None:
    """A number that can be an amount; a negative or infinite one, or none at all, is unknown."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if 0 <= value < float("inf") else None


def compare(computed_usd: float | None, reported_usd: float | None, tolerance: float = TOLERANCE) -> Reconciled:
    """Whether two amounts agree within ``tolerance`` of each other.

    >>> compare(0.0100, 0.01005).verdict, compare(0.01, 0.02).verdict, compare(None, 0.01).verdict
    (<Verdict.AGREES: 'agrees'>, <Verdict.DIFFERS: 'differs'>, <Verdict.UNKNOWN: 'unknown'>)
    """
    if computed_usd is None or reported_usd is None:
        return Reconciled(computed_usd, reported_usd, None, Verdict.UNKNOWN)
    ratio = reported_usd / computed_usd if computed_usd else None
    apart = abs(computed_usd - reported_usd)
    near = apart <= tolerance * max(computed_usd, reported_usd) or apart <= ROUNDING_USD
    return Reconciled(computed_usd, reported_usd, ratio, Verdict.AGREES if near else Verdict.DIFFERS)


def reconcile(
    usage: Usage | None,
    model: str,
    table: PriceTable,
    reported_usd: float | None,
    *,
    service: str = "standard",
    date: str | None = None,
    tolerance: float = TOLERANCE,
) -> Reconciled:
    """One request's tokens at our prices against the dollars that were reported for it.

    Unknown, and no error, where tokens, price or report are missing. Where the amounts differ, ``why`` names another
    way to bill the same tokens that would give the report.
    """
    if usage is None or reported_usd is None:
        return Reconciled(None, reported_usd, None, Verdict.UNKNOWN)
    try:
        computed = price_usage(usage, model, table, service=service, date=date).total_usd
    except UnknownPrice:
        return Reconciled(None, reported_usd, None, Verdict.UNKNOWN)
    found = compare(computed, reported_usd, tolerance)
    if found.verdict is not Verdict.DIFFERS:
        return found
    day = table if date is None else table.on(date)
    for why, usd in _otherwise(usage, model, day, service):
        if compare(usd, reported_usd, tolerance).verdict is Verdict.AGREES:
            return found._replace(why=why)
    return found


def _otherwise(usage: Usage, model: str, table: PriceTable, service: str) -> Iterator[tuple[Why, float]]:
    """The same tokens billed in other ways, the commonest slips first."""
    price, change = table.price(model, service), msgspec.structs.replace
    if usage.cache_read_tokens or usage.cache_write_tokens:
        yield Why.NO_CACHE_DISCOUNT, price_tokens(without_cache(usage), price).total_usd
    if usage.cache_write_tokens:
        unwritten = change(usage, cache_write_tokens=0, cache_write_1h_tokens=0)
        yield Why.FREE_WRITES, price_tokens(unwritten, price).total_usd
    if usage.reasoning_tokens:
        spoken = usage.output_tokens - usage.reasoning_tokens
        yield Why.NO_REASONING, price_tokens(change(usage, output_tokens=spoken, reasoning_tokens=0), price).total_usd
        twice = change(usage, output_tokens=usage.output_tokens + usage.reasoning_tokens)
        yield Why.REASONING_ON_TOP, price_tokens(twice, price).total_usd
    if price.rates_for(usage.input_tokens)[1] is not None:
        yield Why.NO_TIER, price_tokens(usage, change(price, tiers=())).total_usd
    for other in (*_SERVICES, "standard"):
        if other != service and (row := _row(table, model, other)) is not None:
            yield Why[other.upper()], price_tokens(usage, row).total_usd


def _row(table: PriceTable, model: str, service: str) -> ModelPrice | None:
    return table.price(model, service) if table.has(model, service) else None


class Reconciliation:
    """Counts of one group's reconciled requests, in constant memory."""

    def __init__(self) -> None:
        self.counts: dict[Verdict, int] = dict.fromkeys(Verdict, 0)
        self.whys: dict[Why, int] = {}
        self.computed_usd = self.reported_usd = 0.0
        """Sums over the requests where both amounts are known."""

    def add(self, one: Reconciled) -> None:
        self.counts[one.verdict] += 1
        if one.why is not None:
            self.whys[one.why] = self.whys.get(one.why, 0) + 1
        if one.computed_usd is not None and one.reported_usd is not None:
            self.computed_usd += one.computed_usd
            self.reported_usd += one.reported_usd

    @property
    def agreeing(self) -> float | None:
        """Share of the requests with both amounts that agree; ``None`` if there are none."""
        known = self.counts[Verdict.AGREES] + self.counts[Verdict.DIFFERS]
        return self.counts[Verdict.AGREES] / known if known else None

    @property
    def ratio(self) -> float | None:
        """Reported over computed dollars, over all requests with both."""
        return self.reported_usd / self.computed_usd if self.computed_usd else None

    def sentence(self) -> str:
        """What to tell the user about the requests that differ; empty if none does."""
        differ = self.counts[Verdict.DIFFERS]
        if not differ:
            return ""
        known = differ + self.counts[Verdict.AGREES]
        ratio = "" if self.ratio is None else f"; together the log's are {self.ratio:.3g} times ours"
        text = f"the log's dollars differ from the price table's for {differ} of {known} requests{ratio}"
        if self.whys:
            why, n = max(self.whys.items(), key=lambda item: item[1])
            text += f"; {n} fit {why.value}"
        return text
