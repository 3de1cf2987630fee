"""Rows for an engine: the prompts that ``run`` sends, pairs behind equal ones, nothing that is held out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from data_episodes import episode, step  # noqa: E402

from potstill.distill.weights.data import build  # noqa: E402
from potstill.distill.weights.engines import rows  # noqa: E402
from potstill.distill.weights.engines.job import Budget, Method, encoded, job_of  # noqa: E402
from potstill.distill.weights.lm.chats import Chat, chats  # noqa: E402
from potstill.distill.weights.lm.recipe import LmRecipe  # noqa: E402
from potstill.errors import ConfigError  # noqa: E402
from potstill.models.lm_texts import LmTexts  # noqa: E402
from potstill.models.tuned_file import Voice  # noqa: E402
from potstill.run.arms import Agent, Reasoning  # noqa: E402
from potstill.types import Answerer, Message, Outcome, Trajectory  # noqa: E402
from tiny_lm import tiny_checkpoint  # noqa: E402

pytestmark = pytest.mark.extra
AGENT = Agent(history_turns=0, list_admissible=False)
LOST = Outcome(success=False)


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> LmTexts:
    return LmTexts(tiny_checkpoint(tmp_path_factory.mktemp("tiny")))


def pairs(texts: LmTexts, *episodes: Trajectory, agent: Agent = AGENT, **options: Any) -> list[tuple[str, str, str]]:
    given = {"learnt": lambda one: True, "held_out": (), **options}
    found = rows.preference_rows(episodes, texts, agent, "Find out.", **given)
    return [(row["prompt"][-1]["content"], row["chosen"][0]["content"], row["rejected"][0]["content"]) for row in found]


def student(id: str, *actions: str, **fields: Any) -> Trajectory:
    steps = [step(at, action, answerer=Answerer.STUDENT) for at, action in enumerate(actions)]
    return episode(id, steps, **{"task": "t", "outcome": LOST, **fields})  # type: ignore[arg-type]


def test_answers_behind_an_equal_prompt_are_pairs_wherever_they_stood(texts: LmTexts) -> None:
    """With no history the second place is the same place, however one came there; with a history it is not."""
    taught = episode("a", ["go north", "look"], task="t")
    other = student("b", "go south", "go north")
    goal = "Goal: goal of t\n\n"
    first, second = (f"{goal}place 0", "go north", "go south"), (f"{goal}place 1", "look", "go north")
    assert pairs(texts, taught, other) == [first, second]
    assert pairs(texts, taught, other, agent=Agent(list_admissible=False)) == [first]
    assert pairs(texts, taught, student("c", "go north", "look")) == []


def test_what_is_held_out_is_in_no_pair(texts: LmTexts) -> None:
    taught, other = episode("a", ["go north", "look"], task="t"), student("b", "go south", "go north")
    assert pairs(texts, taught, other, learnt=lambda one: one.task.id != "t") == []
    shown = Message(role="system", content="Find out."), Message(role="user", content="Goal: goal of t\n\nplace 0")
    secret = Chat(messages=shown, admissible=("go north", "look"), action="go north")
    ((prompt, *_),) = pairs(texts, taught, other, held_out=[secret])
    assert prompt.endswith("place 1")


def test_stored_text_opens_no_message(texts: LmTexts) -> None:
    taught = episode("a", [step(0, "look", sight="a <|im_end|> door")], task="t")
    ((prompt, _, rejected),) = pairs(
        texts, taught, episode("b", [step(0, "<|im_start|>", sight="a <|im_end|> door")], task="t", outcome=LOST)
    )
    assert "<|im_end|>" not in prompt
    assert "<|im_start|>" not in rejected


def test_an_engine_reads_the_tokens_that_the_student_is_asked_behind(texts: LmTexts) -> None:
    thinking = Agent(history_turns=0, list_admissible=False, reasoning=Reasoning.WITH_ACTION)
    taught = [episode(str(at), [step(0, "look", reasoning="It is dark."), "go north"], task=str(at)) for at in range(2)]
    split = build(taught, fractions={"train": 1.0}, equal="drop").splits["train"]
    plain = rows.sft_rows(chats(taught, split, AGENT, "Find out."), texts)
    assert plain[0]["completion"] == [{"role": "assistant", "content": "look"}]
    assert rows.check(plain, texts, 200) == len(texts.answer_ids("go north")) + 1
    longest = max(len(texts.ids_of([*row["prompt"], *row["completion"]], answer_next=False)) for row in plain)
    with pytest.raises(ConfigError, match=f"has {longest} tokens, and the model takes {longest - 1}"):
        rows.check(plain, texts, longest - 1)
    steps = [one for one in split if one.step_index == 0]
    (told, *_) = rows.sft_rows(chats(taught, steps, thinking, "Find out."), texts)
    assert told["completion"][0]["content"] == "reasoning: It is dark.\naction: look"
    assert rows.prompt_rows(chats(taught, steps, AGENT, "Find out."), texts)[0] == {"prompt": plain[0]["prompt"]}


def test_a_job_holds_every_setting_and_says_the_same_in_the_same_bytes(tmp_path: Path) -> None:
    recipe = LmRecipe(base="b", rank=4, alpha=8.0, voice=Voice(history_turns=0))
    given: dict[str, Any] = {"model": "m", "teacher": None, "data": "d", "longest_answer": 5}
    sft = job_of(Method.SFT, recipe, Budget(steps=3), {"weight_decay": 0.1}, **given)
    assert (sft.settings["max_steps"], sft.settings["learning_rate"], sft.settings["max_length"]) == (3, 2e-4, None)
    assert sft.settings["weight_decay"] == 0.1
    assert (sft.adapter["r"], sft.adapter["lora_alpha"]) == (4, 8.0)
    assert encoded(sft) == encoded(job_of(Method.SFT, recipe, Budget(steps=3), {"weight_decay": 0.1}, **given))
    distilled = job_of(Method.DISTILL, recipe, Budget(), {}, **{**given, "longest_answer": 20})
    assert distilled.settings["max_completion_length"] == 40
    with pytest.raises(ConfigError, match="Type --batch"):
        job_of(Method.SFT, recipe, Budget(), {"per_device_train_batch_size": 2}, **given)
