"""Who is shown what by lot: canaries for a share of tasks, and bullets that are left out to see what they are worth.

What it knows: how a lot is drawn from names, the same on every machine and every time it is asked. What it does not do:
show anything, compare outcomes (``credit`` does).

A few episodes are *trials*: in a trial each bullet that is not pinned is left out with probability one half, each for
itself. So a bullet's presence is compared with its absence one to one, among trials only, where nothing but the lot
decides. Leaving each bullet out of five in a hundred of all episodes would give as many comparisons, and would change
the text, and so break the cached prefix, of nearly every episode of a large book; trials change that of a tenth.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import NamedTuple

from potstill.protocols import ContextQuery

INSIDE = 0.5
"""Probability with which a trial leaves out each bullet that may be left out."""


class Lots(NamedTuple):
    """What was drawn for an episode."""

    trial: bool
    withheld: frozenset[str]


def draws(query: ContextQuery, id: str, share: float, seed: int) -> bool:
    """Whether this task is among the share that is shown this canary: the same for every episode of the task."""
    return _chance(str(seed), query.namespace, query.task.environment, query.task.id, id) < share


def draw(query: ContextQuery, ids: Iterable[str], *, share: float, seed: int = 0, inside: float = INSIDE) -> Lots:
    """Which of these bullets an episode is not shown. ``share``: of the episodes that are trials.

    Depends on the seed, the namespace, the task, ``query.episode`` and the bullet alone: not on the step, the other
    bullets or the order in which it is asked. Episodes of one task that have no name have one lot.
    """
    salt = ("hold-out", str(seed), query.namespace, query.task.environment, query.task.id, query.episode)
    if not _chance(*salt, "trial") < share:
        return Lots(False, frozenset())
    return Lots(True, frozenset(id for id in ids if _chance(*salt, "bullet", id) < inside))


def _chance(*words: str) -> float:
    """A number from 0 up to 1, 1 not among them, that looks drawn."""
    digest = hashlib.sha256("\0".join(words).encode("utf-8", "surrogatepass")).digest()
    return (int.from_bytes(digest[:8], "big") >> 11) / 2**53
