"""How a network is trained, as a value that cannot hold nonsense. Needs no PyTorch: the command line reads it."""

from __future__ import annotations

import math

import msgspec

from potstill.distill.weights.losses.balance import Part
from potstill.distill.weights.losses.config import Kind, Loss
from potstill.distill.weights.train.adaptive import Adaptive
from potstill.distill.weights.train.schedule import SCHEDULES
from potstill.errors import ConfigError, one_of
from potstill.types import Struct


class TrainConfig(Struct, frozen=True, kw_only=True):
    """Everything that decides the trained numbers, beside the data, the network and the evaluator.

    Raises ``ConfigError`` for values that mean nothing.
    """

    seed: int = 0
    """Of the order of batches and of dropout."""
    epochs: int = 30
    steps: int | None = None
    """Gradient steps; instead of ``epochs`` where it is given."""
    batch: int = 64
    """Decisions of a step."""
    learning_rate: float = 2e-3
    schedule: str = "cosine"
    warmup: int = 50
    """Steps over which the learning rate rises from 0."""
    weight_decay: float = 0.01
    """Decoupled from the gradient (AdamW, arXiv 1711.05101)."""
    clip: float = 1.0
    """Largest norm of a step's gradient."""
    evaluate_every: int | None = None
    """Steps between two looks at the held-out decisions; None: once an epoch."""
    patience: int = 8
    """Evaluations without a better one after which training stops; 0: never."""
    loss: Loss = msgspec.field(default_factory=lambda: Loss(kind=Kind.HARD))
    adaptive: Adaptive | None = None
    """What of ``loss``, and of the decisions shown, follows the student's progress."""
    mix: tuple[Part, ...] = ()
    """Several losses instead of ``loss``."""
    balanced: bool = True
    """A mix's shares are shares of the gradient, whatever each loss's scale; else they are plain factors."""
    threads: int = 1
    """Of PyTorch, in each process. The order of sums, and so the last bits, depend on it."""
    processes: int = 1
    """On this machine, each with its share of every batch (``processes``). The last bits and dropout depend on it."""

    def __post_init__(self) -> None:
        one_of("schedule", self.schedule, SCHEDULES)
        for name in ("epochs", "batch", "threads", "processes"):
            _least(name, getattr(self, name), 1)
        for name in ("steps", "evaluate_every"):
            if getattr(self, name) is not None:
                _least(name, getattr(self, name), 1)
        for name in ("seed", "warmup", "patience", "weight_decay"):
            _least(name, getattr(self, name), 0)
        if self.processes > self.batch:
            raise ConfigError(
                f"processes is {self.processes}, and a step has {self.batch} decisions to share: at most one process "
                f"for each. Type for example: --processes {min(2, self.batch)}"
            )
        if self.adaptive is not None:
            if self.mix:
                raise ConfigError("Adaptive rules change one loss, and here several are mixed. Give one of both.")
            self.adaptive.must_fit(self.loss)
        if len(self.mix) == 1:
            raise ConfigError("A mix of one loss is that loss. Give another part, or the loss alone: --loss kind=soft")
        for name in ("learning_rate", "clip"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise ConfigError(f"{name} is {value}. Allowed: any number above 0.")

    def total(self, decisions: int) -> int:
        """Gradient steps for so many decisions."""
        return self.steps if self.steps is not None else self.epochs * self.steps_per_epoch(decisions)

    def steps_per_epoch(self, decisions: int) -> int:
        return -(-decisions // self.batch)

    def looks_every(self, decisions: int) -> int:
        return self.evaluate_every or self.steps_per_epoch(decisions)


def _least(name: str, value: float, least: int) -> None:
    if not (math.isfinite(value) and value >= least):
        raise ConfigError(f"{name} is {value}. Allowed: {least} or more.")
