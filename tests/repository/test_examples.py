"""Every example is run as its first lines say, and what it prints is what the docs quote."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
PRINTS = {
    "cascade_by_hand.py": "student: go to desk 1 (agreed, agreement 1.00)\n"
    "teacher: open drawer 2 (disagreed, agreement 0.67)\n"
    "teacher: open drawer 2 (invalid, agreement 0.67)\n",
    # 2 of 3: Wilson's interval of 0.667 at n = 3; 3780 of 7890 input tokens were cache reads.
    "measure_your_own_agent.py": "today: 2 of 3 succeeded, interval 0.21 to 0.94\n"
    "a success costs $0.0102; 48% of input tokens came from the cache\n",
    "own_environment.py": "",
}


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": "."}
    return subprocess.run(
        [sys.executable, *arguments], cwd=EXAMPLES, env=environment, capture_output=True, text=True, timeout=120
    )


def test_all_examples_are_known() -> None:
    assert {path.name for path in EXAMPLES.glob("*.py")} == set(PRINTS)


@pytest.mark.parametrize("name", PRINTS)
def test_an_example_runs_and_prints_what_it_promises(name: str) -> None:
    done = run(name)
    assert done.returncode == 0, done.stderr
    assert done.stdout == PRINTS[name]


def test_the_environment_of_the_example_keeps_the_contract_and_teaches(tmp_path: Path) -> None:
    """The three commands of its docstring."""
    store = str(tmp_path / "depot.db")
    checked = run("-m", "potstill", "envs", "check", "own_environment:DEPOT")
    assert checked.returncode == 0, checked.stdout
    common = ["--env", "own_environment:DEPOT", "--db", store]
    priced = ["--teacher", "expert", "--price-teacher-as", "gpt-4.1"]
    taught = run("-m", "potstill", "distill", "context", *common, "--split", "train", *priced)
    assert taught.returncode == 0, taught.stderr
    assert taught.stdout.splitlines()[1] == "teacher\t18\t18\t0"
    ran = run("-m", "potstill", "run", *common, "--split", "test", "--arm", "copy-nearest")
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.splitlines()[1].split("\t")[:2] == ["copy-nearest", "6"]
