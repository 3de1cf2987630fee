"""Compile the price snapshot ``prices.json`` out of the package ``genai-prices``.

What it knows: both formats. It runs when a release is made or when a user types ``potstill prices update``; nothing
else imports ``genai-prices`` (it takes a second to import).

What is left out, and counted in the snapshot: models without a price per input token, and models with a fee per request
(a token price alone would be too low). Audio, image and search fees are not carried: potstill prices text tokens. A
price that changes by the hour is taken at its highest, because episodes are priced by day.
"""

from __future__ import annotations

import json
from collections import Counter
from importlib import import_module
from importlib.metadata import version
from typing import Any

from potstill.errors import MissingExtra
from potstill.measure.prices.rows import SNAPSHOT_SCHEMA

_KEYS = (
    "input_mtok",
    "cache_read_mtok",
    "cache_write_mtok",
    "cache_write_1h_mtok",
    "output_mtok",
    "output_reasoning_mtok",
)
_SERVICES = ("batch", "flex", "priority", "fast")
_CLAUSES = {"starts_with": "^", "ends_with": "$", "contains": "*", "regex": "~"}


def compile_snapshot(date: str, *, fetch: bool = False) -> bytes:
    """The snapshot as JSON, one model a line. ``date`` (ISO) is written as the day of the prices.

    ``fetch`` asks ``genai-prices`` for its newest data over the network; otherwise the installed ones are used.
    Raises ``MissingExtra`` if ``genai-prices`` is not installed.
    """
    try:
        data = import_module("genai_prices.data")
    except ImportError as error:
        raise MissingExtra("compiling prices", "prices") from error
    source = f"genai-prices {version('genai-prices')}"
    providers = data.providers
    if fetch:
        snapshot = import_module("genai_prices").UpdatePrices().fetch()
        if snapshot is not None:
            providers, source = snapshot.providers, f"{source}, data fetched {date}"
    left_out: Counter[str] = Counter()
    rows = [row for provider in providers if (row := _provider(provider, left_out))[3]]
    head = {"schema": SNAPSHOT_SCHEMA, "source": source, "date": date, "left_out": dict(sorted(left_out.items()))}
    return _encode(head, rows)


def _encode(head: dict[str, Any], rows: list[list[Any]]) -> bytes:
    def dump(value: Any) -> str:
        return json.dumps(value, separators=(",", ":"), ensure_ascii=False)

    providers = []
    for identifier, home, fallback, models in rows:
        lines = ",\n".join(dump(model) for model in models)
        providers.append(f"[{dump(identifier)},{dump(home)},{dump(fallback)},[\n{lines}\n]]")
    return (dump(head)[:-1] + ',"providers":[\n' + ",\n".join(providers) + "\n]}\n").encode()


def _provider(provider: Any, left_out: Counter[str]) -> list[Any]:
    home = _alternatives(provider.model_match) if provider.model_match is not None else []
    models = []
    for model in provider.models:
        row = _model(model, left_out)
        if row is not None:
            models.append(row)
    return [provider.id, home, list(provider.fallback_model_providers or ()), models]


def _model(model: Any, left_out: Counter[str]) -> list[Any] | None:
    listed = isinstance(model.prices, list)
    prices = [(c.constraint, c.prices) for c in model.prices] if listed else [(None, model.prices)]
    if any(getattr(price, "requests_kcount", None) is not None for _, price in prices):
        left_out["fee per request"] += 1
        return None
    if not prices or any(getattr(price, "input_mtok", None) is None for _, price in prices):
        left_out["no price per input token"] += 1
        return None
    periods = _periods([(constraint, _values(price)) for constraint, price in prices])
    services = _services(model, dict(_values(prices[-1][1])))
    row: list[Any] = [model.id, _alternatives(model.match), periods]
    return [*row, services] if services else row


def _values(price: Any) -> dict[str, Any]:
    return {key: value for key in _KEYS if (value := getattr(price, key, None)) is not None}


def _periods(prices: list[tuple[Any, dict[str, Any]]]) -> list[Any]:
    """Dated prices in order of their dates. An hourly price replaces the period before it where it is dearer."""
    periods: list[tuple[str | None, dict[str, Any]]] = []
    for constraint, values in prices:
        start = getattr(constraint, "start_date", None)
        if constraint is not None and start is None:
            since, before = periods[-1]
            periods[-1] = (since, max(before, values, key=lambda v: float(_base(v["input_mtok"]))))
        else:
            periods.append((None if start is None else start.isoformat(), values))
    periods.sort(key=lambda period: period[0] or "")
    return [_period(since, values) for since, values in periods]


def _services(model: Any, standard: dict[str, Any]) -> dict[str, list[Any]]:
    """Service levels, each with the standard rates where it states none of its own."""
    services: dict[str, list[Any]] = {}
    for variant in model.price_variants or ():
        (_, level), *more = variant.when.items()
        own = _values(variant.prices)
        if more or level not in _SERVICES or not own or level in services:
            continue
        start = getattr(variant.constraint, "start_date", None)
        services[level] = [_period(None if start is None else start.isoformat(), standard | own)]
    return services


def _period(since: str | None, values: dict[str, Any]) -> list[Any]:
    thresholds = sorted({tier.start for value in values.values() for tier in getattr(value, "tiers", ())})
    period: list[Any] = [since, _rates(values, 0)]
    if thresholds:
        period.append([[threshold, _rates(values, threshold + 1)] for threshold in thresholds])
    return period


def _rates(values: dict[str, Any], tokens: int) -> list[float | None]:
    rates = [_at(values.get(key), tokens) for key in _KEYS]
    while rates[-1] is None:
        rates.pop()
    return rates


def _at(value: Any, tokens: int) -> float | None:
    if value is None:
        return None
    chosen = _base(value)
    for tier in getattr(value, "tiers", ()):
        if tokens > tier.start:
            chosen = tier.price
    number = float(chosen)
    return int(number) if number.is_integer() else number


def _base(value: Any) -> Any:
    return getattr(value, "base", value)


def _alternatives(clause: Any) -> list[Any]:
    parts = getattr(clause, "or_", None)
    if parts is not None:
        return [rule for part in parts for rule in _alternatives(part)]
    return [_clause(clause)]


def _clause(clause: Any) -> Any:
    parts = getattr(clause, "and_", None)
    if parts is not None:
        return ["&", *(_clause(part) for part in parts)]
    if hasattr(clause, "equals"):
        return clause.equals.lower()
    for name, kind in _CLAUSES.items():
        if hasattr(clause, name):
            text = getattr(clause, name)
            return [kind, text if kind == "~" else text.lower()]
    raise ValueError(f"genai-prices has a match rule that this version does not know: {clause!r}")
