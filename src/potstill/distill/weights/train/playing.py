"""Whole episodes of a network in training: how many tasks it does, and which.

Plays by the same loop as ``potstill run``, greedily, and keeps no episode. It knows environments by name. It does not
know how a network is trained, nor choose tasks: they come in, and are best ones that were not learnt from.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self, cast

import numpy as np

from potstill.decide.policy import Policy as Deciding
from potstill.decide.policy import PolicyKind
from potstill.distill.weights.gate import Side
from potstill.distill.weights.gate_shapes import Question
from potstill.distill.weights.gate_success import Outcomes
from potstill.distill.weights.policies.ranker import arrays_of
from potstill.edge.mlp import Mlp
from potstill.edge.policy import Policy, network
from potstill.edge.ranker import Ranker
from potstill.edge.vectors import VectorReader
from potstill.envs.registry import describe, factory
from potstill.envs.worker import WorkerPool
from potstill.errors import ConfigError
from potstill.models.policy import PolicyModel, Reader, reader_of
from potstill.protocols import Model
from potstill.run.arms import Agent, Arm
from potstill.run.runner import Resources, RunConfig, run_episodes
from potstill.types import Past, Situation, Task, Trajectory

NAME = "policy:in-training"
SILENT = Agent()
"""A policy reads no prompt."""


class Player:
    """Plays the same tasks with one policy after another; use it in a ``with`` block, which ends its workers.

    >>> with Player("alfworld", tasks, directory="games") as player:  # doctest: +SKIP
    ...     train(network, data, config, evaluate=player)
    """

    def __init__(
        self,
        environment: str,
        tasks: Sequence[Task],
        *,
        max_steps: int | None = None,
        jobs: int = 1,
        agent: Agent = SILENT,
        **options: Any,
    ) -> None:
        """``agent``: how a language model is spoken to. ``options`` are the environment's.

        Raises ``ConfigError`` for no task, and as ``envs.registry`` does.
        """
        if not tasks:
            raise ConfigError("There is no task to play.")
        world = describe(environment, **options)
        deciding = Deciding(kind=PolicyKind.STUDENT, alone_temperature=0.0, rule=world.rule)
        self._tasks = list(tasks)
        self._config = RunConfig(
            run_id="in-training",
            environment=environment,
            split=tasks[0].split,
            arms=(Arm(name="student", policy=deciding, student_agent=agent),),
            n=len(self._tasks),
            max_steps=max_steps or world.max_steps,
            instructions=world.instructions,
            student=NAME,
            environment_options=options,
        )
        self._jobs = jobs
        self._pool = WorkerPool(factory(environment, **options), jobs)
        self._runner = asyncio.Runner()

    @property
    def name(self) -> str:
        """Which tasks, as a checkpoint remembers it."""
        ids = "\n".join(task.id for task in self._tasks)
        return f"{len(self._tasks)} tasks {hashlib.sha256(ids.encode()).hexdigest()[:12]}, {self._config.max_steps}"

    def __enter__(self) -> Self:
        self._runner.run(self._pool.__aenter__())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._runner.run(self._pool.__aexit__(kind, error, trace))
        self._runner.close()

    def __call__(self, trained: Any) -> float:
        """The share of the tasks that a network in training does."""
        return self.success(self.outcomes(acting(trained)))

    def success(self, outcomes: Outcomes) -> float:
        """The share of tasks that were done."""
        return sum(outcomes.values()) / len(outcomes)

    def outcomes(self, policy: Policy) -> Outcomes:
        """Task and seed -> whether a policy as it acts does it. What breaks an episode counts as failure."""
        return self._played(policy, reader_of(policy.network))

    def outcomes_of(self, side: Side, policy: Policy) -> Outcomes:
        """The same for a network as the gate asks it; ``policy`` gives the calibration only."""
        if isinstance(policy.network, Mlp):
            return self._played(policy, VectorReader(policy.network.actions, lambda vector: side([vector])[0]))
        return self._played(policy, cast(Ranker, _Answering(side)))

    def _played(self, policy: Policy, network: Reader) -> Outcomes:
        return self.outcomes_by(PolicyModel(NAME, policy, network))

    def outcomes_by(self, student: Model) -> Outcomes:
        """The same for any model, which stays open."""
        kept = _Kept()
        resources = Resources(recorder=kept, lease=self._pool.lease, student=student)
        self._runner.run(run_episodes(self._config, self._tasks, resources, jobs=self._jobs))
        return kept.outcomes


def acting(trained: Any) -> Policy:
    """A network in training as it would act, without a file."""
    arrays, config = arrays_of(trained), trained.shape.config()
    return Policy(network(arrays, config), config, {}, arrays, 1.0)


class _Answering:
    """A side of the gate where a runtime's network is expected."""

    def __init__(self, side: Side) -> None:
        self._side = side

    def logits(self, situation: Mapping[str, Any], candidates: Sequence[str]) -> np.ndarray:
        past = tuple(Past(**turn) for turn in situation.get("past", ()))
        question = Question(situation=Situation(**{**situation, "past": past}), admissible=tuple(candidates))
        return np.asarray(self._side([question])[0], np.float32)


class _Kept:
    """A recorder that remembers outcomes alone."""

    def __init__(self) -> None:
        self.outcomes: dict[tuple[str, int], bool] = {}

    def append(self, trajectory: Trajectory) -> None:
        self.outcomes[trajectory.task.id, trajectory.seed] = trajectory.succeeded

    def put_blob(self, content: bytes, media_type: str) -> None:
        """Nobody looks at it again."""

    def existing(self, run_id: str) -> set[str]:
        return set()

    def teacher_share(self, run_id: str, arm: str) -> float | None:
        return None
