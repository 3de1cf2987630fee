"""One training in several processes on this machine (data parallel, gloo): equal batches give the weights of one.

The first process trains as a single one would: it alone has the loop, the optimizer, the looks at held-out tasks and
the checkpoint. At each step it sends its weights, and every process, itself included, computes the gradient of its
share of the batch. So a checkpoint is that of one process, and whatever ends the first ends all.

It knows how processes are started, fed and ended; ``shares`` is what they compute. Dropout draws a pattern of its own
for each share, so with it the weights are not those of one process.
"""

from __future__ import annotations

import contextlib
import io
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

from potstill.distill.weights.policies.batch import Examples, Integers
from potstill.distill.weights.policies.pytorch import load_torch
from potstill.distill.weights.train.config import TrainConfig
from potstill.distill.weights.train.objectives import Standing
from potstill.distill.weights.train.shares import (
    FIRST,
    PATIENCE_S,
    Disconnected,
    Order,
    joined,
    summed_gradient,
    weights_of_first,
)
from potstill.errors import ConfigError, PotstillError

torch = load_torch()

END_S = 10.0
"""How long a process may take to end once it has failed, or to say what it took."""


class ProcessLost(PotstillError):
    """One of the processes of a training ended before the training did."""


class Helper(NamedTuple):
    """Another process of the training, as the first one sees it."""

    rank: int
    process: subprocess.Popen[bytes]
    orders: Connection
    said: Path
    """What it writes on stderr."""


class Together:
    """The gradients of a training by several processes. Satisfies ``loop.Gradients``; made by ``started``."""

    def __init__(self, helpers: list[Helper]) -> None:
        self._helpers = helpers
        self.cpu_s = 0.0
        """What the other processes took, known once they have ended."""

    def __call__(
        self, network: Any, data: Examples, rows: Integers, config: TrainConfig, standing: Standing
    ) -> tuple[float, list[float]]:
        """A step's loss and mean norms; the gradient is in the parameters. Raises ``ProcessLost``."""
        order = Order(rows, standing)
        try:
            for helper in self._helpers:
                helper.orders.send(order)
            weights_of_first(network)
            return summed_gradient(network, data, order, config)
        except (Disconnected, ConnectionError):
            raise self._lost(f"at step {standing.step + 1}") from None

    def meet(self) -> None:
        """Wait until all have read their data. Raises ``ProcessLost``."""
        for helper in self._helpers:
            try:
                if not helper.orders.poll(PATIENCE_S):
                    raise self._lost("before the first step")
                helper.orders.recv()
            except (EOFError, ConnectionError):
                raise self._lost("before the first step") from None

    @contextlib.contextmanager
    def joined(self, meeting: Path) -> Iterator[None]:
        """In one group as long as it lasts; then all are told to end. Raises ``ProcessLost``."""
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(joined(FIRST, len(self._helpers) + 1, meeting))
            except Disconnected:
                raise self._lost("before the first step") from None
            try:
                yield
            finally:
                for helper in self._helpers:
                    with contextlib.suppress(OSError):
                        helper.orders.send(None)

    def settle(self) -> None:
        """Note what the others took, after the last step."""
        for helper in self._helpers:
            with contextlib.suppress(OSError, EOFError):
                if helper.orders.poll(END_S):
                    self.cpu_s += helper.orders.recv()

    def _lost(self, when: str) -> ProcessLost:
        what = (
            _ending(self._helpers) or f"One of the {len(self._helpers) + 1} processes of this training did not answer"
        )
        return ProcessLost(
            f"{what} {when}, so the training ended. The last checkpoint, where there is one, is kept: to go on, type "
            "the same command with --resume."
        )


@contextlib.contextmanager
def started(network: Any, data: Examples, config: TrainConfig) -> Iterator[Together]:
    """The ``config.processes`` processes of a training, this one being the first; the others end with the block.

    ``network`` and ``data`` are what is trained, and are sent to the others once. Ctrl-C reaches this process alone.
    Raises ``ConfigError`` where PyTorch cannot, ``ProcessLost`` where one does not start.
    """
    if not (torch.distributed.is_available() and torch.distributed.is_gloo_available()):
        raise ConfigError("This PyTorch was built without gloo, so it trains in one process only: --processes 1")
    if torch.distributed.is_initialized():
        raise ConfigError("This process belongs to a group of PyTorch's already. Leave that group, or train in one.")
    with tempfile.TemporaryDirectory(prefix="potstill-") as folder, contextlib.ExitStack() as stack:
        meeting, sent = Path(folder) / "meeting", _packed(network, data, config)
        helpers = [stack.enter_context(_helper(rank, config.processes, meeting)) for rank in range(1, config.processes)]
        group = Together(helpers)
        for helper in helpers:
            with contextlib.suppress(OSError):  # one that is gone is found, with what it said, when they meet
                helper.orders.send_bytes(sent)
        del sent  # all of the data, a second time
        group.meet()
        with group.joined(meeting):
            yield group
        group.settle()


@contextlib.contextmanager
def _helper(rank: int, processes: int, meeting: Path) -> Iterator[Helper]:
    ours, theirs = Pipe()
    said = meeting.with_name(f"{rank}.txt")
    with said.open("wb") as stderr, ours, theirs:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", _CHILD, str(theirs.fileno()), str(rank), str(processes), str(meeting)],
            stdin=subprocess.PIPE,  # its end tells the process that this one has gone, however that went
            stdout=subprocess.DEVNULL,
            stderr=stderr,
            pass_fds=(theirs.fileno(),),
            start_new_session=True,  # Ctrl-C at the terminal is the first process's business alone
            env={**os.environ, "PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path))},
        )
        theirs.close()
        with process:
            try:
                yield Helper(rank, process, ours, said)
            finally:
                process.kill()  # it keeps nothing


_CHILD = "potstill.distill.weights.train.processes_child"


def _packed(*parts: Any) -> bytes:
    """As PyTorch writes them: a pipe's own way would share tensors by file descriptors."""
    buffer = io.BytesIO()
    torch.save(parts, buffer)
    return buffer.getvalue()


def _ending(helpers: Sequence[Helper]) -> str | None:
    """Which process ended by itself and how, for a person; None where none does soon. One that ended because another
    did has the exit code 0."""
    deadline = time.monotonic() + END_S
    while not (failed := [one for one in helpers if one.process.poll()]):
        if time.monotonic() > deadline:
            return None
        time.sleep(0.02)
    name, code = f"Process {failed[0].rank + 1}", failed[0].process.returncode
    if code < 0:
        return f"{name} was killed by {signal.Signals(-code).name}"
    words = [line for line in failed[0].said.read_text(errors="replace").splitlines() if line.strip()]
    last = "".join(words[-1:]).removeprefix(f"[rank{failed[0].rank}]: ")  # PyTorch's, before every line
    return f"{name} failed ({last[:300] or f'exit code {code}'})"
