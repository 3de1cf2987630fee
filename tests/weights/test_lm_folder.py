"""A tuned student's folder: it acts as what was trained, is found changed if it was, and is shown nothing new."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("peft")

from lm_examples import INSTRUCTIONS, Made, made  # noqa: E402

from potstill.cli.main import main  # noqa: E402
from potstill.distill.weights import gate  # noqa: E402
from potstill.distill.weights.lineage import Manifest  # noqa: E402
from potstill.distill.weights.lineage_verify import verify  # noqa: E402
from potstill.distill.weights.lm import folder, student  # noqa: E402
from potstill.errors import BadModelFile, ConfigError  # noqa: E402
from potstill.models.registry import open_model  # noqa: E402
from potstill.models.tuned import open_tuned  # noqa: E402
from potstill.protocols import CandidateScorer  # noqa: E402
from potstill.types import Message, Request  # noqa: E402

pytestmark = pytest.mark.extra
ADMISSIBLE = ("weigh it", "pack in straw", "ship by rail")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Made, student.Prepared]:
    torch.set_num_threads(1)
    tiny = made(tmp_path_factory.mktemp("base"))
    prepared = tiny.prepared()
    student.teach(prepared, tiny.recipe)
    return tiny, prepared


def write(path: Path, trained: tuple[Made, student.Prepared], *, merged: bool = False) -> folder.Written:
    tiny, prepared = trained

    def approve(partial: Path) -> dict[str, object]:
        return {
            "parity": student.parity(
                student.trained_side(prepared), open_tuned(partial), student.questions_of(tiny.held_out)
            ).summary()
        }

    return folder.write(
        path, prepared, tiny.recipe, Manifest(), environment="house-rules", instructions=INSTRUCTIONS, approve=approve,
        merged=merged,
    )  # fmt: skip


@pytest.fixture(scope="module")
def kept(trained: tuple[Made, student.Prepared], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("kept") / "student"
    write(path, trained)
    return path


@pytest.fixture
def there(kept: Path, tmp_path: Path) -> Path:
    return shutil.copytree(kept, tmp_path / "student")


def asking(system: str) -> Request:
    messages = (Message(role="system", content=system), Message(role="user", content="Goal: pack"))
    return Request(messages=messages, admissible=ADMISSIBLE)


def test_it_is_a_model_that_weighs_every_action(there: Path) -> None:
    model = open_model(f"tuned:{there}", seed=1)
    assert isinstance(model, CandidateScorer)
    assert model.name == f"tuned:{there}"
    found = asyncio.run(model.score(asking(INSTRUCTIONS)))
    assert sorted(text for text, _ in found.replies[0].candidates) == sorted(ADMISSIBLE)
    assert found.calls[0].model == f"tuned:{there}"
    asyncio.run(model.aclose())


def test_whole_weights_need_no_base_and_decide_alike(
    trained: tuple[Made, student.Prepared], there: Path, tmp_path: Path
) -> None:
    written = write(tmp_path / "whole", trained, merged=True)
    assert written.tuned.merged
    ours, theirs = (
        dict(asyncio.run(open_tuned(path).score(asking(INSTRUCTIONS))).replies[0].candidates)
        for path in (there, tmp_path / "whole")
    )
    assert ours == pytest.approx(theirs, abs=1e-3)
    with pytest.raises(ConfigError, match="Type: tuned:"):
        open_model(f"torch:{tmp_path / 'whole'}")


@pytest.mark.parametrize("added", ["\n\nExamples from episodes that reached similar goals:\n\n> pack", "Be quick."])
def test_a_prompt_that_it_was_not_tuned_with_is_refused(there: Path, added: str) -> None:
    request = asking(INSTRUCTIONS + added if added[0] == "\n" else added)
    with pytest.raises(ConfigError, match="allow_demonstrations=true") as error:
        asyncio.run(open_tuned(there).score(request))
    assert "\n" not in str(error.value)
    assert asyncio.run(open_tuned(there, allow_demonstrations=True).score(request)).replies


def test_a_changed_file_and_another_base_are_found(there: Path, trained: tuple[Made, student.Prepared]) -> None:
    assert verify([there]).complete
    other = shutil.copytree(trained[0].base, there.parent / "other")
    weights = other / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    with pytest.raises(BadModelFile, match="not the model that this student was tuned on"):
        open_tuned(there, base=str(other))
    with pytest.raises(ConfigError, match="--student-option base=PATH"):
        open_tuned(there, base=str(there.parent / "no" / "such"))
    adapter = there / "adapter_model.safetensors"
    adapter.write_bytes(adapter.read_bytes()[:-1] + b"\x01")
    with pytest.raises(BadModelFile, match=r"adapter_model\.safetensors was changed"):
        open_tuned(there)
    (finding,) = [one for one in verify([there]).findings if one.status == "changed"]
    assert "adapter_model.safetensors" in finding.detail


def test_what_a_student_says_of_itself_cannot_be_changed_unnoticed(there: Path) -> None:
    told = there / "student.json"
    told.write_text(told.read_text().replace("house-rules", "minigrid"))
    with pytest.raises(BadModelFile, match=r"student\.json: The file was changed after it was written"):
        open_tuned(there)
    lineage = there / "student.json.lineage.json"
    lineage.write_text(lineage.read_text().replace("file_sha256", "file_sha512"))
    with pytest.raises(BadModelFile, match="Its manifest was changed"):
        open_tuned(there)
    lineage.write_text("[")
    with pytest.raises(BadModelFile, match="Cannot read"):
        open_tuned(there)


def test_a_folder_that_says_nothing_or_nonsense(tmp_path: Path, there: Path) -> None:
    with pytest.raises(ConfigError, match="holds no tuned student"):
        open_tuned(tmp_path)
    (there / "student.json").write_bytes(b"{")
    with pytest.raises(BadModelFile, match="damaged"):
        open_tuned(there)
    (there / "student.json").write_text(
        '{"format": "potstill/tuned", "version": 9, "base": {"name": "a", "sha256": ""}, "template": "chat", '
        '"environment": "", "instructions": "", "voice": {}, "files": {}}'
    )
    with pytest.raises(BadModelFile, match="version 9"):
        open_tuned(there)


def test_below_the_floor_nothing_is_written_and_the_old_one_stays(
    trained: tuple[Made, student.Prepared], there: Path
) -> None:
    tiny, prepared = trained
    before = (there / "student.json").read_bytes()
    kept = {name: value.detach().clone() for name, value in prepared.network.state_dict().items()}

    def approve(partial: Path) -> dict[str, object]:
        prepared.network.load_state_dict({name: value + 1 for name, value in kept.items()})
        return {
            "parity": student.parity(
                student.trained_side(prepared), open_tuned(partial), student.questions_of(tiny.held_out)
            ).summary()
        }

    with pytest.raises(gate.GateFailed, match="does not act as the trained one"):
        folder.write(
            there, prepared, tiny.recipe, Manifest(), environment="e", instructions=INSTRUCTIONS, approve=approve
        )
    prepared.network.load_state_dict(kept)
    assert (there / "student.json").read_bytes() == before
    assert [path.name for path in there.parent.iterdir()] == ["student"]
    (there.parent / "mine").mkdir()
    with pytest.raises(ConfigError, match="is no tuned student"):
        folder.refuse_used(there.parent / "mine")


def test_a_run_refuses_what_the_student_never_saw(
    there: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def said(*words: str) -> tuple[int, str]:
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(["run", "--env", "house-rules", "--n", "1", "--student", f"tuned:{there}", "--db",
                  str(tmp_path / "a.db"), "--max-steps", "3", *words])  # fmt: skip
        return int(ended.value.code or 0), capfd.readouterr().err

    for words, named in (
        (("--arm", "zero-shot,context"), "The arm 'context' shows demonstrations"),
        (("--arm", "playbook", "--playbook", "book"), "shows a playbook"),
        (("--arm", "zero-shot", "--history", "3"), "was tuned with --history 0"),
        (("--arm", "zero-shot", "--reasoning", "with-action"), "was tuned with --reasoning none"),
        (("--arm", "zero-shot", "--list-admissible"), "was tuned with --list-admissible False"),
    ):
        code, err = said(*words)
        assert (code, named in err) == (2, True), err
    allowed = ("--arm", "context", "--student-option", "allow_demonstrations=true", "--dry-run")
    assert said(*allowed)[0] == 0
    cascade = ("--arm", "zero-shot,cascade", "--signal", "likelihood", "--teacher", "expert")
    code, err = said(*cascade)
    assert code == 0, err
