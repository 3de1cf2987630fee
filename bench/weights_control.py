"""Small perceptrons distilled from the teachers of control tasks: how much of the return they keep, and what they cost.

    python bench/weights_control.py [--games cart-pole acrobot lunar-lander] [--seeds 3] [--episodes 50]
        [--labels 12000] [--steps 2000] [--jobs 1] [--teachers bench/.work/control]

CartPole and Acrobot have teachers of 68 thousand parameters (``recipes/control_teachers.py``, trained once and kept),
LunarLander gymnasium's own rules, which have no parameters: there only the return is compared. Every student learns
from equally many decisions of the teacher's successful train episodes, in equally many gradient steps, and its last
weights are written through the parity gate; each seed has other episodes and other first weights. All play the same
test episodes greedily. Recipes: the teacher's action (``hard``), its distribution at temperature 2 with T² (``soft``),
and what tutorials do (``tutorial``): student at temperature 2, teacher untempered, no T².

What is measured is kept in the result file by its game, so that games can be measured one after the other.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

import _control
import _results
from potstill.distill.weights import gate
from potstill.distill.weights.lineage import Manifest
from potstill.distill.weights.losses.config import Kind, Loss
from potstill.distill.weights.policies.mlp import Mlp, MlpShape, VectorExamples, new_mlp
from potstill.distill.weights.policies.pytorch import Module
from potstill.distill.weights.policies.ranker import arrays_of
from potstill.distill.weights.train.config import TrainConfig
from potstill.distill.weights.train.loop import agreement_of, train
from potstill.distill.weights.train.mlp import trained_side
from potstill.edge.mlp import Mlp as EdgeMlp
from potstill.edge.policy import Policy, open_policy
from potstill.envs.control.games import Game

NAME = "weights_control"
TEMPERATURE = 2.0
WIDTHS = {"cart-pole": (64,), "acrobot": (64,), "lunar-lander": (64,)}
HELD_OUT = 1000
LOSSES = {
    "hard": Loss(kind=Kind.HARD),
    "soft": Loss(temperature=TEMPERATURE),
    "tutorial": Loss(),  # of a student whose logits are divided by the temperature: see Tempered
}


class Tempered(Module):
    """A student whose logits are divided by T before a loss at temperature 1: then the teacher is not tempered."""

    def __init__(self, network: Mlp) -> None:
        super().__init__()
        self.network = network

    def forward(self, seen: Any) -> Any:
        return self.network(seen) / TEMPERATURE


def main() -> None:
    options = parsed()
    rows: list[dict[str, Any]] = []
    with ProcessPoolExecutor(options.jobs, mp_context=get_context("spawn")) as pool:
        for name in options.games:
            measured(options, _control.GAMES[name], pool, rows)


def measured(options: argparse.Namespace, game: Game, pool: ProcessPoolExecutor, rows: list[dict[str, Any]]) -> None:
    """The teacher's row and those of every recipe, written as they come."""
    act, policy = _control.teacher_of(game, options.teachers)
    theirs = _control.returns(game, act, episodes=options.episodes)
    rows.append(teacher_row(game, theirs, policy))
    recipes = LOSSES if policy is not None else {"hard": LOSSES["hard"]}
    for width in WIDTHS[game.name]:
        for recipe in recipes:
            given = [(options, game.name, width, recipe, seed) for seed in range(options.seeds)]
            made = list(pool.map(student, *zip(*given, strict=True)))
            told = [{**one, **_control.against([played], theirs, game)} for one, played in made]
            pooled = _control.against([played for _, played in made], theirs, game)
            rows += [*told, {**shared(told), **pooled, "seed": None}]
            write(options, rows)
            print(f"{game.name} {width} {recipe}: {pooled['return']:.1f}, kept {pooled['kept']:.4f}", flush=True)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--games", nargs="+", choices=sorted(_control.GAMES), default=list(_control.GAMES))
    parser.add_argument("--seeds", type=int, default=3, help="students of each recipe")
    parser.add_argument("--episodes", type=int, default=50, help="test episodes of each student")
    parser.add_argument("--labels", type=int, default=12_000, help="the teacher's decisions to learn from")
    parser.add_argument("--steps", type=int, default=2_000, help="gradient steps of 64 decisions")
    parser.add_argument("--jobs", type=int, default=1, help="students at a time, a process each")
    parser.add_argument("--teachers", type=Path, default=_control.WORK, help="folder of the trained teachers' files")
    return parser.parse_args()


def student(
    options: argparse.Namespace, name: str, width: int, recipe: str, seed: int
) -> tuple[dict[str, Any], list[float]]:
    """What one student is, and its returns. In a process of its own, whose CPU time is the student's."""
    game = _control.GAMES[name]
    act, policy = _control.teacher_of(game, options.teachers)
    taught = _control.labels(game, act, policy, count=options.labels + HELD_OUT, first=seed * 1_000)
    data, held_out = (examples(taught, part, game) for part in (slice(options.labels), slice(options.labels, None)))
    shape = MlpShape(sizes=(game.numbers, width, len(game.actions)), actions=game.actions)
    network = new_mlp(shape, seed=seed, normal=data.normal())
    config = TrainConfig(seed=seed, steps=options.steps, patience=0, loss=LOSSES[recipe])
    started = time.process_time()
    train(Tempered(network) if recipe == "tutorial" else network, data, config)
    cpu_s = time.process_time() - started
    file = options.teachers / f"{game.name}-{width}-{recipe}-{seed}.policy"
    file.parent.mkdir(parents=True, exist_ok=True)
    manifest = Manifest(created=time.strftime("%Y-%m-%d", time.gmtime()), configuration={"recipe": recipe})
    questions = list(taught.observations[options.labels :: 10])
    gate.export(file, arrays_of(network), shape.config(), manifest, trained=trained_side(network), questions=questions)
    exported = open_policy(file)
    played = _control.returns(game, _control.acting(exported, game), episodes=options.episodes)
    sizes = None if policy is None else policy.config["sizes"]
    return {
        "game": game.id,
        "recipe": recipe,
        "seed": seed,
        "student": "-".join(map(str, shape.sizes)),
        "parameters": parameters(shape.sizes),
        "parameters_share": None if sizes is None else parameters(shape.sizes) / parameters(sizes),
        "flops_share": None if sizes is None else flops(shape.sizes) / flops(sizes),
        "size_bytes": file.stat().st_size,
        "labels": options.labels,
        "label_environment_steps": taught.environment_steps,
        "steps": options.steps,
        "training_cpu_s": cpu_s,
        "agreement": agreement_of(network, held_out),
        "us_a_decision": microseconds(exported, taught.observations[:500]),
        "episodes": options.episodes,
    }, played


def examples(taught: _control.Labels, part: slice, game: Game) -> VectorExamples:
    logits = None if taught.logits is None else taught.logits[part]
    return VectorExamples(
        taught.observations[part], taught.actions[part], action_count=len(game.actions), logits=logits
    )


def teacher_row(game: Game, theirs: Sequence[float], policy: Policy | None) -> dict[str, Any]:
    sizes = None if policy is None else policy.config["sizes"]
    made = {} if policy is None else policy.manifest.get("metrics", {})
    return {
        "game": game.id,
        "recipe": "the teacher",
        "seed": None,
        "student": "gymnasium's rules" if sizes is None else "-".join(map(str, sizes)),
        "parameters": None if sizes is None else parameters(sizes),
        "label_environment_steps": made.get("environment_steps"),
        "training_cpu_s": made.get("training_cpu_s"),
        "episodes": len(theirs),
        "return": float(np.mean(theirs)),
        "success": float(np.mean([value >= game.threshold for value in theirs])),
    }


def shared(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What all seeds of a recipe have; numbers that differ as their mean."""
    return {
        name: value if all(row[name] == value for row in rows) else float(np.mean([row[name] for row in rows]))
        for name, value in rows[0].items()
        if name != "seed"
    }


def parameters(sizes: Sequence[int]) -> int:
    """Weights and biases; mean and scale of the observations are no parameters that are learnt by gradient."""
    return _control.multiplications(sizes) + sum(sizes[1:])


def flops(sizes: Sequence[int]) -> int:
    return 2 * _control.multiplications(sizes)


def microseconds(policy: Policy, vectors: Sequence[Any]) -> float:
    """CPU time of a decision in the numpy runtime, the median of single ones."""
    network = policy.network
    assert isinstance(network, EdgeMlp)
    found = []
    for vector in vectors:
        started = time.process_time_ns()
        network.logits(vector)
        found.append(time.process_time_ns() - started)
    return float(np.median(found)) / 1e3


def write(options: argparse.Namespace, rows: Sequence[dict[str, Any]]) -> None:
    """Replace the rows of these games, and keep the others'."""
    path = _results.RESULTS / f"{NAME}.json"
    before = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"rows": []}
    ids = [_control.GAMES[name].id for name in options.games]
    now = _results.provenance(options.episodes, range(options.seeds))
    extra = {
        "measured": {**before.get("measured", {}), **dict.fromkeys(ids, now)},
        "kept": "(return - random) / (teacher's return - random)",
        "compute": "floating-point operations of a decision, student / teacher",
        "temperature": TEMPERATURE,
        "written_at": time.strftime("%Y-%m-%d", time.gmtime()),
    }
    kept = [row for row in before["rows"] if row["game"] not in ids]
    _results.write(NAME, [*kept, *rows], n=options.episodes, seeds=range(options.seeds), extra=extra)


if __name__ == "__main__":
    main()
