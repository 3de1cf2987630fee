"""Puts a run together: opens its models, lends its environments, builds its library of demonstrations.

This is the one place where stores, models, environments and demonstrations meet; what each does lies in the layers
above. It does not play, print or read options.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import msgspec

from potstill.cli.playbook_wiring import playbook_context
from potstill.cli.run_plan import CONSTRAINED, Plan
from potstill.decide.policy import PolicyKind, Signal
from potstill.distill.context.config import ContextConfig
from potstill.distill.context.context import RandomDemonstrations, RetrievedDemonstrations
from potstill.distill.context.control import CopyNearest
from potstill.distill.context.library import DemonstrationLibrary, Utility, build_library
from potstill.distill.playbook.context import Both
from potstill.envs.registry import factory
from potstill.envs.worker import WorkerPool
from potstill.errors import ConfigError, UnknownPrice
from potstill.measure.cache import ledger
from potstill.measure.ledger import Pricing
from potstill.measure.prices import PriceTable
from potstill.models.expert import EstimateCounter, ExpertModel
from potstill.models.registry import open_model
from potstill.protocols import BulletObserver, BulletReader, CandidateScorer, Context, Control, Model, TokenCounter
from potstill.run.arms import Arm, ContextKind
from potstill.run.recorder import StoreRecorder
from potstill.run.runner import Resources, RunConfig
from potstill.trajectories import Store
from potstill.types import DemonstrationRef, Trajectory, TrajectoryKind

COUNTED = "demonstration/"
"""Prefix of the store's counters that hold how often an episode was shown and how often that succeeded."""


@asynccontextmanager
async def resources(plan: Plan, store: Store) -> AsyncIterator[Resources]:
    config = plan.config
    async with contextlib.AsyncExitStack() as stack:
        student = await _opened(stack, _student(config))
        teacher = await _opened(stack, _teacher(config, student))
        pool = await stack.enter_async_context(
            WorkerPool(factory(config.environment, **config.environment_options), plan.jobs)
        )
        library = _library(plan, store)
        yield Resources(
            recorder=StoreRecorder(store, config.namespace),
            lease=pool.lease,
            teacher=teacher,
            student=student,
            context=_contexts(config, library, store),
            control=lambda arm: _control(library),
            price=pricer(plan.prices, plan.pricing),
        )


async def _opened(stack: contextlib.AsyncExitStack, model: Model | None) -> Model | None:
    if model is not None:
        stack.push_async_callback(model.aclose)
    return model


def _student(config: RunConfig) -> Model | None:
    if not any(arm.needs_student for arm in config.arms) and not _counts_for_expert(config):
        return None
    if config.student is None:
        raise ConfigError("These arms need a student. Type for example: --student local:smollm2-135m")
    student = open_model(config.student, **config.student_options)
    weighs = any(
        arm.policy.kind is PolicyKind.CASCADE and arm.policy.signal is Signal.LIKELIHOOD for arm in config.arms
    )
    if weighs and not (isinstance(student, CandidateScorer) and student.capabilities.scores_candidates):
        raise ConfigError(
            f"--signal likelihood needs a student that weighs every admissible action; {config.student} cannot. "
            "Type: --student local:NAME or --student torch:NAME, or --signal votes"
        )
    return student


def _counts_for_expert(config: RunConfig) -> bool:
    """Whether a local student is named whose tokenizer prices the expert, so that all runs that name it count alike."""
    expert = config.teacher == "expert" and any(arm.needs_teacher for arm in config.arms)
    return expert and (config.student or "").startswith(CONSTRAINED)


def _teacher(config: RunConfig, student: Model | None) -> Model | None:
    """An expert's tokens are counted with the student's tokenizer where that is local, else by a stated estimator."""
    if not any(arm.needs_teacher for arm in config.arms):
        return None
    if config.teacher is None:
        raise ConfigError("These arms need a teacher. Type for example: --teacher expert")
    if config.teacher != "expert":
        return open_model(config.teacher, **config.teacher_options)
    if config.teacher_options:
        raise ConfigError("The teacher 'expert' takes no options. Leave --teacher-option away.")
    counter = student if isinstance(student, TokenCounter) else EstimateCounter()
    return ExpertModel(counter, priced_as=config.price_teacher_as)


def pricer(table: PriceTable, pricing: Pricing) -> Callable[[Trajectory], float | None]:
    """A function from an episode to its dollars, with the prompt cache simulated where no endpoint reported it.

    Unknown is None, never zero: a model without a price, or calls whose tokens nobody counted.
    """

    def price(trajectory: Trajectory) -> float | None:
        calls = [call for step in trajectory.steps for call in step.calls]
        try:
            rows = ledger(calls, table, cache="simulated", pricing=pricing)
        except UnknownPrice:
            return None
        costs = [row.total_usd for row in rows]
        return None if any(cost is None for cost in costs) else sum(cost or 0.0 for cost in costs)

    return price


def _library(plan: Plan, store: Store) -> DemonstrationLibrary | None:
    config = plan.config
    if not any(arm.needs_demonstrations for arm in config.arms):
        return None
    taught = store.select(
        environment=config.environment,
        kind=TrajectoryKind.TEACHER,
        split=config.demonstrations_split,
        namespace=config.namespace,
        success=True,
    )
    library = build_library(taught, plan.context)
    library.restore_utility(
        {
            key.removeprefix(COUNTED): Utility(shown=count.shown, succeeded=count.succeeded)
            for key, count in store.counters(config.namespace).items()
            if key.startswith(COUNTED)
        }
    )
    if len(library) == 0:
        raise ConfigError(
            f"The store {plan.place} holds no successful teacher episode of '{config.environment}' in the split "
            f"'{config.demonstrations_split}', which demonstrations come from. Type: potstill distill context "
            f"--env {config.environment} --split {config.demonstrations_split} --n 100 --teacher expert "
            f"--db {plan.place}"
        )
    return library


class _Counted:
    """A context whose utility counts also go into the store, so that later runs can rank by them."""

    def __init__(self, inner: Context, store: Store, namespace: str) -> None:
        self._inner = inner
        self._store = store
        self._namespace = namespace
        self.for_task = inner.for_task
        self.for_step = inner.for_step

    @property
    def name(self) -> str:
        return self._inner.name

    async def observe(self, shown: Sequence[DemonstrationRef], success: bool) -> None:
        await self._inner.observe(shown, success)
        counts = [(COUNTED + id, 1, int(success)) for id in sorted({ref.trajectory_id for ref in shown})]
        await asyncio.to_thread(self._store.bump_many, self._namespace, counts)

    async def observe_bullets(self, shown: Sequence[str], success: bool) -> None:
        if isinstance(self._inner, BulletObserver):
            await self._inner.observe_bullets(shown, success)

    def cited(self, said: str, shown: Sequence[str]) -> tuple[str, ...]:
        return self._inner.cited(said, shown) if isinstance(self._inner, BulletReader) else ()


def _contexts(
    config: RunConfig, library: DemonstrationLibrary | None, store: Store
) -> Callable[[Arm, int], Context | None]:
    """What an arm's student is shown. One playbook's context serves all arms: what it shows depends on nothing else."""
    settings = msgspec.convert(config.context, ContextConfig)
    book = _playbook(config, store)

    def demonstrations(arm: Arm, seed: int) -> Context | None:
        if library is None or arm.context is ContextKind.NONE:
            return None
        if arm.context is ContextKind.RANDOM:
            return RandomDemonstrations(library, settings, seed)
        return _Counted(RetrievedDemonstrations(library, settings), store, config.namespace)

    def context(arm: Arm, seed: int) -> Context | None:
        beside = demonstrations(arm, seed)
        if book is None or not arm.playbook:
            return beside
        return book if beside is None else Both(book, beside)

    return context


def must_have_book(config: RunConfig, store: Store) -> None:
    """Raises ``ConfigError`` where arms show a playbook that the tenant does not have, before anything is opened."""
    _playbook(config, store)


def _playbook(config: RunConfig, store: Store) -> Context | None:
    if config.playbook is None or not any(arm.playbook for arm in config.arms):
        return None
    return playbook_context(store, config.namespace, config.playbook, config.playbook_config)


def _control(library: DemonstrationLibrary | None) -> Control | None:
    return None if library is None else CopyNearest(library)
