"""A run: every arm on the same tasks and seeds, recorded as it goes, resumable to the episode.

An episode's id is made from run, arm, task and seed, and an episode is in the store only when it is complete. So
resuming is playing what is not there yet: nothing is repeated and nothing is lost.

What it does not do: open models, stores or environments (``Resources`` come in), print, or price (a function comes in).
"""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import NamedTuple, Protocol

import msgspec

from potstill.decide import agreement_rule
from potstill.errors import BudgetReached, ConfigError, PotstillError, UnknownPrice
from potstill.protocols import AsyncEnvironment, Context, Control, Model
from potstill.run.arms import Arm, digest
from potstill.run.episode import EpisodeSpec, Parts, run_episode
from potstill.run.sides import Health, Side
from potstill.types import Answerer, Struct, Task, Trajectory


class RunConfig(Struct, frozen=True, kw_only=True):
    """Everything that decides what a run records. Written into the store with the run, without any key."""

    run_id: str
    environment: str
    split: str
    arms: tuple[Arm, ...]
    n: int
    seed: int = 0
    seeds: int = 1
    max_steps: int = 50
    instructions: str = ""
    teacher: str | None = None
    student: str | None = None
    student_options: dict[str, str | int | float | bool | None] = msgspec.field(default_factory=dict)
    """How the student is opened (``template``, ``threads``, ...)."""
    teacher_options: dict[str, str | int | float | bool | None] = msgspec.field(default_factory=dict)
    price_teacher_as: str | None = None
    price_student_as: str | None = None
    prices_date: str | None = None
    namespace: str = "default"
    environment_options: dict[str, str | int | float | bool | None] = msgspec.field(default_factory=dict)
    context: dict[str, object] = msgspec.field(default_factory=dict)
    """The context's own configuration, as it was given to it."""
    playbook: str | None = None
    """Name of the playbook that arms show, of the run's namespace."""
    playbook_config: dict[str, object] = msgspec.field(default_factory=dict)
    """How it is shown, as it was given to it."""
    demonstrations_split: str = "train"
    """Split whose teacher episodes are shown."""
    max_cost_usd: float | None = None
    """The budget of the whole run; it decides how much is recorded, not what."""
    escalation_share: float | None = None
    """Of decisions, as the run's calibration saw it; for estimates alone."""

    @property
    def digest(self) -> str:
        return digest(msgspec.structs.replace(self, run_id="", max_cost_usd=None, escalation_share=None))


class Planned(NamedTuple):
    """One episode to play."""

    arm: Arm
    task: Task
    seed: int
    trajectory_id: str


class EpisodeDone(NamedTuple):
    """Told after each recorded episode; ``cost_usd`` None where it could not be priced."""

    trajectory: Trajectory
    cost_usd: float | None
    done: int
    total: int


class Recorder(Protocol):
    """The part of the store that a run needs."""

    def append(self, trajectory: Trajectory) -> None: ...

    def put_blob(self, content: bytes, media_type: str) -> None: ...

    def existing(self, run_id: str) -> set[str]: ...

    def teacher_share(self, run_id: str, arm: str) -> float | None: ...


class Resources(NamedTuple):
    """What a run plays with. Functions of an arm and a seed give what an episode is shown."""

    recorder: Recorder
    lease: Callable[[], AbstractAsyncContextManager[AsyncEnvironment]]
    teacher: Model | None = None
    student: Model | None = None
    context: Callable[[Arm, int], Context | None] = lambda arm, seed: None
    control: Callable[[Arm], Control | None] = lambda arm: None
    price: Callable[[Trajectory], float | None] = lambda trajectory: None


def choose_tasks(tasks: Sequence[Task], n: int | None, seed: int) -> list[Task]:
    """``n`` tasks drawn by ``seed`` and put back into the source's order; all of them for None.

    Raises ``ConfigError`` where fewer are there.
    """
    if n is None or n == len(tasks):
        return list(tasks)
    if n < 1 or n > len(tasks):
        raise ConfigError(f"--n is {n}; this split has {len(tasks)} tasks. Allowed: 1 to {len(tasks)}.")
    chosen = sorted(random.Random(seed).sample(range(len(tasks)), n))
    return [tasks[index] for index in chosen]


def plan_episodes(config: RunConfig, tasks: Iterable[Task]) -> list[Planned]:
    """All episodes, task by task, so that an interrupted run still compares its arms on the same tasks."""
    return [
        Planned(arm, task, seed, trajectory_id(config.run_id, arm.name, task.id, seed))
        for task in tasks
        for seed in range(config.seed, config.seed + config.seeds)
        for arm in config.arms
    ]


def trajectory_id(run_id: str, arm: str, task_id: str, seed: int) -> str:
    """Stable within a run: the same episode always gets the same id."""
    text = "\x1f".join((run_id, arm, task_id, str(seed)))
    return f"{run_id}-{hashlib.sha256(text.encode()).hexdigest()[:20]}"


async def run_episodes(
    config: RunConfig,
    tasks: Sequence[Task],
    resources: Resources,
    *,
    jobs: int = 1,
    max_cost_usd: float | None = None,
    spent_usd: float = 0.0,
    on_done: Callable[[EpisodeDone], None] = lambda event: None,
) -> int:
    """Play what the store does not hold yet; returns how many episodes were played.

    ``max_cost_usd`` is for the whole run: ``spent_usd`` is what its earlier sittings cost. Raises ``BudgetReached``
    once the money is spent: no new episode is started, those in play are finished and kept. Raises the ``ModelError``
    of a model that never answers, refuses the key, or fails in three episodes in a row.
    """
    planned = plan_episodes(config, tasks)
    have = resources.recorder.existing(config.run_id)
    left = [episode for episode in planned if episode.trajectory_id not in have]
    session = _Session(config, resources, len(planned), len(planned) - len(left), max_cost_usd, spent_usd, on_done)
    # A mirror arm needs the finished share of the arm that it mirrors, so it waits for all of those.
    for mirrors in (False, True):
        await session.play([e for e in left if (e.arm.share_from is not None) is mirrors], jobs)
    return session.played


class _Session:
    """One sitting of a run: counts what is done and spent."""

    def __init__(
        self,
        config: RunConfig,
        resources: Resources,
        total: int,
        done: int,
        max_cost_usd: float | None,
        spent_usd: float,
        on_done: Callable[[EpisodeDone], None],
    ) -> None:
        self.config = config
        self.resources = resources
        self.total = total
        self.done = done
        self.played = 0
        self.max_cost_usd = max_cost_usd
        self.spent_usd = spent_usd
        self.on_done = on_done
        self.health = {Answerer.STUDENT: Health(), Answerer.TEACHER: Health()}

    async def play(self, episodes: list[Planned], jobs: int) -> None:
        queue = iter(episodes)

        async def worker() -> None:
            async with self.resources.lease() as environment:
                while not self._over_budget() and (episode := next(queue, None)) is not None:
                    await self._one(episode, environment)

        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(min(jobs, len(episodes))):
                    group.create_task(worker())
        except* Exception as problems:
            raise _first(problems) from None
        if self._over_budget() and next(queue, None) is not None:
            raise BudgetReached(
                f"Spent ${self.spent_usd:.4f}, the limit of --max-cost {self.max_cost_usd} is reached. "
                f"{self.done} of {self.total} episodes are recorded. A higher --max-cost goes on."
            )

    def _over_budget(self) -> bool:
        return self.max_cost_usd is not None and self.spent_usd >= self.max_cost_usd

    async def _one(self, episode: Planned, environment: AsyncEnvironment) -> None:
        spec = EpisodeSpec(
            trajectory_id=episode.trajectory_id,
            task=episode.task,
            seed=episode.seed,
            arm=self._with_share(episode.arm, episode.seed),
            max_steps=self.config.max_steps,
            instructions=self.config.instructions,
            run_id=self.config.run_id,
            namespace=self.config.namespace,
            config_digest=self.config.digest,
            prices_date=self.config.prices_date,
        )
        trajectory = await run_episode(spec, self._parts(spec, environment))
        outage = next((error for health in self.health.values() if (error := health.after_episode())), None)
        if outage is not None and not _answered(trajectory):
            raise outage  # nothing happened that is worth a record: the episode is played when the run goes on
        await self._append(trajectory)
        cost = self.resources.price(trajectory)
        self.spent_usd += cost or 0.0
        self.done += 1
        self.played += 1
        self.on_done(EpisodeDone(trajectory, cost, self.done, self.total))
        if outage is not None:
            raise outage
        if cost is None and self.max_cost_usd is not None:
            raise UnknownPrice(
                f"--max-cost {self.max_cost_usd} cannot be kept: what the last episode cost is not known (a model "
                f"without a price, or an endpoint that reports no tokens). {self.done} of {self.total} episodes are "
                "recorded. Add the price to potstill-prices.toml or give --price-student-as, or lift the "
                "limit: --max-cost inf"
            )

    async def _append(self, trajectory: Trajectory) -> None:
        """Keep an episode that is complete, also if the run is being cancelled: then wait until it is durable."""
        writing = asyncio.ensure_future(asyncio.to_thread(self.resources.recorder.append, trajectory))
        try:
            await asyncio.shield(writing)
        except asyncio.CancelledError:
            await writing
            raise

    def _with_share(self, arm: Arm, seed: int) -> Arm:
        if arm.share_from is None:
            return arm
        share = self.resources.recorder.teacher_share(self.config.run_id, arm.share_from)
        if share is None:
            raise ConfigError(f"Arm '{arm.name}' mirrors '{arm.share_from}', which recorded no steps in this run.")
        policy = msgspec.structs.replace(arm.policy, teacher_share=share, seed=seed)
        return msgspec.structs.replace(arm, policy=policy)

    def _parts(self, spec: EpisodeSpec, environment: AsyncEnvironment) -> Parts:
        arm, resources = spec.arm, self.resources
        return Parts(
            environment=environment,
            keep_blob=resources.recorder.put_blob,
            rule=agreement_rule(arm.policy.rule),
            teacher=self._side(Answerer.TEACHER, resources.teacher, spec, environment) if arm.needs_teacher else None,
            student=self._side(Answerer.STUDENT, resources.student, spec, environment) if arm.needs_student else None,
            context=resources.context(arm, spec.seed) if not arm.control else None,
            control=resources.control(arm) if arm.control else None,
        )

    def _side(self, answerer: Answerer, model: Model | None, spec: EpisodeSpec, environment: AsyncEnvironment) -> Side:
        if model is None:
            raise ConfigError(f"Arm '{spec.arm.name}' needs a {answerer.value}. Type: --{answerer.value} MODEL")
        agent = spec.arm.teacher_agent if answerer is Answerer.TEACHER else spec.arm.student_agent
        health = self.health[answerer]
        return Side(model, answerer, agent, seed=spec.seed, handle=environment, health=health)


def _first(problems: ExceptionGroup[Exception]) -> Exception:
    """What stopped the run: an error with a sentence for the user before any other."""
    return next((error for error in problems.exceptions if isinstance(error, PotstillError)), problems.exceptions[0])


def _answered(trajectory: Trajectory) -> bool:
    return any(call.replies for step in trajectory.steps for call in step.calls)
