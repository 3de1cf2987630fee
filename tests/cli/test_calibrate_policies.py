"""A policy is calibrated at a teacher's recorded decisions, by its own probability; ``run`` and ``serve`` act by it."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import policy_files as files
from potstill.cli.calibrate import around
from potstill.cli.main import main
from potstill.decide.policy import Signal
from potstill.distill.weights import artefact
from potstill.distill.weights.data import Equal, digest_of, write
from potstill.distill.weights.lineage import Dataset, Manifest
from potstill.errors import ConfigError
from potstill.serve import settings_file
from potstill.serve.rollout.trust import trust_of
from potstill.trajectories import Store
from potstill.types import (
    Action,
    Answerer,
    Observation,
    Outcome,
    Reason,
    Step,
    Task,
    Trajectory,
    TrajectoryKind,
)

CONFIG = {"kind": "mlp", "sizes": [2, 2], "activation": "relu", "actions": ["left", "right"]}
SIDES = ("left", "right")
SURE = 4.0
"""Sight at which the policy goes left with a probability of 1 / (1 + e^-4) = 0.982."""
UNSURE = math.log(0.62 / 0.38)
"""Of 0.62."""


def identity() -> dict[str, np.ndarray]:
    """A policy whose logits are the two numbers that it sees."""
    return {"layers.0.weight": np.eye(2, dtype=np.float32), "layers.0.bias": np.zeros(2, np.float32)}


def step(index: int, sight: float, action: str, admissible: Sequence[str] | None = SIDES) -> Step:
    shown = Observation(text=f"[{sight}, 0]", admissible=None if admissible is None else tuple(admissible))
    return Step(index=index, observation=shown, action=Action(text=action), answerer=Answerer.TEACHER)


def episode(name: str, *decisions: Step, success: bool | None = True, **fields: Any) -> Trajectory:
    given: dict[str, Any] = {"kind": TrajectoryKind.TEACHER, "teacher": "expert", "run_id": "r", "arm": "teacher"}
    task = Task(id=name, environment="road", goal=f"home of {name}")
    return Trajectory(id=f"e-{name}", task=task, steps=decisions, outcome=Outcome(success=success), **(given | fields))


def hundred() -> list[Trajectory]:
    """80 tasks at which the policy is sure and right; 20 at which it is not sure, and wrong in half."""
    sure = [episode(f"s{n}", step(0, SURE, "left")) for n in range(80)]
    return sure + [episode(f"u{n}", step(0, UNSURE, SIDES[n % 2])) for n in range(20)]


def store(path: Path, episodes: Sequence[Trajectory]) -> Path:
    with Store.open(path) as opened:
        for one in episodes:
            opened.append(one)
    return path


@pytest.fixture
def student(tmp_path: Path) -> Path:
    return Path(artefact.write(tmp_path / "student.policy", identity(), CONFIG, Manifest()).path)


def potstill(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in words])
    captured = capsys.readouterr()
    return int(ended.value.code or 0), captured.out, captured.err


def calibrated(capsys: pytest.CaptureFixture[str], db: Path, student: Path, *more: object) -> dict[str, Any]:
    words = ("--student", f"policy:{student}", "--teacher", "expert", "--keep", 0.95, *more)
    code, out, err = potstill(capsys, "calibrate", db, *words, "--json")
    assert code == 0, err
    told: dict[str, Any] = json.loads(out)
    return told


def test_a_certificate_by_hand(tmp_path: Path, student: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """At 0.98 the policy acts on 80 of 100 tasks and loses none: .95^100 = 0.006 would see that if 5 % were lost.

    At 0.6 it acts on all and loses ten: P(X <= 10 | 100, 0.05) = 0.99. The bound is 1 - 0.05^(1/100).
    """
    told = calibrated(capsys, store(tmp_path / "s.db", hundred()), student)
    assert (told["certified"], told["threshold"], told["signal"], told["samples"]) == (True, 0.98, "likelihood", 1)
    assert (told["n"], told["n_teacher_success"], told["losses"], told["environment"]) == (100, 100, 0, "road")
    assert told["escalation_share"] == pytest.approx(0.2)
    assert told["violations_bound"] == pytest.approx(1 - 0.05 ** (1 / 100))
    tested = {one["threshold"]: one for one in told["candidates"]}
    assert tested[0.98]["p_value"] == pytest.approx(0.95**100)
    assert tested[0.985]["escalation_share"] == 1.0
    assert [tested[at]["losses"] for at in (0.64, 0.6, 0.0)] == [0, 10, 10]
    assert (tested[0.64]["certified"], tested[0.6]["certified"]) == (True, False)


def test_what_the_teacher_failed_at_is_no_loss_and_where_nothing_is_listed_it_acts(
    tmp_path: Path, student: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """60 sure tasks; 10 that the teacher failed, where it went right; 30 decisions with nothing to choose from."""
    episodes = [episode(f"s{n}", step(0, SURE, "left")) for n in range(60)]
    episodes += [episode(f"f{n}", step(0, SURE, "right"), success=False) for n in range(10)]
    episodes += [episode(f"n{n}", step(0, SURE, "wait", admissible=None)) for n in range(30)]
    told = calibrated(capsys, store(tmp_path / "s.db", episodes), student, "--threshold", "0")
    assert (told["n"], told["n_teacher_success"], told["losses"]) == (100, 90, 0)
    assert told["escalation_share"] == pytest.approx(0.3)


def test_a_task_is_lost_whole_where_one_of_its_decisions_is(
    tmp_path: Path, student: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two decisions each; in 4 of 100 tasks one of them is lost: 2 % of the decisions, 4 % of the tasks."""
    episodes = [
        episode(f"t{n}", step(0, SURE, "left"), step(1, SURE, "right" if n < 4 else "left")) for n in range(100)
    ]
    db = store(tmp_path / "s.db", episodes)
    by_decision = calibrated(capsys, db, student, "--threshold", 0.9, "--keep", 0.9, "--level", "decision")
    by_task = calibrated(capsys, db, student, "--threshold", 0.9, "--keep", 0.9)
    assert (by_decision["losses"], by_decision["unit"]) == (pytest.approx(2.0), "share of a task's decisions")
    assert (by_task["losses"], by_task["unit"], by_task["n"]) == (4.0, "task", 100)
    assert (by_decision["decisions_per_task"], by_task["decisions_per_task"]) == (1.0, 2.0)


def test_only_the_first_whole_episode_of_a_task_counts(
    tmp_path: Path, student: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    again = msgspec.structs.replace(episode("s0", step(0, SURE, "right")), id="again", seed=1)
    other = msgspec.structs.replace(episode("s1", step(0, SURE, "right")), id="other", teacher="somebody")
    db = store(tmp_path / "s.db", [*hundred(), again, other])
    assert calibrated(capsys, db, student)["losses"] == 0


def test_tasks_that_the_policy_was_trained_on_are_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Also one of another name whose every decision stands in the data, which name one task of equal ones."""
    episodes = hundred()
    learnt = episodes[65:95]
    twin = msgspec.structs.replace(learnt[0], id="twin", task=msgspec.structs.replace(learnt[0].task, id="twin"))
    folder = tmp_path / "student.policy.training"
    data = write(learnt, folder / "made", fractions={"train": 0.9, "valid": 0.1}, equal=Equal.DROP, only_successes=True)
    sha256 = digest_of(data)
    (folder / "made").rename(folder / f"data-{sha256[:12]}")
    named = Manifest(datasets=(Dataset(name="road", sha256=sha256), Dataset(name="road", sha256="f" * 64)))
    student = Path(artefact.write(tmp_path / "student.policy", identity(), CONFIG, named).path)
    db = store(tmp_path / "s.db", [*episodes, twin])
    words = ("--student", f"policy:{student}", "--teacher", "expert", "--keep", 0.95)
    code, out, err = potstill(capsys, "calibrate", db, *words, "--json")
    assert (code, json.loads(out)["n"]) == (0, 70)
    assert "31 episodes are of tasks that" in err
    assert f"{'f' * 12} are not beside it" in err
    db = store(tmp_path / "known.db", learnt)
    code, _, err = potstill(capsys, "calibrate", db, *words)
    assert (code, "All 30 episodes of 'expert' are of tasks" in err) == (2, True), err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--student", "small"), "Calibrate policy:"),
        (("--samples", "3"), "asked once"),
        (("--score", "learned"), "own probability"),
        (("--teacher", "nobody"), "nobody"),
        (("--env", "moon"), "no episode of"),
    ],
)
def test_what_makes_no_sense_is_one_line(
    tmp_path: Path, student: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], said: str
) -> None:
    db = store(tmp_path / "s.db", hundred()[:3])
    given = ("--student", f"policy:{student}", "--teacher", "expert", *words)
    code, _, err = potstill(capsys, "calibrate", db, *given)
    assert code == 2
    assert said in err, err
    assert "Traceback" not in err


def test_a_log_of_attempts_or_two_environments_are_refused(
    tmp_path: Path, student: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.jsonl").write_text('{"task_id": "t", "model": "m", "answer": "x"}\n')
    given = ("--student", f"policy:{student}", "--teacher", "expert")
    code, _, err = potstill(capsys, "calibrate", tmp_path / "a.jsonl", *given)
    assert (code, "which one store holds" in err) == (2, True)
    sea = msgspec.structs.replace(episode("x", step(0, SURE, "left")), task=Task(id="x", environment="sea", goal=""))
    db = store(tmp_path / "s.db", [*hundred()[:3], sea])
    code, _, err = potstill(capsys, "calibrate", db, *given)
    assert (code, "road (3), sea (1). Name one: --env NAME" in err) == (2, True)
    assert calibrated(capsys, db, student, "--env", "road")["n"] == 3


def test_the_table_has_the_choice_and_its_neighbours_and_json_has_all(
    tmp_path: Path, student: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    db = store(tmp_path / "s.db", hundred())
    words = ("calibrate", db, "--student", f"policy:{student}", "--teacher", "expert", "--keep")

    def thresholds(keep: float) -> tuple[list[dict[str, str]], str]:
        code, out, err = potstill(capsys, *words, keep)
        assert code == 0, err
        names, *rows = [line.split("\t") for line in out.splitlines()]
        return [dict(zip(names, row, strict=True)) for row in rows], err

    rows, err = thresholds(0.95)
    assert len(rows) == 12
    assert [row["threshold"] for row in rows if row["chosen"] == "yes"] == ["0.98"]
    assert "The 12 of 60 candidates around the choice; --json and --out have all." in err
    rows, err = thresholds(0.999)
    assert "around what is nearest to a certificate" in err
    assert {"0.98", "0.96"} < {row["threshold"] for row in rows}, "where the student first acts"
    assert len(calibrated(capsys, db, student)["candidates"]) == 60


@given(st.integers(1, 40), st.integers(0, 39), st.integers(1, 15))
def test_neighbours_are_as_many_as_may_be_and_hold_the_middle(count: int, middle: int, most: int) -> None:
    middle = min(middle, count - 1)
    shown = list(around(range(count), middle, most))
    assert middle in shown
    assert len(shown) == min(count, most)
    assert shown == list(range(shown[0], shown[0] + len(shown)))


def test_what_is_not_there_or_cannot_be_asked_is_said_before_anything_is_read(
    tmp_path: Path, student: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--student", f"policy:{student}", "--teacher", "expert")
    code, _, err = potstill(capsys, "calibrate", tmp_path / "nope.db", *words)
    assert (code, f"There is no file {tmp_path / 'nope.db'}. Name the store" in err) == (2, True), err
    assert "--db" in err
    code, _, err = potstill(capsys, "calibrate", tmp_path / "nope.db", *words, "--keep", 2)
    assert (code, "--keep is 2.0; allowed" in err) == (2, True), err


# --- acting by it -----------------------------------------------------------------------------------------------------


def certificate(path: Path, of: Path, **changed: Any) -> Path:
    from potstill.measure.calibration_file import file_sha256

    told = {"certified": True, "keep": 0.95, "threshold": 0.37, "samples": 1, "signal": "likelihood"}
    told |= {"student": f"policy:{of}", "policy_sha256": file_sha256(of), "n": 100, "n_teacher_success": 80.0}
    path.write_bytes(msgspec.json.encode(told | changed))
    return path


def test_a_run_acts_by_the_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    drawn = files.write_policy(tmp_path / "drawn.policy")
    said = certificate(tmp_path / "c.json", drawn)
    world = ("--env", "house-rules", "--n", 2, "--teacher", "expert", "--arm", "cascade", "--db", tmp_path / "r.db")
    words = ("run", *world, "--student", f"policy:{drawn}", "--calibration", said)
    code, _, err = potstill(capsys, *words)
    assert code == 0, err
    with Store.read(tmp_path / "r.db") as read:
        decisions = [one.decision for episode in read.select() for one in episode.steps if one.decision is not None]
    asked = [one for one in decisions if one.confidence is not None and one.reason is not Reason.REPEATED]
    assert asked
    assert {one.confidence >= 0.37 for one in asked if one.reason is Reason.CONFIDENT} <= {True}
    assert {one.confidence >= 0.37 for one in asked if one.reason is Reason.NOT_CONFIDENT} <= {False}
    for more, why in (
        (("--threshold", 0.5), "--threshold and --calibration were typed"),
        (("--signal", "votes"), "--signal and --calibration were typed"),
        (("--student", f"policy:{files.write_policy(tmp_path / 'o.policy', files.ranker_arrays(seed=1))}"), "another"),
        (("--student", "local:smollm2-135m"), "is not trusted"),
    ):
        code, _, err = potstill(capsys, *words, *more)
        assert (code, why in err) == (2, True), err
    for more, why in (
        (("--mode", "task"), "hands whole tasks over"),
        (("--arm", "cascade@task"), "'cascade@task' hands whole tasks over"),
        (("--arm", "zero-shot,teacher"), "none of these arms is a cascade: zero-shot, teacher"),
    ):
        code, _, err = potstill(capsys, *words, *more)
        assert (code, why in err) == (2, True), err
    certificate(said, drawn, teacher="big-1@labels")
    code, _, err = potstill(capsys, *words)
    assert (code, "certified for --teacher big-1@labels, and --teacher is expert" in err) == (2, True), err
    assert "--signal likelihood --threshold 0.37" in err
    certificate(said, drawn, environment="minigrid")
    code, _, err = potstill(capsys, *words)
    assert (code, "certified in 'minigrid' and promises nothing in 'house-rules'" in err) == (2, True), err
    certificate(said, drawn, certified=False, reason="Too few.")
    code, _, err = potstill(capsys, *words)
    assert (code, "certifies nothing: Too few." in err) == (2, True)


def test_a_certificate_of_votes_is_of_its_student_and_names_may_be_written_otherwise(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = {"certified": True, "keep": 0.95, "threshold": 0.6, "samples": 5, "signal": "votes", "teacher": "big-1@r"}
    said = tmp_path / "c.json"
    said.write_bytes(msgspec.json.encode(told | {"student": "small"}))
    words = ("run", "--env", "house-rules", "--arm", "cascade", "--calibration", said, "--db", tmp_path / "no.db")
    place = "http:http://127.0.0.1:9/v1#"
    code, _, err = potstill(capsys, *words, "--student", f"{place}small", "--teacher", f"{place}big-1", "--dry-run")
    assert code == 0, err
    code, _, err = potstill(capsys, *words, "--student", f"{place}other", "--teacher", f"{place}big-1", "--dry-run")
    assert (code, f"certified for --student small, and --student is {place}other" in err) == (2, True), err
    assert "--samples 5 --threshold 0.6" in err


def test_an_estimate_has_the_share_of_escalations_that_the_calibration_saw(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Half of the steps where nothing is known, a fifth where the file says so; a resumed run remembers it."""
    drawn = files.write_policy(tmp_path / "drawn.policy")
    said = certificate(tmp_path / "c.json", drawn, escalation_share=0.2)
    prices = ("--price-teacher-as", "gpt-4o", "--price-student-as", "free")
    world = ("--env", "house-rules", "--n", 1, "--teacher", "expert", *prices, "--arm", "cascade")
    words = ("run", *world, "--student", f"policy:{drawn}", "--db", tmp_path / "r.db", "--run", "acting")

    def estimated(*more: object) -> tuple[dict[str, Any], str]:
        code, out, err = potstill(capsys, *more, "--dry-run", "--json")
        assert code == 0, err
        return json.loads(out)[0], err

    (half, _), (fifth, err) = estimated(*words), estimated(*words, "--calibration", said)
    assert fifth["teacher_input_tokens"] == pytest.approx(0.4 * half["teacher_input_tokens"], abs=1)
    assert fifth["uncached_cost_usd"] == pytest.approx(0.4 * half["uncached_cost_usd"], rel=1e-3)
    assert "20.0% escalation (as the calibration saw)" in err
    assert potstill(capsys, *words, "--calibration", said)[0] == 0
    again, _ = estimated("run", "--resume", "acting", "--db", tmp_path / "r.db")
    assert again["teacher_input_tokens"] == fifth["teacher_input_tokens"]


def test_a_gateway_acts_by_the_file_and_refuses_one_of_votes(tmp_path: Path) -> None:
    drawn = files.write_policy(tmp_path / "drawn.policy")

    def route(said: Path, *, rollout: bool = True, **cascade: Any) -> Any:
        models = {"big": {"upstream": "u", "model": "big-1"}, "small": {"policy": str(drawn)}}
        table: dict[str, Any] = {"teacher": "big", "student": "small", "mode": "cascade", "actions": {"tools": True}}
        table |= {"rollout": rollout, "cascade": {"calibration": str(said), **cascade}}
        tables = {"upstreams": {"u": {"base_url": "http://127.0.0.1:1/v1"}}, "models": models, "routes": {"a": table}}
        settings = settings_file.parse(tables, "gateway.toml")
        return trust_of(settings.routes[0], settings)

    said = certificate(tmp_path / "c.json", drawn)
    trust = route(said)
    assert (trust.policy.threshold, trust.policy.signal) == (0.37, Signal.LIKELIHOOD)
    assert trust.plan.allowed_loss == pytest.approx(0.05 * 0.8)
    assert trust.warnings == ()
    assert route(certificate(said, drawn, teacher="big-1@labels")).warnings == ()
    assert "of 'huge', and its teacher is 'big-1'" in route(certificate(said, drawn, teacher="huge")).warnings[0]
    certificate(said, drawn)
    shared = route(certificate(said, drawn, decisions_per_task=8.0))
    assert shared.plan.allowed_loss == pytest.approx(0.05 * 0.8 / 8), "each decision may lose its share of the task"
    with pytest.raises(Exception, match="is of votes, and its student is trusted by likelihood"):
        route(certificate(tmp_path / "v.json", drawn, signal="votes"))
    files.write_policy(drawn, files.ranker_arrays(seed=1))
    assert "another version of" in route(said).warnings[0]
    assert route(said).calibration != trust.calibration
    with pytest.raises(ConfigError, match=r"no rollout .* another version of .* allow_uncertified = true"):
        route(said, rollout=False)
    assert "another version of" in route(said, rollout=False, allow_uncertified=True).warnings[0]
    certificate(said, drawn)
    assert route(said, rollout=False).warnings == ()


def test_the_verdict_says_what_to_type(tmp_path: Path, student: Path, capsys: pytest.CaptureFixture[str]) -> None:
    db, out = store(tmp_path / "s.db", hundred()), tmp_path / "c.json"
    words = ("calibrate", db, "--student", f"policy:{student}", "--teacher", "expert", "--keep", 0.95)
    _, _, err = potstill(capsys, *words)
    assert f"Type: potstill run --student policy:{student} --signal likelihood --threshold 0.98 ..." in err
    assert "outcome there is not known" not in err
    _, _, err = potstill(capsys, *words, "--out", out)
    assert f"Type: potstill run --student policy:{student} --calibration {out} ..." in err
