"""What our training loop costs beside plain PyTorch and torchdistill for the same step.

    python bench/weights_throughput.py [--blocks 9] [--steps 400]

The step: a batch of decisions out of arrays in a shuffled order, forward pass, KL to the teacher at temperature 2 with
T² mixed with a tenth of cross-entropy, backward pass, clipping, AdamW at a rate that a schedule gives. *Plain* is that
as a script by hand, without checks, checkpoints, looks at held-out data or a reproducible order; *ours* is
``distill.weights.train.loop.train``, its start and end included. Torchdistill (PyPI) takes part where it is installed:
with batches handed to its box, and with its own loader. Its KDLoss is the same sum; its teacher is a slice of the
batch, so it costs nothing.

Blocks of ``--steps`` steps alternate between all, CPU time is counted, and the ratio is that of the medians; its
interval resamples rounds of blocks. All begin with the same weights and one thread.
"""

from __future__ import annotations

import argparse
import contextlib
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

import _results
from potstill.distill.weights.losses.config import Loss
from potstill.distill.weights.policies.mlp import MlpShape, VectorExamples, new_mlp
from potstill.distill.weights.train.config import TrainConfig
from potstill.distill.weights.train.loop import train
from potstill.distill.weights.train.schedule import rate_at

DECISIONS, NUMBERS, ACTIONS, BATCH = 12_000, 8, 4, 64
TEMPERATURE, HARD, RATE, DECAY, CLIP = 2.0, 0.1, 2e-3, 0.01, 1.0
SIZES = {"8-64-4": (8, 64, 4), "8-256-256-4": (8, 256, 256, 4)}

Block = Callable[[int], Any]
"""Trains so many steps from the first weights."""


def main() -> None:
    options = parsed()
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = []
    for name, sizes in SIZES.items():
        blocks: dict[str, Block] = {"plain PyTorch": plain(sizes), "potstill": ours(sizes), **torchdistill(sizes)}
        found = timed(blocks, options.blocks, options.steps)
        for tool, seconds in found.items():
            rows.append(
                {
                    "network": name,
                    "tool": tool,
                    "us_a_step": 1e6 * float(np.median(seconds)) / options.steps,
                    **ratio(seconds, found["plain PyTorch"]),
                }
            )
            print(rows[-1], flush=True)
    extra = {
        **{"batch": BATCH, "decisions": DECISIONS, "steps_a_block": options.steps, "blocks": options.blocks},
        **{"torch": torch.__version__, "time": "CPU time of the process", "ratio": "of medians, to plain PyTorch"},
        "torchdistill": version(),
        "written_at": time.strftime("%Y-%m-%d", time.gmtime()),
    }
    _results.write("weights_throughput", rows, n=options.blocks, extra=extra)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--blocks", type=int, default=9, help="of each, alternating")
    parser.add_argument("--steps", type=int, default=400, help="of a block")
    return parser.parse_args()


def arrays() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Observations, the teacher's logits and its actions: a teacher of random weights."""
    rng = np.random.default_rng(0)
    seen = rng.normal(size=(DECISIONS, NUMBERS)).astype(np.float32)
    logits = np.tanh(seen @ rng.normal(size=(NUMBERS, 32))) @ rng.normal(size=(32, ACTIONS))
    return seen, logits.astype(np.float32), logits.argmax(axis=1)


def timed(blocks: dict[str, Block], rounds: int, steps: int) -> dict[str, list[float]]:
    """CPU seconds of every block; the first round warms up. Every other round goes backwards."""
    found: dict[str, list[float]] = {tool: [] for tool in blocks}
    for number in range(rounds + 1):
        order = list(blocks)
        for tool in order if number % 2 else reversed(order):
            started = time.process_time()
            blocks[tool](steps)
            if number:
                found[tool].append(time.process_time() - started)
    return found


def ratio(ours_s: Sequence[float], theirs_s: Sequence[float]) -> dict[str, Any]:
    one, other = np.array(ours_s), np.array(theirs_s)
    rows = np.random.default_rng(0).integers(0, len(one), (2000, len(one)))
    drawn = np.median(one[rows], axis=1) / np.median(other[rows], axis=1)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return {"ratio": float(np.median(one) / np.median(other)), "ratio_ci": [float(low), float(high)]}


# --- who trains -----------------------------------------------------------------------------------------------------


def ours(sizes: tuple[int, ...]) -> Block:
    seen, logits, actions = arrays()
    data = VectorExamples(seen, actions, action_count=ACTIONS, logits=logits)
    loss = Loss(temperature=TEMPERATURE, hard_share=HARD)

    def block(steps: int) -> None:
        network = new_mlp(MlpShape(sizes=sizes), seed=0)
        train(network, data, TrainConfig(steps=steps, evaluate_every=steps + 1, patience=0, loss=loss, batch=BATCH))

    return block


def plain(sizes: tuple[int, ...]) -> Block:
    seen, logits, actions = (torch.from_numpy(array) for array in arrays())

    def block(steps: int) -> None:
        network = sequential(sizes)
        optimizer = torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=DECAY)
        order: Any = ()
        for step in range(steps):
            if step * BATCH % DECISIONS < BATCH:
                order = torch.randperm(DECISIONS).split(BATCH)
            rows = order[step % len(order)]
            for group in optimizer.param_groups:
                group["lr"] = rate_at(step, steps, peak=RATE, schedule="cosine", warmup=50)
            student, teacher = network(seen[rows]), logits[rows]
            soft = functional.kl_div(
                functional.log_softmax(student / TEMPERATURE, dim=1),
                functional.log_softmax(teacher / TEMPERATURE, dim=1),
                reduction="batchmean",
                log_target=True,
            )
            hard = functional.cross_entropy(student, actions[rows])
            loss = HARD * hard + (1 - HARD) * TEMPERATURE**2 * soft
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), CLIP)
            optimizer.step()

    return block


def sequential(sizes: tuple[int, ...]) -> nn.Sequential:
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for wide, out in pairwise(sizes):
        layers += [nn.Linear(wide, out), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


class _First(nn.Module):
    """The part of a batch that is an observation, through the student."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, both: Any) -> Any:
        return self.network(both[:, :NUMBERS])


class _Rest(nn.Module):
    """The part of a batch that is the teacher's logits."""

    def forward(self, both: Any) -> Any:
        return both[:, NUMBERS:]


def torchdistill(sizes: tuple[int, ...]) -> dict[str, Block]:
    """Its box, with batches handed over and with its own loader; nothing where it is not installed."""
    get_box = _get_box()
    if get_box is None:
        return {}
    seen, logits, actions = (torch.from_numpy(array) for array in arrays())
    both = torch.cat([seen, logits], dim=1)
    dataset = torch.utils.data.TensorDataset(both, actions)
    term = {"student_module_path": ".", "student_module_io": "output", "teacher_module_path": "."}
    kd = {**term, "teacher_module_io": "output", "temperature": TEMPERATURE, "alpha": HARD, "reduction": "batchmean"}
    loader = {
        "dataset_id": "train",
        "requires_supp": False,
        "sampler": {"class_or_func": torch.utils.data.RandomSampler, "kwargs": {}},
        "kwargs": {"batch_size": BATCH},
    }

    def box(steps: int) -> Any:
        config = {
            "num_epochs": 1,
            "train_data_loader": dict(loader),
            "teacher": {"forward_proc": "forward_batch_only", "requires_grad": False},
            "student": {"forward_proc": "forward_batch_only"},
            "optimizer": {"key": "AdamW", "kwargs": {"lr": RATE, "weight_decay": DECAY}, "max_grad_norm": CLIP},
            "scheduler": {"key": "CosineAnnealingLR", "kwargs": {"T_max": steps}, "scheduling_step": 1},
            "criterion": {
                "key": "WeightedSumLoss",
                "kwargs": {"sub_terms": {"kd": {"criterion": {"key": "KDLoss", "kwargs": dict(kd)}, "weight": 1.0}}},
            },
        }
        student = _First(sequential(sizes))
        return get_box(_Rest(), student, {"train": dataset}, config, torch.device("cpu"), [], False, 1)

    def one(trained: Any, batch: Any, targets: Any) -> None:
        loss = trained.forward_process(batch, targets, None)
        trained.post_forward_process(loss=loss)
        float(loss.detach())

    def handed(steps: int) -> None:
        trained, order = box(steps), torch.randperm(DECISIONS).split(BATCH)
        for step in range(steps):
            rows = order[step % len(order)]
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


if __name__ == "__main__":
    main()
