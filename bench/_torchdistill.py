"""Torchdistill (PyPI) doing the step of ``bench/weights_throughput.py``: KL to a teacher mixed with cross-entropy.

Its KDLoss is the same sum; its teacher is a slice of the batch, so that it costs nothing.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import nn

Block = Callable[[int], Any]
"""Trains so many steps from the first weights."""


class Step(NamedTuple):
    """What every tool does in a step."""

    batch: int = 64
    temperature: float = 2.0
    hard: float = 0.1
    """Share of the cross-entropy."""
    rate: float = 2e-3
    decay: float = 0.01
    clip: float = 1.0


def sequential(sizes: tuple[int, ...]) -> nn.Sequential:
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for wide, out in pairwise(sizes):
        layers += [nn.Linear(wide, out), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


class _First(nn.Module):
    """The part of a batch that is an observation, through the student."""

    def __init__(self, network: nn.Module, numbers: int) -> None:
        super().__init__()
        self.network, self.numbers = network, numbers

    def forward(self, both: Any) -> Any:
        return self.network(both[:, : self.numbers])


class _Rest(nn.Module):
    """The part of a batch that is the teacher's logits."""

    def __init__(self, numbers: int) -> None:
        super().__init__()
        self.numbers = numbers

    def forward(self, both: Any) -> Any:
        return both[:, self.numbers :]


def torchdistill(sizes: tuple[int, ...], arrays: Sequence[Any], step: Step) -> dict[str, Block]:
    """Its box, with batches handed over and with its own loader; nothing where it is not installed.

    ``arrays``: observations (n, d), the teacher's logits (n, a), its actions (n,).
    """
    get_box = _get_box()
    if get_box is None:
        return {}
    seen, logits, actions = (torch.from_numpy(array) for array in arrays)
    both = torch.cat([seen, logits], dim=1)
    dataset = torch.utils.data.TensorDataset(both, actions)
    term = {"student_module_path": ".", "student_module_io": "output", "teacher_module_path": "."}
    kd = {
        **term,
        "teacher_module_io": "output",
        "temperature": step.temperature,
        "alpha": step.hard,
        "reduction": "batchmean",
    }
    loader = {
        "dataset_id": "train",
        "requires_supp": False,
        "sampler": {"class_or_func": torch.utils.data.RandomSampler, "kwargs": {}},
        "kwargs": {"batch_size": step.batch},
    }

    def box(steps: int) -> Any:
        config = {
            "num_epochs": 1,
            "train_data_loader": dict(loader),
            "teacher": {"forward_proc": "forward_batch_only", "requires_grad": False},
            "student": {"forward_proc": "forward_batch_only"},
            "optimizer": {
                "key": "AdamW",
                "kwargs": {"lr": step.rate, "weight_decay": step.decay},
                "max_grad_norm": step.clip,
            },
            "scheduler": {"key": "CosineAnnealingLR", "kwargs": {"T_max": steps}, "scheduling_step": 1},
            "criterion": {
                "key": "WeightedSumLoss",
                "kwargs": {"sub_terms": {"kd": {"criterion": {"key": "KDLoss", "kwargs": dict(kd)}, "weight": 1.0}}},
            },
        }
        student = _First(sequential(sizes), sizes[0])
        return get_box(_Rest(sizes[0]), student, {"train": dataset}, config, torch.device("cpu"), [], False, 1)

    def one(trained: Any, batch: Any, targets: Any) -> None:
        loss = trained.forward_process(batch, targets, None)
        trained.post_forward_process(loss=loss)
        float(loss.detach())

    def handed(steps: int) -> None:
        trained, order = box(steps), torch.randperm(len(actions)).split(step.batch)
        for number in range(steps):
            rows = order[number % len(order)]
            one(trained, both[rows], actions[rows])

    def loaded(steps: int) -> None:
        trained, done = box(steps), 0
        while done < steps:
            for batch, targets in trained.train_data_loader:
                one(trained, batch, targets)
                done += 1
                if done == steps:
                    break

    return {"torchdistill, batches handed over": handed, "torchdistill, its loader": loaded}


def _get_box() -> Callable[..., Any] | None:
    """Torchdistill imports torchvision, whose wheel of PyPI does not load beside a CPU build of torch: two of its
    operators are absent. They are never called here, so they are declared."""
    with contextlib.suppress(RuntimeError):
        for name in ("nms", "qnms"):
            _DECLARED.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    try:
        import logging

        from torchdistill.core.distillation import get_distillation_box
    except ImportError:
        return None
    logging.getLogger("torchdistill").setLevel(logging.ERROR)
    found: Callable[..., Any] = get_distillation_box
    return found


_DECLARED = torch.library.Library("torchvision", "FRAGMENT")


def version() -> str | None:
    from importlib import metadata

    try:
        return metadata.version("torchdistill")
    except metadata.PackageNotFoundError:
        return None
