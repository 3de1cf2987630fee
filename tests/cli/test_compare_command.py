"""``potstill compare`` as it is typed: files and stores in, the JSON contract and exit codes out."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from terminal import in_terminal, plain, potstill

from potstill.cli.main import main
from potstill.trajectories import Store
from potstill.types import (
    Action,
    Answerer,
    Call,
    ErrorRecord,
    Observation,
    Outcome,
    Reply,
    Step,
    Task,
    Trajectory,
    TrajectoryKind,
    Usage,
)

CONTRACT = {
    "n": int,
    "success_a": float,
    "success_b": float,
    "difference": float,
    "difference_ci": list,
    "discordant": int,
    "p_mcnemar": float,
    "cost_ratio": float,
    "cost_ratio_ci": list,
    "verdict": str,
    "advice": str,
    "needed_n": int,
}


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as exit_:
        main(["compare", *arguments])
    captured = capsys.readouterr()
    return int(exit_.value.code or 0), captured.out, captured.err


def rows(model: str, outcomes: str, cost: float, **more: object) -> list[dict[str, Any]]:
    """One attempt a task: 1, 0, x (broken)."""
    return [
        {"task_id": f"t{index}", "model": model, "cost_usd": cost, **more}
        | ({"error": "crash"} if outcome == "x" else {"success": outcome == "1"})
        for index, outcome in enumerate(outcomes)
    ]


def write(path: Path, *parts: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for part in parts for row in part), encoding="utf-8")
    return str(path)


@pytest.fixture
def both(tmp_path: Path) -> str:
    """60 tasks: both 40, only cheap 3, only dear 7, none 10."""
    cheap = "1" * 40 + "1" * 3 + "0" * 7 + "0" * 10
    dear = "1" * 40 + "0" * 3 + "1" * 7 + "0" * 10
    return write(tmp_path / "runs.jsonl", rows("cheap", cheap, 0.01), rows("dear", dear, 0.05))


# --- files ------------------------------------------------------------------------------------------------------------


def test_two_models_of_a_file_in_a_real_process(both: str) -> None:
    done = potstill("compare", f"{both}#cheap", f"{both}#dear", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert {name: type(found[name]) for name in CONTRACT} == CONTRACT | {"needed_n": type(None)}
    assert (found["n"], found["discordant"], found["only_a"], found["only_b"]) == (60, 10, 3, 7)
    assert found["success_a"] == pytest.approx(43 / 60)
    assert found["difference"] == pytest.approx(-4 / 60)
    assert found["p_mcnemar"] == pytest.approx(2 * sum(math.comb(10, i) for i in range(4)) / 1024)
    assert (found["cost_ratio"], found["cost_ratio_ci"]) == (pytest.approx(0.2), [pytest.approx(0.2)] * 2)
    assert found["verdict"] == "no_difference_shown"
    wide = json.loads(potstill("compare", f"{both}#cheap", f"{both}#dear", "--json", "--margin", "0.1").stdout)
    assert {name: type(wide[name]) for name in CONTRACT} == CONTRACT
    assert f"{wide['needed_n']} more shared tasks" in wide["advice"]


def test_what_a_person_sees(both: str) -> None:
    shown = plain(in_terminal(f"from potstill.cli.main import main; main(['compare', '{both}#cheap', '{both}#dear'])"))
    told = " ".join(shown.split())
    assert told.startswith("No difference shown between A and B: -6.7 points (")
    assert "A costs 0.2 times as much as B (0.2 to 0.2)" in told
    assert shown.index("success (A - B)") < shown.index("What the same money could buy") < shown.index("note: ")
    assert "cheaper alone" in shown


def test_a_pipe_gets_the_table_and_stderr_the_words(both: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, f"{both}#cheap", f"{both}#dear")
    assert code == 0
    assert [line.split("\t")[0] for line in out.splitlines()] == [
        "measure",
        "success (A - B)",
        "USD per episode (A / B)",
        "USD per success (A / B)",
        "pairs where only one succeeded",
    ]
    assert err.startswith("No difference shown between A and B: ")
    assert f"A: {both}#cheap\nB: {both}#dear\n" in err
    assert "note: difference: score interval of pairs (Tango 1998), McNemar's exact p 0.344" in err


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ((), 0),
        (("--fail-if", "worse"), 1),
        (("--fail-if", "worse", "--margin", "0.3"), 0),
        (("--fail-if", "shown-worse"), 0),
        (("--fail-if", "cost-of-pass"), 0),
        (("--fail-if", "cost-of-pass", "--fail-if", "worse"), 1),
    ],
)
def test_exit_codes_for_a_build(both: str, arguments: tuple[str, ...], code: int) -> None:
    done = potstill("compare", f"{both}#cheap", f"{both}#dear", "--json", *arguments)
    assert done.returncode == code, done.stderr
    found = json.loads(done.stdout)
    assert len(found["failed"]) == code
    assert done.stderr.count("failed: ") == code


def test_a_dearer_success_fails_the_build(both: str) -> None:
    done = potstill("compare", f"{both}#dear", f"{both}#cheap", "--fail-if", "cost-of-pass", "--tolerance", "0.5")
    assert done.returncode == 1
    assert "failed: cost-of-pass: a success of A costs 4.57 times as much as one of B" in done.stderr
    allowed = potstill("compare", f"{both}#dear", f"{both}#cheap", "--fail-if", "cost-of-pass", "--tolerance", "9")
    assert allowed.returncode == 0


def test_a_file_of_one_model_needs_no_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    new, old = tmp_path / "a#b.jsonl", tmp_path / "old.jsonl"
    write(new, rows("m", "110", 1.0))
    write(old, rows("m", "111", 2.0))
    code, out, _ = run(capsys, str(new), str(old), "--json")
    assert (code, json.loads(out)["n"]) == (0, 3)
    assert json.loads(run(capsys, f"{new}#m", f"{old}#m", "--json")[1])["difference"] == pytest.approx(-1 / 3)


def test_runs_of_a_model_are_pooled_aloud_or_chosen(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(
        tmp_path / "runs.jsonl",
        rows("m", "11", 1.0, run="one@day"),
        rows("m", "10", 1.0, run="two"),
        rows("b", "11", 1.0),
    )
    found = json.loads(run(capsys, f"{path}#m", f"{path}#b", "--json")[1])
    assert found["n"] == 2
    assert any("pools 2 runs ('one@day', 'two')" in note for note in found["notes"])
    found = json.loads(run(capsys, f"{path}#m@two", f"{path}#m@one@day", "--json")[1])
    assert (found["n"], found["success_a"], found["success_b"]) == (2, 0.5, 1.0)


def test_a_table_with_commas_is_read_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "runs.csv"
    lines = [
        f"t{task},{model},{sample},{outcome},{cost}"
        for model, outcomes, cost in (("a", ("true", "false"), 1), ("b", ("true", "true"), 2))
        for task in range(3)
        for sample, outcome in enumerate(outcomes)
    ]
    path.write_text("task_id,model,sample,success,cost_usd\n" + "\n".join(lines) + "\n", encoding="utf-8")
    found = json.loads(run(capsys, f"{path}#a", f"{path}#b", "--json")[1])
    assert (found["n"], found["tasks"], found["only_b"], found["cost_ratio"]) == (6, 3, 3, 0.5)


def test_dirt_is_left_out_and_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    again = rows("a", "0", 5.0, episode_id="e0")
    first = rows("a", "1", 1.0, episode_id="e0")
    path = write(tmp_path / "f.jsonl", first, again, rows("a", "1x1", 1.0)[1:], rows("b", "111", 2.0))
    with Path(path).open("a", encoding="utf-8") as file:
        file.write('{"task_id": "t9", "mod\n')
    found = json.loads(run(capsys, f"{path}#a", f"{path}#b", "--json")[1])
    assert (found["n"], found["success_a"], found["cost_ratio"]) == (2, 1.0, 0.5)
    said = " | ".join(found["notes"])
    assert "1 attempt that repeated an episode id" in said
    assert "1 attempt that ended in an infrastructure error" in said
    assert "1 rows not understood" in said
    assert found["errors_as_failures"]["difference"] == pytest.approx(-1 / 3)


def test_tokens_are_priced_where_no_dollars_are_recorded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tokens = {"input_tokens": 1_000_000, "cached_input_tokens": 0, "output_tokens": 0, "cost_usd": None}
    path = write(
        tmp_path / "f.jsonl",
        rows("gpt-4.1", "11", 1.0, **tokens),
        rows("gpt-4.1-mini", "11", 1.0, **tokens),
        rows("nobody-knows", "11", 1.0, **tokens),
    )
    found = json.loads(run(capsys, f"{path}#gpt-4.1-mini", f"{path}#gpt-4.1", "--json", "--date", "2026-11-21")[1])
    assert found["cost_ratio"] == pytest.approx(0.4 / 2.0)
    found = json.loads(run(capsys, f"{path}#nobody-knows", f"{path}#gpt-4.1", "--json")[1])
    assert (found["cost_ratio"], found["cost_ratio_ci"]) == (None, None)
    assert any("cost unknown for 2 of 2 shared attempts of A" in note for note in found["notes"])


def test_what_is_not_there_is_one_line(both: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = tmp_path / "s.db"
    with Store.open(store) as opened:
        opened.append(recorded("r", "alone", 0))
    calls = tmp_path / "empty.jsonl"
    calls.write_text("not json\n", encoding="utf-8")
    for a, b, code, said in (
        (both, f"{both}#dear", 2, f"holds 2 models. Name one: {both}#cheap, {both}#dear."),
        (f"{both}#chaep", f"{both}#dear", 2, "Did you mean 'cheap'?"),
        ("absent.jsonl#cheap", f"{both}#dear", 2, "There is no file absent.jsonl"),
        ("r", f"{both}#dear", 5, "there is no store at"),
        (f"{store}#r", f"{both}#dear", 2, f"Type: --db {store}"),
        (str(calls), f"{both}#dear", 2, "empty.jsonl"),
        (f"{both}#cheap", f"{both}#dear --margin", 2, "No model in"),
    ):
        found, out, err = run(capsys, a, b)
        assert (found, out, len(err.splitlines())) == (code, "", 1), err
        assert said in err


# --- the store --------------------------------------------------------------------------------------------------------


def recorded(
    run_id: str, arm: str, task: int, *, success: bool | None = True, model: str = "gpt-4.1", error: bool = False
) -> Trajectory:
    usage = Usage(input_tokens=1000, output_tokens=100)
    call = Call(model=model, answerer=Answerer.TEACHER, usage=usage, replies=(Reply(text="go"),))
    step = Step(
        index=0,
        observation=Observation(text="room"),
        action=Action(text="go"),
        answerer=Answerer.TEACHER,
        calls=(call,),
    )
    return Trajectory(
        id=f"{run_id}-{arm}-{task}",
        task=Task(id=f"t{task}", environment="rooms"),
        kind=TrajectoryKind.TEACHER,
        arm=arm,
        run_id=run_id,
        steps=(step,),
        outcome=None if error else Outcome(success=success),
        error=ErrorRecord(kind="EnvCrashed", message="gone") if error else None,
    )


@pytest.fixture
def db(tmp_path: Path) -> str:
    path = tmp_path / "p.db"
    with Store.open(path) as store:
        for task in range(6):
            store.append(recorded("r1", "teacher", task, success=task < 5))
            store.append(recorded("r1", "student", task, success=task < 3, model="gpt-4.1-mini"))
            store.append(recorded("r2", "only", task, success=task < 4, error=task == 5))
    return str(path)


def test_runs_and_arms_of_a_store(db: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "r1:student", "r1:teacher", "--db", db, "--json", "--date", "2026-11-21")
    found = json.loads(out)
    assert (code, found["n"], found["only_a"], found["only_b"]) == (0, 6, 0, 2)
    assert found["cost_ratio"] == pytest.approx((0.4 + 0.16) / (2.0 + 0.8))
    found = json.loads(run(capsys, "r2", "r1:teacher", "--db", db, "--json")[1])
    assert (found["n"], found["difference"]) == (5, pytest.approx(-0.2))
    assert any("left out of A: 1 attempt that ended in an infrastructure error" in note for note in found["notes"])


def test_a_cascade_against_what_its_money_buys(db: str, capsys: pytest.CaptureFixture[str]) -> None:
    found = json.loads(run(capsys, "r2", "r1:teacher", "--cheap", "r1:student", "--db", db, "--json")[1])
    mix = next(row for row in found["baselines"] if row["name"] == "random escalation")
    assert "at the cost of A" in mix["note"]
    warm = next(row for row in found["baselines"] if row["name"] == "warm cache")
    assert warm["cost_per_episode_usd"] is not None


def test_a_run_with_arms_or_a_slip_says_what_to_type(db: str, capsys: pytest.CaptureFixture[str]) -> None:
    for name, said in (
        ("r1", "The run 'r1' has 2 arms. Name one: r1:teacher, r1:student."),
        ("r1:studnet", "Did you mean 'r1:student'?"),
        ("r3", "Available: r1, r1:student, r1:teacher, r2."),
    ):
        code, out, err = run(capsys, name, "r2", "--db", db)
        assert (code, out, len(err.splitlines())) == (2, "", 1)
        assert said in err


def test_a_store_against_a_file(db: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "f.jsonl"
    write(path, [row | {"task_id": f"rooms/{row['task_id']}"} for row in rows("m", "111111", 1.0)])
    found = json.loads(run(capsys, "r1:teacher", str(path), "--db", db, "--json")[1])
    assert (found["n"], found["only_b"]) == (6, 1)


# --- real episodes ----------------------------------------------------------------------------------------------------

MINI_1 = "2026-02-21T00_37_20.185158_retail_llm_agent_gpt-4.1-mini_user_simulator_gpt-4.1-mini"
MINI_2 = "2026-02-21T14_34_07.403605_retail_llm_agent_gpt-4.1-mini_user_simulator_gpt-4.1-mini"
MINI_BASE = "[Retail][Base][Gpt-4.1-mini][2026-02-22T13_32_37]"
FIVE_BASE = "_gpt-5-mini__base__all_"


@pytest.fixture(scope="module")
def tau2(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    archive = data_dir / "tau2_retail" / "episodes.jsonl.zst"
    if not archive.exists():
        pytest.skip("no tau2_retail/episodes.jsonl.zst in the folder of POTSTILL_TEST_DATA")
    if shutil.which("zstd") is None:
        pytest.skip("zstd is not installed. Type: apt-get install zstd (or brew install zstd)")
    path = tmp_path_factory.mktemp("tau2") / "episodes.jsonl"
    subprocess.run(["zstd", "-dqo", str(path), str(archive)], check=True)
    yield path
    path.unlink()


def by_task(path: Path, run_name: str) -> dict[str, dict[str, Any]]:
    """An independent reading: the run's rows by task, without what broke."""
    found = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        if row["run"] == run_name and row["termination"] != "agent_error":
            found[row["task_id"]] = row
    return found


def spent(row: dict[str, Any]) -> float:
    return float(sum(message.get("cost") or 0 for message in row["messages"] if message["role"] == "assistant"))


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (f"gpt-4.1-mini@{MINI_2}", f"gpt-4.1-mini@{MINI_1}"),
        (f"gpt-4.1-mini@{MINI_BASE}", f"gpt-5-mini@{FIVE_BASE}"),
    ],
)
def test_recorded_runs_against_an_independent_count(tau2: Path, a: str, b: str) -> None:
    done = potstill("compare", f"{tau2}#{a}", f"{tau2}#{b}", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    ours, theirs = (by_task(tau2, name.partition("@")[2]) for name in (a, b))
    shared = sorted(ours.keys() & theirs.keys())
    success_a = [ours[task]["reward"] == 1.0 for task in shared]
    success_b = [theirs[task]["reward"] == 1.0 for task in shared]
    assert found["n"] == len(shared)
    assert found["only_a"] == sum(x and not y for x, y in zip(success_a, success_b, strict=True))
    assert found["only_b"] == sum(y and not x for x, y in zip(success_a, success_b, strict=True))
    assert found["difference"] == pytest.approx((sum(success_a) - sum(success_b)) / len(shared))
    dollars = [sum(row["agent_cost"] or spent(row) for row in (run[task] for task in shared)) for run in (ours, theirs)]
    assert found["cost_ratio"] == pytest.approx(dollars[0] / dollars[1], rel=1e-6)


# --- the example for a build ------------------------------------------------------------------------------------------


def steps_of(workflow: Path) -> list[str]:
    """The shell commands of a workflow, without installing."""
    text = workflow.read_text(encoding="utf-8")
    found = re.findall(r"^ +run: (?:\|\n((?: {10}.*\n)+)|(.*)\n)", text, re.MULTILINE)
    commands = [textwrap.dedent(block) if block else line for block, line in found]
    return [command for command in commands if not command.startswith("pip ")]


@pytest.mark.parametrize(
    ("changes", "code", "said"),
    [
        ({}, 0, ""),
        # (12,400 x 0.4 + 120 x 1.6) / 55 over (6,400 x 0.4 + 120 x 1.6) / 53
        ({"DOCUMENTS": "8"}, 1, "failed: cost-of-pass: a success of A costs 1.80 times as much as one of B"),
        ({"DOCUMENTS": "1"}, 1, "failed: shown-worse: A is worse by"),
    ],
)
def test_the_workflow_stops_a_pull_request_that_makes_it_dearer_or_worse(
    tmp_path: Path, repository: Path, changes: dict[str, str], code: int, said: str
) -> None:
    shutil.copytree(repository / "examples" / "ci" / "evals", tmp_path / "evals")
    summary = tmp_path / "summary.md"
    binaries = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    settings = {**os.environ, **changes, "GITHUB_STEP_SUMMARY": str(summary), "PATH": binaries}
    first, second = steps_of(repository / "examples" / "ci" / "cost-per-success.yml")
    for command in (first, second):
        done = subprocess.run(
            ["bash", "-eo", "pipefail", "-c", command],
            cwd=tmp_path,
            env=settings,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert command is second or done.returncode == 0, done.stderr
    assert (done.returncode, said in done.stdout) == (code, True), done.stdout
    assert "A costs" in summary.read_text(encoding="utf-8")
    if not changes:
        assert (tmp_path / "attempts.jsonl").read_text() == (tmp_path / "evals" / "main.jsonl").read_text()
