"""Choices among listed actions as files: lines for rankers, arrays for vectors and images."""

from __future__ import annotations

import io
import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from potstill.cli.main import main
from potstill.errors import ConfigError, MissingExtra
from potstill.trajectories import Store
from potstill.trajectories.arrays import MAX_ACTIONS, OTHER_SHAPE, save_npz
from potstill.trajectories.choices import LeftOut, choices
from potstill.trajectories.export import export
from potstill.types import (
    Action,
    Answerer,
    Call,
    Decision,
    Observation,
    Outcome,
    Reason,
    Reply,
    Step,
    Task,
    Trajectory,
    TrajectoryKind,
)

PUSH = ("left", "right")


def episode(id: str, *steps: tuple[str, str], success: bool = True, **fields: Any) -> Trajectory:
    """Steps are what was seen and what was done."""
    made = tuple(
        Step(
            index=at,
            observation=Observation(text=seen, admissible=PUSH),
            action=Action(text=done),
            answerer=Answerer.TEACHER,
        )
        for at, (seen, done) in enumerate(steps)
    )
    task = Task(id=f"task-{id}", environment="cart", goal="balance", kind="pole")
    given = {"task": task, "kind": TrajectoryKind.TEACHER, "steps": made, "outcome": Outcome(success=success)}
    return Trajectory(id=id, **{**given, **fields})


def written(format: str, *episodes: Trajectory, **options: Any) -> bytes:
    target = io.BytesIO()
    export(episodes, target, format, **options)
    return target.getvalue()


def arrays(*episodes: Trajectory, **options: Any) -> dict[str, np.ndarray]:
    with np.load(io.BytesIO(written("arrays", *episodes, **options)), allow_pickle=False) as file:
        return dict(file)


VECTORS = episode("a", ("[0.5, -1, 2e-3]", "right"), ("[1,2,3]", "left"))


def test_a_line_has_the_situation_the_candidates_and_which_was_taken() -> None:
    left_out: Counter[str] = Counter()
    lost = episode("lost", ("x", "left"), success=False)
    lines = written("ranking", episode("a", ("x", "left"), ("y", "right")), lost, left_out=left_out).splitlines()
    assert [json.loads(line) for line in lines][1] == {
        "environment": "cart",
        "task": "task-a",
        "kind": "pole",
        "trajectory": "a",
        "step": 1,
        "situation": {
            "goal": "balance",
            "plan": "",
            "observation": "y",
            "past": [{"observation": "x", "action": "left"}],
        },
        "candidates": ["left", "right"],
        "label": 1,
    }
    assert len(lines) == 2
    assert left_out == {LeftOut.FAILED: 1}
    assert len(written("ranking", lost, all_outcomes=True).splitlines()) == 1
    assert written("ranking", VECTORS, answerers={Answerer.STUDENT}) == b""


def test_vectors_become_one_matrix() -> None:
    left_out: Counter[str] = Counter()
    found = arrays(VECTORS, episode("b", ("[7,8,9]", "left"), ("[7,8]", "left"), ("door", "left")), left_out=left_out)
    assert found["observations"].dtype == np.float32
    np.testing.assert_array_equal(found["observations"], np.float32([[0.5, -1, 2e-3], [1, 2, 3], [7, 8, 9]]))
    assert found["action_names"].tolist() == ["left", "right"]
    assert found["actions"].tolist() == [1, 0, 0]
    assert found["admissible"].all()
    assert found["steps"].tolist() == [0, 1, 0]
    assert found["episode_names"][found["episode_of"]].tolist() == ["a", "a", "b"]
    assert found["task_names"][found["task_of"]].tolist() == ["task-a", "task-a", "task-b"]
    assert found["goals"].tolist() == ["balance", "balance"]
    assert "log_probabilities" not in found
    assert "images" not in found
    assert left_out == {OTHER_SHAPE: 2}


def test_actions_that_were_not_listed_are_masked() -> None:
    steps = list(VECTORS.steps)
    seen = msgspec.structs.replace(steps[1].observation, admissible=("stop", "left"))
    steps[1] = msgspec.structs.replace(steps[1], observation=seen)
    found = arrays(msgspec.structs.replace(VECTORS, steps=tuple(steps)))
    assert found["action_names"].tolist() == ["left", "right", "stop"]
    assert found["admissible"].tolist() == [[True, True, False], [True, False, True]]


def test_log_probabilities_are_there_where_all_are_known() -> None:
    scored = Call(
        model="m",
        answerer=Answerer.TEACHER,
        replies=(Reply(text="right", candidates=(("right", math.log(0.3)), ("left", math.log(0.1)))),),
    )
    steps = tuple(msgspec.structs.replace(step, calls=(scored,)) for step in VECTORS.steps)
    told = arrays(msgspec.structs.replace(VECTORS, steps=steps))["log_probabilities"]
    np.testing.assert_allclose(np.exp(told), [[0.25, 0.75], [0.25, 0.75]], rtol=1e-6)
    assert "log_probabilities" not in arrays(msgspec.structs.replace(VECTORS, steps=(steps[0], VECTORS.steps[1])))


def picture(colour: tuple[int, int, int], size: tuple[int, int] = (4, 3)) -> bytes:
    image = pytest.importorskip("PIL.Image", reason="needs pillow")
    stream = io.BytesIO()
    image.new("RGB", size, colour).save(stream, "PNG")
    return stream.getvalue()


def shown(id: str, store: Store, *pictures: bytes) -> Trajectory:
    plain = episode(id, *(("view", "left") for _ in pictures))
    steps = tuple(
        msgspec.structs.replace(
            step,
            observation=msgspec.structs.replace(step.observation, images=(store.put_blob(content, "image/png"),)),
        )
        for step, content in zip(plain.steps, pictures, strict=True)
    )
    return msgspec.structs.replace(plain, steps=steps)


def test_images_become_pixels_and_each_is_kept_once(tmp_path: Path) -> None:
    red, blue, wide = picture((255, 0, 0)), picture((0, 0, 255)), picture((0, 0, 0), (9, 9))
    left_out: Counter[str] = Counter()
    with Store.open(tmp_path / "db") as store:
        some = [shown("a", store, red, blue, wide, red)]
        found = arrays(*some, read_blob=store.get_blob, left_out=left_out)
    assert found["images"].shape == (2, 3, 4, 3)
    assert found["images"].dtype == np.uint8
    assert found["images"][found["image_of"]][:, 0, 0].tolist() == [[255, 0, 0], [0, 0, 255], [255, 0, 0]]
    assert "observations" not in found
    assert left_out == {OTHER_SHAPE: 1}
    with pytest.raises(ConfigError, match="no store to read them from"):
        arrays(*some)


def test_the_same_episodes_give_the_same_bytes() -> None:
    assert written("arrays", VECTORS) == written("arrays", VECTORS)


def test_nothing_is_pickled() -> None:
    with pytest.raises(ValueError, match="Object arrays"):
        save_npz(io.BytesIO(), {"x": np.array([object()])})


def test_texts_belong_into_a_ranking() -> None:
    with pytest.raises(ConfigError, match="--format ranking"):
        written("arrays", episode("a", ("a door", "left")))
    many = tuple(f"go to {number}" for number in range(MAX_ACTIONS + 1))
    seen = Observation(text="[1]", admissible=many)
    step = Step(index=0, observation=seen, action=Action(text=many[0]), answerer=Answerer.TEACHER)
    with pytest.raises(ConfigError, match="more than 1000 different actions"):
        written("arrays", episode("a", steps=(step,)))


@pytest.mark.parametrize("text", ["[]", "[1, null]", "[NaN]", '["a"]', "[[1]]", "[1", "1, 2", ""])
def test_what_is_no_list_of_numbers_is_no_vector(text: str) -> None:
    left_out: Counter[str] = Counter()
    assert len(arrays(VECTORS, episode("b", (text, "left")), left_out=left_out)["actions"]) == 2
    assert left_out == {OTHER_SHAPE: 1}


def test_a_broken_image_and_a_missing_pillow_are_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Store.open(tmp_path / "db") as store:
        broken = shown("a", store, b"\x89PNG no picture")
        with pytest.raises(ConfigError, match="cannot be read"):
            arrays(broken, read_blob=store.get_blob)
        monkeypatch.setitem(__import__("sys").modules, "PIL", None)
        with pytest.raises(MissingExtra, match=r"potstill\[weights\]"):
            arrays(broken, read_blob=store.get_blob)


def test_the_command_line_writes_each_format(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Store.open(tmp_path / "db") as store:
        store.append(VECTORS)
        student = tuple(msgspec.structs.replace(step, answerer=Answerer.STUDENT) for step in VECTORS.steps)
        other = msgspec.structs.replace(student[0], action=Action(text="left"))
        store.append(msgspec.structs.replace(VECTORS, id="b", steps=(other, student[1])))
    for format, told in (("preferences", "1 pairs"), ("ranking", "2 choices"), ("arrays", "2 choices")):
        target = tmp_path / format
        command = ["trajectories", "export", "--db", str(tmp_path / "db"), "--format", format, "-o", str(target)]
        with pytest.raises(SystemExit) as left:
            main(command)
        assert left.value.code == 0
        assert told in capsys.readouterr().err
        assert target.stat().st_size > 0
    assert json.loads((tmp_path / "preferences").read_text())["rejected"][0]["content"] == "left"


# --- labels on a student's own episodes -----------------------------------------------------------------------------


def test_a_label_is_the_teachers_choice_where_the_student_acted() -> None:
    """The student went left, and was told right: to learn from the teacher is to learn right, after what was left."""
    asked = Decision(answerer=Answerer.STUDENT, reason=Reason.LABELLED, label="right")
    one = episode("labelled", ("a wall", "left"), ("a door", "left"))
    steps = (
        msgspec.structs.replace(one.steps[0], answerer=Answerer.STUDENT, decision=asked, reasoning="I like left."),
        msgspec.structs.replace(one.steps[1], answerer=Answerer.STUDENT),
    )
    one = msgspec.structs.replace(one, kind=TrajectoryKind.CASCADE, steps=steps)
    (taught,) = choices(one, {Answerer.TEACHER})
    assert (taught.action, taught.step.reasoning) == ("right", "")
    own = list(choices(one, {Answerer.STUDENT}))
    assert [choice.action for choice in own] == ["left", "left"]
    assert [turn.action for turn in own[1].situation.past] == ["left"]
    wrong = msgspec.structs.replace(steps[0], decision=msgspec.structs.replace(asked, label="jump"))
    reasons: Counter[LeftOut] = Counter()
    assert not list(choices(msgspec.structs.replace(one, steps=(wrong,)), {Answerer.TEACHER}, left_out=reasons))
    assert reasons == {LeftOut.NOT_ADMISSIBLE: 1}
