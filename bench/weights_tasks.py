"""One student for several tasks against a student for each: equal labels, and equal gradient steps in total.

    python bench/weights_tasks.py [--parts even uneven] [--seeds 3] [--steps 250]

Tasks: orders in a house with hidden rules (another house a seed; ``house-rules``), and two levels of ``minigrid`` in
text, PutNextLocal and PutTwo. Nothing tells the student which one it is in but the words that it reads. Every
environment weighs the same in one student, and within ``minigrid`` both levels do; *as met*: every decision weighs the
same. A student for each task has ``--steps`` gradient steps of 32 decisions, one for all three times as many, on the
same episodes of the expert; the last weights count. *even*: as many episodes of each; *uneven*: PutNextLocal has eight
times as many. *All tasks*: each task counts the same.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import _ways as ways
from potstill.distill.weights.data import Labelled
from potstill.distill.weights.data.environments import shares
from potstill.envs.registry import open_source
from potstill.types import Task, Trajectory

NAME = "weights_tasks"
HOUSE, LEVELS = "house-rules", ("PutNextLocal", "PutTwo")
TASKS = (HOUSE, *LEVELS)
EPISODES: Mapping[str, Mapping[str, int]] = {
    "even": dict.fromkeys(TASKS, 80),
    "uneven": {HOUSE: 20, "PutNextLocal": 160, "PutTwo": 20},
}
RATE = 6e-3
"""Three times the usual learning rate: so few steps would leave every student undertrained."""
EACH, ONE, MET = "a student for each task", "one student", "one student, as met"
ALL = "all tasks"


class World(NamedTuple):
    train: Mapping[str, Sequence[Task]]
    test: Mapping[str, Sequence[Task]]


class Measured(NamedTuple):
    """Of one recipe, over all seeds; by task."""

    success: dict[str, ways.Scores]
    agreement: dict[str, ways.Scores]
    cpu_s: list[float]
    parameters: list[int]


def main() -> None:
    options = parsed()
    for part in options.parts:
        started = time.process_time()
        found: dict[str, Measured] = {}
        for seed in range(options.first_seed, options.first_seed + options.seeds):
            measure(found, world(seed, options.test), EPISODES[part], options, seed)
            print(f"{part}, seed {seed}: {time.process_time() - started:.0f} CPU s", flush=True)
        rows = [row(name, one, task) for name, one in found.items() for task in (ALL, *TASKS)]
        pairs = [(ONE, EACH), (ONE, MET), (MET, EACH)]
        differences = [difference(found, *pair, task) for pair in pairs for task in (ALL, *TASKS)]
        measured = {**vars(options), "parts": part, "episodes": EPISODES[part]}
        measured["cpu_s"] = time.process_time() - started
        seeds = range(options.first_seed, options.first_seed + options.seeds)
        ways.write(NAME, part, rows, differences, measured=measured, n=options.test, seeds=seeds)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=list(EPISODES), default=list(EPISODES))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--test", type=int, default=40, help="test tasks of each task")
    parser.add_argument("--steps", type=int, default=250, help="gradient steps of a student of one task")
    return parser.parse_args()


def world(seed: int, test: int) -> World:
    """The seed's house, and worlds of the grid that no other seed learns from."""
    most = max(count for counts in EPISODES.values() for count in counts.values())
    house = ways.world(seed, most, test)
    train, tests = {HOUSE: house.train}, {HOUSE: house.test}
    for level in LEVELS:
        source = open_source("minigrid", level=level, train=most * (seed + 1), test=test)
        train[level], tests[level] = source.tasks("train")[most * seed :], source.tasks("test")
    return World(train, tests)


def measure(
    found: dict[str, Measured], of: World, counts: Mapping[str, int], options: argparse.Namespace, seed: int
) -> None:
    shown = {task: [ways.play(one, ways.expert, "expert") for one in of.train[task][: counts[task]]] for task in TASKS}
    tested = {
        task: ways.decisions_of([ways.play(one, ways.expert, "expert") for one in of.test[task]]) for task in TASKS
    }
    everything = [episode for episodes in shown.values() for episode in episodes]
    alone = {task: taught(shown[task], options.steps, seed) for task in TASKS}
    score(found, EACH, of, tested, alone, seed)
    for name, balanced in ((ONE, True), (MET, False)):
        student = taught(everything, len(TASKS) * options.steps, seed, balanced=balanced)
        score(found, name, of, tested, dict.fromkeys(TASKS, student), seed)


def taught(episodes: Sequence[Trajectory], steps: int, seed: int, *, balanced: bool = True) -> ways.Student:
    decisions = ways.decisions_of(episodes, balanced=balanced)
    weights = shares(decisions)
    assert not balanced or max(weights.values()) - min(weights.values()) < 1e-6, "environments weigh the same"
    return ways.taught(decisions, steps=steps, seed=seed, learning_rate=RATE)


def score(
    found: dict[str, Measured],
    name: str,
    of: World,
    tested: Mapping[str, Sequence[Labelled]],
    students: Mapping[str, ways.Student],
    seed: int,
) -> None:
    """What each task's student does in it."""
    one = found.setdefault(name, Measured({}, {}, [], []))
    different = {id(student): student for student in students.values()}.values()
    one.cpu_s.append(sum(student.cpu_s for student in different))
    one.parameters.append(sum(student.prepared.parameters for student in different))
    for task, student in students.items():
        acts, ask = ways.acting(student), ways.asker(student)
        done = {(each.id, seed): float(ways.play(each, acts, "student").succeeded) for each in of.test[task]}
        one.success.setdefault(task, {}).update(done)
        agreed = one.agreement.setdefault(task, {})
        for number, state in enumerate(tested[task]):
            said = ask(state.situation, state.admissible)
            agreed[state.task_id, seed * 10_000 + number] = float(max(said, key=lambda a: said[a]) == state.action)


def of_task(found: Mapping[str, ways.Scores], task: str) -> ways.Scores:
    """One task's, or those of all, whose tasks have names of their own."""
    if task != ALL:
        return found[task]
    return {key: value for scores in found.values() for key, value in scores.items()}


def row(name: str, one: Measured, task: str) -> dict[str, Any]:
    success = of_task(one.success, task)
    made = {"recipe": name, "task": task, **ways.told("success", success, share=True)}
    if task != ALL:
        made |= ways.told("agreement", one.agreement[task], share=True)
    else:
        made |= {"parameters": sum(one.parameters) / len(one.parameters)}
        made |= {"training_cpu_s": sum(one.cpu_s) / len(one.cpu_s)}
    return {**made, "success_by_seed": ways.by_seed(success)}


def difference(found: Mapping[str, Measured], ours: str, twin: str, task: str) -> dict[str, Any]:
    one, other = (of_task(found[name].success, task) for name in (ours, twin))
    return {"task": task, **ways.difference("", ours, one, twin, other)}


if __name__ == "__main__":
    main()
