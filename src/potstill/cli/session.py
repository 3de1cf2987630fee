"""From options to a run: opens what a run needs, plays it with a progress bar, and says what was recorded.

``run``, ``distill context`` and ``demo`` share it. This is the one place where stores, models, environments and
demonstrations are put together; what each does lies in the layers above.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import click
import msgspec

from potstill.cli.output import emit_json, emit_table, note, progress
from potstill.cli.plan import CONSTRAINED, Plan
from potstill.decide.policy import PolicyKind, Signal
from potstill.distill.context.config import ContextConfig
from potstill.distill.context.context import RandomDemonstrations, RetrievedDemonstrations
from potstill.distill.context.control import CopyNearest
from potstill.distill.context.library import DemonstrationLibrary, Utility, build_library
from potstill.envs.registry import factory
from potstill.envs.worker import WorkerPool
from potstill.errors import BudgetReached, ConfigError, ModelError, UnknownPrice
from potstill.locks import exclusive
from potstill.measure.cache import ledger
from potstill.measure.ledger import Pricing
from potstill.measure.prices import PriceTable
from potstill.models.expert import EstimateCounter, ExpertModel
from potstill.models.registry import open_model
from potstill.protocols import CandidateScorer, Context, Control, Model, TokenCounter
from potstill.run.arms import Arm, ContextKind
from potstill.run.recorder import StoreRecorder
from potstill.run.runner import EpisodeDone, Resources, RunConfig, run_episodes
from potstill.trajectories import Store
from potstill.types import DemonstrationRef, Trajectory, TrajectoryKind

COUNTED = "demonstration/"
"""Prefix of the store's counters that hold how often an episode was shown and how often that succeeded."""


class Counts(NamedTuple):
    """What one arm has recorded."""

    arm: str
    episodes: int
    successes: int
    errors: int


class Result(NamedTuple):
    run_id: str
    played: int
    arms: list[Counts]
    spent_usd: float | None
    duration_s: float
    broken: tuple[str, ...] = ()
    """What went wrong in episodes of this sitting that ended with an error, one line each."""


def play(plan: Plan, *, quiet: bool = False) -> Result:
    """Record what the plan asks for and the store does not hold yet."""
    with _alone(plan), Store.open(plan.db) as store:
        watch = _Watch(plan)
        started = time.perf_counter()
        try:
            with _bar(plan, quiet) as bar:
                watch.bar = bar
                played = asyncio.run(_play(plan, store, watch))
        except KeyboardInterrupt:
            raise click.Abort from InterruptedError(_how_to_resume(plan))
        except (ModelError, BudgetReached):
            note(_how_to_resume(plan))
            raise
        duration_s = time.perf_counter() - started
        counts = _counts(store, plan.config)
        return Result(plan.config.run_id, played, counts, watch.spent_usd, duration_s, tuple(watch.broken))


@contextlib.contextmanager
def _alone(plan: Plan) -> Iterator[None]:
    """Two sittings of one run at once would pay for the same episodes twice."""
    name = hashlib.sha256(f"{plan.db.resolve()}\x1f{plan.config.run_id}".encode()).hexdigest()[:16]
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(exclusive(Path(tempfile.gettempdir()) / f"potstill-{name}.lock", wait=False))
        except BlockingIOError:
            raise ConfigError(
                f"Another process is recording the run {plan.config.run_id} in {plan.db}. Wait until it ends, or name "
                "another run: --run NAME"
            ) from None
        yield


def _how_to_resume(plan: Plan) -> str:
    return f"Every finished episode is kept. To go on, type: potstill run --resume {plan.config.run_id} --db {plan.db}"


async def _play(plan: Plan, store: Store, watch: _Watch) -> int:
    """The run is registered once all that it needs is open, so that a mistyped name leaves no run behind."""
    async with _resources(plan, store) as resources:
        store.put_run(plan.config.run_id, msgspec.to_builtins(plan.config))
        return await run_episodes(
            plan.config,
            plan.tasks,
            resources,
            jobs=plan.jobs,
            max_cost_usd=plan.config.max_cost_usd,
            spent_usd=_spent(plan, store, resources) if plan.config.max_cost_usd is not None else 0.0,
            on_done=watch.done,
        )


def _spent(plan: Plan, store: Store, resources: Resources) -> float:
    """What the run's earlier sittings cost, as far as it is known."""
    recorded = store.select(run_id=plan.config.run_id, namespace=plan.config.namespace)
    return sum(resources.price(episode) or 0.0 for episode in recorded)


class _Watch:
    """What the progress bar shows: success so far, steps per second, spend."""

    def __init__(self, plan: Plan) -> None:
        self.bar: Any = None
        self.spent_usd: float | None = 0.0
        self._started = time.perf_counter()
        self._episodes = self._successes = self._steps = 0
        self.broken: list[str] = []

    def done(self, event: EpisodeDone) -> None:
        self._episodes += 1
        self._successes += event.trajectory.succeeded
        self._steps += len(event.trajectory.steps)
        if event.trajectory.error is not None:
            self.broken.append(f"{event.trajectory.id} ({event.trajectory.task.id}): {event.trajectory.error.message}")
        self.spent_usd = None if self.spent_usd is None or event.cost_usd is None else self.spent_usd + event.cost_usd
        rate = self._steps / max(1e-9, time.perf_counter() - self._started)
        shown = {
            "success": f"{self._successes}/{self._episodes}",
            "steps": f"{rate:.1f}/s",
            "spend": "unknown" if self.spent_usd is None else f"${self.spent_usd:.4f}",
        }
        # The first event of a resumed run carries the episodes that were there already.
        self.bar.update(event.done if self._episodes == 1 else 1, **shown)


def _bar(plan: Plan, quiet: bool) -> contextlib.AbstractContextManager[Any]:
    if quiet:
        return contextlib.nullcontext(_Silent())
    total = len(plan.tasks) * plan.config.seeds * len(plan.config.arms)
    return progress(plan.config.run_id, total, unit="episodes")


class _Silent:
    def update(self, advance: float = 0, **shown: object) -> None:
        """Shows nothing."""


# --- resources ------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def _resources(plan: Plan, store: Store) -> AsyncIterator[Resources]:
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


# --- demonstrations -------------------------------------------------------------------------------------------------


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
            f"The store {plan.db} holds no successful teacher episode of '{config.environment}' in the split "
            f"'{config.demonstrations_split}', which demonstrations come from. Type: potstill distill context "
            f"--env {config.environment} --split {config.demonstrations_split} --n 100 --teacher expert --db {plan.db}"
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


def _contexts(
    config: RunConfig, library: DemonstrationLibrary | None, store: Store
) -> Callable[[Arm, int], Context | None]:
    settings = msgspec.convert(config.context, ContextConfig)

    def context(arm: Arm, seed: int) -> Context | None:
        if library is None or arm.context is ContextKind.NONE:
            return None
        if arm.context is ContextKind.RANDOM:
            return RandomDemonstrations(library, settings, seed)
        return _Counted(RetrievedDemonstrations(library, settings), store, config.namespace)

    return context


def _control(library: DemonstrationLibrary | None) -> Control | None:
    return None if library is None else CopyNearest(library)


# --- what is printed ------------------------------------------------------------------------------------------------


def _counts(store: Store, config: RunConfig) -> list[Counts]:
    rows: dict[str, list[int]] = {arm.name: [0, 0, 0] for arm in config.arms}
    for summary in store.summaries(run_id=config.run_id, namespace=config.namespace):
        row = rows.setdefault(summary.arm, [0, 0, 0])
        row[0] += 1
        row[1] += summary.success is True
        row[2] += summary.success is None
    return [Counts(arm, *row) for arm, row in rows.items()]


def print_result(result: Result, plan: Plan, json_mode: bool) -> None:
    if json_mode:
        emit_json(
            {
                "run": result.run_id,
                "played": result.played,
                "spent_usd": result.spent_usd,
                "duration_s": result.duration_s,
                "broken": result.broken,
                "arms": [counts._asdict() for counts in result.arms],
            }
        )
        return
    emit_table(Counts._fields, result.arms, json_mode=False, title=f"run {result.run_id}")
    if result.broken:
        note(f"{len(result.broken)} episodes ended with an error and count as failures. The first, {result.broken[0]}")
    note(f"Next: potstill measure --db {plan.db} --run {result.run_id}")
