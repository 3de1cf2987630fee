"""What a run does in which order, each step with its position: decided from settings and counts alone.

What it knows: epochs, windows, when validation is due. What it does not do: anything of it (``loop``). The same
settings and counts give the same positions, so the last position in the journal says where to go on.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import NamedTuple

from potstill.distill.playbook.learn.journal import Kind
from potstill.distill.playbook.learn.settings import Mode, Refinement, Settings


class Turn(NamedTuple):
    """One step of a run."""

    position: int
    kind: Kind
    epoch: int = 0
    items: tuple[int, ...] = ()
    """Which episodes, by their place in what the run was given."""
    number: int = 0
    """Of ``VALIDATE``: the how-manieth, from 0."""


def turns(settings: Settings, episodes: int, *, play: bool, validate: bool) -> Iterator[Turn]:
    """All steps. ``play``: episodes are played, not recorded ones; ``validate``: there are tasks to validate on."""
    position, validations = 0, 0

    def turn(kind: Kind, epoch: int = 0, items: tuple[int, ...] = (), number: int = 0) -> Turn:
        nonlocal position
        made = Turn(position, kind, epoch, items, number)
        position += 1
        return made

    yield turn(Kind.BEGIN)
    if validate:
        yield turn(Kind.VALIDATE)
    learnt = 0
    for epoch in range(settings.epochs):
        for window in _windows(settings, episodes, epoch):
            if play:
                yield turn(Kind.PLAY, epoch, window)
            for items in [window] if settings.mode is Mode.BATCH else [(one,) for one in window]:
                yield turn(Kind.LEARN, epoch, items)
                learnt += 1
                if settings.refinement is not Refinement.NEVER:
                    yield turn(Kind.REFINE, epoch)
                if validate and settings.validate_every and learnt % settings.validate_every == 0:
                    validations += 1
                    yield turn(Kind.VALIDATE, epoch, number=validations)
        if validate and not settings.validate_every:
            validations += 1
            yield turn(Kind.VALIDATE, epoch, number=validations)
    if validate and settings.validate_every and learnt % settings.validate_every:
        yield turn(Kind.VALIDATE, settings.epochs - 1, number=validations + 1)
    if validate and settings.keep_best:
        yield turn(Kind.KEEP, settings.epochs - 1)
    yield turn(Kind.END, settings.epochs - 1)


def _windows(settings: Settings, episodes: int, epoch: int) -> Iterator[tuple[int, ...]]:
    order = list(range(episodes))
    if settings.shuffle:
        random.Random(f"{settings.seed}/{epoch}").shuffle(order)
    for start in range(0, episodes, settings.at_once):
        yield tuple(order[start : start + settings.at_once])
