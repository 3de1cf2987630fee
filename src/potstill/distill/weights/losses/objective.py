"""The loss that a configuration names, ready for a training loop.

It knows how hard and soft parts are mixed. It holds no state and no parameters.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from potstill.distill.weights.losses import checks
from potstill.distill.weights.losses.config import Kind, Loss
from potstill.distill.weights.losses.hard import hard_rows
from potstill.distill.weights.losses.margin import margin_rows
from potstill.distill.weights.losses.rows import everything, weighted_mean
from potstill.distill.weights.losses.soft import soft_rows
from potstill.distill.weights.losses.targets import Teacher, paired
from potstill.errors import ConfigError


class Objective(NamedTuple):
    """A loss as a function of a batch. ``check=False`` trusts the batches (see ``checks``)."""

    config: Loss
    check: bool = True

    def __call__(
        self,
        logits_BA: Tensor,
        *,
        mask: Tensor | None = None,
        labels: Tensor | None = None,
        teacher: Teacher | None = None,
        weights: Tensor | None = None,
        total: float | Tensor | None = None,
    ) -> Tensor:
        """The weighted mean over the rows, a scalar (see ``rows.weighted_mean`` for ``weights`` and ``total``).

        ``mask`` (B, A) booleans, True where admissible, default all; ``labels`` (B,) indices of the teacher's actions;
        ``teacher`` what it told of its distribution. Raises ``ConfigError`` for what is missing or wrong.
        """
        if self.check and weights is not None:
            checks.check_weights(weights, everything(logits_BA, mask))
        return weighted_mean(self.rows(logits_BA, mask=mask, labels=labels, teacher=teacher), weights, total)

    def rows(
        self,
        logits_BA: Tensor,
        *,
        mask: Tensor | None = None,
        labels: Tensor | None = None,
        teacher: Teacher | None = None,
    ) -> Tensor:
        """The loss of each row, shape ``(B,)``."""
        mask_BA = mask  # None costs nothing: there is no mask to apply
        self._check(logits_BA, mask_BA, labels, teacher)
        config = self.config
        if teacher is None or not config.needs_teacher:
            assert labels is not None
            if config.kind == Kind.MARGIN:
                return margin_rows(logits_BA, labels, mask_BA, margin=config.margin)
            return hard_rows(logits_BA, labels, mask_BA, smoothing=config.smoothing)
        student_BN, teacher_BN, mask_BN = paired(logits_BA, teacher, mask_BA, config.rest)
        soft_B = soft_rows(student_BN, teacher_BN, mask_BN, temperature=config.temperature, direction=config.direction)
        if labels is None or not config.hard_share:
            return soft_B
        hard_B = hard_rows(logits_BA, labels, mask_BA, smoothing=config.smoothing)
        return torch.lerp(soft_B, hard_B, config.hard_share)

    def _check(self, logits_BA: Tensor, mask: Tensor | None, labels: Tensor | None, teacher: Teacher | None) -> None:
        if self.config.needs_labels and labels is None:
            raise ConfigError("The loss needs the teacher's actions, and there are no labels. Give labels=...")
        if self.config.needs_teacher and teacher is None:
            raise ConfigError(
                "The loss is soft, and only the teacher's actions are known: a distribution needs several samples of "
                "it for each decision, or its log-probabilities. Type: --loss kind=hard (in Python: pass teacher=...)"
            )
        if not self.check:
            return
        mask_BA = everything(logits_BA, mask)
        checks.check_student(logits_BA, mask_BA)
        if labels is not None and self.config.needs_labels:
            checks.check_labels(labels, mask_BA)
        if teacher is not None and self.config.needs_teacher:
            checks.check_teacher(teacher, mask_BA)


def loss_of(config: Loss, *, check: bool = True) -> Objective:
    """The loss that ``config`` names.

    >>> import torch
    >>> from potstill.distill.weights.losses.targets import Logits
    >>> even, teacher = torch.zeros(1, 3), Logits(torch.tensor([[0.1, 0.6, 0.3]]).log())
    >>> round(float(loss_of(Loss(temperature=2.0))(even, teacher=teacher)), 4)
    0.2426
    """
    return Objective(config, check)
