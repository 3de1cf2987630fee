"""What each process of a training does at a step: the gradient of its share of the batch, summed with the others'.

The group is PyTorch's (gloo, on this machine's loopback). It knows shares and sums. It does not know how processes are
started (``processes``), nor steps, optimizers or checkpoints (``loop``), which are the first process's alone.
"""

from __future__ import annotations

import contextlib
import datetime
import math
import os
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from potstill.distill.weights.policies.batch import Examples, Integers
from potstill.distill.weights.policies.pytorch import load_torch
from potstill.distill.weights.train.config import TrainConfig
from potstill.distill.weights.train.objectives import Standing, step_loss

torch = load_torch()
together = torch.distributed

FIRST = 0
PATIENCE_S = 600.0
"""How long a process waits for another that lives and does not answer."""


class Order(NamedTuple):
    """What the first process asks the others for: the gradient of these rows, with the weights that it sends next."""

    rows: Integers
    standing: Standing


class Disconnected(Exception):
    """Another process does not take part any more."""


@contextlib.contextmanager
def joined(rank: int, processes: int, meeting: Path) -> Iterator[None]:
    """This process as number ``rank`` of ``processes``, which find each other by the file ``meeting``."""
    before = os.environ.get(_INTERFACE)
    os.environ[_INTERFACE] = _loopback()  # else gloo listens where this machine's name leads, if it leads anywhere
    try:
        store = together.FileStore(str(meeting), processes)
        with _telling():
            patience = datetime.timedelta(seconds=PATIENCE_S)
            together.init_process_group("gloo", store=store, rank=rank, world_size=processes, timeout=patience)
    finally:
        os.environ.pop(_INTERFACE)
        if before is not None:
            os.environ[_INTERFACE] = before
    try:
        yield
    finally:
        together.destroy_process_group()


def weights_of_first(network: Any) -> None:
    """Give every process the parameters of the first one."""
    parameters = list(network.parameters())
    flat = torch.cat([value.detach().reshape(-1) for value in parameters])
    with _telling():
        together.broadcast(flat, src=FIRST)
    if together.get_rank() != FIRST:
        with torch.no_grad():
            for value, given in zip(parameters, flat.split([one.numel() for one in parameters]), strict=True):
                value.copy_(given.view_as(value))


def summed_gradient(network: Any, data: Examples, order: Order, config: TrainConfig) -> tuple[float, list[float]]:
    """The loss of the whole batch, and the mean norms of a mix after it; in the first process, parameters hold the
    whole gradient. All processes call it at once, with equal weights. Raises ``Disconnected``.

    The loss of a batch is a mean by weight, so shares count by the weight of their rows: the sum of
    ``weight * gradient`` over the sum of ``weight``. A process without a row, or with rows of weight 0, adds nothing.
    """
    rank, processes = together.get_rank(), together.get_world_size()
    own = order.rows[rank::processes]
    parameters = list(network.parameters())
    sizes = [value.numel() for value in parameters]
    flat = torch.zeros(sum(sizes) + len(sizes) + 2, dtype=parameters[0].dtype)
    *gradients, used, tail = flat.split([*sizes, len(sizes), 2])
    if len(own):
        batch = data.batch(own)
        weight = float(batch.weights().sum())
        loss, norms = step_loss(network, batch, config, order.standing, whole=lambda some: _whole(some, weight))
        loss.backward()
        for at, (gradient, value) in enumerate(zip(gradients, parameters, strict=True)):
            if value.grad is not None:
                torch.mul(value.grad.reshape(-1), weight, out=gradient)
                used[at] = 1
        tail[0], tail[1] = weight * float(loss.detach()), weight
    else:
        norms = _whole([0.0] * len(config.mix), 0.0) if config.mix and config.balanced else []
    with _telling():
        together.reduce(flat, dst=FIRST)
    if rank == FIRST and float(tail[1]) > 0:
        flat /= float(tail[1])
    for gradient, value, by in zip(gradients, parameters, used.tolist(), strict=True):
        # Without one where no process has any: the optimizer then leaves the parameter alone, as it does for one.
        value.grad = gradient.view_as(value) if rank == FIRST and by > 0 else None
    return float(tail[0]), norms


def dropout_seed(seed: int, step: int, rank: int) -> int:
    """Of what a process but the first drops at a step: each its own, and the same after any kill.

    >>> dropout_seed(0, 7, 1) == dropout_seed(0, 7, 1) != dropout_seed(0, 8, 1)
    True
    """
    return int(np.random.SeedSequence([seed, step, rank]).generate_state(1, np.uint64)[0])


def _whole(norms: Sequence[float], weight: float) -> list[float]:
    """Norms of the whole batch's gradient by the logits, from each share's.

    A logit's row is in one share, so squares add up; a row of a share counts by the share's part of all weight.
    """
    sums = torch.tensor([weight, *((weight * norm) ** 2 for norm in norms)], dtype=torch.float64)
    with _telling():
        together.all_reduce(sums)
    total, *squares = sums.tolist()
    return [math.sqrt(square) / total if total > 0 else 0.0 for square in squares]


# --- the group ------------------------------------------------------------------------------------------------------

_INTERFACE = "GLOO_SOCKET_IFNAME"


def _loopback() -> str:
    """The name of this machine's own interface: lo on Linux, lo0 on macOS."""
    return next((name for _, name in socket.if_nameindex() if name in ("lo", "lo0")), "lo")


@contextlib.contextmanager
def _telling() -> Iterator[None]:
    """What PyTorch raises where another process has gone, or waits too long, as one exception."""
    try:
        yield
    except RuntimeError as error:
        raise Disconnected(str(error)) from error
