"""``distill debates`` and ``distill weights --debates``: policies debate, a student learns from it."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest
from test_distill_weights import needs_torch

from command_line import Here, Said, call
from potstill.distill.weights.data import read
from potstill.trajectories import Store

pytestmark = [pytest.mark.extra, needs_torch]
TINY = ("--width", "8", "--held-out", "0.3", "--json")


@pytest.fixture(scope="module")
def speakers(recorded: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Two students of little training, so that they err, and not in the same places."""
    folder = tmp_path_factory.mktemp("speakers")
    for seed in ("1", "2"):
        words = ("--db", str(recorded), "--out", str(folder / f"{seed}.policy"), "--seed", seed, "--steps", "20", *TINY)
        assert call("distill", "weights", *words) == 0
    return [f"policy:{folder / name}.policy" for name in ("1", "2")]


def held(here: Here, db: Path, speakers: list[str], out: Path, *words: str) -> Said:
    named = [word for spec in speakers for word in ("--speaker", spec)]
    return here("distill", "debates", "--db", str(db), *named, "--out", str(out), *words)


def test_debates_of_two_policies_teach_a_third(
    recorded: Path,
    speakers: list[str],
    tmp_path: Path,
    here: Here,
) -> None:
    file, out = tmp_path / "debates.jsonl", tmp_path / "student.policy"
    done = held(here, recorded, speakers, file, "--n", "80", "--json")
    assert done.code == 0, done.err
    told = json.loads(done.out)
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert told["debates"] == len(lines) == 80
    assert 0 < told["telling"] <= 80
    assert set(told["right"]) == set(speakers)
    with Store.read(recorded) as store:
        did = {f"{episode.id}:{step.index}": step.action.text for episode in store.select() for step in episode.steps}
    assert all(did[line["id"]] in line["right"] for line in lines)
    again = tmp_path / "again.jsonl"
    assert held(here, recorded, speakers, again, "--n", "80").code == 0
    assert again.read_bytes() == file.read_bytes()

    with Store.read(recorded) as store:
        run = next(iter(store.select())).run_id
    assert run
    with_expert = held(here, recorded, [*speakers, f"run:{run}"], tmp_path / "expert.jsonl", "--n", "20", "--json")
    assert json.loads(with_expert.out)["right"][f"run:{run}"] == 1.0  # it is the one that says what is right

    words = ("--db", str(recorded), "--out", str(out), "--debates", str(file), "--loss", "kind=margin", "--steps", "20")
    made = here("distill", "weights", *words, *TINY)
    assert made.code == 0, made.err
    assert "pairs of" in made.err
    manifest = json.loads(here("lineage", "show", str(out)).out)["manifest"]
    debated = manifest["metrics"]["debates"]
    assert debated["share"] == 0.3
    assert debated["left_out"]["debates about tasks or situations that are held out"] > 0
    assert debated["debates"] + sum(debated["left_out"].values()) == 80
    assert [one["name"] for one in manifest["datasets"]] == ["house-rules", "debates.jsonl"]
    assert json.loads(made.out)["decisions"] == manifest["datasets"][0]["decisions"] + debated["pairs"]
    assert here("lineage", "verify", str(out)).code == 0

    (pairs,) = (tmp_path / "student.policy.training").glob("pairs-*.jsonl")
    (data,) = (tmp_path / "student.policy.training").glob("data-*")
    weight = sum(json.loads(line)["weight"] for line in pairs.read_text().splitlines())
    taught = list(read(data, "train"))
    assert weight / (weight + sum(one.weight for one in taught)) == pytest.approx(0.3)
    more = tmp_path / "more.db"
    words = ("--env", "house-rules", "--split", "train", "--n", "12", "--seed", "5", "--teacher", "expert")
    assert here("distill", "context", *words, "--db", str(more)).code == 0
    before = pairs.read_bytes()
    pairs.write_bytes(before + b"\n")
    changed = here("distill", "retrain", str(out), "--db", str(more), "--steps", "5")
    assert (changed.code, "was changed after it was learnt from" in changed.err) == (2, True)
    pairs.write_bytes(before)
    again = here("distill", "retrain", str(out), "--db", str(more), "--steps", "5", "--json")
    assert again.code in (0, 1), again.err
    replayed = json.loads(again.out)
    assert replayed["old_decisions"] + replayed["overruled"] > len(taught)  # the pairs are among the old ones


BASE = {
    "id": "d1",
    "environment": "house-rules",
    "task_id": "t",
    "split": "train",
    "situation": {"goal": "g"},
    "admissible": ["a", "b"],
    "right": ["a"],
    "turns": [{"speaker": "x", "action": "a"}, {"speaker": "y", "action": "b"}],
}


@pytest.mark.parametrize(
    ("change", "words", "said"),
    [
        ({"split": "test"}, (), "has the split 'test', and what is learnt from has 'train'"),
        ({"environment": "alfworld"}, (), "has the environment 'alfworld'"),
        ({"namespace": "other"}, (), "has the namespace 'other'"),
        ({"right": ["c"]}, (), "Line 1 of"),
        ({"right": ["a", "b"]}, (), "tells a right action from a wrong one: 1 debates in which all were right"),
        ({}, ("--debate-share", "1"), "--debate-share is 1.0. Allowed: above 0 and below 1"),
        ({}, ("--debate-pairs", "al"), "Did you mean 'all'"),
        ({}, ("--student", "mlp"), "an mlp has one fixed list"),
        ({}, ("--student", "lm", "--base", "smollm2-135m"), "--debates holds pairs of actions"),
        ({}, ("--dagger", "2"), "does not go with --dagger"),
    ],
)
def test_debates_that_do_not_fit_are_one_line(
    recorded: Path,
    tmp_path: Path,
    here: Here,
    change: dict[str, object],
    words: tuple[str, ...],
    said: str,
) -> None:
    file, out = tmp_path / "d.jsonl", tmp_path / "no.policy"
    file.write_bytes(msgspec.json.encode({**BASE, **change}))
    done = here("distill", "weights", "--db", str(recorded), "--out", str(out), "--debates", str(file), *words, *TINY)
    assert done.code == 2, done.err
    assert said in done.err
    assert not out.exists()


@pytest.mark.parametrize(
    ("speakers", "said"),
    [
        ([], "here speaks nobody"),
        (["policy:a", "policy:a"], "each once"),
        (["local:smollm2-135m", "policy:a"], "The speaker is 'local:smollm2-135m'. Allowed: policy:FILE"),
        (["run:none", "policy:a"], "The run 'none' has no decision in 'house-rules'"),
        (["policy:none.policy", "policy:a"], "Cannot read the policy none.policy"),
    ],
)
def test_speakers_that_cannot_speak_are_one_line(
    recorded: Path,
    tmp_path: Path,
    here: Here,
    speakers: list[str],
    said: str,
) -> None:
    done = held(here, recorded, speakers, tmp_path / "no.jsonl")
    assert done.code == 2
    assert said in done.err
    assert not (tmp_path / "no.jsonl").exists()


def test_the_share_of_debates_without_debates_is_refused(
    recorded: Path,
    tmp_path: Path,
    here: Here,
) -> None:
    out = tmp_path / "no.policy"
    done = here("distill", "weights", "--db", str(recorded), "--out", str(out), "--debate-share", "0.2")
    assert done.code == 2
    assert "--debate-share is for --debates" in done.err
