"""Every example is run as its first lines say, and what it prints is what the docs quote."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from potstill.trajectories.jsonl import Line

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
PRINTS = {
    "cascade_by_hand.py": "student: go to desk 1 (agreed, agreement 1.00)\n"
    "teacher: open drawer 2 (disagreed, agreement 0.67)\n"
    "teacher: open drawer 2 (invalid, agreement 0.67)\n",
    # 2 of 3: Wilson's interval of 0.667 at n = 3; 3780 of 7890 input tokens were cache reads.
    "measure_your_own_agent.py": "today: 2 of 3 succeeded, interval 0.21 to 0.94\n"
    "a success costs $0.0102; 48% of input tokens came from the cache\n"
    "3 episodes written to episodes.jsonl\n",
    "own_environment.py": "",
    "own_model.py": "",
}


def run(*arguments: str, cwd: Path = EXAMPLES) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(EXAMPLES)}
    return subprocess.run(
        [sys.executable, *arguments], cwd=cwd, env=environment, capture_output=True, text=True, timeout=120
    )


def test_all_examples_are_known() -> None:
    assert {path.name for path in EXAMPLES.glob("*.py")} == set(PRINTS)


@pytest.mark.parametrize("name", PRINTS)
def test_an_example_runs_and_prints_what_it_promises(name: str, tmp_path: Path) -> None:
    done = run(str(EXAMPLES / name), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout == PRINTS[name]


def quoted(page: str, language: str, holding: str) -> str:
    """The one fenced block of a page that holds a text."""
    text = (EXAMPLES.parent / "docs" / page).read_text(encoding="utf-8")
    (block,) = [block for block in re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL) if holding in block]
    return str(block)


def test_the_guide_to_an_agent_of_ones_own_is_followed_to_its_end(tmp_path: Path) -> None:
    """The program writes the file that the quoted commands import and measure."""
    said = run(str(EXAMPLES / "measure_your_own_agent.py"), cwd=tmp_path).stdout
    assert said == quoted("guides/own-agent.md", "text", "succeeded")
    for line in quoted("guides/own-agent.md", "bash", "import").strip().splitlines():
        done = run("-m", *shlex.split(line), cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[1].startswith("today\t3\t")
    assert "today" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_the_guide_to_a_model_of_ones_own_is_followed_to_its_end(tmp_path: Path) -> None:
    commands = quoted("guides/own-model.md", "bash", "models check").replace("\\\n", " ").strip().splitlines()
    assert len(commands) == 2
    done = [run("-m", *shlex.split(line.removeprefix("PYTHONPATH=. ")), cwd=tmp_path) for line in commands]
    assert [one.returncode for one in done] == [0, 0], done[-1].stderr
    assert "admissible actions\tok" in done[0].stdout
    assert done[1].stdout.splitlines()[1].split("\t")[:2] == ["zero-shot", "6"]


def test_the_line_of_the_format_is_imported_and_measured(tmp_path: Path) -> None:
    """The one that the page of the format quotes; with what follows it, it covers every field of a line."""
    assert '--8<-- "episode.jsonl"' in quoted("reference/trajectories.md", "json", "episode.jsonl")
    done = run(
        "-m", "potstill", "trajectories", "import", str(EXAMPLES / "episode.jsonl"), "--db", "x.db", cwd=tmp_path
    )
    assert done.stdout == "added\tunchanged\tbad_lines\n1\t0\t0\n", done.stderr
    measured = json.loads(run("-m", "potstill", "measure", "--db", "x.db", "--json", cwd=tmp_path).stdout)
    assert (measured["arms"][0]["successes"], measured["arms"][0]["tokens"]["cache_read"]) == (1, 1000)
    page = (EXAMPLES.parent / "docs" / "reference" / "trajectories.md").read_text(encoding="utf-8")
    assert [field for field in Line.__struct_fields__ if f"`{field}`" not in page] == []


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
