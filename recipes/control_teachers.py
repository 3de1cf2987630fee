"""Teachers for CartPole and Acrobot: PPO of Stable-Baselines3, trained once, kept as a policy's file outside git.

    pip install 'stable-baselines3>=2.7,<3'
    python recipes/control_teachers.py cart-pole --out teachers/cart-pole.policy
    potstill distill context --env cart-pole --teacher policy:teachers/cart-pole.policy --split train --n 40

    python recipes/control_teachers.py cart-pole --out teachers/mine.policy --saved ppo_cartpole.zip

Gymnasium ships no rules for these tasks. Two layers of 256 units (67,586 parameters in CartPole); the settings are
those of RL Baselines3 Zoo (hyperparams/ppo.yml, read 2026-11) where it has them, for Acrobot without its normalised
observations and with fewer steps. What is kept is the policy's network alone, layer by layer, so that it acts by numpy
and answers with its own probabilities. ``--saved`` takes an agent that Stable-Baselines3 saved (PPO or A2C that sees
the observations as they are, not through VecNormalize): only the tensors in the file are read, nothing in it is run. A
file that is there is not trained again. LunarLander needs no teacher here: its rules are ``--teacher expert``.
"""

from __future__ import annotations

import argparse
import datetime
import io
import itertools
import statistics
import sys
import time
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from potstill.distill.weights import artefact
from potstill.distill.weights.lineage import Manifest
from potstill.distill.weights.policies.mlp import MlpShape
from potstill.distill.weights.policies.pytorch import load_torch
from potstill.edge.mlp import ACTIVATIONS, Mlp
from potstill.edge.policy import open_policy
from potstill.edge.tensors import BadFile
from potstill.envs.control.environment import simulator
from potstill.envs.control.games import ACROBOT, CART_POLE, Game
from potstill.errors import ConfigError

GAMES = {game.name: game for game in (CART_POLE, ACROBOT)}
STEPS = {"cart-pole": 150_000, "acrobot": 300_000}
SETTINGS: dict[str, dict[str, Any]] = {
    "cart-pole": {"n_steps": 32, "batch_size": 256, "gae_lambda": 0.8, "gamma": 0.98, "n_epochs": 20, "ent_coef": 0.0},
    "acrobot": {"n_steps": 256, "gae_lambda": 0.94, "gamma": 0.99, "n_epochs": 4, "ent_coef": 0.0},
}
WORLDS = {"cart-pole": 8, "acrobot": 16}
"""Environments that are played at a time."""
RATE, CLIP = 1e-3, 0.2
"""Where CartPole's learning rate and clipping begin: both fall to 0."""
WIDTH = 256
SEED = 0
PLAYED = 20
FIRST_EPISODE = 900_000
"""Of the seeds that are played at the end: of the train split, so that no test episode is looked at."""


def make(game: Game, out: Path, *, environment_steps: int | None = None) -> Path:
    """The teacher's file; trained where it is not there yet."""
    if not out.exists():
        started, steps = time.process_time(), STEPS[game.name] if environment_steps is None else environment_steps
        if steps < 1:
            raise ConfigError(f"{steps} environment steps teach nothing. Give 1 or more: --environment-steps")
        state = trained(game, steps)
        spent = {"environment_steps": steps, "training_cpu_s": round(time.process_time() - started, 1)}
        given = {"seed": SEED, "environments": WORLDS[game.name], "net_arch": [WIDTH, WIDTH], **SETTINGS[game.name]}
        keep(out, state, game, given | ({"falling_from": [RATE, CLIP]} if game is CART_POLE else {}), spent)
    return out


def read(game: Game, out: Path, saved: Path, activation: str = "tanh") -> Path:
    """The same file out of what Stable-Baselines3 ``saved``; written anew each time."""
    keep(out, tensors_of(saved), game, {"saved_as": saved.name}, {}, activation)
    return out


def keep(
    out: Path,
    state: Mapping[str, Any],
    game: Game,
    configuration: dict[str, Any],
    metrics: dict[str, Any],
    activation: str = "tanh",
) -> None:
    arrays, shape = network_of(state, game, activation)
    manifest = Manifest(
        created=datetime.datetime.now(tz=datetime.UTC).isoformat(timespec="seconds"),
        configuration={"recipe": "control_teachers", "environment": game.id, **configuration},
        metrics=metrics,
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    artefact.write(out, arrays, shape.config(), manifest)


def trained(game: Game, steps: int) -> Mapping[str, Any]:
    """The tensors of a PPO agent after so many steps in the environment."""
    try:
        from stable_baselines3 import PPO
        from stable_baselines3.common.env_util import make_vec_env
    except ImportError:
        raise ConfigError(
            "Stable-Baselines3 trains this teacher and is not installed. Type: pip install 'stable-baselines3>=2.7,<3'"
        ) from None
    falling = {"learning_rate": lambda left: RATE * left, "clip_range": lambda left: CLIP * left}
    agent = PPO(
        "MlpPolicy",
        make_vec_env(game.id, n_envs=WORLDS[game.name], seed=SEED),
        policy_kwargs={"net_arch": [WIDTH, WIDTH]},
        seed=SEED,
        device="cpu",
        verbose=1,
        **SETTINGS[game.name],
        **(falling if game is CART_POLE else {}),
    )
    agent.learn(total_timesteps=steps, log_interval=max(1, steps // 10 // (agent.n_steps * agent.n_envs)))
    return agent.policy.state_dict()


def tensors_of(saved: Path) -> Mapping[str, Any]:
    """Of the file that ``model.save`` wrote: ``policy.pth`` alone, as tensors (the rest are pickles, left unread)."""
    torch = load_torch()
    try:
        with zipfile.ZipFile(saved) as file:
            inside = io.BytesIO(file.read("policy.pth"))
        state = torch.load(inside, map_location="cpu", weights_only=True)
    except Exception as error:  # what a file that is none makes of the reader is not foreseen
        what = str(error).partition("\n")[0] or type(error).__name__
        raise ConfigError(f"{saved} is not what model.save of Stable-Baselines3 writes ({what}).") from None
    if not isinstance(state, dict) or not all(isinstance(one, torch.Tensor) for one in state.values()):
        raise ConfigError(f"{saved} is not what model.save of Stable-Baselines3 writes (its policy is no tensors).")
    return state


def network_of(state: Mapping[str, Any], game: Game, activation: str) -> tuple[dict[str, Any], MlpShape]:
    """The layers from observation to action, by our names: weights (units, inputs), biases (units,), in float32.

    Raises ``ConfigError`` for a network that is no plain perceptron from this game's numbers to its actions.
    """
    hidden = (f"mlp_extractor.policy_net.{place}" for place in itertools.count(0, 2))  # activations stand between
    layers = [*itertools.takewhile(lambda name: f"{name}.weight" in state, hidden), "action_net"]
    wanted = [f"{name}.{part}" for name in layers for part in ("weight", "bias")]
    if any(name not in state for name in wanted) or "log_std" in state:
        raise ConfigError(f"It is no PPO or A2C agent that chooses among actions. Its tensors: {', '.join(state)}.")
    arrays = {
        f"layers.{place}.{part}": np.asarray(state[f"{name}.{part}"], np.float32)
        for place, name in enumerate(layers)
        for part in ("weight", "bias")
    }
    inputs = arrays["layers.0.weight"].shape[1]
    sizes = (inputs, *(len(arrays[f"layers.{place}.bias"]) for place in range(len(layers))))
    if (sizes[0], sizes[-1]) != (game.numbers, len(game.actions)):
        raise ConfigError(
            f"The agent goes from {sizes[0]} numbers to {sizes[-1]} actions, {game.id} from {game.numbers} to "
            f"{len(game.actions)}. It was trained for something else."
        )
    return arrays, MlpShape(sizes=sizes, activation=activation, actions=game.actions)


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
    parser.add_argument("--saved", type=Path, help="a trained agent (PPO or A2C) that is read instead")
    parser.add_argument("--activation", choices=ACTIVATIONS, default="tanh", help="of the saved agent's hidden layers")
    options = parser.parse_args()
    game = GAMES[options.game]
    try:
        if options.saved is None:
            file = make(game, options.out, environment_steps=options.environment_steps)
        else:
            file = read(game, options.out, options.saved, options.activation)
    except ConfigError as error:
        sys.exit(f"Error: {error}")
    try:
        policy = open_policy(file)
    except (OSError, BadFile) as error:
        sys.exit(f"Error: {file} is there and is no policy ({error}). Give another name: --out")
    if not isinstance(policy.network, Mlp) or policy.network.actions != game.actions:
        sys.exit(f"Error: {file} is there and is another policy. Give another name: --out")
    played = returns(game, policy.network, range(FIRST_EPISODE, FIRST_EPISODE + PLAYED))
    print(
        f"{options.out}: {policy.parameters} parameters, mean return {statistics.mean(played):.1f} of {PLAYED} greedy "
        f"episodes (gymnasium's threshold: {game.threshold:g})"
    )


if __name__ == "__main__":
    main()
