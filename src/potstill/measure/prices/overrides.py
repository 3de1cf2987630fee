"""The user's own price rows, from ``potstill-prices.toml`` or a file that ``--prices`` names.

    [prices]
    cpu_hour_usd = 0.04                      # local models: US dollars per CPU hour
    [prices.models."my-finetune"]            # US dollars per million tokens
    input = 0.4
    output = 1.6
    cache_read = 0.1
    [prices.models."local:smollm2-135m"]
    same_as = "claude-haiku-5-5"             # priced as another model

The ``[prices]`` heading may be left out in a file that holds nothing else. Reading and checking only.
"""

from __future__ import annotations

import tomllib
from pathlib import Path

import msgspec

from potstill.errors import ConfigError
from potstill.measure.prices.rows import Rates, Tier

FILE_NAME = "potstill-prices.toml"


def find(start: Path | None = None) -> Path | None:
    """``potstill-prices.toml`` in ``start`` (default: the working folder) or the nearest folder above it."""
    folder = (start or Path.cwd()).resolve()
    return next((place / FILE_NAME for place in (folder, *folder.parents) if (place / FILE_NAME).is_file()), None)


class TierOverride(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Rates for prompts of more than ``above`` tokens."""

    above: int
    input: float
    output: float | None = None
    cache_read: float | None = None
    cache_write: float | None = None
    cache_write_1h: float | None = None
    reasoning: float | None = None


class ModelOverride(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One row that the user wrote. Either ``same_as`` or rates with at least ``input``.

    ``minimum_cache_tokens``, ``cache_ttl_s`` and ``n_shares_prompt`` (n samples are billed as one prompt) set the cache
    rule; ``provider`` takes over a known provider's.
    """

    same_as: str | None = None
    provider: str = "custom"
    input: float | None = None
    output: float | None = None
    cache_read: float | None = None
    cache_write: float | None = None
    cache_write_1h: float | None = None
    reasoning: float | None = None
    tiers: tuple[TierOverride, ...] = ()
    minimum_cache_tokens: int | None = None
    cache_ttl_s: float | None = None
    n_shares_prompt: bool | None = None

    def rates(self) -> Rates:
        return _rates(self)

    def tier_rows(self) -> tuple[Tier, ...]:
        return tuple(Tier(tier.above, _rates(tier)) for tier in sorted(self.tiers, key=lambda tier: tier.above))


class Overrides(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The ``[prices]`` table."""

    cpu_hour_usd: float | None = None
    date: str | None = None
    models: dict[str, ModelOverride] = {}


def _rates(row: ModelOverride | TierOverride) -> Rates:
    assert row.input is not None  # checked when read
    return Rates(row.input, row.cache_read, row.cache_write, row.cache_write_1h, row.output, row.reasoning)


def read_overrides(path: Path) -> Overrides:
    """The price rows in a TOML file. Raises ``ConfigError`` with the file and what is wrong in it."""
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(f"No price file at '{path}'. Name a TOML file with a [prices] table.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"'{path}' is not valid TOML: {error}") from error
    return parse_overrides(document.get("prices", document), str(path))


def parse_overrides(table: object, where: str) -> Overrides:
    """``Overrides`` out of a decoded ``[prices]`` table. ``where`` names the file in errors."""
    try:
        overrides = msgspec.convert(table, Overrides)
    except msgspec.ValidationError as error:
        raise ConfigError(f"In {where}, [prices]: {error}. Rates are US dollars per million tokens.") from error
    for name, row in overrides.models.items():
        _check(name, row, where)
    if overrides.cpu_hour_usd is not None and overrides.cpu_hour_usd < 0:
        raise ConfigError(f"In {where}, prices.cpu_hour_usd is {overrides.cpu_hour_usd}; it cannot be negative.")
    return overrides


def _check(name: str, row: ModelOverride, where: str) -> None:
    here = f'In {where}, [prices.models."{name}"]'
    if (row.same_as is None) == (row.input is None):
        raise ConfigError(f'{here} needs either same_as = "MODEL" or input = RATE (and not both).')
    for part in (row, *row.tiers):
        for field in ("input", "output", "cache_read", "cache_write", "cache_write_1h", "reasoning"):
            rate = getattr(part, field)
            if rate is not None and not 0 <= rate < float("inf"):
                raise ConfigError(f"{here}: {field} is {rate}; a rate is a number of dollars, not negative.")
