"""Rounds of DAgger (arXiv 1011.0686): a student's own episodes, recorded with what the teacher would have done.

What it knows: which episodes a round plays, and how many labels are left. What it does not do: decide a step
(``decide.labelling``), train (``loop``), merge labels with what was learnt before (``data``).

Episodes go into the store as any run's, an arm a round, so that ``measure`` prices the labels. A round that was killed
plays what the store does not hold yet.
"""

from __future__ import annotations

import asyncio
import functools
import random
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import NamedTuple, Self

import msgspec

from potstill.decide.policy import Labelling, PolicyKind
from potstill.decide.policy import Policy as Deciding
from potstill.distill.weights.train.mixing import Dagger, part_of, wave_of
from potstill.envs.registry import factory
from potstill.envs.worker import WorkerPool
from potstill.models.policy import PolicyModel
from potstill.protocols import Model
from potstill.run.arms import Arm
from potstill.run.recorder import StoreRecorder
from potstill.run.runner import EpisodeDone, Resources, RunConfig, plan_episodes, run_episodes
from potstill.trajectories import Store
from potstill.types import Answerer, Task, Trajectory


class Episode(NamedTuple):
    """What is remembered of an episode."""

    labels: int
    succeeded: bool
    steps: int


class Round(NamedTuple):
    """What a round has recorded so far."""

    number: int
    """From 1."""
    beta: float
    budget: int
    """Labels that it may ask for."""
    labels: int = 0
    episodes: int = 0
    successes: int = 0
    steps: int = 0

    def with_episode(self, one: Episode) -> Round:
        return self._replace(
            labels=self.labels + one.labels,
            episodes=self.episodes + 1,
            successes=self.successes + one.succeeded,
            steps=self.steps + one.steps,
        )


def labels_in(trajectory: Trajectory) -> int:
    """How often the teacher answered, whether or not its answer was executed."""
    return sum(
        step.answerer is Answerer.TEACHER or (step.decision is not None and step.decision.label is not None)
        for step in trajectory.steps
    )


def episode_of(trajectory: Trajectory) -> Episode:
    return Episode(labels_in(trajectory), trajectory.succeeded, len(trajectory.steps))


def arm_name(index: int) -> str:
    """Rounds are counted from 1 where a user sees them."""
    return f"round-{index + 1}"


def arm_of(recipe: Dagger, index: int, *, rule: str, seed: int, most: int | None = None) -> Arm:
    """How a round is played, each episode asking for ``most`` labels; None: no limit."""
    labelling = Labelling(
        beta=recipe.beta.at(index, recipe.rounds),
        certainty=recipe.certainty,
        below=recipe.below,
        share=recipe.share,
        most=most,
    )
    policy = Deciding(
        kind=PolicyKind.LABELLING, labelling=labelling, alone_temperature=0.0, rule=rule, seed=seed + index
    )
    return Arm(name=arm_name(index), policy=policy)


def tasks_of_round(tasks: Sequence[Task], recipe: Dagger, index: int, seed: int) -> list[Task]:
    """All tasks in an order that seed and round give, as many as a round may play."""
    order = random.Random(f"{seed} {index}").sample(range(len(tasks)), len(tasks))
    return [tasks[position] for position in order[: recipe.episodes]]


class Collector:
    """Plays the rounds' episodes; use it in a ``with`` block, which ends its workers.

    ``config``: the run, with an arm a round (``arm_of``) and the environment's options. ``tasks``: those that may be
    learnt from. ``price``: an episode's dollars, None where unknown; ``max_cost_usd``: of the whole run.
    """

    def __init__(
        self,
        config: RunConfig,
        recipe: Dagger,
        tasks: Sequence[Task],
        store: Store,
        teacher: Model,
        *,
        rule: str,
        jobs: int = 1,
        price: Callable[[Trajectory], float | None] = lambda trajectory: None,
    ) -> None:
        self._config = config
        self._recipe = recipe
        self._tasks = tasks
        self._store = store
        self._teacher = teacher
        self._rule = rule
        self._jobs = jobs
        self._price = price
        self._spent = 0.0
        self._pool = WorkerPool(factory(config.environment, **config.environment_options), jobs)
        self._runner = asyncio.Runner()

    def __enter__(self) -> Self:
        self._runner.run(self._pool.__aenter__())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._runner.run(self._pool.__aexit__(kind, error, trace))
        self._runner.run(self._teacher.aclose())
        self._runner.close()

    def collect(self, student: PolicyModel, index: int, watch: Callable[[Round], None] = lambda so_far: None) -> Round:
        """Play a round (from 0) until its labels, its tasks or its episodes are used up; ``watch`` hears each episode.

        Episodes that are in the store count and are not played again. Raises as ``run_episodes``.
        """
        recipe = self._recipe
        budget = part_of(recipe.labels, recipe.rounds, index)
        so_far = Round(index + 1, recipe.beta.at(index, recipe.rounds), budget)
        have = self._recorded(index)
        waiting = tasks_of_round(self._tasks, recipe, index, self._config.seed)
        while waiting and so_far.labels < budget:
            wave = wave_of(budget - so_far.labels, self._config.max_steps)
            tasks, waiting = waiting[: wave.episodes], waiting[wave.episodes :]
            arm = arm_of(recipe, index, rule=self._rule, seed=self._config.seed, most=wave.most)
            config = msgspec.structs.replace(self._config, arms=(arm,), n=len(tasks))
            self._play(config, tasks, student, have, functools.partial(_tell, watch, so_far, config, tasks, have))
            so_far = _with(so_far, config, tasks, have)
        watch(so_far)
        return so_far

    def _play(
        self,
        config: RunConfig,
        tasks: Sequence[Task],
        student: PolicyModel,
        have: dict[str, Episode],
        hear: Callable[[], None],
    ) -> None:
        def done(event: EpisodeDone) -> None:
            have[event.trajectory.id] = episode_of(event.trajectory)
            self._spent += event.cost_usd or 0.0
            hear()

        resources = Resources(
            recorder=StoreRecorder(self._store, config.namespace),
            lease=self._pool.lease,
            teacher=self._teacher,
            student=student,
            price=self._price,
        )
        playing = run_episodes(
            config,
            tasks,
            resources,
            jobs=self._jobs,
            max_cost_usd=config.max_cost_usd,
            spent_usd=self._spent,
            on_done=done,
        )
        self._runner.run(playing)

    def _recorded(self, index: int) -> dict[str, Episode]:
        """A round's episodes that an earlier sitting recorded; what they cost counts."""
        config, have = self._config, dict[str, Episode]()
        for trajectory in self._store.select(run_id=config.run_id, arm=arm_name(index), namespace=config.namespace):
            have[trajectory.id] = episode_of(trajectory)
            self._spent += self._price(trajectory) or 0.0
        return have


def _tell(
    watch: Callable[[Round], None], so_far: Round, config: RunConfig, tasks: Sequence[Task], have: Mapping[str, Episode]
) -> None:
    watch(_with(so_far, config, tasks, have))


def _with(so_far: Round, config: RunConfig, tasks: Sequence[Task], have: Mapping[str, Episode]) -> Round:
    """With those of these episodes that are recorded."""
    for planned in plan_episodes(config, tasks):
        if planned.trajectory_id in have:
            so_far = so_far.with_episode(have[planned.trajectory_id])
    return so_far
