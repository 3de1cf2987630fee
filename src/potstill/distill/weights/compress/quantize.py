"""Matrices in fewer bits, as ``edge.layers`` reads them: one scale a row, vectors stay as they are.

Weights only: the runtime multiplies them out, so sums and activations are in float32 and nothing is calibrated.
Knows arrays. Does not know whether a policy with them still decides alike (``gate``).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from potstill.edge.layers import SCALE, bits, packed, quantized, unpacked
from potstill.edge.tensors import Array
from potstill.errors import ConfigError

WIDTHS = (8, 4)


def in_bits(arrays: Mapping[str, Array], width: int) -> dict[str, Array]:
    """Every float matrix in ``width`` bits (8 or 4), rounded to nearest. In four bits only those with an even number of
    columns, the others in eight. Raises ``ConfigError`` for another width and for arrays that have few bits already.
    """
    if width not in WIDTHS:
        raise ConfigError(f"{width} bits a weight are not known. Allowed: 8, 4.")
    if any(bits(array) is not None for array in arrays.values()):
        raise ConfigError("The policy's weights have few bits already. Give the file that it was made from.")
    found: dict[str, Array] = {}
    for name, array in arrays.items():
        if not (name.endswith(".weight") and array.ndim == 2):
            found[name] = array
        else:
            narrow = packed if width == 4 and array.shape[1] % 2 == 0 else quantized
            found[name], found[name + SCALE] = narrow(array)
    return found


def multiplied_out(arrays: Mapping[str, Array]) -> dict[str, Array]:
    """The arrays in float32: what weights in few bits stand for."""
    found: dict[str, Array] = {}
    for name, array in arrays.items():
        if bits(array) is not None:
            found[name] = unpacked(array).astype(np.float32) * arrays[name + SCALE][:, None]
        elif not name.endswith(".weight" + SCALE):
            found[name] = np.asarray(array, np.float32)
    return found
