"""What a learning run is given beside its settings: who plays, who reflects and curates, what episodes there are.

What it knows: shapes. What it does not do: play (the layers above hand a Generator in), price (a function comes in).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Protocol

from potstill.distill.playbook.roles.contract import Case, Curator, Reflector
from potstill.distill.playbook.roles.evidence import case_of
from potstill.distill.playbook.said import Reflection
from potstill.distill.playbook.twins import Kept
from potstill.protocols import Embedder
from potstill.types import Call, Struct, Task, Trajectory


class Generator(Protocol):
    """Plays a task with the playbook in context; the acting agent of arXiv 2510.04618.

    Contract: it reads the book itself when the episode begins, and shows ``reflection``, where there is one, beside it.
    An episode that broke is returned with its ``error``; ``ModelError`` or ``EnvError`` is raised where there is
    nothing worth a record. It may be called several times at once (``Settings.parallel``).

    The trajectory is of the book's namespace and has the id ``episode_id(tag)``, so that a run that was interrupted
    behind it finds it again and does not play, or pay, twice. The loop appends it to the store (which does nothing
    where the Generator did). Where it is cancelled, it tells (``roles.asking.tell``) the calls that were answered for
    an episode that there will be no record of.
    """

    async def play(self, task: Task, seed: int, *, reflection: Reflection | None, tag: str) -> Trajectory: ...


def episode_id(tag: str) -> str:
    """The id of the episode that a tag stands for.

    >>> episode_id("default/support/run-1/play/0/0")
    'learn-7c770295f96b6e1c82a5'
    """
    return f"learn-{hashlib.sha256(tag.encode(errors='surrogatepass')).hexdigest()[:20]}"


class Tasks(Struct, frozen=True, kw_only=True):
    """Episodes that are played while learning."""

    generator: Generator
    tasks: Sequence[Task]
    validation: Sequence[Task] = ()
    """Of other tasks than those; not learnt from."""


class Recorded(Struct, frozen=True, kw_only=True):
    """Episodes that are in the store, by id, in the order in which they are learnt from; no Generator."""

    ids: Sequence[str]


Episodes = Tasks | Recorded
Price = Callable[[Call], float | None]
"""Dollars of a call; None: not known."""


def free_of_charge(call: Call) -> float | None:
    return 0.0


class Roles(Struct, frozen=True, kw_only=True):
    """Who reflects and who curates, and how an episode becomes a case."""

    reflector: Reflector
    curator: Curator
    case: Callable[[Trajectory], Case] = case_of
    price: Price = free_of_charge
    embedder: Embedder | None = None
    """For the near-duplicate gate; letters alone without."""
    kept: Kept = frozenset()
    """Pairs of texts that somebody decided to keep both of (``twins.keep_both``)."""
