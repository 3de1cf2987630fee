"""Runs: arms on the same tasks, resumable without repeating or losing, broken episodes kept as data."""

import asyncio
import time

import pytest

from potstill.decide import Policy
from potstill.errors import (
    BadResponse,
    BudgetReached,
    ConfigError,
    ContextOverflow,
    KeyRefused,
    ModelError,
    ModelUnavailable,
    UnknownPrice,
)
from potstill.run.arms import Agent, Arm, build_arms
from potstill.run.runner import Resources, RunConfig, choose_tasks, plan_episodes, run_episodes
from potstill.types import Answerer, Call, EscalationMode, Reason, Trajectory, TrajectoryKind, Usage

from .toy import Memory, ToyEnvironment, ToyModel, lease, task

TASKS = [task(i) for i in range(4)]


def arms(*names: str, **policy: object) -> tuple[Arm, ...]:
    return tuple(build_arms(list(names), Policy(**policy), Agent(), Agent()))  # type: ignore[arg-type]


def config(*names: str, **options: object) -> RunConfig:
    policy = {key: options.pop(key) for key in list(options) if key in ("mode", "samples", "patience", "keep_steps")}
    defaults: dict = {"run_id": "r", "environment": "toy", "split": "test", "n": 4, "max_steps": 6}
    return RunConfig(arms=arms(*names, **policy), **{**defaults, **options})


def resources(memory: Memory, student: ToyModel, **options: object) -> Resources:
    return Resources(recorder=memory, lease=lease, teacher=ToyModel("expert"), student=student, **options)  # type: ignore[arg-type]


async def test_arms_play_the_same_tasks_and_the_mirror_comes_last() -> None:
    memory = Memory()
    student = ToyModel("student", ["open red", "open red", "open blue"])
    run = config("random-mix", "zero-shot", "cascade", "teacher", seeds=2)
    assert await run_episodes(run, TASKS, resources(memory, student), jobs=2) == 4 * 2 * 4
    by_arm: dict[str, set] = {}
    for trajectory in memory.kept.values():
        by_arm.setdefault(trajectory.arm, set()).add((trajectory.task.id, trajectory.seed))
    assert len(by_arm) == 4
    assert len({frozenset(pairs) for pairs in by_arm.values()}) == 1
    mixed = [t for t in memory.kept.values() if t.arm == "random-mix"]
    assert {s.decision.reason for t in mixed for s in t.steps} <= {Reason.RANDOM_ESCALATION, Reason.RANDOM_STUDENT}
    teacher = [t for t in memory.kept.values() if t.arm == "teacher"]
    assert all(t.succeeded and t.kind is TrajectoryKind.TEACHER and len(t.steps) == 2 for t in teacher)


async def test_interrupted_run_resumes_without_repeating_or_losing() -> None:
    class Slow(Memory):
        def append(self, trajectory: Trajectory) -> None:
            time.sleep(0.02)
            super().append(trajectory)

    memory, run = Slow(), config("zero-shot", "cascade", seeds=2)
    seen = 0

    def stop_after_five(event: object) -> None:
        nonlocal seen
        seen += 1
        if seen == 5:
            main.cancel()

    main = asyncio.ensure_future(
        run_episodes(run, TASKS, resources(memory, ToyModel("s", ["open red"], 0.001)), jobs=2, on_done=stop_after_five)
    )
    with pytest.raises(asyncio.CancelledError):
        await main
    kept = set(memory.kept)
    assert 5 <= len(kept) < 16
    played = await run_episodes(run, TASKS, resources(memory, ToyModel("s", ["open red"])))
    assert played == 16 - len(kept)
    assert set(memory.kept) == {episode.trajectory_id for episode in plan_episodes(run, TASKS)}


async def test_budget_stops_new_episodes_and_keeps_what_is_recorded() -> None:
    memory, run = Memory(), config("zero-shot")
    priced = resources(memory, ToyModel("s", ["open red"]), price=lambda trajectory: 0.4)
    with pytest.raises(BudgetReached, match="3 of 4 episodes are recorded"):
        await run_episodes(run, TASKS, priced, max_cost_usd=1.0)
    assert len(memory.kept) == 3
    assert await run_episodes(run, TASKS, priced, max_cost_usd=1.0) == 1


async def test_crashed_game_is_a_failed_episode_not_a_failed_run() -> None:
    memory, tasks = Memory(), [task(0, crash=True), task(1)]
    await run_episodes(config("teacher", n=2), tasks, resources(memory, ToyModel("s", ["x"])))
    crashed, fine = memory.kept.values()
    assert crashed.error is not None
    assert (crashed.error.kind, crashed.outcome, len(crashed.steps)) == ("EnvCrashed", None, 1)
    assert fine.succeeded


async def test_failing_student_escalates_and_the_step_says_why() -> None:
    class Broken(ToyModel):
        async def sample(self, request, n=1):
            raise ModelError("no answer within 30 s")

    memory = Memory()
    await run_episodes(config("cascade", "zero-shot", n=1), TASKS[:1], resources(memory, Broken("s")))
    cascade, alone = sorted(memory.kept.values(), key=lambda t: t.arm)
    assert cascade.succeeded
    assert {step.decision.reason for step in cascade.steps} == {Reason.STUDENT_FAILED}
    assert cascade.steps[0].error is not None
    assert "30 s" in cascade.steps[0].error.message
    assert alone.error is not None
    assert [(step.answerer, step.decision.reason) for step in alone.steps] == [(Answerer.NOBODY, Reason.STUDENT_FAILED)]


class Failing(ToyModel):
    """Answers ``fine`` requests, then raises."""

    def __init__(self, error: ModelError, fine: int = 0) -> None:
        super().__init__("s", ["open blue"])
        self.error, self.fine = error, fine

    async def sample(self, request, n=1):
        if len(self.requests) >= self.fine:
            raise self.error
        return await super().sample(request, n)


@pytest.mark.parametrize("arm", ["zero-shot", "cascade"])
@pytest.mark.parametrize("error", [KeyRefused("401"), ModelUnavailable("no one listens"), BadResponse("HTML")])
async def test_a_model_that_never_answers_stops_the_run_and_leaves_no_episode(arm: str, error: ModelError) -> None:
    memory, run = Memory(), config(arm)
    with pytest.raises(type(error), match=str(error)):
        await run_episodes(run, TASKS, resources(memory, Failing(error)))
    assert not memory.kept, "an episode in which nothing was answered is played again, not counted as a failure"
    assert await run_episodes(run, TASKS, resources(memory, ToyModel("s", ["open red"]))) == 4


async def test_a_student_that_stays_away_stops_a_cascade_after_three_episodes() -> None:
    memory = Memory()
    with pytest.raises(ModelUnavailable):
        await run_episodes(config("cascade"), TASKS, resources(memory, Failing(ModelUnavailable("gone"), fine=1)))
    assert [t.succeeded for t in memory.kept.values()] == [True] * 3, "the teacher carried them, and that was paid"


async def test_a_key_that_is_withdrawn_stops_the_run_at_once_and_keeps_the_episode() -> None:
    memory = Memory()
    with pytest.raises(KeyRefused):
        await run_episodes(config("zero-shot"), TASKS, resources(memory, Failing(KeyRefused("401"), fine=2)))
    (kept,) = memory.kept.values()
    assert kept.error is not None
    assert (kept.error.kind, len(kept.steps)) == ("KeyRefused", 3)


async def test_prompts_that_are_too_long_are_failed_episodes_and_never_stop_a_run() -> None:
    memory = Memory()
    await run_episodes(config("zero-shot"), TASKS, resources(memory, Failing(ContextOverflow("9,000 tokens"))))
    assert {t.error.kind for t in memory.kept.values() if t.error} == {"ContextOverflow"}
    assert len(memory.kept) == 4


async def test_a_budget_is_for_all_sittings_and_needs_known_costs() -> None:
    memory, run = Memory(), config("zero-shot")
    priced = resources(memory, ToyModel("s", ["open red"]), price=lambda trajectory: 0.4)
    with pytest.raises(BudgetReached, match="1 of 4 episodes"):
        await run_episodes(run, TASKS, priced, max_cost_usd=1.0, spent_usd=0.7)
    unpriced = resources(memory, ToyModel("s", ["open red"]))
    with pytest.raises(UnknownPrice, match="2 of 4 episodes are recorded"):
        await run_episodes(run, TASKS, unpriced, max_cost_usd=1.0)


async def test_a_failed_request_stays_on_the_bill() -> None:
    class Billed(ToyModel):
        async def sample(self, request, n=1):
            error = ModelError("half an answer")
            error.calls = (Call(model="s", answerer=Answerer.NOBODY, usage=Usage(input_tokens=7)),)
            raise error

    memory = Memory()
    await run_episodes(config("cascade", n=1), TASKS[:1], resources(memory, Billed("s")))
    (trajectory,) = memory.kept.values()
    assert [(c.answerer, c.model) for c in trajectory.steps[0].calls] == [
        (Answerer.STUDENT, "s"),
        (Answerer.TEACHER, "expert"),
    ]


async def test_restart_plays_the_task_again_with_the_teacher_alone() -> None:
    memory, student = Memory(), ToyModel("s", ["open red", "open green", "open blue"])
    run = config("cascade", n=1, mode=EscalationMode.RESTART, patience=1)
    await run_episodes(run, TASKS[:1], resources(memory, student))
    (trajectory,) = memory.kept.values()
    assert [step.answerer for step in trajectory.steps] == [Answerer.NOBODY, Answerer.TEACHER, Answerer.TEACHER]
    assert trajectory.succeeded
    assert len(trajectory.steps[0].calls) == 1, "the lost samples stay on the bill"


async def test_every_sample_is_in_the_record_with_its_bill() -> None:
    memory, student = Memory(), ToyModel("s", ["open red", "open red", "open blue"])
    await run_episodes(config("cascade", n=1), TASKS[:1], resources(memory, student))
    (trajectory,) = memory.kept.values()
    student_call, teacher_call = trajectory.steps[0].calls
    assert [reply.text for reply in student_call.replies] == ["open red", "open red", "open blue"]
    assert (student_call.answerer, teacher_call.answerer) == (Answerer.STUDENT, Answerer.TEACHER)
    assert teacher_call.prompt[0].role == "system"


async def test_environment_resets_once_an_episode() -> None:
    environment = ToyEnvironment()
    await environment.reset(TASKS[0], 0)
    assert environment.resets == 1


def test_wrong_names_and_counts_are_refused() -> None:
    with pytest.raises(ConfigError, match="Did you mean 'zero-shot'"):
        arms("zeroshot")
    with pytest.raises(ConfigError, match="takes its teacher share from a cascade"):
        arms("random-mix", "zero-shot")
    with pytest.raises(ConfigError, match="Did you mean 'sticky'"):
        arms("cascade@stiky")
    with pytest.raises(ConfigError, match="Allowed: 1 to 4"):
        choose_tasks(TASKS, 9, 0)


def test_drawn_tasks_depend_on_the_seed_only() -> None:
    tasks = [task(i) for i in range(30)]
    assert choose_tasks(tasks, 10, 1) == choose_tasks(tasks, 10, 1)
    assert choose_tasks(tasks, 10, 1) != choose_tasks(tasks, 10, 2)
