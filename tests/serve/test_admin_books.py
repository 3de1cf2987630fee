"""Playbooks in the admin API: which routes show one, and what is told of each bullet."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from asgi_client import Answer, ask

from potstill.distill.playbook.book import Playbook
from potstill.distill.playbook.operations import Add, Batch, Pin, Quarantine, Remove, Stage, Tag
from potstill.serve.admin import books
from potstill.serve.admin.api import Admin
from potstill.serve.settings import Gateway, Mode, Model, Route
from potstill.serve.settings import Playbook as Shown
from potstill.serve.tenants.gate import TenantGate
from potstill.serve.tenants.key_rows import StoreRows
from potstill.trajectories import Store
from potstill.trajectories.opening import open_store
from potstill.types import Outcome, OutcomeSource, PlaybookUse, Task, Trajectory, TrajectoryKind

ADMIN_KEY = "correct-horse-battery-9174-staple"
SETTINGS = Gateway(
    models=(Model(name="big", upstream="up", model="big"), Model(name="small", upstream="up", model="small")),
    routes=(
        Route(name="desk/auto", teacher="big", student="small", mode=Mode.CASCADE, playbook=Shown(name="house/rules")),
        Route(name="plain", teacher="big"),
    ),
)


class World:
    def __init__(self, store: Store, settings: Gateway = SETTINGS) -> None:
        self.book = Playbook(store, "team", "house/rules")
        gate = TenantGate(StoreRows(store), (), keys_required=True)
        self.admin = Admin(settings=settings, store=store, gate=gate, admin_key=ADMIN_KEY)

    async def get(self, name: str, key: str = ADMIN_KEY, method: str = "GET") -> Answer:
        return await ask(self.admin, method, f"/v1/potstill/{name}", None, headers={"authorization": f"Bearer {key}"})

    async def measured(self, name: str = "playbooks/team/house/rules") -> Any:
        for _ in range(1000):
            told = (await self.get(name)).json
            if not told["measuring"]:
                return told
            await asyncio.sleep(0.02)
        raise AssertionError("it measures on and on")

    def change(self, *operations: Any) -> None:
        self.book.apply(Batch(operations=operations, actor="ana"))

    def trials(self) -> None:
        """Of 200 trials: with b-1 all succeed, without it none; b-2 makes no difference."""
        for number in range(200):
            shown = [id for bit, id in ((1, "b-1"), (2, "b-2")) if number & bit]
            use = PlaybookUse(
                name=self.book.name,
                revision=1,
                shown=tuple(shown),
                withheld=tuple({"b-1", "b-2"} - set(shown)),
                trial=True,
            )
            self.book.store.append(
                Trajectory(
                    id=f"t-{number}",
                    namespace="team",
                    task=Task(id=f"task-{number}", environment="gateway"),
                    kind=TrajectoryKind.STUDENT,
                    outcome=Outcome(success="b-1" in shown, source=OutcomeSource.ENVIRONMENT),
                    playbook=use,
                )
            )


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    with open_store(tmp_path / "gateway.db") as store:
        world = World(store)
        world.change(*(Add(section="rules", content=f"Do it {n} times.", stage=Stage.LIVE) for n in range(4)))
        yield world
        await world.admin.aclose()


async def test_routes_are_told_with_the_tenants_that_have_their_playbook(world: World) -> None:
    Playbook(world.book.store, "team", "another").apply(Batch(operations=(Add(section="x", content="No."),), actor="a"))
    (route,) = (await world.get("playbooks")).json["routes"]
    assert (route["route"], route["playbook"], route["holdout_share"]) == ("desk/auto", "house/rules", 0.1)
    (held,) = route["books"]
    assert (held["tenant"], held["revision"], held["bullets"]) == ("team", 1, 4)


async def test_each_bullet_is_told_with_what_trials_measured(world: World) -> None:
    world.change(Tag(id="b-1", helpful=3, harmful=1), Pin(id="b-3", pinned=True), Quarantine(id="b-2"))
    world.change(Remove(id="b-4"))
    world.trials()
    told = await world.measured()
    assert (told["tenant"], told["name"], told["revision"], told["of"]) == ("team", "house/rules", 3, 3)
    assert told["routes"] == ["desk/auto"]
    first, second, third = told["bullets"]
    assert [first[name] for name in ("id", "section", "content", "stage")] == ["b-1", "rules", "Do it 0 times.", "live"]
    assert (first["helpful"], first["harmful"], first["tokens"] > 3) == (3, 1, True)
    assert (first["help"]["difference"], first["help"]["trials"]) == (1.0, 200)
    assert 0 < first["help"]["low"] < first["help"]["high"] <= 1
    assert second["quarantined"] is True
    assert second["help"]["low"] < 0 < second["help"]["high"]
    assert (third["pinned"], third["help"]) == (True, None), "it was in no trial"
    assert told["confidence"] == pytest.approx(0.95)


async def test_bullets_come_in_pages(world: World) -> None:
    told = await world.measured("playbooks/team/house/rules?limit=3")
    assert ([one["id"] for one in told["bullets"]], told["next_offset"]) == (["b-1", "b-2", "b-3"], 3)
    told = await world.measured("playbooks/team/house/rules?limit=3&offset=3")
    assert ([one["id"] for one in told["bullets"]], told["next_offset"]) == (["b-4"], None)
    assert (await world.get("playbooks/team/house/rules?limit=0")).status == 400


async def test_who_reads_does_not_wait_for_a_long_measurement(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    from potstill.distill.playbook.credit import utility

    monkeypatch.setattr(books, "WAIT_S", 0.01)
    real, times, gate = utility.effects_of, list[str](), threading.Event()

    def slow(book: Playbook) -> Any:
        times.append(book.name)
        gate.wait(30)
        return real(book)

    monkeypatch.setattr(utility, "effects_of", slow)
    told = (await world.get("playbooks/team/house/rules")).json
    assert (told["measuring"], len(told["bullets"])) == (True, 4)
    gate.set()
    assert (await world.measured())["measuring"] is False
    await world.measured()
    assert len(times) == 1, "a measurement is good for a while"


async def test_bullets_are_told_although_their_help_cannot_be_read(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    from potstill.distill.playbook.credit import utility

    def broken(book: Playbook) -> Any:
        raise OSError("gone")

    monkeypatch.setattr(utility, "effects_of", broken)
    assert [one["help"] for one in (await world.measured())["bullets"]] == [None] * 4


@pytest.mark.parametrize("name", ["playbooks/team/other", "playbooks/nobody/house/rules", "playbooks/team"])
async def test_what_is_not_there_is_not_found(world: World, name: str) -> None:
    assert (await world.get(name)).status == 404


async def test_only_an_admin_reads_and_nobody_writes(world: World) -> None:
    for name in ("playbooks", "playbooks/team/house/rules"):
        assert (await world.get(name, key="wrong-horse-battery-1234-staple")).status == 401
        assert (await world.get(name, method="POST")).status == 405


async def test_a_gateway_without_a_playbook_has_none(tmp_path: Path) -> None:
    plain = msgspec.structs.replace(SETTINGS, routes=SETTINGS.routes[1:])
    with open_store(tmp_path / "gateway.db") as store:
        world = World(store, plain)
        assert (await world.get("playbooks")).json == {"routes": []}
        await world.admin.aclose()
