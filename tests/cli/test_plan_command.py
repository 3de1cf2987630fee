"""``potstill plan``: from options and from a recorded store, its table, its JSON, and what it refuses."""

from __future__ import annotations

import io
import itertools
import json
import shlex
from pathlib import Path

import click
import pytest

from potstill.cli.main import load, main
from potstill.measure.advice import Recording, certified_by, measured_by
from potstill.measure.ways import Assumption
from potstill.trajectories import Store
from potstill.trajectories.jsonl import write_jsonl
from potstill.types import (
    Action,
    Answerer,
    Call,
    DemonstrationRef,
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
    nothing_shown = {"demonstrations_tokens": None}
    assert made["from"] == {"episodes": 1, "cascades": 1, "left_out": 0, "escalation": 0.1} | nothing_shown
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
    of_file, of_store = json.loads(from_file), json.loads(from_store)
    for made, path in ((of_file, tmp_path / "e.jsonl"), (of_store, store)):
        assert f"potstill calibrate {path}" in made.pop("notes")[-1]
    assert of_store.pop("measure_with") == f"{of_file.pop('measure_with')} --db {store}"
    assert of_file == of_store


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
    recording = Recording(path="my runs/p.db", is_store=True, teacher="expert", student="local:small")
    for assumption, file in itertools.product(Assumption, (None, recording)):
        command = measured_by(assumption, "claude-opus-5-5", "claude-haiku-5-5", file)
        name, *arguments = shlex.split(command)[1:]
        assert ("my runs/p.db" in arguments) is (file is not None)
        context = click.Context(load(name), info_name=name)
        load(name).make_parser(context).parse_args(list(arguments))
        arms = arguments[arguments.index("--arm") + 1].split(",") if name == "run" else []
        modes = [arm.partition("@")[2] for arm in arms]
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
    nothing_shown = {"demonstrations_tokens": None}
    assert made["from"] == {"episodes": 2, "cascades": 0, "left_out": 1, "escalation": None} | nothing_shown
    assert made["workload"]["demonstrations_tokens"] == 4000, "the longest prompt of the episode"
    certified = next(text for text in made["notes"] if "certified by" in text)
    assert "potstill calibrate FILE --teacher TEACHER --student STUDENT" in certified
    assert "spend.jsonl holds single calls only" in certified
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
    assert code == 2
    assert err.count("\n") == 1
    assert "nothing.db: there is no such file" in err
    assert "--db" not in err


def shown_to_a_student(run_id: str, student_kind: TrajectoryKind = TrajectoryKind.CASCADE) -> Trajectory:
    """Two steps with demonstrations: prompts of 2,700 and 2,850 tokens; at the second the teacher sees 2,100."""
    prompts = ((Answerer.STUDENT, 2_700), (Answerer.STUDENT, 2_850), (Answerer.TEACHER, 2_100))
    calls = [
        Call(model="m", answerer=who, replies=(Reply(text="go"),), usage=Usage(input_tokens=tokens, output_tokens=50))
        for who, tokens in prompts
    ]
    steps = tuple(
        Step(
            index=i,
            observation=Observation(text="x"),
            action=Action(text="go"),
            answerer=who,
            calls=tuple(made),
            demonstrations=(DemonstrationRef(trajectory_id="other", start=0, stop=3),),
        )
        for i, (who, made) in enumerate(((Answerer.STUDENT, calls[:1]), (Answerer.TEACHER, calls[1:])))
    )
    return Trajectory(
        id=f"shown-{run_id}-{student_kind}",
        task=Task(id="t", environment="e"),
        kind=student_kind,
        run_id=run_id,
        teacher="expert",
        student="local:small",
        steps=steps if student_kind is TrajectoryKind.CASCADE else steps[:1],
        outcome=Outcome(success=True),
    )


def test_demonstrations_are_as_long_as_recorded_and_the_advice_names_the_file_and_its_models(
    store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Store.open(store) as opened:
        opened.append(shown_to_a_student("r1"))
    code, out, err = run(capsys, *PAIR, "--from", str(store), "--json")
    made = json.loads(out)
    assert code == 0
    assert made["from"]["demonstrations_tokens"] == made["workload"]["demonstrations_tokens"] == 750
    (certified,) = [text for text in made["notes"] if "certified by" in text]
    assert f"potstill calibrate {store} --teacher expert --student local:small --keep 0.98" in certified
    assert "attempts of the student alone, and there are none yet" in certified
    assert f"--db {store}" in made["measure_with"]
    _, _, err = run(capsys, *PAIR, "--from", str(store))
    assert "demonstrations: 750 tokens, by which" in err
    _, out, _ = run(capsys, *PAIR, "--from", str(store), "--demos", "9000", "--json")
    assert json.loads(out)["workload"]["demonstrations_tokens"] == 9000
    with Store.open(store) as opened:
        opened.append(shown_to_a_student("r1", TrajectoryKind.STUDENT))
    _, out, _ = run(capsys, *PAIR, "--from", str(store), "--json")
    assert "none yet" not in out


def test_a_hand_off_is_never_longer_than_the_history(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Prompts of 2,000 to 2,700 tokens: a summary of 4,000 would be no summary."""
    _, out, _ = run(capsys, *PAIR, "--from", str(store), "--json")
    made = json.loads(out)
    ways = {way["name"]: way["cost_usd"] for way in made["ways"]}
    assert ways["handoff"] == ways["cascade"]
    assert any("no prompt is longer than a hand-off of 4000 tokens" in text for text in made["notes"])
    _, out, _ = run(capsys, *PAIR, "--from", str(store), "--handoff", "500", "--json")
    made = json.loads(out)
    assert {way["name"]: way["cost_usd"] for way in made["ways"]}["handoff"] < ways["cascade"]
    assert not any("hand-off" in text for text in made["notes"])


def test_without_a_file_the_advice_has_places_to_fill_in(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, err = run(capsys, *PAIR)
    assert "potstill calibrate FILE --teacher TEACHER --student STUDENT" in err
    assert "potstill.db" not in err
    assert max(len(cell) for line in out.splitlines()[1:] for cell in line.split("\t")[1:4]) <= 11
    log = Recording(path="a.jsonl", models=("small", "large"))
    assert "names these models: small, large" in certified_by(log)
