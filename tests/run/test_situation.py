"""What a policy without a chat is given at each step, and that training makes the same of the recorded episode."""

from __future__ import annotations

import msgspec
import pytest

from potstill.decide import Policy, agreement_rule
from potstill.decide.policy import PolicyKind
from potstill.envs.registry import factory, open_source
from potstill.models.expert import EstimateCounter, ExpertModel
from potstill.models.scripted import ScriptedModel
from potstill.protocols import AsyncEnvironment, Model
from potstill.run.arms import Agent, Arm, Reasoning
from potstill.run.episode import EpisodeSpec, Parts, run_episode
from potstill.run.sides import Side
from potstill.trajectories.jsonl import decode_line, encode_line
from potstill.trajectories.situations import situations
from potstill.types import (
    Action,
    Answerer,
    Blob,
    Completion,
    EscalationMode,
    Observation,
    Outcome,
    Past,
    Purpose,
    Request,
    Situation,
    Step,
    Task,
    ToolCall,
    ToolResult,
    Trajectory,
    TrajectoryKind,
)

from .toy import ToyEnvironment, ToyModel, task


class Awaited:
    """A real environment without its worker process."""

    def __init__(self, name: str, **options: object) -> None:
        self.made = factory(name, **options)()

    async def reset(self, task: Task, seed: int) -> Observation:
        return self.made.reset(task, seed)

    async def step(self, action: Action) -> Observation:
        return self.made.step(action)

    async def outcome(self) -> Outcome:
        return self.made.outcome()

    async def expert_action(self) -> Action:
        action = self.made.expert_action()
        assert action is not None
        return action

    async def read_blob(self, blob: Blob) -> bytes:
        return self.made.read_blob(blob)

    async def aclose(self) -> None:
        self.made.close()


class Asked:
    """A model that keeps the requests it passes on."""

    def __init__(self, inner: Model) -> None:
        self.inner = inner
        self.name, self.capabilities = inner.name, inner.capabilities
        self.requests: list[Request] = []

    async def sample(self, request: Request, n: int = 1) -> Completion:
        self.requests.append(request)
        return await self.inner.sample(request, n)

    async def aclose(self) -> None:
        await self.inner.aclose()


async def play(
    environment: AsyncEnvironment, played: Task, policy: Policy, teacher: Asked, student: Asked | None, agent: Agent
) -> Trajectory:
    arm = Arm(name="arm", policy=policy, student_agent=agent, teacher_agent=Agent())
    spec = EpisodeSpec(trajectory_id="t", task=played, seed=1, arm=arm, max_steps=12)
    parts = Parts(
        environment=environment,
        rule=agreement_rule("exact"),
        teacher=Side(teacher, Answerer.TEACHER, Agent(), seed=1, handle=environment),
        student=None if student is None else Side(student, Answerer.STUDENT, agent, seed=1),
    )
    return await run_episode(spec, parts)


def acting(*models: Asked) -> list[Situation]:
    """The situations of all asks for an action, in the order of the episode, each once."""
    found = [r.situation for m in models for r in m.requests if r.purpose is Purpose.ACT]
    assert None not in found
    return sorted(dict.fromkeys(one for one in found if one), key=lambda one: len(one.past))


def recorded(trajectory: Trajectory) -> list[Situation]:
    return [situation for _, situation in situations(decode_line(encode_line(trajectory)))]


def expert() -> Asked:
    return Asked(ExpertModel(EstimateCounter()))


@pytest.mark.parametrize("name", ["minigrid", "house-rules"])
async def test_a_recorded_episode_gives_the_situations_that_its_teacher_was_in(name: str) -> None:
    if name == "minigrid":
        pytest.importorskip("minigrid", reason="needs: pip install 'potstill[minigrid]'")
    source = open_source(name)
    played = source.tasks(source.splits()[0])[0]
    environment, teacher = Awaited(name), expert()
    trajectory = await play(environment, played, Policy(kind=PolicyKind.TEACHER), teacher, None, Agent())
    await environment.aclose()
    assert trajectory.succeeded
    assert len(trajectory.steps) > 1
    assert [request.situation for request in teacher.requests] == recorded(trajectory)
    last = teacher.requests[-1].situation
    assert last is not None
    assert last.goal == played.goal != ""
    assert [past.action for past in last.past] == [step.action.text for step in trajectory.steps[:-1]]
    assert [past.observation for past in last.past] == [step.observation.text for step in trajectory.steps[:-1]]
    assert last.observation == trajectory.steps[-1].observation.text


async def test_both_sides_of_a_cascade_see_the_same_after_the_plan_was_written() -> None:
    student = Asked(ToyModel("student", ["first red, then blue", "open red", "open green", "open red", "open red"]))
    teacher = Asked(ToyModel("expert"))
    policy = Policy(kind=PolicyKind.CASCADE, samples=2)
    agent = Agent(plan=True, reasoning=Reasoning.SEPARATE)
    trajectory = await play(ToyEnvironment(), task(0), policy, teacher, student, agent)
    assert {step.answerer for step in trajectory.steps} >= {Answerer.TEACHER}
    assert recorded(trajectory) == acting(student, teacher)
    assert trajectory.plan == "first red, then blue"
    assert {one.plan for one in recorded(trajectory)} == {trajectory.plan}
    planned = [r.situation for r in student.requests if r.purpose is Purpose.PLAN]
    assert [one.plan for one in planned if one] == [""]
    reasoned = [r.situation for r in student.requests if r.purpose is Purpose.REASON]
    assert {one for one in reasoned if one} <= set(recorded(trajectory))


async def test_an_episode_that_began_again_has_forgotten_what_was_before() -> None:
    student = Asked(ToyModel("student", ["open blue", "open blue", "open red", "open blue"]))
    teacher = Asked(ToyModel("expert"))
    policy = Policy(kind=PolicyKind.CASCADE, samples=2, mode=EscalationMode.RESTART, patience=1)
    trajectory = await play(ToyEnvironment(), task(0), policy, teacher, student, Agent())
    assert [step.answerer for step in trajectory.steps] == [
        Answerer.STUDENT,
        Answerer.NOBODY,
        Answerer.TEACHER,
        Answerer.TEACHER,
    ]
    made = recorded(trajectory)
    assert [len(one.past) for one in made] == [0, 1, 0, 1]
    asked = [request.situation for request in student.requests] + [request.situation for request in teacher.requests]
    assert list(dict.fromkeys(asked)) == [made[0], made[1], made[3]]
    assert made[2] == made[0]


def test_tools_are_told_by_their_results_and_calls() -> None:
    call = ToolCall(id="c1", name="ls", arguments='{"path":"/"}')
    steps = (
        Step(
            index=0,
            observation=Observation(text="You are in /"),
            action=Action(tool_calls=(call, ToolCall(id="c2", name="pwd"))),
            answerer=Answerer.TEACHER,
        ),
        Step(
            index=1,
            observation=Observation(
                tool_results=(ToolResult(call_id="c1", text="a"), ToolResult(call_id="c2", text="/"))
            ),
            action=Action(text="It is a"),
            answerer=Answerer.STUDENT,
        ),
    )
    trajectory = Trajectory(
        id="t", task=Task(id="x", environment="e", goal="find"), kind=TrajectoryKind.TEACHER, steps=steps
    )
    assert recorded(trajectory)[1] == Situation(
        goal="find",
        observation="a\n/",
        past=(Past(observation="You are in /", action='ls({"path":"/"}); pwd({})'),),
    )


async def test_nothing_of_it_is_stored_with_a_call() -> None:
    """What would be written of an episode holds each text of the situation where it was, and no field for it."""
    student = Asked(ScriptedModel(lambda request, index: "open red"))
    trajectory = await play(ToyEnvironment(), task(0), Policy(kind=PolicyKind.STUDENT), expert(), student, Agent())
    assert all(request.situation is not None for request, _ in student.inner.requests)  # type: ignore[attr-defined]
    assert b"situation" not in encode_line(trajectory)
    with_it = [call for step in trajectory.steps for call in step.calls if "situation" in msgspec.to_builtins(call)]
    assert with_it == []
