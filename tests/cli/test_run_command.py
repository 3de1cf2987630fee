"""``potstill run`` and ``distill context`` as a user types them, on real BabyAI worlds; the model is real too."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from terminal import environment, potstill

from command_line import Here
from potstill.trajectories import Store
from potstill.types import Answerer, Reason

pytest.importorskip("minigrid", reason="minigrid is not installed. Type: pip install 'potstill[minigrid]'")

WORLD = ("--env", "minigrid", "--option", "level=PutNextLocal", "--price-teacher-as", "claude-sonnet-5-5")


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with twenty teacher episodes."""
    folder = tmp_path_factory.mktemp("taught")
    done = potstill("distill", "context", *WORLD, "--n", "20", "--teacher", "expert", "--db", "t.db", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "20 successful episodes of 'train' now serve as demonstrations" in done.stderr
    return folder / "t.db"


def test_arms_are_recorded_on_the_same_tasks_and_measured(taught: Path) -> None:
    done = potstill(
        *("run", *WORLD, "--n", "6", "--teacher", "expert", "--arm", "teacher,copy-nearest"),
        *("--run", "both", "--db", str(taught), "--json"),
    )
    assert done.returncode == 0, done.stderr
    assert [(arm["arm"], arm["episodes"]) for arm in json.loads(done.stdout)["arms"]] == [
        ("teacher", 6),
        ("copy-nearest", 6),
    ]
    measured = potstill("measure", "--db", str(taught), "--run", "both", "--json")
    contract = json.loads(measured.stdout)
    arms = {arm["arm"]: arm for arm in contract["arms"]}
    assert arms["teacher"]["success"] == 1.0
    assert arms["teacher"]["cost_per_episode_usd"] > 0
    assert arms["copy-nearest"]["teacher_step_share"] == 0.0
    with Store.open(taught) as store:
        tasks = [{row.task_id for row in store.summaries(run_id="both", arm=arm)} for arm in arms]
        shown = [step.demonstrations for t in store.select(run_id="both", arm="copy-nearest") for step in t.steps]
    assert tasks[0] == tasks[1]
    assert all(shown)


def test_a_killed_run_resumes_without_repeating_or_losing_an_episode(tmp_path: Path) -> None:
    db = tmp_path / "killed.db"
    arguments = ["run", *WORLD, "--n", "40", "--teacher", "expert", "--arm", "teacher", "--run", "k", "--db", str(db)]
    process = subprocess.Popen(
        [sys.executable, "-m", "potstill", *arguments], env=environment(), start_new_session=True
    )
    deadline = time.monotonic() + 60
    while recorded(db) < 5 and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    before = recorded(db)
    assert 5 <= before < 40
    done = potstill("run", "--resume", "k", "--db", str(db), "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["played"] == 40 - before
    assert result["arms"] == [{"arm": "teacher", "episodes": 40, "successes": 40, "errors": 0}]
    assert json.loads(potstill("run", "--resume", "--db", str(db), "--json").stdout)["played"] == 0


def recorded(db: Path) -> int:
    if not db.exists():
        return 0
    try:
        with Store.open(db, create=False) as store:
            return len(store.ids(run_id="k"))
    except Exception:  # the other process is just making the file
        return 0


def test_ctrl_c_keeps_what_is_done_and_says_how_to_go_on(tmp_path: Path) -> None:
    db = tmp_path / "stopped.db"
    arguments = ["run", *WORLD, "--n", "90", "--teacher", "expert", "--arm", "teacher", "--run", "k", "--db", str(db)]
    process = subprocess.Popen(
        [sys.executable, "-m", "potstill", *arguments], env=environment(), stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 60
    while recorded(db) < 3 and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGSTOP)
    second = potstill("run", "--resume", "k", "--db", str(db))
    assert (second.returncode, "Another process is recording the run k" in second.stderr) == (2, True)
    process.send_signal(signal.SIGCONT)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=300)
    assert process.returncode == 130
    assert "potstill run --resume k" in stderr
    assert "Traceback" not in stderr
    assert 3 <= recorded(db) < 90


def test_images_of_observations_are_kept_once(tmp_path: Path) -> None:
    db = tmp_path / "images.db"
    run = ("run", *WORLD, "--option", "images=true", "--n", "2", "--teacher", "expert", "--arm", "teacher")
    done = potstill(*run, "--run", "k", "--db", str(db))
    assert done.returncode == 0, done.stderr
    with Store.open(db) as store:
        images = [image for t in store.select(run_id="k") for step in t.steps for image in step.observation.images]
        assert images
        assert all(store.get_blob(image.digest).startswith(b"\x89PNG") for image in images)


def test_a_dry_run_estimates_and_records_nothing(tmp_path: Path) -> None:
    db = tmp_path / "dry.db"
    done = potstill(
        *("run", *WORLD, "--n", "5", "--teacher", "expert", "--student", "openai:gpt-6-luna", "--dry-run", "--json"),
        *("--arm", "teacher,zero-shot,cascade", "--db", str(db)),
    )
    assert done.returncode == 0, done.stderr
    rows = {row["arm"]: row for row in json.loads(done.stdout)}
    assert rows["teacher"]["uncached_cost_usd"] > rows["zero-shot"]["uncached_cost_usd"] > 0
    assert rows["cascade"]["teacher_input_tokens"] > 0
    assert not db.exists()


def test_the_budget_stops_a_run_with_its_own_exit_code(tmp_path: Path) -> None:
    db = tmp_path / "budget.db"
    spend = ("--n", "20", "--teacher", "expert", "--arm", "teacher", "--run", "k", "--max-cost", "0.004")
    done = potstill("run", *WORLD, *spend, "--db", str(db))
    assert done.returncode == 6
    assert "--max-cost 0.004 is reached" in done.stderr
    assert 0 < recorded(db) < 20

    lifted = potstill("run", "--resume", "k", "--max-cost", "inf", "--db", str(db))
    assert lifted.returncode == 0, lifted.stderr
    assert recorded(db) == 20


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("--rule", "jsn"), 2, "No agreement rule named 'jsn'. Did you mean 'json'? Available: exact, json"),
        (("--arm", "zeroshot"), 2, "Did you mean 'zero-shot'"),
        (("--arm", "cascade@stiky"), 2, "Did you mean 'sticky'"),
        (("--n", "100000"), 2, "Allowed: 1 to"),
        (("--price-teacher-as", "claude-sonet-5-5"), 2, "claude-sonnet-5-5"),
        (("--arm", "context"), 2, "Type: potstill distill context"),
        (("--env", "minigird"), 2, "Did you mean 'minigrid'"),
        (("--option", "lvl=GoToLocal"), 2, "lvl"),
        (("--env", "alfworld", "--tasks", "nowhere"), 4, "There is no folder nowhere"),
        (("--student", "local:missing.gguf", "--arm", "zero-shot"), 3, "Cannot read the model file missing.gguf"),
        (("--resume", "nothing"), 2, "--env, --option, --n, --arm, --teacher, --price-teacher-as, --student cannot be"),
        (("--arm", "context", "--demos-split", "test"), 2, "shown its own exam"),
        (("--sampling", "twice"), 2, "Available: auto, sequential, together"),
        (("--arm", "cascade", "--signal", "likelihood"), 2, "weighs every admissible action"),
        (("--arm", "cascade", "--signal", "likelihood", "--reasoning", "with-action"), 2, "--reasoning separate"),
        (("--split", "exam"), 4, "exam"),
    ],
)
def test_wrong_input_is_one_line_and_an_exit_code(
    tmp_path: Path, arguments: tuple[str, ...], code: int, words: str
) -> None:
    world = WORLD if "--env" not in arguments else ()
    base = (*world, "--n", "2", "--teacher", "expert", "--student", "openai:gpt-6-luna", "--arm", "teacher")
    done = potstill("run", *base, *arguments, cwd=tmp_path)
    assert words in done.stderr
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    assert len([line for line in done.stderr.splitlines() if line.startswith("error:")]) == 1


@pytest.mark.parametrize(
    ("teacher", "words"),
    [
        (("expert", "--reasoning", "with-action"), "a language model that is prompted to reason; 'expert' is none"),
        (("openai:gpt-6-luna", "--reasoning", "separate"), "there is none with --reasoning separate. Type: "),
        (("openai:gpt-6-luna",), "there is none with --reasoning none. Type: --reasoning with-action --first-thought"),
    ],
)
def test_a_first_thought_needs_a_teacher_that_reasons_before_it_acts(
    here: Here, tmp_path: Path, teacher: tuple[str, ...], words: str
) -> None:
    db = tmp_path / "t.db"
    options = ("--first-thought", "--db", db, "--teacher", *teacher)
    done = here("distill", "context", *WORLD, "--split", "train", "--n", 1, *options)
    assert (done.code, words in done.err) == (2, True), done.err
    assert not db.exists()


def test_a_run_is_resumed_as_it_was_started_and_by_its_own_tenant(tmp_path: Path) -> None:
    db = tmp_path / "r.db"
    command = [*WORLD, "--arm", "copy-nearest", "--n", "3", "--split", "train", "--demos-split", "test", "--run", "x"]
    nothing = potstill("run", *command, "--db", str(db))
    assert "in the split 'test', which demonstrations come from" in nothing.stderr
    with Store.open(db) as store:
        assert not store.runs(), "a run that could not begin leaves nothing to resume"
    teach = ("distill", "context", *WORLD, "--split", "test", "--n", "5", "--teacher", "expert", "--db", str(db))
    assert potstill(*teach).returncode == 0
    assert potstill("run", *command, "--db", str(db)).returncode == 0
    with Store.open(db) as store:
        config = store.get_run("x")
        shown = {ref.trajectory_id for t in store.select(run_id="x") for step in t.steps for ref in step.demonstrations}
        assert {store.get(id).task.split for id in shown} == {"test"}
    assert config["demonstrations_split"] == "test"
    assert potstill("run", "--resume", "x", "--db", str(db)).returncode == 0
    foreign = potstill("run", "--resume", "x", "--namespace", "other", "--db", str(db))
    assert foreign.returncode == 2
    assert "holds no run to resume" in foreign.stderr


def test_an_expert_acts_also_where_the_student_reasons(tmp_path: Path) -> None:
    command = ("--n", "2", "--teacher", "expert", "--arm", "teacher", "--reasoning", "with-action", "--plan")
    done = potstill("run", *WORLD, *command, "--db", str(tmp_path / "e.db"), "--json")
    assert json.loads(done.stdout)["arms"] == [{"arm": "teacher", "episodes": 2, "successes": 2, "errors": 0}]


@pytest.mark.llm
@pytest.mark.slow
@pytest.mark.usefixtures("smollm2")
def test_a_real_model_votes_in_the_cascade_and_every_sample_is_kept(taught: Path) -> None:
    command = [
        *("run", *WORLD, "--n", "2", "--teacher", "expert", "--student", "local:smollm2-135m", "--run", "llm"),
        *("--student-option", "template=plain", "--style", "transcript", "--k", "2", "--max-steps", "4"),
        *("--arm", "context+cascade,random-mix", "--price-student-as", "gpt-4.1-mini", "--db", str(taught)),
    ]
    done = subprocess.run(
        [sys.executable, "-m", "potstill", *command], capture_output=True, text=True, env=environment(), timeout=300
    )
    assert done.returncode == 0, done.stderr
    with Store.open(taught) as store:
        cascade = list(store.select(run_id="llm", arm="context+cascade"))
        mixed = list(store.select(run_id="llm", arm="random-mix"))
        counted = store.counters("default")
    steps = [step for trajectory in cascade for step in trajectory.steps]
    shown = {f"demonstration/{ref.trajectory_id}" for step in steps for ref in step.demonstrations}
    assert shown <= set(counted)
    assert all(len(step.decision.votes) == 3 for step in steps)
    assert all(len(step.calls[0].replies) == 3 for step in steps), "one request, one prompt, three samples"
    assert any(call.usage.cache_read_tokens for step in steps[1:] for call in step.calls if call.usage)
    asked = {Reason.AGREED: Answerer.STUDENT, Reason.DISAGREED: Answerer.TEACHER, Reason.REPEATED: Answerer.TEACHER}
    assert all(step.answerer is asked[step.decision.reason] for step in steps)
    assert {step.decision.reason for t in mixed for step in t.steps} <= {
        Reason.RANDOM_ESCALATION,
        Reason.RANDOM_STUDENT,
    }
