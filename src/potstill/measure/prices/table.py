"""The price table: find the price of a model by name, on one day.

What it knows: the compiled snapshot, the user's rows, and how names resolve. What it does not do: add up costs
(``potstill.measure.ledger``) or download anything (``potstill prices update``).

How a name resolves, first match wins: a row of the user; ``free``, which costs nothing; ``provider/model`` or
``provider:model``; a bare name at its home provider (``claude-...`` at Anthropic); a bare name that exactly one price
is listed for. ``http:URL#MODEL`` is
looked up as MODEL, at its home provider only. Anything else is an ``UnknownPrice``: a model is never priced at zero
because it is not known.
"""

from __future__ import annotations

import datetime
import difflib
import os
from pathlib import Path

import msgspec

from potstill.errors import ConfigError, UnknownPrice
from potstill.measure.prices.cache_rules import CacheRule, cache_rule
from potstill.measure.prices.matching import dashed_date, exact_names, matches
from potstill.measure.prices.overrides import FILE_NAME, ModelOverride, Overrides, find, parse_overrides, read_overrides
from potstill.measure.prices.rows import SNAPSHOT_SCHEMA, ModelPrice, ModelRow, ProviderRow, Snapshot, period_on

PACKAGED = Path(__file__).with_name("prices.json")
_OTHER_NAMES = {"bedrock": "aws", "vertex": "google", "gemini": "google", "xai": "x-ai", "moonshot": "moonshotai"}
_LOCAL = ("local:", "policy:", "tuned:", "rules:", "expert:", "replay:", "scripted:")
"""Beginnings of names of what runs on this machine, and has no list price."""
FREE = "free"
"""A name that always has a price, of nothing: for models whose calls cost no money (``price_as = "free"``)."""


def refreshed_path() -> Path:
    """Where ``potstill prices update`` writes: under ``$XDG_DATA_HOME``, or ``~/.local/share`` if that is unset."""
    base = os.environ.get("XDG_DATA_HOME") or str(Path.home() / ".local" / "share")
    return Path(base) / "potstill" / "prices.json"


class PriceTable:
    """Prices on one day. Immutable but for a cache of resolved names.

    >>> table = PriceTable.load(date="2026-11-21")
    >>> table.price("claude-haiku-5-5").rates.input
    0.1
    """

    def __init__(self, snapshot: Snapshot, date: str, overrides: Overrides, where: str = FILE_NAME) -> None:
        self.snapshot = snapshot
        self.date = date
        self.cpu_hour_usd = overrides.cpu_hour_usd
        self.source = snapshot.source
        self._overrides = overrides
        self._where = where
        self._providers = {provider.id: provider for provider in snapshot.providers}
        self._resolved: dict[tuple[str, str], ModelPrice] = {}
        self._refused: dict[tuple[str, str], str] = {}
        self._days: dict[str, PriceTable] = {self.date: self}

    @classmethod
    def load(
        cls,
        path: Path | str | None = None,
        date: datetime.date | str | None = None,
        *,
        snapshot: Path | str | None = None,
        prices: dict[str, object] | None = None,
        cpu_hour_usd: float | None = None,
    ) -> PriceTable:
        """Read the prices that hold on ``date`` (default: the day the snapshot was compiled).

        ``path``: a TOML file with the user's rows (default: ``potstill-prices.toml`` here or in a folder above);
        ``prices``: the same as a decoded table, instead of a file; ``snapshot``: a compiled ``prices.json`` (default:
        the newer of the packaged and the refreshed one). Raises ``ConfigError``.
        """
        data = _read_snapshot(Path(snapshot)) if snapshot is not None else _newest()
        own = Path(path) if path is not None else find() if prices is None else None
        where = FILE_NAME if own is None else str(own)
        overrides = read_overrides(own) if own is not None else parse_overrides(prices or {}, where)
        if cpu_hour_usd is not None:
            if cpu_hour_usd < 0:
                raise ConfigError(f"A CPU hour cannot cost {cpu_hour_usd} dollars. Give 0 or more.")
            overrides = msgspec.structs.replace(overrides, cpu_hour_usd=cpu_hour_usd)
        return cls(data, _iso(date or overrides.date or data.date), overrides, where)

    def price(self, model: str, service: str = "standard") -> ModelPrice:
        """The price of ``model`` on this table's day.

        ``service`` is ``standard``, ``batch``, ``flex``, ``priority`` or ``fast``. Raises ``UnknownPrice``, which names
        the file to edit and the nearest names that have a price.
        """
        key = (model, service)
        found = self._resolved.get(key)
        if found is not None:
            return found
        if key in self._refused:
            raise UnknownPrice(self._refused[key])
        try:
            found = self._resolved[key] = self._resolve(model, service)
        except UnknownPrice as error:
            self._refused[key] = str(error)
            raise
        return found

    def on(self, date: datetime.date | str) -> PriceTable:
        """The same prices on another day. Tables of days are kept, so asking again costs nothing."""
        table = self._days.get(date) if isinstance(date, str) else None
        if table is None:
            day = _iso(date)
            table = self._days.get(day)
            if table is None:
                table = PriceTable(self.snapshot, day, self._overrides, self._where)
                self._days[day], table._days = table, self._days
        return table

    def has(self, model: str, service: str = "standard") -> bool:
        """Whether ``price(model, service)`` finds a row."""
        try:
            self.price(model, service)
        except UnknownPrice:
            return False
        return True

    def models(self) -> list[tuple[str, str]]:
        """Every ``(provider, model)`` with a price, the user's rows first."""
        own = [("custom", name) for name in self._overrides.models]
        return own + [(provider.id, row.id) for provider in self.snapshot.providers for row in provider.models]

    # --- resolving names ----------------------------------------------------------------------------------------

    def _resolve(self, model: str, service: str, depth: int = 0) -> ModelPrice:
        own = self._overrides.models.get(model)
        if own is not None:
            return self._own(model, own, service, depth)
        if model == FREE:
            return self._own(model, ModelOverride(input=0.0, output=0.0), service, depth)
        name, _, served = model.lower().removeprefix("http:").partition("#")
        name = served or name
        if not name.startswith(_LOCAL):
            for candidate in dict.fromkeys((name, dashed_date(name))):
                found = self._find(candidate, anywhere=not served)
                if len(found) == 1 or (found and len({row.periods for _, row in found}) == 1):
                    return self._priced(model, *found[0], service)
                if found:
                    raise self._ambiguous(model, found)
        raise self._unknown(model)

    def _own(self, model: str, row: ModelOverride, service: str, depth: int) -> ModelPrice:
        if row.same_as is not None:
            if depth > 8:
                raise ConfigError(f'In {self._where}, the same_as of [prices.models."{model}"] goes round in a circle.')
            return msgspec.structs.replace(self._resolve(row.same_as, service, depth + 1), model=model)
        rule = cache_rule(row.provider, model)
        changes = {
            "minimum_tokens": row.minimum_cache_tokens,
            "ttl_s": row.cache_ttl_s,
            "n_shares_prompt": row.n_shares_prompt,
        }
        return ModelPrice(
            model=model,
            provider=row.provider,
            row=f"{self._where}:{model}",
            date=self.date,
            since=None,
            rates=row.rates(),
            tiers=row.tier_rows(),
            source=self._where,
            cache=msgspec.structs.replace(rule, **{k: v for k, v in changes.items() if v is not None}),
        )

    def _find(self, name: str, anywhere: bool) -> list[tuple[ProviderRow, ModelRow]]:
        prefixed = self._with_provider(name)
        if prefixed:
            return prefixed
        for provider in self.snapshot.providers:
            if provider.home and matches(provider.home, name):
                row = self._in_provider(provider, name)
                if row is not None:
                    return [row]
        if not anywhere:
            return []  # an endpoint of one's own: what other hosts ask for the same open weights says nothing
        return [
            (provider, row)
            for provider in self.snapshot.providers
            for row in provider.models
            if row.id.lower() == name or name in exact_names(row.match)
        ]

    def _with_provider(self, name: str) -> list[tuple[ProviderRow, ModelRow]]:
        for separator in ("/", ":"):
            head, found, rest = name.partition(separator)
            provider = self._providers.get(_OTHER_NAMES.get(head, head))
            if found and provider is not None:
                row = self._in_provider(provider, rest)
                if row is not None:
                    return [row]
        return []

    def _in_provider(self, provider: ProviderRow, name: str) -> tuple[ProviderRow, ModelRow] | None:
        for holder in (provider, *(self._providers[other] for other in provider.fallback if other in self._providers)):
            for row in holder.models:
                if row.id.lower() == name or matches(row.match, name):
                    return holder, row
        return None

    def _priced(self, model: str, provider: ProviderRow, row: ModelRow, service: str) -> ModelPrice:
        periods = row.periods if service == "standard" else row.services.get(service)
        if periods is None:
            known = ", ".join(["standard", *row.services])
            raise UnknownPrice(f"No '{service}' price for '{provider.id}/{row.id}'. Available: {known}.")
        period = period_on(periods, self.date)
        return ModelPrice(
            model=model,
            provider=provider.id,
            row=f"{provider.id}/{row.id}",
            date=self.date,
            since=period.since,
            rates=period.rates,
            tiers=period.tiers,
            service=service,
            source=self.source,
            cache=self.cache_rule(provider.id, row.id),
        )

    def cache_rule(self, provider: str, model: str) -> CacheRule:
        """The prompt-cache rule that simulation uses for a model."""
        return cache_rule(provider, model)

    # --- saying what is wrong -----------------------------------------------------------------------------------

    def _unknown(self, model: str) -> UnknownPrice:
        names = {row.id for provider in self.snapshot.providers for row in provider.models} | set(
            self._overrides.models
        )
        near = difflib.get_close_matches(model, sorted(names), n=3, cutoff=0.6)
        hint = f" Near names: {', '.join(near)}." if near else ""
        here = ""
        if model.startswith(_LOCAL):
            here = (
                " It runs on this machine: price it by its CPU time, --cpu-hour-usd 0.05, or as a model, "
                f"--price-student-as {FREE} (--price-teacher-as {FREE} for a teacher). Or:"
            )
        return UnknownPrice(
            f"No price for the model '{model}'.{hint}{here} Add it to {self._where}: "
            f'[prices.models."{model}"] with input = and output = (US dollars per million tokens) '
            f'or same_as = "MODEL".'
        )

    def _ambiguous(self, model: str, found: list[tuple[ProviderRow, ModelRow]]) -> UnknownPrice:
        names = ", ".join(f"{provider.id}/{row.id}" for provider, row in found[:6])
        more = f" and {len(found) - 6} more" if len(found) > 6 else ""
        return UnknownPrice(
            f"'{model}' has different prices at {len(found)} providers. Write one of: {names}{more}, "
            f'or add [prices.models."{model}"] with same_as = "PROVIDER/MODEL" to {self._where}.'
        )


def _iso(date: datetime.date | str) -> str:
    if isinstance(date, datetime.date):
        return date.isoformat()
    try:
        return datetime.date.fromisoformat(date).isoformat()
    except ValueError as error:
        raise ConfigError(f"'{date}' is not a date. Write it as YYYY-MM-DD, for example 2026-11-21.") from error


def _newest() -> Snapshot:
    packaged = _read_snapshot(PACKAGED)
    path = refreshed_path()
    if not path.is_file():
        return packaged
    refreshed = _read_snapshot(path)
    return refreshed if refreshed.date > packaged.date else packaged


def _read_snapshot(path: Path) -> Snapshot:
    try:
        snapshot = msgspec.json.decode(path.read_bytes(), type=Snapshot)
    except FileNotFoundError as error:
        raise ConfigError(f"No price snapshot at '{path}'. Type: potstill prices update") from error
    except msgspec.MsgspecError as error:
        raise ConfigError(f"'{path}' is not a price snapshot: {error}. Type: potstill prices update") from error
    if snapshot.schema > SNAPSHOT_SCHEMA:
        raise ConfigError(
            f"'{path}' has schema {snapshot.schema}; this version reads {SNAPSHOT_SCHEMA}. Type: potstill prices update"
        )
    return snapshot
