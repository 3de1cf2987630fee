"""What the benches of the ways to learn share: a house with hidden rules, teachers of known quality, students, scores.

Each seed is another house, other teachers' errors, and other first weights. A student chooses among the actions that
the house lists and plays test orders that nobody taught on; success is an order got out without breaking a rule.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from potstill.distill.weights.data import Labelled, build
from potstill.distill.weights.policies.ranker import arrays_of
from potstill.distill.weights.train.config import TrainConfig
from potstill.distill.weights.train.ranker import Prepared, prepare, teach
from potstill.distill.weights.train.recipe import RankerRecipe
from potstill.edge.policy import network
from potstill.envs.registry import factory, open_source
from potstill.measure.statistics import paired_difference, wilson_by_task
from potstill.protocols import Environment
from potstill.trajectories.situations import situation_of
from potstill.types import Action, Answerer, Observation, Situation, Step, Task, Trajectory, TrajectoryKind

RULES = 6
MOST_STEPS = 30
Acts = Callable[[Environment, Situation, Observation], str]
Scores = dict[tuple[str, int], float]
"""(task, seed) -> 1 where it was done."""


class World(NamedTuple):
    seed: int
    train: Sequence[Task]
    test: Sequence[Task]


def world(seed: int, train: int, test: int) -> World:
    source = open_source("house-rules", rules_seed=seed, rules=RULES, train=train, test=test)
    return World(seed, source.tasks("train"), source.tasks("test"))


def expert(environment: Environment, situation: Situation, seen: Observation) -> str:
    action = environment.expert_action()
    assert action is not None, "the house has an expert until the order is out"
    return action.text


def erring(share: float, seed: int, *, stubborn: bool = False) -> Acts:
    """The expert, but in this share of situations another action: any other, or always the next one in the list."""
    chance = random.Random(seed)

    def act(environment: Environment, situation: Situation, seen: Observation) -> str:
        right, listed = expert(environment, situation, seen), list(seen.admissible or ())
        if len(listed) < 2 or chance.random() >= share:
            return right
        if stubborn:
            return listed[(listed.index(right) + 1) % len(listed)]
        return chance.choice([action for action in listed if action != right])

    return act


def play(task: Task, acts: Acts, name: str, answerer: Answerer = Answerer.TEACHER) -> Trajectory:
    environment = factory("house-rules", feedback="none")()
    seen, steps = environment.reset(task, 0), list[Step]()
    while not seen.done and len(steps) < MOST_STEPS:
        action = Action(text=acts(environment, situation_of(task.goal, "", steps, seen), seen))
        steps.append(Step(index=len(steps), observation=seen, action=action, answerer=answerer))
        seen = environment.step(action)
    return Trajectory(
        id=f"{name}-{task.id}",
        task=task,
        kind=TrajectoryKind.TEACHER,
        teacher=name,
        goal=task.goal,
        steps=tuple(steps),
        outcome=environment.outcome(),
    )


def decisions_of(episodes: Sequence[Trajectory], **more: Any) -> list[Labelled]:
    """All decisions of the episodes in one split."""
    return build(episodes, fractions={"train": 1.0}, **more).splits["train"]


class Student(NamedTuple):
    prepared: Prepared
    cpu_s: float
    steps: int


def taught(decisions: Sequence[Labelled], *, steps: int, seed: int, **config: Any) -> Student:
    """A ranker after exactly so many gradient steps; nothing is held out, the last weights count."""
    recipe = RankerRecipe(width=32, train=TrainConfig(seed=seed, steps=steps, batch=32, **config))
    prepared = prepare(decisions, decisions[:1], recipe)
    prepared = prepared._replace(held_out=prepared.data)
    recipe = msgspec.structs.replace(recipe, train=msgspec.structs.replace(recipe.train, evaluate_every=steps))
    started = time.process_time()
    done = teach(prepared, recipe)
    return Student(prepared, time.process_time() - started, done.steps)


def acting(student: Student) -> Acts:
    """The trained network as its file would act, greedily."""
    trained = student.prepared.network
    runtime = network(arrays_of(trained), trained.shape.config())

    def act(environment: Environment, situation: Situation, seen: Observation) -> str:
        listed = tuple(dict.fromkeys(seen.admissible or ()))
        logits = runtime.logits(msgspec.to_builtins(situation), listed)  # type: ignore[union-attr]
        return listed[int(logits.argmax())]

    return act


def scores(of: World, acts: Acts) -> Scores:
    return {(task.id, of.seed): float(play(task, acts, "student").succeeded) for task in of.test}


def row(recipe: str, found: Scores, **more: Any) -> dict[str, Any]:
    """Success over all seeds with its interval, houses being the clusters."""
    by_house: dict[int, list[float]] = {}
    for (_, seed), value in found.items():
        by_house.setdefault(seed, []).append(value)
    interval = wilson_by_task([sum(values) for values in by_house.values()], [len(v) for v in by_house.values()])
    won = sum(found.values())
    return {
        "recipe": recipe,
        "houses": len(by_house),
        "orders": len(found),
        "success": won / len(found),
        "success_ci": None if interval is None else list(interval),
        **more,
    }


def difference(way: str, of: str, ours: Scores, against: str, theirs: Scores) -> dict[str, Any]:
    """Success minus the twin's on the same orders of the same houses; the interval resamples orders."""
    found = paired_difference(ours, theirs)
    assert found is not None, "both played the same orders"
    told: Mapping[str, Any] = {"difference": found.difference, "difference_ci": found.difference_ci}
    return {"way": way, "of": of, "against": against, "n": found.n, **told}
