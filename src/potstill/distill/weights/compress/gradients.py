"""Gradients times weights on some batches, for ``scores.by_taylor``. Knows networks and data, not units."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from potstill.distill.weights.losses.config import Kind, Loss
from potstill.distill.weights.losses.objective import loss_of
from potstill.distill.weights.policies.batch import Examples, Tensor
from potstill.distill.weights.policies.pytorch import load_torch
from potstill.distill.weights.train.schedule import rows_of
from potstill.edge.tensors import Array

torch = load_torch()

BATCHES, SIZE = 24, 64


def products(
    network: Any, data: Examples, *, seed: int = 0, batches: int = BATCHES, size: int = SIZE
) -> Iterator[Mapping[str, Array]]:
    """For each of the batches, of each parameter its gradient times itself, without dropout; to be read before the
    next one is asked for.

    The loss is cross-entropy with the recorded actions: a divergence from the network's own teacher would have no
    gradient where the network is that teacher.
    """
    objective = loss_of(Loss(kind=Kind.HARD), check=False)
    network.eval()
    for step in range(batches):
        batch = data.batch(rows_of(step, decisions=len(data), batch=min(size, len(data)), seed=seed))
        network.zero_grad(set_to_none=True)
        loss: Tensor = objective(
            network(batch.inputs), mask=batch.mask_BA, labels=batch.target_B, weights=batch.weight_B
        )
        loss.backward()
        yield _Products(dict(network.named_parameters()))
    network.zero_grad(set_to_none=True)


class _Products(Mapping[str, Array]):
    """Made one by one as they are read: all of a language model's at once would be twice its size."""

    def __init__(self, parameters: Mapping[str, Any]) -> None:
        self._parameters = parameters

    def __getitem__(self, name: str) -> Array:
        """Zeros for a parameter that the batch did not need."""
        value = self._parameters[name]
        found = torch.zeros_like(value) if value.grad is None else value.detach() * value.grad
        return np.asarray(found.detach().numpy(), np.float64)

    def __iter__(self) -> Iterator[str]:
        return iter(self._parameters)

    def __len__(self) -> int:
        return len(self._parameters)
