"""What the benches of the ways to learn share: a house with hidden rules, teachers of known quality, students, scores.

In ``weights_ways`` each seed is another house, other teachers' errors, and other first weights. A student chooses among
the actions that the house lists and plays test orders that nobody taught on; success is an order got out without
breaking a rule. Tasks of other environments are played the same way (``play``), by the benches that name them.
"""

from __future__ import annotations

import functools
import json
import random
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, cast

import msgspec

import _results
from potstill.distill.weights.data import Evidence, Labelled, build
from potstill.distill.weights.policies.ranker import arrays_of
from potstill.distill.weights.policies.texts import TextExamples
from potstill.distill.weights.train.config import TrainConfig
from potstill.distill.weights.train.loop import agreement_of
from potstill.distill.weights.train.ranker import prepare
from potstill.distill.weights.train.recipe import RankerRecipe
from potstill.distill.weights.train.teaching import Prepared, teach
from potstill.edge.policy import Policy, network
from potstill.edge.ranker import Ranker as EdgeRanker
from potstill.envs.registry import describe, factory, open_source
from potstill.measure.statistics import paired_difference, ratio_interval, wilson_by_task
from potstill.models.policy import PolicyModel
from potstill.protocols import Environment
from potstill.trajectories.situations import situation_of
from potstill.types import (
    Action,
    Answerer,
    Decision,
    Observation,
    Reason,
    Situation,
    Step,
    Task,
    Trajectory,
    TrajectoryKind,
)

RULES = 6
OPTIONS: Mapping[str, dict[str, Any]] = {"house-rules": {"feedback": "none"}}
"""Of environments that are not played as they are."""
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
    assert action is not None, "every environment of these benches has an expert until the end, whatever was done"
    return action.text


def wandering(share: float, seed: int) -> Acts:
    """The expert, but in this share of situations any admissible action at random; 1: a random walk."""
    chance = random.Random(seed)

    def act(environment: Environment, situation: Situation, seen: Observation) -> str:
        strays = chance.random() < share
        return chance.choice(list(seen.admissible or ())) if strays else expert(environment, situation, seen)

    return act


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


@functools.cache
def _environment(name: str) -> tuple[Environment, int]:
    """One of this name, for all episodes one after the other, and the steps of an episode."""
    return factory(name, **OPTIONS.get(name, {}))(), describe(name, **OPTIONS.get(name, {})).max_steps


def play(
    task: Task, acts: Acts, name: str, answerer: Answerer = Answerer.TEACHER, *, relabelled: bool = False
) -> Trajectory:
    """An episode. ``relabelled``: what was done is a student's, and each step has what the expert would have done."""
    environment, most = _environment(task.environment)
    seen, steps = environment.reset(task, 0), list[Step]()
    while not seen.done and len(steps) < most:
        situation = situation_of(task.goal, "", steps, seen)
        label = expert(environment, situation, seen) if relabelled else None
        action = Action(text=acts(environment, situation, seen))
        steps.append(_step(len(steps), seen, action, answerer, label))
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


def _step(index: int, seen: Observation, action: Action, answerer: Answerer, label: str | None) -> Step:
    if label is None:
        return Step(index=index, observation=seen, action=action, answerer=answerer)
    decision = Decision(answerer=Answerer.STUDENT, reason=Reason.LABELLED, label=label)
    return Step(index=index, observation=seen, action=action, answerer=Answerer.STUDENT, decision=decision)


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
    width: int = 32,
    **config: Any,
) -> Student:
    """A ranker after exactly so many gradient steps. Held-out decisions are looked at ``looks`` times; without them the
    last weights count."""
    train = TrainConfig(seed=seed, steps=steps, batch=32, patience=0, evaluate_every=steps // looks, **config)
    recipe = RankerRecipe(width=width, train=train)
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


def by_task(found: Scores) -> tuple[list[float], list[float]]:
    """Sums and counts of each task, over the seeds."""
    values: dict[str, list[float]] = {}
    for (task, _), value in found.items():
        values.setdefault(task, []).append(value)
    return [sum(some) for some in values.values()], [float(len(some)) for some in values.values()]


def told(name: str, found: Scores, *, share: bool = False) -> dict[str, Any]:
    """The mean with its interval, tasks being the clusters; ``share``: of successes (Wilson), else a bootstrap."""
    sums, counts = by_task(found)
    interval = wilson_by_task(sums, counts) if share else ratio_interval(sums, counts)
    return {name: sum(sums) / sum(counts), f"{name}_ci": None if interval is None else list(interval)}


def by_seed(found: Scores) -> list[float]:
    """The mean of each seed, in their order."""
    values: dict[int, list[float]] = {}
    for (_, seed), value in found.items():
        values.setdefault(seed, []).append(value)
    return [sum(values[seed]) / len(values[seed]) for seed in sorted(values)]


def paired(of: str, ours: Mapping[str, Scores], against: str, theirs: Mapping[str, Scores]) -> dict[str, Any]:
    """The difference of every measure on the same tasks; the intervals resample tasks."""
    made: dict[str, Any] = {"of": of, "against": against}
    for name, found in ours.items():
        told = difference("", of, found, against, theirs[name])
        made |= {f"{name}_difference": told["difference"], f"{name}_difference_ci": told["difference_ci"]}
    return made


def difference(way: str, of: str, ours: Scores, against: str, theirs: Scores) -> dict[str, Any]:
    """Success minus the twin's on the same orders of the same houses; the interval resamples orders."""
    found = paired_difference(ours, theirs)
    assert found is not None, "both played the same orders"
    told: Mapping[str, Any] = {"difference": found.difference, "difference_ci": found.difference_ci}
    return {"way": way, "of": of, "against": against, "n": found.n, **told}


def write(
    name: str,
    part: str,
    rows: Sequence[Mapping[str, Any]],
    differences: Sequence[Mapping[str, Any]],
    *,
    measured: Mapping[str, Any],
    n: int,
    seeds: Sequence[int],
) -> None:
    """Replace the rows of one part (``way``) in a result file, and keep the others'."""
    path = _results.RESULTS / f"{name}.json"
    kept = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"rows": [], "differences": []}
    extra = {
        "differences": [one for one in kept["differences"] if one["way"] != part]
        + [{**one, "way": part} for one in differences],
        "measured": {**kept.get("measured", {}), part: {**measured, **_results.provenance(n, seeds)}},
        "written_at": time.strftime("%Y-%m-%d", time.gmtime()),
    }
    rows = [one for one in kept["rows"] if one["way"] != part] + [{"way": part, **one} for one in rows]
    _results.write(name, rows, n=n, seeds=seeds, extra=extra)
