"""A training with progress whose checkpoint is kept: what is said of one that is there, and when Ctrl-C comes.

What it knows: files and messages. What it does not do: train, or write checkpoints (``train.checkpoint``).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from potstill.cli.output import note, progress

if TYPE_CHECKING:
    from potstill.distill.weights.train.loop import Keeping


@contextlib.contextmanager
def checkpointed(
    path: Path, name: str, total: int, *, resume: bool, unit: str = "steps", begun: bool = False
) -> Iterator[tuple[Keeping, Any]]:
    """Where the training of ``total`` ``unit`` keeps its checkpoint, and its progress bar.

    ``begun``: this is a later part of what was begun, and earlier parts are kept. Ctrl-C aborts with a line that says
    how to go on. A checkpoint of an earlier training that this one has not replaced yet is no checkpoint of this one.
    """
    from potstill.distill.weights.train.loop import Keeping

    before = _written(path)
    if before and not resume:
        note(f"{path} is there and is replaced. To go on from it instead, stop and type --resume.")
    try:
        with progress(name, total, unit=unit) as bar:
            yield Keeping(path, resume=resume), bar
    except KeyboardInterrupt:
        if not resume and _written(path) == before:
            if begun:
                raise click.Abort from InterruptedError(
                    "the parts before this one are kept. To go on, type the same command with --resume"
                )
            raise click.Abort from InterruptedError(
                "no checkpoint was written yet. To begin anew, type the same command"
                + (f"; {path} is as it was" * bool(before))
            )
        raise click.Abort from InterruptedError(
            f"the checkpoint {path} is kept. To go on, type the same command with --resume"
        )


def _written(path: Path) -> int:
    """When, in nanoseconds; 0: there is none."""
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return 0
