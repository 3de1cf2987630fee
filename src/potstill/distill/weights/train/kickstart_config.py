"""How a policy is trained by reinforcement, as a value that cannot hold nonsense. Needs no PyTorch."""

from __future__ import annotations

import math

from potstill.distill.weights.train.schedule import SCHEDULES
from potstill.errors import ConfigError
from potstill.types import Struct


class KickstartConfig(Struct, frozen=True, kw_only=True):
    """Raises ``ConfigError`` for values that mean nothing."""

    seed: int = 0
    """Of the environments' episodes, the actions drawn and the order of batches."""
    environment_steps: int = 50_000
    """Of all environments together; whole rounds only, so at most so many."""
    environments: int = 8
    """Side by side."""
    horizon: int = 128
    """Steps of each between two times of learning."""
    epochs: int = 4
    """Passes over what a round played."""
    minibatches: int = 4
    learning_rate: float = 1e-3
    """At the beginning; it falls evenly to 0."""
    discount: float = 0.99
    mixture: float = 0.95
    """The lambda of the generalised advantages (arXiv 1506.02438, equation 16)."""
    clip: float = 0.2
    """How far the probability's ratio may go before PPO's loss is flat."""
    entropy: float = 0.01
    """Weight of the policy's entropy, in nats."""
    largest_gradient: float = 0.5
    """Norm to which a step's gradient is cut."""
    pull: float = 0.0
    """Weight of KL(teacher || student) at the beginning; 0: no teacher."""
    fades_until: float = 0.5
    """Share of the rounds after which it is 0; from the first on it falls along half a cosine."""
    threads: int = 1

    def __post_init__(self) -> None:
        for name in ("environment_steps", "environments", "horizon", "epochs", "minibatches", "threads"):
            _least(name, getattr(self, name), 1)
        for name in ("seed", "entropy", "pull"):
            _least(name, getattr(self, name), 0)
        for name in ("learning_rate", "clip", "largest_gradient", "fades_until"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise ConfigError(f"{name} is {value}. Allowed: any number above 0.")
        for name in ("discount", "mixture"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name} is {getattr(self, name)}. Allowed: 0 to 1.")
        if self.fades_until > 1:
            raise ConfigError(f"fades_until is {self.fades_until}. Allowed: above 0, up to 1 (the whole training).")
        if self.rounds < 1:
            raise ConfigError(
                f"environment_steps is {self.environment_steps}: less than one round of {self.environments} "
                f"environments x {self.horizon} steps. Give {self.environments * self.horizon} or more."
            )

    @property
    def rounds(self) -> int:
        return self.environment_steps // (self.environments * self.horizon)


def pull_at(done: float, config: KickstartConfig) -> float:
    """The teacher's pull, the weight of KL(teacher || student), after a share ``done`` of the rounds.

    >>> config = KickstartConfig(pull=2.0, fades_until=0.5)
    >>> [round(pull_at(done, config), 3) for done in (0.0, 0.25, 0.5, 0.9)]
    [2.0, 1.0, 0.0, 0.0]
    """
    if done >= config.fades_until:
        return 0.0
    return config.pull * SCHEDULES["cosine"](done / config.fades_until)


def _least(name: str, value: float, least: int) -> None:
    if not (math.isfinite(value) and value >= least):
        raise ConfigError(f"{name} is {value}. Allowed: {least} or more.")
