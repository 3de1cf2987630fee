"""The admin API: who gets in, what is shown and changed, and what no answer ever holds."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec
import pytest
from asgi_client import Answer, ask

from potstill.errors import ConfigError
from potstill.record.identity import trajectory_id
from potstill.serve.admin.api import Admin
from potstill.serve.admin.guard import GUESSES_PER_MINUTE
from potstill.serve.admin_key import LEAST, check_admin_key
from potstill.serve.clients import json_http
from potstill.serve.rollout.stages import MemoryState, Stages
from potstill.serve.rollout.trust import trust_of
from potstill.serve.seams import Admission
from potstill.serve.settings import Gateway, Mode, Model, Route, Tenant
from potstill.serve.tenants.gate import TenantGate
from potstill.serve.tenants.key_rows import StoreRows
from potstill.trajectories import Store
from potstill.trajectories.exchange import Exchange
from potstill.trajectories.opening import open_store
from potstill.types import Outcome, Task, Trajectory, TrajectoryKind
from potstill.wire.dialect import Problem

ADMIN_KEY = "correct-horse-battery-9174-staple"
BEARER = {"authorization": f"Bearer {ADMIN_KEY}"}
SETTINGS = Gateway(
    models=(Model(name="big", upstream="up", model="big"), Model(name="small", upstream="up", model="small")),
    routes=(
        Route(name="potstill/auto", teacher="big", student="small", mode=Mode.CASCADE),
        Route(name="told", teacher="big", student="small", mode=Mode.CASCADE, rollout=False),
        Route(name="plain", teacher="big"),
    ),
    tenants=(Tenant(name="team", budget_usd_per_day=5.0),),
)


class Clock:
    def __init__(self) -> None:
        self.now = time.time()

    def __call__(self) -> float:
        return self.now


class World:
    """A store, a gate, stages and the admin application over them."""

    def __init__(self, store: Store, *, admin_key: str | None = ADMIN_KEY) -> None:
        self.store, self.clock = store, Clock()
        self.rows = StoreRows(store)
        self.gate = TenantGate(self.rows, SETTINGS.tenants, keys_required=True, clock=self.clock)
        trusts = {route.name: trust_of(route, SETTINGS) for route in SETTINGS.routes if route.student is not None}
        self.stages = Stages(trusts, store, self.clock)
        self.admin = Admin(
            settings=SETTINGS,
            store=store,
            gate=self.gate,
            admin_key=admin_key,
            stages=self.stages,
            gauges=lambda: {"inflight": 3},
            clock=self.clock,
        )

    async def ask(self, method: str, name: str, json: object = None, **more: Any) -> Answer:
        more.setdefault("headers", BEARER)
        return await ask(self.admin, method, f"/v1/potstill/{name}", json, **more)

    async def key(self, tenant: str = "team", **fields: object) -> tuple[str, str]:
        made = (await self.ask("POST", "keys", {"tenant": tenant, **fields})).json
        return made["key"]["id"], made["text"]

    def exchange(self, episode: str = "ep", namespace: str = "team", **fields: Any) -> int:
        one = Exchange(
            namespace=namespace,
            episode_id=episode,
            route="potstill/auto",
            dialect="openai-chat",
            started_at=self.clock(),
            **{"request": b'{"model":"potstill/auto"}', "response": b'{"id":"x"}', **fields},
        )
        return self.store.record([one])[0]

    def fold(self, id: str, namespace: str = "team", **fields: Any) -> None:
        task = Task(id=f"task-{id}", environment="gateway")
        self.store.append(
            Trajectory(id=id, task=task, kind=TrajectoryKind.CASCADE, namespace=namespace, started_at=1e9, **fields)
        )


BOTH = pytest.mark.parametrize("world", ["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)], indirect=True)
"""For what depends on the store's statements."""


@pytest.fixture
async def world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    file = tmp_path / "gateway.db"
    with open_store(
        request.getfixturevalue("postgres").url_for(file) if getattr(request, "param", "") == "postgres" else file
    ) as store:
        world = World(store)
        yield world
        await world.admin.aclose()
        await world.gate.aclose()


# --- who gets in ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["status", "keys", "episodes", "live", "tenants", "routes", "nonsense", ""])
async def test_nothing_is_told_without_the_admin_key(world: World, name: str) -> None:
    for headers in (
        {},
        {"authorization": "Bearer "},
        {"authorization": f"Basic {ADMIN_KEY}"},
        {"cookie": f"potstill_session={ADMIN_KEY}"},
    ):
        answer = await world.ask("GET", name, headers=headers)
        assert answer.status == 401
        assert answer.json["error"]["kind"] == "authentication"


async def test_a_wrong_key_and_a_tenants_key_are_not_the_admin_key(world: World) -> None:
    _, text = await world.key()
    for key in ("wrong", ADMIN_KEY[:-1], ADMIN_KEY + "x", ADMIN_KEY.upper(), text, "ключ"):
        headers = {"authorization": f"Bearer {key.encode().decode('latin-1')}"}
        assert (await world.ask("GET", "keys", headers=headers)).status == 401
    assert (await world.ask("GET", "keys", headers={"x-api-key": ADMIN_KEY})).status == 200


async def test_guessing_ends_after_some_tries_for_that_address_and_never_locks_the_owner_out(world: World) -> None:
    wrong = {"authorization": "Bearer wrong"}
    for _ in range(GUESSES_PER_MINUTE):
        assert (await world.ask("GET", "keys", headers=wrong)).status == 401
    answer = await world.ask("GET", "keys", headers=wrong)
    assert answer.status == 429
    assert int(answer.header("retry-after") or 0) >= 1
    assert (await world.ask("GET", "keys")).status == 200
    assert (await world.ask("GET", "keys", headers=wrong)).status == 429
    assert (await world.ask("GET", "keys", headers=wrong, address="10.0.0.2")).status == 401
    world.clock.now += 61.0
    assert (await world.ask("GET", "keys", headers=wrong)).status == 401


async def test_without_an_admin_key_there_is_no_admin_api_but_outcomes_work(tmp_path: Path) -> None:
    with Store.open(tmp_path / "x.db") as store:
        world = World(store, admin_key=None)
        assert (await world.ask("GET", "status")).status == 403
        assert (await world.ask("GET", "status", headers={"authorization": "Bearer "})).status == 403
        assert (await ask(world.admin, "POST", "/v1/episodes/x/outcome", {"success": True})).status == 401
        await world.admin.aclose()
        await world.gate.aclose()


# --- keys -------------------------------------------------------------------------------------------------------------


@BOTH
async def test_a_key_is_shown_once_works_at_once_and_ends_when_revoked(world: World) -> None:
    made = await world.ask("POST", "keys", {"tenant": "team", "name": "ci", "requests_per_minute": 60})
    id, text = made.json["key"]["id"], made.json["text"]
    assert made.status == 201
    assert text.startswith(f"psk_{id}_")
    assert isinstance(await world.gate.admit(text, "plain", world.clock()), Admission)
    secret = text.rsplit("_", 1)[1].encode()
    for name in ("keys", f"keys/{id}", "tenants"):
        answer = await world.ask("GET", name)
        assert answer.status == 200
        assert secret not in answer.body
        assert b"digest" not in answer.body
        assert b"salt" not in answer.body
    gone = await world.ask("DELETE", f"keys/{id}")
    assert gone.json["key"]["state"] == "revoked"
    refused = await world.gate.admit(text, "plain", world.clock())
    assert isinstance(refused, Problem)
    assert (await world.ask("DELETE", f"keys/{id}")).json == gone.json


async def test_a_keys_limits_are_changed_and_left_alone_as_said(world: World) -> None:
    id, text = await world.key(budget_usd_per_day=2.0, requests_per_minute=5, name="ci")
    changed = await world.ask("PATCH", f"keys/{id}", {"budget_usd_per_day": None, "routes": ["plain"]})
    assert changed.status == 200
    key = changed.json["key"]
    assert (key["budget_usd_per_day"], key["requests_per_minute"], key["routes"]) == (None, 5, ["plain"])
    assert key["name"] == "ci"
    found = await world.gate.admit(text, "potstill/auto", world.clock())
    assert isinstance(found, Problem)
    assert found.kind == "permission"


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"tenant": ""},
        {"tenant": "../x"},
        {"tenant": "t", "budget_usd_per_day": -1},
        {"tenant": "t", "budget_usd_per_day": "5"},
        {"tenant": "t", "requests_per_minute": 0},
        {"tenant": "t", "requests_per_minute": 1.5},
        {"tenant": "t", "expires_in_days": 0},
        {"tenant": "t", "routes": ["a" * 201]},
        {"tenant": "t", "salt": "00"},
        {"tenant": "t", "id": "chosen"},
        [],
        "x",
        7,
    ],
)
async def test_a_key_that_cannot_be_meant_is_a_400(world: World, body: object) -> None:
    answer = await world.ask("POST", "keys", body)
    assert answer.status == 400, answer.body
    assert (await world.ask("GET", "keys")).json == {"keys": []}


async def test_keys_that_do_not_exist(world: World) -> None:
    for method in ("GET", "PATCH", "DELETE"):
        body = {} if method == "PATCH" else None
        assert (await world.ask(method, "keys/aaaaaaaaaaaa", body)).status == 404
        assert (await world.ask(method, "keys/" + "%C3%A9" * 30, body)).status == 404


# --- what is shown ----------------------------------------------------------------------------------------------------


async def test_status_and_routes(world: World) -> None:
    await world.stages.refresh()
    status = (await world.ask("GET", "status")).json
    assert status["inflight"] == 3
    assert status["last_seq"] == 0
    assert status["kill_switch"]["killed"] is False
    rows = {row["name"]: row for row in (await world.ask("GET", "routes")).json["routes"]}
    assert rows["plain"]["rollout"] is None
    assert rows["potstill/auto"]["rollout"]["stage"] == "shadow"


async def test_a_route_whose_name_has_a_slash_is_frozen_killed_and_released(world: World) -> None:
    await world.stages.refresh()
    for act, stage in (("freeze", "frozen"), ("unfreeze", "shadow"), ("kill", "killed"), ("release", "shadow")):
        answer = await world.ask("POST", f"routes/potstill/auto/{act}", {"by": "nina"})
        assert answer.status == 200, answer.body
        assert answer.json["rollout"]["stage"] == stage
    assert (await world.ask("POST", "routes/potstill/auto/release")).status == 409
    assert (await world.ask("POST", "routes/nope/kill")).status == 404
    assert (await world.ask("POST", "routes/potstill/auto/begin")).status == 404
    assert (await world.ask("GET", "routes/potstill/auto/kill")).status == 405


async def test_a_route_that_does_not_roll_out_is_shown_where_its_mode_puts_it(world: World) -> None:
    await world.stages.refresh()
    rows = {row["name"]: row for row in (await world.ask("GET", "routes")).json["routes"]}
    shown = rows["told"]["rollout"]
    assert (shown["stage"], shown["serving"], rows["told"]["rolls_out"]) == ("live", "live", False)
    for act in ("freeze", "unfreeze"):
        answer = await world.ask("POST", f"routes/told/{act}")
        assert (answer.status, "does not roll out" in answer.json["error"]["message"]) == (409, True)
    for act, stage in (("kill", "killed"), ("release", "live")):
        assert (await world.ask("POST", f"routes/told/{act}")).json["rollout"]["stage"] == stage


async def test_a_route_that_does_not_roll_out_says_who_answers_and_nothing_of_a_rollout(world: World) -> None:
    async def shown(name: str = "told") -> dict[str, Any]:
        rows = (await world.ask("GET", "routes")).json["routes"]
        return next(row["rollout"] for row in rows if row["name"] == name)

    await world.stages.refresh()
    assert (await shown())["changes"] == []
    await world.ask("POST", "kill-switch", {"killed": True})
    for name, stage in (("told", "live"), ("potstill/auto", "shadow")):
        found = await shown(name)
        assert (found["stage"], found["serving"]) == (stage, "killed")
        assert found["sentence"] == "The kill switch is on: the teacher answers."
    killed = (await world.ask("POST", "routes/told/kill")).json["rollout"]
    assert [change["what"] for change in killed["changes"]] == ["kill"]
    await world.ask("POST", "kill-switch", {"killed": False})
    await world.ask("POST", "routes/told/release")
    found = await shown()
    assert (found["stage"], found["serving"]) == ("live", "live")
    assert found["sentence"] == "The route does not roll out: its mode says who answers."
    assert [change["what"] for change in found["changes"]] == ["release", "kill"]


@BOTH
async def test_the_kill_switch_is_seen_by_another_process(world: World) -> None:
    answer = await world.ask("POST", "kill-switch", {"killed": True, "by": "nina"})
    assert answer.json["kill_switch"]["killed"] is True
    second = World(world.store)
    await second.stages.refresh()
    status = (await second.ask("GET", "status")).json
    assert status["kill_switch"]["killed"] is True
    assert status["kill_switch"]["by"] == "nina"
    assert (await world.ask("POST", "kill-switch", {"killed": False})).json["kill_switch"]["killed"] is False
    assert (await world.ask("POST", "kill-switch", {})).status == 400
    await second.admin.aclose()
    await second.gate.aclose()


@BOTH
async def test_pages_of_episodes_show_each_once_while_others_are_added(world: World) -> None:
    for index in range(5):
        world.fold(f"old-{index}")
    for index in range(4):
        world.clock.now += 1.0
        world.exchange(f"new-{index}")
    seen: list[str] = []
    cursor = ""
    for turn in range(20):
        answer = await world.ask("GET", f"episodes?limit=2{cursor}")
        assert answer.status == 200, answer.body
        seen += [row["episode"] for row in answer.json["episodes"]]
        if answer.json["next"] is None:
            break
        cursor = f"&cursor={answer.json['next']}"
        world.clock.now += 1.0
        world.exchange(f"later-{turn}")
        world.fold(f"later-folded-{turn}")
    assert [one for one in seen if not one.startswith("later")] == [
        *(f"new-{index}" for index in (3, 2, 1, 0)),
        *(f"old-{index}" for index in (4, 3, 2, 1, 0)),
    ]
    assert len(seen) == len(set(seen))


@BOTH
async def test_episodes_are_filtered(world: World) -> None:
    world.fold("won", outcome=Outcome(success=True))
    world.fold("lost", outcome=Outcome(success=False))
    world.fold("open-ended")
    world.fold("other", namespace="other", outcome=Outcome(success=True))
    world.exchange("running")

    async def found(query: str) -> set[str]:
        answer = await world.ask("GET", f"episodes?{query}")
        assert answer.status == 200, answer.body
        return {row["episode"] for row in answer.json["episodes"]}

    assert await found("") == {"won", "lost", "open-ended", "other", "running"}
    assert await found("tenant=team&success=true") == {"won"}
    assert await found("success=true") == {"won", "other"}
    assert await found("success=false") == {"lost"}
    assert await found("success=unknown") == {"open-ended", "running"}
    assert await found("state=open") == {"running"}
    assert await found("state=ended&tenant=other") == {"other"}
    assert await found("since=2000000000000") == set()
    assert await found("until=1500000000") == {"won", "lost", "open-ended", "other"}
    assert await found("task=task-won") == {"won"}


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=9999",
        "limit=x",
        "cursor=x",
        "cursor=W10",
        "cursor=WyJvcGVuIl0",
        "nope=1",
        "state=all",
        "success=1",
        "cursor=" + "A" * 3000,
        "since=yesterday",
    ],
)
async def test_a_query_that_is_none_is_a_400(world: World, query: str) -> None:
    assert (await world.ask("GET", f"episodes?{query}")).status == 400


async def test_an_episode_is_told_with_bodies_that_cannot_break_out_of_a_page(world: World) -> None:
    nasty = "</script><script>alert(1)</script>\u2028&amp;"
    seq = world.exchange("ep", request=msgspec.json.encode({"say": nasty}), response=b"data: \xff\xfe {nonsense\n\n")
    answer = await world.ask("GET", "episodes/team/ep")
    for bad in (b"<", b">", b"&", "\u2028".encode()):
        assert bad not in answer.body
    (exchange,) = answer.json["exchanges"]
    assert exchange["seq"] == seq
    assert exchange["request"]["json"] == {"say": nasty}
    assert "nonsense" in exchange["response"]["text"]
    assert answer.header("content-type") == "application/json; charset=utf-8"
    assert answer.header("x-content-type-options") == "nosniff"
    assert "default-src 'none'" in (answer.header("content-security-policy") or "")
    assert answer.header("cache-control") == "no-store"


async def test_a_long_episode_comes_in_pages_and_a_huge_body_is_cut(world: World) -> None:
    for index in range(5):
        world.exchange("ep", response=b"x" * 300_000 if index == 2 else b"{}")
    seen, after = [], 0
    while after is not None:
        answer = (await world.ask("GET", f"episodes/team/ep?limit=2&after_seq={after}")).json
        seen += answer["exchanges"]
        after = answer["next_after_seq"]
    assert [one["seq"] for one in seen] == [1, 2, 3, 4, 5]
    assert seen[2]["response"]["cut"] is True
    assert seen[2]["response"]["bytes"] == 300_000


async def test_an_episode_of_another_tenant_is_not_found(world: World) -> None:
    world.exchange("mine", "team")
    world.fold("theirs", namespace="other")
    assert (await world.ask("GET", "episodes/other/mine")).status == 404
    assert (await world.ask("GET", "episodes/team/theirs")).status == 404
    assert (await world.ask("GET", "episodes/other/theirs")).json["trajectory"]["id"] == "theirs"


@BOTH
async def test_the_live_tail_waits_for_what_comes_and_tells_each_once(world: World) -> None:
    first = world.exchange("a")
    answer = (await world.ask("GET", "live?wait_s=0")).json
    assert [one["seq"] for one in answer["exchanges"]] == [first]
    waiting = asyncio.create_task(world.ask("GET", f"live?after_seq={answer['after_seq']}&wait_s=20"))
    await asyncio.sleep(0.05)
    assert not waiting.done()
    second = world.exchange("b", "other")
    told = (await waiting).json
    assert [(one["seq"], one["tenant"]) for one in told["exchanges"]] == [(second, "other")]
    nothing = (await world.ask("GET", f"live?after_seq={second}&wait_s=0")).json
    assert nothing == {"exchanges": [], "after_seq": second}
    mine = (await world.ask("GET", "live?after_seq=0&wait_s=0&tenant=team")).json
    assert [one["seq"] for one in mine["exchanges"]] == [first]


async def test_live_tails_end_when_the_server_goes_down(world: World) -> None:
    waiting = [asyncio.create_task(world.ask("GET", "live?after_seq=0&wait_s=60")) for _ in range(3)]
    await asyncio.sleep(0.05)
    world.admin.drain()
    assert [(await one).json["exchanges"] for one in waiting] == [[], [], []]


async def test_live_tails_are_bounded(world: World) -> None:
    waiting = [asyncio.create_task(world.ask("GET", "live?after_seq=0&wait_s=60")) for _ in range(16)]
    await asyncio.sleep(0.1)
    assert (await world.ask("GET", "live?after_seq=0&wait_s=60")).status == 503
    world.admin.drain()
    await asyncio.gather(*waiting)


@BOTH
async def test_tenants_show_what_was_spent_today_of_what_they_may(world: World) -> None:
    id, text = await world.key(budget_usd_per_day=2.0)
    admission = await world.gate.admit(text, "plain", world.clock())
    assert isinstance(admission, Admission)
    world.gate.settle(admission, usd=0.25, tokens=100, at=world.clock())
    await world.gate.sync()
    (team,) = (await world.ask("GET", "tenants")).json["tenants"]
    assert team["name"] == "team"
    assert team["budget_usd_per_day"] == 5.0
    assert team["spent"] == {"usd": 0.25, "tokens": 100, "requests": 1}
    assert [(key["id"], key["spent"]["usd"]) for key in team["keys"]] == [(id, 0.25)]


# --- outcomes ---------------------------------------------------------------------------------------------------------


async def tell(world: World, text: str | None, episode: str, body: object) -> Answer:
    headers = {} if text is None else {"authorization": f"Bearer {text}"}
    return await ask(world.admin, "POST", f"/v1/episodes/{episode}/outcome", body, headers=headers)


@BOTH
async def test_an_outcome_is_kept_for_an_open_episode_and_again_changes_nothing(world: World) -> None:
    _, text = await world.key()
    world.exchange("run/7")
    for _ in range(2):
        answer = await tell(world, text, "run/7", {"success": True, "score": 0.5, "detail": "done"})
        assert answer.status == 200, answer.body
        assert answer.json["kept_in"] == "journal"
    kept = world.store.episode("team", "run/7").outcome
    assert kept is not None
    assert (kept.success, kept.score, kept.detail, kept.source) == (True, 0.5, "done", "checker")
    assert (await tell(world, text, "run/7", {"success": None})).status == 200


@BOTH
async def test_a_late_outcome_reaches_the_trajectory(world: World) -> None:
    _, text = await world.key()
    seq = world.exchange("late")
    task = Task(id="late", environment="gateway")
    folded = Trajectory(id="late-trajectory", task=task, kind=TrajectoryKind.TEACHER, namespace="team", started_at=1e9)
    world.store.fold("team", "late", folded, seq)
    answer = await tell(world, text, "late", {"success": False})
    assert answer.json["kept_in"] == "trajectory"
    assert world.store.get("late-trajectory").outcome == Outcome(success=False, source="checker")


async def test_an_ended_episode_takes_its_outcome_under_the_id_it_is_listed_by(world: World) -> None:
    seq = world.exchange("run/7")
    task = Task(id="t", environment="gateway")
    name = trajectory_id("team", "run/7")
    kept = Trajectory(id=name, task=task, kind=TrajectoryKind.TEACHER, namespace="team", started_at=1e9)
    world.store.fold("team", "run/7", kept, seq)
    (row,) = (await world.ask("GET", "episodes")).json["episodes"]
    path = f"episodes/team/{quote(row['episode'], safe='')}/outcome"
    answer = await world.ask("POST", path, {"success": True})
    assert (answer.status, answer.json["episode"], answer.json["kept_in"]) == (200, "run/7", "trajectory")
    assert world.store.get(name).outcome == Outcome(success=True, source="human")


async def test_an_outcome_that_overtakes_its_exchange_waits_for_it(world: World) -> None:
    _, text = await world.key()
    telling = asyncio.create_task(tell(world, text, "soon", {"success": True}))
    await asyncio.sleep(0.02)
    world.exchange("soon")
    assert (await telling).status == 200


@BOTH
async def test_another_tenants_episode_is_as_unknown_as_one_that_never_was(world: World) -> None:
    _, text = await world.key("other")
    world.exchange("ep", "team")
    theirs, never = await tell(world, text, "ep", {"success": False}), await tell(world, text, "no", {"success": False})
    assert theirs.status == never.status == 404
    assert theirs.body == never.body
    assert world.store.episode("team", "ep").outcome is None
    assert not world.store.episode_known("other", "ep")


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"success": "yes"},
        {"success": True, "score": 1.01},
        {"success": True, "score": -0.1},
        {"success": 1},
        {"success": True, "detail": "x" * 4001},
        {"success": True, "more": 1},
        {"success": True, "source": "me"},
        [],
    ],
)
async def test_an_outcome_that_is_none_is_a_400(world: World, body: object) -> None:
    _, text = await world.key()
    world.exchange("ep")
    assert (await tell(world, text, "ep", body)).status == 400


async def test_an_outcome_needs_a_valid_key_of_the_tenant(world: World) -> None:
    world.exchange("ep")
    for text in (None, "sk-ant-x", f"psk_aaaaaaaaaaaa_{'x' * 32}", ADMIN_KEY):
        assert (await tell(world, text, "ep", {"success": True})).status == 401
    id, text = await world.key()
    await world.ask("DELETE", f"keys/{id}")
    assert (await tell(world, text, "ep", {"success": True})).status == 401
    answer = await ask(world.admin, "GET", "/v1/episodes/ep/outcome", headers={"x-api-key": text})
    assert answer.status == 405


async def test_a_person_labels_with_one_click(world: World) -> None:
    world.exchange("ep")
    answer = await world.ask("POST", "episodes/team/ep/outcome", {"success": True})
    assert answer.status == 200
    assert answer.json["outcome"]["source"] == "human"


async def test_a_body_that_is_too_large_is_not_read_to_its_end(world: World) -> None:
    for name in ("keys", "kill-switch"):
        body = b'{"tenant": "' + b"x" * 70_000 + b'"}'
        answer = await world.ask("POST", name, body=body, headers=BEARER | {"content-type": "application/json"})
        assert answer.status == 413


def test_which_paths_are_ours() -> None:
    handles = Admin.handles
    for path, ours in (
        ("/v1/potstill/status", True),
        ("/v1/potstill/acknowledged", False),
        ("/v1/episodes/a/b/outcome", True),
        ("/v1/episodes//outcome", False),
        ("/v1/chat/completions", False),
        ("/v1/potstill", False),
    ):
        assert handles(None, path) is ours  # type: ignore[arg-type]


# --- admin keys -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [
        "x",
        "sk-1234",
        "admin",
        "changeme",
        "password",
        "short-but-9xQ",
        "aaaaaaaaaaaaaaaaaaaaaaaa",
        "abababababababababab",
        "0123456789012345",
        "abcdefghijklmnopqrst",
        "password-password-password",
        "changeme-changeme-1234",
        "potstill-admin-key",
        "sk-1234sk-1234sk-1234",
        "                    ",
        "spaces around it 7x ",
        "ключ-длинный-но-не-латинский",
        "a1b2a1b2a1b2a1b2a1b2",
        "line\nbreak-h7Gk2Lq9Zx",
    ],
)
def test_weak_admin_keys_are_refused_and_not_repeated(value: str) -> None:
    for host in ("127.0.0.1", "0.0.0.0"):
        with pytest.raises(ConfigError) as refused:
            check_admin_key(value, host)
        assert len(value) < LEAST or value not in str(refused.value)
        assert "POTSTILL_ADMIN_KEY" in str(refused.value)


@pytest.mark.parametrize(
    "value",
    [
        "3f9a1c7be2d84056",
        "correct-horse-battery-9174-staple",
        "kX9_f2Lm-Qz7RtVb4Wn8",
        "admin-9f3b61c2e7d84a05",
        "f81d4fae-7dec-11d0-a765-00a0c91e6bf6",
    ],
)
def test_good_admin_keys_are_taken(value: str) -> None:
    check_admin_key(value, "0.0.0.0")


def test_no_admin_key_is_allowed_at_home_only() -> None:
    for host in ("127.0.0.1", "localhost", "::1", "[::1]"):
        check_admin_key(None, host)
    for host in ("0.0.0.0", "::", "192.168.1.4", "gateway.example.org"):
        with pytest.raises(ConfigError, match="needs an admin key"):
            check_admin_key(None, host)


def test_memory_state_serves_where_there_is_no_store() -> None:
    assert MemoryState().get_state("admin", "nothing") is None


async def test_a_body_that_does_not_come_is_not_waited_for(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_http, "BODY_S", 0.05)
    said: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        await asyncio.sleep(0.01)
        return {"type": "http.request", "body": b"{", "more_body": True}

    async def send(message: dict[str, Any]) -> None:
        said.append(message)

    headers = [(b"authorization", f"Bearer {ADMIN_KEY}".encode()), (b"content-type", b"application/json")]
    scope = {"type": "http", "method": "POST", "path": "/v1/potstill/keys", "query_string": b"", "headers": headers}
    await world.admin(scope, receive, send)
    assert said[0]["status"] == 408


def test_the_running_gateway_has_it_and_does_not_wait_for_live_tails(start: Any) -> None:
    gateway = start(teacher="http://127.0.0.1:9/v1#m", admin_key=ADMIN_KEY)
    bearer = {"authorization": f"Bearer {ADMIN_KEY}"}
    assert gateway.get("/v1/potstill/status").status == 401
    status = gateway.get("/v1/potstill/status", **bearer)
    assert status.status == 200
    assert "inflight" in status.json
    assert gateway.post("/v1/episodes/e/outcome", {"success": True}).status == 404
    tails: list[Any] = []
    waiting = threading.Thread(
        target=lambda: tails.append(gateway.get("/v1/potstill/live?after_seq=0&wait_s=60", **bearer))
    )
    waiting.start()
    time.sleep(0.3)
    gateway.server.stop()
    waiting.join()
    assert tails[0].json == {"exchanges": [], "after_seq": 0}
