"""A running gateway takes up a policy's new version; what cannot be served leaves the old one in place."""

from __future__ import annotations

import hashlib
import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from test_gateway_policy import ACTIONS, asked, chosen, settings, teaching
from upstream_double import Upstream

import policy_files as files
from potstill.decide import rollout
from potstill.edge import act, tensors
from potstill.edge.policy import open_policy
from potstill.errors import StoreError
from potstill.serve.deciding import reloading
from potstill.serve.rollout.rows import StageRow
from potstill.serve.rollout.stages import KIND, MemoryState, Stages, plain
from potstill.serve.rollout.trust import trust_of
from potstill.trajectories.store import Store

Start = Callable[..., Any]
ADMIN = "an-admin-key-for-tests-only"


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reloading, "LOOK_S", 0.02)


def bytes_of(folder: Path, seed: int) -> bytes:
    return files.write_policy(folder / f"made-{seed}.policy", files.ranker_arrays(seed=seed)).read_bytes()


def replace(path: Path, data: bytes) -> None:
    """As ``distill retrain`` does it: whole, or not at all."""
    path.with_name("new").write_bytes(data)
    os.replace(path.with_name("new"), path)


def choice_of(data: bytes, folder: Path) -> str:
    (folder / "asked.policy").write_bytes(data)
    return str(act.decide(open_policy(folder / "asked.policy"), {**files.SITUATION, "admissible": ACTIONS})["action"])


@pytest.fixture
def two(tmp_path: Path) -> tuple[bytes, bytes]:
    """The policy that ``settings`` writes, and one that chooses otherwise."""
    first = bytes_of(tmp_path, 0)
    for seed in range(1, 50):
        other = bytes_of(tmp_path, seed)
        if choice_of(other, tmp_path) != choice_of(first, tmp_path):
            return first, other
    raise AssertionError("no drawn policy chooses otherwise")


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not true():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.02)


def route(running: Any) -> dict[str, Any]:
    answered = running.get("/v1/potstill/routes", authorization=f"Bearer {ADMIN}")
    assert answered.status == 200, answered.body
    (found,) = answered.json["routes"]
    return dict(found)


def test_a_promoted_version_is_served_and_no_request_is_lost(
    start: Start, tmp_path: Path, two: tuple[bytes, bytes]
) -> None:
    first, second = two
    answers: list[tuple[int, str]] = []
    stop = threading.Event()

    def keep_asking(running: Any) -> None:
        while not stop.is_set():
            answered = running.post("/v1/chat/completions", asked())
            answers.append((answered.status, chosen(answered)))

    with Upstream(teaching) as cloud:
        running = start(settings(tmp_path, cloud.url), admin_key=ADMIN)
        before = route(running)["policy"]
        client = threading.Thread(target=keep_asking, args=(running,))
        client.start()
        try:
            until(lambda: len(answers) > 5)
            replace(tmp_path / "student.policy", second)
            until(lambda: answers[-1][1] == choice_of(second, tmp_path))
            replace(tmp_path / "student.policy", first)
            until(lambda: answers[-1][1] == choice_of(first, tmp_path))
        finally:
            stop.set()
            client.join()
        after = route(running)["policy"]
        metrics = running.get("/metrics").body.decode()
    assert {status for status, _ in answers} == {200}
    assert {action for _, action in answers} == {choice_of(first, tmp_path), choice_of(second, tmp_path)}
    assert not cloud.requests, "the student answered throughout"
    assert 'potstill_policy_loads_total{model="small",what="loaded"} 2' in metrics
    assert after["version"] == before["version"]
    assert (before["file"], before["problem"]) == (str(tmp_path / "student.policy"), "")


@pytest.mark.parametrize("broken", ["cut", "tampered", "gone"])
def test_what_cannot_be_served_leaves_the_old_one_and_says_so(
    start: Start, tmp_path: Path, two: tuple[bytes, bytes], broken: str, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = two
    path = tmp_path / "student.policy"
    with Upstream(teaching) as cloud:
        running = start(settings(tmp_path, cloud.url), admin_key=ADMIN)
        version = route(running)["policy"]["version"]
        if broken == "gone":
            path.unlink()
        else:
            replace(path, second[:200] if broken == "cut" else tampered(second, tmp_path))
        until(lambda: route(running)["policy"]["problem"] != "")
        shown = route(running)["policy"]
        assert chosen(running.post("/v1/chat/completions", asked())) == choice_of(first, tmp_path)
        assert shown["version"] == version
        assert 'potstill_policy_loads_total{model="small",what="refused"}' in running.get("/metrics").body.decode()
        said = [one.getMessage() for one in caplog.records if "is not taken up" in one.getMessage()]
        assert len(said) == 1, "once, though it is looked at every moment"
        assert f"version {version[:16]} is served as before" in said[0]
        replace(path, second)
        until(lambda: route(running)["policy"]["problem"] == "" and route(running)["policy"]["version"] != version)
        assert chosen(running.post("/v1/chat/completions", asked())) == choice_of(second, tmp_path)


def tampered(data: bytes, folder: Path) -> bytes:
    arrays, texts = tensors.from_bytes(data)
    arrays = {**arrays, "score.bias": arrays["score.bias"] + 1}
    return tensors.to_bytes(arrays, texts)


def test_a_new_version_begins_its_rollout_in_shadow(start: Start, tmp_path: Path, two: tuple[bytes, bytes]) -> None:
    with Upstream(teaching) as cloud:
        found = settings(tmp_path, cloud.url, route={"mode": "cascade", "cascade": {"threshold": 0.0}})
        trust = trust_of(found.routes[0], found)
        live = rollout.RolloutState(stage=rollout.Stage.LIVE, entered_at=time.time() - 5)
        with Store.open(tmp_path / "gateway.db") as store:
            assert store.put_state(KIND, "auto", plain(StageRow(rollout=live, calibration=trust.calibration)), 0)
        running = start(found, admin_key=ADMIN)
        assert route(running)["rollout"]["stage"] == "live"
        replace(tmp_path / "student.policy", two[1])
        until(lambda: route(running)["rollout"]["stage"] == "shadow")
        answered = running.post("/v1/chat/completions", asked())
        (change,) = route(running)["rollout"]["changes"]
    assert answered.headers["x-potstill-answerer"] == "teacher"
    assert "proves itself anew" in change["sentence"]


def test_a_new_calibration_of_a_policy_is_taken_up(start: Start, tmp_path: Path) -> None:
    said = tmp_path / "calibration.json"
    said.write_text('{"certified": true, "keep": 0.9, "threshold": 1.0, "signal": "likelihood"}')
    more = {"mode": "cascade", "rollout": False, "cascade": {"calibration": str(said)}}
    with Upstream(teaching) as cloud:
        running = start(settings(tmp_path, cloud.url, route=more), admin_key=ADMIN)
        assert running.post("/v1/chat/completions", asked()).headers["x-potstill-answerer"] == "teacher"
        said.write_text('{"certified": true, "keep": 0.9, "threshold": 0.0, "signal": "likelihood"}')
        until(lambda: running.post("/v1/chat/completions", asked()).headers["x-potstill-answerer"] == "student")
        said.write_text('{"certified": false, "keep": 0.9, "signal": "likelihood", "reason": "Too few."}')
        until(lambda: "certifies nothing" in route(running)["policy"]["problem"])
        assert running.post("/v1/chat/completions", asked()).headers["x-potstill-answerer"] == "student"


def test_without_a_rollout_another_version_waits_for_its_calibration(
    start: Start, tmp_path: Path, two: tuple[bytes, bytes]
) -> None:
    first, second = two

    def certify(data: bytes) -> None:
        told = {"certified": True, "keep": 0.9, "threshold": 0.0, "signal": "likelihood"}
        said.write_text(json.dumps(told | {"policy_sha256": hashlib.sha256(data).hexdigest()}))

    said = tmp_path / "calibration.json"
    certify(first)
    more = {"mode": "cascade", "rollout": False, "cascade": {"calibration": str(said)}}
    with Upstream(teaching) as cloud:
        running = start(settings(tmp_path, cloud.url, route=more), admin_key=ADMIN)
        replace(tmp_path / "student.policy", second)
        until(lambda: "no rollout" in route(running)["policy"]["problem"])
        assert chosen(running.post("/v1/chat/completions", asked())) == choice_of(first, tmp_path)
        certify(second)
        until(lambda: route(running)["policy"]["problem"] == "")
        assert chosen(running.post("/v1/chat/completions", asked())) == choice_of(second, tmp_path)
    assert not cloud.requests, "the student answered throughout"


# --- the stages ------------------------------------------------------------------------------------------------------


class Away(MemoryState):
    """A store that can be away."""

    away = False

    def get_state(self, kind: str, key: str) -> tuple[int, Any] | None:
        if self.away:
            raise StoreError("The store is away.")
        return super().get_state(kind, key)


@pytest.fixture
def trusts(tmp_path: Path, two: tuple[bytes, bytes]) -> tuple[Any, Any]:
    found = settings(tmp_path, "http://127.0.0.1:1/v1", route={"mode": "cascade"})
    old = trust_of(found.routes[0], found)
    replace(tmp_path / "student.policy", two[1])
    return old, trust_of(found.routes[0], found)


async def test_what_was_observed_of_the_old_one_says_nothing_of_the_new(trusts: tuple[Any, Any]) -> None:
    old, new = trusts
    assert old.calibration != new.calibration
    stages = Stages({"auto": old}, MemoryState(), time.time)
    assert await stages.tick()
    stages.shadowed("auto", acted=True, agreed=True)
    assert await stages.tick()
    assert stages.row("auto").counts.shadow_units == 1
    stages.shadowed("auto", acted=True, agreed=False)
    await stages.adopt(new)
    stages.shadowed("auto", acted=True, agreed=False, calibration=old.calibration)
    assert await stages.tick()
    assert stages.row("auto").calibration == new.calibration
    assert stages.row("auto").acted == 0
    stages.shadowed("auto", acted=True, agreed=True)
    assert await stages.tick()
    assert (stages.row("auto").acted, stages.row("auto").disagreed) == (1, 0)


async def test_a_store_that_is_away_changes_nothing(trusts: tuple[Any, Any]) -> None:
    old, new = trusts
    store = Away()
    stages = Stages({"auto": old}, store, time.time)
    assert await stages.tick()
    store.away = True
    with pytest.raises(StoreError):
        await stages.adopt(new)
    store.away = False
    assert await stages.tick()
    assert stages.row("auto").calibration == old.calibration
    assert stages.assigned("auto", "episode").note == ""


async def test_of_two_gateways_the_second_only_follows(trusts: tuple[Any, Any]) -> None:
    old, new = trusts
    store = MemoryState()
    one, other = (Stages({"auto": old}, store, time.time) for _ in range(2))
    assert await one.tick()
    assert await other.tick()
    await one.adopt(new)
    entered = one.row("auto").rollout.entered_at
    assert await other.refresh()
    assert "another gateway" in other.assigned("auto", "episode").note
    await other.adopt(new)
    assert other.assigned("auto", "episode").note == ""
    assert other.row("auto").rollout.entered_at == entered
