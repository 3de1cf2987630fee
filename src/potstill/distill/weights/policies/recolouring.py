"""Data augmentation for grids: colours are exchanged, alike in what is seen, in the mission and in the past.

It is true by symmetry where a colour is a name and not a meaning, as in BabyAI: who fetches the red ball there would
fetch the blue one here by the same actions. So it asks no teacher. Knows the colours of MiniGrid and tables of numbers.
Does not know decisions or tensors. Letters as in ``grids``; G permutations, C codes of a cell, V numbers of words.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from potstill.distill.weights.policies.batch import Integers
from potstill.edge.grids import GridForm
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


class Recolouring:
    """Every permutation of the colours in a vocabulary, as tables to look numbers up in.

    Other colours stay what they are: their words have no numbers of their own. Raises ``ConfigError``
    where nothing can be exchanged, or where an action names a colour, which would have to change as well.
    """

    def __init__(self, words: Words, form: GridForm, actions: Sequence[str], *, seed: int) -> None:
        for action in actions:
            if set(split(action)) & set(COLOURS):
                raise ConfigError(
                    f"The action '{action[:40]}' names a colour, so that colours cannot be exchanged without changing "
                    "what the teacher did. Leave --augment colours away."
                )
        named = [number for number, colour in enumerate(COLOURS) if colour in words.vocabulary]
        if len(named) < 2:
            raise ConfigError(
                f"The missions to learn from name {len(named)} of these colours: {', '.join(COLOURS)}. To exchange "
                "takes 2 or more. Leave --augment colours away."
            )
        self._seed = seed
        colour_GK = np.array(list(itertools.permutations(named)))
        self._code_GC = _codes(form, named, colour_GK)
        word_K = np.array([words.encode(COLOURS[number])[0] for number in named])
        self._word_GV = np.tile(np.arange(len(words)), (len(colour_GK), 1))
        self._word_GV[:, word_K] = word_K[np.searchsorted(named, colour_GK)]

    def drawn(self, rows: Integers) -> Integers:
        """A permutation for each row of a batch, (B,); given by the seed and the batch's rows alone.

        Another epoch cuts other batches and draws anew; a resumed training draws what it would have drawn.
        """
        return np.random.default_rng([self._seed, *rows.tolist()]).integers(len(self._code_GC), size=len(rows))

    def codes(self, drawn_N: Integers, code_NS: NDArray[Any]) -> NDArray[np.int32]:
        """The cells of each row after its permutation."""
        found: NDArray[np.int32] = self._code_GC[drawn_N[:, None], code_NS]
        return found

    def words(self, drawn_N: Integers, word_NW: Integers) -> Integers:
        """The mission's words of each row after its permutation."""
        found: Integers = self._word_GV[drawn_N[:, None], word_NW]
        return found

    def tobytes(self) -> bytes:
        """What a digest of the data hashes."""
        return self._code_GC.tobytes() + self._word_GV.tobytes()


def _codes(form: GridForm, named: Sequence[int], colour_GK: Integers) -> NDArray[np.int32]:
    """For each permutation the new code of each code, (G, C)."""
    thing_C, colour_C, *rest = np.unravel_index(np.arange(form.codes), form.symbols)
    becomes_GN = np.tile(np.arange(len(COLOURS)), (len(colour_GK), 1))
    becomes_GN[:, named] = colour_GK
    colour_GC = np.where(np.isin(thing_C, COLOURED), becomes_GN[:, colour_C], colour_C)
    shape = colour_GC.shape
    parts = (np.broadcast_to(part, shape) for part in (thing_C, colour_GC, *rest))
    return np.ravel_multi_index(tuple(parts), form.symbols).astype(np.int32)
