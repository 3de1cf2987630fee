"""A policy's certified threshold against what happens: houses with hidden rules, orders that nobody taught on.

    python bench/weights_calibration.py [--seeds 5] [--orders 150] [--labelled 300] [--test 200] [--steps 600]
        [--keep 0.8 0.9 0.95]

Each seed is another house. A student learns the expert's decisions in ``--orders`` orders; ``potstill calibrate`` then
looks at the expert's episodes in ``--labelled`` other orders, by whole tasks and by decisions. The cascade at the
certified threshold plays ``--test`` further orders: kept is its share of what the expert does there. Where nothing is
certified the expert answers everything, and the row says so. ``student alone`` and ``threshold 0.7`` (the default of
``run``) are what one had without a calibration.
"""

from __future__ import annotations

import argparse
from typing import Any, NamedTuple

import _results
import _ways as ways
from potstill.decide.calibration.losses import Level
from potstill.measure.calibration import Settings, calibrate
from potstill.measure.policy_samples import Student, recorded
from potstill.protocols import Environment
from potstill.types import Observation, Situation

NAME = "weights_calibration"


class Cascade(NamedTuple):
    """What one threshold came to in one house."""

    threshold: float | None
    kept: ways.Scores
    steps: int
    teacher_steps: int


def main() -> None:
    options = parsed()
    found: dict[tuple[str, float | None], list[Cascade]] = {}
    expert: ways.Scores = {}
    for seed in range(options.seeds):
        world = ways.world(seed, options.orders + options.labelled, options.test)
        episodes = [ways.play(task, ways.expert, "expert") for task in world.train]
        student = ways.taught(ways.decisions_of(episodes[: options.orders]), steps=options.steps, seed=seed)
        expert.update(ways.scores(world, ways.expert))
        labelled = Student("policy:student", ways.asker(student))
        priced = recorded(labelled, episodes[options.orders :], "expert", lambda episode: [0.0] * len(episode.steps))
        for name, keep, threshold in (("student alone", None, 0.0), ("threshold 0.7", None, 0.7)):
            found.setdefault((name, keep), []).append(played(world, student, threshold))
        for level in Level:
            for keep in options.keep:
                result = calibrate([priced], Settings(keep=keep, level=level)).result
                at = result.threshold if result.certified else None
                found.setdefault((f"by {level.value}", keep), []).append(played(world, student, at))
        print(f"seed {seed} done", flush=True)
    rows = [_told(name, keep, every, expert) for (name, keep), every in found.items()]
    houses = [house for (name, keep), every in found.items() for house in houses_of(name, keep, every, expert)]
    extra = {"labelled": options.labelled, "houses": houses}
    _results.write(NAME, rows, n=options.test, seeds=range(options.seeds), extra=extra)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5, help="houses, each with its own student")
    parser.add_argument("--orders", type=int, default=150, help="orders to learn from, in each house")
    parser.add_argument("--labelled", type=int, default=300, help="orders to calibrate on")
    parser.add_argument("--test", type=int, default=200, help="orders to play")
    parser.add_argument("--steps", type=int, default=600, help="gradient steps of every student")
    parser.add_argument("--keep", type=float, nargs="+", default=[0.8, 0.9, 0.95])
    return parser.parse_args()


def played(world: ways.World, student: ways.Student, threshold: float | None) -> Cascade:
    """The student where it is so sure, else the expert; None: the expert alone."""
    ask, counted = ways.asker(student), [0, 0]

    def act(environment: Environment, situation: Situation, seen: Observation) -> str:
        counted[0] += 1
        if threshold is not None:
            likely = ask(situation, seen.admissible or ())
            best = max(likely, key=lambda action: likely[action])
            if likely[best] >= threshold:
                return best
        counted[1] += 1
        return ways.expert(environment, situation, seen)

    return Cascade(threshold, ways.scores(world, act), *counted)


def houses_of(name: str, keep: float | None, every: list[Cascade], expert: ways.Scores) -> list[dict[str, Any]]:
    return [
        {"seed": seed, "threshold": one.threshold, **_told(name, keep, [one], expert)} for seed, one in enumerate(every)
    ]


def _told(name: str, keep: float | None, every: list[Cascade], expert: ways.Scores) -> dict[str, Any]:
    row = ways.row(name, {key: value for one in every for key, value in one.kept.items()}, keep=keep)
    steps, teacher = sum(one.steps for one in every), sum(one.teacher_steps for one in every)
    shares = [sum(one.kept.values()) / sum(expert[key] for key in one.kept) for one in every]
    return {
        **row,
        "certified": sum(one.threshold is not None for one in every),
        "kept": sum(shares) / len(shares),
        "kept_worst": min(shares),
        "teacher_steps": teacher / steps,
    }


if __name__ == "__main__":
    main()
