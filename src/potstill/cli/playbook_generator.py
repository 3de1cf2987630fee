"""The Generator of a learning run (arXiv 2510.04618): a student that plays tasks with the playbook in its prompt.

What it knows: how an episode of ``run`` is played, and where a reflection stands. Before each one the page is brought
to what the book says, so that what is played, and what is validated, is what was written; the prompt cache that this
may cost is the run's alone. What it does not do: learn (``learn``
keeps the episode and reads it), open models or environments.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

from potstill.decide import agreement_rule
from potstill.distill.playbook.context import PlaybookContext
from potstill.distill.playbook.learn.contract import episode_id
from potstill.distill.playbook.roles.asking import tell
from potstill.distill.playbook.said import Reflection
from potstill.errors import ModelError
from potstill.protocols import AsyncEnvironment, Model
from potstill.run.arms import Arm
from potstill.run.episode import EpisodeSpec, Parts, run_episode
from potstill.run.runner import RunConfig
from potstill.run.sides import Health, Side
from potstill.types import Answerer, Call, Task, Trajectory

_HEADING = "What you thought about your last attempt at this task:"


class StudentGenerator:
    """Plays one task at a time for each environment that it is lent. A ``learn.contract.Generator``.

    Episodes in which a model did not answer at all are raised and not recorded; others that broke are data.
    """

    def __init__(
        self,
        config: RunConfig,
        student: Model,
        context: PlaybookContext,
        lease: Callable[[], AbstractAsyncContextManager[AsyncEnvironment]],
        keep_blob: Callable[[bytes, str], None],
    ) -> None:
        self._config = config
        self._student = student
        self._context = context
        self._lease = lease
        self._keep_blob = keep_blob

    async def play(self, task: Task, seed: int, *, reflection: Reflection | None, tag: str) -> Trajectory:
        arm = self._config.arms[0]
        spec = self._spec(task, seed, arm, reflection, tag)
        health = Health()
        await self._context.catch_up()
        calls: list[Call] = []
        try:
            trajectory = await self._played(spec, health, calls)
        except asyncio.CancelledError:
            await tell(calls)
            raise
        outage = health.after_episode()
        if outage is not None and not _answered(trajectory):
            raise _with_calls(outage, trajectory)
        return trajectory

    async def _played(self, spec: EpisodeSpec, health: Health, calls: list[Call]) -> Trajectory:
        arm = spec.arm
        async with self._lease() as environment:
            side = _Remembering(
                self._student, Answerer.STUDENT, arm.student_agent, seed=spec.seed, handle=environment, health=health
            )
            rule = await asyncio.to_thread(agreement_rule, arm.policy.rule)
            parts = Parts(
                environment=environment, keep_blob=self._keep_blob, rule=rule, student=side, context=self._context
            )
            try:
                return await run_episode(spec, parts)
            finally:
                calls += side.all_calls()

    def _spec(self, task: Task, seed: int, arm: Arm, reflection: Reflection | None, tag: str) -> EpisodeSpec:
        told = "" if reflection is None else _told(reflection)
        return EpisodeSpec(
            trajectory_id=episode_id(tag),
            task=task,
            seed=seed,
            arm=arm,
            max_steps=self._config.max_steps,
            instructions="\n\n".join(filter(None, (self._config.instructions, told))),
            run_id=self._config.run_id,
            namespace=self._config.namespace,
            config_digest=self._config.digest,
            prices_date=self._config.prices_date,
        )


class _Remembering(Side):
    """Knows the calls of its whole episode: of one that is cancelled there is no record, and it is to be paid."""

    def __init__(self, *words: Any, **named: Any) -> None:
        super().__init__(*words, **named)
        self._taken: list[Call] = []

    def take_calls(self) -> tuple[Call, ...]:
        calls = super().take_calls()
        self._taken += calls
        return calls

    def all_calls(self) -> list[Call]:
        self.take_calls()
        return self._taken


def _told(reflection: Reflection) -> str:
    """A reflection as the student reads it; it came from a model, and was read by a strict schema."""
    said = (
        reflection.error_identification,
        reflection.root_cause_analysis,
        reflection.correct_approach,
        reflection.key_insight,
    )
    return "\n".join((_HEADING, *(f"- {' '.join(one.split())}" for one in said if one.strip())))


def _answered(trajectory: Trajectory) -> bool:
    return any(call.replies for step in trajectory.steps for call in step.calls)


def _with_calls(error: ModelError, trajectory: Trajectory) -> ModelError:
    """What was tried is on the bill, whatever came of it."""
    if not error.calls:
        error.calls = tuple(call for step in trajectory.steps for call in step.calls)
    return error
