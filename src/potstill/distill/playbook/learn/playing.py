"""Episodes of a learning run: played by the Generator, kept in the store, found again when the run goes on.

What it knows: tags and ids, the order of results, who played how often. What it does not do: judge (the outcome is in
the trajectory), reflect.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import NamedTuple

from potstill.distill.playbook.book import Playbook
from potstill.distill.playbook.learn.bill import Bill, Part
from potstill.distill.playbook.learn.contract import Roles, Tasks, episode_id
from potstill.distill.playbook.learn.health import Health
from potstill.distill.playbook.learn.journal import Journal, Kind, Skip
from potstill.distill.playbook.learn.settings import Settings
from potstill.distill.playbook.learn.together import finished, together
from potstill.distill.playbook.roles.asking import paying
from potstill.distill.playbook.roles.contract import Case
from potstill.distill.playbook.roles.rounds import Retry
from potstill.distill.playbook.said import Reflection
from potstill.errors import ConfigError, EnvError, ModelError, StoreError
from potstill.types import Task, Trajectory


class Played(NamedTuple):
    """Of several tasks, in their order."""

    episodes: tuple[str, ...]
    """Ids; empty where one could not be played."""
    known: int
    succeeded: int
    skipped: tuple[Skip, ...]


def replays(book: Playbook, run: str) -> set[str]:
    """Ids of the episodes in which this run played a task again, and told the student what had been thought about its
    last attempt: what became of them says nothing of how tasks are done unaided. Blocks; there may be more ids than
    episodes. Raises ``StoreError``."""
    rows = [row for _, row in Journal(book, run).rows()]
    rounds = max((row.settings.rounds for row in rows if row.settings is not None), default=0)
    base = _base(book, run)
    played = [id for row in rows if row.kind is Kind.PLAY for id in row.episodes if id]
    return {episode_id(f"{base}/{_again(id, times)}") for id in played for times in range(1, rounds)}


def _base(book: Playbook, run: str) -> str:
    """What the tags of a run's episodes begin with."""
    return f"{book.namespace}/{book.name}/{run}"


def _again(id: str, times: int) -> str:
    return f"again/{id}/{times}"


class Player:
    """Plays for one run."""

    def __init__(
        self, book: Playbook, run: str, tasks: Tasks, roles: Roles, settings: Settings, health: Health, bill: Bill
    ) -> None:
        self._book = book
        self._base = _base(book, run)
        self._tasks = tasks
        self._roles = roles
        self._settings = settings
        self._health = health
        self._bill = bill

    async def window(self, epoch: int, items: Sequence[int]) -> Played:
        """Play tasks to learn from, by their places. Raises where no other task would fare better."""
        plays = [(f"play/{epoch}/{item}", self._tasks.tasks[item]) for item in items]
        return await self._all(Part.GENERATOR, plays)

    async def validation(self, number: int) -> Played:
        """Play all tasks that are validated on."""
        plays = [(f"validate/{number}/{item}", task) for item, task in enumerate(self._tasks.validation)]
        return await self._all(Part.VALIDATION, plays)

    def again(self, trajectory: Trajectory) -> Retry:
        """Play the same task once more with a reflection in the context; each time is another episode."""
        times = 0

        async def play(case: Case, reflection: Reflection) -> Case:
            nonlocal times
            times += 1
            made = await self._one(Part.GENERATOR, trajectory.task, _again(trajectory.id, times), reflection)
            return await asyncio.to_thread(self._roles.case, made)

        return play

    async def _all(self, part: Part, plays: Sequence[tuple[str, Task]]) -> Played:
        works = (self._one_or_error(part, task, tag) for tag, task in plays)
        made = await together(works, self._settings.parallel)
        errors = [None if isinstance(one, Trajectory) else one for one in made]
        self._health.saw(part, errors)
        self._health.check()
        tags = [tag for tag, _ in plays]
        episodes = [one for one in made if isinstance(one, Trajectory)]
        known = [one for one in episodes if one.outcome is not None and one.outcome.success is not None]
        return Played(
            episodes=tuple(one.id if isinstance(one, Trajectory) else "" for one in made),
            known=len(known),
            succeeded=sum(one.succeeded for one in known),
            skipped=tuple(
                Skip(episode=self._id(tag), why=type(error).__name__)
                for tag, error in zip(tags, errors, strict=True)
                if error is not None
            ),
        )

    async def _one_or_error(self, part: Part, task: Task, tag: str) -> Trajectory | ModelError | EnvError:
        try:
            return await self._one(part, task, tag, None)
        except (ModelError, EnvError) as error:
            await self._bill.paid(part, error.calls if isinstance(error, ModelError) else ())
            return error

    async def _one(self, part: Part, task: Task, tag: str, reflection: Reflection | None) -> Trajectory:
        full = f"{self._base}/{tag}"
        trajectory = await asyncio.to_thread(self._held, self._id(tag))
        if trajectory is None:
            with paying(lambda calls: self._bill.paid(part, calls)):
                made = self._tasks.generator.play(task, self._settings.seed, reflection=reflection, tag=full)
                trajectory = await made
            _check(trajectory, self._id(tag), self._book.namespace)
            played = trajectory
            await finished(lambda: self._book.store.append(played))
        self._bill.add_episode(part, trajectory)
        return trajectory

    def _id(self, tag: str) -> str:
        return episode_id(f"{self._base}/{tag}")

    def _held(self, id: str) -> Trajectory | None:
        try:
            return self._book.store.get(id, namespace=self._book.namespace)
        except StoreError:
            return None


def _check(trajectory: Trajectory, id: str, namespace: str) -> None:
    """The Generator's part of the contract, without which a run could not go on exactly, or would mix tenants."""
    if trajectory.id != id:
        raise ConfigError(
            f"The Generator recorded an episode as {trajectory.id!r}. It must have the id that its tag gives: "
            f"episode_id(tag) is {id!r}."
        )
    if trajectory.namespace != namespace:
        raise ConfigError(
            f"The Generator recorded an episode of namespace {trajectory.namespace!r}; the playbook belongs to "
            f"{namespace!r}, and lessons never cross tenants."
        )
