"""Searches over recipes of a small ranker, and ends the process by SIGKILL in the middle of a trial if asked to."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sized
from pathlib import Path

import torch
from policy_examples import decisions

from potstill.distill.weights.search.searching import Found, search
from potstill.distill.weights.search.trying import Data
from potstill.distill.weights.train.config import TrainConfig
from potstill.distill.weights.train.recipe import RankerRecipe

BASE = RankerRecipe(width=8, train=TrainConfig(steps=18, batch=16, warmup=2))
TRIALS = 5


def run(
    path: Path, *, kill_in: int = -1, resume: bool = False, trials: int = TRIALS, base: RankerRecipe = BASE
) -> Found:
    """``kill_in``: the trial in which this process ends, after its second step."""
    ended = 0

    def step(now: int, steps: int) -> None:
        if ended == kill_in and now == 2:
            os.kill(os.getpid(), signal.SIGKILL)

    def count(done: Sized) -> None:
        nonlocal ended
        ended = len(done)

    data = Data(decisions(120), decisions(40, seed=1))
    return search(base, data, count=trials, path=path, resume=resume, step=step, ended=count)


if __name__ == "__main__":
    torch.set_num_threads(1)
    run(Path(sys.argv[1]), kill_in=int(sys.argv[2]))
