"""One decision over real messages: ``decide.decide_step`` driven with a student behind an upstream.

What it knows: how the generator's questions become requests, and that a student that fails, is late or answers what the
client cannot use has not answered. What it does not do: decide, know episodes or stages, ask the teacher: where the
teacher is to answer, the caller forwards the client's request.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Hashable, Iterable
from typing import NamedTuple

import msgspec

from potstill.decide import AskStudent, AskTeacher, CascadeState, Failed, Policy, PolicyKind, Resolution, decide_step
from potstill.decide.cascade import Answer as Replies
from potstill.serve.deciding.student import Sample, samples_of, student_prompt
from potstill.serve.deciding.validity import ValidAnswers
from potstill.serve.seams import CUT, Ask, CutShort
from potstill.serve.settings import Model
from potstill.trajectories.exchange import Upstream
from potstill.types import Answerer, ErrorRecord, EscalationMode, FinishReason, Reason, Reply
from potstill.wire.neutral import Prompt


class Weighed(NamedTuple):
    """What a decision came to. ``sample``: the student's answer, if it acts."""

    resolution: Resolution
    sample: Sample | None
    samples: tuple[Sample, ...]
    calls: tuple[Upstream, ...]
    notes: tuple[str, ...]


class Student(NamedTuple):
    """Whom to ask, and within how many seconds for the whole decision."""

    ask: Ask
    model: Model
    dialect: str
    deadline_s: float
    shadow: bool = False


async def weigh(
    student: Student,
    prompt: Prompt,
    rule: ValidAnswers,
    policy: Policy,
    state: CascadeState,
    *,
    tried: Collection[Hashable] = (),
    teacher: Reply | None = None,
) -> Weighed:
    """Decide one step. ``prompt``: the client's, with the demonstrations in it.

    ``teacher``: its answer where it is known already (shadow). Where it is not, a resolution in its favour holds an
    empty action: the decision and the state after it depend on who acts, never on what the teacher says. Never raises
    but for cancellation: ``CutShort``, with the calls that were made.
    """
    asking = _Asking(student, prompt, rule, policy, state)
    effects = decide_step(policy, state, rule, None, tried=tried)
    effect = next(effects)
    while True:
        answer: Replies = [teacher or Reply()] if isinstance(effect, AskTeacher) else await asking(effect)
        try:
            effect = effects.send(answer)
        except StopIteration as end:
            return asking.weighed(end.value)


class _Asking:
    """The student's side of one decision: what was asked, what it cost, what went wrong."""

    def __init__(
        self, student: Student, prompt: Prompt, rule: ValidAnswers, policy: Policy, state: CascadeState
    ) -> None:
        self._student, self._prompt, self._rule, self._policy = student, prompt, rule, policy
        self._alone = state.holder is Answerer.STUDENT or policy.mode is EscalationMode.TEACHER_FIRST
        self._until = asyncio.get_running_loop().time() + student.deadline_s
        self._samples: list[Sample] = []
        self._calls: list[Upstream] = []
        self._notes: list[str] = []

    def weighed(self, resolution: Resolution) -> Weighed:
        acts = resolution.decision.answerer is Answerer.STUDENT
        chosen = (sample for sample in self._samples if acts and sample.reply is resolution.reply)
        return Weighed(resolution, next(chosen, None), tuple(self._samples), tuple(self._calls), tuple(self._notes))

    async def __call__(self, effect: AskStudent) -> Replies:
        started = time.time()
        ended: list[Upstream] = []
        try:
            async with asyncio.timeout_at(self._until):
                asked = await self._student.ask.ask(
                    self._student.model, self._shown(effect), n=effect.n, told=ended.append
                )
        except asyncio.CancelledError:
            self._took(ended)
            raise CutShort(tuple(self._calls)) from None
        except TimeoutError:
            late = ErrorRecord(kind="ModelTimeout", message=f"no answer within {self._student.deadline_s:g} s")
            return self._failed(effect, started, ended, late)
        except Exception as problem:  # fail open: whatever the student's side raises, the teacher answers
            error = ErrorRecord(kind=type(problem).__name__, message=str(problem))
            return self._failed(effect, started, ended, error)
        self._took(ended)
        samples = samples_of(asked, self._prompt)
        self._samples.extend(samples)
        if len(samples) < effect.n:
            self._notes.append(f"student: {len(samples)} of {effect.n} samples came")
            return Failed()
        return self._judged(samples)

    def _judged(self, samples: list[Sample]) -> Replies:
        """An answer without a vote is executed by the agent as it is, so one that it cannot use is no answer.

        Where the student answers all (``student``), one that the client's own limit of tokens cut off is what it asked
        for.
        """
        by_itself = self._policy.kind is PolicyKind.STUDENT
        if by_itself and samples[0].reply.finish_reason is FinishReason.LENGTH:
            return [sample.reply for sample in samples]
        if by_itself or (self._policy.kind is PolicyKind.CASCADE and self._alone):
            wrong = self._rule.why_not(samples[0].reply)
            if wrong is not None:
                self._notes.append(f"student: its answer cannot be used: {wrong}")
                return Failed(reason=Reason.INVALID)
        return [sample.reply for sample in samples]

    def _shown(self, effect: AskStudent) -> Prompt:
        alone = self._policy.kind is PolicyKind.STUDENT
        temperature = self._prompt.temperature if alone else effect.temperature
        return student_prompt(self._prompt, self._student.model.model, temperature)

    def _took(self, calls: Iterable[Upstream]) -> None:
        whose = {"answerer": Answerer.STUDENT, "shadow": self._student.shadow}
        self._calls.extend(msgspec.structs.replace(call, **whose) for call in calls)

    def _failed(self, effect: AskStudent, started: float, ended: list[Upstream], error: ErrorRecord) -> Failed:
        """The calls that were made are kept as they ended; those that were cut off have the error that cut them."""
        self._notes.append(f"student: {error.kind}: {error.message}")
        self._took(
            msgspec.structs.replace(call, error=error) if call.error is not None and call.error.kind == CUT else call
            for call in ended or (self._never_made(effect, started, error),)
        )
        return Failed()

    def _never_made(self, effect: AskStudent, started: float, error: ErrorRecord) -> Upstream:
        model = self._student.model
        return Upstream(
            model=model.model,
            upstream=model.upstream,
            answerer=Answerer.STUDENT,
            dialect=self._student.dialect,
            price_as=model.price_as,
            started_at=started,
            latency_s=max(0.0, time.time() - started),
            n=effect.n,
            error=error,
        )
