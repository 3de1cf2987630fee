"""The gate: who is let in, who is refused and in which words, and what budgets allow to several processes."""

from __future__ import annotations

import asyncio
import hmac
import sqlite3
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tenant_rows import MemoryRows

from potstill.errors import ConfigError
from potstill.serve.seams import Admission
from potstill.serve.settings import Tenant
from potstill.serve.tenants import key_cache, keys
from potstill.serve.tenants.gate import LOST_S, TenantGate
from potstill.serve.tenants.key_cache import ABSENT_S, FRESH_S, GRACE_S
from potstill.serve.tenants.key_rows import StoreRows
from potstill.serve.tenants.keys import VirtualKey
from potstill.serve.tenants.limits import Amount, day_of
from potstill.trajectories.opening import open_store
from potstill.wire.dialect import Problem

NOON = 20_000 * 86400 + 43200.0
DAY = day_of(NOON)
Rows = MemoryRows | StoreRows


class Clock:
    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def memory() -> MemoryRows:
    """For what looks inside, or breaks the store."""
    return MemoryRows()


@pytest.fixture(params=["memory", "sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def rows(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[MemoryRows | StoreRows]:
    if request.param == "memory":
        yield MemoryRows()
        return
    place = tmp_path / "keys.db"
    with open_store(
        request.getfixturevalue("postgres").url_for(place) if request.param == "postgres" else place
    ) as store:
        yield StoreRows(store)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def gate(rows: Rows, clock: Clock) -> AsyncIterator[TenantGate]:
    gate = TenantGate(rows, keys_required=True, clock=clock)
    yield gate
    await gate.aclose()


@pytest.fixture
async def memory_gate(memory: MemoryRows, clock: Clock) -> AsyncIterator[TenantGate]:
    gate = TenantGate(memory, keys_required=True, clock=clock)
    yield gate
    await gate.aclose()


def new_key(rows: Rows, tenant: str = "team", **fields: object) -> tuple[keys.VirtualKey, str]:
    key, text = keys.create(tenant, NOON - 10.0, **fields)
    rows.put(key)
    return key, text


async def admitted(gate: TenantGate, text: str | None, route: str = "auto", at: float = NOON) -> Admission:
    found = await gate.admit(text, route, at)
    assert isinstance(found, Admission), found
    return found


async def refused(gate: TenantGate, text: str | None, route: str = "auto", at: float = NOON) -> Problem:
    found = await gate.admit(text, route, at)
    assert isinstance(found, Problem), found
    return found


# --- keys -------------------------------------------------------------------------------------------------------------


def test_a_key_holds_at_least_160_bits_and_the_row_holds_none_of_them() -> None:
    texts = set()
    for _ in range(50):
        key, text = keys.create("team", NOON)
        presented = keys.parse(text)
        assert presented is not None
        assert presented.id == key.id
        assert len(keys.ALPHABET) == 62
        assert len(presented.secret) == 32  # 32 x log2(62) = 190.5 bits
        assert presented.secret not in repr(key) + repr(presented)
        assert presented.secret.encode() not in key.digest + key.salt
        texts.add(text)
    assert len(texts) == 50


@given(st.text(max_size=80) | st.from_regex(r"psk_[a-z2-7]{12}_[A-Za-z0-9]{31,33}", fullmatch=True))
def test_any_text_is_a_key_of_ours_or_none(text: str) -> None:
    presented = keys.parse(text)
    assert presented is None or f"psk_{presented.id}_{presented.secret}" == text


def test_the_secret_is_compared_in_constant_time_even_for_keys_that_do_not_exist(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    compared: list[int] = []
    real = hmac.compare_digest
    monkeypatch.setattr(keys.hmac, "compare_digest", lambda a, b: compared.append(len(b)) or real(a, b))
    key, text = keys.create("team", NOON)
    presented = keys.parse(text)
    assert presented is not None
    assert keys.matches(key, presented)
    assert not keys.matches(key, keys.Presented(key.id, "x" * 32))
    assert not keys.matches(None, presented)
    assert compared == [32, 32, 32]


@pytest.mark.parametrize(
    "fields",
    [
        {"tenant": ""},
        {"tenant": "../etc"},
        {"tenant": "a" * 65},
        {"budget_usd_per_day": -1.0},
        {"budget_usd_per_day": float("nan")},
        {"budget_tokens_per_day": -5},
        {"requests_per_minute": 0},
        {"expires_at": NOON - 1.0},
        {"routes": ("a*b",)},
        {"routes": ("",)},
        {"name": "line\nbreak"},
    ],
)
def test_a_key_that_cannot_be_meant_is_not_made(fields: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        keys.create(**{"tenant": "team", "at": NOON, **fields})  # type: ignore[arg-type]


# --- who is let in ----------------------------------------------------------------------------------------------------


async def test_a_key_opens_the_gate_for_its_tenant(gate: TenantGate, rows: Rows) -> None:
    key, text = new_key(rows)
    admission = await admitted(gate, text)
    assert (admission.tenant, admission.key_id) == ("team", key.id)


async def test_wrong_keys_are_told_apart_by_nothing(gate: TenantGate, rows: Rows) -> None:
    key, text = new_key(rows)
    presented = keys.parse(text)
    assert presented is not None
    other = "".join("b" if c == "a" else "a" for c in presented.id)
    wrong_secret = await refused(gate, f"psk_{key.id}_{'x' * 32}")
    unknown_id = await refused(gate, f"psk_{other}_{presented.secret}")
    malformed = await refused(gate, "psk_short")
    assert wrong_secret == unknown_id == malformed
    assert (wrong_secret.status, wrong_secret.kind) == (401, "authentication")


async def test_a_revoked_keys_wrong_secret_does_not_tell_that_it_was_revoked(gate: TenantGate, rows: Rows) -> None:
    key, text = new_key(rows)
    rows.revoke(key.id)
    assert "revoked" in (await refused(gate, text)).message
    assert "revoked" not in (await refused(gate, f"psk_{key.id}_{'x' * 32}")).message


@pytest.mark.parametrize("text", ["sk-proj-abcdef0123456789", "sk-ant-api03-xyz", "AIzaSyD-secret", "hunter2"])
async def test_a_providers_key_sent_by_mistake_is_not_repeated(gate: TenantGate, text: str) -> None:
    problem = await refused(gate, text)
    assert problem.kind == "authentication"
    assert text not in repr(problem)
    assert text not in repr(vars(gate)) + repr(vars(gate.cache))


async def test_no_key_says_how_to_send_one(gate: TenantGate) -> None:
    assert "Authorization: Bearer psk_" in (await refused(gate, None)).message
    assert "No key was sent" in (await refused(gate, "")).message


async def test_an_open_gateway_takes_requests_without_a_key_and_still_checks_ours(rows: Rows) -> None:
    gate = TenantGate(rows)
    assert (await admitted(gate, None)) == Admission(route="auto")
    assert (await admitted(gate, "sk-ant-whatever")).tenant == "default"
    assert (await refused(gate, f"psk_aaaaaaaaaaaa_{'x' * 32}")).kind == "authentication"
    await gate.aclose()
    assert rows.spent("default", "", DAY).requests == 2


async def test_an_expired_key_is_refused_from_its_moment_on(gate: TenantGate, rows: Rows) -> None:
    _, text = new_key(rows, expires_at=NOON + 60.0)
    await admitted(gate, text, at=NOON + 59.9)
    assert "expired" in (await refused(gate, text, at=NOON + 60.0)).message


async def test_routes_of_key_and_tenant_both_bind(rows: Rows) -> None:
    gate = TenantGate(rows, [Tenant(name="team", models=("gpt-*", "auto"))], keys_required=True)
    _, text = new_key(rows, routes=("auto", "gpt-6-luna", "claude"))
    await admitted(gate, text, "auto")
    await admitted(gate, text, "gpt-6-luna")
    for route in ("gpt-6-astra", "claude", "AUTO"):
        problem = await refused(gate, text, route)
        assert (problem.status, problem.kind) == (403, "permission")
    await gate.aclose()


# --- revocation and a failing store -----------------------------------------------------------------------------------


async def test_a_revocation_is_seen_by_a_second_gate_within_seconds(rows: Rows, clock: Clock) -> None:
    gates = [TenantGate(rows, keys_required=True, clock=clock) for _ in range(2)]
    key, text = new_key(rows)
    for gate in gates:
        await admitted(gate, text)
    rows.revoke(key.id)
    gates[0].cache.forget(key.id)
    assert "revoked" in (await refused(gates[0], text)).message
    clock.now += 1.0
    await gates[1].sync()
    assert "revoked" in (await refused(gates[1], text, at=clock.now)).message
    for gate in gates:
        await gate.aclose()


async def test_a_revocation_is_seen_even_if_nothing_runs_in_the_background(gate: TenantGate, rows: Rows) -> None:
    key, text = new_key(rows)
    await admitted(gate, text)
    rows.revoke(key.id)
    assert "revoked" in (await refused(gate, text, at=NOON + FRESH_S + 0.1)).message


async def test_a_key_made_elsewhere_is_seen_soon_though_it_was_tried_before(gate: TenantGate, rows: Rows) -> None:
    key, text = keys.create("team", NOON)
    await refused(gate, text)
    rows.put(key)
    await admitted(gate, text, at=NOON + ABSENT_S)


async def test_made_up_ids_ask_the_store_once(memory_gate: TenantGate, memory: MemoryRows) -> None:
    text = f"psk_aaaaaaaaaaaa_{'x' * 32}"
    await asyncio.gather(*(refused(memory_gate, text) for _ in range(50)))
    assert memory.lookups == 1


async def test_keys_in_use_stay_good_while_the_store_fails_and_others_stay_out(
    memory_gate: TenantGate, memory: MemoryRows, clock: Clock
) -> None:
    _, text = new_key(memory)
    _, unseen = new_key(memory)
    await admitted(memory_gate, text)
    memory.broken = True
    clock.now += FRESH_S + 1.0
    await memory_gate.sync()
    await admitted(memory_gate, text, at=clock.now)
    problem = await refused(memory_gate, unseen, at=clock.now)
    assert (problem.status, problem.kind) == (503, "overloaded")
    assert problem.retry_after_s is not None
    assert (await refused(memory_gate, text, at=NOON + GRACE_S + 10.0)).kind == "overloaded"
    memory.broken = False
    await admitted(memory_gate, unseen, at=clock.now)


async def test_only_the_first_request_waits_for_a_store_that_hangs(
    memory_gate: TenantGate, memory: MemoryRows, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(key_cache, "LOOKUP_S", 0.05)
    _, text = new_key(memory)
    await admitted(memory_gate, text)
    free, asked = threading.Event(), threading.Event()
    answer = memory.virtual_key

    def hanging(id: str) -> VirtualKey | None:
        asked.set()
        free.wait(20)
        return answer(id)

    monkeypatch.setattr(memory, "virtual_key", hanging)
    clock.now += FRESH_S + 1.0
    await admitted(memory_gate, text, at=clock.now)
    assert asked.is_set()
    monkeypatch.setattr(key_cache, "LOOKUP_S", 1e6)  # whoever waits from here on does not come back
    for _ in range(3):
        await asyncio.wait_for(admitted(memory_gate, text, at=clock.now), 10)
    monkeypatch.undo()
    free.set()
    memory.revoke(text.split("_")[1])
    clock.now += FRESH_S + 1.0
    await memory_gate.sync()
    assert "revoked" in (await refused(memory_gate, text, at=clock.now)).message


@pytest.mark.parametrize("error", [RuntimeError("a bug"), OSError("gone"), sqlite3.ProgrammingError("closed")])
async def test_whatever_a_store_raises_agents_go_on(
    memory_gate: TenantGate, memory: MemoryRows, clock: Clock, error: Exception
) -> None:
    _, text = new_key(memory, budget_usd_per_day=1.0)
    _, unseen = new_key(memory)
    await admitted(memory_gate, text)
    memory.error = error
    memory.broken = True
    clock.now += FRESH_S + 1.0
    await memory_gate.sync()
    await admitted(memory_gate, text, at=clock.now)
    assert (await refused(memory_gate, unseen, at=clock.now)).kind == "overloaded"
    assert memory_gate.counters()["store_failures"] >= 2


async def test_a_clock_that_goes_back_keeps_no_key_alive(gate: TenantGate, rows: Rows, clock: Clock) -> None:
    key, text = new_key(rows)
    await admitted(gate, text)
    rows.revoke(key.id)
    clock.now -= 3600.0
    assert "revoked" in (await refused(gate, text, at=clock.now)).message


# --- rates ------------------------------------------------------------------------------------------------------------


async def test_a_rate_says_when_to_come_again(gate: TenantGate, rows: Rows) -> None:
    _, text = new_key(rows, requests_per_minute=2)
    await admitted(gate, text)
    await admitted(gate, text)
    problem = await refused(gate, text)
    assert (problem.status, problem.kind) == (429, "rate_limit")
    assert problem.retry_after_s == pytest.approx(30.0)
    await admitted(gate, text, at=NOON + 30.0)


async def test_a_tenants_rate_holds_over_its_keys_and_its_neighbours_notice_nothing(rows: Rows) -> None:
    gate = TenantGate(rows, [Tenant(name="team", requests_per_minute=2)], keys_required=True)
    texts = [new_key(rows)[1] for _ in range(3)]
    await admitted(gate, texts[0])
    await admitted(gate, texts[1])
    assert "This tenant" in (await refused(gate, texts[2])).message
    await admitted(gate, new_key(rows, "other")[1])
    await gate.aclose()


async def test_two_gates_share_a_rate_with_a_second_of_delay(rows: Rows, clock: Clock) -> None:
    gates = [TenantGate(rows, keys_required=True, clock=clock) for _ in range(2)]
    _, text = new_key(rows, requests_per_minute=60)
    for gate in gates:
        await admitted(gate, text)
        await gate.sync()
    for _ in range(50):
        await admitted(gates[0], text)
    await gates[0].sync()
    await gates[1].sync()
    let_in = 0
    while isinstance(await gates[1].admit(text, "auto", clock.now), Admission):
        let_in += 1
    assert let_in == 60 - 1 - 50  # its own first, and fifty of the other since it looked first
    for gate in gates:
        await gate.aclose()


# --- budgets ----------------------------------------------------------------------------------------------------------


async def spend(gate: TenantGate, text: str, usd: float | None, tokens: int = 0, at: float = NOON) -> bool:
    found = await gate.admit(text, "auto", at)
    if isinstance(found, Problem):
        assert found.kind == "quota"
        return False
    gate.settle(found, usd=usd, tokens=tokens, at=at)
    return True


async def test_a_budget_in_dollars_ends_with_the_request_that_crosses_it(gate: TenantGate, rows: Rows) -> None:
    _, text = new_key(rows, budget_usd_per_day=1.0)
    assert [await spend(gate, text, 0.4) for _ in range(4)] == [True, True, True, False]
    problem = await refused(gate, text)
    assert "$1 a day" in problem.message
    assert problem.retry_after_s == pytest.approx(43200.0)  # noon to midnight UTC
    assert await spend(gate, text, 0.4, at=NOON + 43200.0)


async def test_a_budget_in_tokens(gate: TenantGate, rows: Rows) -> None:
    _, text = new_key(rows, budget_tokens_per_day=1000)
    assert [await spend(gate, text, 0.0, 600) for _ in range(3)] == [True, True, False]
    assert "1,000 tokens" in (await refused(gate, text)).message


async def test_a_budget_of_nothing_lets_nothing_through(gate: TenantGate, rows: Rows) -> None:
    _, text = new_key(rows, budget_usd_per_day=0.0)
    assert (await refused(gate, text)).kind == "quota"


async def test_requests_under_way_are_counted_with_what_they_are_expected_to_cost(gate: TenantGate, rows: Rows) -> None:
    _, text = new_key(rows, budget_usd_per_day=1.0)
    assert await spend(gate, text, 0.1)
    under_way = []
    while isinstance(found := await gate.admit(text, "auto", NOON), Admission):
        under_way.append(found)
    assert len(under_way) == 9  # $0.1 spent and 9 x $0.1 held
    assert found.kind == "rate_limit", "money is left: clients ask again"
    assert "held for requests under way" in found.message
    assert found.retry_after_s == pytest.approx(5.0)
    for admission in under_way:
        gate.settle(admission, usd=0.05, tokens=10, at=NOON)
    assert await spend(gate, text, 0.1)


async def test_unseen_costs_let_at_most_a_hundred_start(gate: TenantGate, rows: Rows) -> None:
    _, text = new_key(rows, budget_usd_per_day=5.0)
    started = 0
    while isinstance(await gate.admit(text, "auto", NOON), Admission):
        started += 1
    assert started == 100


async def test_what_nobody_can_price_is_charged_as_it_was_expected(gate: TenantGate, rows: Rows) -> None:
    key, text = new_key(rows, budget_usd_per_day=1.0)
    assert await spend(gate, text, 0.25)
    assert await spend(gate, text, None)
    assert await spend(gate, text, float("nan"))
    await gate.sync()
    assert rows.spent("team", key.id, DAY).micros == 750_000
    assert gate.counters()["unpriced"] == 2


async def test_settling_twice_adds_twice_and_lets_go_once(gate: TenantGate, rows: Rows) -> None:
    key, text = new_key(rows, budget_usd_per_day=1.0)
    admission = await admitted(gate, text)
    gate.settle(admission, usd=0.1, tokens=5, at=NOON)
    gate.settle(admission, usd=0.2, tokens=7, at=NOON)
    await gate.sync()
    assert rows.spent("team", key.id, DAY) == Amount(micros=300_000, tokens=12, requests=1)
    account = gate.accounts.open("team", key.id, gate._limit(key), NOON)
    assert account.meter.held_micros == 0


async def test_a_negative_cost_gives_nothing_back(gate: TenantGate, rows: Rows) -> None:
    key, text = new_key(rows, budget_usd_per_day=1.0)
    gate.settle(await admitted(gate, text), usd=-5.0, tokens=-100, at=NOON)
    await gate.sync()
    assert rows.spent("team", key.id, DAY) == Amount(requests=1)


async def test_what_was_never_settled_is_let_go(gate: TenantGate, rows: Rows, clock: Clock) -> None:
    _, text = new_key(rows, budget_usd_per_day=1.0)
    while isinstance(await gate.admit(text, "auto", NOON), Admission):
        pass
    clock.now += LOST_S + 1.0
    await gate.sync()
    await admitted(gate, text, at=clock.now)
    assert gate.counters()["lost"] == 100


async def test_a_gate_that_is_new_knows_what_was_spent_before(rows: Rows) -> None:
    _, text = new_key(rows, budget_usd_per_day=1.0)
    before = TenantGate(rows, keys_required=True)
    assert await spend(before, text, 1.5)
    await before.aclose()
    after = TenantGate(rows, keys_required=True)
    assert (await refused(after, text)).kind == "quota"
    await after.aclose()


async def test_spend_waits_for_a_store_that_is_away_and_nobody_is_refused_for_it(
    memory_gate: TenantGate, memory: MemoryRows, clock: Clock
) -> None:
    key, text = new_key(memory, budget_usd_per_day=1.0)
    await admitted(memory_gate, text)
    memory.broken = True
    assert await spend(memory_gate, text, 0.3)
    await memory_gate.sync()
    assert await spend(memory_gate, text, 0.3)
    await memory_gate.sync()
    assert memory.amounts == {}
    memory.broken = False
    await memory_gate.sync()
    assert memory.spent("team", key.id, DAY).micros == 600_000


async def test_two_gates_on_one_store_keep_one_budget(rows: Rows, clock: Clock) -> None:
    """Overshoot: what the other spent since it last wrote, and the request that crosses the line."""
    tenant = [Tenant(name="team", budget_usd_per_day=2.0)]
    gates = [TenantGate(rows, tenant, keys_required=True, clock=clock) for _ in range(2)]
    texts = [new_key(rows)[1] for _ in range(4)]
    spent = 0
    for turn in range(200):
        gate = gates[turn % 2]
        spent += await spend(gate, texts[turn % 4], 0.02)
        if turn % 5 == 4:
            await asyncio.gather(*(gate.sync() for gate in gates))
    assert 100 <= spent <= 100 + 5
    assert rows.spent("team", None, DAY).micros == spent * 20_000
    for gate in gates:
        await gate.aclose()


@given(
    budget=st.integers(1, 40),
    costs=st.lists(st.integers(0, 12), min_size=1, max_size=40),
    syncs=st.lists(st.booleans(), min_size=40, max_size=40),
)
def test_one_gate_never_overshoots_by_more_than_the_last_request(
    budget: int, costs: list[int], syncs: list[bool]
) -> None:
    async def run() -> None:
        rows = MemoryRows()
        gate = TenantGate(rows, keys_required=True, clock=lambda: NOON)
        _, text = new_key(rows, budget_usd_per_day=budget / 10)
        spent, crossing = 0, 0
        for cost, sync in zip(costs, syncs, strict=False):
            if await spend(gate, text, cost / 10):
                assert spent < budget
                spent, crossing = spent + cost, cost
            else:
                assert spent >= budget
            if sync:
                await gate.sync()
        assert spent < budget + max(crossing, 1)
        await gate.aclose()
        assert rows.spent("team", None, DAY).micros == spent * 100_000

    asyncio.run(run())


async def test_a_budget_that_was_raised_counts_at_once(gate: TenantGate, rows: Rows, clock: Clock) -> None:
    key, text = new_key(rows, budget_usd_per_day=0.1)
    assert await spend(gate, text, 0.2)
    assert not await spend(gate, text, 0.2)
    rows.put(msgspec.structs.replace(key, budget_usd_per_day=1.0))
    clock.now += 1.0
    await gate.sync()
    assert await spend(gate, text, 0.2, at=clock.now)
    rows.put(msgspec.structs.replace(key, budget_usd_per_day=None))
    clock.now += 1.0
    await gate.sync()
    assert await spend(gate, text, 50.0, at=clock.now)
    rows.put(msgspec.structs.replace(key, budget_usd_per_day=10.0))
    clock.now += 1.0
    await gate.sync()
    assert not await spend(gate, text, 0.1, at=clock.now)


async def test_the_background_keeps_in_step_and_closing_writes_the_rest(rows: Rows) -> None:
    gate = TenantGate(rows, keys_required=True)
    key, text = new_key(rows)
    await gate.start()
    gate.settle(await admitted(gate, text), usd=0.5, tokens=9, at=NOON)
    await gate.aclose()
    assert rows.spent("team", key.id, DAY) == Amount(micros=500_000, tokens=9, requests=1)
