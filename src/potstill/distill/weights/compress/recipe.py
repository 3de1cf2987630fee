"""How a policy is made smaller, as a value that cannot hold nonsense. Needs no PyTorch: the command line reads it."""

from __future__ import annotations

import msgspec

from potstill.distill.weights.compress.quantize import WIDTHS
from potstill.distill.weights.compress.scores import Score
from potstill.distill.weights.gate import COMPRESSED, Floor
from potstill.errors import ConfigError, one_of
from potstill.types import Struct


class Compression(Struct, frozen=True, kw_only=True):
    """The stages in their order; what is 0 or empty is left out. Raises ``ConfigError`` for values that mean nothing.

    Every stage but the last two has its gradient steps, in which the student learns the policy's own distribution.
    """

    width: int = 0
    """Distil into a new network of that width: a ranker's texts, a grid student's memory, an mlp's hidden layers."""
    distill_steps: int = 1500
    features: float = 0.0
    """While it is distilled: weight in the loss of how far the last hidden layers are apart (``features``)."""
    prune: tuple[float, ...] = ()
    """Shares of the units that there still are to take out, one round each."""
    axes: tuple[str, ...] = ()
    """Whose units; empty: of all axes."""
    score: Score = Score.TAYLOR
    finetune_steps: int = 300
    """After each round of pruning."""
    sparse: float = 0.0
    """Share of each matrix's weights to set to zero."""
    bits: tuple[int, ...] = ()
    """Bits of a weight: 8, 4 or both, the widest first; the narrowest that passes is written."""
    floor: Floor = msgspec.structs.replace(COMPRESSED, agreement=0.95)
    """What each stage must reach against the policy as it was given, on held-out decisions as they were recorded."""
    temperature: float = 1.0
    """Of the distillation: both sides' logits are divided by it."""
    hard_share: float = 0.0
    """Of the recorded teacher's actions in the loss, beside the policy's distribution."""
    learning_rate: float = 2e-3
    batch: int = 64
    seed: int = 0
    threads: int = 1

    def __post_init__(self) -> None:
        one_of("score", self.score, Score)
        if self.width and not 4 <= self.width <= 512:
            raise ConfigError(f"The width to distil into is {self.width}. Allowed: 4 to 512.")
        if not 0 <= self.features <= 100:
            raise ConfigError(f"The weight of features is {self.features}. Allowed: 0 (left out) to 100.")
        if self.features and not self.width:
            raise ConfigError(
                "Features are matched while a narrower student is distilled. Type for example: --width 32"
            )
        if self.axes and not self.prune:
            raise ConfigError(
                f"Axes say where units are taken out, and none are: --axis {self.axes[0]} goes with --prune 0.5"
            )
        for share in self.prune:
            _share("A share of units to prune", share)
        _share("The share of weights to set to zero", self.sparse, least=0.0)
        if not 0 <= self.hard_share <= 1:
            raise ConfigError(f"The share of recorded actions is {self.hard_share}. Allowed: 0 to 1.")
        for bits in self.bits:
            if bits not in WIDTHS:
                raise ConfigError(f"{bits} bits a weight are not known. Allowed: 8, 4.")
        if not (self.width or self.prune or self.sparse or self.bits):
            raise ConfigError("Nothing says how the policy is made smaller. Type for example: --prune 0.5 --int8")
        for name in ("distill_steps", "finetune_steps"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}. Allowed: 1 or more.")


def _share(what: str, value: float, least: float = 0.01) -> None:
    if not least <= value <= 0.99:
        raise ConfigError(f"{what} is {value}. Allowed: {least:g} to 0.99.")
