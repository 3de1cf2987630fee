"""Several simulators side by side, in this process, and what a policy did in them as arrays.

A simulator is what ``gymnasium.make`` gives. An episode that is over begins anew at once. Letters: T steps, E
simulators, D numbers of an observation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from potstill.distill.weights.policies.batch import Floats
from potstill.errors import ConfigError

SEEDS = (10**9, 2 * 10**9)
"""Episodes begin from seeds between these: far from those of tasks that are tested on (``envs.control``)."""


class Simulator(Protocol):
    """``gymnasium.Env`` with a vector as observation and numbered actions."""

    def reset(self, *, seed: int) -> tuple[Any, dict[str, Any]]: ...

    def step(self, action: int) -> tuple[Any, Any, bool, bool, dict[str, Any]]: ...


class Rollout(NamedTuple):
    """What was seen, done and paid."""

    observations_TED: Floats
    next_observations_TED: Floats
    """What was seen after the step, before an episode that is over begins anew."""
    actions_TE: NDArray[np.int64]
    rewards_TE: NDArray[np.float64]
    ended_TE: NDArray[np.bool_]
    """By the task."""
    cut_TE: NDArray[np.bool_]
    """By a limit of steps."""
    returns: tuple[float, ...]
    """Of the episodes that were over, undiscounted, in their order."""

    @staticmethod
    def flat(array_TE: NDArray[Any]) -> NDArray[Any]:
        """Steps and simulators as one axis."""
        return array_TE.reshape(-1, *array_TE.shape[2:])


class Episode(NamedTuple):
    """One that goes on."""

    seed: int
    actions: list[int]


class Actors:
    """Simulators in the middle of their episodes."""

    def __init__(self, simulators: Sequence[Simulator], *, seed: int) -> None:
        self._simulators = simulators
        self._rng = np.random.default_rng([seed, 0])
        self._episodes: list[Episode] = [Episode(0, [])] * len(simulators)
        self.observations_ED = np.stack([self._begin(place) for place in range(len(simulators))])
        self._returns = [0.0] * len(simulators)

    def play(self, logits_of: Callable[[Floats], NDArray[np.float64]], horizon: int) -> Rollout:
        """Draw actions from the softmax of a policy's logits, so many steps in each simulator.

        Raises ``ConfigError`` for an observation that holds no numbers. Rewards are looked at by ``returns``.
        """
        seen, after, actions, rewards, ended, cut = ([] for _ in range(6))
        over: list[float] = []
        for _ in range(horizon):
            seen.append(self.observations_ED)
            chosen = _drawn(logits_of(self.observations_ED), self._rng)
            told = [one.step(int(action)) for one, action in zip(self._simulators, chosen, strict=True)]
            for episode, action in zip(self._episodes, chosen, strict=True):
                episode.actions.append(int(action))
            after.append(np.stack([_vector(found[0]) for found in told]))
            actions.append(chosen)
            rewards.append([float(found[1]) for found in told])
            ended.append([bool(found[2]) for found in told])
            cut.append([bool(found[3]) and not found[2] for found in told])
            over += self._go_on(after[-1], rewards[-1], [found[2] or found[3] for found in told])
        return Rollout(
            *(np.stack(seen), np.stack(after), np.stack(actions), np.array(rewards, np.float64)),
            *(np.array(ended, bool), np.array(cut, bool), tuple(over)),
        )

    def _go_on(self, after_ED: Floats, rewards: Sequence[float], over: Sequence[bool]) -> list[float]:
        """Begin anew where an episode is over; the returns of those."""
        now_ED, found = after_ED.copy(), []
        for place, (reward, is_over) in enumerate(zip(rewards, over, strict=True)):
            self._returns[place] += reward
            if is_over:
                found.append(self._returns[place])
                self._returns[place] = 0.0
                now_ED[place] = self._begin(place)
        self.observations_ED = now_ED
        return found

    def _begin(self, place: int) -> Floats:
        seed = int(self._rng.integers(*SEEDS))
        self._episodes[place] = Episode(seed, [])
        return _vector(self._simulators[place].reset(seed=seed)[0])

    def played(self) -> dict[str, Any]:
        """How the episodes that go on began and what was done in them, and the generator's state: plain values."""
        episodes = [[episode.seed, episode.actions] for episode in self._episodes]
        return {"episodes": episodes, "returns": self._returns, "generator": self._rng.bit_generator.state}

    def play_again(self, played: Mapping[str, Any], observations_ED: Floats) -> None:
        """Bring the simulators to where ``played`` was told. Raises ``ConfigError`` where one shows anything else."""
        self._rng.bit_generator.state = played["generator"]
        self._returns = list(played["returns"])
        self._episodes = [Episode(seed, list(actions)) for seed, actions in played["episodes"]]
        seen = []
        for simulator, episode in zip(self._simulators, self._episodes, strict=True):
            shown = simulator.reset(seed=episode.seed)[0]
            for action in episode.actions:
                shown = simulator.step(action)[0]
            seen.append(_vector(shown))
        self.observations_ED = np.stack(seen)
        if not np.array_equal(self.observations_ED, observations_ED):
            raise ConfigError(
                "A simulator that was played again from its seed with the same actions shows something else, so what "
                "was killed cannot go on with the same numbers. Leave --resume away to begin anew."
            )


def _vector(seen: Any) -> Floats:
    vector = np.asarray(seen, np.float32)
    if vector.ndim != 1 or not np.isfinite(vector).all():
        raise ConfigError(f"An observation is {str(seen)[:60]}: it must be a vector of numbers, all finite.")
    return vector


def _drawn(logits_EA: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.int64]:
    """One action a row from the softmax, by the largest logit plus Gumbel noise."""
    noise = rng.gumbel(size=logits_EA.shape)
    return np.asarray((logits_EA + noise).argmax(axis=1), np.int64)
