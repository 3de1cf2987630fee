"""How a student is made, as a value: what a lineage writes down. Needs no PyTorch."""

from __future__ import annotations

import msgspec

from potstill.distill.weights.train.config import TrainConfig
from potstill.errors import ConfigError
from potstill.types import Struct

STUDENTS = ("ranker", "lm")
"""Kinds of students that ``distill weights`` trains from episodes in a store."""


class RankerRecipe(Struct, frozen=True, kw_only=True):
    """A ranker's. Raises ``ConfigError`` for values that mean nothing."""

    width: int = 64
    dropout: float = 0.1
    train: TrainConfig = msgspec.field(default_factory=TrainConfig)

    def __post_init__(self) -> None:
        if not 4 <= self.width <= 512:
            raise ConfigError(f"width is {self.width}. Allowed: 4 to 512; 64 makes about 100 thousand parameters.")
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"dropout is {self.dropout}. Allowed: 0 and more, below 1.")
