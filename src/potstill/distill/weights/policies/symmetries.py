"""Data augmentation for grids: other colours, or the world turned, so that what was done stays right.

By symmetry, so that no teacher is asked: where a colour is a name and not a meaning, who fetches the red ball there
would fetch the blue one here by the same actions; and a view that turns with the agent looks the same in a world that
is turned by a quarter, but for the direction that stands beside it. Each is done alike to what is seen, the mission and
the past. Knows the colours of MiniGrid and tables of numbers. Does not know decisions or tensors.
Letters as in ``grids``; N rows, G permutations of colours, C codes of a cell, V numbers of words.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from potstill.distill.weights.policies.batch import Integers
from potstill.edge.grids import DIRECTIONS, GridForm
from potstill.edge.words import Words, split
from potstill.errors import ConfigError

COLOURS = ("red", "green", "blue", "purple", "yellow", "grey")
"""In the order of their numbers in ``minigrid.core.constants``; number 1 of a cell's three."""
COLOURED = (4, 5, 6, 7)
"""Doors, keys, balls and boxes. A wall is always grey, and what is empty or was not seen has no colour."""


def colours_in(missions: Iterable[str]) -> list[str]:
    """The colours that some mission names, in their order."""
    named = {word for mission in missions for word in split(mission)}
    return [colour for colour in COLOURS if colour in named]


class Drawn(NamedTuple):
    """What happens to each row of a batch."""

    permutation_N: Integers
    quarters_N: Integers
    """Quarter turns of the world."""

    def repeated(self, times_N: Integers) -> Drawn:
        """The same for several rows of each."""
        return Drawn(*(np.repeat(numbers, times_N) for numbers in self))


class Symmetries:
    """What may be exchanged, as tables to look numbers up in: with nothing to exchange, tables of one row.

    Colours that no mission names stay what they are: their words have no numbers of their own. Raises ``ConfigError``
    where no two colours can be exchanged, or where an action names one, which would have to change as well.
    """

    def __init__(
        self,
        words: Words,
        form: GridForm,
        actions: Sequence[str],
        *,
        colours: bool,
        rotations: bool,
        seed: int,
    ) -> None:
        named = _exchangeable(words, actions) if colours else []
        colour_GK = np.array(list(itertools.permutations(named)), np.int64)
        self._seed, self._quarters = seed, DIRECTIONS if rotations else 1
        self._code_GC = _codes(form, named, colour_GK)
        self._word_GV = np.tile(np.arange(len(words)), (len(colour_GK), 1))
        if named:
            word_K = np.array([words.encode(COLOURS[number])[0] for number in named])
            self._word_GV[:, word_K] = word_K[np.searchsorted(named, colour_GK)]

    def drawn(self, rows: Integers) -> Drawn:
        """One of the permutations and turns for each row of a batch; given by the seed and the batch's rows alone.

        Another epoch cuts other batches and draws anew; a resumed training draws what it would have drawn.
        """
        generator = np.random.default_rng([self._seed, *rows.tolist()])
        permutation_N = generator.integers(len(self._code_GC), size=len(rows))
        return Drawn(permutation_N, generator.integers(self._quarters, size=len(rows)))

    def codes(self, drawn: Drawn, code_NS: NDArray[Any]) -> NDArray[np.int32]:
        """The cells of each row in its colours."""
        found: NDArray[np.int32] = self._code_GC[drawn.permutation_N[:, None], code_NS]
        return found

    def words(self, drawn: Drawn, word_NW: Integers) -> Integers:
        """The mission's words of each row in its colours."""
        found: Integers = self._word_GV[drawn.permutation_N[:, None], word_NW]
        return found

    def directions(self, drawn: Drawn, direction_N: Integers) -> Integers:
        """Where each row's agent looks in the turned world."""
        found: Integers = (direction_N + drawn.quarters_N) % DIRECTIONS
        return found

    def tobytes(self) -> bytes:
        """What a digest of the data hashes."""
        return bytes([self._quarters]) + self._code_GC.tobytes() + self._word_GV.tobytes()


def _exchangeable(words: Words, actions: Sequence[str]) -> list[int]:
    """The colours that missions name."""
    for action in actions:
        if set(split(action)) & set(COLOURS):
            raise ConfigError(
                f"The action '{action[:40]}' names a colour, so that colours cannot be exchanged without changing what "
                "the teacher did. Leave --augment colours away."
            )
    named = [number for number, colour in enumerate(COLOURS) if colour in words.vocabulary]
    if len(named) < 2:
        raise ConfigError(
            f"The missions to learn from name {len(named)} of these colours: {', '.join(COLOURS)}. To exchange takes 2 "
            "or more. Leave --augment colours away."
        )
    return named


def _codes(form: GridForm, named: Sequence[int], colour_GK: Integers) -> NDArray[np.int32]:
    """For each permutation the new code of each code, (G, C)."""
    thing_C, colour_C, *rest = np.unravel_index(np.arange(form.codes), form.symbols)
    becomes_GN = np.tile(np.arange(len(COLOURS)), (len(colour_GK), 1))
    becomes_GN[:, named] = colour_GK
    colour_GC = np.where(np.isin(thing_C, COLOURED), becomes_GN[:, colour_C], colour_C)
    shape = colour_GC.shape
    parts = (np.broadcast_to(part, shape) for part in (thing_C, colour_GC, *rest))
    return np.ravel_multi_index(tuple(parts), form.symbols).astype(np.int32)
