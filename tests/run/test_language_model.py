"""Plan, reason, act with a real language model in both roles: all that it writes is recorded."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from potstill.decide import Policy, agreement_rule
from potstill.decide.policy import PolicyKind
from potstill.distill.context.config import ContextConfig
from potstill.distill.context.library import build_library
from potstill.protocols import ContextQuery, Model
from potstill.run.arms import Agent, Arm, Reasoning
from potstill.run.episode import EpisodeSpec, Parts, run_episode
from potstill.run.prompt import first_step
from potstill.run.sides import Side
from potstill.types import Answerer, Outcome, Purpose, Trajectory, TrajectoryKind

from .toy import ToyEnvironment, ToyModel, task

pytestmark = [pytest.mark.llm, pytest.mark.slow]

INSTRUCTIONS = "You open doors in the right order. Answer with one action, such as: open red."


@pytest.fixture(scope="module")
def model(smollm2: Path) -> Iterator[Model]:
    from potstill.models.local import open_local

    opened = open_local("smollm2-135m", context_tokens=2048)
    yield opened
    asyncio.run(opened.aclose())


async def play(
    kind: PolicyKind,
    reasoning: Reasoning,
    model: Model,
    steps: int = 2,
    *,
    plan: bool = True,
    first_thought: bool = False,
) -> Trajectory:
    agent = Agent(plan=plan, reasoning=reasoning, first_thought=first_thought, reasoning_tokens=24, max_tokens=16)
    arm = Arm(name="lm", policy=Policy(kind=kind, samples=2), student_agent=agent, teacher_agent=agent)
    spec = EpisodeSpec(
        trajectory_id="t",
        task=task(0),
        seed=1,
        arm=arm,
        max_steps=steps,
        instructions=INSTRUCTIONS,
        namespace="default",
    )
    environment = ToyEnvironment()
    teacher = Side(ToyModel("expert"), Answerer.TEACHER, Agent(), seed=1, handle=environment)
    if kind is PolicyKind.TEACHER:
        teacher = Side(model, Answerer.TEACHER, agent, seed=1)
    student = Side(model, Answerer.STUDENT, agent, seed=1) if kind is not PolicyKind.TEACHER else None
    return await run_episode(
        spec, Parts(environment=environment, rule=agreement_rule("exact"), teacher=teacher, student=student)
    )


async def test_a_teacher_plans_once_reasons_and_acts_and_all_three_can_be_retrieved_by(model: Model) -> None:
    trajectory = await play(PolicyKind.TEACHER, Reasoning.SEPARATE, model)
    assert trajectory.error is None
    assert trajectory.plan
    purposes = [[call.purpose for call in step.calls] for step in trajectory.steps]
    assert purposes == [[Purpose.PLAN, Purpose.REASON, Purpose.ACT], [Purpose.REASON, Purpose.ACT]]
    assert all(step.reasoning for step in trajectory.steps)
    assert all(step.action.text in (step.observation.admissible or ()) for step in trajectory.steps)
    assert f"Plan:\n{trajectory.plan}" in trajectory.steps[0].calls[-1].prompt[1].content
    assert trajectory.steps[0].reasoning in trajectory.steps[0].calls[-1].prompt[-1].content

    taught = msgspec.structs.replace(trajectory, kind=TrajectoryKind.TEACHER, outcome=Outcome(success=True))
    library = build_library([taught], ContextConfig())
    query = ContextQuery(task=task(9), goal="", plan=trajectory.plan, reasoning=trajectory.steps[1].reasoning)
    (found,) = library.retrieve(query, 1, 0)
    assert found.ref.trajectory_id == trajectory.id


async def test_only_the_action_is_sampled_twice_and_the_reasoning_is_shared(model: Model) -> None:
    trajectory = await play(PolicyKind.CASCADE, Reasoning.SEPARATE, model, steps=1)
    (step,) = trajectory.steps
    by_purpose = {call.purpose: len(call.replies) for call in step.calls if call.answerer is Answerer.STUDENT}
    assert by_purpose == {Purpose.PLAN: 1, Purpose.REASON: 1, Purpose.ACT: 2}
    assert len(step.decision.votes) == 2


async def test_reasoning_and_action_in_one_answer_that_is_not_parseable_escalates(model: Model) -> None:
    trajectory = await play(PolicyKind.CASCADE, Reasoning.WITH_ACTION, model, steps=1)
    (step,) = trajectory.steps
    valid = [vote.key for vote in step.decision.votes if vote.key is not None]
    assert all(key in (step.observation.admissible or ()) for key in valid)
    assert step.answerer is Answerer.TEACHER or len(set(valid)) == 1


async def test_the_first_reasoning_goes_on_from_the_first_thought(model: Model) -> None:
    trajectory = await play(PolicyKind.TEACHER, Reasoning.WITH_ACTION, model, first_thought=True)
    first, second = trajectory.steps
    thought, acted = first.calls[-2:]
    assert [call.purpose for call in first.calls] == [Purpose.PLAN, Purpose.REASON, Purpose.ACT]
    assert [call.purpose for call in second.calls] == [Purpose.ACT], "once an episode"
    assert INSTRUCTIONS not in thought.prompt[0].content
    assert (opening := first_step(thought.replies[0].text))
    assert first.reasoning.startswith(opening)
    assert acted.prompt[-1].content.endswith("where the action is one that is admissible."), "the answer was begun"


async def test_a_model_whose_answers_cannot_be_begun_is_told_the_first_thought() -> None:
    said = ["1. Red is first. Then green.", "reasoning: Red is first, so.\naction: open red", "action: open green"]
    teacher = ToyModel("endpoint", said)
    trajectory = await play(PolicyKind.TEACHER, Reasoning.WITH_ACTION, teacher, first_thought=True, plan=False)
    thinking, first, second = teacher.requests
    (question,) = thinking.messages
    assert question.content.startswith(f"Goal: {task(0).goal}\n\nYou stand before three doors.\n\nThink step by step")
    assert first.begun == ""
    assert first.messages[-1].content.endswith(
        "Begin your reasoning with these words and go on from them: Red is first."
    )
    assert "Begin" not in second.messages[-1].content
    assert [step.reasoning for step in trajectory.steps] == ["Red is first, so.", ""]


async def test_where_nothing_was_thought_the_answer_is_not_begun() -> None:
    teacher = ToyModel("endpoint", ["Steps:\n\n", "reasoning: red\naction: open red", "action: open green"])
    await play(PolicyKind.TEACHER, Reasoning.WITH_ACTION, teacher, first_thought=True, plan=False)
    assert teacher.requests[1].messages[-1].content.endswith("where the action is one that is admissible.")
