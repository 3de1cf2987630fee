"""Rows of actions: which may be taken, how probable each is at a temperature, and the mean of rows with weights.

It knows masks and weights. It does not know teachers or labels.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def everything(logits_BA: Tensor, mask_BA: Tensor | None) -> Tensor:
    """The mask, or one under which every action is admissible."""
    return torch.ones_like(logits_BA, dtype=torch.bool) if mask_BA is None else mask_BA


def log_shares(logits_BA: Tensor, mask_BA: Tensor | None, temperature: float = 1.0) -> Tensor:
    """Log-probabilities among the admissible actions (None: all) at the temperature, in float32 or better.

    ``-inf`` where an action is not admissible.

    An inadmissible action's logit may be anything, NaN included: neither values nor gradients see it.
    """
    exact = logits_BA.to(torch.promote_types(logits_BA.dtype, torch.float32))
    admitted = exact if mask_BA is None else torch.where(mask_BA, exact, -math.inf)
    return torch.log_softmax(admitted if temperature == 1 else admitted / temperature, dim=-1)


def weighted_mean(losses: Tensor, weights: Tensor | None = None, total: float | Tensor | None = None) -> Tensor:
    """``sum(w * loss) / sum(w)``: a row of weight 2 counts as the row twice, and scaling all weights changes nothing.

    ``losses`` and ``weights`` have equal shapes, ``(B,)`` or ``(B, T)``. ``total`` replaces ``sum(w)``: give the
    whole batch's when it is computed in parts (accumulated gradients, several processes), so that the parts add up to
    the whole. Where nothing has a weight the mean is 0, and whatever a row without weight holds is not looked at.
    """
    if weights is None:
        return losses.sum() / (max(losses.numel(), 1) if total is None else total)
    scale = weights.to(losses.dtype)
    summed = torch.dot(torch.where(scale > 0, losses, 0.0).flatten(), scale.flatten())
    return summed / (scale.sum().clamp(min=torch.finfo(scale.dtype).tiny) if total is None else total)
