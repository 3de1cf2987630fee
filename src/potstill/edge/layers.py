"""Takes arrays out of a file as a network needs them: checked shapes, float32, eight-bit weights multiplied out.

A weight may be kept as int8 with one scale a row: ``x.weight`` (int8, (rows, ...)) and ``x.weight.scale`` (float32,
(rows,)); its value is ``x.weight * x.weight.scale[:, None]``. Knows shapes. Does not know networks or files.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .tensors import Array, BadFile

Floats = NDArray[np.float32]
SCALE = ".scale"


def quantized(weight: Array) -> tuple[NDArray[np.int8], Floats]:
    """A matrix as int8 and a scale for each row, rounded to nearest, symmetric: the largest of a row becomes 127."""
    largest = np.abs(weight).max(axis=1, initial=0.0)
    scale = np.where(largest > 0, largest / 127.0, 1.0).astype(np.float32)
    return np.clip(np.rint(weight / scale[:, None]), -127, 127).astype(np.int8), scale


class Shelf:
    """The arrays of a file, each taken once with the shape that it must have."""

    def __init__(self, arrays: Mapping[str, Array]) -> None:
        self._left = dict(arrays)

    def take(self, name: str, *shape: int) -> Floats:
        """The array in float32, C order. Raises ``BadFile`` if it is absent, of another shape, or not finite."""
        values, scale = self._checked(name, shape)
        if scale is not None:
            values = values.astype(np.float32) * scale[:, None]
        return np.ascontiguousarray(values, np.float32)

    def table(self, name: str, *shape: int) -> Table:
        """A matrix of which single rows are read: eight-bit ones stay in eight bits."""
        values, scale = self._checked(name, shape)
        return Table(values if scale is not None else np.ascontiguousarray(values, np.float32), scale)

    def done(self) -> None:
        """Raises ``BadFile`` if arrays are left that nobody took."""
        if self._left:
            raise BadFile(f"It holds arrays that do not belong there: {', '.join(sorted(self._left))[:200]}.")

    def _checked(self, name: str, shape: tuple[int, ...]) -> tuple[Array, Floats | None]:
        values = self._pop(name, shape)
        if values.dtype == np.int8:
            scale = self._pop(name + SCALE, shape[:1])
            if len(shape) != 2 or scale.dtype != np.float32:
                raise BadFile(f"The array '{name}' in int8 needs to be a matrix with float32 scales.")
            return values, scale
        if values.dtype.kind != "f":
            raise BadFile(
                f"The array '{name}' is of type {values.dtype}; allowed: floats, or int8 with '{name}{SCALE}'."
            )
        return values, None

    def _pop(self, name: str, shape: tuple[int, ...]) -> Array:
        if name not in self._left:
            raise BadFile(f"It lacks the array '{name}'.")
        values = self._left.pop(name)
        if values.shape != shape:
            raise BadFile(f"The array '{name}' has the shape {values.shape}; its configuration asks for {shape}.")
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            raise BadFile(f"The array '{name}' holds numbers that are not finite: the training diverged.")
        return values


class Table:
    """Rows of float32, kept as int8 and scales where the file has them so."""

    def __init__(self, values: Array, scale: Floats | None) -> None:
        self._values, self._scale = values, scale

    def rows(self, numbers: list[int]) -> Floats:
        """The rows of these numbers, shape (len(numbers), width)."""
        found = self._values[numbers]
        if self._scale is None:
            return np.asarray(found, np.float32)
        return found.astype(np.float32) * self._scale[numbers, None]


def whole(config: Mapping[str, Any], name: str, least: int = 1, most: int = 1_000_000) -> int:
    """A whole number of the configuration. Raises ``BadFile`` where it is absent or out of range."""
    value = config.get(name)
    if type(value) is not int or not least <= value <= most:
        raise BadFile(
            f"Its configuration has {name} = {str(value)[:40]}; allowed: a whole number of {least} to {most}."
        )
    return value
