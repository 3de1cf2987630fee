"""The loss of one step: the configured one, as an adaptive rule has it now, or several in balance.

It knows configurations and batches. It holds nothing itself: norms are kept in ``Progress``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from potstill.distill.weights.losses import balance
from potstill.distill.weights.losses.config import Loss
from potstill.distill.weights.losses.objective import loss_of
from potstill.distill.weights.losses.targets import Probabilities, TopK
from potstill.distill.weights.policies.batch import Batch, Tensor
from potstill.distill.weights.policies.pytorch import load_torch
from potstill.distill.weights.train.adaptive import learnt, loss_at
from potstill.distill.weights.train.config import TrainConfig
from potstill.distill.weights.train.progress import Progress

torch = load_torch()


class Standing(NamedTuple):
    """What a step's loss depends on beside network, batch and configuration."""

    step: int
    """Steps before this one."""
    learnt: float
    """What adaptive rules follow."""
    norms: Sequence[float]
    """Mean gradient norms of a mix's parts, before this step."""


def standing_of(progress: Progress, config: TrainConfig) -> Standing:
    """Of the next step."""
    return Standing(progress.step, 0.0 if config.adaptive is None else learnt(progress.history), progress.norms)


def step_loss(
    network: Any,
    batch: Batch,
    config: TrainConfig,
    standing: Standing,
    *,
    whole: Callable[[list[float]], list[float]] = list,
) -> tuple[Tensor, list[float]]:
    """A scalar to descend, and the mean norms after this step.

    ``whole``: makes the norms of this batch those of the batch that it is a share of.
    """
    logits_BA, norms = network(batch.inputs), list(standing.norms)
    if not config.mix:
        adaptive = config.adaptive
        loss = config.loss if adaptive is None else loss_at(config.loss, adaptive, standing.learnt)
        return of_logits(logits_BA, batch, loss), norms
    parts = [of_logits(logits_BA, batch, part.loss) for part in config.mix]
    shares = [part.share for part in config.mix]
    if config.balanced:
        now = [float(torch.autograd.grad(part, logits_BA, retain_graph=True)[0].norm()) for part in parts]
        norms = balance.smoothed(norms, whole(now))
    factors = balance.weights(shares, norms if config.balanced else [1.0] * len(shares))
    return torch.stack([factor * part for factor, part in zip(factors, parts, strict=True)]).sum(), norms


def of_logits(logits_BA: Tensor, batch: Batch, loss: Loss, *, check: bool = False) -> Tensor:
    """One loss of a batch."""
    teacher = _teacher(batch)
    return loss_of(loss, check=check)(
        logits_BA, mask=batch.mask_BA, labels=batch.target_B, teacher=teacher, weights=batch.weight_B
    )


def _teacher(batch: Batch) -> Probabilities | TopK | None:
    if batch.probabilities_BA is None:
        return None
    if batch.told_BA is None:
        return Probabilities(batch.probabilities_BA)
    actions_A = torch.arange(batch.told_BA.shape[1])
    told_BA = batch.told_BA if batch.mask_BA is None else batch.told_BA & batch.mask_BA
    return TopK(batch.probabilities_BA.nan_to_num().log(), torch.where(told_BA, actions_A, -1))


def check_batch(network: Any, batch: Batch, config: TrainConfig) -> None:
    """Every loss that a training has, on one batch: what does not fit is refused before the first step."""
    network.eval()
    with torch.no_grad():
        logits_BA = network(batch.inputs)
        for loss in [part.loss for part in config.mix] or [config.loss]:
            of_logits(logits_BA, batch, loss, check=True)
