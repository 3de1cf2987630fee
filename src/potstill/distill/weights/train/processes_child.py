"""The other processes of a training (``python -m``, started by ``processes``): shares of gradients until told to end.

It keeps nothing: what a step needs comes with its order. It ends when the first process does, however that ends.
"""

from __future__ import annotations

import io
import os
import sys
import threading
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from potstill.distill.weights.policies.batch import Examples
from potstill.distill.weights.policies.pytorch import load_torch
from potstill.distill.weights.train.config import TrainConfig
from potstill.distill.weights.train.shares import (
    Disconnected,
    Order,
    dropout_seed,
    joined,
    summed_gradient,
    weights_of_first,
)

torch = load_torch()
READY = "ready"


def main(orders: Connection, rank: int, processes: int, meeting: Path) -> None:
    threading.Thread(target=_end_with_the_first, daemon=True).start()
    try:
        network, data, config = torch.load(io.BytesIO(orders.recv_bytes()), weights_only=False)  # our own parent's
        torch.set_num_threads(config.threads)
        orders.send(READY)
        with joined(rank, processes, meeting):
            _help(orders, network, data, config, rank)
        orders.send(time.process_time())
    except (EOFError, ConnectionError, Disconnected):
        return  # the first process has gone, or gives up: it says why


def _end_with_the_first() -> None:
    """Its end of the pipe is closed when it has gone, also where this process waits for it elsewhere."""
    os.read(sys.stdin.fileno(), 1)  # not by Python's reader, whose lock this thread would hold at the interpreter's end
    os._exit(0)


def _help(orders: Connection, network: Any, data: Examples, config: TrainConfig, rank: int) -> None:
    network.train()
    while (order := orders.recv()) is not None:
        order = Order(*order)
        torch.default_generator.manual_seed(dropout_seed(config.seed, order.standing.step, rank))
        weights_of_first(network)
        summed_gradient(network, data, order, config)


if __name__ == "__main__":
    main(Connection(int(sys.argv[1])), int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]))
