"""How long a step takes by one process and by two that share it (``potstill distill weights --processes 2``).

    python bench/weights_processes.py [--blocks 9] [--steps 30]

A ranker of about 100 thousand parameters on orders of house-rules, in batches of several sizes. Blocks of steps by one
process and by two alternate, every other round backwards, while the second process waits; one thread each. Wall time
says something of two idle cores only (``load`` is what others did meanwhile, and where they crowd the machine two
processes get more of it than one). CPU time of the first process is what a step takes at least, with any load. A ratio
is the median of the rounds' ratios, its interval resamples rounds. Starting the second process is told apart.
"""

from __future__ import annotations

import argparse
import os
import time
from typing import Any

import numpy as np
import torch

import _results
from potstill.distill.weights.policies.ranker import new_ranker
from potstill.distill.weights.policies.texts import TextExamples
from potstill.distill.weights.train.config import TrainConfig
from potstill.distill.weights.train.loop import alone, train
from potstill.distill.weights.train.processes import started
from weights_throughput import ranker_data, ratio

BATCHES = (64, 256, 1024)
COUNTS = (1, 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--blocks", type=int, default=9, help="of each, alternating")
    parser.add_argument("--steps", type=int, default=30, help="of a block")
    options = parser.parse_args()
    torch.set_num_threads(1)
    shape, data = ranker_data()
    rows = [row for batch in BATCHES for row in measured(shape, data, batch, options)]
    extra = {
        **{
            "decisions": len(data),
            "torch": torch.__version__,
            "cpu": "of the first process",
            "load": os.getloadavg()[1],
        },
        "written_at": time.strftime("%Y-%m-%d", time.gmtime()),
    }
    _results.write("weights_processes", rows, n=options.blocks, extra=extra)


def measured(shape: Any, data: TextExamples, batch: int, options: argparse.Namespace) -> list[dict[str, Any]]:
    steps = options.steps
    configs = {
        count: TrainConfig(steps=steps, evaluate_every=steps + 1, patience=0, batch=batch, processes=count)
        for count in COUNTS
    }
    wall: dict[int, list[float]] = {count: [] for count in COUNTS}
    cpu: dict[int, list[float]] = {count: [] for count in COUNTS}
    begun = time.perf_counter()
    with started(new_ranker(shape, seed=0), data, configs[2]) as together:
        start_s = time.perf_counter() - begun
        for number in range(options.blocks + 1):
            for count in COUNTS if number % 2 else COUNTS[::-1]:
                network = new_ranker(shape, seed=0)
                begun, cpu_begun = time.perf_counter(), time.process_time()
                train(network, data, configs[count], gradients=alone if count == 1 else together)
                if number:
                    wall[count].append(time.perf_counter() - begun)
                    cpu[count].append(time.process_time() - cpu_begun)
    rows = [
        {
            "batch": batch,
            "processes": count,
            "cpu_ms_a_step": 1e3 * float(np.median(cpu[count])) / steps,
            "wall_ms_a_step": 1e3 * float(np.median(wall[count])) / steps,
            **ratio(cpu[count], cpu[1]),
            **{f"wall_{name}": value for name, value in ratio(wall[count], wall[1]).items()},
            "start_s": start_s if count > 1 else None,
        }
        for count in COUNTS
    ]
    print(*rows, sep="\n", flush=True)
    return rows


if __name__ == "__main__":
    main()
