"""``potstill compare --fidelity``: pairs counted by hand out of a real store, and played runs of house-rules."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from terminal import in_terminal, plain

import policy_files as files
from potstill.cli.main import main
from potstill.distill.weights.fidelity.runs import carries_out, plan_lines
from potstill.measure.statistics import wilson_by_task
from potstill.trajectories import Store
from potstill.types import (
    Action,
    Answerer,
    Decision,
    EscalationMode,
    Observation,
    Outcome,
    Reason,
    Step,
    Task,
    ToolCall,
    ToolResult,
    Trajectory,
    TrajectoryKind,
)

ALLOWED = ("look", "go 1", "go 2", "take")


def run(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in words])
    captured = capsys.readouterr()
    return int(ended.value.code or 0), captured.out, captured.err


def compared(capsys: pytest.CaptureFixture[str], db: Path, *words: object) -> dict[str, Any]:
    code, out, err = run(capsys, "compare", "a", "b", "--db", db, "--fidelity", "--json", *words)
    assert code == 0, err
    return dict(json.loads(out)["fidelity"])


def seen_and_done(*turns: tuple[str, str]) -> list[Step]:
    return [
        Step(
            index=index,
            observation=Observation(text=seen, admissible=ALLOWED),
            action=Action(text=done),
            answerer=Answerer.STUDENT,
        )
        for index, (seen, done) in enumerate(turns)
    ]


def called(*turns: tuple[str, str, str]) -> list[Step]:
    """Each a result that came back, a tool and its arguments; ids of calls differ, as they do."""
    return [
        Step(
            index=index,
            observation=Observation(tool_results=(ToolResult(call_id=f"{index}-{id(turns)}", text=seen),)),
            action=Action(tool_calls=(ToolCall(id=f"{id(turns)}", name=name, arguments=arguments),)),
            answerer=Answerer.STUDENT,
        )
        for index, (seen, name, arguments) in enumerate(turns)
    ]


RESTART = Step(
    index=1,
    observation=Observation(text="hall", admissible=ALLOWED),
    action=Action(),
    answerer=Answerer.NOBODY,
    decision=Decision(answerer=Answerer.NOBODY, reason=Reason.DISAGREED, mode=EscalationMode.RESTART),
)


def episode(run_id: str, task: int, steps: Sequence[Step], plan: str = "") -> Trajectory:
    return Trajectory(
        id=f"{run_id}-{task}",
        task=Task(id=f"t{task}", environment="rooms"),
        kind=TrajectoryKind.STUDENT,
        arm="only",
        run_id=run_id,
        plan=plan,
        steps=tuple(steps),
        outcome=Outcome(success=True),
    )


@pytest.fixture
def db(tmp_path: Path) -> Path:
    """Six pairs: equal, parted at 1 into a loop, other worlds, equal but once not valid, parted at 0, begun again."""
    straight = seen_and_done(("door", "look"), ("hall", "go 1"), ("desk", "take"))
    a = [
        seen_and_done(("door", "Look."), ("hall", "go 1"), ("desk", "take")),
        seen_and_done(("door", "look"), ("hall", "go 2"), ("door", "look"), ("hall", "go 2")),
        seen_and_done(("door", "look"), ("cellar", "go 1")),
        seen_and_done(("door", "dance"), ("door", "look")),
        seen_and_done(("door", "go 1")),
        [*seen_and_done(("door", "look")), RESTART, *straight],
    ]
    b = [straight, straight, straight, a[3], straight, straight]
    path = tmp_path / "p.db"
    with Store.open(path) as store:
        for task, (ours, theirs) in enumerate(zip(a, b, strict=True)):
            store.append(episode("a", task, ours))
            store.append(episode("b", task, theirs, plan="1. Look around\n2. take it\n3. Go 1." if task == 0 else ""))
        store.append(episode("b", 9, straight))
    return path


def test_six_pairs_by_hand(db: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Decisions 3 + 2 + 1 + 2 + 1 + 1, of which agree 3 + 1 + 1 + 1 + 0 + 1; an action that is not valid never does."""
    found = compared(capsys, db)
    agreement = found["agreement"]
    assert (agreement["hits"], agreement["n"], agreement["clusters"]) == (7, 10, 6)
    assert agreement["interval"] == pytest.approx(wilson_by_task([3, 1, 1, 1, 0, 1], [3, 2, 1, 2, 1, 1], 0.95))
    assert (found["pairs"], found["seen_apart"]) == (6, 1)
    parting = found["parting"]
    assert (parting["n"], parting["never"]["hits"], parting["median_step"]) == (5, 2, 1), "0, 1, 1, never, never"
    assert (found["tool_choice"], found["arguments"]) == (None, None)
    assert (found["loops_a"]["cycling"]["hits"], found["loops_a"]["in_cycles"]["hits"]) == (1, 4)
    assert found["loops_a"]["in_cycles"]["n"] == 3 + 4 + 2 + 2 + 1 + 1, "what came after it began again is left out"
    assert found["loops_b"]["cycling"]["hits"] == 0
    assert found["plan_a"] is None
    assert (found["plan_b"]["hits"], found["plan_b"]["n"]) == (2, 3), "look, and one of two in the wrong order"


def test_the_teacher_against_itself(db: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "compare", "b", "b", "--db", db, "--fidelity", "--json")
    found = json.loads(out)["fidelity"]
    assert (code, found["pairs"], found["seen_apart"], found["parting"]["never"]["value"]) == (0, 7, 0, 1.0)
    assert (found["agreement"]["hits"], found["agreement"]["n"]) == (19, 20), "all but the one that is not valid"


def test_tools_and_arguments_by_hand(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Search is the same, the booking has one of two values; what comes after it is not the same situation."""
    search, oslo = ("hello", "search", '{"q": "x"}'), ("found", "book", '{"to": "Oslo", "seats": 2}')
    rome = ("found", "book", '{"seats": 2.0, "to": "Rome"}')
    with Store.open(tmp_path / "p.db") as store:
        store.append(episode("a", 0, called(search, rome, ("booked", "pay", "{}"))))
        store.append(episode("b", 0, called(search, oslo, ("booked", "book", "{}"))))
    found = compared(capsys, tmp_path / "p.db")
    assert (found["agreement"]["hits"], found["agreement"]["n"]) == (1, 2)
    assert (found["tool_choice"]["distance"], found["tool_choice"]["n"]) == (0.0, 2)
    shares = {name: (found["arguments"][name]["hits"], found["arguments"][name]["n"]) for name in ("calls", "values")}
    assert shares == {"calls": (1, 2), "values": (2, 3)}
    assert found["parting"]["median_step"] == 1


def test_what_a_pipe_and_a_person_get(db: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "compare", "a", "b", "--db", db, "--fidelity")
    assert code == 0, err
    success, alike = out.split("\n\n")
    assert success.startswith("measure\ta\tb\t")
    rows = [line.split("\t") for line in alike.splitlines()]
    assert rows[0] == ["measure", "of", "value", "low", "high", "n"]
    assert {len(row) for row in rows} == {6}
    assert rows[1][:3] == ["same decision", "A as B", "0.7"]
    assert ["plan carried out in order", "A", "", "", "", ""] in rows
    assert "note: 1 of 6 pairs saw different things before they acted differently" in err
    shown = plain(
        in_terminal(f"from potstill.cli.main import main; main(['compare','a','b','--db','{db}','--fidelity'])")
    )
    assert shown.index("success (A - B)") < shown.index("How alike A and B decide") < shown.index("same decision")
    assert re.search(r"plan carried out in order +A +- +- +- +-", shown)


def test_files_hold_no_steps(tmp_path: Path, db: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "f.jsonl"
    path.write_text('{"task_id": "rooms/t0", "model": "m", "success": true}\n', encoding="utf-8")
    code, out, err = run(capsys, "compare", "a", path, "--db", db, "--fidelity")
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert f"'{path}' is a file of attempts, which holds none. Name two runs of a store" in err
    assert json.loads(run(capsys, "compare", "a", path, "--db", db, "--json")[1]).get("fidelity") is None


def test_a_policy_beside_the_expert_of_house_rules(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    drawn = files.write_policy(tmp_path / "drawn.policy")
    world = ("run", "--env", "house-rules", "--split", "test", "--n", 4, "--max-steps", 12, "--db", tmp_path / "p.db")
    for words in (
        ("--run", "a", "--student", f"policy:{drawn}", "--arm", "zero-shot"),
        ("--run", "b", "--teacher", "expert", "--arm", "teacher"),
    ):
        code, _, err = run(capsys, *world, *words)
        assert code == 0, err
    found = compared(capsys, tmp_path / "p.db", "--cpu-hour-usd", 0.05, "--price-teacher-as", "gpt-4.1")
    with Store.read(tmp_path / "p.db") as read:
        sides = [{one.task.id: [s.action.text for s in one.steps] for one in read.select(run_id=name)} for name in "ab"]
    decisions = agreed = 0
    for task, ours in sides[0].items():
        for mine, taught in zip(ours, sides[1][task], strict=False):
            decisions, agreed = decisions + 1, agreed + (mine == taught)
            if mine != taught:
                break
    assert (found["pairs"], found["seen_apart"], decisions > agreed) == (4, 0, True)
    assert (found["agreement"]["n"], found["agreement"]["hits"]) == (decisions, agreed)
    assert found["loops_b"]["cycling"]["value"] == 0.0


@pytest.mark.parametrize(
    ("plan", "lines"),
    [
        ("I will:\n1. Go to desk 1.\n2) Take the mug", ("go to desk 1", "take the mug")),
        ("Step 1: look\nStep 2: go 2", ("look", "go 2")),
        ("- look\n* go 2", ("look", "go 2")),
        ("look\n\ngo 2", ("look", "go 2")),
        ("", ()),
    ],
)
def test_lines_of_a_plan(plan: str, lines: tuple[str, ...]) -> None:
    assert plan_lines(plan) == lines


@pytest.mark.parametrize(
    ("line", "action", "kept"),
    [("go to desk 1 and look", "go to desk 1", True), ("take", "take mug 1", True), ("go to desk 10", "go to desk 1",
     False), ("", "look", False), ("look", "", False)],
)  # fmt: skip
def test_an_action_carries_out_a_line(line: str, action: str, kept: bool) -> None:
    assert carries_out(line, action) is kept
