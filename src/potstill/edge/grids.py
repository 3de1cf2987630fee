"""Observations that are a grid of symbols, as text: the one way that training and acting read them.

The text is JSON, ``{"grid": G, "direction": d}``. ``G[i][j]`` is the cell in column ``i`` (from left to right) and row
``j`` (from far to near), a list of small whole numbers, such as what lies there, its colour and its state;
``direction`` is 0 to 3. Knows that form. Does not know what a number means.
"""

from __future__ import annotations

import json
import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

DIRECTIONS = 4
SHOWN = 40
"""Characters of a text that an error shows."""


class Grid(NamedTuple):
    """One observation."""

    codes: NDArray[np.int64]
    """For each cell, column by column, its symbols as one number (``GridForm.code``); shape (size * size,)."""
    direction: int


class GridForm:
    """How large a grid is and how many symbols each number of a cell has: ``GridForm(7, (11, 6, 3))`` for BabyAI."""

    def __init__(self, size: int, symbols: tuple[int, ...]) -> None:
        self.size, self.symbols = size, symbols
        self.cells, self.codes = size * size, math.prod(symbols)
        self._scale = np.array([math.prod(symbols[place + 1 :]) for place in range(len(symbols))], np.int64)

    def read(self, text: str) -> Grid:
        """Raises ``ValueError`` in one line for what is no grid, has another size, or holds an unknown number."""
        try:
            given = json.loads(text)
        except (ValueError, RecursionError):
            given = None
        if not isinstance(given, dict) or not {"grid", "direction"} <= given.keys():
            shown = " ".join(text.split())[:SHOWN]
            raise ValueError(
                f"The observation '{shown}' is no grid. This policy reads JSON texts with the keys 'grid' and "
                "'direction'; potstill's minigrid writes them with --option action_space=primitive --option view=grid."
            )
        direction = given["direction"]
        if type(direction) is not int or not 0 <= direction < DIRECTIONS:
            raise ValueError(f"The grid's direction is {str(direction)[:SHOWN]}; allowed: 0 to {DIRECTIONS - 1}.")
        return Grid(self._numbers(given["grid"]) @ self._scale, direction)

    def of_code(self) -> NDArray[np.int64]:
        """For each code its symbols, as rows of one table in which the first number's symbols come first, and so on.

        >>> GridForm(7, (2, 3)).of_code().tolist()
        [[0, 2], [0, 3], [0, 4], [1, 2], [1, 3], [1, 4]]
        """
        offsets = np.cumsum([0, *self.symbols[:-1]])
        table: NDArray[np.int64] = np.stack(np.unravel_index(np.arange(self.codes), self.symbols), axis=1) + offsets
        return table

    def _numbers(self, given: Any) -> NDArray[np.int64]:
        """Shape (size * size, symbols)."""
        wanted = (self.size, self.size, len(self.symbols))
        try:
            cells = np.asarray(given)
        except (ValueError, OverflowError):
            cells = np.zeros(0, object)
        if cells.shape != wanted or cells.dtype.kind != "i":
            found = cells.shape if cells.dtype.kind == "i" else "not whole numbers in equal rows"
            raise ValueError(f"The observation's grid is {found}; this policy reads {wanted} whole numbers.")
        wrong = np.argwhere((cells < 0) | (cells >= self.symbols))
        if len(wrong):
            column, row, place = wrong[0].tolist()
            raise ValueError(
                f"The grid holds {cells[column, row, place]} as number {place} of the cell in column {column}, row "
                f"{row}; this policy knows 0 to {self.symbols[place] - 1} there."
            )
        return cells.reshape(self.cells, len(self.symbols)).astype(np.int64)
