"""``potstill plan``: from options and from a recorded store, its table, its JSON, and what it refuses."""

from __future__ import annotations

import io
import json
from pathlib import Path

import click
import pytest

from potstill.cli.main import load, main
from potstill.measure.ways import Assumption
from potstill.measure.whatif import measured_by
from potstill.trajectories import Store
from potstill.trajectories.jsonl import write_jsonl
from potstill.types import (
    Action,
    Answerer,
    Call,
    EscalationMode,
    Observation,
    Outcome,
    Reply,
    Step,
    Task,
    Trajectory,
    TrajectoryKind,
    Usage,
)

PAIR = ("--teacher", "claude-opus-5-5", "--student", "claude-haiku-5-5", "--date", "2026-11-21")


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main(["plan", *arguments])
    captured = capsys.readouterr()
    return int(ended.value.code or 0), captured.out, captured.err


def recorded(kind: TrajectoryKind, answerers: list[Answerer], run_id: str = "r1") -> Trajectory:
    steps = tuple(
        Step(
            index=i,
            observation=Observation(text="x"),
            action=Action(text="go"),
            answerer=who,
            calls=(
                Call(
                    model="claude-opus-5-5",
                    answerer=who,
                    replies=(Reply(text="go"),),
                    usage=Usage(input_tokens=2_000 + 100 * i, output_tokens=50),
                ),
            ),
        )
        for i, who in enumerate(answerers)
    )
    return Trajectory(
        id=f"{kind}-{run_id}",
        task=Task(id="t", environment="e"),
        kind=kind,
        run_id=run_id,
        steps=steps,
        outcome=Outcome(success=True),
    )


EPISODES = [
    recorded(TrajectoryKind.TEACHER, [Answerer.TEACHER] * 8),
    recorded(TrajectoryKind.CASCADE, [Answerer.STUDENT] * 9 + [Answerer.TEACHER]),
]


@pytest.fixture
def store(tmp_path: Path) -> Path:
    path = tmp_path / "p.db"
    with Store.open(path) as opened:
        for one in EPISODES:
            opened.append(one)
        opened.put_run("r1", {})
    return path


def test_the_table_and_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, *PAIR)
    assert code == 0
    header, *rows = [line.split("\t") for line in out.splitlines()]
    assert header[:3] == ["way", "cost_usd", "ratio"]
    assert rows[0][0] == "teacher"
    assert "recommended: cascade" in err
    assert "success is not predicted" in err
    assert "Measured by: potstill" in err


def test_json_of_a_cascade_that_loses_money(capsys: pytest.CaptureFixture[str]) -> None:
    pair = ("--teacher", "gpt-6.1-sol", "--student", "gpt-6.1-terra", "--date", "2026-11-21")
    code, out, _ = run(capsys, *pair, "--escalation", "0.6", "--json")
    made = json.loads(out)
    assert code == 0
    assert made["recommended"] is None
    assert "loses money" in made["reason"]
    assert made["workload"]["escalation"] == 0.6
    assert {way["verdict"] for way in made["ways"] if way["name"].startswith("cascade")} == {"loses"}


def test_the_shape_is_taken_from_a_store_and_options_go_over_it(
    store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = run(capsys, *PAIR, "--from", str(store), "--json")
    made = json.loads(out)
    assert code == 0
    assert made["from"] == {"episodes": 1, "cascades": 1, "left_out": 0, "escalation": 0.1}
    load = made["workload"]
    assert (load["steps"], load["prefix_tokens"], load["per_step_tokens"]) == (8, 2000, 100)
    assert (load["output_tokens"], load["escalation"]) == (50, 0.1)
    _, out, err = run(capsys, *PAIR, "--from", str(store), "--steps", "30", "--escalation", "0.5", "--run", "r1")
    assert "30 steps" in err
    assert "50.0% of steps escalated" in err
    assert "1 episodes and 1 cascades" in err


def test_an_exported_file_says_the_same_as_its_store(
    store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    exported = io.BytesIO()
    write_jsonl(EPISODES, exported)
    (tmp_path / "e.jsonl").write_bytes(exported.getvalue())
    _, from_file, _ = run(capsys, *PAIR, "--from", str(tmp_path / "e.jsonl"), "--json")
    _, from_store, _ = run(capsys, *PAIR, "--from", str(store), "--json")
    assert json.loads(from_file) == json.loads(from_store)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--teacher", "claude-opus-5-6", "--student", "claude-haiku-5-5"), "Near names: claude-opus-5-5"),
        ((*PAIR, "--escalation", "1.2"), "allowed: 0 to 1"),
        ((*PAIR, "--steps", "0"), "allowed: 1 to 1000"),
        ((*PAIR, "--sampling", "together"), "Allowed: separate"),
        ((*PAIR, "--run", "r1"), "add --from"),
        ((*PAIR, "--student-service", "flex"), "Available: standard, batch"),
        ((*PAIR, "--cache-reliability", "85"), "allowed: 0 to 1"),
        ((*PAIR, "--date", "soon"), "YYYY-MM-DD"),
        ((*PAIR, "--assume", "luck"), "luck"),
    ],
)
def test_wrong_options_say_what_is_allowed(
    arguments: tuple[str, ...], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = run(capsys, *arguments)
    assert (code, out) == (2, "")
    assert says in err


def test_what_measures_an_assumption_is_a_command_that_exists() -> None:
    """Parsed by the real command line, not run."""
    for assumption in Assumption:
        name, *arguments = measured_by(assumption, "claude-opus-5-5", "claude-haiku-5-5").split()[1:]
        context = click.Context(load(name), info_name=name)
        load(name).make_parser(context).parse_args(list(arguments))
        modes = [arm.partition("@")[2] for arm in arguments[-1].split(",")] if name == "run" else []
        assert {mode for mode in modes if mode} <= {mode.value for mode in EscalationMode}


def test_the_shape_is_taken_from_another_agents_log(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two sessions of a LiteLLM spend log, of 3 and 1 calls, and a call that names none."""
    rows = [
        {
            "request_id": f"{session}-{number}",
            "call_type": "acompletion",
            "model": "gpt-4.1",
            "session_id": session,
            "spend": 0.001,
            "startTime": f"2026-11-20T10:00:0{number}+00:00",
            "prompt_tokens": 3_000 + 500 * number,
            "completion_tokens": 80,
            "total_tokens": 3_080 + 500 * number,
        }
        for session, calls in (("a", 3), ("b", 1), (None, 1))
        for number in range(calls)
    ]
    log = tmp_path / "spend.jsonl"
    log.write_text("".join(json.dumps(row) + "\n" for row in rows))
    code, out, err = run(capsys, *PAIR, "--from", str(log), "--json")
    assert code == 0, err
    made = json.loads(out)
    assert made["from"] == {"episodes": 2, "cascades": 0, "left_out": 1, "escalation": None}
    assert made["workloads"] == 2
    load = made["workload"]
    assert (load["steps"], load["prefix_tokens"], load["per_step_tokens"], load["output_tokens"]) == (3, 3000, 500, 80)


def test_what_is_no_record_is_named(store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wrong = tmp_path / "x.jsonl"
    wrong.write_text('{"a": 1}\n')
    code, _, err = run(capsys, *PAIR, "--from", str(wrong))
    assert code == 2
    assert "x.jsonl" in err
    assert "no known format" in err
    broken = tmp_path / "e.jsonl"
    broken.write_text('{"format":"potstill/trajectory","version":1}\n')
    code, _, err = run(capsys, *PAIR, "--from", str(broken))
    assert code == 2
    assert "e.jsonl:1 is not an episode" in err
    code, _, err = run(capsys, *PAIR, "--from", str(store), "--run", "r2")
    assert code == 2
    assert "No run named 'r2'. Did you mean 'r1'?" in err
    code, _, err = run(capsys, *PAIR, "--from", str(tmp_path / "nothing.db"))
    assert code == 5
    assert "nothing.db" in err
