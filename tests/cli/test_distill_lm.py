"""``distill weights --student lm``: from recorded episodes to a student that acts; one line where that cannot be."""

from __future__ import annotations

import importlib.util
import json
import shutil
import sys
from pathlib import Path

import pytest

from command_line import Here, expert_store
from potstill.trajectories import Store

INSTALLED = all(importlib.util.find_spec(name) is not None for name in ("torch", "transformers", "peft"))
needs_lm = pytest.mark.skipif(not INSTALLED, reason="the extra lm is not installed")
TINY = ("--student", "lm", "--held-out", "0.4", "--history", "0", "--rank", "2", "--steps", "2", "--batch", "2")


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with 8 episodes of the expert of house-rules."""
    return expert_store(tmp_path_factory.mktemp("taught") / "taught.db", 8)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).parent.parent / "weights"))
        from tiny_lm import tiny_checkpoint

        return str(tiny_checkpoint(tmp_path_factory.mktemp("tiny")))


@pytest.mark.extra
@needs_lm
def test_a_store_becomes_a_student_that_acts(db: str, base: str, tmp_path: Path, here: Here) -> None:
    out = tmp_path / "student-lm"
    words = ("distill", "weights", "--db", db, "--base", base, "--out", str(out), *TINY)
    estimate = here(*words, "--dry-run", "--json")
    assert estimate.code == 0, estimate.err
    (row,) = json.loads(estimate.out)
    assert row["cpu_s"] > 0
    assert row["steps"] == 2
    assert not out.exists()
    done = here(*words, "--json")
    assert done.code == 0, done.err
    made = json.loads(done.out)
    assert (made["steps"], made["parity"]["agreement"]) == (2, 1.0)
    assert 0 <= made["agreement_before"] <= 1
    assert here("lineage", "verify", str(out)).code == 0
    manifest = json.loads(here("lineage", "show", str(out)).out)["manifest"]
    assert manifest["teachers"][0]["model"] == "expert"
    assert manifest["configuration"]["base_sha256"] == json.loads((out / "student.json").read_text())["base"]["sha256"]
    world = ("--env", "house-rules", "--split", "test", "--n", "2", "--max-steps", "4", "--db", db, "--run", "acts")
    played = here("run", *world, "--student", f"tuned:{out}", "--arm", "zero-shot")
    assert played.code == 0, played.err
    with Store.read(db) as store:
        steps = [step for episode in store.select(run_id="acts") for step in episode.steps]
    assert steps
    assert all(step.action.text in (step.observation.admissible or ()) for step in steps)
    again = here(*words, "--resume", "--json")  # from its end, in the place of the old one
    assert again.code == 0, again.err
    assert json.loads(again.out)["parity"]["agreement"] == 1.0


@pytest.mark.extra
@needs_lm
def test_a_student_that_was_tuned_with_demonstrations_is_shown_some(
    db: str, base: str, tmp_path: Path, here: Here
) -> None:
    out = tmp_path / "shown-lm"
    with Store.open(db) as store:
        (run,) = store.runs()
        store.put_run(run.run_id, {**run.config, "environment_options": {"rules_seed": 7}}, replace=True)
    done = here("distill", "weights", "--db", db, "--base", base, "--out", str(out), *TINY, "--demos", "2")
    assert done.code == 0, done.err
    assert f"Next: potstill run --env house-rules --option rules_seed=7 --student tuned:{out} --arm" in done.err
    assert json.loads((out / "student.json").read_text())["demonstrations"] == 2
    world = ("--env", "house-rules", "--split", "test", "--n", "1", "--max-steps", "2", "--db", db, "--run", "shown")
    played = here("run", *world, "--student", f"tuned:{out}", "--arm", "context", "--k", "2")
    assert played.code == 0, played.err
    with Store.read(db) as store:
        (episode,) = store.select(run_id="shown")
    assert "Examples from episodes" in episode.steps[0].calls[-1].prompt[0].content


@pytest.mark.extra
@needs_lm
def test_whole_episodes_are_learnt_in_as_many_passes(db: str, base: str, tmp_path: Path, here: Here) -> None:
    out = tmp_path / "whole-lm"
    words = ("--student", "lm", "--held-out", "0.4", "--rank", "2", "--steps", "2", "--batch", "2", "--whole-episodes")
    done = here("distill", "weights", "--db", db, "--base", base, "--out", str(out), *words, "--json")
    assert done.code == 0, done.err
    made = json.loads(done.out)
    with Store.read(db) as store:
        episodes = {one.task.id: len(one.steps) for one in store.select(kind="teacher")}
    assert made["passes"] < made["decisions"] < sum(episodes.values())
    assert made["passes"] < len(episodes)  # some are held out
    assert "history_turns" not in json.loads((out / "student.json").read_text()).get("voice", {})
    assert here("lineage", "verify", str(out)).code == 0


@pytest.mark.extra
@needs_lm
@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "--base smollm2-135m"),
        (("--base", "smolm2-135m"), "Did you mean 'smollm2-135m'"),
        (("--base", "BASE", "--rank", "0"), "rank is 0"),
        (("--base", "BASE", "--width", "8"), "--width is for rankers"),
        (("--base", "BASE", "--play", "2"), "--play is for rankers"),
        (("--base", "BASE", "--loss", "kind=soft"), "--loss is for rankers"),
        (("--base", "BASE", "--reasoning", "separate"), "'separate'"),
        (("--base", "BASE", "--reasoning", "with-action"), "has no reasoning to learn"),
        (("--base", "BASE", "--span", "tool-name=1"), "part of an answer"),
        (("--base", "BASE", "--span", "text=much"), "is no number"),
        (("--base", "BASE", "--resume"), "no checkpoint"),
        (("--base", "BASE", "--out", "a.policy"), "ends in .policy, as policies (potstill distill weights) do"),
        (("--base", "BASE", "--whole-episodes"), "Leave --history, --list-admissible and --reasoning away"),
    ],
)
def test_what_cannot_be_is_one_line(
    db: str, base: str, tmp_path: Path, here: Here, words: tuple[str, ...], said: str
) -> None:
    given = tuple(base if word == "BASE" else word for word in words)
    done = here("distill", "weights", "--db", db, "--out", str(tmp_path / "no-lm"), *TINY, *given)
    assert (done.code, done.out) == (2, "")
    (line,) = [line for line in done.err.splitlines() if line.startswith("error")]
    assert said in line
    assert not (tmp_path / "no-lm").exists()
    assert "--resume" not in given or not (tmp_path / "no-lm.training").exists()


@pytest.mark.extra
@needs_lm
def test_another_thing_of_this_name_is_kept(db: str, base: str, tmp_path: Path, here: Here) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    done = here("distill", "weights", "--db", db, "--base", base, "--out", str(tmp_path / "mine"), *TINY)
    assert done.code == 2
    assert "is no tuned student" in done.err
    shutil.rmtree(tmp_path / "mine")


def test_options_of_a_language_model_are_refused_for_others(here: Here) -> None:
    pytest.importorskip("torch")
    done = here("distill", "weights", "--db", "no.db", "--out", "a.policy", "--rank", "4")
    assert (done.code, "--rank is for language models" in done.err) == (2, True)


def test_without_the_packages_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, here: Here) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    done = here("distill", "weights", "--student", "lm", "--db", "no.db", "--out", "a-lm")
    assert done.code == 2
    assert done.err == "error: Tuning a language model needs the extra 'lm'. Type: pip install 'potstill[lm]'\n"
