"""What two widely copied distillation snippets compute, beside the losses of ``potstill.distill.weights``.

    python bench/losses.py

Snippet 1 compares a student's tempered logits with a teacher's untempered probabilities, one decision at a time.
Snippet 2 puts sigmoid outputs of both sides through logarithms into a KL loss. Both are rebuilt here from their
expressions. The numbers follow from the seeds alone (to the last digits of the processor's arithmetic).

- ``rows``: the distribution that a student ends with, its logits alone optimised.
- ``gradients``: the norm of the gradient by the student's logits, with and without the square of the temperature.
- ``divisors``: the loss of one decision without a batch axis.
- ``sigmoids``: snippet 2 from its first step to where the weights are lost, for each seed.
- ``samples``: soft labels from K samples of a black box, plain and smoothed.
- ``mistakes``: input that a plain KL takes without a word, and what is said here.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

import _results
from potstill.distill.weights.losses.config import Direction, Loss
from potstill.distill.weights.losses.objective import Objective, loss_of
from potstill.distill.weights.losses.targets import Logits, Probabilities
from potstill.distill.weights.soft_labels import dirichlet_rows
from potstill.errors import ConfigError
from potstill.measure.statistics import normal_quantile

TEACHER = (0.10, 0.60, 0.30)
SEEDS = (0, 1, 2)
EPOCHS = (100, 3000)
BATCH = 100
ACTIONS, CONCENTRATION, TEACHERS = 6, 0.6, 20_000
SAMPLES = (1, 3, 5, 10, 20)

LossOfLogits = Callable[[Tensor], Tensor]
Loss2 = Callable[[Tensor, Tensor], Tensor]
"""Of the student's logits and the teacher's."""


def snippet_1(logits_A: Tensor, teacher_A: Tensor, temperature: float) -> Tensor:
    """The teacher's probabilities as they are against the student's tempered ones, without a batch axis."""
    return functional.kl_div(functional.log_softmax(logits_A / temperature, dim=-1), teacher_A, reduction="batchmean")


def ours(objective: Objective, teacher_A: Tensor) -> LossOfLogits:
    return lambda logits_A: objective(logits_A[None], teacher=Probabilities(teacher_A[None]))


def optimised(loss: LossOfLogits, actions: int, *, steps: int = 500) -> Tensor:
    """The student's distribution at T = 1 when its logits alone have gone down the gradient, with momentum."""
    logits, speed = torch.zeros(actions, dtype=torch.float64), torch.zeros(actions, dtype=torch.float64)
    for _ in range(steps):
        speed = 0.8 * speed - gradient(loss, logits)
        logits = logits + speed
    return torch.softmax(logits, dim=-1)


def gradient(loss: LossOfLogits, logits_A: Tensor) -> Tensor:
    leaf = logits_A.clone().requires_grad_()
    (slope,) = torch.autograd.grad(loss(leaf), leaf)
    return slope


def entropy(shares: Tensor) -> float:
    return float(torch.special.entr(shares).sum())


def fixed_points() -> list[dict[str, Any]]:
    teacher = torch.tensor(TEACHER, dtype=torch.float64)
    rows = [_played("the teacher", 1.0, teacher)]
    for temperature in (1.0, 2.0, 4.0):
        learned = optimised(lambda z, T=temperature: snippet_1(z, teacher, T) * len(TEACHER) * T, len(TEACHER))
        rows.append(_played("snippet 1", temperature, learned))
    for direction in Direction:
        for temperature in (1.0, 2.0, 4.0):
            objective = loss_of(Loss(direction=direction, temperature=temperature))
            learned = optimised(ours(objective, teacher), len(TEACHER))
            rows.append(_played(f"potstill, {direction.value}", temperature, learned))
    return rows


def _played(loss: str, temperature: float, shares: Tensor) -> dict[str, Any]:
    return {
        "loss": loss,
        "temperature": temperature,
        "plays": [round(share, 4) for share in shares.tolist()],
        "entropy_nats": round(entropy(shares), 4),
    }


def gradients() -> list[dict[str, Any]]:
    teacher, even = torch.tensor(TEACHER, dtype=torch.float64), torch.zeros(3, dtype=torch.float64)
    rows = []
    for temperature in (1.0, 2.0, 4.0, 8.0, 16.0):
        whole = gradient(ours(loss_of(Loss(temperature=temperature)), teacher), even)
        rows.append(
            {
                "temperature": temperature,
                "without_square": round(float(whole.norm()) / temperature**2, 5),
                "with_square": round(float(whole.norm()), 4),
            }
        )
    return rows


def divisors() -> list[dict[str, Any]]:
    """An even student before a teacher that is sure of one action: ln A, and what ``batchmean`` makes of it."""
    rows = []
    for actions in (3, 10, 100):
        sure = functional.one_hot(torch.tensor(0), actions).double()
        even = torch.zeros(actions, dtype=torch.float64)
        rows.append(
            {
                "actions": actions,
                "kl": round(float(ours(loss_of(Loss()), sure)(even)), 4),
                "snippet_1": round(float(snippet_1(even, sure, 1.0)), 4),
            }
        )
    return rows


def networks(seed: int) -> tuple[nn.Sequential, nn.Sequential]:
    """A teacher and a student of the tutorial's sizes, without their last sigmoid."""
    torch.manual_seed(seed)
    return (
        nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 2)).double(),
        nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2)).double(),
    )


def train(teacher: nn.Module, student: nn.Module, loss: Loss2, epochs: int) -> float:
    """Adam on fresh random inputs, as the tutorial does. Returns the loss of the first step."""
    optimizer = torch.optim.Adam(student.parameters(), lr=0.01)
    first = math.nan
    for epoch in range(epochs):
        inputs = torch.randn(BATCH, 2, dtype=torch.float64)
        value = loss(student(inputs), teacher(inputs).detach())
        first = float(value.detach()) if epoch == 0 else first
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
    return first


def snippet_2(student_BA: Tensor, teacher_BA: Tensor) -> Tensor:
    return nn.KLDivLoss(reduction="batchmean")(
        torch.log(torch.sigmoid(student_BA)), torch.log(torch.sigmoid(teacher_BA))
    )


@torch.no_grad()
def mean_output(network: nn.Module, inputs: Tensor) -> float | str:
    return _shown(float(torch.sigmoid(network(inputs)).mean()))


def sigmoids() -> list[dict[str, Any]]:
    objective = loss_of(Loss())
    held_out = torch.randn(1000, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(99))
    rows = []
    for seed in SEEDS:
        teacher, student = networks(seed)
        told = teacher(held_out).detach()
        row: dict[str, Any] = {"seed": seed, "row_sum": _shown(float(torch.sigmoid(told).sum(-1).mean()))}
        row["output_before"] = mean_output(student, held_out)
        row["first_loss"] = _shown(train(teacher, student, snippet_2, EPOCHS[0]))
        row["output_100"] = mean_output(student, held_out)
        train(teacher, student, snippet_2, EPOCHS[1])
        row["output_3100"] = mean_output(student, held_out)
        teacher, student = networks(seed)
        row["kl_before"] = _shown(float(objective(student(held_out).detach(), teacher=Logits(told))))
        train(teacher, student, lambda z, q: objective(z, teacher=Logits(q)), EPOCHS[0])
        row["kl_100"] = _shown(float(objective(student(held_out).detach(), teacher=Logits(told))))
        rows.append(row)
    return rows


def _shown(value: float) -> float | str:
    return float(f"{value:.3g}") if math.isfinite(value) else "NaN"


def samples() -> list[dict[str, Any]]:
    """``KL(teacher || label)`` over random teachers, for labels from K of their samples."""
    draw = np.random.default_rng(SEEDS[0])
    teachers_NA = draw.dirichlet(np.full(ACTIONS, CONCENTRATION), size=TEACHERS)
    return [_label_row(teachers_NA, k, draw.multinomial(k, teachers_NA)) for k in SAMPLES]


def _label_row(teachers_NA: np.ndarray, k: int, counts_NA: np.ndarray) -> dict[str, Any]:
    smoothed_N = _kl(teachers_NA, dirichlet_rows(counts_NA))
    plain_N = _kl(teachers_NA, dirichlet_rows(counts_NA, alpha=0.0))
    half = normal_quantile(0.975) * smoothed_N.std(ddof=1) / math.sqrt(len(smoothed_N))
    mean = float(smoothed_N.mean())
    return {
        "samples": k,
        "smoothed_kl": round(mean, 4),
        "smoothed_kl_ci": [round(mean - half, 4), round(mean + half, 4)],
        "plain_infinite": round(float(np.isinf(plain_N).mean()), 4),
    }


def _kl(teachers_NA: np.ndarray, labels_NA: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore"):
        gaps = np.log(teachers_NA) - np.log(labels_NA)
    return np.where(teachers_NA > 0, teachers_NA * gaps, 0.0).sum(axis=1)


def mistakes() -> list[dict[str, Any]]:
    """A plain forward KL (``kl_div`` of log-softmax and probabilities, ``batchmean``) beside the checked loss."""
    given: dict[str, tuple[Tensor, Tensor]] = {
        "a teacher of sigmoids, rows that add up to 1.2": (torch.zeros(2, 2), torch.tensor([[0.7, 0.5], [0.4, 0.8]])),
        "one column of labels for two actions": (torch.zeros(2, 2), torch.tensor([[1.0], [0.0]])),
        "one decision without a batch axis": (torch.zeros(3), torch.tensor([1.0, 0.0, 0.0])),
        "a student whose training diverged": (torch.tensor([[math.nan, 0.0]]), torch.tensor([[0.5, 0.5]])),
    }
    return [{"given": what, **_both(logits, shares)} for what, (logits, shares) in given.items()]


def _both(logits: Tensor, shares: Tensor) -> dict[str, Any]:
    plain = functional.kl_div(torch.log_softmax(logits, -1), shares, reduction="batchmean")
    try:
        said = _shown(float(loss_of(Loss())(logits, teacher=Probabilities(shares))))
    except ConfigError as error:
        said = str(error)
    return {"plain_kl": _shown(float(plain)), "potstill": said}


def main() -> None:
    torch.set_num_threads(1)
    parts = (gradients, divisors, sigmoids, samples, mistakes)
    extra = {part.__name__: part() for part in parts}
    _results.write("losses", fixed_points(), seeds=SEEDS, extra=extra)


if __name__ == "__main__":
    main()
