"""How much data for how large a student, and episodes of the teacher against states that were made otherwise.

    python bench/weights_amount.py [--ways amount synthetic] [--seeds 3] [--steps 300]

The teacher is the environment's expert, which has an answer in every state. All students have equally many gradient
steps of 32 decisions, and the best weights of five looks at the same held-out tasks, of which none is tested on.

``amount``: the expert's episodes of 20 to 500 orders in a house with hidden rules (``house-rules``, another house a
seed), a ranker of three widths. Fewer orders are part of more.

``synthetic``: errands in text (``minigrid``, level PutNextLocal: 12 decisions at most, mistakes can be mended). Equally
many decisions (``--decisions``), each labelled by the expert once, in states of its own episodes (*real*) or in others.
*Perturbed*: in 30 % of the steps any admissible action is done instead of the expert's. *Random walks*: all actions are
drawn. *Recoloured*: a real decision in which the colours of all things are exchanged, in every text, the label with
them; it asks nobody, so with half of the decisions real, half of the labels are enough.

Agreement is with the expert in its own test episodes, and in random walks (*off the path*).
"""

from __future__ import annotations

import argparse
import random
import re
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import msgspec

import _ways as ways
from potstill.distill.weights.data import Labelled
from potstill.envs.registry import open_source
from potstill.types import Past, Situation, Task

NAME = "weights_amount"
SIZES = (20, 100, 500)
WIDTHS = (8, 24, 72)
LOOKS = 5
HELD_OUT = 30
RATE = 6e-3
"""Three times the usual learning rate: so few steps would leave every student undertrained."""
COLOURS = ("red", "green", "blue", "purple", "yellow", "grey")


class Measured(NamedTuple):
    """Of one recipe, over all seeds; keys as in ``_ways.Scores``."""

    success: ways.Scores
    agreement: ways.Scores
    off_path: ways.Scores
    cpu_s: list[float]
    told: dict[str, Any]


Found = dict[str, Measured]


class World(NamedTuple):
    """Tasks to learn from, and what all students are judged by."""

    train: Sequence[Task]
    test: Sequence[Task]
    held_out: Sequence[Labelled]
    tested: Sequence[Labelled]
    off_path: Sequence[Labelled]


def main() -> None:
    options = parsed()
    for way in options.ways:
        started = time.process_time()
        found, pairs = WAYS[way](options)
        rows = [row(name, one) for name, one in found.items()]
        measured = {**vars(options), "ways": way, "cpu_s": time.process_time() - started}
        differences = [ways.paired(of, scores(found[of]), twin, scores(found[twin])) for of, twin in pairs]
        ways.write(NAME, way, rows, differences, measured=measured, n=options.test, seeds=seeds(options))


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ways", nargs="+", choices=list(WAYS), default=list(WAYS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--test", type=int, default=60, help="test tasks of each student")
    parser.add_argument("--steps", type=int, default=300, help="gradient steps of every student")
    parser.add_argument("--decisions", type=int, default=400, help="synthetic: decisions to learn from")
    return parser.parse_args()


def seeds(options: argparse.Namespace) -> range:
    return range(options.first_seed, options.first_seed + options.seeds)


def house(seed: int, test: int) -> World:
    of = ways.world(seed, SIZES[-1] + HELD_OUT, test)
    return judged_by(of.train, of.test)


def errands(options: argparse.Namespace) -> World:
    source = open_source("minigrid", level="PutNextLocal", train=options.decisions + HELD_OUT, test=options.test)
    return judged_by(source.tasks("train"), source.tasks("test"))


def judged_by(train: Sequence[Task], test: Sequence[Task]) -> World:
    return World(
        train=train[HELD_OUT:],
        test=test,
        held_out=decisions(train[:HELD_OUT], ways.expert),
        tested=decisions(test, ways.expert),
        off_path=decisions(test, ways.wandering(1.0, 0))[::5],
    )


def trained(options: argparse.Namespace, seed: int) -> dict[str, Any]:
    return {"steps": options.steps, "seed": seed, "looks": LOOKS, "learning_rate": RATE}


def decisions(tasks: Sequence[Task], acts: ways.Acts) -> list[Labelled]:
    """What the expert says in the states of such episodes, whatever became of them."""
    episodes = [ways.play(task, acts, "expert", relabelled=True) for task in tasks]
    return ways.decisions_of(episodes, only_successes=False)


def measure(one: Measured, world: World, student: ways.Student, seed: int) -> None:
    one.cpu_s.append(student.cpu_s)
    act, ask = ways.acting(student), ways.asker(student)
    one.success.update({(task.id, seed): float(ways.play(task, act, "student").succeeded) for task in world.test})
    for into, states in ((one.agreement, world.tested), (one.off_path, world.off_path)):
        for number, state in enumerate(states):
            said = ask(state.situation, state.admissible)
            into[state.task_id, seed * 10_000 + number] = float(max(said, key=lambda a: said[a]) == state.action)


# --- how much data for how large a student --------------------------------------------------------------------------


def amount(options: argparse.Namespace) -> tuple[Found, list[tuple[str, str]]]:
    found: Found = {}
    for seed in seeds(options):
        world = house(seed, options.test)
        for size in SIZES:
            learn = decisions(world.train[:size], ways.expert)
            for width in WIDTHS:
                student = ways.taught(learn, held_out=world.held_out, width=width, **trained(options, seed))
                told = {"orders": size, "width": width, "parameters": student.prepared.parameters}
                told["decisions"] = len(learn)
                measure(found.setdefault(_cell(size, width), Measured({}, {}, {}, [], told)), world, student, seed)
            print(f"amount, seed {seed}, {size} orders: {len(learn)} decisions", flush=True)
    wider = [(_cell(size, WIDTHS[-1]), _cell(size, WIDTHS[0])) for size in SIZES]
    more = [(_cell(large, width), _cell(small, width)) for width in WIDTHS for small, large in pairwise(SIZES)]
    return found, [*wider, *more]


def _cell(size: int, width: int) -> str:
    return f"{size} orders, width {width}"


# --- real and synthetic trajectories --------------------------------------------------------------------------------

REAL, HALF = "real", "half of the real ones alone"


def synthetic(options: argparse.Namespace) -> tuple[Found, list[tuple[str, str]]]:
    found: Found = {}
    world = errands(options)
    all_, half = options.decisions, options.decisions // 2
    for seed in seeds(options):
        tasks = random.Random(seed).sample(list(world.train), len(world.train) // 2)
        real = drawn(tasks, ways.expert, all_)
        perturbed = drawn(tasks, ways.wandering(0.3, seed), all_)
        walks = drawn(tasks, ways.wandering(1.0, seed), all_)
        recipes: dict[str, tuple[list[Labelled], int]] = {
            REAL: (real, all_),
            "perturbed": (perturbed, all_),
            "random walks": (walks, all_),
            "half real, half perturbed": (real[:half] + perturbed[half:], all_),
            "half real, half random walks": (real[:half] + walks[half:], all_),
            "half real, half recoloured": (real[:half] + recoloured(real[:half], seed), half),
            HALF: (real[:half], half),
        }
        for name, (learn, labels) in recipes.items():
            student = ways.taught(learn, held_out=world.held_out, **trained(options, seed))
            told = {"decisions": len(learn), "labels": labels}
            measure(found.setdefault(name, Measured({}, {}, {}, [], told)), world, student, seed)
        print(f"synthetic, seed {seed}", flush=True)
    pairs = [(name, REAL) for name in found if name != REAL]
    return found, [*pairs, ("half real, half recoloured", HALF)]


def drawn(tasks: Sequence[Task], acts: ways.Acts, count: int) -> list[Labelled]:
    """``count`` decisions, of as many of the tasks as it takes, each weighing the same."""
    episodes, steps = [], 0
    for task in tasks:
        if steps >= 1.2 * count:  # equal decisions are one
            break
        episodes.append(ways.play(task, acts, "expert", relabelled=True))
        steps += len(episodes[-1].steps)
    found = ways.decisions_of(episodes, only_successes=False)[:count]
    assert len(found) == count, "there are tasks for more"
    return [msgspec.structs.replace(one, weight=1.0) for one in found]


def recoloured(some: Sequence[Labelled], seed: int) -> list[Labelled]:
    """Each decision once more, with its colours exchanged at random, no colour keeping its place."""
    chance, made = random.Random(seed), []
    for one in some:
        others = list(COLOURS)
        while any(old == new for old, new in zip(COLOURS, others, strict=True)):
            chance.shuffle(others)
        made.append(with_colours(one, dict(zip(COLOURS, others, strict=True))))
    return made


def with_colours(one: Labelled, colours: dict[str, str]) -> Labelled:
    """The decision with every colour's word replaced; its actions in alphabetical order, as the world lists them."""

    def told(text: str) -> str:
        return re.sub(rf"\b({'|'.join(colours)})\b", lambda found: colours[found[0]], text)

    seen = one.situation
    situation = Situation(
        goal=told(seen.goal),
        plan=told(seen.plan),
        observation=told(seen.observation),
        past=tuple(Past(observation=told(turn.observation), action=told(turn.action)) for turn in seen.past),
    )
    admissible = tuple(sorted(told(action) for action in one.admissible))
    return msgspec.structs.replace(one, situation=situation, admissible=admissible, action=told(one.action))


# --- both -----------------------------------------------------------------------------------------------------------


def row(name: str, one: Measured) -> dict[str, Any]:
    made = {"recipe": name, **one.told}
    for measure_, found in scores(one).items():
        made |= ways.told(measure_, found, share=True)
    cpu_s = sum(one.cpu_s) / len(one.cpu_s)
    return {**made, "training_cpu_s": cpu_s, "success_by_seed": ways.by_seed(one.success)}


def scores(one: Measured) -> Mapping[str, ways.Scores]:
    return {"success": one.success, "agreement": one.agreement, "off_path": one.off_path}


WAYS: dict[str, Callable[[argparse.Namespace], tuple[Found, list[tuple[str, str]]]]] = {
    "amount": amount,
    "synthetic": synthetic,
}

if __name__ == "__main__":
    main()
