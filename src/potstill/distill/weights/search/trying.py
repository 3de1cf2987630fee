"""One trial: a recipe is trained as any is, compared at its rungs, and measured with less of it at its end.

It knows the training loop. It does not choose points, keep trials or read stores.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgspec

from potstill.distill.weights.data.labelled import Labelled
from potstill.distill.weights.search.aim import Goal, cost_of, rivals_at
from potstill.distill.weights.search.halving import goes_on, rungs
from potstill.distill.weights.search.labels import labels_in, share_of, within
from potstill.distill.weights.search.space import Point, recipe_at
from potstill.distill.weights.search.trials import Look, State, Trial, Variant
from potstill.distill.weights.search.variants import variants_of
from potstill.distill.weights.search.weighing import GIVEN, weighed
from potstill.distill.weights.train import students, teaching
from potstill.distill.weights.train.loop import Diverged, Evaluator
from potstill.distill.weights.train.progress import Progress
from potstill.distill.weights.train.recipe import Recipe
from potstill.errors import ConfigError
from potstill.trajectories.splits import split_of
from potstill.types import Task

_SEED = 1
"""Of the split of tasks: with that of the held-out tasks, which are split off first, nobody would be left to judge."""

Watch = Callable[[int, int], None]
"""Told step and steps of the trial that runs."""


class Data(NamedTuple):
    """What trials learn from, and the other tasks that they are judged by."""

    learn: Sequence[Labelled]
    judge: Sequence[Labelled]


def shared_out(learn: Sequence[Labelled], share: float, most_labels: int | None = None) -> Data:
    """Set a share of the tasks apart to judge trials by; the rest is learnt, ``most_labels`` of it at most.

    Raises ``ConfigError`` where there are too few.
    """
    shares = {"learn": 1.0 - share, "judge": share}
    parts: dict[str, list[Labelled]] = {name: [] for name in shares}
    for one in learn:
        parts[split_of(Task(id=one.task_id, environment=one.environment), shares, seed=_SEED)].append(one)
    if not all(parts.values()):
        raise ConfigError(
            f"The {len({one.task_id for one in learn})} tasks to learn from are too few to judge trials by a share of "
            f"{share} of them. Record more tasks, or type a larger --held-out."
        )
    return Data(within(parts["learn"], most_labels), parts["judge"])


def trial_recipe(base: Recipe, point: Point, decisions: int) -> Recipe:
    """A point's recipe with the steps of the full training, however few tasks it learns from, looked at on its rungs,
    and ended by halving alone. ``decisions``: all that could be learnt."""
    recipe = recipe_at(base, point)
    steps = base.train.total(decisions)
    every = (*rungs(steps), steps)[0]
    train = msgspec.structs.replace(recipe.train, steps=steps, evaluate_every=every, patience=0)
    return msgspec.structs.replace(recipe, train=train)


def learnt(decisions: Sequence[Labelled], point: Point) -> list[Labelled]:
    """What a point learns of the data: its share of the tasks, weighed as it chose."""
    return weighed(share_of(decisions, float(point["tasks"])), str(point.get("data", GIVEN)))


def warm_up(base: Recipe, data: Data) -> None:
    """A few steps that count for nothing: PyTorch loads parts of itself in the first, at no trial's expense.

    Raises ``ConfigError`` for data that teach nothing, before there is any trial.
    """
    gently = msgspec.structs.replace(base, train=msgspec.structs.replace(base.train, learning_rate=1e-9))
    teaching.seconds_a_step(students.prepare(data.learn, data.judge, gently), gently)


def attempt(
    point: Point,
    before: Sequence[Trial],
    base: Recipe,
    data: Data,
    evaluate: Evaluator | None,
    watch: Watch,
    goal: Goal = Goal.SUCCESS,
) -> Trial:
    """Train a point until its last step or until better ones stop it.

    ``before``: the trials that ended, of which those stop this one that cost no more by the ``goal``. ``evaluate``
    gives successes; without it, agreement with ``data.judge`` counts. Raises ``ConfigError`` for data that teach
    nothing, ``KeyboardInterrupt`` between two steps.
    """
    started = time.process_time()
    recipe = trial_recipe(base, point, len(data.learn))
    learn = learnt(data.learn, point)
    prepared = students.prepare(learn, data.judge, recipe)
    new = Trial(
        number=len(before),
        point=point,
        state=State.FINISHED,
        steps=0,
        parameters=prepared.parameters,
        labels=labels_in(learn),
    )
    rivals = functools.partial(rivals_at, before, goal=goal, cost=cost_of(goal, new))
    climbing = _Climbing(rivals, rungs(recipe.train.total(len(data.learn))), watch)
    state = State.FINISHED
    try:
        trained = teaching.teach(prepared, recipe, evaluate=evaluate, watch=climbing.told)
        climbing.looks.append(Look(trained.steps, float(trained.best or 0.0)))
    except _Worse:
        state = State.STOPPED
    except Diverged:
        state = State.DIVERGED
    cpu_s = time.process_time() - started
    variants = tuple[Variant, ...]()
    if state is State.FINISHED:
        variants = variants_of(prepared, learn, data.judge, recipe, climbing.looks[-1].value, evaluate)
    return msgspec.structs.replace(
        new,
        state=state,
        steps=climbing.step,
        looks=tuple(climbing.looks),
        variants=variants,
        cpu_s=cpu_s,
        smaller_cpu_s=time.process_time() - started - cpu_s,
    )


class _Worse(Exception):
    """Others were better at a rung."""


class _Climbing:
    """Watches a training: at each rung it is compared with those that were there."""

    def __init__(self, rivals: Callable[[int], Sequence[float]], at: Sequence[int], watch: Watch) -> None:
        self._rivals, self._at, self._watch = rivals, at, watch
        self.looks: list[Look] = []
        self.step = 0

    def told(self, now: Progress, total: int) -> None:
        self.step = now.step
        self._watch(now.step, total)
        if now.step not in self._at or now.looked_at != now.step or now.best is None:
            return
        self.looks.append(Look(now.step, now.best))
        if not goes_on(now.best, self._rivals(now.step)):
            raise _Worse
