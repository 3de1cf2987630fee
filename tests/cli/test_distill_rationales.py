"""``distill rationales`` and ``distill weights --rationales``: a student reasons whose teacher never did."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from test_distill_lm import TINY, base, needs_lm, recorded  # noqa: F401

from command_line import Here, Said
from potstill.trajectories import Store

pytestmark = [pytest.mark.extra, needs_lm]
REASONING = ("--reasoning", "with-action")


@pytest.fixture
def templated(db: str, tmp_path: Path, here: Here) -> Path:
    file = tmp_path / "templated.jsonl"
    done = here("distill", "rationales", "--db", db, "--out", file)
    assert done.code == 0, done.err
    assert "templated" in done.err
    return file


def test_a_student_learns_to_reason_and_says_whose_reasoning_it_was(
    db: str,
    base: str,  # noqa: F811
    templated: Path,
    tmp_path: Path,
    here: Here,
) -> None:
    sampled, out = tmp_path / "sampled.jsonl", tmp_path / "student-lm"
    asked = ("--model", f"torch:{base}", "--samples", "2", "--history", "0", "--reasoning-tokens", "1", "--limit", "3")
    words = ("distill", "rationales", "--db", db, "--from", "sampled", *asked, "--cpu-hour-usd", "0.1", "--json")
    done = here(*words, "--out", sampled)
    assert done.code == 0, done.err
    kept = json.loads(done.out)
    assert kept["asked"] == 3
    assert kept["cost_usd"] > 0

    poor = here(*words, "--out", tmp_path / "poor.jsonl", "--max-cost", "1e-12")
    assert (poor.code, "is reached, and 2 decisions are left" in poor.err) == (6, True), poor.err
    assert json.loads(poor.out)["left"] == 2

    files = ("--rationales", sampled, "--rationales", templated)
    made = here("distill", "weights", "--db", db, "--base", base, "--out", out, *TINY, *REASONING, *files, "--json")
    assert made.code == 0, made.err
    told = json.loads(made.out)
    assert told["parity"]["agreement"] == 1.0
    assert sum(told["reasoning"].values()) == told["decisions"]
    assert 0 < told["reasoning"]["templated"] <= told["decisions"]
    assert json.loads((out / "student.json").read_text())["reasoned_by"] == told["reasoning"]
    manifest = json.loads(here("lineage", "show", str(out)).out)["manifest"]
    assert [one["name"] for one in manifest["datasets"]] == ["house-rules", "sampled.jsonl", "templated.jsonl"]
    assert manifest["metrics"]["rationales"]["decisions"] == told["reasoning"]
    assert here("lineage", "verify", str(out)).code == 0

    world = ("--env", "house-rules", "--split", "test", "--n", "1", "--max-steps", "1", "--db", db, "--run", "acts")
    cascade = ("--arm", "cascade", "--signal", "likelihood", "--threshold", "0.99", "--teacher", "expert")
    played = here("run", *world, "--student", f"tuned:{out}", *cascade)
    assert played.code == 0, played.err
    with Store.read(db) as store:
        steps = [step for episode in store.select(run_id="acts") for step in episode.steps]
    thoughts = [call for step in steps for call in step.calls if call.purpose == "reason"]
    assert len(thoughts) == len(steps) == 1
    assert all(step.decision is not None and step.decision.confidence is not None for step in steps)


def test_held_out_prompts_hold_no_reasoning_made_in_hindsight(
    db: str,
    base: str,  # noqa: F811
    templated: Path,
    tmp_path: Path,
    here: Here,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Past turns are in prompts: a subgoal there tells what the teacher does next."""
    from potstill.cli.training import lm

    read: list[lm.Read] = []

    def kept(plan: lm.LmPlan, folder: Path) -> lm.Read:
        read.append(read_chats(plan, folder))
        return read[-1]

    read_chats = lm.read_chats
    monkeypatch.setattr(lm, "read_chats", kept)
    words = ("--db", db, "--base", base, "--out", tmp_path / "no-lm", *TINY, "--history", "3", *REASONING)
    done = here("distill", "weights", *words, "--rationales", templated, "--dry-run")
    assert done.code == 0, done.err

    def thoughts(chats: list[Any]) -> int:
        return sum("Subgoal:" in one.content for chat in chats for one in chat.messages if one.role == "assistant")

    assert thoughts(read[0].learn) > 0
    assert read[0].held_out
    assert thoughts(read[0].held_out) == 0


def test_a_making_that_cannot_begin_leaves_no_file(db: str, tmp_path: Path, here: Here) -> None:
    file = tmp_path / "sampled.jsonl"
    words = ("distill", "rationales", "--db", db, "--from", "sampled", "--limit", "1", "--out", file)
    done = here(*words, "--model", "torch:no-such-model")
    assert done.code == 2, done.err
    assert not file.exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "--rationales is reasoning to learn. Type: --reasoning with-action"),
        ((*REASONING, "--student", "ranker"), "is for language models"),
        ((*REASONING, "--env", "minigrid"), "holds no successful teacher episode of 'minigrid'"),
    ],
)
def test_rationales_that_do_not_fit_are_one_line(
    db: str,
    base: str,  # noqa: F811
    templated: Path,
    tmp_path: Path,
    here: Here,
    words: tuple[str, ...],
    said: str,
) -> None:
    out = tmp_path / "no-lm"
    done = here(
        "distill", "weights", "--db", db, "--base", base, "--out", out, *TINY, "--rationales", templated, *words
    )
    assert done.code == 2, done.err
    assert said in done.err
    assert not out.exists()


def test_rationales_of_another_store_are_one_line(
    db: str,
    base: str,  # noqa: F811
    templated: Path,
    tmp_path: Path,
    here: Here,
) -> None:
    first, *rest = templated.read_text().splitlines()
    words = ("distill", "weights", "--db", db, "--base", base, "--out", tmp_path / "no-lm", *TINY, *REASONING)
    templated.write_text("\n".join([first.replace('"train"', '"other"'), *rest]))
    done = here(*words, "--rationales", templated)
    assert (done.code, "were made for the split 'other'" in done.err) == (2, True), done.err
    templated.write_text(first)
    done = here(*words, "--rationales", templated)
    assert (done.code, "has reasoning: the rationales are about others" in done.err) == (2, True), done.err
    silent = here(*words)
    assert (silent.code, "potstill distill rationales" in silent.err) == (2, True), silent.err


def test_a_student_is_asked_as_it_was_tuned(
    db: str,
    base: str,  # noqa: F811
    tmp_path: Path,
    here: Here,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent.parent / "weights"))
    from potstill.envs.registry import describe
    from potstill.models.tuned_file import Voice
    from tiny_lm import as_student

    def ask(name: str, *words: str, **fields: Any) -> Said:
        folder = shutil.copytree(base, tmp_path / name)
        student = as_student(folder, describe("house-rules").instructions, **fields)
        out = ("--out", tmp_path / f"{name}.jsonl", "--limit", "1", "--samples", "1", "--reasoning-tokens", "1")
        return here(
            "distill", "rationales", "--db", db, "--from", "sampled", "--model", f"tuned:{student}", *out, *words
        )

    reasons = Voice(reasoning="with-action", history_turns=0)
    told = ask("acts", voice=Voice())
    assert (told.code, "was tuned with --reasoning none" in told.err) == (2, True), told.err
    told = ask("shown", voice=reasons, demonstrations=2)
    assert (told.code, "was tuned with demonstrations" in told.err) == (2, True), told.err
    told = ask("typed", "--history", "2", voice=reasons)
    assert (told.code, "Leave --history away" in told.err) == (2, True), told.err
    told = ask("reasons", "--hint", "--json", voice=reasons)  # the hint is another system message than it knows
    assert told.code == 0, told.err
    assert json.loads(told.out)["asked"] == 1
