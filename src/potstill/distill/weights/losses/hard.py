"""Cross-entropy with the action that the teacher took, among the admissible actions, with smoothed labels."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from potstill.distill.weights.losses.rows import everything, log_shares


def hard_rows(logits_BA: Tensor, labels_B: Tensor, mask_BA: Tensor | None = None, *, smoothing: float = 0.0) -> Tensor:
    """``-sum(target * log student)`` of each row, shape ``(B,)``, in nats.

    The target is ``1 - s`` on the label plus ``s`` spread evenly over the admissible actions, the label included
    (arXiv 1512.00567, section 7). An inadmissible label costs infinitely much; ``checks`` refuse it beforehand.
    """
    log_p_BA = log_shares(logits_BA, mask_BA)
    hit_B = functional.nll_loss(log_p_BA, labels_B, reduction="none")
    if not smoothing:
        return hit_B
    mask_BA = everything(logits_BA, mask_BA)
    even_B = -log_p_BA.masked_fill(~mask_BA, 0.0).sum(1) / mask_BA.sum(1)
    return (1 - smoothing) * hit_B + smoothing * even_B
