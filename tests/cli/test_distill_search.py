"""``distill weights --search``: the best of a few recipes becomes the file, and what cannot go together is one line."""

from __future__ import annotations

import json
import shlex
import signal
import sys
from pathlib import Path

import msgspec
import pytest
from test_distill_weights import needs_torch

from command_line import Here
from potstill.distill.weights.lineage import read
from potstill.distill.weights.search.space import recipe_at
from potstill.distill.weights.train.config import TrainConfig
from potstill.distill.weights.train.recipe import RankerRecipe

WORDS = ("--search", "4", "--steps", "9", "--batch", "16", "--held-out", "0.3")


@pytest.mark.extra
@needs_torch
def test_the_best_recipe_is_trained_and_after_ctrl_c_it_is_the_same_file(
    db: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    here: Here,
) -> None:
    pytest.importorskip("optuna")
    from potstill.cli.training import search

    out = {name: tmp_path / f"{name}.policy" for name in ("whole", "stopped")}
    done = here("distill", "weights", "--db", db, "--out", str(out["whole"]), *WORDS, "--json")
    assert done.code == 0, done.err
    made = json.loads(done.out)
    found = made["search"]
    assert [trial["number"] for trial in found["trials"]] == [0, 1, 2, 3]
    best = found["trials"][found["best"]]
    assert best["looks"][-1]["value"] == max(one["looks"][-1]["value"] for one in found["trials"] if "variants" in one)
    assert all(row["frontier"] for row in found["frontier"])
    told = read(out["whole"]).manifest
    trained = msgspec.convert({k: v for k, v in told.configuration.items() if k != "student"}, RankerRecipe)
    (at_hand, learnt) = recipe_at(RankerRecipe(train=TrainConfig(steps=9, batch=16)), best["point"]), made["decisions"]
    assert msgspec.structs.replace(trained.train, evaluate_every=None) == at_hand.train
    assert told.metrics["search"]["learnt"]["decisions"] == learnt <= told.datasets[0].decisions
    assert told.metrics["search"]["seed"] == 0
    assert [trial["point"] for trial in told.metrics["search"]["trials"]] == [one["point"] for one in found["trials"]]
    assert made["parity"]["agreement"] == 1.0

    with monkeypatch.context() as patched:
        stepped = search._Watch.stepped

        def interrupted(self: search._Watch, step: int, steps: int) -> None:
            stepped(self, step, steps)
            if self.done == 2 and step == 1:
                signal.raise_signal(signal.SIGINT)

        patched.setattr(search._Watch, "stepped", interrupted)
        stopped = here("distill", "weights", "--db", db, "--out", str(out["stopped"]), *WORDS)
    assert (stopped.code, stopped.out) == (130, "")
    assert "2 of 4 trials are kept" in stopped.err
    assert "type the same command with --resume" in stopped.err
    assert not out["stopped"].exists()
    again = here("distill", "weights", "--db", db, "--out", str(out["stopped"]), *WORDS, "--resume")
    assert again.code == 0, again.err
    assert "The best of 4 trials" in again.err
    assert out["whole"].read_bytes() == out["stopped"].read_bytes()


@pytest.mark.extra
@needs_torch
def test_the_smallest_that_is_about_as_good_is_trained_within_the_labels_and_a_command_makes_it_smaller(
    db: str,
    tmp_path: Path,
    here: Here,
) -> None:
    pytest.importorskip("optuna")
    out = tmp_path / "few.policy"
    words = ("--search-labels", "60", "--search-for", "bytes", "--search-within", "1")
    done = here("distill", "weights", "--db", db, "--out", str(out), *WORDS, *words, "--json")
    assert done.code == 0, done.err
    made = json.loads(done.out)
    found = made["search"]
    smallest = min(variant["bytes"] for trial in found["trials"] for variant in trial.get("variants", ()))
    assert (found["for"], found["chosen"]["bytes"]) == ("bytes", smallest)
    assert "The smallest of 4 trials within 1 of the best value is number" in done.err
    learnt = read(out).manifest.metrics["search"]["learnt"]
    assert learnt["decisions"] == made["decisions"]
    assert max(learnt["labels"], *(trial["labels"] for trial in found["trials"])) <= 60
    # The command that is told is one that can be typed; what it makes passes its gate or says why not.
    program, *smaller = shlex.split(found["smaller"])
    assert (program, smaller[0]) == ("potstill", "compress")
    small = here(*smaller, "--least-agreement", "0", "--most-kl", "100", "--json")
    assert small.code == 0, small.err
    assert json.loads(small.out)["size_bytes"] < made["size_bytes"]


@pytest.mark.extra
@needs_torch
def test_a_dry_run_says_how_long_a_search_takes_at_most(
    recorded: Path,
    tmp_path: Path,
    here: Here,
) -> None:
    pytest.importorskip("optuna")
    words = ("--db", str(recorded), "--out", str(tmp_path / "no.policy"), *WORDS, "--dry-run", "--json")
    done = here("distill", "weights", *words)
    assert done.code == 0, done.err
    (row,) = json.loads(done.out)
    assert (row["trials"], row["steps"]) == (4, 9)
    assert row["search_cpu_s"] == pytest.approx(4 * 1.25 * row["cpu_s"]), (
        "each with pruning, tuned for a quarter of the steps"
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.extra
@needs_torch
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--search", "0"), "--search"),
        (("--search", "4", "--loss", "kind=hard"), "--loss is what --search chooses"),
        (("--search", "4", "--mix", "kind=hard", "--mix", "kind=margin"), "--mix is what --search chooses"),
        (("--search", "4", "--width", "8"), "--width is what --search chooses"),
        (("--search", "4", "--learning-rate", "0.1"), "--learning-rate is what --search chooses"),
        (("--search", "4", "--student", "lm"), "not of a language model"),
        (("--search", "4", "--dagger", "1", "--labels", "5", "--teacher", "expert"), "Type one of both"),
        (("--search-cpu-s", "10"), "--search-cpu-s is for --search"),
        (("--search-labels", "10"), "--search-labels is for --search"),
        (("--search", "4", "--search-labels", "1"), "tasks are learnt whole"),
        (("--search", "4", "--search-for", "cheap"), "No goal of a search named 'cheap'"),
        (("--search", "4", "--search-within", "0.1"), "--search-for success knows no cost"),
        (("--search", "4", "--resume"), "nothing to resume"),
    ],
)
def test_what_cannot_be_is_one_line(
    recorded: Path,
    tmp_path: Path,
    here: Here,
    words: tuple[str, ...],
    said: str,
) -> None:
    pytest.importorskip("optuna")
    done = here("distill", "weights", "--db", str(recorded), "--out", str(tmp_path / "a.policy"), *words)
    assert (done.code, done.out) == (2, "")
    (line,) = [line for line in done.err.splitlines() if line.lower().startswith("error")]
    assert said in line
    assert not (tmp_path / "a.policy").exists()


@pytest.mark.extra
@needs_torch
def test_without_optuna_the_extra_is_named(
    recorded: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    here: Here,
) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    done = here("distill", "weights", "--db", str(recorded), "--out", str(tmp_path / "a.policy"), "--search", "4")
    assert done.code == 2
    assert done.err == "error: A search over recipes needs the extra 'search'. Type: pip install 'potstill[search]'\n"
