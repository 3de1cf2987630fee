"""Rows that processes share: compare-and-set, spend that adds up, leases, keys of which only digests are kept."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from trajectory_strategies import json_value

from engines import raw
from potstill.errors import StoreError
from potstill.trajectories import Store
from potstill.trajectories.state import KeyRow, Spend

CHILD = Path(__file__).with_name("journal_child.py")


@pytest.fixture
def store(tmp_path):
    with Store.open(tmp_path / "s.db") as opened:
        yield opened


# --- versioned rows -------------------------------------------------------------------------------------------------


def test_only_who_read_the_newest_version_writes(store):
    assert store.get_state("rollout", "auto") is None
    assert store.put_state("rollout", "auto", {"stage": "shadow"}, 0)
    assert not store.put_state("rollout", "auto", {"stage": "live"}, 0)
    assert store.get_state("rollout", "auto") == (1, {"stage": "shadow"})
    assert store.put_state("rollout", "auto", {"stage": "canary"}, 1)
    assert not store.put_state("rollout", "auto", {"stage": "live"}, 1)
    assert not store.put_state("rollout", "auto", {"stage": "live"}, 7)
    assert not store.put_state("rollout", "other", {"stage": "live"}, 1)
    version, value = store.get_state("rollout", "auto") or (0, None)
    assert (version, value) == (2, {"stage": "canary"})
    assert store.put_state("switch", "auto", True, 0)
    assert store.states("rollout") == {"auto": (2, {"stage": "canary"})}
    assert store.states("nothing") == {}


def test_a_value_that_is_null_is_not_a_row_that_is_missing(store):
    assert store.put_state("k", "a", None, 0)
    assert store.get_state("k", "a") == (1, None)


@settings(max_examples=30)
@given(json_value)
def test_any_json_comes_back(tmp_path_factory, value):
    with Store.open(tmp_path_factory.mktemp("state") / "s.db") as store:
        assert store.put_state("k", "a", value, 0)
        assert store.get_state("k", "a") == (1, value)


@pytest.mark.parametrize("value", [float("nan"), {"a": [float("inf")]}, (1, 2), {1: 2}, object(), b"x", "\ud800"])
def test_what_is_no_json_is_refused(store, value):
    with pytest.raises(StoreError, match="Cannot store state 'k' 'a'"):
        store.put_state("k", "a", value, 0)
    with pytest.raises(StoreError, match="kind is ''"):
        store.put_state("", "a", 1, 0)


def test_two_processes_count_as_one(tmp_path):
    """Compare-and-set and spend, raced by two processes of two threads each."""
    path, each = tmp_path / "s.db", 40
    command = [sys.executable, CHILD, "count", path]
    children = [subprocess.Popen([*command, name, str(each)]) for name in ("left", "right")]
    assert [child.wait(timeout=120) for child in children] == [0, 0]
    with Store.open(path) as store:
        assert store.get_state("test", "number") == (4 * each, 4 * each)
        rows = {one.key_id: one for one in store.spend("acme")}
        assert (rows["left"].usd_micros, rows["left"].tokens, rows["left"].requests) == (6 * each, 10 * each, 2 * each)
        assert (rows["shared"].usd_micros, rows["shared"].tokens) == (4 * each, 0)


# --- spend ----------------------------------------------------------------------------------------------------------


def test_spend_adds_up_and_is_read_by_tenant_key_and_day(store):
    first = store.add_spend("acme", "k1", "2026-11-20", usd_micros=10, tokens=3)
    assert first == Spend(namespace="acme", key_id="k1", day="2026-11-20", usd_micros=10, tokens=3, requests=1)
    assert store.add_spend("acme", "k1", "2026-11-20", usd_micros=5).usd_micros == 15
    assert store.add_spend("acme", "k1", "2026-11-20", usd_micros=-2, requests=0).usd_micros == 13  # a correction
    store.add_spend("acme", "", "2026-11-21", tokens=1)
    store.add_spend("other", "k1", "2026-11-21", usd_micros=99)
    assert [(s.day, s.key_id, s.usd_micros, s.requests) for s in store.spend("acme")] == [
        ("2026-11-20", "k1", 13, 2),
        ("2026-11-21", "", 0, 1),
    ]
    assert [s.day for s in store.spend("acme", since="2026-11-21")] == ["2026-11-21"]
    assert [s.day for s in store.spend("acme", until="2026-11-21")] == ["2026-11-20"]
    assert [s.namespace for s in store.spend(None, key_id="k1")] == ["acme", "other"]
    assert store.spend("nobody") == []


def test_many_threads_add_and_nothing_is_lost(store):
    def work(i: int) -> None:
        one = Spend(namespace="a", day="2026-11-21", usd_micros=i, tokens=1, requests=1)
        two = msgspec.structs.replace(one, key_id=str(i % 3))
        store.add_spend_nowait([one, two]).result()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(200)))
    assert [(s.key_id, s.usd_micros, s.requests) for s in store.spend("a")] == [
        ("", sum(range(200)), 200),
        *((str(k), sum(range(k, 200, 3)), len(range(k, 200, 3))) for k in range(3)),
    ]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"day": "2026-11-2"}, "day is '2026-11-2'"),
        ({"day": "yesterday"}, "such as 2026-11-21"),
        ({"usd_micros": 1.5}, "usd_micros is 1.5"),
        ({"tokens": 2**63}, "64 bits"),
        ({"requests": True}, "requests is True"),
        ({"namespace": ""}, "namespace"),
        ({"key_id": "\x00"}, "key_id"),
    ],
)
def test_spend_that_cannot_be_meant_is_refused_with_its_batch(store, change, said):
    good = Spend(namespace="a", day="2026-11-21", tokens=1)
    with pytest.raises(StoreError, match=said):
        store.add_spend_nowait([good, msgspec.structs.replace(good, **change)])
    assert store.spend(None) == []


def test_a_counter_that_would_overflow_keeps_what_it_was(store):
    store.add_spend("a", "", "2026-11-21", tokens=2**63 - 1)
    with pytest.raises(StoreError):
        store.add_spend("a", "", "2026-11-21", tokens=1)
    assert store.spend("a")[0].tokens == 2**63 - 1


# --- leases ---------------------------------------------------------------------------------------------------------


def test_one_holder_at_a_time(tmp_path):
    now = [1000.0]
    with (
        Store.open(tmp_path / "s.db", clock=lambda: now[0]) as one,
        Store.open(tmp_path / "s.db", clock=lambda: now[0]) as two,
    ):
        assert one.lease("folding", "p1", 30)
        assert not two.lease("folding", "p2", 30)
        assert two.lease("pruning", "p2", 30)
        now[0] += 20
        assert one.lease("folding", "p1", 30)  # renewed
        now[0] += 29
        assert not two.lease("folding", "p2", 30)
        now[0] += 1
        assert two.lease("folding", "p2", 30)  # it ran out
        assert not one.lease("folding", "p1", 30)
        assert not one.release("folding", "p1")
        assert two.release("folding", "p2")
        assert one.lease("folding", "p1", 30)
        for seconds in (0, -1, float("nan"), float("inf")):
            with pytest.raises(StoreError, match="positive number of seconds"):
                one.lease("folding", "p1", seconds)


def test_of_many_that_ask_at_once_one_gets_it(store):
    with ThreadPoolExecutor(8) as pool:
        got = list(pool.map(lambda i: store.lease("x", f"p{i}", 60), range(40)))
    assert sum(got) == 1


# --- tenants' keys --------------------------------------------------------------------------------------------------


def key(id: str = "k1", tenant: str = "acme", **fields: object) -> KeyRow:
    salt = b"0123456789abcdef"
    digest = hashlib.blake2b(b"secret of " + id.encode(), salt=salt, digest_size=32).digest()
    return KeyRow(id=id, tenant=tenant, salt=salt, digest=digest, created_at=5.0, **fields)  # type: ignore[arg-type]


def test_keys_are_kept_listed_limited_and_revoked(tmp_path):
    now = [100.0]
    with Store.open(tmp_path / "s.db", clock=lambda: now[0]) as store:
        for one in (key(limits={"usd_per_day": 1.5}), key("k2"), key("k3", "other")):
            store.put_key(one)
            store.put_key(one)
        assert store.key_by_id("k1") == key(limits={"usd_per_day": 1.5})
        assert store.key_by_id("nobody") is None
        assert [one.id for one in store.keys("acme")] == ["k1", "k2"]
        assert [one.id for one in store.keys(None)] == ["k1", "k2", "k3"]
        assert store.revoke_key("k1")
        now[0] = 200.0
        assert not store.revoke_key("k1")
        assert not store.revoke_key("nobody")
        store.put_key(key(limits={"usd_per_day": 9}))  # new limits do not bring it back
        assert store.key_by_id("k1") == key(limits={"usd_per_day": 9}, revoked_at=100.0)


def test_an_id_is_never_given_to_another_key(store):
    store.put_key(key())
    for other in (key(tenant="other"), msgspec.structs.replace(key(), digest=bytes(range(200, 232)))):
        with pytest.raises(StoreError, match="Another key with id 'k1'"):
            store.put_key(other)
    assert store.key_by_id("k1") == key()


@pytest.mark.parametrize(
    "digest", [b"psk_abcdefghijkl_0123456789abcdefghijklmnop", b"\xff" * 19, "psk_secret" * 5, b""]
)
def test_a_key_s_text_is_refused_and_not_shown(store, digest):
    with pytest.raises(StoreError, match="Only digests of keys are kept") as refused:
        store.put_key(msgspec.structs.replace(key(), digest=digest))
    assert "psk" not in str(refused.value)
    with raw(store) as connection:
        assert connection.execute("SELECT count(*) FROM tenant_keys").fetchone()[0] == 0
    with pytest.raises(StoreError, match="salt must be 8 bytes"):
        store.put_key(msgspec.structs.replace(key(), salt=b""))
    assert store.keys(None) == []
