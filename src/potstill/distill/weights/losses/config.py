"""Which loss a student is trained with, as a value that cannot hold nonsense.

It knows names and ranges. It does not import PyTorch: ``objective`` makes the loss.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from enum import StrEnum
from typing import Any

import msgspec

from potstill.errors import ConfigError, UnknownName, one_of
from potstill.types import Struct

COLDEST, HOTTEST = 0.01, 100.0
"""Temperatures between which float32 still tells actions apart, once the square of the temperature is in the loss."""


class Kind(StrEnum):
    HARD = "hard"
    """Cross-entropy with the teacher's action."""
    SOFT = "soft"
    """A divergence from the teacher's distribution over the admissible actions."""
    MARGIN = "margin"
    """How far the teacher's action falls short of beating each other one by a margin."""


class Direction(StrEnum):
    FORWARD = "forward"
    """KL(teacher || student): the student covers all that the teacher may do."""
    REVERSE = "reverse"
    """KL(student || teacher): the student keeps to what the teacher surely does."""
    JENSEN_SHANNON = "jensen-shannon"
    """The mean of both to their middle: symmetric, at most ln 2 before the square of the temperature."""


class Rest(StrEnum):
    """What becomes of the probability that a teacher's top-k log-probabilities leave over."""

    BUCKET = "bucket"
    """One outcome "anything else" holds it, and the student's other actions are summed to be compared with it."""
    RENORMALISED = "renormalised"
    """It is dealt out over the k in proportion; any other action then counts as impossible."""


class Loss(Struct, frozen=True, kw_only=True):
    """A loss. Raises ``ConfigError`` for values that mean nothing, or nothing together.

    >>> Loss(temperature=2.0, hard_share=0.1).direction.value
    'forward'
    """

    kind: Kind = Kind.SOFT
    direction: Direction = Direction.FORWARD
    temperature: float = 1.0
    """Both sides' logits are divided by it, and the divergence is multiplied by its square (arXiv 1503.02531, 2)."""
    hard_share: float = 0.0
    """The lambda of ``lambda * hard + (1 - lambda) * soft``."""
    smoothing: float = 0.0
    """Share of the hard label that is spread evenly over the admissible actions (arXiv 1512.00567, section 7)."""
    rest: Rest = Rest.BUCKET
    margin: float = 1.0
    """By how much the teacher's action must beat the others, in logits; for kind=margin."""

    def __post_init__(self) -> None:
        one_of("kind of loss", self.kind, Kind)
        one_of("direction", self.direction, Direction)
        one_of("way to treat the rest", self.rest, Rest)
        _between("temperature", self.temperature, COLDEST, HOTTEST)
        _between("hard_share", self.hard_share, 0.0, 1.0)
        _between("smoothing", self.smoothing, 0.0, 1.0)
        if self.smoothing == 1.0:
            raise ConfigError("smoothing=1 leaves nothing of the label. Give less than 1, such as smoothing=0.1.")
        _between("margin", self.margin, 0.01, 100.0)
        if self.kind != Kind.MARGIN and self.margin != 1.0:
            raise ConfigError(f"margin={self.margin} means nothing for kind={self.kind.value}. Give kind=margin.")
        if self.kind == Kind.MARGIN and self.smoothing:
            raise ConfigError(f"smoothing={self.smoothing} means nothing for kind=margin. Leave it out.")
        if self.kind != Kind.SOFT:
            self._refuse_soft_options()
        elif self.hard_share == 1.0:
            raise ConfigError("hard_share=1 leaves nothing of the soft loss. Give kind=hard, or a hard_share below 1.")
        elif self.smoothing and not self.hard_share:
            raise ConfigError(f"smoothing={self.smoothing} smooths hard labels, but hard_share is 0. Give one of both.")

    def _refuse_soft_options(self) -> None:
        plain = {"direction": Direction.FORWARD, "temperature": 1.0, "hard_share": 0.0, "rest": Rest.BUCKET}
        for name, value in plain.items():
            if (given := getattr(self, name)) != value:
                raise ConfigError(
                    f"{name}={given} means nothing for kind={self.kind.value}. Leave it out, or give kind=soft."
                )

    @property
    def needs_labels(self) -> bool:
        return self.kind != Kind.SOFT or self.hard_share > 0

    @property
    def needs_teacher(self) -> bool:
        """Whether it takes the teacher's distribution beside its action."""
        return self.kind == Kind.SOFT


def build(options: Mapping[str, Any]) -> Loss:
    """A loss from options as typed (``temperature=2``) or read from a file; texts may stand for numbers.

    Raises ``UnknownName`` for an option or choice that does not exist, ``ConfigError`` for values that mean nothing.

    >>> build({"kind": "soft", "temperature": "2"}).temperature
    2.0
    """
    for name in options:
        one_of("option of a loss", name, Loss.__struct_fields__)
    for name, choices in {"kind": Kind, "direction": Direction, "rest": Rest}.items():
        if name in options:
            _one_of_texts(name, options[name], [choice.value for choice in choices])
    try:
        return msgspec.convert(dict(options), Loss, strict=False)
    except msgspec.ValidationError as error:
        raise ConfigError(f"The loss cannot be made from {dict(options)}: {error}.") from error


def _one_of_texts(name: str, given: object, names: list[str]) -> None:
    if given not in names:
        raise UnknownName(name, str(given), names)


def _between(name: str, value: float, low: float, high: float) -> None:
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        raise ConfigError(f"{name}={value!r} is not a number. Give one from {low:g} to {high:g}.")
    if not low <= value <= high:
        raise ConfigError(f"{name}={value:g} is out of range. Give one from {low:g} to {high:g}.")
