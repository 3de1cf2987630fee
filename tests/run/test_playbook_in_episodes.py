"""Episodes that are given a playbook: what stands in the student's prompt, and what is recorded of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from potstill.decide import Policy
from potstill.distill.playbook import operations as ops
from potstill.distill.playbook.book import Playbook
from potstill.distill.playbook.budget import Budget
from potstill.distill.playbook.context import Both, PlaybookConfig, PlaybookContext
from potstill.distill.playbook.holdout import draw
from potstill.distill.playbook.operations import Batch, Stage
from potstill.errors import StoreError
from potstill.protocols import Context, ContextBlock, ContextQuery
from potstill.run.arms import Agent, Reasoning, build_arms
from potstill.run.prompt import DEMONSTRATIONS_HEADING, PLAYBOOK_HEADING
from potstill.run.recorder import StoreRecorder
from potstill.run.runner import Resources, RunConfig, run_episodes
from potstill.trajectories import Store
from potstill.types import DemonstrationRef, PlaybookUse, Trajectory

from .toy import ToyModel, lease, task

TASKS = [task(i) for i in range(3)]
RIGHT = ["open red", "open green", "open green", "open blue", "open blue", "open red"]
EVERYBODY = PlaybookConfig(holdout_share=0.0)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "s.db") as opened:
        yield opened


@pytest.fixture
def book(store: Store) -> Playbook:
    return Playbook(store, "default", "support")


def teach(book: Playbook, *contents: str) -> None:
    adds = tuple(ops.Add(section="others", content=content, stage=Stage.LIVE) for content in contents)
    book.apply(Batch(operations=adds, actor="ana"))


async def play(
    store: Store, student: ToyModel, context: Context, arm: str = "zero-shot", agent: Agent | None = None, **more: Any
) -> list[Trajectory]:
    arms = build_arms([arm], Policy(), agent or Agent(), Agent())
    run = RunConfig(run_id="r", environment="toy", split="test", max_steps=4, arms=(*arms,), n=len(TASKS), **more)
    resources = Resources(
        recorder=StoreRecorder(store, "default"),
        lease=lease,  # type: ignore[arg-type]
        teacher=ToyModel("expert"),
        student=student,
        context=lambda arm, seed: context,
    )
    await run_episodes(run, TASKS, resources)
    return list(store.select(run_id="r"))


def systems(student: ToyModel) -> set[str]:
    return {request.messages[0].content for request in student.requests}


async def test_the_page_stands_in_every_prompt_and_each_episode_says_which_bullets_it_held(
    store: Store, book: Playbook
) -> None:
    teach(book, "The red door first.", "Doors open once.")
    student = ToyModel("s", RIGHT)
    context = PlaybookContext.of(book, EVERYBODY)
    played = await play(store, student, context)
    page = "## OTHERS\n[b-1] The red door first.\n[b-2] Doors open once."
    assert systems(student) == {f"{PLAYBOOK_HEADING}\n\n{page}"}
    use = PlaybookUse(name="support", revision=1, shown=("b-1", "b-2"))
    assert [one.playbook for one in played] == [use] * 3
    assert all(step.bullets == () and step.demonstrations == () for one in played for step in one.steps)
    rows = list(store.playbook_uses("default", "support"))
    assert [(row.trajectory_id, row.use, row.outcome) for row in rows] == [(t.id, use, t.outcome) for t in played]
    assert [row.calls for row in rows] == [2, 2, 2]
    assert {id: (one.shown, one.succeeded) for id, one in context.exposures.items()} == {"b-1": (3, 3), "b-2": (3, 3)}


async def test_trials_are_recorded_as_they_were_drawn_and_a_resumed_run_draws_the_same(
    store: Store, book: Playbook
) -> None:
    teach(book, *(f"Lesson {number}." for number in range(5)))
    student = ToyModel("s", RIGHT)
    played = await play(store, student, PlaybookContext.of(book, PlaybookConfig(holdout_share=0.5)), seeds=8)
    assert len({one.playbook.trial for one in played if one.playbook}) == 2
    for one in played:
        assert one.playbook is not None
        asked = ContextQuery(task=one.task, goal=one.goal, episode=one.id)
        lots = draw(asked, [f"b-{number}" for number in range(1, 6)], share=0.5)
        assert (one.playbook.trial, frozenset(one.playbook.withheld)) == lots
        prompt = one.steps[0].calls[0].prompt[0].content
        assert [id for id in one.playbook.shown if f"[{id}]" in prompt] == list(one.playbook.shown)
        assert not [id for id in one.playbook.withheld if f"[{id}]" in prompt]
    assert len({frozenset(one.playbook.withheld) for one in played if one.playbook and one.playbook.trial}) > 3


async def test_bullets_of_a_step_are_recorded_with_the_step_and_once_with_the_episode(
    store: Store, book: Playbook
) -> None:
    teach(book, "The red door opens first.", "A green door.", "Nothing of it.")
    config = PlaybookConfig(holdout_share=0.0, top_k=1, budget=Budget(tokens=0))
    student = ToyModel("s", ["open red", "open red", "open green"])
    (first, *_) = await play(store, student, PlaybookContext.of(book, config))
    assert [step.bullets for step in first.steps] == [("b-2",), ("b-1",), ("b-2",)], "the nearest to what is seen"
    assert first.playbook == PlaybookUse(name="support", revision=1, shown=("b-2", "b-1"))
    assert PLAYBOOK_HEADING in student.requests[0].messages[0].content


async def test_what_the_student_names_in_its_own_words_is_cited(store: Store, book: Playbook) -> None:
    teach(book, "The red door first.", "Doors open once.", "See [b-1].")
    said = ["reasoning: [b-2] says so, b-9 too.\naction: open red", "reasoning: done\naction: open green"]
    agent = Agent(reasoning=Reasoning.WITH_ACTION)
    student = ToyModel("s", said)
    (first, *_) = await play(store, student, PlaybookContext.of(book, EVERYBODY), agent=agent)
    assert first.playbook is not None
    assert first.playbook.cited == ("b-2",)
    assert "name the ids of what you use, such as [b-1]:\n\n## OTHERS" in student.requests[0].messages[0].content


async def test_the_teacher_sees_no_playbook_and_its_words_cite_nothing(store: Store, book: Playbook) -> None:
    teach(book, "The red door first.")
    student, teacher = (
        ToyModel("s", ["open red", "open green", "open blue"]),
        ToyModel("t", ["open red because of b-1"]),
    )
    arms = build_arms(["cascade"], Policy(samples=3), Agent(), Agent())
    run = RunConfig(run_id="r", environment="toy", split="test", max_steps=2, arms=(*arms,), n=1)
    recorder = StoreRecorder(store, "default")
    context = PlaybookContext.of(book, EVERYBODY)
    resources = Resources(
        recorder=recorder,
        lease=lease,  # type: ignore[arg-type]
        teacher=teacher,
        student=student,
        context=lambda arm, seed: context,
    )
    await run_episodes(run, TASKS[:1], resources)
    (played,) = store.select(run_id="r")
    assert teacher.requests
    assert not any("b-1" in message.content for request in teacher.requests for message in request.messages[:1])
    assert played.playbook == PlaybookUse(name="support", revision=1, shown=("b-1",))


class Demonstrations:
    """One for the task, another one for each step."""

    name = "demonstrations"

    def __init__(self) -> None:
        self.told: list[int] = []

    async def for_task(self, query: ContextQuery) -> ContextBlock:
        return ContextBlock(text="Example 1", demonstrations=(DemonstrationRef(trajectory_id="x", start=0, stop=2),))

    async def for_step(self, query: ContextQuery) -> ContextBlock:
        return ContextBlock(text="Example 2", demonstrations=(DemonstrationRef(trajectory_id="y", start=0, stop=1),))

    async def observe(self, shown: Any, success: bool) -> None:
        self.told.append(len(shown))


async def test_a_playbook_and_demonstrations_stand_behind_their_own_headings(store: Store, book: Playbook) -> None:
    teach(book, "The red door first.")
    student, demonstrations = ToyModel("s", RIGHT), Demonstrations()
    played = await play(store, student, Both(PlaybookContext.of(book, EVERYBODY), demonstrations))
    (text,) = systems(student)
    assert text == (
        f"{PLAYBOOK_HEADING}\n\n## OTHERS\n[b-1] The red door first.\n\n"
        f"{DEMONSTRATIONS_HEADING}\n\nExample 1\n\n{DEMONSTRATIONS_HEADING}\n\nExample 2"
    )
    assert [len(one.steps[0].demonstrations) for one in played] == [2, 2, 2]
    assert [one.playbook.shown for one in played if one.playbook] == [("b-1",)] * 3
    assert demonstrations.told == [2, 2, 2]


async def test_what_is_quarantined_is_gone_from_the_next_episode_on(store: Store, book: Playbook) -> None:
    teach(book, "The red door first.", "Kick the door.")

    class Watching(ToyModel):
        async def sample(self, request: Any, n: int = 1) -> Any:
            if len(self.requests) == 0:
                book.apply(Batch(operations=(ops.Quarantine(id="b-2", reason="it does harm"),), actor="ana"))
            return await super().sample(request, n)

    student = Watching("s", RIGHT)
    played = await play(store, student, PlaybookContext.of(book, EVERYBODY))
    assert [(one.playbook.revision, one.playbook.shown) for one in played if one.playbook] == [
        (1, ("b-1", "b-2")),
        (2, ("b-1",)),
        (2, ("b-1",)),
    ]
    assert ["Kick" in request.messages[0].content for request in student.requests] == [True] * 2 + [False] * 4


async def test_an_episode_without_a_playbook_has_none(store: Store) -> None:
    played = await play(store, ToyModel("s", RIGHT), Demonstrations())
    assert [one.playbook for one in played] == [None] * 3
    assert list(store.playbook_uses("default", "support")) == []


async def test_a_book_that_cannot_be_read_is_the_teachers_turn_where_there_is_one(store: Store, book: Playbook) -> None:
    class Broken(Playbook):
        @property
        def revision(self) -> int:
            raise StoreError("the disk is gone")

        def since(self, revision: int) -> Any:
            raise StoreError("the disk is gone")

    context = PlaybookContext(Broken(store, "default", "support"), EVERYBODY)
    played = await play(store, ToyModel("s", RIGHT), context, arm="cascade")
    assert [one.playbook for one in played] == [None] * 3
    with pytest.raises(StoreError, match="the disk is gone"):
        await context.for_task(ContextQuery(task=TASKS[0], goal=""))


async def test_in_a_real_environment_the_expert_as_student_is_recorded_with_its_bullets(store: Store) -> None:
    pytest.importorskip("minigrid", reason="minigrid is not installed. Type: pip install 'potstill[minigrid]'")
    from potstill.envs.registry import factory, open_source
    from potstill.envs.worker import WorkerPool
    from potstill.models.expert import EstimateCounter, ExpertModel

    book = Playbook(store, "acme", "doors")
    teach(book, "Look for the key before the door.")
    tasks = open_source("minigrid", level="PutNextLocal").tasks("test")[:2]
    arms = build_arms(["zero-shot"], Policy(), Agent(), Agent())
    run = RunConfig(
        run_id="r", environment="minigrid", split="test", max_steps=30, arms=(*arms,), n=2, namespace="acme"
    )
    context = PlaybookContext.of(book, EVERYBODY)
    async with WorkerPool(factory("minigrid", level="PutNextLocal"), 1) as pool:
        resources = Resources(
            recorder=StoreRecorder(store, "acme"),
            lease=pool.lease,
            student=ExpertModel(EstimateCounter(), priced_as=None),
            context=lambda arm, seed: context,
        )
        await run_episodes(run, tasks, resources)
    rows = list(store.playbook_uses("acme", "doors"))
    assert [row.use for row in rows] == [PlaybookUse(name="doors", revision=1, shown=("b-1",))] * 2
    assert all(row.outcome is not None and row.outcome.success for row in rows)
    played = store.get(rows[0].trajectory_id, namespace="acme")
    assert "[b-1] Look for the key" in played.steps[0].calls[0].prompt[0].content
    assert rows[0].calls == len(played.steps)
