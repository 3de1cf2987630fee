"""A tuned language model is calibrated as a policy is: asked anew at a teacher's decisions, as a run would ask it."""

from __future__ import annotations

import json
import os
import shutil
import signal
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("peft")

from command_line import Here  # noqa: E402
from potstill.decide.policy import Signal  # noqa: E402
from potstill.distill.weights import lineage  # noqa: E402
from potstill.distill.weights.data import Equal, digest_of, write  # noqa: E402
from potstill.envs.registry import describe  # noqa: E402
from potstill.errors import ConfigError  # noqa: E402
from potstill.measure.calibration_file import file_sha256  # noqa: E402
from potstill.models.torch_engine import TorchEngine  # noqa: E402
from potstill.models.tuned_file import STUDENT, Voice, read_tuned  # noqa: E402
from potstill.serve import settings_file  # noqa: E402
from potstill.serve.rollout.trust import trust_of  # noqa: E402
from potstill.trajectories import Store  # noqa: E402
from potstill.types import (  # noqa: E402
    Action,
    Answerer,
    Decision,
    Observation,
    Outcome,
    Reason,
    Step,
    Task,
    Trajectory,
    TrajectoryKind,
)
from tiny_lm import tiny_student  # noqa: E402

pytestmark = pytest.mark.extra
INSTRUCTIONS = describe("house-rules").instructions
LISTED = ("weigh it", "pack in straw", "ship by rail")
VOICES = {
    "past turns": Voice(),
    "listed": Voice(history_turns=1, list_admissible=True),
    "reasoning": Voice(reasoning="with-action", history_turns=0),
}


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return tiny_student(tmp_path_factory.mktemp("lm") / "student", INSTRUCTIONS)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """The prompts, as tokens, that were weighed by whatever student."""
    told, weigh = list[tuple[int, ...]](), TorchEngine.score

    def score(self: TorchEngine, prompt: Any, *rest: Any) -> Any:
        told.append(tuple(prompt))
        return weigh(self, prompt, *rest)

    monkeypatch.setattr(TorchEngine, "score", score)
    return told


def episode(name: str, sight: str, action: str, **fields: Any) -> Trajectory:
    """One decision of the expert."""
    seen = Observation(text=sight, admissible=LISTED)
    step = Step(index=0, observation=seen, action=Action(text=action), answerer=Answerer.TEACHER)
    given: dict[str, Any] = {"kind": TrajectoryKind.TEACHER, "teacher": "expert", "run_id": "r", "arm": "teacher"}
    task = Task(id=name, environment="house-rules", goal="ship it")
    return Trajectory(id=f"e-{name}", task=task, steps=(step,), outcome=Outcome(success=True), **(given | fields))


def store(path: Path, *episodes: Trajectory) -> Path:
    with Store.open(path) as opened:
        for one in episodes:
            opened.append(one)
    return path


def words(db: Path, student: Path, *more: object) -> tuple[object, ...]:
    return ("calibrate", db, "--student", f"tuned:{student}", "--teacher", "expert", *more)


def decisions(db: Path) -> list[Decision]:
    with Store.read(db) as read:
        return [one.decision for episode in read.select() for one in episode.steps if one.decision is not None]


def chosen(here: Here, db: Path, student: Path) -> str:
    """What the student does there, by whose action of all is no loss."""
    for action in LISTED:
        one = store(db.with_name(f"{action}.db"), episode("t", "A desk.", action))
        told = here(*words(one, student, "--threshold", 0, "--json"))
        if json.loads(told.out)["candidates"][0]["losses"] == 0:
            return action
    raise AssertionError("every action was a loss")


@pytest.mark.parametrize("voice", VOICES.values(), ids=list(VOICES))
def test_it_is_asked_what_a_run_asks(tmp_path: Path, here: Here, asked: list[tuple[int, ...]], voice: Voice) -> None:
    """A cascade that trusts nobody plays the teacher's episodes: each prompt and probability there is met again."""
    torch.set_num_threads(1)
    student = tiny_student(tmp_path / "student", INSTRUCTIONS, voice=voice)
    n, steps = (1, 2) if voice.reasoning != "none" else (2, 3)
    world = ("run", "--env", "house-rules", "--n", n, "--max-steps", steps, "--teacher", "expert")
    played = ("--arm", "cascade", "--signal", "likelihood", "--threshold", 1, "--db", tmp_path / "played.db")
    assert here(*world, "--student", f"tuned:{student}", *played).code == 0
    prompts, run = set(asked), sorted(one.confidence or 0.0 for one in decisions(tmp_path / "played.db"))
    assert len(run) == n * steps
    assert here(*world, "--arm", "teacher", "--db", tmp_path / "expert.db").code == 0
    asked.clear()
    levels = [(one + other) / 2 for one, other in pairwise(run) if other - one > 1e-6]
    levels = [level for level in levels if level < 1]
    given = ("--level", "decision", "--threshold", ",".join(map(str, levels)))
    said = here(*words(tmp_path / "expert.db", student, *given, "--json"))
    assert said.code == 0, said.err
    assert set(asked) == prompts
    assert len(asked) == len(prompts), "nothing is asked twice"
    for one in json.loads(said.out)["candidates"]:
        assert one["escalation_share"] == pytest.approx(sum(at < one["threshold"] for at in run) / len(run))


def test_a_run_acts_by_its_certificate_and_no_other_student_does(tmp_path: Path, here: Here, student: Path) -> None:
    """Two tasks without a loss: .5^2 = .25 is no more than 1 - .6. Equal prompts are one question."""
    action, file = chosen(here, tmp_path / "s.db", student), tmp_path / "c.json"
    db = store(tmp_path / "s.db", *(episode(f"t{n}", "A desk.", action) for n in range(2)))
    said = here(*words(db, student, "--keep", 0.5, "--confidence", 0.6, "--out", file))
    assert said.code == 0, said.err
    assert f"Type: potstill run --student tuned:{student} --calibration {file} ..." in said.err
    told = json.loads(file.read_bytes())
    assert (told["certified"], told["signal"], told["n"], told["losses"]) == (True, "likelihood", 2, 0)
    assert (told["policy_sha256"], told["environment"]) == (file_sha256(student), "house-rules")

    world = ("run", "--env", "house-rules", "--n", 1, "--max-steps", 4, "--teacher", "expert", "--arm", "cascade")
    act = (*world, "--student", f"tuned:{student}", "--calibration", file)
    told["threshold"] = 0.4
    file.write_bytes(msgspec.json.encode(told))
    for more in ((), ("--signal", "likelihood")):
        db = tmp_path / f"r{len(more)}.db"
        said = here(*act, *more, "--db", db)
        assert said.code == 0, said.err
        found = [one for one in decisions(db) if one.reason in (Reason.CONFIDENT, Reason.NOT_CONFIDENT)]
        assert found
        for one in found:
            assert ((one.confidence or 0.0) >= 0.4) is (one.reason is Reason.CONFIDENT)

    other = tiny_student(tmp_path / "other", INSTRUCTIONS, voice=Voice(history_turns=1))
    for typed, why in (
        (
            ("--student", f"tuned:{other}"),
            f"as it was then, and tuned:{other} is another student now",
        ),
        (
            ("--student", "local:smollm2-135m"),
            "Calibrate local:smollm2-135m itself: potstill calibrate FILES",
        ),
        (("--signal", "votes"), "--signal and --calibration were typed"),
        (("--threshold", 0.4), "--threshold and --calibration were typed"),
        (("--arm", "context+cascade", "--student-option", "allow_demonstrations=true"), "was certified without"),
    ):
        said = here(*act, *typed, "--db", tmp_path / "no.db")
        assert (said.code, why in said.err) == (2, True), said.err
    assert f"potstill calibrate STORE --student tuned:{other} --teacher expert --out {file}" in here(
        *act, "--student", f"tuned:{other}", "--db", tmp_path / "no.db"
    ).err  # fmt: skip


def test_a_gateway_acts_by_it_and_knows_another_version(tmp_path: Path, student: Path) -> None:
    said, copied = tmp_path / "c.json", Path(shutil.copytree(student, tmp_path / "student"))
    certified = {"certified": True, "keep": 0.9, "threshold": 0.37, "samples": 1, "signal": "likelihood"}
    told = certified | {"student": f"tuned:{copied}", "policy_sha256": file_sha256(copied), "teacher": "big-1"}
    said.write_bytes(msgspec.json.encode(told))

    def trust(**route: Any) -> Any:
        models = {"big": {"upstream": "u", "model": "big-1"}, "small": {"tuned": str(copied)}}
        table = {"teacher": "big", "student": "small", "mode": "cascade", "cascade": {"calibration": str(said)}}
        tables = {"upstreams": {"u": {"base_url": "http://127.0.0.1:1/v1"}}, "models": models}
        settings = settings_file.parse({**tables, "routes": {"a": {**table, **route}}}, "gateway.toml")
        return trust_of(settings.routes[0], settings)

    weighing = {"actions": {"tools": True}, "rollout": False}
    found = trust(**weighing)
    assert (found.policy.threshold, found.policy.signal, found.warnings) == (0.37, Signal.LIKELIHOOD, ())
    with pytest.raises(ConfigError, match="is of likelihood, and its student is trusted by votes"):
        trust()
    tuned = msgspec.structs.replace(read_tuned(copied), context_tokens=64)
    (copied / STUDENT).write_bytes(msgspec.json.encode(tuned))
    again = f"potstill calibrate STORE --student tuned:{copied} --teacher big --out {said}"
    with pytest.raises(ConfigError, match=f"no rollout .* another version of .* Type: {again}"):
        trust(**weighing)
    other = trust(actions={"tools": True})
    assert f"another version of tuned:{copied} was calibrated" in other.warnings[0]
    assert other.calibration != found.calibration


def test_what_does_not_fit_is_the_teachers(tmp_path: Path, here: Here, student: Path, asked: list[Any]) -> None:
    db = store(tmp_path / "s.db", *(episode(f"t{n}", ("A desk.", "wax " * 2500)[n % 2], LISTED[0]) for n in range(4)))
    twice = ("--student", f"tuned:{student}", "--threshold", 0, "--json")
    said = here(*words(db, student, *twice))
    assert said.code == 0, said.err
    assert "cannot read the prompts of 2 decisions, which are too long" in said.err
    assert [one["escalation_share"] for one in json.loads(said.out)["candidates"]] == [0.5]
    assert len(asked) == 2, "two situations, each met twice, by a student that is named twice"


def test_what_it_was_trained_on_is_left_out(tmp_path: Path, here: Here, student: Path) -> None:
    """The data lie beside it; a file of rationales holds no tasks of its own, so nothing is missed there."""
    copied = Path(shutil.copytree(student, tmp_path / "student"))
    episodes = [episode(f"t{n}", f"Desk {n}.", LISTED[n % 2]) for n in range(12)]
    folder = tmp_path / "student.training"
    fractions = {"train": 0.6, "valid": 0.4}
    data = write(episodes[:10], folder / "made", fractions=fractions, equal=Equal.DROP, only_successes=True)
    sha256 = digest_of(data)
    (folder / "made").rename(folder / f"data-{sha256[:12]}")
    learnt = (
        lineage.Dataset(name="house-rules", sha256=sha256),
        lineage.Dataset(name="sampled.jsonl", sha256="f" * 64),
    )
    lineage.write_beside(copied / STUDENT, lineage.Manifest(kind="tuned-lm", datasets=learnt))
    said = here(*words(store(tmp_path / "s.db", *episodes), copied, "--json"))
    assert (said.code, json.loads(said.out)["n"]) == (0, 2), said.err
    assert "10 episodes are of tasks that" in said.err
    assert "not beside it" not in said.err


def test_a_broken_off_calibration_says_so_in_one_line(
    tmp_path: Path, here: Here, student: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    db = store(tmp_path / "s.db", *(episode(f"t{n}", f"Desk {n}.", LISTED[0]) for n in range(3)))
    weigh, begun = TorchEngine.score, list[int]()

    def score(self: TorchEngine, *given: Any) -> Any:
        begun.append(1)
        if len(begun) == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return weigh(self, *given)

    monkeypatch.setattr(TorchEngine, "score", score)
    said = here(*words(db, student))
    assert said.code == 130
    assert "1/3 decisions" in said.err
    assert "interrupted: nothing of a calibration is kept" in said.err
    assert "Traceback" not in said.err


@pytest.mark.parametrize(
    ("fields", "typed", "said"),
    [
        ({"environment": "minigrid"}, (), "was tuned in 'minigrid', and the teacher's episodes are of 'house-rules'"),
        ({"demonstrations": 3}, (), "--signal likelihood --threshold 0.9"),
        ({"voice": Voice(reasoning="with-action")}, (), "tuned on past turns with the reasoning of each"),
        ({}, ("--samples", 3), "is asked once"),
        ({}, ("--score", "votes"), "own probability"),
        ({}, ("--student", "small"), "Calibrate tuned:"),
        ({}, ("--out", "nowhere/c.json"), "Cannot write --out nowhere/c.json: there is no folder nowhere"),
    ],
)
def test_what_cannot_be_calibrated_is_said_before_weights_are_loaded(
    tmp_path: Path, here: Here, student: Path, fields: dict[str, Any], typed: tuple[object, ...], said: str
) -> None:
    copied = tmp_path / "student"
    copied.mkdir()  # without weights
    (copied / STUDENT).write_bytes(msgspec.json.encode(msgspec.structs.replace(read_tuned(student), **fields)))
    told = here(*words(store(tmp_path / "s.db", episode("t", "A desk.", LISTED[0])), copied, *typed))
    assert (told.code, said in told.err) == (1 if "--out" in typed else 2, True), told.err
    assert "Traceback" not in told.err


def test_samples_that_were_recorded_vote_as_any_models_do(tmp_path: Path, here: Here, student: Path) -> None:
    rows = [
        {"task_id": f"t{n}", "model": model, "sample": 0, "answer": "x", "success": True, "cost_usd": 0.1}
        for n in range(9)
        for model in (f"tuned:{student}", "expert")
    ]
    log = tmp_path / "a.jsonl"
    log.write_text("".join(json.dumps(row) + "\n" for row in rows))
    said = here(*words(log, student, "--keep", 0.5, "--json"))
    assert (said.code, json.loads(said.out)["signal"]) == (0, "votes"), said.err
