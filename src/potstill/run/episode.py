"""One episode: perceive, decide, act, until the environment is done or the steps run out.

The loop drives the pure cascade generator and does its I/O. A failure of the environment or of a model ends the episode
as data (``Trajectory.error``), never the run; cancelling it raises and records nothing.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Hashable
from typing import NamedTuple

import msgspec

from potstill.decide import (
    AskStudent,
    AskTeacher,
    CascadeState,
    Failed,
    PolicyKind,
    Resolution,
    TeacherView,
    decide_step,
    label_step,
)
from potstill.decide.cascade import Answer, Effect
from potstill.errors import EnvError, ModelError, PotstillError
from potstill.protocols import (
    AgreementRule,
    AsyncEnvironment,
    BulletObserver,
    Context,
    ContextBlock,
    ContextQuery,
    Control,
)
from potstill.run.arms import Arm
from potstill.run.prompt import Turn, View, heading_of
from potstill.run.shown import ShownBullets
from potstill.run.sides import Side
from potstill.types import (
    Action,
    Answerer,
    Call,
    Decision,
    DemonstrationRef,
    ErrorRecord,
    Observation,
    Reason,
    Reply,
    Step,
    Struct,
    Task,
    Trajectory,
)


class EpisodeSpec(Struct, frozen=True, kw_only=True):
    """What identifies an episode and goes into its record."""

    trajectory_id: str
    task: Task
    seed: int
    arm: Arm
    max_steps: int
    instructions: str = ""
    run_id: str = ""
    namespace: str = "default"
    config_digest: str = ""
    prices_date: str | None = None


class Parts(NamedTuple):
    """What an episode is played with. The teacher may be absent only in arms that never ask it."""

    environment: AsyncEnvironment
    rule: AgreementRule
    keep_blob: Callable[[bytes, str], None] | None = None
    """Where images of observations go; a trajectory only refers to them."""
    teacher: Side | None = None
    student: Side | None = None
    context: Context | None = None
    control: Control | None = None


async def run_episode(spec: EpisodeSpec, parts: Parts) -> Trajectory:
    """Play one episode and return its record."""
    episode = _Episode(spec, parts)
    started, clock = time.time(), time.perf_counter()
    error: ErrorRecord | None = None
    try:
        await episode.play()
    except (EnvError, ModelError) as problem:
        error = error_record(problem)
    trajectory = await episode.record(error, started, time.perf_counter() - clock)
    await episode.tell_context(trajectory.succeeded)
    return trajectory


def error_record(problem: BaseException) -> ErrorRecord:
    return ErrorRecord(kind=type(problem).__name__, message=str(problem)[:2000])


class _Episode:
    """The state of one episode in play."""

    def __init__(self, spec: EpisodeSpec, parts: Parts) -> None:
        self.spec = spec
        self.parts = parts
        self.state = CascadeState()
        self.steps: list[Step] = []
        self.turns: list[Turn] = []
        self.goal = spec.task.goal
        self.plan = ""
        self.observation = Observation()
        self.task_context = ContextBlock()
        self.context_error: ErrorRecord | None = None
        self.shown: list[DemonstrationRef] = []
        self.bullets = ShownBullets()
        self.kept_blobs: set[str] = set()
        self.lost_calls: list[Call] = []
        """Calls of samples that failed: they may be on the bill."""

    async def play(self) -> None:
        await self._begin()
        left = self.spec.max_steps
        while left > 0 and not self.observation.done:
            if await self._step():
                left = self.spec.max_steps
            else:
                left -= 1

    async def _begin(self) -> None:
        await self._see(await self.parts.environment.reset(self.spec.task, self.spec.seed))
        self.turns = []
        self.task_context = await self._context_for_task()
        if await self._write_plan():
            self.task_context = await self._context_for_task()

    async def _see(self, observation: Observation) -> None:
        """Take in an observation, and keep its images while the environment still has them."""
        for blob in observation.images:
            if self.parts.keep_blob is not None and blob.digest not in self.kept_blobs:
                content = await self.parts.environment.read_blob(blob)
                await asyncio.to_thread(self.parts.keep_blob, content, blob.media_type)
                self.kept_blobs.add(blob.digest)
        self.observation = observation

    async def _write_plan(self) -> bool:
        """The plan is written once, by the student where there is one; the calls belong to the first step."""
        side = self.parts.student or self.parts.teacher
        if self.plan or side is None or not side.agent.plan:
            return False
        self.plan = await side.plan(self._view(ContextBlock()))
        return True

    # --- one step ---------------------------------------------------------------------------------------------------

    async def _step(self) -> bool:
        """Play one step; True if the episode starts again from the beginning."""
        clock = time.perf_counter()
        self.context_error = None
        block = await self._context_for_step()
        if self.parts.control is not None:
            resolution, block = await self._control(block)
        else:
            resolution = await self._decide_or_record(block, clock)
        seen, self.state = self.observation, resolution.state
        error: PotstillError | None = None
        if not resolution.restart:
            try:
                await self._see(await self.parts.environment.step(resolution.action))
            except EnvError as problem:
                error = problem
        self._record_step(seen, resolution, block, time.perf_counter() - clock, error)
        if error is not None:
            raise error
        if resolution.restart:
            await self._begin()
            return True
        self.turns.append(Turn(observation=seen, action=resolution.action, reasoning=resolution.reply.reasoning))
        return False

    async def _decide_or_record(self, block: ContextBlock, clock: float) -> Resolution:
        """Decide; if nobody can answer, what was tried and billed is recorded before the episode ends."""
        try:
            return await self._decide(block)
        except (ModelError, EnvError) as problem:
            if isinstance(problem, ModelError):
                self._keep_lost_calls(problem, Answerer.NOBODY)
            reason = Reason.TEACHER_FAILED if self.parts.teacher is not None else Reason.STUDENT_FAILED
            failed = Resolution(
                action=Action(),
                reply=Reply(),
                decision=Decision(answerer=Answerer.NOBODY, reason=reason),
                state=self.state,
            )
            self._record_step(self.observation, failed, block, time.perf_counter() - clock, problem)
            raise

    async def _decide(self, block: ContextBlock) -> Resolution:
        view = self._view(block)
        policy = self.spec.arm.policy
        decide = label_step if policy.kind is PolicyKind.LABELLING else decide_step
        effects = decide(
            policy,
            self.state,
            self.parts.rule,
            self.observation.admissible,
            salt=self.spec.task.id,
            tried=self._tried(),
        )
        effect = next(effects)
        while True:
            answer = await self._answer(effect, view)
            try:
                effect = effects.send(answer)
            except StopIteration as end:
                resolution: Resolution = end.value
                return resolution

    def _tried(self) -> set[Hashable]:
        """Keys of the actions that were already taken after exactly this observation."""
        rule, now = self.parts.rule, self.observation
        same = (turn for turn in self.turns if turn.observation == now)
        replies = (Reply(text=turn.action.text, tool_calls=turn.action.tool_calls) for turn in same)
        return {key for reply in replies if (key := rule.key(reply, now.admissible)) is not None}

    async def _answer(self, effect: Effect, view: View) -> Answer:
        if isinstance(effect, AskTeacher):
            return await self._ask_teacher(effect, view)
        return await self._ask_student(effect, view)

    async def _ask_teacher(self, effect: AskTeacher, view: View) -> list[Reply]:
        """The teacher sees no demonstrations: its prompt is the one of a teacher that works alone."""
        if self.parts.teacher is None:
            raise ModelError(
                f"The student could not act ({effect.reason.value}) and this arm has no teacher. "
                "Name one: --teacher expert"
            )
        plain = msgspec.structs.replace(view, task_context="", step_context="")
        if effect.view is TeacherView.COMPACT:
            return await self.parts.teacher.act_compact(plain, 0.0)
        return await self.parts.teacher.act(plain, 1, 0.0)

    async def _ask_student(self, effect: AskStudent, view: View) -> Answer:
        student = self.parts.student
        assert student is not None, "an arm that asks a student was built without one"
        if self.context_error is not None and self.parts.teacher is not None:
            return Failed(reason=Reason.CONTEXT_FAILED)
        try:
            return await student.act(view, effect.n, effect.temperature, likelihood=effect.likelihood)
        except ModelError as problem:
            if self.parts.teacher is None or student.health.hopeless:
                raise  # a wrong address or key is a mistake to mend, not a reason to pay the teacher
            self._keep_lost_calls(problem, Answerer.STUDENT)
            self.context_error = error_record(problem)
            return Failed(reason=Reason.STUDENT_FAILED)

    def _keep_lost_calls(self, problem: ModelError, answerer: Answerer) -> None:
        self.lost_calls.extend(msgspec.structs.replace(call, answerer=answerer) for call in problem.calls)

    async def _control(self, block: ContextBlock) -> tuple[Resolution, ContextBlock]:
        assert self.parts.control is not None
        action, shown = await self.parts.control.act(self._query(), self.observation.admissible or ())
        decision = Decision(answerer=Answerer.CONTROL, reason=Reason.CONTROL_ONLY)
        state = msgspec.structs.replace(self.state, step=self.state.step + 1)
        return Resolution(action=action, reply=Reply(text=action.text), decision=decision, state=state), shown

    def _record_step(
        self,
        seen: Observation,
        resolution: Resolution,
        block: ContextBlock,
        latency_s: float,
        error: PotstillError | None,
    ) -> None:
        shown = (*self.task_context.demonstrations, *block.demonstrations)
        self.shown.extend(ref for ref in shown if ref not in self.shown)
        sides = [side for side in (self.parts.student, self.parts.teacher) if side is not None]
        calls = (*self._take_lost_calls(), *(call for side in sides for call in side.take_calls()))
        self.bullets.show(self.task_context, block)
        self.bullets.hear(calls, self.parts.context)
        self.steps.append(
            Step(
                index=len(self.steps),
                observation=seen,
                action=Action() if resolution.restart else resolution.action,
                reasoning=resolution.reply.reasoning,
                answerer=resolution.decision.answerer,
                decision=resolution.decision,
                calls=calls,
                demonstrations=shown,
                bullets=block.bullets,
                latency_s=latency_s,
                error=error_record(error) if error is not None else self.context_error,
            )
        )

    def _take_lost_calls(self) -> tuple[Call, ...]:
        lost, self.lost_calls = tuple(self.lost_calls), []
        return lost

    # --- context ----------------------------------------------------------------------------------------------------

    async def _context_for_task(self) -> ContextBlock:
        return await self._ask_context(first=True)

    async def _context_for_step(self) -> ContextBlock:
        return await self._ask_context(first=False)

    async def _ask_context(self, *, first: bool) -> ContextBlock:
        """Context may fail without ending the episode where a teacher can answer: the step records why.

        An arm without a teacher would go on as another arm, without demonstrations; there the failure is raised.
        """
        context = self.parts.context
        if context is None:
            return ContextBlock()
        try:
            return await (context.for_task(self._query()) if first else context.for_step(self._query()))
        except (PotstillError, OSError) as problem:
            if self.parts.teacher is None:
                raise
            self.context_error = error_record(problem)
            return ContextBlock()

    async def tell_context(self, success: bool) -> None:
        context = self.parts.context
        if context is None:
            return
        if self.shown:
            await context.observe(self.shown, success)
        use = self.bullets.use
        if use is not None and use.shown and isinstance(context, BulletObserver):
            await context.observe_bullets(use.shown, success)

    def _query(self) -> ContextQuery:
        texts = [result.text for result in self.observation.tool_results]
        return ContextQuery(
            task=self.spec.task,
            goal=self.goal,
            plan=self.plan,
            observation="\n".join([*texts, self.observation.text]).strip(),
            reasoning=self.turns[-1].reasoning if self.turns else "",
            step_index=len(self.turns),
            history=tuple(turn.action.text for turn in self.turns),
            namespace=self.spec.namespace,
            episode=self.spec.trajectory_id,
        )

    def _view(self, block: ContextBlock) -> View:
        return View(
            agent=self.spec.arm.student_agent,  # each side puts its own agent in
            instructions=self.spec.instructions,
            goal=self.goal,
            plan=self.plan,
            turns=tuple(self.turns),
            observation=self.observation,
            task_context=self.task_context.text,
            step_context=block.text,
            task_heading=heading_of(self.task_context),
            step_heading=heading_of(block),
        )

    # --- the record -------------------------------------------------------------------------------------------------

    async def record(self, error: ErrorRecord | None, started: float, duration_s: float) -> Trajectory:
        outcome = None
        if error is None:
            try:
                outcome = await self.parts.environment.outcome()
            except EnvError as problem:
                error = error_record(problem)
        spec, arm = self.spec, self.spec.arm
        return Trajectory(
            id=spec.trajectory_id,
            task=spec.task,
            kind=arm.kind,
            arm=arm.name,
            run_id=spec.run_id,
            namespace=spec.namespace,
            seed=spec.seed,
            teacher=self.parts.teacher.model.name if self.parts.teacher else None,
            student=self.parts.student.model.name if self.parts.student else None,
            goal=self.goal,
            plan=self.plan,
            steps=tuple(self.steps),
            final_observation=self.observation,
            outcome=outcome,
            playbook=self.bullets.use,
            error=error,
            config_digest=spec.config_digest,
            prices_date=spec.prices_date,
            started_at=started,
            duration_s=duration_s,
        )
