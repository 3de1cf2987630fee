"""``potstill compress`` of a tuned language model: a smaller student with its lineage, or one line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("peft")

from command_line import Here, call, expert_store  # noqa: E402
from potstill.distill.weights.lineage import read  # noqa: E402
from potstill.distill.weights.lineage_verify import verify  # noqa: E402
from potstill.models.torch_engine import load_model  # noqa: E402
from potstill.models.tuned_file import read_tuned  # noqa: E402
from tiny_lm import tiny_checkpoint, tiny_student  # noqa: E402

pytestmark = pytest.mark.extra
QUICK = ("--finetune-steps", 2, "--batch", 2)
LOOSE = ("--least-agreement", 0, "--most-kl", 50, "--margin", 1)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a student as a user has it: adapters, its base and its data beside it."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("trained")
    tiny_checkpoint(folder / "tiny")
    db = expert_store(folder / "taught.db", 8)
    words = ("--student", "lm", "--base", folder / "tiny", "--steps", 2, "--held-out", 0.3, "--history", 0)
    assert call("distill", "weights", "--db", db, "--out", folder / "student-lm", *words) == 0
    return folder


def test_a_tuned_model_becomes_a_smaller_student(trained: Path, here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(trained)
    words = ("--prune", 0.5, *QUICK, *LOOSE, "--play", 2, "--max-steps", 2)
    done = here("compress", "tuned:student-lm", "--out", "small-lm", *words, "--json")
    assert done.code == 0, done.err
    made = json.loads(done.out)
    assert [row["verdict"] for row in made["stages"]] == ["given", "not judged yet", "kept"]
    assert made["parent_bytes"] == made["stages"][0]["size_bytes"]
    assert made["size_bytes"] == sum(file.stat().st_size for file in (trained / "small-lm").iterdir())
    assert made["parity"]["agreement"] == 1
    config = load_model(trained / "small-lm").config
    assert (config.num_attention_heads, config.num_key_value_heads, config.intermediate_size) == (1, 1, 24)
    given, small = read_tuned(trained / "student-lm"), read_tuned(trained / "small-lm")
    assert (small.merged, small.voice, small.instructions) == (True, given.voice, given.instructions)
    past, told = read(trained / "student-lm").manifest, read(trained / "small-lm").manifest
    assert (told.parents[0].name, told.datasets, told.teachers) == ("student-lm", past.datasets, past.teachers)
    assert told.configuration["compression"]["finetune_steps"] == 2
    assert told.configuration["compression"]["learning_rate"] == 1e-3
    assert [row["stage"] for row in told.metrics["stages"]] == [row["stage"] for row in made["stages"]]
    assert verify([trained / "small-lm"]).complete
    run = ("run", "--env", "house-rules", "--n", 1, "--max-steps", 2, "--arm", "zero-shot", "--db", "a.db")
    assert here(*run, "--student", "tuned:small-lm").code == 0


def test_where_nothing_passes_nothing_is_written(trained: Path, here: Here) -> None:
    before = sorted(path.name for path in trained.iterdir())
    words = ("--prune", 0.9, *QUICK, "--least-agreement", 1, "--most-kl", 0)
    done = here("compress", trained / "student-lm", "--out", trained / "no-lm", *words)
    assert (done.code, done.out) == (1, "")
    (line,) = [line for line in done.err.splitlines() if line.startswith("error")]
    assert "No stage does what the student does (prune 0.9, fine-tune: agreement" in line
    assert sorted(path.name for path in trained.iterdir()) == before


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("student-lm", "--out", "a", "--width", "8"), "Policies take --width"),
        (("student-lm", "--out", "a", "--zeros", ".5"), "Policies take --zeros"),
        (("student-lm", "--out", "a", "--prune", ".5", "--int4"), "potstill export STUDENT --gguf OUT"),
        (("student-lm", "--out", "a", "--prune", ".5", "--axis", "hidden"), "Available: heads, units"),
        (("student-lm", "--out", "a", "--prune", "1"), "is 1.0. Allowed: 0.01 to 0.99"),
        (("student-lm", "--out", "a"), "Type for example: --prune 0.34"),
        (("student-lm", "--prune", ".5"), "--out small-lm"),
        (("student-lm", "--out", "student-lm", "--prune", ".5"), "is the student itself"),
        (("student-lm", "--out", "a.policy", "--prune", ".5"), "ends in .policy"),
        (("student-lm", "--out", "taken", "--prune", ".5"), "is no tuned student"),
        (("student-lm", "--out", "a", "--prune", ".01"), "takes out none"),
        (("alone-lm", "--out", "a", "--prune", ".5"), "compressing needs them. Type: --data FOLDER"),
        (("shown-lm", "--out", "a", "--prune", ".5"), "was tuned with demonstrations"),
        (("none.gguf", "--out", "a", "--prune", ".5"), "none.gguf"),
        (("taken", "--out", "a.policy", "--prune", ".5"), "taken"),
    ],
)
def test_what_cannot_be_is_one_line(
    trained: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    here: Here,
    words: tuple[str, ...],
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("student-lm", "student-lm.training"):
        shutil.copytree(trained / name, tmp_path / name)
    tiny_student(tmp_path / "alone-lm", "Answer.")
    tiny_student(tmp_path / "shown-lm", "Answer.", demonstrations=2)
    (tmp_path / "taken").mkdir()
    before = sorted(tmp_path.iterdir())
    done = here("compress", *words)
    assert (done.code in (2, 3), done.out) == (True, ""), done
    (line,) = [line for line in done.err.splitlines() if line.startswith("error")]
    assert said in line
    assert sorted(tmp_path.iterdir()) == before
