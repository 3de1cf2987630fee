"""One of the processes of a training: trains a small ranker and writes its weights."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from policy_examples import decisions

from potstill.distill.weights.policies.ranker import arrays_of
from potstill.distill.weights.train.config import TrainConfig
from potstill.distill.weights.train.loop import train
from potstill.distill.weights.train.processes import joined, train_together
from potstill.distill.weights.train.ranker import prepare
from potstill.distill.weights.train.recipe import RankerRecipe
from potstill.distill.weights.train.teaching import Prepared
from potstill.errors import ConfigError

TRAIN = TrainConfig(steps=24, batch=9, evaluate_every=8, patience=0, warmup=2, learning_rate=0.005)
RECIPE = RankerRecipe(width=8, dropout=0.0, train=TRAIN)


def prepared(seed: int = 0) -> Prepared:
    """91 decisions, so that an epoch's last batch has one row, which two processes cannot share; weights differ."""
    learn = [
        type(one)(**{name: getattr(one, name) for name in one.__struct_fields__} | {"weight": 0.5 + index % 3})
        for index, one in enumerate(decisions(91, seed))
    ]
    return prepare(learn, decisions(30, seed=1), RECIPE)


def alone() -> tuple[dict[str, np.ndarray], float | None]:
    ready = prepared()
    trained = train(ready.network, ready.data, RECIPE.train, held_out=ready.held_out)
    return arrays_of(ready.network), trained.best


def main(rank: int, processes: int, folder: Path) -> int:
    """Train together; then try with other data in each process, and keep what is said of that."""
    torch.set_num_threads(1)
    ready, other = prepared(), prepared(seed=rank)
    with joined(rank, processes, folder / "meeting"):
        train_together(ready.network, ready.data, RECIPE.train, held_out=ready.held_out)
        np.savez(folder / f"{rank}.npz", **arrays_of(ready.network))
        try:
            train_together(other.network, other.data, RECIPE.train)
        except ConfigError as error:
            (folder / f"{rank}.txt").write_text(str(error))
    return 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])))
