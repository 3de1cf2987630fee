"""Gymnasium's control tasks as ``Environment``s: numbers as a JSON list out, an action's name in, return as outcome.

What it knows: how an episode of gymnasium becomes observations and an outcome, and who the expert is: the rules that
gymnasium ships for LunarLander, or any policy's file (``teacher``). What it does not do: train one, or run in another
process (``envs.worker``).
"""

from __future__ import annotations

import importlib
import math
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

from potstill.edge.mlp import Mlp
from potstill.edge.policy import open_policy
from potstill.envs.control.games import ACROBOT, CART_POLE, LUNAR_LANDER, Game
from potstill.errors import BadTask, ConfigError, EnvError, MissingExtra
from potstill.types import Action, Blob, Observation, Outcome, Task


class ControlEnvironment:
    """One episode of a control task at a time.

    ``teacher``: a policy's file whose likeliest action is the expert's; needed where gymnasium has no rules of its own.
    The episode is over when gymnasium ends it, also by its limit of steps. Success: it is over and the return reaches
    the task's threshold. Score: ``Game.score`` of the return once it is over, 0 before. The task's seed, not that of
    ``reset``, says how the episode begins.
    """

    game: Game
    instructions: str
    max_steps: int

    def __init__(self, *, teacher: str | None = None) -> None:
        self._teacher = None if teacher is None else _opened(teacher, self.game)
        self._env: Any = None
        self._seen: Any = None
        self._return, self._steps, self._over = 0.0, 0, False

    @property
    def name(self) -> str:
        return self.game.name

    def reset(self, task: Task, seed: int) -> Observation:
        """Begin the task's episode. Raises ``BadTask`` where ``task.data`` names no seed, ``MissingExtra``."""
        try:
            task_seed = int(task.data["seed"])
        except (KeyError, ValueError, TypeError) as error:
            raise BadTask(f"Task '{task.id}' names no seed in its data: {task.data}") from error
        if task_seed < 0:
            raise BadTask(f"Task '{task.id}' has the seed {task_seed}. Allowed: 0 and more.")
        if self._env is None:
            self._env = simulator(self.game)
        self._seen, _ = self._env.reset(seed=task_seed)
        self._return, self._steps, self._over = 0.0, 0, False
        return self._observe()

    def step(self, action: Action) -> Observation:
        """One step of the simulation. Another text than an action's name changes nothing and costs no step of it.

        Raises ``EnvError`` after the end, and for a reward that is no number.
        """
        self._must_play()
        if self._over:
            raise EnvError("The episode is over: call reset before the next step.")
        words = action.text.strip().lower()
        if words not in self.game.actions:
            allowed = ", ".join(self.game.actions)
            return self._observe(f"There is no action '{' '.join(words.split())[:80]}'. Allowed: {allowed}.\n")
        self._seen, reward, ended, cut, _ = self._env.step(self.game.actions.index(words))
        self._steps += 1
        if not math.isfinite(float(reward)):
            raise EnvError(f"{self.game.id} gave the reward {reward} at step {self._steps}: it is no number.")
        self._return += float(reward)
        self._over = bool(ended or cut)
        return self._observe()

    def outcome(self) -> Outcome:
        self._must_play()
        told = f"return {self._return:.10g} in {self._steps} steps"
        if not self._over:
            return Outcome(success=False, score=0.0, detail=f"not finished: {told}")
        return Outcome(success=self._return >= self.game.threshold, score=self._score(), detail=told)

    def expert_action(self) -> Action | None:
        """The teacher's action, or that of gymnasium's own rules; None where there is neither."""
        self._must_play()
        if self._over:
            return None
        if self._teacher is not None:
            return Action(text=self._teacher.actions[int(np.argmax(self._teacher.logits(self._seen)))])
        number = self._rules()
        return None if number is None else Action(text=self.game.actions[number])

    def read_blob(self, blob: Blob) -> bytes:
        raise KeyError(blob.digest)

    def close(self) -> None:
        if self._env is not None:
            self._env.close()
        self._env = None

    def _rules(self) -> int | None:
        """The action of rules that come with the task."""
        return None

    def _must_play(self) -> None:
        if self._env is None:
            raise EnvError("No episode was started: call reset first.")

    def _score(self) -> float:
        return self.game.score(self._return) if self._over else 0.0

    def _observe(self, said: str = "") -> Observation:
        return Observation(
            text=said + as_text(self._seen),
            admissible=() if self._over else self.game.actions,
            done=self._over,
            score=self._score(),
        )


class CartPoleEnvironment(ControlEnvironment):
    game, instructions, max_steps = CART_POLE, CART_POLE.instructions, CART_POLE.max_steps


class AcrobotEnvironment(ControlEnvironment):
    game, instructions, max_steps = ACROBOT, ACROBOT.instructions, ACROBOT.max_steps


class LunarLanderEnvironment(ControlEnvironment):
    game, instructions, max_steps = LUNAR_LANDER, LUNAR_LANDER.instructions, LUNAR_LANDER.max_steps

    def _rules(self) -> int:
        """``gymnasium.envs.box2d.lunar_lander.heuristic``: a few thresholds written by hand, no parameters learnt."""
        rules = importlib.import_module("gymnasium.envs.box2d.lunar_lander")
        return int(rules.heuristic(self._env, self._seen))


def as_text(numbers: Any) -> str:
    """A vector of single-precision numbers as a JSON list, each with the fewest digits that give it back exactly.

    >>> as_text(np.array([0.1, -2, 3e-08], np.float32))
    '[0.1,-2.0,3e-8]'
    """
    single = np.asarray(numbers, np.float32)
    return "[" + ",".join(_digits(number) for number in single) + "]"


def _digits(number: np.float32) -> str:
    return str(number).replace("e-0", "e-").replace("e+0", "e+")


def simulator(game: Game) -> Any:
    """Gymnasium's own environment of the task. Raises ``MissingExtra``."""
    try:
        return gymnasium.make(game.id, disable_env_checker=True)
    except gymnasium.error.DependencyNotInstalled as error:
        raise MissingExtra(f"The environment '{game.name}'", "control") from error


def _opened(path: str, game: Game) -> Mlp:
    """The network of a teacher's file. Raises ``ConfigError`` where it is no policy for this game."""
    try:
        network = open_policy(Path(path).expanduser()).network
    except OSError as error:
        raise ConfigError(f"Cannot read the teacher {path}: {error.strerror}. Name a policy's file.") from None
    except ValueError as error:
        raise ConfigError(str(error)) from None
    if not isinstance(network, Mlp):
        raise ConfigError(f"The teacher {path} is a policy of the kind '{network.kind}'. Name one of the kind 'mlp'.")
    if set(network.actions) != set(game.actions):
        raise ConfigError(
            f"The teacher {path} has the actions {', '.join(network.actions)}; {game.id} has {', '.join(game.actions)}."
        )
    if network.inputs != game.numbers:
        raise ConfigError(f"The teacher {path} reads {network.inputs} numbers; {game.id} shows {game.numbers}.")
    return network
