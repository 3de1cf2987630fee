"""A search over recipes against the recipe set by hand, in houses with hidden rules: equal labels, equal CPU time.

    python bench/weights_search.py [--seeds 4] [--trials 16] [--orders 80] [--test 80] [--steps 300]

The teacher is a black box of which five samples are known, each wrong with a chance of 30 %. A fifth of the orders is
held out, and says at the end of each training which weights were best; the other orders are learnt from. Everybody has
these labels and no others. The search does what ``distill weights --search`` does: it sets a fifth of the orders to
learn from apart to judge its trials by, and trains the best recipe on all of them.

Two more searches are for the fewest labels, and for the fewest bytes, within 0.02 of the best value; all that is
played are the networks as they were trained, not pruned and not rounded.

By hand: ``default`` is the ranker as it comes (width 64, hard labels, learning rate 0.002), ``tuned`` what
``bench/weights_ways.py`` found best in other houses (width 32, soft labels at temperature 2.5, learning rate 0.006).
What the search spends on its trials, the tuned recipe spends in two ways: on more gradient steps, and on more first
weights, of which those are kept that agree best on the held-out orders. How much that is, is measured in each house.
"""

from __future__ import annotations

import argparse
import importlib
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

import _results
import _ways as ways
from potstill.distill.weights.data import Labelled
from potstill.distill.weights.losses.config import Loss
from potstill.distill.weights.search.aim import Aim, Goal
from potstill.distill.weights.search.labels import labels_in
from potstill.distill.weights.search.searching import Found, search
from potstill.distill.weights.search.space import recipe_at
from potstill.distill.weights.search.trials import State
from potstill.distill.weights.search.trying import learnt, shared_out
from potstill.distill.weights.train import ranker, teaching
from potstill.distill.weights.train.config import TrainConfig
from potstill.distill.weights.train.recipe import RankerRecipe

FIRST_HOUSE = 100
"""Other houses than those in which the recipe by hand was tuned."""
HELD_OUT = 0.2
LOOKS = 6
SEARCH, DEFAULT, TUNED = "search", "by hand: default", "by hand: tuned"
AIMS = {
    SEARCH: Aim(),
    "search for few labels": Aim(goal=Goal.LABELS, within=0.02),
    "search for few bytes": Aim(goal=Goal.BYTES, within=0.02),
}
LONGER, RESTARTED = "by hand: tuned, as much CPU in steps", "by hand: tuned, as much CPU in restarts"


class Labels(NamedTuple):
    learn: Sequence[Labelled]
    held_out: Sequence[Labelled]


class Trained(NamedTuple):
    student: ways.Student
    agreement: float
    """With the held-out labels."""
    cpu_s: float
    """All that was spent on it, trials included."""
    labels: int
    """That it learnt from."""


def main() -> None:
    options = parsed()
    importlib.import_module("optuna")  # at nobody's expense
    found: dict[str, ways.Scores] = {}
    told: dict[str, list[dict[str, float]]] = {}
    searches: list[dict[str, Any]] = []
    for seed in range(FIRST_HOUSE, FIRST_HOUSE + options.seeds):
        world = ways.world(seed, options.orders, options.test)
        test = ways.decisions_of([ways.play(task, ways.expert, "expert") for task in world.test])
        made, search_row = everybody(options, labels_of(options, world), seed)
        searches.append(search_row)
        for recipe, trained in made.items():
            found.setdefault(recipe, {}).update(ways.scores(world, ways.acting(trained.student)))
            numbers = {"cpu_s": trained.cpu_s, "steps": float(trained.student.steps)}
            numbers["agreement"] = ways.agreement(trained.student, test)
            numbers["labels"] = float(trained.labels)
            told.setdefault(recipe, []).append({**numbers, "parameters": trained.student.prepared.parameters})
            print(seed, recipe, told[recipe][-1], flush=True)
        write(options, found, told, searches)


def write(
    options: argparse.Namespace,
    found: dict[str, ways.Scores],
    told: dict[str, list[dict[str, float]]],
    searches: list[dict[str, Any]],
) -> None:
    """After every house: what is there so far."""
    rows = [ways.row(recipe, scores, **means(told[recipe])) for recipe, scores in found.items()]
    twins = [recipe for recipe in found if recipe != SEARCH]
    differences = [ways.difference("search", SEARCH, found[SEARCH], twin, found[twin]) for twin in twins]
    extra = {"differences": differences, "searches": searches, "orders": options.orders, "trials": options.trials}
    extra["written_at"] = time.strftime("%Y-%m-%d", time.gmtime())
    _results.write("weights_search", rows, n=options.test, seeds=[one["seed"] for one in searches], extra=extra)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=4, help="houses, each with its own labels, search and students")
    parser.add_argument("--trials", type=int, default=16)
    parser.add_argument("--orders", type=int, default=80, help="orders with labels, in each house")
    parser.add_argument("--test", type=int, default=80, help="orders to play, in each house")
    parser.add_argument("--steps", type=int, default=300, help="gradient steps of 32 decisions of one training")
    return parser.parse_args()


def labels_of(options: argparse.Namespace, world: ways.World) -> Labels:
    at = round(options.orders * HELD_OUT)
    held_out, learn = (
        ways.sampled(
            ways.decisions_of([ways.play(task, ways.expert, "expert") for task in some]),
            wrong=0.3,
            samples=5,
            seed=world.seed,
        )
        for some in (world.train[:at], world.train[at:])
    )
    return Labels(learn, held_out)


# --- who is compared ------------------------------------------------------------------------------------------------


def everybody(options: argparse.Namespace, labels: Labels, seed: int) -> tuple[dict[str, Trained], dict[str, Any]]:
    """The search first: it says how much CPU time there is."""
    default = RankerRecipe(train=config(options.steps, seed))
    tuned = RankerRecipe(width=32, train=config(options.steps, seed, learning_rate=6e-3, loss=Loss(temperature=2.5)))
    taught(tuned, labels)  # PyTorch loads parts of itself in the first training, at nobody's expense
    searched, search_row = by_search(options, default, labels, AIMS[SEARCH])
    once = taught(tuned, labels)
    longer = round(options.steps * searched.cpu_s / once.cpu_s)
    made = {
        SEARCH: searched,
        **{name: by_search(options, default, labels, aim)[0] for name, aim in AIMS.items() if name != SEARCH},
        DEFAULT: taught(default, labels),
        TUNED: once,
        LONGER: taught(of_steps(tuned, longer), labels),
        RESTARTED: restarted(tuned, labels, searched.cpu_s),
    }
    return made, {"seed": seed, **search_row}


def config(steps: int, seed: int, **more: Any) -> TrainConfig:
    return TrainConfig(seed=seed, steps=steps, batch=32, patience=0, evaluate_every=max(1, steps // LOOKS), **more)


def of_steps(recipe: RankerRecipe, steps: int) -> RankerRecipe:
    train = msgspec.structs.replace(recipe.train, steps=steps, evaluate_every=max(1, steps // LOOKS))
    return msgspec.structs.replace(recipe, train=train)


def taught(recipe: RankerRecipe, labels: Labels) -> Trained:
    started = time.process_time()
    prepared = ranker.prepare(labels.learn, labels.held_out, recipe)
    done = teaching.teach(prepared, recipe)
    cpu_s = time.process_time() - started
    return Trained(ways.Student(prepared, cpu_s, done.steps), float(done.best or 0.0), cpu_s, labels_in(labels.learn))


def restarted(recipe: RankerRecipe, labels: Labels, cpu_s: float) -> Trained:
    """The best on the held-out orders of as many first weights as there is time for; the last may begin in time."""
    tried = list[Trained]()
    while sum(one.cpu_s for one in tried) < cpu_s:
        train = msgspec.structs.replace(recipe.train, seed=recipe.train.seed + 1000 * len(tried))
        tried.append(taught(msgspec.structs.replace(recipe, train=train), labels))
    best, steps = max(tried, key=lambda one: one.agreement), sum(one.student.steps for one in tried)
    return best._replace(cpu_s=sum(one.cpu_s for one in tried), student=best.student._replace(steps=steps))


def by_search(
    options: argparse.Namespace, base: RankerRecipe, labels: Labels, aim: Aim
) -> tuple[Trained, dict[str, Any]]:
    """As the command does it: trials on a part of the labels, then the best recipe on all."""
    with tempfile.TemporaryDirectory() as folder:
        started = time.process_time()
        path = Path(folder) / "search.json"
        found = search(base, shared_out(labels.learn, HELD_OUT), count=options.trials, path=path, aim=aim)
        trials_s = time.process_time() - started
    last = taught(recipe_at(base, found.best.point), labels._replace(learn=learnt(labels.learn, found.best.point)))
    steps = sum(trial.steps for trial in found.trials) + last.student.steps
    trained = last._replace(cpu_s=trials_s + last.cpu_s, student=last.student._replace(steps=steps))
    return trained, told_of(found, trials_s)


def told_of(found: Found, cpu_s: float) -> dict[str, Any]:
    finished = sum(trial.state is State.FINISHED for trial in found.trials)
    return {"trials": len(found.trials), "finished": finished, "best": found.best.point, "trials_cpu_s": cpu_s}


def means(rows: Sequence[dict[str, float]]) -> dict[str, float]:
    return {name: sum(row[name] for row in rows) / len(rows) for name in rows[0]}


if __name__ == "__main__":
    main()
