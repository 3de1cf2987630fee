"""Whether a retrained policy may act: it must not be worse on what is new, nor on what was known.

What it knows: which judges there are (decisions of the teacher, episodes played), and that every one must agree. What
it does not do: compare (``distill.weights.continual.judging``), train, or replace files.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from potstill.cli.training.held_out_play import tasks_of
from potstill.cli.training.retrain_data import Gathered
from potstill.cli.training.retrain_plan import RetrainPlan
from potstill.distill.weights.continual import judging
from potstill.distill.weights.data import Labelled
from potstill.edge.policy import Policy
from potstill.measure.comparison_result import Comparison
from potstill.types import Task

if TYPE_CHECKING:
    from potstill.distill.weights.gate_success import Outcomes
    from potstill.distill.weights.train.playing import Player

EPISODES, DECISIONS = "episodes", "held-out decisions"


class Verdict(NamedTuple):
    """One judge's word: the retrained policy (A) against the one that acts (B)."""

    by: str
    comparison: Comparison

    def row(self) -> dict[str, Any]:
        one = self.comparison
        return {
            "judged_by": self.by,
            "n": one.n,
            "tasks": one.tasks,
            "new_success": one.success_a,
            "success": one.success_b,
            "difference": one.difference,
            "difference_ci": one.difference_ci,
            "non_inferior": one.non_inferior,
        }


class Judged(NamedTuple):
    """``old``: of what was known, by each judge that could be asked."""

    new: Verdict
    old: tuple[Verdict, ...]

    @property
    def promoted(self) -> bool:
        return self.shown and all(one.comparison.non_inferior for one in (self.new, *self.old))

    @property
    def shown(self) -> bool:
        """Two policies that do none of the new tasks are equally good, which is no reason to change."""
        return self.new.comparison.success_a > 0

    @property
    def why(self) -> str:
        """Of the first judge that did not agree, else of the new episodes."""
        if not self.shown:
            return (
                f"It did none of the {self.new.comparison.n} new {self.new.by}, so nothing shows that it learnt them. "
                "Train it longer (--steps), or record more episodes."
            )
        if not self.new.comparison.non_inferior:
            return judging.said(self.new.comparison)
        for one in self.old:
            if not one.comparison.non_inferior:
                return f"On what it knew before ({one.by}): {judging.said(one.comparison)}"
        return judging.said(self.new.comparison)

    def told(self) -> dict[str, Any]:
        """For the history: the comparison on what is new, whether every judge agreed, and the old ones' words."""
        told = {name: value for name, value in self.new.comparison.to_json().items() if name not in _LEFT_OUT}
        return {**told, "old": [one.row() for one in self.old]}


_LEFT_OUT = ("baselines", "a", "b")


class Games(NamedTuple):
    """A player of held-out tasks, and which of them are of the new episodes and of the old data."""

    player: Player
    new: frozenset[str]
    old: frozenset[str]


def games_of(plan: RetrainPlan, data: Gathered) -> Games | None:
    """None where nothing is to be played. Old tasks are played where the environment still has them.

    Raises ``ConfigError`` where it has none of the new ones.
    """
    made = plan.made
    if not made.play:
        return None
    from potstill.distill.weights.train.playing import Player

    here = [one for one in data.old if one.environment == made.environment]

    def drawn(held_out: list[Labelled], *, any_needed: bool) -> list[Task]:
        splits, seed = [made.filters["split"]], made.recipe.train.seed
        return tasks_of(made.environment, splits, held_out, made.play, seed, made.playing, any_needed=any_needed)

    new, old = drawn(data.new, any_needed=True), drawn(here, any_needed=False)
    ids = frozenset(task.id for task in new)
    both = [*new, *(task for task in old if task.id not in ids)]
    return Games(Player(made.environment, both, **made.playing), ids, frozenset(task.id for task in old))


def judged(plan: RetrainPlan, new: Policy, data: Gathered, games: Games | None) -> Judged:
    """What was known is judged by its labels and, where its tasks can be played, by their outcomes, too."""
    seed = plan.made.recipe.train.seed

    def decided(held_out: list[Labelled]) -> Verdict:
        return Verdict(DECISIONS, judging.by_decisions(new, plan.policy, held_out, margin=plan.margin, seed=seed))

    old = [decided(data.old)] if data.old else []
    if games is None:
        return Judged(decided(data.new), tuple(old))
    ours, theirs = games.player.outcomes(new), games.player.outcomes(plan.policy)

    def played(tasks: frozenset[str]) -> Verdict:
        sides = (_of(ours, tasks), _of(theirs, tasks))
        return Verdict(EPISODES, judging.by_episodes(*sides, margin=plan.margin, seed=seed))

    if games.old:
        old.append(played(games.old))
    return Judged(played(games.new), tuple(old))


def _of(outcomes: Outcomes, tasks: frozenset[str]) -> Outcomes:
    return {key: won for key, won in outcomes.items() if key[0] in tasks}
