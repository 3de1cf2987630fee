"""The guide to weights is followed to its end: each of its commands, in its order, on a store of its own."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("minigrid")
pytest.importorskip("onnx")
pytestmark = pytest.mark.extra
GUIDE = Path(__file__).resolve().parents[2] / "docs" / "guides" / "weights.md"
QUESTION = {"goal": "go to the red ball", "admissible": ["turn left", "go forward"]}


def test_every_command_of_the_guide_does_what_it_is_quoted_for(tmp_path: Path) -> None:
    (tmp_path / "situations.jsonl").write_text(json.dumps(QUESTION) + "\n")
    blocks = re.findall(r"^```bash\n(.*?)^```", GUIDE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    quoted = [line for block in blocks for line in block.splitlines() if line.startswith("potstill ")]
    assert len(quoted) == 11
    printed = []
    for line in quoted:
        words, _, asked = line.partition(" < ")
        done = subprocess.run(
            [sys.executable, "-m", "potstill", *shlex.split(words)[1:]],
            cwd=tmp_path,
            input=(tmp_path / asked).read_text() if asked else "",
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, f"{line}: {done.stderr}"
        printed.append(done.stdout)
        if asked:
            assert json.loads(printed[-1])["action"] in QUESTION["admissible"]
    assert (tmp_path / "runtime" / "edge" / "ranker.py").exists()
