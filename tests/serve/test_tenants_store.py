"""Two processes' gates, each with its own connection to one store."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from potstill.errors import StoreError
from potstill.serve.seams import Admission
from potstill.serve.settings import Tenant
from potstill.serve.tenants import keys
from potstill.serve.tenants.gate import TenantGate
from potstill.serve.tenants.key_rows import StoreRows, iso_day, key_of, row_of
from potstill.serve.tenants.limits import Amount, day_of
from potstill.trajectories.opening import open_store
from potstill.trajectories.state import KeyRow
from potstill.wire.dialect import Problem

NOON = 20_000 * 86400 + 43200.0
DAY = day_of(NOON)


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def two(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[StoreRows, StoreRows]]:
    file = tmp_path / "one.db"
    place = request.getfixturevalue("postgres").url_for(file) if request.param == "postgres" else file
    with open_store(place) as first, open_store(place) as second:
        yield StoreRows(first), StoreRows(second)


async def test_two_processes_keep_one_budget_to_the_micro_dollar(two: tuple[StoreRows, StoreRows]) -> None:
    now = [NOON]
    tenants = [Tenant(name="team", budget_usd_per_day=1.0)]
    gates = [TenantGate(rows, tenants, keys_required=True, clock=lambda: now[0]) for rows in two]
    made = [keys.create("team", NOON - 1) for _ in range(3)]
    for key, _ in made:
        two[0].put(key)
    let_in = 0
    for turn in range(120):
        found = await gates[turn % 2].admit(made[turn % 3][1], "auto", now[0])
        if isinstance(found, Admission):
            let_in += 1
            gates[turn % 2].settle(found, usd=0.0123456, tokens=7, at=now[0])
        else:
            assert found.kind == "quota"
        if turn % 6 == 5:
            now[0] += 1.0
            await asyncio.gather(*(gate.sync() for gate in gates))
    for gate in gates:
        await gate.aclose()
    total = two[1].spent("team", None, DAY)
    assert 82 <= let_in <= 82 + 6  # 81 x $0.0123456 is below a dollar; six were let in between two looks at the store
    assert total.requests == let_in
    assert total.tokens == 7 * let_in
    assert abs(total.micros - let_in * 12345.6) < 6  # below a micro-dollar for each key and process


async def test_a_revocation_and_new_limits_reach_the_other_process(two: tuple[StoreRows, StoreRows]) -> None:
    now = [NOON]
    gates = [TenantGate(rows, keys_required=True, clock=lambda: now[0]) for rows in two]
    key, text = keys.create("team", NOON - 1, routes=("auto",))
    two[0].put(key)
    for gate in gates:
        assert isinstance(await gate.admit(text, "auto", now[0]), Admission)
    two[0].revoke(key.id)
    now[0] += 1.0
    await gates[1].sync()
    refused = await gates[1].admit(text, "auto", now[0])
    assert isinstance(refused, Problem)
    assert "revoked" in refused.message
    for gate in gates:
        await gate.aclose()


def test_a_key_goes_through_the_store_unchanged(two: tuple[StoreRows, StoreRows]) -> None:
    limits = {
        "name": "ci",
        "routes": ("a", "b*"),
        "budget_usd_per_day": 0.0,
        "budget_tokens_per_day": 5,
        "requests_per_minute": 7,
        "expires_at": NOON + 9.5,
    }
    for fields in ({}, limits, {"budget_tokens_per_day": 0}):
        key, _ = keys.create("team", NOON, **fields)
        assert key_of(row_of(key)) == key
        two[0].put(key)
        assert two[1].virtual_key(key.id) == key
    assert two[1].virtual_key("nobody") is None
    assert two[0].revoke("nobody") is False


def test_limits_of_a_later_version_open_nothing() -> None:
    row = KeyRow(id="x", tenant="t", salt=b"12345678", digest=b"\xff" * 32, limits={"budget_eur_per_day": 1})
    with pytest.raises(StoreError, match="limits of key 'x' cannot be read"):
        key_of(row)


def test_days_are_dates() -> None:
    assert iso_day(0) == "1970-01-01"
    assert iso_day(DAY) == "2024-10-04"


def test_spend_is_added_all_or_none(two: tuple[StoreRows, StoreRows]) -> None:
    with pytest.raises(StoreError):
        two[0].add_spend({("team", "a", DAY): Amount(1, 1, 1), ("", "b", DAY): Amount(1, 1, 1)})
    assert two[1].spent("team", None, DAY) == Amount()
