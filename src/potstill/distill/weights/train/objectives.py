"""The loss of one step: the configured one, as an adaptive rule has it now, or several in balance.

It knows configurations, batches and how far a training is. It holds nothing itself: norms are kept in ``Progress``.
"""

from __future__ import annotations

from typing import Any

from potstill.distill.weights.losses import balance
from potstill.distill.weights.losses.config import Loss
from potstill.distill.weights.losses.objective import loss_of
from potstill.distill.weights.losses.targets import Probabilities
from potstill.distill.weights.policies.batch import Batch, Tensor
from potstill.distill.weights.policies.pytorch import load_torch
from potstill.distill.weights.train.adaptive import learnt, loss_at
from potstill.distill.weights.train.config import TrainConfig
from potstill.distill.weights.train.progress import Progress

torch = load_torch()


def step_loss(network: Any, batch: Batch, config: TrainConfig, progress: Progress) -> Tensor:
    """A scalar to descend. In a mix the mean norms in ``progress`` go on by one step."""
    logits_BA = network(batch.inputs)
    if not config.mix:
        adaptive = config.adaptive
        loss = config.loss if adaptive is None else loss_at(config.loss, adaptive, learnt(progress.history))
        return of_logits(logits_BA, batch, loss)
    parts = [of_logits(logits_BA, batch, part.loss) for part in config.mix]
    shares = [part.share for part in config.mix]
    if config.balanced:
        norms = [float(torch.autograd.grad(part, logits_BA, retain_graph=True)[0].norm()) for part in parts]
        progress.norms = balance.smoothed(progress.norms, norms)
    factors = balance.weights(shares, progress.norms if config.balanced else [1.0] * len(shares))
    return torch.stack([factor * part for factor, part in zip(factors, parts, strict=True)]).sum()


def of_logits(logits_BA: Tensor, batch: Batch, loss: Loss, *, check: bool = False) -> Tensor:
    """One loss of a batch."""
    teacher = None if batch.probabilities_BA is None else Probabilities(batch.probabilities_BA)
    return loss_of(loss, check=check)(
        logits_BA, mask=batch.mask_BA, labels=batch.target_B, teacher=teacher, weights=batch.weight_B
    )


def check_batch(network: Any, batch: Batch, config: TrainConfig) -> None:
    """Every loss that a training has, on one batch: what does not fit is refused before the first step."""
    network.eval()
    with torch.no_grad():
        logits_BA = network(batch.inputs)
        for loss in [part.loss for part in config.mix] or [config.loss]:
            of_logits(logits_BA, batch, loss, check=True)
