"""Each other way to learn against its plain twin, in houses with hidden rules: equal labels, equal gradient steps.

    python bench/weights_ways.py [--seeds 5] [--orders 100] [--test 60] [--steps 600] [--ways teachers ...]

``teachers``: two teachers play the orders, the expert with 10 % random errors and with 25 %; a third is bad and plenty:
it errs in 70 % of its steps, each time by the next action in the list, and plays three times as many orders, the same
ones among them. Every recipe sees the same episodes.

Whatever is measured is kept in the result file by its way, so that ways can be measured one after the other.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from typing import Any

import _results
import _ways as ways
from potstill.distill.weights.losses.config import Kind, Loss
from potstill.distill.weights.teachers.fusing import Teachers, fused, judge

Found = tuple[list[dict[str, Any]], list[dict[str, Any]]]
NAME = "weights_ways"


def main() -> None:
    options = parsed()
    for way in options.ways:
        rows, differences = WAYS[way](options)
        write(options, way, rows, differences)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5, help="houses, each with its own teachers and students")
    parser.add_argument("--orders", type=int, default=100, help="orders to learn from, in each house")
    parser.add_argument("--test", type=int, default=60, help="orders to play, in each house")
    parser.add_argument("--steps", type=int, default=600, help="gradient steps of every student")
    parser.add_argument("--ways", nargs="+", choices=list(WAYS), default=list(WAYS))
    return parser.parse_args()


# --- several teachers -----------------------------------------------------------------------------------------------


def several_teachers(options: argparse.Namespace) -> Found:
    soft = Loss(kind=Kind.SOFT)
    found: dict[str, ways.Scores] = {}
    cpu: dict[str, float] = {}
    right: dict[str, list[float]] = {}
    for seed in range(options.seeds):
        world = ways.world(seed, 3 * options.orders, options.test)
        few = world.train[: options.orders]
        staff = {
            "good": (ways.erring(0.1, 10 * seed + 1), few),
            "fair": (ways.erring(0.25, 10 * seed + 2), few),
            "bad": (ways.erring(0.7, 10 * seed + 3, stubborn=True), world.train),
        }
        episodes = [ways.play(task, acts, name) for name, (acts, tasks) in staff.items() for task in tasks]
        decisions = ways.decisions_of(episodes, only_successes=False, by_teacher=True)
        judged = judge(decisions, outcome_share=len(episodes) / sum(len(one.steps) for one in episodes))
        for name, value in zip(judged.teachers, judged.reliability, strict=True):
            right.setdefault(name, []).append(value)
        recipes = {
            "pooled, all episodes": (decisions, {}),
            "pooled, successes only": (ways.decisions_of(episodes), {}),
            "weighed": (fused(decisions, judged, Teachers.WEIGHED), {"loss": soft}),
            "routed to the best": (fused(decisions, judged, Teachers.ROUTED), {}),
            "the expert's own labels (more is not to be had)": (
                ways.decisions_of([ways.play(task, ways.expert, "expert") for task in few]),
                {},
            ),
        }
        for name, (some, config) in recipes.items():
            student = ways.taught(some, steps=options.steps, seed=seed, **config)
            found.setdefault(name, {}).update(ways.scores(world, ways.acting(student)))
            cpu[name] = cpu.get(name, 0.0) + student.cpu_s / options.seeds
    rows = [ways.row(name, scores, training_cpu_s=cpu[name]) for name, scores in found.items()]
    rows += [
        {"recipe": f"reliability of the {name} teacher", "estimated": sum(values) / len(values)}
        for name, values in right.items()
    ]
    twins = ("pooled, all episodes", "pooled, successes only")
    differences = [
        ways.difference("teachers", name, found[name], twin, found[twin])
        for name in ("weighed", "routed to the best")
        for twin in twins
    ]
    return rows, differences


# --- all ------------------------------------------------------------------------------------------------------------

WAYS: dict[str, Callable[[argparse.Namespace], Found]] = {"teachers": several_teachers}


def write(options: argparse.Namespace, way: str, rows: list[dict[str, Any]], differences: list[dict[str, Any]]) -> None:
    """Replace this way's rows, and keep the others'."""
    path = _results.RESULTS / f"{NAME}.json"
    kept = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"rows": [], "differences": []}
    extra = {
        "differences": [one for one in kept["differences"] if one["way"] != way] + differences,
        "orders_to_learn": options.orders,
        "gradient_steps": options.steps,
        "written_at": time.strftime("%Y-%m-%d", time.gmtime()),
    }
    rows = [one for one in kept["rows"] if one["way"] != way] + [{"way": way, **one} for one in rows]
    _results.write(NAME, rows, n=options.test, seeds=range(options.seeds), extra=extra)


if __name__ == "__main__":
    main()
