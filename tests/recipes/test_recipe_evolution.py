"""Reflective prompt evolution through the package gepa: rollouts and reflections are potstill's, and all are billed."""

from __future__ import annotations

import asyncio
import importlib.util
import sys
from pathlib import Path

import pytest
import reflective_evolution as recipe
from margin_models import LESSON, divide, reflect

from framework_venv import interpreter
from potstill.errors import ConfigError, ModelUnavailable
from potstill.models.scripted import ScriptedModel
from potstill.types import Request


def options(folder: Path, *more: str):
    sizes = ["--n", "6", "--learn", "4", "--valid", "4", "--rollouts", "24"]
    return recipe.parsed().parse_args(["--tasks", str(folder), *sizes, *more])


@pytest.fixture
def gepa(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """The package, installed or out of DSPy's environment, which has it; alone, for it needs nothing beside it."""
    if importlib.util.find_spec("gepa") is not None:
        return
    python = interpreter("dspy")
    found = sorted(python.parent.parent.glob("lib/python3*/site-packages/gepa")) if python is not None else []
    if not found:
        pytest.skip(f"gepa is not installed. Type: {recipe.INSTALL}, or: python scripts/framework_venv.py dspy")
    folder = tmp_path_factory.mktemp("packages")
    (folder / "gepa").symlink_to(found[0])
    monkeypatch.syspath_prepend(folder)


@pytest.mark.usefixtures("gepa")
async def test_instructions_evolve_until_they_say_what_was_missing(margins: Path, capsys) -> None:
    student, teacher = ScriptedModel(divide), ScriptedModel(reflect)
    seeded, evolved = await recipe.compare(options(margins), student=student, teacher=teacher)
    assert (seeded["successes"], evolved["successes"]) == (0, 6)
    assert LESSON in evolved["instructions"]
    assert evolved["valid_scores"][0] == 0.0
    assert max(evolved["valid_scores"]) == 1.0
    assert evolved["rollouts"] >= 4 + 3 + 3 + 4  # the seed on valid, both on a batch, the winner on valid
    assert evolved["learn_calls"] == evolved["rollouts"] + evolved["reflections"]
    assert len(student.requests) == evolved["rollouts"] + 12
    assert capsys.readouterr().out == ""


@pytest.mark.usefixtures("gepa")
@pytest.mark.parametrize("told", [True, False])
async def test_labels_are_told_only_where_asked(margins: Path, told: bool) -> None:
    teacher = ScriptedModel(reflect)
    more = ["--labels"] if told else []
    await recipe.compare(options(margins, *more), student=ScriptedModel(divide), teacher=teacher)
    prompt = teacher.requests[0][0].messages[0].content
    assert ("The right answer: " in prompt) is told
    assert "It failed. wrong" in prompt


@pytest.mark.usefixtures("gepa")
async def test_a_teacher_that_never_answers_ends_the_search(margins: Path) -> None:
    teacher = ScriptedModel(lambda request, index: ModelUnavailable("away"))
    with pytest.raises(ModelUnavailable, match="away"):
        await recipe.compare(options(margins), student=ScriptedModel(divide), teacher=teacher)


@pytest.mark.usefixtures("gepa")
async def test_a_teacher_that_misses_once_is_asked_again(margins: Path) -> None:
    def moody(request: Request, index: int) -> str | BaseException:
        return ModelUnavailable("away") if len(teacher.requests) == 2 else reflect(request, index).replace(LESSON, "")

    teacher = ScriptedModel(moody)
    _, evolved = await recipe.compare(options(margins), student=ScriptedModel(divide), teacher=teacher)
    assert evolved["reflections"] > 2
    assert evolved["instructions"]


@pytest.mark.usefixtures("gepa")
async def test_a_search_that_is_cancelled_plays_no_more(margins: Path) -> None:
    begun = asyncio.Event()

    def slow(request: Request, index: int) -> str:
        if len(student.requests) == 3:
            begun.set()
        return divide(request, index)

    student = ScriptedModel(slow, delay_s=0.01)
    search = asyncio.create_task(recipe.compare(options(margins), student=student, teacher=ScriptedModel(reflect)))
    await begun.wait()
    search.cancel()
    with pytest.raises(asyncio.CancelledError):
        await search
    await asyncio.get_running_loop().shutdown_default_executor()
    assert len(student.requests) <= 4  # the one in play


async def test_without_the_package_it_says_what_to_type(margins: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gepa", None)
    with pytest.raises(ConfigError, match=r"pip install 'gepa>=0\.1\.4,<0\.2'"):
        await recipe.compare(options(margins), student=ScriptedModel(divide))
