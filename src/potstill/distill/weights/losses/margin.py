"""Pairwise margins: the teacher's action must beat every other admissible one, and how likely they are is left open."""

from __future__ import annotations

import torch
from torch import Tensor

from potstill.distill.weights.losses.rows import everything


def margin_rows(logits_BA: Tensor, labels_B: Tensor, mask_BA: Tensor | None = None, *, margin: float = 1.0) -> Tensor:
    """``mean over the other admissible actions of max(0, margin - (z_label - z_other))``, shape ``(B,)``.

    The multi-class hinge of Weston and Watkins (1999), of which a preference between two actions is the case A = 2. A
    row whose label is its only admissible action costs nothing.
    """
    mask_BA = everything(logits_BA, mask_BA)
    label_B1 = labels_B[:, None]
    others_BA = mask_BA.scatter(1, label_B1, torch.zeros_like(label_B1, dtype=torch.bool))
    safe_BA = torch.where(mask_BA, logits_BA, 0.0)
    short_BA = torch.relu(margin - (safe_BA.gather(1, label_B1) - safe_BA))
    return torch.where(others_BA, short_BA, 0.0).sum(1) / others_BA.sum(1).clamp(min=1)
