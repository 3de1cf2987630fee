"""A process that learns until it is done, killed or interrupted: ``python learning_child.py STORE MODE``.

A line for each step that is done, and the book's hash at the end.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from learning_world import Agent, recorded, roles, tasks

from potstill.distill.playbook.book import Playbook
from potstill.distill.playbook.learn.contract import Episodes, Tasks
from potstill.distill.playbook.learn.loop import learn
from potstill.distill.playbook.learn.result import Result
from potstill.distill.playbook.learn.settings import Mode, Refinement, Settings
from potstill.distill.playbook.operations import Stage
from potstill.trajectories.opening import open_store

MODES = {
    "offline": Settings(epochs=2, validate_every=12, refinement=Refinement.PROACTIVE, replay=True),
    "online": Settings(mode=Mode.ONLINE, window=7, execution_stage=Stage.LIVE),
    "sample": Settings(mode=Mode.SAMPLE, execution_stage=Stage.LIVE, refinement=Refinement.LAZY),
    "batch": Settings(mode=Mode.BATCH, batch=9, execution_stage=Stage.LIVE),
    "recorded": Settings(mode=Mode.BATCH, batch=4),
}


def episodes_of(book: Playbook, mode: str) -> Episodes:
    if mode == "recorded":
        return recorded(book, 16)
    validation = tasks(4, start=100) if mode == "offline" else ()
    return Tasks(generator=Agent(book), tasks=tasks(16), validation=validation)


async def run(book: Playbook, mode: str, progress=lambda told: None) -> Result:
    return await learn(book, episodes_of(book, mode), roles(), MODES[mode], run="r", progress=progress)


if __name__ == "__main__":
    path, mode = sys.argv[1:]
    with open_store(path) as store:
        book = Playbook(store, "default", "book")
        try:
            asyncio.run(run(book, mode, lambda told: os.write(1, f"{told.kind} {told.done}\n".encode()) and None))
        except KeyboardInterrupt:
            os.write(1, b"interrupted\n")
            sys.exit(130)
        os.write(1, f"hash {book.state_hash()}\n".encode())
