"""``potstill keys``: make, list and revoke the virtual keys with which tenants use a gateway.

Callbacks parse and call ``potstill.serve.tenants.key_rows``. A key's text is printed once, when it is made, and
nowhere else.
"""

from __future__ import annotations

import time
from typing import Any

import click

from potstill.cli.output import emit_json, emit_table, json_option, note
from potstill.cli.store_option import db_option
from potstill.cli.trajectories import reading, writing
from potstill.errors import ConfigError

COLUMNS = (
    "id",
    "tenant",
    "name",
    "state",
    "routes",
    "budget_usd_per_day",
    "budget_tokens_per_day",
    "requests_per_minute",
    "spent_usd_today",
    "spent_tokens_today",
    "requests_today",
    "created_at",
    "expires_at",
    "revoked_at",
)
LEFT_OUT_FIRST = (
    "revoked_at",
    "created_at",
    "requests_today",
    "spent_tokens_today",
    "expires_at",
    "budget_tokens_per_day",
    "routes",
    "requests_per_minute",
    "name",
)


@click.group()
def keys() -> None:
    """Make, list and revoke the virtual keys of a gateway's tenants."""


@keys.command()
@db_option
@click.option("--tenant", required=True, help="Whose key it is; tenants never see each other's episodes.")
@click.option("--name", default="", help="What the key is for.")
@click.option(
    "--route", "routes", multiple=True, metavar="ROUTE", help="May ask for this route only [repeatable; * ends]."
)
@click.option("--budget-usd", type=float, metavar="USD", help="At most so many dollars a day (UTC).")
@click.option("--budget-tokens", type=int, metavar="N", help="At most so many tokens a day (UTC).")
@click.option("--requests-per-minute", type=int, metavar="N", help="At most so many requests a minute.")
@click.option("--expires-in-days", type=float, metavar="DAYS", help="Good for so long only.")
@json_option
def add(
    db: str,
    tenant: str,
    name: str,
    routes: tuple[str, ...],
    budget_usd: float | None,
    budget_tokens: int | None,
    requests_per_minute: int | None,
    expires_in_days: float | None,
    json_mode: bool,
) -> None:
    """Make a key and print it: the only time that it can be seen. A running gateway takes it within seconds."""
    from potstill.serve.tenants import keys as virtual
    from potstill.serve.tenants.key_rows import StoreRows
    from potstill.serve.tenants.limits import DAY_S
    from potstill.trajectories.opening import shown

    at = time.time()
    if expires_in_days is not None and not 0 < expires_in_days <= 36500:
        raise ConfigError(f"--expires-in-days {expires_in_days:g} is not allowed; it must be above 0, at most 36500")
    key, text = virtual.create(
        tenant,
        at,
        name=name,
        routes=routes,
        budget_usd_per_day=budget_usd,
        budget_tokens_per_day=budget_tokens,
        requests_per_minute=requests_per_minute,
        expires_at=None if expires_in_days is None else at + expires_in_days * DAY_S,
    )
    with writing(db, create=True) as store:
        StoreRows(store).put(key)
    if json_mode:
        emit_json({"key": text, **_row(key, {}, at)})
    else:
        click.echo(text)
    note(f"Key {key.id} of tenant '{tenant}' is in {shown(db)}. Its text is not kept: it cannot be shown again.")


@keys.command("list")
@db_option
@click.option("--tenant", help="Only this tenant's.")
@json_option
def list_(db: str, tenant: str | None, json_mode: bool) -> None:
    """List keys with what they spent today, revoked ones among them. Secrets are not kept and not shown."""
    from potstill.serve.tenants.key_rows import StoreRows
    from potstill.serve.tenants.limits import day_of

    at = time.time()
    with reading(db) as store:
        rows = StoreRows(store)
        found = rows.all_keys(tenant)
        spent = {(row.namespace, row.key_id): row for row in rows.spent_on(day_of(at))}
    table = [_row(key, spent, at) for key in found]
    emit_table(
        COLUMNS,
        [[_cell(row[column], json_mode) for column in COLUMNS] for row in table],
        json_mode=json_mode,
        left_out_first=LEFT_OUT_FIRST,
    )
    if not found:
        note("There is no key yet. Type: potstill keys add --tenant NAME")


@keys.command()
@click.argument("id")
@db_option
@json_option
def revoke(id: str, db: str, json_mode: bool) -> None:
    """Revoke a key for good, by its id (the part after psk_). A running gateway refuses it within seconds."""
    from potstill.serve.tenants import keys as virtual
    from potstill.serve.tenants.key_rows import StoreRows
    from potstill.trajectories.opening import shown

    presented = virtual.parse(id)
    wanted = id if presented is None else presented.id
    with writing(db) as store:
        rows = StoreRows(store)
        if not rows.revoke(wanted):
            named = "that" if virtual.PREFIX in id else f"'{id}'"
            raise ConfigError(f"No key with id {named} in {shown(db)}. Type: potstill keys list")
        key = rows.virtual_key(wanted)
    assert key is not None, "revoked keys stay in the store"
    if json_mode:
        emit_json(_row(key, {}, time.time()))
    note(f"Key {key.id} of tenant '{key.tenant}' is revoked.")


def _row(key: Any, spent: dict[tuple[str, str], Any], at: float) -> dict[str, Any]:
    from potstill.serve.admin.acts import shown
    from potstill.serve.tenants.limits import MICROS

    row: dict[str, Any] = shown(key, at)
    today = spent.get((key.tenant, key.id))
    row["spent_usd_today"] = 0.0 if today is None else today.usd_micros / MICROS
    row["spent_tokens_today"] = 0 if today is None else today.tokens
    row["requests_today"] = 0 if today is None else today.requests
    return row


def _cell(value: object, json_mode: bool) -> object:
    return ", ".join(value) if isinstance(value, list) and not json_mode else value
