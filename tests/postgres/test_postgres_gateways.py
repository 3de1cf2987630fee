"""Two gateways on one PostgreSQL behave as one: keys, budgets, rates, stages, episodes, demonstrations, a crash."""

from __future__ import annotations

import itertools
import json
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from gateway_pair import Gateway, assistant, until, user

from postgres_server import PASSWORD, Server
from potstill.trajectories.opening import open_store, read_store
from potstill.trajectories.store import Store
from potstill.types import Answerer

sys.path.append(str(Path(__file__).parent.parent / "serve"))

from upstream_double import Request, Upstream, chat_answer, reply

pytestmark = pytest.mark.postgres
Pair = tuple[Gateway, Gateway]


def answered(request: Request) -> Any:
    """Each answer is another one, and says which model gave it, unless it is asked to say what all say."""
    asked = request.json
    last = asked["messages"][-1]["content"]
    who = "everyone" if "alike" in last else asked["model"]
    text = f"{who} answers {last!r}" + (f" as number {request.number}" if "agent" in last else "")
    choices = [
        {"index": at, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        for at in range(asked.get("n") or 1)
    ]
    usage = {"prompt_tokens": 90, "completion_tokens": 10, "total_tokens": 100}
    return [0.02, reply(chat_answer(model=asked["model"], choices=choices, usage=usage))]


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    with Upstream(answered) as server:
        yield server


@pytest.fixture(scope="module")
def place(postgres: Server) -> str:
    return postgres.url("two_gateways")


@pytest.fixture(scope="module")
def pair(place: str, upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """Started at once, on an empty database."""
    folder = tmp_path_factory.mktemp("gateways")
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda name: Gateway(folder, place, upstream.url, name, idle_s=8.0), ("a", "b"))
    yield first, second
    for one in (first, second):
        one.stop()
    said = "".join([*first.said, *second.said])
    assert "Traceback" not in said, said


@pytest.fixture(scope="module")
def store(pair: Pair, place: str) -> Iterator[Store]:
    with read_store(place) as opened:
        yield opened


def folded(store: Store, namespace: str, count: int = 1) -> list[Any]:
    """The tenant's trajectories, once its episodes are over."""
    until(lambda: not store.open_episodes(namespace) and len(store.ids(namespace=namespace)) >= count)
    return list(store.select(namespace=namespace))


def staged(gateway: Gateway) -> Any:
    """Where a gateway says that the rollout of the route is."""
    rows = gateway.admin("GET", "routes")["routes"]
    return next(row["rollout"] for row in rows if row["name"] == "staged")


def test_a_key_made_at_one_works_at_the_other_and_its_revocation_too(pair: Pair) -> None:
    a, b = pair
    made = a.admin("POST", "keys", {"tenant": "keyed"})
    assert b.chat(made["text"], [user("hi")])[0] == 200
    assert b.chat("psk_" + "a" * 12 + "_" + "b" * 43, [user("hi")])[0] == 401
    b.admin("DELETE", f"keys/{made['key']['id']}")
    until(lambda: a.chat(made["text"], [user("hi")])[0] == 401)


def test_one_budget_of_tokens_for_both(pair: Pair, store: Store) -> None:
    """2,000 tokens at 100 a request: twenty, and what both let in within a look at the store."""
    key = pair[0].key("poor")
    let_in = 0

    def ask(turn: int) -> int:
        return pair[turn % 2].chat(key, [user(f"turn {turn}")])[0]

    for turn in range(200):
        status = ask(turn)
        let_in += status == 200
        if status != 200:
            assert status == 429
            if ask(turn + 1) == 429:
                break
            let_in += 1
    with ThreadPoolExecutor(8) as pool:
        until(lambda: sum(row.tokens for row in store.spend("poor")) == 100 * let_in)
        assert set(pool.map(ask, range(40))) == {429}
    spent = sum(row.tokens for row in store.spend("poor"))
    assert 2000 <= spent == 100 * let_in


def test_one_rate_of_requests_for_both(pair: Pair, store: Store) -> None:
    """Twenty a minute together: what one let through is taken from the other's as soon as it has looked."""
    a, b = pair
    key = a.key("limited")
    assert b.chat(key, [user("hello")])[0] == 200
    first = [a.chat(key, [user(f"{n}")])[0] for n in range(25)]
    assert first.count(200) >= 18
    assert 429 in first
    until(lambda: sum(row.requests for row in store.spend("limited")) >= first.count(200))
    until(lambda: b.chat(key, [user("again")])[0] == 429, 10.0)


def test_a_freeze_a_kill_and_the_switch_at_one_are_seen_at_the_other(pair: Pair) -> None:
    a, b = pair

    a.admin("POST", "routes/staged/freeze")
    until(lambda: staged(b)["stage"] == "frozen")
    b.admin("POST", "routes/staged/unfreeze")
    until(lambda: staged(a)["stage"] == "shadow")
    key = a.key("switched")
    until(lambda: b.chat(key, [user("who?")], model="taught")[1]["x-potstill-answerer"] == "student")
    a.admin("POST", "kill-switch", {"killed": True})
    until(lambda: b.chat(key, [user("who?")], model="taught")[1]["x-potstill-answerer"] == "teacher")
    b.admin("POST", "kill-switch", {"killed": False})
    until(lambda: a.chat(key, [user("who?")], model="taught")[1]["x-potstill-answerer"] == "student")


def test_calls_of_a_named_episode_at_both_are_one_trajectory_in_their_order(pair: Pair, store: Store) -> None:
    key = pair[0].key("named")
    history: list[Any] = []
    for turn in range(8):
        history.append(user(f"turn {turn}"))
        status, _, answer = pair[turn % 2].chat(key, history, x_potstill_episode="booking-7")
        assert status == 200
        history.append(assistant(answer))
    (one,) = folded(store, "named")
    assert [step.action.text for step in one.steps] == [f"big answers 'turn {turn}'" for turn in range(8)]
    assert [step.observation.text for step in one.steps] == [f"turn {turn}" for turn in range(8)]


def test_calls_of_episodes_without_a_name_find_each_other(pair: Pair, store: Store) -> None:
    """Six agents at once, each with its calls now here and now there, among them two with the same first words."""
    key = pair[0].key("nameless")

    def agent(number: int) -> set[str]:
        history: list[Any] = []
        ids = set()
        for turn in range(6):
            history.append(user(f"agent {number // 2} begins" if not turn else f"agent {number} turn {turn}"))
            status, headers, answer = pair[(turn + number) % 2].chat(key, history)
            assert status == 200
            ids.add(headers["x-potstill-episode"])
            history.append(assistant(answer))
        return ids

    groups = [agent(number) for number in range(6)]
    assert [len(ids) for ids in groups] == [1] * 6
    assert len(set.union(*groups)) == 6
    found = folded(store, "nameless", 6)
    assert sorted(len(one.steps) for one in found) == [6] * 6


def test_two_tenants_episodes_of_one_name_never_meet(pair: Pair, store: Store) -> None:
    a, _ = pair
    keys = {tenant: a.key(tenant) for tenant in ("north", "south")}
    for turn in range(2):
        for tenant, key in keys.items():
            answer = pair[turn].chat(key, [user(f"{tenant}'s secret {turn}")], x_potstill_episode="same")
            assert answer[0] == 200
    done = a.call("POST", "/v1/episodes/same/outcome", {"success": True}, authorization=f"Bearer {keys['north']}")
    assert done[0] == 200
    for tenant in keys:
        (one,) = folded(store, tenant)
        words = json.dumps([step.observation.text for step in one.steps])
        assert words.count(f"{tenant}'s secret") == 2
        assert words.count("'s secret") == 2
        assert one.succeeded is (tenant == "north")


def test_what_one_folded_the_other_shows_to_its_student(pair: Pair, store: Store, upstream: Upstream) -> None:
    a, b = pair
    key, other = a.key("school"), a.key("elsewhere")
    goal = "Repair the gearbox of the windmill in Alkmaar"
    said = {"x_potstill_goal": goal, "x_potstill_task": "first"}
    assert a.chat(key, [user(goal)], x_potstill_episode="lesson", **said)[0] == 200
    sent = a.call("POST", "/v1/episodes/lesson/outcome", {"success": True}, authorization=f"Bearer {key}")
    assert sent[0] == 200
    (one,) = folded(store, "school")
    assert one.succeeded
    assert one.steps[0].answerer is Answerer.TEACHER

    def shown(gateway: Gateway, who: str) -> bool:
        before = len(upstream.requests)
        again = {"x_potstill_goal": goal, "x_potstill_task": "second"}
        assert gateway.chat(who, [user("The gearbox again")], model="taught", **again)[0] == 200
        return any(b"big answers" in request.body for request in upstream.requests[before:])

    for gateway in pair:
        until(lambda gateway=gateway: shown(gateway, key))
    assert not shown(a, other)
    assert not shown(b, other)


def test_an_outcome_at_one_moves_the_stage_that_the_other_serves(pair: Pair, place: str) -> None:
    """A serves episodes of a canary, B is told how they ended: failures of the student take the route back at both.

    The student answers as the teacher does, so that nothing but outcomes speaks: where it were asked beside the teacher
    and disagreed, losses in A's shadow could take the route back before B's outcomes do.
    """
    a, b = pair
    key = a.key("staged")
    with open_store(place) as store:
        found = store.get_state("rollout", "staged")
        assert found is not None
        version, row = found
        row["rollout"] |= {"stage": "canary", "rung": 2}
        assert store.put_state("rollout", "staged", row, version)
    until(lambda: staged(a)["stage"] == staged(b)["stage"] == "canary")
    numbers = itertools.count()

    def one_more() -> bool:
        """An episode, and how it ended. Now and then the teacher answers one of the canary's: a state that a crowded
        machine did not read for seconds is not served by."""
        episode = f"e{next(numbers)}"
        words = [user(f"alike in {episode}")]
        status, headers, _ = a.chat(key, words, model="staged", x_potstill_episode=episode)
        assert status == 200
        sent = {"success": headers["x-potstill-answerer"] == "teacher"}
        assert b.call("POST", f"/v1/episodes/{episode}/outcome", sent, authorization=f"Bearer {key}")[0] == 200
        return bool(staged(a)["rung"] < 2)

    until(one_more)
    until(lambda: staged(a)["rung"] == staged(b)["rung"] == 1)
    for one in pair:
        last = staged(one)["changes"][0]
        assert last["what"] == "step-back"
        assert "canary succeeds less often" in last["sentence"]


def test_one_dies_under_load_and_the_other_goes_on_with_nothing_lost(
    postgres: Server, upstream: Upstream, tmp_path: Path
) -> None:
    place = postgres.url("one_dies")
    a, b = (Gateway(tmp_path, place, upstream.url, name) for name in "ab")
    key = a.key("crashing")
    told: dict[int, str] = {}
    failed: list[str] = []
    dead = threading.Event()

    def agent(number: int) -> None:
        for turn in range(30):
            gateway = b if dead.is_set() or (turn + number) % 2 else a
            words = f"{number}.{turn}"
            try:
                status, headers, _ = gateway.chat(key, [user(words)], x_potstill_episode=f"agent-{number}")
            except OSError:
                assert gateway is a
                failed.append(words)
                continue
            assert status == 200
            told[int(headers["x-potstill-seq"])] = words

    try:
        with ThreadPoolExecutor(6) as pool:
            agents = [pool.submit(agent, number) for number in range(6)]
            until(lambda: len(told) > 40)
            a.kill()
            dead.set()
            for one in agents:
                one.result()
        assert len(told) + len(failed) == 180
        with read_store(place) as store:
            rows = {
                row.seq: json.loads(row.exchange.request)["messages"][0]["content"]
                for row in store.recent(None, 0, limit=1000)
            }
            assert {seq: rows.get(seq) for seq in told} == told
            kept = list(rows.values())
            assert len(kept) == len(set(kept))
            assert set(kept) - set(told.values()) <= set(failed)
            assert store.check() == []
    finally:
        for gateway in (a, b):
            gateway.stop()


def test_the_store_s_password_is_neither_said_nor_recorded_nor_told(
    postgres: Server, upstream: Upstream, tmp_path: Path
) -> None:
    place = f"postgresql://potstill:{quote(PASSWORD)}@127.0.0.1:{postgres.port}/postgres?schema=secretive"
    gateway = Gateway(tmp_path, place, upstream.url, "secretive")
    try:
        key = gateway.key("t")
        words = [f"the store is {place}", f"its password is {PASSWORD}", f"quoted {quote(PASSWORD)}"]
        said = [gateway.chat(key, [user(text)], x_potstill_goal=quote(text)) for text in words]
        assert [status for status, _, _ in said] == [200] * 3
        with open_store(place) as store:
            rows = store.recent(None, 0)
            assert len(rows) == 3
            kept = repr(rows)
            read_store(postgres.url("secretive", user="postgres")).close()
        pages = [gateway.admin("GET", path) for path in ("status", "episodes", "live?after_seq=0", "tenants")]
        status, _, metrics = gateway.raw("GET", "/metrics")
        assert status == 200
    finally:
        gateway.stop()
    everything = [kept, json.dumps(pages), metrics, *gateway.said]
    for secret in (PASSWORD, quote(PASSWORD)):
        assert not [text for text in everything if secret in text]
    assert f"potstill@127.0.0.1:{postgres.port}/postgres?schema=secretive" in "".join(gateway.said)
