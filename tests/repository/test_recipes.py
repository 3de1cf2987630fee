"""Recipes use options that exist: each plans its whole run without spending anything."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


def test_in_context_distillation_plans_every_arm(repository: Path, tmp_path: Path) -> None:
    pytest.importorskip("minigrid", reason="minigrid is not installed. Type: pip install 'potstill[minigrid]'")
    recipe = repository / "recipes" / "in_context_distillation.py"
    world = ["--env", "minigrid", "--split", "test", "--n", "5", "--demonstrations", "5", "--dry-run"]
    models = ["--teacher", "expert", "--price-teacher-as", "claude-sonnet-5-5", "--student", "openai:gpt-6-luna"]
    done = subprocess.run(
        [sys.executable, str(recipe), *world, *models], capture_output=True, text=True, cwd=tmp_path, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert "copy-nearest" in done.stdout
    assert not (tmp_path / "recipe.db").exists()
