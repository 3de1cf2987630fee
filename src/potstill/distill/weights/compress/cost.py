"""What a policy costs where it acts: bytes, time of a decision, memory. Measured, so never part of what it is."""

from __future__ import annotations

import statistics
import time
import tracemalloc
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from potstill.distill.weights.gate import Side, edge_side
from potstill.edge import seal, tensors
from potstill.edge.policy import Policy, network
from potstill.edge.tensors import Array
from potstill.types import Struct


class Cost(Struct, frozen=True, kw_only=True):
    """What decisions took, one after another. Measured, so never part of what is written."""

    decisions: int
    latency_ms: float
    """The median."""
    cpu_ms: float
    """The mean: of a language model this process's, of a policy this thread's."""
    memory_bytes: int | None
    """Of a policy in numpy: ``memory_bytes``. Of others: how much this process grew by while the student was opened and
    asked once; None where the system says nothing."""


def size_bytes(arrays: Mapping[str, Array], config: Mapping[str, Any]) -> int:
    """Of the file without its manifest: what a small machine has to hold."""
    return len(tensors.to_bytes(arrays, {seal.CONFIG: seal.canonical(dict(config))}))


def decision_ms(side: Side, questions: Sequence[Any]) -> float:
    """CPU milliseconds of one decision, as of ``cost``."""
    return cost(side, questions, None).cpu_ms


def cost(side: Side, questions: Sequence[Any], memory: int | None) -> Cost:
    """Of decisions over the questions, asked one by one after a first round; ``memory``: bytes, as they were measured.

    CPU time is that of this thread: give the side's runtime one thread.
    """
    for question in questions[:3]:
        side([question])
    latencies_s, cpu_s = [], time.thread_time()
    for question in questions:
        started = time.perf_counter()
        side([question])
        latencies_s.append(time.perf_counter() - started)
    return Cost(
        decisions=len(questions),
        latency_ms=1e3 * statistics.median(latencies_s),
        cpu_ms=1e3 * (time.thread_time() - cpu_s) / len(questions),
        memory_bytes=memory,
    )


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


def resident_bytes() -> int | None:
    """Memory of this process that is in use now (Linux); None elsewhere."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return None
    import resource

    return pages * resource.getpagesize()
