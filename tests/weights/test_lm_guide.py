"""The guide to tuned models is followed to its end, with a tiny base and two steps in the place of what it names."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("peft")
pytest.importorskip("minigrid")

from potstill.cli.main import main
from tiny_lm import tiny_checkpoint

pytestmark = pytest.mark.extra
GUIDE = Path(__file__).resolve().parents[2] / "docs" / "guides" / "tuned-models.md"
SMALL = {"--prune": "0.05", "--finetune-steps": "2"}
INSTEAD = {"--base": "tiny", "--steps": "2", "--n": "4", "--model": "torch:tiny", **SMALL}


def test_every_command_of_the_guide_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    tiny_checkpoint(tmp_path / "tiny")
    blocks = re.findall(r"^```bash\n(.*?)^```", GUIDE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    lines = [line for block in blocks for line in block.splitlines()]
    quoted = [shlex.split(line)[1:] for line in lines if line.startswith("potstill ")]
    trained, reasoned = ["distill", "distill", "run", "lineage"], ["distill"] * 3
    assert [words[0] for words in quoted] == [*trained, *reasoned, "compress", "export", "run"]
    for words in quoted:
        told = [INSTEAD.get(before, word) for before, word in zip(["", *words], words, strict=False)]
        with pytest.raises(SystemExit) as ended:
            main([*told, *(("--max-steps", "3") if words[0] == "run" else ())])
        assert not ended.value.code, capfd.readouterr().err
    assert (tmp_path / "student-lm" / "student.json").exists()
    assert (tmp_path / "small-lm" / "model.safetensors").exists()
    assert (tmp_path / "student.gguf").exists()
