"""Divergences between a student and its teacher, both at one temperature.

Both sides are ``softmax(z / T)``, so the student that minimises any of them plays the teacher's own distribution at
T = 1, whatever the T of training. Each is multiplied by T squared (arXiv 1503.02531, section 2). For the forward
direction the gradient by the student's logits is then ``T (p_T - q_T)``. It is not the same at every T; what holds is

* its norm never exceeds half the norm of ``z_student - z_teacher`` (each centred), for the softmax is 1/2-Lipschitz;
* for large T it tends to ``(z_student - z_teacher) / A``, each centred: the regression of logits;

so one learning rate serves at all temperatures, and a hard loss mixed in keeps its share. Without the factor the
gradient falls as 1 / T squared. It knows logits. It does not know where a teacher's come from (``targets``).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from potstill.distill.weights.losses.config import Direction
from potstill.distill.weights.losses.rows import everything, log_shares

NEVER = -1e30
"""Of an action that is never taken: its exponential is 0, and 0 times it is 0."""
FLOOR = -30.0
"""In the reverse direction a teacher's probability counts as at least e^-30 (9e-14): of a student that plays what the
teacher never would, the divergence is infinite and has no gradient to learn from."""


def soft_rows(
    student_BA: Tensor,
    teacher_BA: Tensor,
    mask_BA: Tensor | None = None,
    *,
    temperature: float = 1.0,
    direction: Direction = Direction.FORWARD,
) -> Tensor:
    """The divergence of each row times the temperature squared, shape ``(B,)``, in nats.

    Both sides are logits up to a constant a row; log-probabilities are logits too. A teacher's ``-inf`` is an action
    that it never takes. No gradient flows into the teacher.
    """
    log_p_BA = log_shares(student_BA, mask_BA, temperature)
    log_q_BA = log_shares(teacher_BA.detach(), mask_BA, temperature).to(log_p_BA.dtype)
    return temperature**2 * _DIRECTIONS[direction](log_p_BA, log_q_BA, mask_BA)


def _forward(log_p_BA: Tensor, log_q_BA: Tensor, mask_BA: Tensor | None) -> Tensor:
    """``sum q (log q - log p)``; an action with q = 0 adds nothing, and has the gradient ``p``.

    One operation of PyTorch's: a small network's step is short. ``-inf`` is made finite, for 0 times it is NaN.
    """
    if mask_BA is not None:
        log_p_BA = torch.where(mask_BA, log_p_BA, 0.0)
    told_BA = log_q_BA.clamp(min=NEVER)
    return functional.kl_div(log_p_BA, told_BA, reduction="none", log_target=True).sum(-1)


def _reverse(log_p_BA: Tensor, log_q_BA: Tensor, mask_BA: Tensor | None) -> Tensor:
    """``sum p (log p - log q)``. Inadmissible actions are taken out before any difference of infinities is made."""
    mask_BA = everything(log_p_BA, mask_BA)
    gap_BA = log_p_BA.masked_fill(~mask_BA, 0.0) - log_q_BA.masked_fill(~mask_BA, 0.0).clamp(min=FLOOR)
    return (log_p_BA.exp() * gap_BA).sum(-1)


def _jensen_shannon(log_p_BA: Tensor, log_q_BA: Tensor, mask_BA: Tensor | None) -> Tensor:
    """``(KL(q || m) + KL(p || m)) / 2`` with ``m = (p + q) / 2``: no weight to choose, and always finite."""
    mask_BA = everything(log_p_BA, mask_BA)
    p_BA, q_BA = log_p_BA.exp(), log_q_BA.exp()
    log_p_BA, log_q_BA = log_p_BA.masked_fill(~mask_BA, 0.0), log_q_BA.masked_fill(~mask_BA, 0.0)
    log_m_BA = torch.logaddexp(log_p_BA, log_q_BA) - math.log(2)
    of_teacher_BA = q_BA * torch.where(q_BA > 0, log_q_BA - log_m_BA, 0.0)
    return (of_teacher_BA + p_BA * (log_p_BA - log_m_BA)).sum(-1) / 2


_DIRECTIONS: dict[Direction, Callable[[Tensor, Tensor, Tensor | None], Tensor]] = {
    Direction.FORWARD: _forward,
    Direction.REVERSE: _reverse,
    Direction.JENSEN_SHANNON: _jensen_shannon,
}
