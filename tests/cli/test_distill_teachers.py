"""``distill weights --teachers``: several teachers' episodes, one of them bad, and what cannot be weighed."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest
from test_distill_weights import needs_torch

from command_line import Here
from potstill.envs.registry import factory, open_source
from potstill.trajectories import Store
from potstill.types import Action, Answerer, Step, Task, Trajectory, TrajectoryKind

N = 12
TINY = ("--epochs", "2", "--width", "8", "--held-out", "0.3", "--json")


def played(task: Task, teacher: str, wrong: int) -> Trajectory:
    """The expert's episode; each ``wrong``-th action is the last admissible one instead (0: none)."""
    environment = factory("house-rules", feedback="none")()
    seen, steps = environment.reset(task, 0), list[Step]()
    while not seen.done and len(steps) < 30:
        action = environment.expert_action()
        if wrong and (len(steps) + len(task.id)) % wrong == 0:
            action = Action(text=(seen.admissible or ())[-1])
        steps.append(Step(index=len(steps), observation=seen, action=action, answerer=Answerer.TEACHER))
        seen = environment.step(action)
    return Trajectory(
        id=f"{teacher}-{task.id.replace('/', '-')}",
        task=task,
        kind=TrajectoryKind.TEACHER,
        teacher=teacher,
        run_id=teacher,
        steps=tuple(steps),
        outcome=environment.outcome(),
    )


def store_of(path: Path, teachers: dict[str, int]) -> str:
    with Store.open(path) as store:
        for task in open_source("house-rules", train=N).tasks("train"):
            for teacher, wrong in teachers.items():
                store.append(played(msgspec.structs.replace(task, split="train"), teacher, wrong))
    return str(path)


@pytest.mark.extra
@needs_torch
def test_the_bad_teacher_is_found_and_stands_in_the_lineage(tmp_path: Path, here: Here) -> None:
    db = store_of(tmp_path / "three.db", {"good": 0, "fair": 5, "bad": 1})
    out = tmp_path / "weighed.policy"
    done = here(
        "distill", "weights", "--db", db, "--out", str(out), "--teachers", "weighed", "--loss", "kind=soft", *TINY
    )
    assert done.code == 0, done.err
    made = json.loads(done.out)
    right = made["reliability"]
    assert right["bad"] < 0.5 < 0.8 < min(right["fair"], right["good"])
    assert "Reliability of the teachers" in done.err
    shown = here("lineage", "show", str(out))
    assert shown.code == 0, shown.err
    assert json.loads(shown.out)["manifest"]["metrics"]["teachers"]["teachers"] == ["bad", "fair", "good"]


@pytest.mark.extra
@needs_torch
@pytest.mark.parametrize(
    ("words", "teachers", "said"),
    [
        (("--teachers", "weighed"), {"good": 0}, "only 'good' taught"),
        (("--teachers", "wighed"), {"good": 0}, "Did you mean 'weighed'"),
    ],
)
def test_what_cannot_be_weighed_is_one_line(
    tmp_path: Path,
    here: Here,
    words: tuple[str, ...],
    teachers: dict[str, int],
    said: str,
) -> None:
    db = store_of(tmp_path / "one.db", teachers)
    done = here("distill", "weights", "--db", db, "--out", str(tmp_path / "no.policy"), *words, *TINY)
    assert done.code == 2
    assert said in done.err
    assert not (tmp_path / "no.policy").exists()
