"""``potstill run --playbook``: arms that show a book, alone and beside demonstrations, and what is recorded of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from playbook_models import on_path
from terminal import potstill

from potstill.trajectories import Store

STUDENT = ("--student", "python:playbook_models:open_student#x", "--price-student-as", "gpt-4.1-nano")
WORLD = ("--env", "house-rules", "--option", "rules=2")


@pytest.fixture
def db(tmp_path: Path) -> str:
    """A store with a book: a rule that the student follows, one in shadow, and one that is pinned."""
    path = str(tmp_path / "run.db")
    rules = (("Begin with 'weigh it'.", "live"), ("Begin with 'stamp the back'.", "shadow"), ("Be kind.", "live"))
    for rule, stage in rules:
        done = potstill("playbook", "add", rule, "--stage", stage, "--book", "house", "--db", path)
        assert done.returncode == 0, done.stderr
    assert potstill("playbook", "pin", "b-3", "--db", path).returncode == 0
    return path


def run(db: str, *words: str):
    return potstill("run", *WORLD, *STUDENT, "--db", db, *words, PYTHONPATH=on_path())


def test_arms_show_the_book_alone_beside_demonstrations_and_in_cascades(db: str) -> None:
    taught = potstill("distill", "context", *WORLD, "--n", "5", "--teacher", "expert", "--db", db)
    assert taught.returncode == 0, taught.stderr
    arms = "zero-shot,playbook,playbook+context,playbook+context+cascade"
    done = run(db, "--n", "3", "--playbook", "house", "--arm", arms, "--run", "r", "--teacher", "expert", "--json")
    assert done.returncode == 0, done.stderr
    assert [arm["episodes"] for arm in json.loads(done.stdout)["arms"]] == [3, 3, 3, 3]
    with Store.read(db) as store:
        episodes = {arm: list(store.select(run_id="r", arm=arm)) for arm in arms.split(",")}
    assert all(one.playbook is None for one in episodes["zero-shot"])
    for arm in arms.split(",")[1:]:
        for one in episodes[arm]:
            assert one.playbook is not None
            assert (one.playbook.name, one.playbook.shown, one.playbook.withheld) == ("house", ("b-1", "b-3"), ())
            asked = [call for step in one.steps for call in step.calls if call.answerer == "student"]
            text = "\n".join(message.content for message in asked[0].prompt)
            assert text.count("[b-1] Begin with 'weigh it'.") == 1
            assert "stamp the back'." not in text, "a bullet in shadow is shown to nobody"
            assert bool(one.steps[0].demonstrations) == ("context" in arm)
    assert {one.steps[0].action.text for one in episodes["playbook"]} == {"weigh it"}
    assert {one.steps[0].action.text for one in episodes["zero-shot"]} != {"weigh it"}


def test_a_resumed_run_goes_on_with_its_book(db: str) -> None:
    first = run(db, "--n", "2", "--playbook", "house", "--arm", "playbook", "--run", "r", "--playbook-budget", "40")
    assert first.returncode == 0, first.stderr
    again = potstill("run", "--resume", "r", "--db", db, "--json", PYTHONPATH=on_path())
    assert json.loads(again.stdout)["played"] == 0
    refused = potstill("run", "--resume", "r", "--db", db, "--playbook", "other", PYTHONPATH=on_path())
    assert (refused.returncode, "--playbook cannot be given with --resume" in refused.stderr) == (2, True)


def test_trials_leave_bullets_out_by_lot_and_the_report_reads_them(db: str) -> None:
    words = ("--playbook", "house", "--arm", "playbook", "--holdout-share", "1", "--n", "12", "--run", "r")
    assert run(db, *words).returncode == 0
    report = json.loads(potstill("playbook", "report", "--no-prices", "--db", db, "--json").stdout)
    assert (report["episodes"], report["trials"]) == (12, 12)
    priced = json.loads(potstill("playbook", "report", "--db", db, "--json").stdout)
    assert priced["bullets"][0]["rent_usd"] > 0, "as the run was planned"
    rows = {row["id"]: row for row in report["bullets"]}
    assert rows["b-1"]["trials_with"] + rows["b-1"]["trials_without"] == 12
    assert rows["b-1"]["trials_without"] > 0
    assert rows["b-3"]["observed_shown"] == 12, "pinned bullets are never left out"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--arm", "playbook"), "The arm 'playbook' shows a playbook, and none was named. Type: --playbook NAME"),
        (("--arm", "zero-shot", "--playbook", "house"), "no arm shows it. Type for example: --arm zero-shot,playbook"),
        (("--arm", "playbook", "--playbook", "hous"), "No playbook named 'hous'. Did you mean 'house'?"),
        (("--arm", "playbook", "--playbook", "house", "--namespace", "acme"), "no playbook in namespace 'acme'"),
        (("--arm", "playbok", "--playbook", "house"), "Did you mean 'playbook'?"),
    ],
)
def test_what_cannot_be_shown_is_said_before_anything_is_recorded(db: str, words: tuple[str, ...], says: str) -> None:
    done = run(db, "--n", "1", *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert says in done.stderr
    with Store.read(db) as store:
        assert store.runs(namespace="default") == store.runs(namespace="acme") == []


def test_the_estimate_counts_the_book(db: str) -> None:
    done = run(db, "--n", "1", "--playbook", "house", "--arm", "zero-shot,playbook", "--dry-run", "--json")
    alone, told = json.loads(done.stdout)
    assert told["student_input_tokens"] > alone["student_input_tokens"]
