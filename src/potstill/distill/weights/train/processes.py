"""One training in several processes on CPUs (data parallel, gloo): equal batches give the weights of one process.

Each process takes its share of every batch; ``DistributedDataParallel`` joins the gradients (arXiv 2006.15704). The
loss of a batch is a mean by weight, so shares are joined by their weight, not evenly as PyTorch does by itself. It
knows processes and gradients; the loop is ``loop.train``, and knows nothing of them.

    with joined(rank, 2, place):                     # in each of the two processes
        trained = train_together(network, data, config, held_out=held_out)

Each process looks at the held-out decisions by itself and finds the same. No checkpoint is kept. Dropout draws the same
pattern for each share, so with it the weights are not those of one process.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch.distributed
import torch.nn.parallel

from potstill.distill.weights.policies.batch import Batch, Examples, Integers
from potstill.distill.weights.policies.pytorch import Module
from potstill.distill.weights.train.config import TrainConfig
from potstill.distill.weights.train.loop import Trained, train
from potstill.distill.weights.train.progress import Progress
from potstill.errors import ConfigError

PATIENCE_S = 600.0
"""How long a process waits for the others before it gives up."""


@contextmanager
def joined(rank: int, processes: int, place: Path, *, patience_s: float = PATIENCE_S) -> Iterator[None]:
    """This process as number ``rank`` of ``processes``, which find each other by the file ``place`` (absent before).

    Raises ``ConfigError`` for a number that cannot be.
    """
    if not 0 <= rank < processes:
        raise ConfigError(f"Process {rank} of {processes} cannot be. Allowed: 0 to one less than there are.")
    torch.distributed.init_process_group(
        "gloo",
        init_method=f"file://{place.absolute()}",
        rank=rank,
        world_size=processes,
        timeout=datetime.timedelta(seconds=patience_s),
    )
    try:
        yield
    finally:
        torch.distributed.destroy_process_group()


def train_together(
    network: Module,
    data: Examples,
    config: TrainConfig,
    *,
    held_out: Examples | None = None,
    watch: Callable[[Progress, int], None] = lambda progress, total: None,
) -> Trained:
    """``loop.train`` in every process at once, within ``joined``; ``network`` holds the same best weights in all.

    The first process's weights are where all begin; data and configuration must be equal in all. The loss that
    ``watch`` sees is that of the process's own share. Raises as ``loop.train``, in all processes.
    """
    if not torch.distributed.is_initialized():
        raise ConfigError("This process belongs to no group. Train within: with joined(rank, processes, place)")
    _must_be_equal(data, config)
    share = _Share(data)
    parallel = torch.nn.parallel.DistributedDataParallel(network)
    parallel.register_comm_hook(share, _by_weight)
    return train(cast(Module, parallel), share, config, held_out=held_out, watch=watch)


class _Share:
    """A process's share of every batch. Satisfies ``batch.Examples``."""

    def __init__(self, data: Examples) -> None:
        self._data = data
        self._rank, self._processes = torch.distributed.get_rank(), torch.distributed.get_world_size()
        self.factor = 1.0
        """What the gradient of this share counts: its part of the batch's weight."""

    @property
    def digest(self) -> str:
        return self._data.digest

    def problem(self) -> str | None:
        return self._data.problem()

    def __len__(self) -> int:
        return len(self._data)

    def batch(self, rows: Integers) -> Batch:
        own = rows[self._rank :: self._processes]
        if len(own):
            batch = self._data.batch(own)
        else:  # every process must take part in every step: one row that counts nothing
            one = self._data.batch(rows[:1])
            nothing = torch.zeros_like(one.weights())
            batch = Batch(one.inputs, one.mask_BA, one.target_B, one.probabilities_BA, nothing)
        weight = batch.weights().sum().to(torch.float64)
        total = weight.clone()
        torch.distributed.all_reduce(total)
        self.factor = float(weight / total) if total > 0 else 0.0
        return batch


def _by_weight(share, bucket):  # type: ignore[no-untyped-def]  # PyTorch refuses annotations that are put off
    """The sum of all processes' gradients, each by its share of the batch's weight."""
    summed = torch.distributed.all_reduce(bucket.buffer().mul_(share.factor), async_op=True)
    return summed.get_future().then(lambda done: done.value()[0])


def _must_be_equal(data: Examples, config: TrainConfig) -> None:
    said: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(said, (data.digest, repr(config)))
    if any(one != said[0] for one in said):
        what = "data" if len({digest for digest, _ in said}) > 1 else "configuration"
        raise ConfigError(f"The processes do not have the same {what}, so their gradients say nothing together.")
