"""``distill rules``: from a store to certified rules that act, and one line where that cannot be."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest
from test_distill_teachers import store_of

from command_line import Here
from potstill.trajectories import Store

SKLEARN = importlib.util.find_spec("sklearn") is not None
HAND = {"rules": [{"when": [{"of": "goal", "has": "order"}, {"measure": "times done", "above": 0.5}]}]}


@pytest.fixture
def db(tmp_path: Path) -> str:
    return store_of(tmp_path / "taught.db", {"expert": 0})


@pytest.mark.extra
@pytest.mark.skipif(not SKLEARN, reason="scikit-learn is not installed (the extra 'rules')")
def test_rules_are_learnt_certified_and_act_in_a_cascade(db: str, tmp_path: Path, here: Here) -> None:
    out = tmp_path / "house.rules.json"
    done = here("distill", "rules", "--db", db, "--out", str(out), "--precision", "0.3", "--json")
    assert done.code == 0, done.err
    made = json.loads(done.out)
    proof = made["certificate"]
    assert proof["lower"] >= 0.3
    assert proof["tasks"] >= proof["wrong"]
    assert sum(layer["share"] for layer in made["layers"]) == pytest.approx(1)
    assert made["learnt_from"] > 0
    assert out.exists()
    checked = here("lineage", "verify", str(out), "--json")
    assert (checked.code, [row["status"] for row in json.loads(checked.out)]) == (0, ["ok"]), checked.err
    words = ("--env", "house-rules", "--split", "test", "--n", "2", "--student", f"rules:{out}", "--teacher", "expert")
    arm = ("--arm", "cascade", "--signal", "likelihood", "--threshold", "0.2")
    played = here("run", *words, *arm, "--db", db, "--run", "acts")
    assert played.code == 0, played.err
    with Store.read(db) as store:
        calls = {call.model for one in store.select(run_id="acts") for step in one.steps for call in step.calls}
    assert f"rules:{out}" in calls
    assert "expert" in calls or made["layers"][0]["share"] > 0.8


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "--out house.rules.json"),
        (("--out", "no/such/a.json"), "no folder no/such"),
        (("--out", "a.json", "--env", "minigrid"), "of these environments in the split 'train': house-rules (12)"),
        (("--out", "a.json", "--rules", "none.json"), "Cannot read the rules none.json"),
        (("--out", "a.json", "--rules", "EMPTY"), "EMPTY holds no rule, so there is nothing to certify"),
        (("--out", "a.json", "--rules", "HAND"), "answer in 0 held-out tasks"),
        (("--out", "a.json", "--rules", "HAND", "--precision", "1"), "precision is 1.0"),
        (("--out", "a.json", "--student", "local:x"), "allowed here: policy:FILE"),
    ],
)
def test_what_cannot_be_certified_is_one_line(
    db: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    here: Here,
    words: tuple[str, ...],
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "HAND").write_text(json.dumps(HAND))
    (tmp_path / "EMPTY").write_text(json.dumps({"rules": []}))
    done = here("distill", "rules", "--db", db, *words)
    assert done.code == 2
    assert said in done.err
    assert not (tmp_path / "a.json").exists()
