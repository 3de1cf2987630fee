"""What a policy costs where it acts: bytes, CPU time of a decision, memory. Measured, so never part of what it is."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Mapping, Sequence
from typing import Any

from potstill.distill.weights.gate import Side, edge_side
from potstill.edge import seal, tensors
from potstill.edge.policy import Policy, network
from potstill.edge.tensors import Array


def size_bytes(arrays: Mapping[str, Array], config: Mapping[str, Any]) -> int:
    """Of the file without its manifest: what a small machine has to hold."""
    return len(tensors.to_bytes(arrays, {seal.CONFIG: seal.canonical(dict(config))}))


def decision_ms(side: Side, questions: Sequence[Any]) -> float:
    """CPU milliseconds of one decision, the mean over the questions, asked one by one after a first round.

    Of this thread: give the side's runtime one thread.
    """
    for question in questions[:3]:
        side([question])
    started = time.thread_time()
    for question in questions:
        side([question])
    return 1e3 * (time.thread_time() - started) / len(questions)


def memory_bytes(arrays: Mapping[str, Array], config: Mapping[str, Any], question: Any) -> int:
    """The most that numpy's runtime holds while it opens the policy and decides once, its arrays with it."""
    written = memoryview(tensors.to_bytes(arrays, {seal.CONFIG: seal.canonical(dict(config))}))
    tracemalloc.start()
    try:
        # As from a disk: the bytes are read once, and the arrays are views of them.
        opened, _ = tensors.from_bytes(bytes(written))
        policy = Policy(network(opened, config), config, {}, opened, 1.0)
        edge_side(policy)([question])
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
