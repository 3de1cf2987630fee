"""``potstill distill playbook``: a student plays, a teacher teaches a book, and the run goes on after anything."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from playbook_models import on_path
from terminal import environment, potstill

from postgres_server import PASSWORD
from potstill.distill.playbook.book import Playbook
from potstill.distill.playbook.learn.result import result_of
from potstill.distill.playbook.operations import Stage
from potstill.trajectories import Store

sys.path.append(str(Path(__file__).parent.parent / "trajectories"))
from trajectory_fakes import episode

STUDENT = "python:playbook_models:open_student#s"
TEACHER = "python:playbook_models:open_teacher#t"
WORLD = ("--env", "house-rules", "--option", "rules=2", "--max-steps", "8")
PRICED = ("--price-student-as", "gpt-4.1-nano", "--price-teacher-as", "gpt-4.1")
ROLES = ("--student", STUDENT, "--teacher", TEACHER, *PRICED)


@pytest.fixture
def db(tmp_path: Path) -> str:
    return str(tmp_path / "learn.db")


def distill(db: str, *words: str, **extra: str) -> subprocess.CompletedProcess[str]:
    return potstill("distill", "playbook", *words, "--db", db, PYTHONPATH=on_path(), **extra)


def learn(db: str, *words: str) -> dict:
    done = distill(db, *WORLD, *ROLES, "--book", "house", "--json", *words)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def book(db: str, name: str = "house") -> Playbook:
    return Playbook(Store.open(db), "default", name)


def state(db: str) -> str:
    """Everything about the bullets but revisions: a run that was stopped may have appended asides."""
    return book(db).state_hash()


def test_a_book_is_taught_and_the_next_episodes_follow_it(db: str) -> None:
    result = learn(db, "--n", "3", "--run", "first")
    assert (result["stopped"], result["episodes"], result["known"], result["book"]) == ("done", 3, 3, "house")
    assert result["applied"] == {"ADD": 1, "TAG": 2}
    assert {one["part"] for one in result["spent"]} == {"generator", "reflector", "curator"}
    assert result["cost_usd"] > 0
    (bullet,) = book(db).bullets().values()
    assert (bullet.content, bullet.stage, len(bullet.sources)) == ("Begin with 'weigh it'.", Stage.LIVE, 1)
    with Store.read(db) as store:
        first, second, third = store.select(run_id="first")
    assert bullet.sources == (first.id,)
    assert first.steps[0].action.text != "weigh it"
    assert second.steps[0].action.text == third.steps[0].action.text == "weigh it"
    assert [one.playbook.shown for one in (second, third)] == [("b-1",), ("b-1",)]
    (row,) = json.loads(potstill("playbook", "runs", "--db", db, "--json").stdout)
    assert (row["run"], row["book"]) == ("first", "house")
    assert (row["mode"], row["stopped"], row["learnt_from"]) == ("offline", "done", 3)
    assert row["cost_usd"] == result["cost_usd"]
    measured = json.loads(potstill("measure", "--db", db, "--run", "first", "--json").stdout)
    assert measured["arms"][0]["arm"] == "playbook"


def test_who_reflects_may_be_another_than_who_curates(db: str) -> None:
    result = learn(db, "--n", "1", "--reflector", "python:playbook_models:open_teacher#r")
    assert {one["part"]: one["model"] for one in result["spent"]} == {
        "generator": "student-s",
        "reflector": "teacher-r",
        "curator": "teacher-t",
    }


@pytest.mark.parametrize("mode", ["online", "sample", "batch"])
def test_every_mode_learns(db: str, mode: str) -> None:
    result = learn(db, "--n", "4", "--mode", mode, "--window", "2", "--batch", "4", "--jobs", "2")
    assert (result["mode"], result["stopped"], result["episodes"]) == (mode, "done", 4)
    stage = Stage.LIVE if mode == "batch" else Stage.CANARY
    assert [one.stage for one in book(db).bullets().values()] == [stage]


def test_validation_judges_the_book_on_other_tasks(db: str) -> None:
    result = learn(db, "--n", "2", "--validate-split", "valid", "--validate-n", "2")
    assert [(one["episodes"], one["revision"]) for one in result["validations"]] == [(2, 0), (2, 2)]


def test_a_failed_task_is_played_again_with_what_was_thought_about_it(db: str) -> None:
    words = ("--env", "house-rules", "--option", "rules=12", *ROLES, "--book", "house", "--n", "4", "--run", "r")
    done = distill(db, *words, "--replay", "--rounds", "2", "--json")
    assert done.returncode == 0, done.stderr
    failed = 4 - json.loads(done.stdout)["succeeded"]
    assert failed > 0
    with Store.read(db) as store:
        prompts = [one.steps[0].calls[0].prompt for one in store.select(run_id="r")]
    thought = "What you thought about your last attempt at this task:\n- Begin with 'weigh it'."
    again = [any(thought in message.content for message in prompt) for prompt in prompts]
    assert (len(again), sum(again), again[0]) == (4 + failed, failed, False)


def test_what_was_played_again_with_a_reflection_teaches_no_other_book(db: str) -> None:
    words = ("--env", "house-rules", "--option", "rules=12", *ROLES, "--book", "house", "--n", "4", "--run", "r")
    failed = 4 - json.loads(distill(db, *words, "--replay", "--rounds", "3", "--json").stdout)["succeeded"]
    with Store.read(db) as store:
        all_of_them = len(store.ids())
    assert all_of_them >= 4 + failed
    for more in ((), ("--from-run", "r"), ("--again",)):
        done = distill(db, "--from-store", "--teacher", TEACHER, "--book", "other", "--dry-run", *more)
        assert done.returncode == 0, done.stderr
        assert f"{all_of_them - 4} of {all_of_them} episodes were left out, which learning runs had" in done.stderr
    done = distill(db, "--from-store", "--teacher", TEACHER, "--book", "other", "--json")
    assert json.loads(done.stdout)["episodes"] == 4


def test_a_run_that_was_interrupted_ends_as_an_undisturbed_one(db: str, tmp_path: Path) -> None:
    other = str(tmp_path / "undisturbed.db")
    learn(other, "--n", "8", "--run", "r")
    slow = ("--student-option", "delay_s=0.05")
    words = ["distill", "playbook", *WORLD, *ROLES, *slow, "--book", "house", "--n", "8", "--run", "r", "--db", db]
    process = subprocess.Popen(
        [sys.executable, "-m", "potstill", *words],
        env=environment(PYTHONPATH=on_path()),
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 60
    while revision(db) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=300)
    assert process.returncode == 130, stderr
    assert "Traceback" not in stderr
    typed = stderr.strip().rpartition("type: potstill ")[2].split()
    assert typed[:4] == ["distill", "playbook", "--resume", "r"]
    before = revision(db)
    assert 2 <= before < 8
    done = potstill(*typed, "--json", PYTHONPATH=on_path())
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert (result["stopped"], result["episodes"], result["first_revision"]) == ("done", 8, 0)
    assert state(db) == state(other)
    assert json.loads(distill(db, "--resume", "--json").stdout)["revision"] == result["revision"], "nothing is repeated"


def test_an_episode_that_was_interrupted_is_on_the_bill(db: str, tmp_path: Path) -> None:
    hangs = tmp_path / "hangs"
    student = ("--student", "python:playbook_models:open_hanging#s", "--student-option", "after=3")
    words = ["distill", "playbook", *WORLD, *student, "--teacher", TEACHER, "--book", "house", "--run", "r", "--db", db]
    process = subprocess.Popen(
        [sys.executable, "-m", "potstill", *words, "--option", "rules=12"],
        env=environment(PYTHONPATH=on_path(), POTSTILL_TEST_HANGS=str(hangs)),
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 60
    while not hangs.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=300)
    assert process.returncode == 130, stderr
    assert [(one.part, one.calls) for one in result_of(book(db), "r").spent] == [("generator", 3)]
    assert book(db).store.ids() == []


def revision(db: str) -> int:
    if not Path(db).exists():
        return 0
    try:
        with Store.open(db, create=False) as store:
            return Playbook(store, "default", "house").revision
    except Exception:  # the other process is just making the file
        return 0


def test_a_model_that_never_answers_ends_the_run_which_goes_on_when_it_is_back(db: str, tmp_path: Path) -> None:
    back = tmp_path / "back"
    dead = ("--student", "python:playbook_models:open_dead#d", "--teacher", TEACHER)
    done = distill(db, *WORLD, *dead, "--book", "house", "--n", "5", "--run", "r", COMES_BACK=str(back))
    assert done.returncode == 3, done.stderr
    assert "What was learnt is kept. To go on, type: potstill distill playbook --resume r" in done.stderr
    assert done.stderr.splitlines()[-1] == "error: nobody is there"
    with Store.read(db) as store:
        assert store.ids() == [], "nothing happened that is worth a record"
    back.touch()
    again = distill(db, "--resume", "r", "--json", COMES_BACK=str(back))
    assert json.loads(again.stdout)["episodes"] > 0, again.stderr


def test_a_reflector_that_never_answers_leaves_the_episodes(db: str, tmp_path: Path) -> None:
    words = (*WORLD, *ROLES, "--reflector", "python:playbook_models:open_dead#d", "--book", "house", "--n", "5")
    done = distill(db, *words, COMES_BACK=str(tmp_path / "never"))
    assert done.returncode == 3, done.stderr
    with Store.read(db) as store:
        assert len(store.ids()) == 3


def test_money_that_is_spent_ends_the_run_and_more_lets_it_go_on(db: str) -> None:
    words = (*WORLD, *ROLES, "--book", "house", "--n", "4", "--run", "r")
    done = distill(db, *words, "--max-cost", "0.001")
    assert done.returncode == 6, done.stderr
    assert "the limit of --max-cost 0.001 is reached. What was learnt is kept." in done.stderr
    assert revision(db) == 1
    more = distill(db, "--resume", "r", "--max-cost", "inf", "--json")
    assert json.loads(more.stdout)["episodes"] == 4


def test_recorded_episodes_are_learnt_from_without_playing(db: str) -> None:
    ran = ("run", *WORLD, "--student", STUDENT, "--arm", "zero-shot", "--n", "4", "--run", "old", "--db", db)
    assert potstill(*ran, PYTHONPATH=on_path()).returncode == 0
    words = ("--from-store", "--from-run", "old", "--teacher", TEACHER, "--book", "house", "--mode", "batch", "--json")
    result = json.loads(distill(db, *words).stdout)
    assert (result["episodes"], result["known"], result["stopped"]) == (4, 0, "done")
    (bullet,) = book(db).bullets().values()
    assert bullet.stage is Stage.CANARY, "others played them, in production"
    assert len(book(db).store.ids()) == 4
    assert json.loads(distill(db, "--resume", result["run"], "--json").stdout) == {**result, "not_taken": []}
    seen = distill(db, *words)
    assert (seen.returncode, "was taught from all 4 episodes that match" in seen.stderr) == (2, True)
    assert json.loads(distill(db, *words, "--again", "--n", "2").stdout)["episodes"] == 2
    with Store.open(db) as store:
        store.append(episode("new", steps=1, run_id="old", started_at=4e9))
    assert json.loads(distill(db, *words).stdout)["episodes"] == 1
    assert json.loads(distill(db, *words, "--again", "--since", "2090-01-01").stdout)["episodes"] == 1
    none = distill(db, *words, "--env", "minigrid")
    assert (none.returncode, "No episode of namespace 'default' matches" in none.stderr) == (2, True)


def test_a_key_that_an_episode_printed_reaches_neither_teacher_nor_book(db: str) -> None:
    key = "sk-" + "b2" * 14
    with Store.open(db) as store:
        store.append(episode("e", steps=2, words=f"The screen says {key}."))
    teacher = ("--teacher", "python:playbook_models:open_parrot#p")
    done = distill(db, "--from-store", *teacher, "--book", "house", "--rounds", "1", "--json")
    assert done.returncode == 0, done.stderr
    (bullet,) = book(db).bullets().values()
    assert "redacted:api-key" in bullet.content
    assert book(db).scan([key]) == []


def test_what_a_run_would_cost_is_said_and_nothing_is_recorded(db: str) -> None:
    done = distill(db, *WORLD, *ROLES, "--book", "house", "--n", "5", "--epochs", "2", "--dry-run", "--json")
    rows = {row["part"]: row for row in json.loads(done.stdout)}
    assert (rows["reflector"]["calls"], rows["curator"]["calls"]) == (30, 10)
    assert all(row["uncached_cost_usd"] > 0 for row in rows.values())
    assert not Path(db).exists()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--teacher", TEACHER, "--student", STUDENT), "No playbook was named"),
        (("--book", "b", "--teacher", TEACHER), "No student was named"),
        (("--book", "b", "--student", STUDENT), "No model was named as the reflector"),
        (("--book", "b", "--student", STUDENT, "--teacher", "expert"), "expert is no language model"),
        (("--book", "b", *ROLES, "--validate-split", "train"), "the split that is learnt from"),
        (("--book", "b", *ROLES, "--mode", "online", "--epochs", "2"), "goes through its episodes once"),
        (("--book", "b", *ROLES[:4], "--max-cost", "1"), "--max-cost cannot be kept"),
        (("--book", "b", *ROLES[:2], "--teacher", "python:playbook_models:open_nobody#t"), "open_teacher"),
        (("--resume", "r"), "No store at"),
    ],
)
def test_what_cannot_be_meant_is_said_before_anything_is_spent(db: str, words: tuple[str, ...], says: str) -> None:
    world = () if "--resume" in words else (*WORLD, "--n", "2")
    done = distill(db, *world, *words)
    assert done.returncode in (2, 5), done.stderr
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_a_learning_run_is_resumed_by_its_own_command(db: str) -> None:
    learn(db, "--n", "1", "--run", "r")
    wrong = potstill("run", "--resume", "r", "--db", db)
    assert (wrong.returncode, "Type: potstill distill playbook --resume r" in wrong.stderr) == (2, True)
    assert "holds no run to resume" in potstill("run", "--resume", "--db", db).stderr
    changed = distill(db, "--resume", "r", "--epochs", "3")
    assert (changed.returncode, "--epochs cannot be given with --resume" in changed.stderr) == (2, True)
    assert "No learning run named 'q'" in distill(db, "--resume", "q").stderr
    again = distill(db, *WORLD, *ROLES, "--book", "house", "--n", "2", "--run", "r")
    assert (again.returncode, "with another configuration" in again.stderr) == (5, True)


@pytest.mark.postgres
def test_a_book_on_a_server_is_taught_and_no_password_is_printed(postgres, tmp_path: Path) -> None:
    url = postgres.url_for(tmp_path / "learn")
    done = distill(url, *WORLD, *ROLES, "--book", "house", "--n", "2", "--run", "r")
    assert done.returncode == 0, done.stderr
    ran = ("run", *WORLD, "--student", STUDENT, "--arm", "playbook", "--playbook", "house", "--n", "2", "--db", url)
    played = potstill(*ran, PYTHONPATH=on_path())
    assert played.returncode == 0, played.stderr
    said = [done, played]
    for words in (("show",), ("log",), ("runs",), ("edit", "b-1", "--content", "Weigh it."), ("check",), ("report",)):
        said.append(potstill("playbook", *words, "--db", url))
        assert said[-1].returncode == 0, said[-1].stderr
    conflict = ("playbook", "edit", "b-1", "--content", "x", "--revision", "1")
    said.append(potstill(*conflict, "--db", url, TMPDIR=str(tmp_path)))
    assert said[-1].returncode == 1
    assert "--db 'postgresql://" in said[-1].stderr
    assert not [one for one in said if PASSWORD in one.stdout + one.stderr]
