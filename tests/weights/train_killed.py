"""Trains a small ranker with checkpoints at every step, and ends the process by SIGKILL in the middle if asked to."""

from __future__ import annotations

import hashlib
import os
import signal
import sys
from pathlib import Path

import torch
from policy_examples import decisions

from potstill.distill.weights.policies.ranker import arrays_of
from potstill.distill.weights.train.config import TrainConfig
from potstill.distill.weights.train.loop import Keeping
from potstill.distill.weights.train.progress import Progress
from potstill.distill.weights.train.ranker import prepare
from potstill.distill.weights.train.recipe import RankerRecipe
from potstill.distill.weights.train.teaching import teach

RECIPE = RankerRecipe(width=8, dropout=0.2, train=TrainConfig(steps=30, batch=16, evaluate_every=7, patience=0))


def run(path: Path, kill_at: int, resume: bool, recipe: RankerRecipe = RECIPE) -> str:
    """SHA-256 of the trained arrays."""
    prepared = prepare(decisions(100), decisions(30, seed=1), recipe)

    def watch(progress: Progress, total: int) -> None:
        if progress.step == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    trained = teach(prepared, recipe, keeping=Keeping(path, every_steps=4, resume=resume), watch=watch)
    hashed = hashlib.sha256(repr(trained).encode())
    for name, array in arrays_of(prepared.network).items():
        hashed.update(name.encode() + array.tobytes())
    return hashed.hexdigest()


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(run(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "resume"))
