"""The recipe of the published amortisation: the paper's numbers from its inputs, and cache-aware ones beside them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest


def run(repository: Path, cwd: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    recipe = repository / "recipes" / "amortisation.py"
    return subprocess.run(
        [sys.executable, str(recipe), *arguments], capture_output=True, text=True, cwd=cwd, timeout=300
    )


def rows(repository: Path, cwd: Path, *arguments: str) -> dict[tuple[str, str], dict[str, Any]]:
    done = run(repository, cwd, "--json", *arguments)
    assert done.returncode == 0, done.stderr
    return {(row["benchmark"], row["variant"].removeprefix("cache, ")): row for row in json.loads(done.stdout)}


def test_the_published_numbers_come_out_of_their_inputs(repository: Path, tmp_path: Path) -> None:
    found = rows(repository, tmp_path)
    alfworld, appworld = found["ALFWorld", "published"], found["AppWorld", "published"]
    assert (alfworld["break_even_episodes"], appworld["break_even_episodes"]) == (843, 207)
    assert alfworld["saved_usd_per_million"] == pytest.approx(34_970.5)
    # a break-even is valid where the student is as good: not on AppWorld, 0.66 against 0.83
    assert (alfworld["valid_break_even"], appworld["valid_break_even"]) == (843, None)
    assert appworld["why_not"] == "inferior"


def test_a_cached_teacher_saves_much_less(repository: Path, tmp_path: Path) -> None:
    """0.15 x $0.589 + 0.85 x $0.589 x (0.85 x 0.1 + 0.15 x 1.25) = $0.2248; 86.73 / 0.0538 = 1,613 episodes."""
    found = rows(repository, tmp_path)
    appworld, alfworld = found["AppWorld", "hits assumed"], found["ALFWorld", "hits assumed"]
    assert appworld["teacher_usd"] == pytest.approx(0.22477, abs=1e-4)
    assert appworld["ratio"] == pytest.approx(1.31, abs=0.01)
    assert appworld["break_even_episodes"] == pytest.approx(86.73 / (0.22477 - 0.171), abs=2)
    # $0.059 x 0.3816 = $0.0225 is less than the student arm's $0.024
    assert alfworld["break_even_episodes"] is None
    assert alfworld["saved_usd_per_million"] < 0
    assert 1 < found["AppWorld", "simulated"]["ratio"] < 1.5


@pytest.mark.parametrize(("share", "hits", "ratio"), [("0.85", "0.6", 2.16), ("0.95", "0.9", 0.88)])
def test_the_estimate_moves_with_its_assumptions(
    repository: Path, tmp_path: Path, share: str, hits: str, ratio: float
) -> None:
    found = rows(repository, tmp_path, "--input-share", share, "--hits", hits)
    assert found["AppWorld", "hits assumed"]["ratio"] == pytest.approx(ratio, abs=0.01)


def test_assumptions_are_printed_and_wrong_shares_refused(repository: Path, tmp_path: Path) -> None:
    done = run(repository, tmp_path)
    assert done.returncode == 0, done.stderr
    assert "never" in done.stdout
    assert "assumed: 85% of the teacher's dollars are input" in done.stderr
    wrong = run(repository, tmp_path, "--hits", "85")
    assert wrong.returncode == 2
    assert "allowed: 0 to 1" in wrong.stderr
