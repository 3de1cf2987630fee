"""A tiny model, chats of a real environment, and a training of them that can be killed in the middle."""

from __future__ import annotations

import hashlib
import os
import signal
import sys
from pathlib import Path
from typing import NamedTuple

import msgspec
import torch
from data_episodes import house_episodes

from potstill.distill.weights.data import build
from potstill.distill.weights.lm.chats import Chat, chats
from potstill.distill.weights.lm.recipe import LmRecipe, train_config
from potstill.distill.weights.lm.student import Prepared, prepare, teach
from potstill.distill.weights.train.loop import Keeping
from potstill.distill.weights.train.progress import Progress
from potstill.envs.registry import describe
from potstill.models.tuned_file import Voice
from tiny_lm import tiny_checkpoint

INSTRUCTIONS = describe("house-rules").instructions
TRAIN = msgspec.structs.replace(train_config(), steps=12, batch=4, evaluate_every=5, patience=0, learning_rate=2e-2)


class Made(NamedTuple):
    base: Path
    recipe: LmRecipe
    learn: list[Chat]
    held_out: list[Chat]

    def prepared(self) -> Prepared:
        return prepare(self.base, self.learn, self.held_out, self.recipe)


def made(base: Path, **fields: object) -> Made:
    """``base``: an empty folder, or the one of an earlier call."""
    recipe = LmRecipe(base=str(base), rank=4, train=TRAIN, voice=Voice(history_turns=0), **fields)  # type: ignore[arg-type]
    episodes = house_episodes(6)
    splits = build(episodes, fractions={"train": 0.6, "valid": 0.4}, equal="drop").splits
    learn, held_out = (chats(episodes, splits[name], recipe.agent, INSTRUCTIONS) for name in ("train", "valid"))
    if not (base / "config.json").exists():
        tiny_checkpoint(base)
    return Made(base, recipe, learn, held_out)


def run(base: Path, path: Path, kill_at: int, resume: bool) -> str:
    """SHA-256 of the trained adapters."""
    tiny = made(base)
    prepared = tiny.prepared()

    def watch(progress: Progress, total: int) -> None:
        if progress.step == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    trained = teach(prepared, tiny.recipe, keeping=Keeping(path, every_steps=4, resume=resume), watch=watch)
    hashed = hashlib.sha256(repr(trained).encode())
    for name, value in prepared.network.state_dict().items():
        hashed.update(name.encode() + value.detach().numpy().tobytes())
    return hashed.hexdigest()


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(run(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4] == "resume"))
