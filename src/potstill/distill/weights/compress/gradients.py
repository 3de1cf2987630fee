"""Gradients times weights on some batches, for ``scores.by_taylor``. Knows networks and data, not units."""

from __future__ import annotations

from collections.abc import Iterator
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


def products(network: Any, data: Examples, *, seed: int = 0) -> Iterator[dict[str, Array]]:
    """For ``BATCHES`` batches, of each parameter its gradient times itself, without dropout.

    The loss is cross-entropy with the recorded actions: a divergence from the network's own teacher would have no
    gradient where the network is that teacher.
    """
    objective = loss_of(Loss(kind=Kind.HARD), check=False)
    network.eval()
    for step in range(BATCHES):
        batch = data.batch(rows_of(step, decisions=len(data), batch=min(SIZE, len(data)), seed=seed))
        network.zero_grad(set_to_none=True)
        loss: Tensor = objective(
            network(batch.inputs), mask=batch.mask_BA, labels=batch.target_B, weights=batch.weight_B
        )
        loss.backward()
        yield {name: _product(value) for name, value in network.named_parameters()}
    network.zero_grad(set_to_none=True)


def _product(value: Any) -> Array:
    """Zeros for a parameter that the batch did not need."""
    found = torch.zeros_like(value) if value.grad is None else value.detach() * value.grad
    return np.asarray(found.numpy(), np.float64)
