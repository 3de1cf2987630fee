"""The conformance check must pass on our environments and must fail on each way of breaking the contract."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable

import pytest
from click.testing import CliRunner

from potstill.cli.envs import envs
from potstill.envs.check import Status, check_environment
from potstill.envs.registry import (
    BUILT_IN,
    EnvironmentPlugin,
    Factory,
    describe,
    environment_names,
    factory,
    open_source,
    plugin,
)
from potstill.errors import ConfigError, EnvError, UnknownName
from potstill.types import Action, Blob, Observation, Outcome, Task

pytestmark = pytest.mark.extra

TASKS = [Task(id=str(number), environment="good", data={"n": number}) for number in range(3)]


class Good:
    """Say 'up' three times."""

    name = "good"

    def reset(self, task: Task, seed: int) -> Observation:
        self._at = 0
        return self._see(f"floor 0 of {task.id}")

    def step(self, action: Action) -> Observation:
        if self._at >= 3:
            raise EnvError("over")
        if action.text not in ("up", "wait"):
            return self._see("you cannot")
        self._at += action.text == "up"
        return self._see(f"floor {self._at}")

    def _see(self, text: str) -> Observation:
        return Observation(text=text, admissible=() if self._at >= 3 else ("up", "wait"), done=self._at >= 3)

    def outcome(self) -> Outcome:
        return Outcome(success=self._at >= 3)

    def expert_action(self) -> Action | None:
        return Action(text="up")

    def read_blob(self, blob: Blob) -> bytes:
        raise KeyError(blob.digest)

    def close(self) -> None:
        self._at = 0


class Forgetful(Good):
    _count = itertools.count()

    def reset(self, task: Task, seed: int) -> Observation:
        super().reset(task, seed)
        return self._see(f"episode {next(self._count)}")


class Strict(Good):
    def step(self, action: Action) -> Observation:
        if action.text not in ("up", "wait"):
            raise ValueError("no such action")
        return super().step(action)


class Endless(Good):
    def step(self, action: Action) -> Observation:
        return self._see("the end") if self._at >= 3 else super().step(action)


class Mute(Good):
    def _see(self, text: str) -> Observation:
        return Observation(text=text, admissible=(), done=self._at >= 3)


class Generous(Good):
    def outcome(self) -> Outcome:
        return Outcome(success=True)


class Lost(Good):
    def expert_action(self) -> Action | None:
        return Action(text="wait")


class Leaky(Good):
    """Remembers the other task's floor."""

    _last = ""

    def reset(self, task: Task, seed: int) -> Observation:
        super().reset(task, seed)
        seen, Leaky._last = Leaky._last, task.id
        return self._see(f"you come from {seen if seen != task.id else ''}")


def failed(make: Callable[[], Good]) -> set[str]:
    return {f.point for f in check_environment(make, TASKS, max_steps=40) if f.status is Status.FAILED}


def test_a_good_environment_passes() -> None:
    findings = check_environment(Good, TASKS, max_steps=40)
    assert {f.status for f in findings} <= {Status.PASSED, Status.SKIPPED}
    assert sum(f.status is Status.PASSED for f in findings) == 9


@pytest.mark.parametrize(
    ("make", "point"),
    [
        (Forgetful, "same actions, same observations"),
        (Leaky, "another world between changes nothing"),
        (Strict, "an inadmissible action does not raise"),
        (Endless, "a step after the end raises EnvError"),
        (Mute, "admissible actions are never an empty list"),
        (Generous, "outcome may be asked at any time"),
        (Lost, "the expert succeeds"),
    ],
)
def test_each_broken_point_is_found(make: Callable[[], Good], point: str) -> None:
    assert point in failed(make)


@pytest.mark.parametrize(
    ("name", "options", "needs"),
    [
        ("minigrid", {"level": "LockedRoom,GoToLocal", "train": 2}, "minigrid"),
        ("minigrid", {"level": "PutTwo", "action_space": "primitive", "images": True, "train": 3}, "minigrid"),
        ("bfcl", {"category": "miss_func"}, "bfcl_eval"),
    ],
)
def test_our_environments_keep_the_contract(name: str, options: dict[str, object], needs: str) -> None:
    pytest.importorskip(needs)
    tasks = open_source(name, **options).tasks("train")[:4]
    about = describe(name, **options)
    findings = check_environment(factory(name, **options), tasks, max_steps=about.max_steps)
    assert [f for f in findings if f.status is Status.FAILED] == []
    expert = findings[-1]
    assert expert.detail.startswith(f"{len(tasks)} of {len(tasks)}")


def test_names_are_known_without_importing_anything() -> None:
    assert {"alfworld", "bfcl", "minigrid", "textworld"} <= set(environment_names())
    assert plugin("minigrid") is BUILT_IN["minigrid"]
    with pytest.raises(UnknownName, match="Did you mean 'alfworld'"):
        plugin("alfwrld")


def test_options_go_where_they_belong() -> None:
    pytest.importorskip("minigrid")
    made = factory("minigrid", level="GoToLocal", action_space="primitive")
    assert made == Factory(name="minigrid", options={"action_space": "primitive"})
    assert describe("minigrid", action_space="primitive").max_steps > describe("minigrid").max_steps
    with pytest.raises(UnknownName, match="Did you mean 'level'"):
        factory("minigrid", lvel="x")


def test_another_packages_plugin_needs_no_registration() -> None:
    found = plugin(f"{__name__}:PLUGIN")
    assert found is PLUGIN
    with pytest.raises(ConfigError, match="lists no tasks"):
        open_source(f"{__name__}:PLUGIN")


PLUGIN = EnvironmentPlugin(environment=f"{__name__}:Good", source="")


def test_the_command_line_lists_checks_and_plays() -> None:
    pytest.importorskip("minigrid")
    runner = CliRunner()
    rows = json.loads(runner.invoke(envs, ["list", "--json"]).stdout)
    assert {"minigrid", "bfcl"} <= {row["name"] for row in rows}
    checked = runner.invoke(envs, ["check", "minigrid", "--n", "2", "--json"])
    assert checked.exit_code == 0
    assert {row["status"] for row in json.loads(checked.stdout)} <= {"passed", "skipped"}
    played = json.loads(runner.invoke(envs, ["play", "minigrid", "--json"]).stdout)
    assert played["outcome"]["success"] is True
    assert played["steps"][0]["observation"].startswith("Mission:")
    listed = json.loads(runner.invoke(envs, ["tasks", "minigrid", "--split", "test", "--limit", "3", "--json"]).stdout)
    assert len(listed) == 3
