"""The multilayer perceptron in PyTorch, for training: names, shapes and formulas are those of ``edge.mlp``.

``VectorExamples`` are its data: observations as vectors, actions as positions. It does not know any environment.
Letters: B decisions, A actions, D numbers of an observation.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from potstill.distill.weights.policies.batch import Batch, Floats, Integers, Tensor, told
from potstill.distill.weights.policies.pytorch import Module, load_torch
from potstill.edge.mlp import ACTIVATIONS
from potstill.errors import ConfigError, one_of
from potstill.types import Struct

torch = load_torch()
nn = torch.nn


class MlpShape(Struct, frozen=True, kw_only=True):
    """The configuration of ``edge.mlp``. Raises ``ConfigError`` for sizes that make no network."""

    sizes: tuple[int, ...]
    """Observation, hidden layers, actions."""
    activation: str = "relu"
    actions: tuple[str, ...] = ()
    """Names of the actions; empty: their numbers."""
    kind: str = "mlp"

    def __post_init__(self) -> None:
        one_of("activation", self.activation, ACTIVATIONS)
        if len(self.sizes) < 2 or min(self.sizes) < 1 or self.sizes[-1] < 2:
            raise ConfigError(f"Sizes are {self.sizes}. Allowed: an observation, hidden layers, two actions or more.")
        if self.actions and len(self.actions) != self.sizes[-1]:
            raise ConfigError(f"{len(self.actions)} names for {self.sizes[-1]} actions. Give one for each, or none.")

    def config(self) -> dict[str, Any]:
        """The JSON object that stands in the policy's file."""
        names = {"actions": list(self.actions)} if self.actions else {}
        return {"kind": self.kind, "sizes": list(self.sizes), "activation": self.activation, **names}


class Mlp(Module):
    """``forward`` takes (B, D) and gives a logit for each action, (B, A)."""

    def __init__(self, shape: MlpShape, normal: tuple[Floats, Floats] | None = None, *, dropout: float = 0.0) -> None:
        """``normal``: mean and scale of the observations (``VectorExamples.normal``); None: taken as they are."""
        super().__init__()
        self.shape = shape
        self.layers = nn.ModuleList([nn.Linear(wide, out) for wide, out in pairwise(shape.sizes)])
        self.activation = torch.tanh if shape.activation == "tanh" else torch.relu
        self.dropout = nn.Dropout(dropout)
        self.input = nn.Module()
        if normal is not None:
            self.input.register_buffer("mean", torch.tensor(normal[0], dtype=torch.float32))
            self.input.register_buffer("scale", torch.tensor(normal[1], dtype=torch.float32))
        self._normal = normal is not None

    def forward(self, x_BD: Tensor) -> Tensor:
        x_BD = self.normalised(x_BD)
        last = len(self.layers) - 1
        for place, layer in enumerate(self.layers):
            x_BD = layer(x_BD)
            if place < last:
                x_BD = self.activation(x_BD)
                x_BD = self.dropout(x_BD) if self.dropout.p else x_BD
        return x_BD

    def normalised(self, x_BD: Tensor) -> Tensor:
        """Observations as the first layer sees them, (B, D)."""
        return (x_BD - self.input.mean) * self.input.scale if self._normal else x_BD


def new_mlp(shape: MlpShape, *, seed: int, normal: tuple[Floats, Floats] | None = None, dropout: float = 0.0) -> Mlp:
    """A network whose first weights the seed gives; PyTorch's own generator stays as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Mlp(shape, normal, dropout=dropout)


def mlp_from(arrays: Mapping[str, NDArray[Any]], config: Mapping[str, Any]) -> Mlp:
    """The network of a policy's arrays and configuration (``edge.mlp``), in evaluation mode."""
    normal = (arrays["input.mean"], arrays["input.scale"]) if "input.mean" in arrays else None
    network = Mlp(shape_of(config), normal)
    network.load_state_dict({name: torch.tensor(np.asarray(array, np.float32)) for name, array in arrays.items()})
    network.eval()
    return network


def shape_of(config: Mapping[str, Any]) -> MlpShape:
    """As a policy's configuration says it, what else stands there aside."""
    return msgspec.convert({name: config[name] for name in MlpShape.__struct_fields__ if name in config}, MlpShape)


class VectorExamples:
    """A dataset of vectors. Satisfies ``batch.Examples``."""

    def __init__(
        self,
        observations: NDArray[Any],
        actions: Sequence[int] | NDArray[Any],
        *,
        action_count: int,
        logits: NDArray[Any] | None = None,
        probabilities: NDArray[Any] | None = None,
        weights: Sequence[float] | NDArray[Any] | None = None,
    ) -> None:
        """``observations`` (n, d), ``actions`` (n,) positions, of the teacher where it has any ``logits`` (n, a), or
        ``probabilities`` (n, a), NaN where it told none.

        Raises ``ConfigError`` for shapes that do not fit, numbers that are none, and actions that the student has not.
        """
        self._observations = np.ascontiguousarray(observations, np.float32)
        self._actions = np.ascontiguousarray(actions, np.int64)
        count = len(self._actions)
        self._weights = np.ones(count, np.float32) if weights is None else np.ascontiguousarray(weights, np.float32)
        self._equal = bool(np.all(self._weights == 1))
        self._action_count = action_count
        self._check(count)
        self._probabilities = None if logits is None else _softmax(_fitting(logits, count, action_count))
        if probabilities is not None:
            self._probabilities = np.ascontiguousarray(probabilities, np.float32)
        self._told = told(self._probabilities)
        self.digest = self._digest()

    def _check(self, count: int) -> None:
        shape = self._observations.shape
        if len(shape) != 2 or shape[0] != count or self._weights.shape != (count,) or self._actions.ndim != 1:
            raise ConfigError(
                f"{count} actions, observations of shape {shape}, weights of shape {self._weights.shape}: one row of "
                "numbers and one weight are needed for each action."
            )
        if not (np.isfinite(self._observations).all() and np.isfinite(self._weights).all()):
            finite = np.isfinite(self._observations).all(axis=1) & np.isfinite(self._weights)
            row = int(np.argmin(finite))
            raise ConfigError(f"Decision {row} holds a number that is none (NaN or infinite). Leave it out.")
        if (self._weights < 0).any():
            raise ConfigError(f"Decision {int(np.argmin(self._weights))} has a weight below 0. Allowed: 0 and more.")
        if count and not 0 <= self._actions.min() <= self._actions.max() < self._action_count:
            raise ConfigError(
                f"The teacher's actions are {self._actions.min()} to {self._actions.max()}, the student's 0 to "
                f"{self._action_count - 1}: their action spaces differ. Give the student as many actions."
            )

    def __len__(self) -> int:
        return len(self._actions)

    def problem(self) -> str | None:
        if len(self) == 0:
            return "there is no decision in these data"
        if not np.any(self._weights > 0):
            return "every decision has weight 0"
        if len(np.unique(self._actions)) == 1:
            return "the teacher's action is the same in every decision"
        return None

    def normal(self) -> tuple[Floats, Floats]:
        """Mean and inverse standard deviation of each number of an observation; 1 for what never changes."""
        deviation = self._observations.std(axis=0, dtype=np.float64)
        scale = np.where(deviation > 1e-6, 1.0 / np.maximum(deviation, 1e-6), 1.0)
        return self._observations.mean(axis=0, dtype=np.float64).astype(np.float32), scale.astype(np.float32)

    def batch(self, rows: Integers) -> Batch:
        soft = None if self._probabilities is None else torch.from_numpy(self._probabilities[rows])
        return Batch(
            torch.from_numpy(self._observations[rows]),
            None,
            torch.from_numpy(self._actions[rows]),
            soft,
            None if self._equal else torch.from_numpy(self._weights[rows]),
            None if self._told is None else torch.from_numpy(self._told[rows]),
        )

    def _digest(self) -> str:
        hashed = hashlib.sha256(f"{self._action_count}\n".encode())
        for array in (self._observations, self._actions, self._weights, self._probabilities):
            hashed.update(b"-" if array is None else f"{array.shape}\n".encode() + array.tobytes())
        return hashed.hexdigest()


def _fitting(logits: NDArray[Any], count: int, actions: int) -> NDArray[np.float64]:
    given = np.asarray(logits, np.float64)
    if given.shape != (count, actions):
        raise ConfigError(
            f"The teacher's logits have the shape {given.shape}, for {count} decisions of {actions} actions: the "
            "teacher's and the student's action spaces differ."
        )
    if np.isnan(given).any() or (given == np.inf).any() or (given == -np.inf).all(axis=1).any():
        raise ConfigError(
            "A row of the teacher's logits is no distribution (NaN, +inf, or -inf for all). Leave it out."
        )
    return given


def _softmax(logits: NDArray[np.float64]) -> Floats:
    raised = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares: Floats = (raised / raised.sum(axis=1, keepdims=True)).astype(np.float32)
    return shares
