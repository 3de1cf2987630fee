"""What a teacher told of its decisions, brought into the one form that ``soft`` compares: logits beside logits.

Logits are taken as they are. Probabilities become their logarithms, since ``softmax(log p / T)`` is ``p^(1/T) / Z``:
a probability of zero stays zero at every temperature. Of top-k log-probabilities the rest is a bucket or dealt out
(``config.Rest``). K samples of a black box become probabilities by ``soft_labels.dirichlet``.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from potstill.distill.weights.losses.config import Rest
from potstill.distill.weights.losses.rows import everything


class Logits(NamedTuple):
    """A teacher whose logits are known, up to a constant a row. ``-inf``: never taken."""

    values_BA: Tensor


class Probabilities(NamedTuple):
    """A teacher whose distribution is known. What lies on inadmissible actions is dealt out over the others."""

    values_BA: Tensor


class TopK(NamedTuple):
    """A teacher that tells the log-probabilities of its k likeliest actions. An index of -1 is no entry."""

    log_probabilities_BK: Tensor
    indices_BK: Tensor


Teacher = Logits | Probabilities | TopK


class Pair(NamedTuple):
    """Both sides' logits over the outcomes that are compared, and which of these exist in each row."""

    student_BN: Tensor
    teacher_BN: Tensor
    mask_BN: Tensor | None


def paired(student_BA: Tensor, teacher: Teacher, mask_BA: Tensor | None, rest: Rest = Rest.BUCKET) -> Pair:
    """The student's logits and the teacher's over the same outcomes: the actions, or the k and a bucket."""
    if isinstance(teacher, Logits):
        return Pair(student_BA, teacher.values_BA, mask_BA)
    if isinstance(teacher, Probabilities):
        return Pair(student_BA, teacher.values_BA.log(), mask_BA)
    told_BA, known_BA = _told(teacher, student_BA)
    if rest == Rest.RENORMALISED:
        return Pair(student_BA, told_BA, mask_BA)
    return _with_bucket(student_BA, told_BA, known_BA, everything(student_BA, mask_BA))


def _told(teacher: TopK, student_BA: Tensor) -> tuple[Tensor, Tensor]:
    """The k log-probabilities at their actions, ``-inf`` at the others, and which were told: a probability of zero may
    be. Empty entries go into a column that is cut."""
    rows, actions = student_BA.shape
    values_BK = teacher.log_probabilities_BK.to(torch.promote_types(student_BA.dtype, torch.float32))
    places_BK = torch.where(teacher.indices_BK >= 0, teacher.indices_BK, actions)
    empty = torch.full((rows, actions + 1), -math.inf, dtype=values_BK.dtype, device=student_BA.device)
    none = torch.zeros((rows, actions + 1), dtype=torch.bool, device=student_BA.device)
    return empty.scatter(1, places_BK, values_BK)[:, :actions], none.scatter(1, places_BK, True)[:, :actions]


def _with_bucket(student_BA: Tensor, told_BA: Tensor, known_BA: Tensor, mask_BA: Tensor) -> Pair:
    """The told actions and one outcome for all others.

    The student's bucket is the sum of its other actions at T = 1, so both sides are made coarser first and tempered
    afterwards: the student that minimises the divergence holds the teacher's k probabilities and its rest exactly, at
    every temperature. How it splits the rest stays its own.
    """
    other_BA = mask_BA & ~known_BA
    some_B1 = other_BA.any(-1, keepdim=True)
    others_BA = torch.where(other_BA, student_BA, torch.where(some_B1, -math.inf, 0.0))
    rest_B1 = (1 - told_BA.exp().sum(-1, keepdim=True)).clamp(min=0.0)
    return Pair(
        torch.cat([student_BA, others_BA.logsumexp(-1, keepdim=True)], dim=-1),
        torch.cat([told_BA, rest_B1.log()], dim=-1),
        torch.cat([mask_BA & known_BA, some_B1], dim=-1),
    )
