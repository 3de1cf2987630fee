"""How a student is made, as a value: what a lineage writes down. Needs no PyTorch."""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar

import msgspec

from potstill.distill.weights.train.config import TrainConfig
from potstill.edge.mlp import ACTIVATIONS
from potstill.errors import ConfigError, one_of
from potstill.types import Struct

STUDENTS = ("ranker", "film", "mlp", "lm")
"""Kinds of students that ``distill weights`` trains from episodes in a store."""


class RankerRecipe(Struct, frozen=True, kw_only=True):
    """A ranker's. Raises ``ConfigError`` for values that mean nothing."""

    student: ClassVar[str] = "ranker"

    width: int = 64
    dropout: float = 0.1
    train: TrainConfig = msgspec.field(default_factory=TrainConfig)

    def __post_init__(self) -> None:
        _check(self.width, self.dropout, "100 thousand")


class Augment(StrEnum):
    """How decisions are changed each time that they are learnt, so that what was done stays right
    (``policies.symmetries``)."""

    COLOURS = "colours"
    """Are exchanged."""
    ROTATIONS = "rotations"
    """The world is turned by quarters."""


class FilmRecipe(Struct, frozen=True, kw_only=True):
    """A grid student's. Raises ``ConfigError`` for values that mean nothing."""

    student: ClassVar[str] = "film"

    width: int = 64
    dropout: float = 0.1
    augment: tuple[Augment, ...] = ()
    train: TrainConfig = msgspec.field(default_factory=TrainConfig)

    def __post_init__(self) -> None:
        _check(self.width, self.dropout, "215 thousand")


class MlpRecipe(Struct, frozen=True, kw_only=True):
    """A multilayer perceptron's. Raises ``ConfigError`` for values that mean nothing."""

    student: ClassVar[str] = "mlp"

    width: int = 64
    """Units of a hidden layer."""
    layers: int = 1
    """Hidden ones."""
    activation: str = "relu"
    dropout: float = 0.0
    train: TrainConfig = msgspec.field(default_factory=TrainConfig)

    def __post_init__(self) -> None:
        if not 1 <= self.width <= 4096:
            raise ConfigError(f"width is {self.width}. Allowed for an mlp: 1 to 4096.")
        if not 0 <= self.layers <= 8:
            raise ConfigError(f"layers is {self.layers}. Allowed: 0 (a linear policy) to 8.")
        one_of("activation", self.activation, ACTIVATIONS)
        _must_drop_a_share(self.dropout)


Recipe = RankerRecipe | FilmRecipe | MlpRecipe


def _check(width: int, dropout: float, made: str) -> None:
    if not 4 <= width <= 512:
        raise ConfigError(f"width is {width}. Allowed: 4 to 512; 64 makes about {made} parameters.")
    _must_drop_a_share(dropout)


def _must_drop_a_share(dropout: float) -> None:
    if not 0 <= dropout < 1:
        raise ConfigError(f"dropout is {dropout}. Allowed: 0 and more, below 1.")
