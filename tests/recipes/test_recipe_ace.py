"""The paper's loop end to end: episodes teach a book, the book stands in the prompt, and what it cost is in the row."""

from __future__ import annotations

from pathlib import Path

import ace as recipe
import pytest
from margin_models import LESSON, divide, teach

from potstill.distill.playbook import formats
from potstill.distill.playbook.book import Playbook
from potstill.errors import ConfigError, KeyRefused
from potstill.models.scripted import ScriptedModel
from potstill.trajectories import Store
from potstill.types import Purpose


def options(folder: Path, *more: str):
    return recipe.parsed().parse_args(["--tasks", str(folder), "--n", "6", "--learn", "4", *more])


@pytest.mark.parametrize(
    ("mode", "successes", "learnt_from"),
    [("offline", 6, 4), ("online", 3, 6), ("sample", 5, 6), ("warm-up", 6, 10)],
)
async def test_a_lesson_helps_from_when_it_was_learnt(
    margins: Path, mode: str, successes: int, learnt_from: int
) -> None:
    student, teacher = ScriptedModel(divide), ScriptedModel(teach)
    prices = ["--price-student-as", "gpt-5-nano", "--price-teacher-as", "gpt-5"]
    rows = await recipe.compare(
        options(margins, "--mode", mode, "--window", "3", *prices), student=student, teacher=teacher
    )
    alone, taught = rows
    assert (alone["successes"], taught["successes"], taught["n"]) == (0, successes, 6)
    assert (taught["bullets"], taught["learnt_from"], taught["skipped"]) == (1, learnt_from, 0)
    assert taught["applied"][0] == {"ADD": 1}
    assert taught["learn_usd"] > 0
    assert taught["text_tokens"] > 0
    learning = len(student.requests) - 12  # training episodes and replays are learning, a stream's own are not
    assert taught["learn_calls"] == len(teacher.requests) + learning
    assert learning == {"offline": 5, "warm-up": 5, "online": 3, "sample": 1}[mode]


async def test_a_failed_episode_is_played_again_unless_it_is_not_to_be(margins: Path) -> None:
    for more, played in (([], 6 + 6 + 4 + 1), (["--no-replay"], 6 + 6 + 4)):
        student = ScriptedModel(divide)
        await recipe.compare(options(margins, *more), student=student, teacher=ScriptedModel(teach))
        replays = [r for r, _ in student.requests if recipe.REFLECTION_HEADING in r.messages[0].content]
        assert len(student.requests) == played
        assert len(replays) == played - 16


async def test_the_book_that_is_best_on_other_training_tasks_stays(margins: Path) -> None:
    rows = await recipe.compare(
        options(margins, "--valid", "2", "--epochs", "2"), student=ScriptedModel(divide), teacher=ScriptedModel(teach)
    )
    assert rows[1]["validation"] == [[0.0, 1.0, 1.0]]
    assert rows[1]["learnt_from"] == 8


@pytest.mark.parametrize("told", [True, False])
async def test_labels_are_told_unless_they_are_not_to_be(margins: Path, told: bool) -> None:
    teacher = ScriptedModel(teach)
    more = [] if told else ["--no-labels"]
    await recipe.compare(options(margins, "--learn", "1", *more), student=ScriptedModel(divide), teacher=teacher)
    asked = [request for request, _ in teacher.requests if request.purpose is Purpose.REFLECT]
    assert ("# The right answer" in asked[0].messages[-1].content) is told
    assert "The task was not done." in asked[0].messages[-1].content


async def test_a_kept_book_is_not_learnt_twice_and_is_read_by_others(margins: Path, tmp_path: Path) -> None:
    kept = ["--db", str(tmp_path / "book.db"), "--save", str(tmp_path / "book.txt")]
    first = ScriptedModel(teach)
    rows = await recipe.compare(options(margins, *kept), student=ScriptedModel(divide), teacher=first)
    again = ScriptedModel(teach)
    more = await recipe.compare(options(margins, *kept), student=ScriptedModel(divide), teacher=again)
    assert again.requests == []
    assert [row["successes"] for row in more] == [row["successes"] for row in rows]
    assert [item.content for item in formats.read((tmp_path / "book-offline.txt").read_bytes()).items] == [LESSON]
    with Store.open(tmp_path / "book.db", create=False) as store:
        book = Playbook(store, "default", "ace-offline")
        assert [bullet.content for bullet in book.bullets().values()] == [LESSON]
        assert book.check() == []


async def test_a_run_that_was_stopped_goes_on(margins: Path, tmp_path: Path) -> None:
    kept = options(margins, "--db", str(tmp_path / "book.db"))
    locked = ScriptedModel(
        lambda request, index: KeyRefused("no") if len(locked.requests) > 3 else teach(request, index)
    )
    with pytest.raises(KeyRefused):
        await recipe.compare(kept, student=ScriptedModel(divide), teacher=locked)
    rows = await recipe.compare(kept, student=ScriptedModel(divide), teacher=ScriptedModel(teach))
    assert (rows[1]["successes"], rows[1]["learnt_from"], rows[1]["bullets"]) == (6, 4, 1)


async def test_an_expert_cannot_reflect(margins: Path) -> None:
    with pytest.raises(ConfigError, match="writes nothing"):
        await recipe.compare(options(margins, "--student", "expert"))


@pytest.mark.llm
@pytest.mark.slow
@pytest.mark.full
async def test_a_real_small_model_in_every_role_goes_the_whole_way(margins: Path, smollm2: Path) -> None:
    pytest.importorskip("json_repair", reason="needs: pip install 'potstill[playbook]'")
    sizes = ["--n", "2", "--learn", "1", "--rounds", "1", "--max-tokens", "12", "--text-tokens", "48"]
    rows = await recipe.compare(options(margins, "--student", f"local:{smollm2}", *sizes))
    assert [row["n"] for row in rows] == [2, 2]
    assert rows[1]["learnt_from"] <= 1  # an episode counts only where its roles said something usable
    assert rows[1]["learn_calls"] >= 2  # it was played and reflected on, whatever came of that
