"""Teachers for CartPole and Acrobot: a wide perceptron trained by PPO once, kept as a policy's file outside git.

    python recipes/control_teachers.py cart-pole --out teachers/cart-pole.policy
    potstill distill context --env cart-pole --teacher policy:teachers/cart-pole.policy --split train --n 40

Gymnasium ships no rules for these tasks. The network is that of Stable-Baselines3's PPO with two layers of 256 units
(67,586 parameters in CartPole); the training is our own small loop (``distill.weights.train.kickstart`` without a
teacher). A file that is there is not trained again. LunarLander needs none: its rules are ``--teacher expert``.
"""

from __future__ import annotations

import argparse
import datetime
import statistics
import time
from pathlib import Path

import msgspec
import numpy as np

from potstill.distill.weights import artefact
from potstill.distill.weights.lineage import Manifest
from potstill.distill.weights.policies.mlp import MlpShape, new_mlp
from potstill.distill.weights.policies.ranker import arrays_of
from potstill.distill.weights.train.kickstart import Round, kickstart
from potstill.distill.weights.train.kickstart_config import KickstartConfig
from potstill.edge.mlp import Mlp
from potstill.edge.policy import open_policy
from potstill.envs.control.environment import simulator
from potstill.envs.control.games import ACROBOT, CART_POLE, Game

GAMES = {game.name: game for game in (CART_POLE, ACROBOT)}
STEPS = {"cart-pole": 150_000, "acrobot": 150_000}
WIDTH = 256
SEED = 0
PLAYED = 20
FIRST_EPISODE = 900_000
"""Of the seeds that are played at the end: of the train split, so that no test episode is looked at."""


def make(game: Game, out: Path, *, environment_steps: int | None = None) -> Path:
    """The teacher's file; trained where it is not there yet."""
    if out.exists():
        return out
    out.parent.mkdir(parents=True, exist_ok=True)
    config = KickstartConfig(
        seed=SEED, environment_steps=environment_steps or STEPS[game.name], learning_rate=5e-4, entropy=0.005, epochs=6
    )
    shape = MlpShape(sizes=(game.numbers, WIDTH, WIDTH, len(game.actions)), activation="tanh", actions=game.actions)
    network = new_mlp(shape, seed=SEED)
    started = time.process_time()
    history = kickstart(network, lambda: simulator(game), config, watch=tell)
    manifest = Manifest(
        created=datetime.datetime.now(tz=datetime.UTC).isoformat(timespec="seconds"),
        configuration={"recipe": "control_teachers", "environment": game.id, **msgspec.to_builtins(config)},
        metrics={
            "environment_steps": history[-1].environment_steps,
            "training_cpu_s": round(time.process_time() - started, 1),
        },
    )
    artefact.write(out, arrays_of(network), shape.config(), manifest)
    return out


def tell(one: Round) -> None:
    if one.mean_return is not None and one.environment_steps % 10_240 == 0:
        print(
            f"{one.environment_steps} steps: mean return {one.mean_return:.1f} of {one.episodes} episodes", flush=True
        )


def returns(game: Game, policy: Mlp, seeds: range) -> list[float]:
    """Of greedy episodes, one a seed."""
    world, found = simulator(game), []
    for seed in seeds:
        seen, _ = world.reset(seed=seed)
        total, over = 0.0, False
        while not over:
            action = int(np.argmax(policy.logits(seen)))
            seen, reward, ended, cut, _ = world.step(game.actions.index(policy.actions[action]))
            total, over = total + float(reward), ended or cut
        found.append(total)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("game", choices=sorted(GAMES))
    parser.add_argument("--out", type=Path, required=True, help="the policy's file")
    parser.add_argument("--environment-steps", type=int, help=f"of training; default {STEPS}")
    options = parser.parse_args()
    game = GAMES[options.game]
    policy = open_policy(make(game, options.out, environment_steps=options.environment_steps))
    assert isinstance(policy.network, Mlp), "make wrote one"
    played = returns(game, policy.network, range(FIRST_EPISODE, FIRST_EPISODE + PLAYED))
    print(
        f"{options.out}: {policy.parameters} parameters, mean return {statistics.mean(played):.1f} of {PLAYED} greedy "
        f"episodes (gymnasium's threshold: {game.threshold:g})"
    )


if __name__ == "__main__":
    main()
