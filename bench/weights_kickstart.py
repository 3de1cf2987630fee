"""LunarLander: distilled from rules, then reinforced with the rules' pull fading; beside distillation and reinforcement
alone.

    python bench/weights_kickstart.py [--seeds 3] [--episodes 50] [--environment-steps 40960] [--labels 1500]
        [--jobs 1]

The teacher are gymnasium's rules. Labels are few on purpose, so that the clone is no expert: ``clone`` learns them in
``--steps`` gradient steps. Three students are then trained by the same PPO for equally many environment steps: from the
clone with the teacher's pull fading (``kickstarted``, arXiv 1803.03835), from the clone without it (``clone, then
reinforced``), and from fresh weights (``reinforced from scratch``). ``more labels`` is the plain twin: a clone of as
many of the rules' decisions as the kickstarted student was told. All play the same test episodes greedily; a score of
``kept`` 0 is random actions', 1 the rules'.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

import _control
import _results
from potstill.distill.weights.losses.config import Kind, Loss
from potstill.distill.weights.policies.mlp import Mlp, MlpShape, VectorExamples, new_mlp
from potstill.distill.weights.policies.ranker import arrays_of
from potstill.distill.weights.train.config import TrainConfig
from potstill.distill.weights.train.kickstart import Round, kickstart
from potstill.distill.weights.train.kickstart_config import KickstartConfig, pull_at
from potstill.distill.weights.train.loop import train
from potstill.edge.policy import Policy, network
from potstill.envs.control.environment import simulator
from potstill.envs.control.games import LUNAR_LANDER

GAME = LUNAR_LANDER
WIDTH = 64
RANDOM_SHARE = 0.04
"""What the rules, which give one action, leave to the others as a distribution."""
PULL = 1.0


def main() -> None:
    options = parsed()
    theirs = _control.returns(GAME, _control.rules, episodes=options.episodes)
    played: dict[str, list[list[float]]] = {}
    rows: list[dict[str, Any]] = [{"recipe": "the rules", "seed": None, "return": float(np.mean(theirs))}]
    rows[0]["success"] = float(np.mean([value >= GAME.threshold for value in theirs]))
    pool = ProcessPoolExecutor(options.jobs, mp_context=get_context("spawn"))
    seeds = range(options.seeds)
    for seed, found in zip(seeds, pool.map(trained, [options] * options.seeds, seeds), strict=True):
        for recipe, (told, ours) in found.items():
            played.setdefault(recipe, []).append(ours)
            rows.append({"recipe": recipe, "seed": seed, **told, **_control.against([ours], theirs, GAME)})
    for recipe, every in played.items():
        told = next(row for row in rows if row["recipe"] == recipe)
        costs = {name: told[name] for name in ("labels", "environment_steps", "parameters")}
        cpu_s = float(np.mean([row["training_cpu_s"] for row in rows if row["recipe"] == recipe]))
        pooled = _control.against(every, theirs, GAME)
        rows.append({"recipe": recipe, "seed": None, **costs, "training_cpu_s": cpu_s, **pooled})
    write(options, rows, differences(played))


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--episodes", type=int, default=50, help="test episodes of each student")
    parser.add_argument("--environment-steps", type=int, default=40_960, help="of reinforcement")
    parser.add_argument("--labels", type=int, default=1_500, help="the rules' decisions that the clone learns")
    parser.add_argument("--jobs", type=int, default=1, help="seeds at a time, a process each")
    parser.add_argument("--steps", type=int, default=1_000, help="gradient steps of each cloning")
    return parser.parse_args()


def trained(options: argparse.Namespace, seed: int) -> dict[str, tuple[dict[str, Any], list[float]]]:
    """Every recipe's student of a seed: what it cost, and its returns."""
    found = {}
    for recipe, made in students(options, seed).items():
        one, told = made()
        found[recipe] = told, _control.returns(GAME, acting(one), episodes=options.episodes)
        print(f"seed {seed} {recipe}: {np.mean(found[recipe][1]):.1f}", flush=True)
    return found


def students(options: argparse.Namespace, seed: int) -> dict[str, Callable[[], tuple[Mlp, dict[str, Any]]]]:
    """Each recipe's student and what it cost, made when it is asked for."""
    few = options.labels
    many = few + asked_states(settings(options, seed, PULL))

    def reinforced(*, cloned: bool, pull: float) -> tuple[Mlp, dict[str, Any]]:
        one, told = clone(options, few, seed) if cloned else (fresh(options, seed), {"labels": 0, "training_cpu_s": 0})
        settled = settings(options, seed, pull)
        rounds: list[Round] = []
        started = time.process_time()
        kickstart(one, lambda: simulator(GAME), settled, teacher=shares if pull else None, watch=rounds.append)
        cpu_s = told["training_cpu_s"] + time.process_time() - started
        return one, {
            **{"labels": told["labels"] + asked_states(settled), "environment_steps": rounds[-1].environment_steps},
            **{"parameters": count(one), "training_cpu_s": cpu_s},
        }

    return {
        "clone": lambda: clone(options, few, seed),
        "more labels": lambda: clone(options, many, seed),
        "kickstarted": lambda: reinforced(cloned=True, pull=PULL),
        "clone, then reinforced": lambda: reinforced(cloned=True, pull=0.0),
        "reinforced from scratch": lambda: reinforced(cloned=False, pull=0.0),
    }


def settings(options: argparse.Namespace, seed: int, pull: float) -> KickstartConfig:
    return KickstartConfig(
        seed=seed, environment_steps=options.environment_steps, pull=pull, learning_rate=1e-3, discount=0.995
    )


def asked_states(config: KickstartConfig) -> int:
    """In how many states the teacher is asked: all of the rounds in which it weighs anything."""
    rounds = sum(pull_at(number / config.rounds, config) > 0 for number in range(config.rounds))
    return rounds * config.environments * config.horizon


def clone(options: argparse.Namespace, labels: int, seed: int) -> tuple[Mlp, dict[str, Any]]:
    taught = _control.labels(GAME, _control.rules, None, count=labels, first=seed * 1_000)
    data = VectorExamples(taught.observations, taught.actions, action_count=len(GAME.actions))
    one = fresh(options, seed)
    started = time.process_time()
    train(one, data, TrainConfig(seed=seed, steps=options.steps, patience=0, loss=Loss(kind=Kind.HARD)))
    cpu_s = time.process_time() - started
    return one, {"labels": labels, "environment_steps": 0, "parameters": count(one), "training_cpu_s": cpu_s}


def fresh(options: argparse.Namespace, seed: int) -> Mlp:
    """The same first weights and the same scale of observations for all recipes of a seed."""
    taught = _control.labels(GAME, _control.rules, None, count=options.labels, first=seed * 1_000)
    data = VectorExamples(taught.observations, taught.actions, action_count=len(GAME.actions))
    shape = MlpShape(sizes=(GAME.numbers, WIDTH, len(GAME.actions)), actions=GAME.actions)
    return new_mlp(shape, seed=seed, normal=data.normal())


def shares(seen_BD: Any) -> Any:
    """The rules as logits: their action has 1 - RANDOM_SHARE, the others the rest."""
    chosen = [_control.rules(seen) for seen in seen_BD]
    logits = np.full((len(chosen), len(GAME.actions)), np.log(RANDOM_SHARE / (len(GAME.actions) - 1)))
    logits[np.arange(len(chosen)), chosen] = np.log(1 - RANDOM_SHARE)
    return logits


def acting(one: Mlp) -> _control.Act:
    arrays, config = arrays_of(one), one.shape.config()
    return _control.acting(Policy(network(arrays, config), config, {}, arrays, 1.0), GAME)


def count(one: Mlp) -> int:
    return sum(value.numel() for value in one.parameters())


def differences(played: dict[str, list[list[float]]]) -> list[dict[str, Any]]:
    """Of returns, on the same episodes: kickstarting against each of the others."""
    found = []
    for recipe in played:
        if recipe != "kickstarted":
            told = _control.paired(played["kickstarted"], played[recipe])
            found.append({"of": "kickstarted", "against": recipe, "in": "return", **told})
    return found


def write(options: argparse.Namespace, rows: Sequence[dict[str, Any]], found: Sequence[dict[str, Any]]) -> Path:
    extra = {
        "differences": list(found),
        "kept": "(return - random) / (rules' return - random)",
        "game": GAME.id,
        "written_at": time.strftime("%Y-%m-%d", time.gmtime()),
    }
    return _results.write("weights_kickstart", rows, n=options.episodes, seeds=range(options.seeds), extra=extra)


if __name__ == "__main__":
    main()
