"""Takes arrays out of a file as a network needs them: checked shapes, float32, weights of few bits multiplied out.

A matrix may be kept as int8 with one scale a row: ``x.weight`` (int8, (rows, columns)) and ``x.weight.scale`` (float32,
(rows,)); its value is ``x.weight * x.weight.scale[:, None]``. In four bits, where it has an even number of columns,
``x.weight`` is uint8, (rows, columns / 2): the value plus 8 of an even column in the low half of a byte, of the odd
column behind it in the high half. Knows shapes. Does not know networks or files.
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
    return _rounded(weight, 127)


def packed(weight: Array) -> tuple[NDArray[np.uint8], Floats]:
    """A matrix in four bits and a scale for each row: the largest of a row becomes 7. Even numbers of columns only.

    >>> halves, scale = packed(np.array([[7.0, -7.0, 1.2, 0.0]], np.float32))
    >>> halves.tolist(), scale.tolist(), unpacked(halves).tolist()
    ([[31, 137]], [1.0], [[7, -7, 1, 0]])
    """
    if weight.shape[1] % 2:
        raise ValueError(f"{weight.shape[1]} columns cannot be packed in pairs.")
    values, scale = _rounded(weight, 7)
    halves = (values + 8).astype(np.uint8)
    both: NDArray[np.uint8] = halves[:, ::2] | np.left_shift(halves[:, 1::2], 4, dtype=np.uint8)
    return both, scale


def unpacked(values: Array) -> NDArray[np.int8]:
    """The whole numbers of a matrix in four bits, shape (rows, columns); one in int8 as it is."""
    if values.dtype != np.uint8:
        return values
    halves = np.stack([values & 15, values >> 4], axis=-1).reshape(len(values), -1)
    return halves.astype(np.int8) - np.int8(8)


def bits(array: Array) -> int | None:
    """8 or 4 for a matrix that has a scale, None for numbers as they are."""
    return {np.dtype(np.int8): 8, np.dtype(np.uint8): 4}.get(array.dtype)


def _rounded(weight: Array, most: int) -> tuple[NDArray[np.int8], Floats]:
    largest = np.abs(weight).max(axis=1, initial=0.0)
    scale = np.where(largest > 0, largest / most, 1.0).astype(np.float32)
    return np.clip(np.rint(weight / scale[:, None]), -most, most).astype(np.int8), scale


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
        """A matrix of which single rows are read: those of few bits are kept in eight."""
        values, scale = self._checked(name, shape)
        return Table(values if scale is not None else np.ascontiguousarray(values, np.float32), scale)

    def done(self) -> None:
        """Raises ``BadFile`` if arrays are left that nobody took."""
        if self._left:
            raise BadFile(f"It holds arrays that do not belong there: {', '.join(sorted(self._left))[:200]}.")

    def _checked(self, name: str, shape: tuple[int, ...]) -> tuple[Array, Floats | None]:
        four = len(shape) == 2 and shape[1] % 2 == 0 and name in self._left and self._left[name].dtype == np.uint8
        values = unpacked(self._pop(name, (shape[0], shape[1] // 2))) if four else self._pop(name, shape)
        if values.dtype == np.int8:
            scale = self._pop(name + SCALE, shape[:1])
            if len(shape) != 2 or scale.dtype != np.float32:
                raise BadFile(f"The array '{name}' in few bits needs to be a matrix with float32 scales.")
            return values, scale
        if values.dtype.kind != "f":
            raise BadFile(
                f"The array '{name}' is of type {values.dtype}; allowed: floats, or int8 or uint8 (four bits) "
                f"with '{name}{SCALE}'."
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
