"""What a student cannot know is said before it costs anything: actions that nobody showed, and other environments."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from potstill.cli.main import main  # noqa: E402

pytestmark = pytest.mark.extra
torch.set_num_threads(1)


def said(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    """What a command says beside its result."""
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in words])
    told = capsys.readouterr().err
    assert not ended.value.code, told
    return " ".join(told.split())


def test_actions_and_environments_that_a_policy_never_met_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    db, student = tmp_path / "s.db", tmp_path / "student.policy"
    said(capsys, *("distill", "context", "--env", "house-rules", "--teacher", "expert", "--n", 8, "--db", db))
    words = ("--width", 8, "--steps", 2, "--threads", 1, "--held-out", 0.5, "--out", student, "--db", db)
    told = said(capsys, "distill", "weights", *words)
    found = re.search(r"(\d+) of (\d+) held-out decisions are for an action that no .* \(most often '.+'\)", told)
    assert found is not None, told
    assert 0 < int(found[1]) < int(found[2])

    acting = ("--student", f"policy:{student}", "--arm", "zero-shot", "--n", 1, "--dry-run", "--db", db)
    stranger = f"policy:{student} learnt house-rules, and acts in minigrid, of which it knows nothing."
    assert stranger in said(capsys, "run", "--env", "minigrid", *acting)
    assert "of which it knows nothing" not in said(capsys, "run", "--env", "house-rules", *acting)
