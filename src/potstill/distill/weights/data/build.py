"""Labelled decisions in memory: from episodes to lists by split, with a report. For data on the disk: ``dataset``.

What it knows: the order of things (find, split by task, merge, refuse what leaks or teaches nothing, weigh). What it
does not do: any of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import NamedTuple

import msgspec

from potstill.distill.weights.data.balance import LIMIT, factors
from potstill.distill.weights.data.checks import refuse_empty, refuse_no_decision, refuse_one_class
from potstill.distill.weights.data.decisions import TEACHER, Counting, Report, labelled
from potstill.distill.weights.data.labelled import Labelled
from potstill.distill.weights.data.leakage import Equal, shared_decisions
from potstill.distill.weights.data.merging import Merging
from potstill.trajectories.splits import split_of
from potstill.types import Answerer, Struct, Task, Trajectory

FRACTIONS = {"train": 0.9, "valid": 0.1}


class Recipe(Struct, frozen=True, kw_only=True):
    """How data are made of episodes; written into the manifest."""

    wanted: tuple[Answerer, ...] = (Answerer.TEACHER,)
    only_successes: bool = True
    by_teacher: bool = False
    """Each decision says which teachers chose it (``Labelled.said``): what ``teachers`` weighs them by."""
    fractions: dict[str, float] = msgspec.field(default_factory=lambda: dict(FRACTIONS))
    """Shares of tasks by split, the one to learn from first; ``{"train": 1.0}``: no split."""
    seed: int = 0
    """Of the split."""
    equal: Equal = Equal.REFUSE
    balanced: bool = True
    limit: float = LIMIT
    past: int | None = None
    """Past turns that a situation keeps, the newest; None: all."""


class Built(NamedTuple):
    splits: dict[str, list[Labelled]]
    report: Report


def build(
    trajectories: Iterable[Trajectory],
    wanted: Collection[Answerer] = TEACHER,
    *,
    only_successes: bool = True,
    by_teacher: bool = False,
    fractions: Mapping[str, float] = FRACTIONS,
    seed: int = 0,
    equal: Equal | str = Equal.REFUSE,
    balanced: bool = True,
    past: int | None = None,
) -> Built:
    """Decisions by split, in the order of episodes' ids and steps, whatever the order in which episodes come.

    Raises ``ConfigError`` for episodes of two tenants or nothing to learn from, ``leakage.Leak`` for equal decisions in
    two splits (``equal="drop"`` takes them out of the earlier one).
    """
    recipe = Recipe(
        wanted=tuple(sorted(wanted)),
        only_successes=only_successes,
        by_teacher=by_teacher,
        fractions=dict(fractions),
        seed=seed,
        equal=Equal(equal),
        balanced=balanced,
        past=past,
    )
    gathering, found = Gathering(recipe), list[Labelled]()
    for decision in gathering.first(trajectories):
        found.append(decision)
    found.sort(key=lambda one: (one.trajectory_id, one.step_index))
    splits: dict[str, list[Labelled]] = {name: [] for name in recipe.fractions}
    for name, decision in gathering.second(found):
        splits[name].append(decision)
    return Built(splits, gathering.report())


class Gathering:
    """Two passes over decisions: ``first`` finds and counts them, ``second`` gives those that stay, with weights."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.counting = Counting()
        self.merging = {name: Merging() for name in recipe.fractions}
        self._dropped = 0
        self._evidence: Counter[str] = Counter()

    def first(
        self, trajectories: Iterable[Trajectory], listen: Callable[[Trajectory], object] | None = None
    ) -> Iterator[Labelled]:
        """Every decision as it is met, then whatever forbids to go on is raised. ``listen``: see ``labelled``."""
        recipe = self.recipe
        for decision in labelled(
            trajectories,
            recipe.wanted,
            only_successes=recipe.only_successes,
            by_teacher=recipe.by_teacher,
            counting=self.counting,
            listen=listen,
            past=recipe.past,
        ):
            self.merging[self.split_of(decision)].add(decision)
            yield decision
        refuse_empty(self.report())
        self._separate()
        for at, (name, merging) in enumerate(self.merging.items()):
            refuse_no_decision(name, len(merging))
            if at == 0:
                refuse_one_class(name, len(merging), merging.actions)

    def second(self, decisions: Iterable[Labelled]) -> Iterator[tuple[str, Labelled]]:
        """Of the same decisions in any order, those that stay, each with its split's name."""
        weights = {
            name: factors(merging.met_by_kind(), len(merging), balanced=self.recipe.balanced, limit=self.recipe.limit)
            for name, merging in self.merging.items()
        }
        for decision in decisions:
            name = self.split_of(decision)
            kept = self.merging[name].kept(decision)
            if kept is not None:
                self._evidence[kept.evidence.value] += 1
                yield (
                    name,
                    msgspec.structs.replace(kept, weight=kept.count * weights[name][kept.environment, kept.kind]),
                )

    def split_of(self, decision: Labelled) -> str:
        task = Task(id=decision.task_id, environment=decision.environment)
        return split_of(task, self.recipe.fractions, self.recipe.seed)

    def report(self) -> Report:
        return msgspec.structs.replace(
            self.counting.report,
            distinct=sum(map(len, self.merging.values())),
            conflicts=sum(merging.conflicts() for merging in self.merging.values()),
            dropped=self._dropped,
            evidence=dict(sorted(self._evidence.items())),
        )

    def _separate(self) -> None:
        """Refuse decisions that two splits share, or take them out of the earlier one."""
        names = list(self.merging)
        for at, earlier in enumerate(names):
            for later in names[at + 1 :]:
                shared = self.merging[earlier].keys() & self.merging[later].keys()
                if shared and self.recipe.equal is Equal.REFUSE:
                    raise shared_decisions(earlier, later, self.merging[later].tasks_of(shared), len(shared))
                self.merging[earlier].drop(shared)
                self._dropped += len(shared)
