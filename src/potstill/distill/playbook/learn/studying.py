"""From an episode to a lesson: its case, the rounds of reflection, and the votes that come with them.

What it knows: what a Reflector is shown, what becomes of one that fails. What it does not do: write (``writing``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from potstill.distill.playbook.learn.bill import Bill, Part
from potstill.distill.playbook.learn.contract import Roles
from potstill.distill.playbook.learn.health import Health
from potstill.distill.playbook.learn.journal import Skip
from potstill.distill.playbook.learn.policy import NotTaken, Why
from potstill.distill.playbook.learn.settings import Settings
from potstill.distill.playbook.learn.together import together
from potstill.distill.playbook.operations import Bullet, Tag
from potstill.distill.playbook.roles.contract import Case, Lesson
from potstill.distill.playbook.roles.evidence import of_book
from potstill.distill.playbook.roles.rounds import Refined, Retry, reflect_in_rounds
from potstill.errors import EnvError, ModelError
from potstill.types import Call, Trajectory

Shown = Callable[[Sequence[str]], Mapping[str, Bullet]]
"""Bullets by id, as they are now, removed ones left out."""
Again = Callable[[Trajectory], Retry]
"""How the task of this episode is played again."""


class Studied(NamedTuple):
    """What came of one episode."""

    case: Case
    lesson: Lesson | None = None
    tags: tuple[Tag, ...] = ()
    skip: Skip | None = None
    """Why there is no lesson."""
    refused: tuple[NotTaken, ...] = ()


class Study:
    """Reflects for one run. ``book``: the name of the one that learns; ``again``: None where episodes are not played
    again."""

    def __init__(
        self, book: str, roles: Roles, settings: Settings, health: Health, bill: Bill, again: Again | None
    ) -> None:
        self._book = book
        self._roles = roles
        self._settings = settings
        self._health = health
        self._bill = bill
        self._again = again

    async def all(self, trajectories: Sequence[Trajectory], shown: Shown) -> list[Studied]:
        """In the order of the episodes, whichever is done first. An episode whose Reflector failed is skipped; raises
        where no other one would fare better."""
        made = await together((self._one(each, shown) for each in trajectories), self._settings.parallel)
        self._health.saw(Part.REFLECTOR, [error for _, error in made])
        self._health.check()
        return [studied for studied, _ in made]

    async def _one(self, trajectory: Trajectory, shown: Shown) -> tuple[Studied, ModelError | EnvError | None]:
        case = of_book(await asyncio.to_thread(self._roles.case, trajectory), trajectory, self._book)
        failed = case.success is False  # what nobody judged would be played again for nothing
        retry = self._again(trajectory) if self._again is not None and self._settings.replay and failed else None
        rounds = self._settings.rounds
        try:
            made = await reflect_in_rounds(self._roles.reflector, case, shown(case.shown), rounds, retry, self._paid)
        except (ModelError, EnvError) as error:
            return Studied(case, skip=Skip(episode=case.id, why=type(error).__name__)), error
        return self._studied(case, made), None

    async def _paid(self, calls: Sequence[Call]) -> None:
        await self._bill.paid(Part.REFLECTOR, calls)

    def _studied(self, case: Case, made: Refined) -> Studied:
        refused = tuple(NotTaken(one.why, str(one)) for one in made.refused)
        if made.reflection is None:
            why = made.refused[0].why if made.refused else Why.ANSWER
            return Studied(case, skip=Skip(episode=case.id, why=why), refused=refused)
        lesson = Lesson(
            sources=(case.id,),
            goal=case.goal,
            reflection=made.reflection,
            signal=case.signal,
            success=case.success,
            proven=made.proven,
        )
        tags = made.tags if self._settings.tags else ()
        return Studied(case, lesson, tags, refused=refused)
