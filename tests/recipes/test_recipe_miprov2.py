"""MIPROv2 runs in a Python of its own against any address; grades, prices and the table are potstill's."""

from __future__ import annotations

import sys
from pathlib import Path

import miprov2 as recipe
import pytest
from margin_endpoint import Endpoint
from margin_models import LESSON

from framework_venv import interpreter
from potstill.errors import ConfigError, PotstillError


def options(folder: Path, python: Path | None, *more: str, url: str = "http://127.0.0.1:9/v1"):
    sizes = ["--n", "4", "--learn", "5", "--valid", "4", "--candidates", "2", "--trials", "3", "--model", "m"]
    place = ["--tasks", str(folder), "--python", str(python), "--base-url", url]
    return recipe.parsed().parse_args([*place, *sizes, *more])


@pytest.mark.full
@pytest.mark.slow
async def test_dspy_finds_what_was_missing(margins: Path) -> None:
    python = interpreter("dspy")
    if python is None:
        pytest.skip("no environment with dspy. Type: python scripts/framework_venv.py dspy")
    with Endpoint() as endpoint:
        prices = ["--price-student-as", "gpt-5-nano", "--price-teacher-as", "gpt-5-nano"]
        own, best = await recipe.compare(options(margins, python, *prices, url=endpoint.url))
        asked = endpoint.asked
    assert (own["successes"], best["successes"]) == (0, 4)
    assert LESSON in best["instructions"] or best["demos"]
    assert best["learn_calls"] == asked - 8
    assert best["learn_usd"] > own["learn_usd"] == 0
    assert (best["input_tokens"], best["output_tokens"], best["unread_answers"]) == (100, 10, 0)
    assert set(best["versions"]) == {"dspy", "litellm"}


def python_of(folder: Path) -> Path:
    """The Python of a folder that looks like an environment with dspy; it is ours."""
    (folder / "lib" / "python3.11" / "site-packages" / "dspy").mkdir(parents=True)
    (folder / "bin").mkdir()
    (folder / "bin" / "python").symlink_to(sys.executable)
    return folder / "bin" / "python"


def test_an_environment_that_runs_code_at_every_start_is_refused(tmp_path: Path) -> None:
    python = python_of(tmp_path)
    packages = tmp_path / "lib" / "python3.11" / "site-packages"
    (packages / "distutils-precedence.pth").write_text("import os; os.getpid()\n")
    (packages / "folders.pth").write_text("/somewhere\n")
    assert recipe.checked_python(python) == python
    (packages / "litellm_init.pth").write_text("import os, subprocess\n")
    with pytest.raises(ConfigError, match=r"litellm_init\.pth runs code"):
        recipe.checked_python(python)
    (packages / "litellm_init.pth").rename(packages / "sitecustomize.py")
    with pytest.raises(ConfigError, match=r"sitecustomize\.py runs code"):
        recipe.checked_python(python)


async def test_without_dspy_it_says_how_to_get_it(margins: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"python scripts/framework_venv\.py dspy"):
        await recipe.compare(options(margins, tmp_path / "bin" / "python"))


async def test_episodes_of_several_steps_are_refused(tmp_path: Path) -> None:
    pytest.importorskip("minigrid", reason="needs: pip install 'potstill[minigrid]'")
    chosen = options(tmp_path, python_of(tmp_path), "--env", "minigrid")
    chosen.tasks = None
    with pytest.raises(ConfigError, match="a program of one call"):
        await recipe.compare(chosen)


def job(margins: Path, tmp_path: Path) -> tuple[dict[str, object], recipe.Grades]:
    import _arena as arena

    from potstill.envs.registry import factory

    chosen = options(margins, None)
    world = arena.Arena.__new__(arena.Arena)
    world.options, world.about = chosen, arena.describe("finance")
    environment = factory("finance")()
    train, tests = world.tasks("train", 3), world.tasks("test", 2)
    return recipe.job_of(chosen, world, environment, train, [], tests), recipe.Grades(environment, train)


def test_the_job_holds_no_answer_to_a_test_task(margins: Path, tmp_path: Path) -> None:
    made, grades = job(margins, tmp_path)
    assert all("answer" in row for row in made["train"])
    assert all(set(row) == {"id", "question", "material"} for row in made["test"])
    first = made["train"][0]
    assert grades.score(first["id"], f"{first['answer']} %") == 1.0
    assert grades.score(first["id"], "0.1") == 0.0


async def test_a_child_that_dies_is_an_error_and_not_a_result(
    margins: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, grades = job(margins, tmp_path)
    dying = tmp_path / "child.py"
    dying.write_text("import sys\nsys.stdin.readline()\nsys.exit(3)\n")
    monkeypatch.setattr(recipe, "CHILD", dying)
    with pytest.raises(PotstillError, match="exit code 3"):
        await recipe.optimized(Path(sys.executable), made, grades)


async def test_grades_are_asked_and_answered_line_by_line(
    margins: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, grades = job(margins, tmp_path)
    child = tmp_path / "child.py"
    child.write_text(
        "import json, sys\n"
        "job = json.loads(sys.stdin.readline())\n"
        "row = job['train'][0]\n"
        "print(json.dumps({'grade': row['id'], 'answer': row['answer']}), flush=True)\n"
        "print(json.dumps({'got': json.loads(sys.stdin.readline())['score']}), flush=True)\n"
    )
    monkeypatch.setattr(recipe, "CHILD", child)
    assert await recipe.optimized(Path(sys.executable), made, grades) == {"got": 1.0}
