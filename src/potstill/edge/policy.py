"""A trained policy out of one file: opened, checked, asked.

Knows which network a kind means. Does not know messages, models or the command line.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import seal, tensors
from .film import Film
from .layers import Floats
from .mlp import Mlp
from .ranker import Ranker
from .tensors import Array, BadFile

Network = Film | Mlp | Ranker
_NETWORKS: dict[str, type[Film] | type[Mlp] | type[Ranker]] = {"film": Film, "mlp": Mlp, "ranker": Ranker}
KINDS = tuple(_NETWORKS)


@dataclass(frozen=True)
class Policy:
    """A network with what its file says of it."""

    network: Network
    config: Mapping[str, Any]
    manifest: Mapping[str, Any]
    arrays: Mapping[str, Array]
    temperature: float
    """Calibration: logits are divided by it before they are probabilities (``temperature`` of the configuration)."""

    @property
    def kind(self) -> str:
        return self.network.kind

    @property
    def parameters(self) -> int:
        """Numbers in all arrays, the scales of eight-bit weights left out."""
        return sum(array.size for name, array in self.arrays.items() if not name.endswith(".scale"))

    def log_probabilities(self, logits: Floats) -> NDArray[np.float64]:
        """Calibrated, over the last axis. Raises ``ValueError`` for logits that are not finite."""
        if not np.isfinite(logits).all():
            raise ValueError("The policy's logits are not finite: its weights or the question's numbers are too large.")
        return log_softmax(np.asarray(logits, np.float64) / self.temperature)


def open_policy(path: str | Path) -> Policy:
    """The policy in a file. Raises ``BadFile`` in one line naming the file, ``OSError`` where it cannot be read."""
    arrays, texts = tensors.read(path)
    try:
        config, manifest = seal.opened(arrays, texts)
        return Policy(network(arrays, config), config, manifest, arrays, _temperature(config))
    except BadFile as error:
        raise BadFile(f"{path} cannot be used. {error}") from None


def network(arrays: Mapping[str, Array], config: Mapping[str, Any]) -> Network:
    """The network that a configuration names, with these arrays. Raises ``BadFile``."""
    kind = config.get("kind")
    if not isinstance(kind, str) or kind not in _NETWORKS:
        raise BadFile(f"Its kind is {str(kind)[:40]!r}; this version knows: {', '.join(KINDS)}.")
    return _NETWORKS[kind](arrays, config)


def log_softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Over the last axis.

    >>> np.exp(log_softmax(np.array([0.0, 0.0]))).tolist()
    [0.5, 0.5]
    """
    shifted = logits - logits.max(axis=-1, keepdims=True, initial=-np.inf)
    found: NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return found


def _temperature(config: Mapping[str, Any]) -> float:
    value = config.get("temperature", 1.0)
    if type(value) not in (int, float) or not math.isfinite(value) or value <= 0:
        raise BadFile(f"Its temperature is {str(value)[:40]}; allowed: a number above 0.")
    return float(value)
