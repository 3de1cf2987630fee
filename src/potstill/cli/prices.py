"""``potstill prices``: list, show and refresh the dated price table. Parsing and printing only."""

from __future__ import annotations

import datetime
from pathlib import Path

import click

from potstill.cli.output import emit_json, emit_table, json_option, note

_prices_option = click.option(
    "--prices", "own", type=click.Path(), help="TOML file with your prices. [default: potstill-prices.toml, if there]"
)
_date_option = click.option("--date", help="Prices of this day, YYYY-MM-DD. [default: the day of the price table]")
_RATES = ("input", "cache_read", "cache_write", "cache_write_1h", "output", "reasoning")


@click.group()
def prices() -> None:
    """Show or refresh the dated price table. Rates are US dollars per million tokens."""


@prices.command("list")
@click.argument("word", required=False)
@_prices_option
@_date_option
@json_option
def list_(word: str | None, own: str | None, date: str | None, json_mode: bool) -> None:
    """List models that have a price, those that contain WORD if it is given."""
    from potstill.measure.prices import PriceTable

    table = PriceTable.load(own, date)
    rows: list[list[object]] = []
    for provider, model in table.models():
        name = f"{provider}/{model}"
        if word is None or word.lower() in name.lower():
            price = table.price(model if provider == "custom" else name)
            rows.append([price.row, *(getattr(price.rates, rate) for rate in _RATES), price.since])
    columns = ("model", *(f"{rate}_usd_per_mtok" for rate in _RATES), "since")
    emit_table(columns, rows, json_mode=json_mode, title=f"Prices of {table.date} ({table.source})")


@prices.command()
@click.argument("model")
@click.option("--service", default="standard", show_default=True, help="standard, batch, flex, priority or fast.")
@_prices_option
@_date_option
@json_option
def show(model: str, service: str, own: str | None, date: str | None, json_mode: bool) -> None:
    """Show what MODEL costs: rates, tiers by prompt length, prompt-cache rule."""
    from potstill.measure.prices import PriceTable

    price = PriceTable.load(own, date).price(model, service)
    tiers = [(0, price.rates), *((tier.above, tier.rates) for tier in price.tiers)]
    rows = [[above, *(getattr(rates, rate) for rate in _RATES)] for above, rates in tiers]
    columns = ("prompt_tokens_above", *(f"{rate}_usd_per_mtok" for rate in _RATES))
    cache = price.cache
    if json_mode:
        head = {"model": price.row, "date": price.date, "since": price.since, "service": price.service}
        rule = {"minimum_tokens": cache.minimum_tokens, "ttl_s": cache.ttl_s, "block_tokens": cache.block_tokens}
        listed = [dict(zip(columns, row, strict=True)) for row in rows]
        emit_json({**head, "source": price.source, "rates": listed, "cache": {**rule, "source": cache.source}})
        return
    emit_table(columns, rows, json_mode=False, title=f"{price.row} on {price.date} ({price.source})")
    note(f"prompt cache: prefixes of at least {cache.minimum_tokens} tokens, kept {cache.ttl_s:g} s. {cache.source}")


@prices.command()
@click.option("--output", type=click.Path(dir_okay=False), help="Where to write. [default: your data folder]")
@click.option("--fetch/--installed", default=True, show_default=True, help="Newest prices, or the installed package's.")
@click.option("--date", help="The day to write into the table, YYYY-MM-DD. [default: today]")
def update(output: str | None, fetch: bool, date: str | None) -> None:
    """Compile a fresh price table out of the package genai-prices."""
    from potstill.durable import replacing
    from potstill.measure.prices.compile import compile_snapshot
    from potstill.measure.prices.table import refreshed_path

    day = date or datetime.datetime.now(tz=datetime.UTC).date().isoformat()
    content = compile_snapshot(day, fetch=fetch)
    path = Path(output) if output is not None else refreshed_path()
    with replacing(path) as file:
        file.write(content)
    note(f"wrote {path} ({len(content) / 1000:.0f} kB, prices of {day})")
