"""Plain examples come from the teacher's successes, fit their budget, and stand before every task alike."""

from __future__ import annotations

from pathlib import Path

import in_context_examples as recipe
import pytest
from margin_models import divide

from potstill.models.expert import EstimateCounter, ExpertModel
from potstill.models.scripted import ScriptedModel


def options(folder: Path, *more: str):
    return recipe.parsed().parse_args(["--tasks", str(folder), "--n", "5", "--learn", "6", *more])


def expert() -> ExpertModel:
    return ExpertModel(EstimateCounter(), priced_as="gpt-5")


async def test_the_students_prompt_holds_the_teachers_answers(margins: Path) -> None:
    student = ScriptedModel(divide)
    rows = await recipe.compare(options(margins, "--price-student-as", "gpt-5-nano"), student=student, teacher=expert())
    alone, shown = rows
    assert (alone["successes"], shown["successes"]) == (0, 5)
    assert (shown["examples"], shown["taught"], shown["learn_calls"]) == (6, 6, 6)
    assert 0 < alone["episode_usd"] < shown["episode_usd"]
    assert shown["learn_usd"] > 0
    systems = {request.messages[0].content for request, _ in student.requests[5:]}
    assert len(systems) == 1  # the same text before every task: a prefix that caches keep
    assert "Example 6" in systems.pop()


async def test_the_budget_holds_and_failures_are_no_examples(margins: Path) -> None:
    teacher = ScriptedModel(lambda request, index: divide(request, index))  # never in percent: never right
    rows = await recipe.compare(options(margins), student=ScriptedModel(divide), teacher=teacher)
    assert (rows[1]["examples"], rows[1]["text_tokens"], rows[1]["successes"]) == (0, 0, 0)
    rows = await recipe.compare(options(margins, "--budget", "150"), student=ScriptedModel(divide), teacher=expert())
    assert 0 < rows[1]["examples"] < 6
    assert rows[1]["text_tokens"] <= 150


@pytest.mark.llm
@pytest.mark.slow
async def test_a_real_small_model_goes_the_whole_way(margins: Path, smollm2: Path) -> None:
    rows = await recipe.compare(
        options(margins, "--student", f"local:{smollm2}", "--n", "2", "--learn", "2", "--max-tokens", "12"),
        teacher=expert(),
    )
    assert [row["n"] for row in rows] == [2, 2]
    assert all(row["errors"] == 0 for row in rows)
    assert rows[1]["input_tokens"] > rows[0]["input_tokens"] > 0
