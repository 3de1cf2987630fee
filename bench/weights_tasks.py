"""One student for two environments against one for each: equal labels, equal gradient steps in all.

    python bench/weights_tasks.py [--seeds 3] [--episodes 200] [--n 60] [--steps 400]

The expert of minigrid and the expert of house-rules are recorded once on ``--episodes`` train tasks each (kept in
``bench/.work``). The joint student learns both (``distill weights --env minigrid --env house-rules``) for twice as many
steps as each single one learns its own; batches and width are equal, so that all of them have seen as many decisions
and the joint one has half of the parameters of the two. Everybody plays the same ``--n`` test tasks of each environment
greedily.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import _results
from _commands import potstill, runs
from potstill.measure.statistics import paired_difference, wilson_by_task
from potstill.trajectories import Store

WORK = _results.ROOT / "bench" / ".work"
ENVIRONMENTS = ("minigrid", "house-rules")
OPTIONS: dict[str, tuple[object, ...]] = {
    "minigrid": (),
    "house-rules": ("--option", "train=200", "--option", "test=60"),
}
"""So that there are as many tasks of both."""
JOINT, SINGLE = "one student for both", "one student for each"
Scores = dict[tuple[str, str], dict[tuple[str, int], float]]
"""By recipe and environment: success by task and seed."""


def main() -> None:
    options = parsed()
    options.db.parent.mkdir(parents=True, exist_ok=True)
    for name in ENVIRONMENTS:
        if f"taught-{name}" not in runs(options.db):
            words = ("--env", name, *OPTIONS[name], "--split", "train", "--n", options.episodes)
            words = (*words, "--run", f"taught-{name}")
            potstill("distill", "context", *words, "--teacher", "expert", "--db", options.db)
    found: Scores = {}
    cpu: dict[str, list[float]] = {}
    sizes: dict[str, list[int]] = {}
    for seed in range(options.seeds):
        joint = distil(options, ENVIRONMENTS, 2 * options.steps, seed)
        single = {name: distil(options, (name,), options.steps, seed) for name in ENVIRONMENTS}
        cpu.setdefault(JOINT, []).append(joint["cpu_s"])
        cpu.setdefault(SINGLE, []).append(sum(one["cpu_s"] for one in single.values()))
        sizes.setdefault(JOINT, []).append(joint["parameters"])
        sizes.setdefault(SINGLE, []).append(sum(one["parameters"] for one in single.values()))
        for name in ENVIRONMENTS:
            for recipe, made in ((JOINT, joint), (SINGLE, single[name])):
                found.setdefault((recipe, name), {}).update(play(options, name, made["file"], seed))
    rows = [
        {
            "recipe": recipe,
            "environment": name,
            **success(scores),
            "parameters": round(sum(sizes[recipe]) / options.seeds),
            "training_cpu_s": sum(cpu[recipe]) / options.seeds,
        }
        for (recipe, name), scores in found.items()
    ]
    extra = {"differences": [difference(found, name) for name in ENVIRONMENTS], "gradient_steps": 2 * options.steps}
    _results.write("weights_tasks", rows, n=options.n, seeds=range(options.seeds), extra=extra)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3, help="students of each recipe")
    parser.add_argument("--episodes", type=int, default=200, help="of each expert")
    parser.add_argument("--n", type=int, default=60, help="test tasks of each environment")
    parser.add_argument("--steps", type=int, default=400, help="gradient steps for each environment")
    parser.add_argument("--db", type=Path, default=WORK / "weights_tasks.db")
    return parser.parse_args()


def distil(options: argparse.Namespace, environments: Sequence[str], steps: int, seed: int) -> dict[str, Any]:
    out = options.db.parent / f"tasks-{'-'.join(environments)}-s{seed}-{steps}.policy"
    named = [word for name in environments for word in ("--env", name)]
    words = ("--db", options.db, "--out", out, "--steps", steps, "--seed", seed, "--patience", 0)
    return potstill("distill", "weights", *named, *words)


def play(options: argparse.Namespace, name: str, policy: str, seed: int) -> dict[tuple[str, int], float]:
    """Success by task; the second part of the key tells students apart."""
    run = f"{Path(policy).stem}-{name}-n{options.n}"
    db = options.db.with_name("weights_tasks_played.db")
    if run not in runs(db):
        words = ("--env", name, *OPTIONS[name], "--split", "test", "--n", options.n, "--student", f"policy:{policy}")
        greedy = ("--arm", "zero-shot", "--alone-temperature", 0)
        potstill("run", *words, *greedy, "--run", run, "--db", db)
    with Store.read(db) as store:
        return {(episode.task.id, seed): float(episode.succeeded) for episode in store.select(run_id=run)}


def success(scores: dict[tuple[str, int], float]) -> dict[str, Any]:
    """Over all students; the interval has tasks as clusters."""
    by_task: dict[str, list[float]] = {}
    for (task, _), value in scores.items():
        by_task.setdefault(task, []).append(value)
    interval = wilson_by_task([sum(one) for one in by_task.values()], [len(one) for one in by_task.values()])
    won = sum(scores.values())
    return {
        "tasks": len(by_task),
        "played": len(scores),
        "success": won / len(scores),
        "success_ci": None if interval is None else list(interval),
    }


def difference(found: Scores, name: str) -> dict[str, Any]:
    told = paired_difference(found[JOINT, name], found[SINGLE, name])
    assert told is not None, "both played the same tasks"
    measured = {"n": told.n, "difference": told.difference, "difference_ci": told.difference_ci}
    return {"of": JOINT, "against": SINGLE, "environment": name, **measured}


if __name__ == "__main__":
    main()
