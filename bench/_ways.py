"""What the benches of the ways to learn share: a house with hidden rules, teachers of known quality, students, scores.

Each seed is another house, other teachers' errors, and other first weights. A student chooses among the actions that
the house lists and plays test orders that nobody taught on; success is an order got out without breaking a rule.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, cast

import msgspec

from potstill.distill.weights.data import Evidence, Labelled, build
from potstill.distill.weights.policies.ranker import arrays_of
from potstill.distill.weights.policies.texts import TextExamples
from potstill.distill.weights.train.config import TrainConfig
from potstill.distill.weights.train.loop import agreement_of
from potstill.distill.weights.train.ranker import Prepared, prepare, teach
from potstill.distill.weights.train.recipe import RankerRecipe
from potstill.edge.policy import Policy, network
from potstill.edge.ranker import Ranker as EdgeRanker
from potstill.envs.registry import factory, open_source
from potstill.measure.statistics import paired_difference, wilson_by_task
from potstill.models.policy import PolicyModel
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


def taught(
    decisions: Sequence[Labelled],
    *,
    steps: int,
    seed: int,
    held_out: Sequence[Labelled] = (),
    looks: int = 1,
    **config: Any,
) -> Student:
    """A ranker after exactly so many gradient steps. Held-out decisions are looked at ``looks`` times; without them the
    last weights count."""
    train = TrainConfig(seed=seed, steps=steps, batch=32, patience=0, evaluate_every=steps // looks, **config)
    recipe = RankerRecipe(width=32, train=train)
    prepared = prepare(decisions, held_out or decisions[:1], recipe)
    started = time.process_time()
    done = teach(prepared, recipe)
    return Student(prepared, time.process_time() - started, done.steps)


def sampled(decisions: Sequence[Labelled], *, wrong: float, samples: int, seed: int) -> list[Labelled]:
    """The same situations as a black box answers them: so many samples, each wrong with this chance; the first is the
    label."""
    chance, made = random.Random(seed), []
    for one in decisions:
        others = [action for action in one.admissible if action != one.action]
        drawn = [chance.choice(others) if chance.random() < wrong else one.action for _ in range(samples)]
        votes = tuple(drawn.count(action) for action in one.admissible)
        made.append(msgspec.structs.replace(one, action=drawn[0], evidence=Evidence.VOTES, votes=votes))
    return made


def asker(student: Student) -> Callable[[Situation, Sequence[str]], dict[str, float]]:
    """The probability of each action, as the trained network's file would give it."""
    trained = student.prepared.network
    arrays, config = arrays_of(trained), trained.shape.config()
    policy = Policy(network(arrays, config), config, {}, arrays, 1.0)
    model = PolicyModel("policy:in-bench", policy, cast(EdgeRanker, policy.network))
    return model.probabilities


def acting(student: Student) -> Acts:
    """The trained network, greedily."""
    ask = asker(student)

    def act(environment: Environment, situation: Situation, seen: Observation) -> str:
        found = ask(situation, seen.admissible or ())
        return max(found, key=lambda action: found[action])

    return act


def agreement(student: Student, decisions: Sequence[Labelled]) -> float:
    """The share of these decisions in which the student's first choice is the one that was made."""
    return agreement_of(student.prepared.network, TextExamples(decisions, student.prepared.network.shape.words()))


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
