"""Feature matching while a student is distilled: its last hidden layer is drawn to the given policy's, too.

After FitNets (arXiv 1412.6550, section 2.2), with both losses at once instead of one after the other. Networks stay as
they are: what their last layer is given is looked at. The map between two widths is trained beside the student and
thrown away. Knows networks and batches. Does not know which layer is the last (``subject``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from potstill.distill.weights.losses.features import feature_rows, projection
from potstill.distill.weights.losses.rows import weighted_mean
from potstill.distill.weights.policies.batch import Batch, Examples, Integers, Tensor
from potstill.distill.weights.policies.pytorch import Module, load_torch
from potstill.distill.weights.train.config import TrainConfig
from potstill.distill.weights.train.loop import Gradients
from potstill.distill.weights.train.objectives import Standing, step_loss

torch = load_torch()


class Beside(Module):
    """A student and the map of its features, so that an optimiser moves both. It answers as the student."""

    def __init__(self, student: Any, mapped: Any) -> None:
        super().__init__()
        self.student, self.mapped = student, mapped

    def forward(self, inputs: Any) -> Tensor:
        return self.student(inputs)


def matching(
    student: Any, given: Any, last: Callable[[Any], Any], weight: float, *, seed: int
) -> tuple[Beside, Gradients]:
    """What is trained instead of ``student``, and by which gradients: those of its loss and ``weight`` times
    ``apart``. ``last``: a network's last layer. Nothing is learnt by ``given``."""
    mapped = projection(last(student).in_features, last(given).in_features, seed=seed)

    def gradients(
        network: Any, data: Examples, rows: Integers, config: TrainConfig, standing: Standing
    ) -> tuple[float, list[float]]:
        batch = data.batch(rows)
        with read_by(last(student)) as ours:
            loss, norms = step_loss(network, batch, config, standing)
        with torch.no_grad(), read_by(last(given)) as theirs:
            given(batch.inputs)
        loss = loss + weight * apart(ours[0], theirs[0], batch, mapped)
        loss.backward()
        return float(loss.detach()), norms

    return Beside(student, mapped), gradients


def apart(ours_MD: Tensor, theirs_ME: Tensor, batch: Batch, mapped: Any = None) -> Tensor:
    """The share of the given policy's features' variance in a batch that the student's do not explain: about 1 for one
    that knows nothing of them, whatever the policy's scale.

    Both are centred, as a bias of the map would do at once: most of a hidden layer's square is what it always says.
    M rows: one of each decision, or one of each admissible action of each, which then share their decision's weight.
    """
    ours_MD, theirs_ME = (rows - rows.mean(dim=0) for rows in (ours_MD, theirs_ME))
    weight_M = batch.weights()
    if len(theirs_ME) != len(weight_M):
        assert batch.mask_BA is not None
        of_M, count_B = batch.mask_BA.nonzero()[:, 0], batch.mask_BA.sum(dim=1)
        weight_M = (weight_M / count_B)[of_M]
    scale = theirs_ME.square().mean().clamp(min=torch.finfo(theirs_ME.dtype).tiny)
    return weighted_mean(feature_rows(ours_MD, theirs_ME, mapped), weight_M) / scale


@contextmanager
def read_by(layer: Any) -> Iterator[list[Tensor]]:
    """What a layer is given, call by call."""
    seen: list[Tensor] = []
    hook = layer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    try:
        yield seen
    finally:
        hook.remove()
