"""What every policy is trained on: inputs of its own kind, and for each decision what the teacher did.

Knows shapes. Does not know how inputs are made (``texts``, ``vectors``) or what a loss does with the labels.
Letters: B decisions, A actions at most.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]
Floats = NDArray[np.float32]
Tensor = Any


class Batch(NamedTuple):
    """Some decisions as tensors."""

    inputs: Any
    """What the network's ``forward`` takes."""
    mask_BA: Tensor | None
    """True where there is an admissible action; None: all actions are, in every decision."""
    target_B: Tensor
    """Position of the teacher's action, int64."""
    probabilities_BA: Tensor | None
    """The teacher's distribution, 0 where nothing is admissible; None where the data hold its actions only."""
    weight_B: Tensor | None
    """None: every decision counts the same."""
    told_BA: Tensor | None = None
    """False where the teacher told no probability (``probabilities_BA`` is NaN there); None: it told all."""

    def __len__(self) -> int:
        return len(self.target_B)

    def weights(self) -> Tensor:
        """(B,), ones where every decision counts the same."""
        return self.target_B.new_ones(len(self)).float() if self.weight_B is None else self.weight_B


class Examples(Protocol):
    """A dataset of labelled decisions, ready to be cut into batches."""

    @property
    def digest(self) -> str:
        """SHA-256 of everything that training reads."""

    def __len__(self) -> int: ...

    def batch(self, rows: Integers) -> Batch: ...

    def problem(self) -> str | None:
        """Why nothing can be learnt from these data, for a person; None where something can."""


@runtime_checkable
class Graded(Protocol):
    """Data that know which decisions are easy: what a curriculum begins with."""

    def easiest_first(self) -> Integers:
        """Every row once."""


@runtime_checkable
class Grouped(Protocol):
    """Data of several environments."""

    @property
    def groups(self) -> Integers | None:
        """The number of each row's environment, from 0; None where there is one only."""


def told(probabilities: Floats | None) -> NDArray[np.bool_] | None:
    """True where a teacher told a probability, in the same shape; None where nothing is NaN, as is usual.

    >>> told(np.array([0.5, np.nan], np.float32)).tolist(), told(np.array([0.5, 0.5], np.float32))
    ([True, False], None)
    """
    known = None if probabilities is None else ~np.isnan(probabilities)
    return None if known is None or known.all() else known


def ragged(lengths: Sequence[int]) -> Integers:
    """Offsets of rows that lie one behind the other, one more than there are rows.

    >>> ragged([2, 0, 3]).tolist()
    [0, 2, 2, 5]
    """
    return np.concatenate([[0], np.cumsum(np.asarray(lengths, np.int64))]).astype(np.int64)


def gathered(offsets: Integers, rows: Integers) -> tuple[Integers, Integers]:
    """Where the values of some rows lie, one row behind the other, and how many each has.

    >>> where, lengths = gathered(np.array([0, 2, 2, 5]), np.array([2, 0]))
    >>> where.tolist(), lengths.tolist()
    ([2, 3, 4, 0, 1], [3, 2])
    """
    lengths = offsets[rows + 1] - offsets[rows]
    ends = np.cumsum(lengths)
    total = int(ends[-1]) if len(ends) else 0
    return np.arange(total) + np.repeat(offsets[rows] - (ends - lengths), lengths), lengths


def padded(lengths: Integers, width: int) -> NDArray[np.bool_]:
    """True where a row of that length has a value, shape (rows, width)."""
    return np.asarray(np.arange(width) < lengths[:, None])
