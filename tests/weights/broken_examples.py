"""Data that fail in another process than the first, at its first step."""

from __future__ import annotations

import torch

from potstill.distill.weights.policies.batch import Batch, Integers
from potstill.distill.weights.policies.mlp import VectorExamples


class FailingAtAStep(VectorExamples):
    def batch(self, rows: Integers) -> Batch:
        if torch.distributed.is_initialized() and torch.distributed.get_rank() == 1:
            raise ValueError("no such row")
        return super().batch(rows)
