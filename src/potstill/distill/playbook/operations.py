"""What can be done to a playbook: the operations, and a batch of them with who says so and why.

What it knows: their fields and limits. What it does not do: apply them (``apply``), read what a model wrote
(``border``). Names of operations are the paper's where it has them (arXiv 2510.04618, section 3); ``UPDATE``,
``MERGE`` and the counters are applied here, which the paper's release parses and ignores.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from potstill.types import Struct


class Stage(StrEnum):
    """Who is shown a bullet: nobody, a share of the episodes, everybody."""

    SHADOW = "shadow"
    CANARY = "canary"
    LIVE = "live"


class Add(Struct, frozen=True, kw_only=True, tag="ADD"):
    """A new bullet. The store gives its id."""

    section: str
    content: str
    stage: Stage = Stage.SHADOW


class Update(Struct, frozen=True, kw_only=True, tag="UPDATE"):
    """Another content. ``revision``: the bullet's, as it was read; refused where it has another by now."""

    id: str
    content: str
    revision: int


class Tag(Struct, frozen=True, kw_only=True, tag="TAG"):
    """Counters grow. Commutes with everything."""

    id: str
    helpful: int = 0
    harmful: int = 0
    neutral: int = 0


class Merge(Struct, frozen=True, kw_only=True, tag="MERGE"):
    """``ids`` go into ``into``, which takes this content and the sum of their counters; they are removed and stay its
    lineage. ``revisions``: of ``into`` and then of each of ``ids``, as they were read."""

    into: str
    ids: tuple[str, ...]
    content: str
    revisions: tuple[int, ...]


class Remove(Struct, frozen=True, kw_only=True, tag="REMOVE"):
    """``revision`` here and in what follows: the bullet's, as it was when this was decided; refused where it has
    another by now. None: whatever it is."""

    id: str
    reason: str = ""
    revision: int | None = None


class Pin(Struct, frozen=True, kw_only=True, tag="PIN"):
    """A pinned bullet is never evicted for the budget's sake, nor retired for its utility."""

    id: str
    pinned: bool = True
    revision: int | None = None


class Quarantine(Struct, frozen=True, kw_only=True, tag="QUARANTINE"):
    """Shown to nobody until it is restored."""

    id: str
    reason: str = ""
    revision: int | None = None


class Restore(Struct, frozen=True, kw_only=True, tag="RESTORE"):
    """Out of quarantine, or back after a removal."""

    id: str
    revision: int | None = None


class SetStage(Struct, frozen=True, kw_only=True, tag="STAGE"):
    id: str
    stage: Stage
    revision: int | None = None


Operation = Add | Update | Tag | Merge | Remove | Pin | Quarantine | Restore | SetStage


class Batch(Struct, frozen=True, kw_only=True):
    """Operations that are applied together or not at all."""

    operations: tuple[Operation, ...]
    actor: str
    """``curator``, ``reflector``, ``admin``, ``import`` or a user's name: who is answerable for it."""
    sources: tuple[str, ...] = ()
    """Ids of the trajectories that this was learnt from."""
    key: str = ""
    """Idempotency: a batch whose key the book has seen changes nothing and returns what the first one did. Empty:
    none."""
    base: int | None = None
    """The book's revision that the author read; None: any. Kept for blame, it is not compared: bullets are."""
    reason: str = ""


class Bullet(Struct, frozen=True, kw_only=True):
    """One entry as it is now."""

    id: str
    number: int
    """The how-manieth of its book, from 1."""
    section: str
    content: str
    helpful: int = 0
    harmful: int = 0
    neutral: int = 0
    stage: Stage = Stage.SHADOW
    pinned: bool = False
    quarantined: bool = False
    removed: bool = False
    merged_into: str = ""
    """Where it was merged into another one; it is removed then."""
    lineage: tuple[str, ...] = ()
    """Ids that were merged into it, the newest last."""
    sources: tuple[str, ...] = ()
    """Trajectories that its content was learnt from, in the order in which they came."""
    revision: int = 1
    """Grows whenever anything but a counter changes."""
    added_in: int = 0
    """The book's revision with which it came."""
    changed_in: int = 0
    """The book's revision with which its content came."""

    @property
    def shown(self) -> bool:
        """Whether anybody may be shown it."""
        return not self.removed and not self.quarantined and self.stage is not Stage.SHADOW


class Applied(Struct, frozen=True, kw_only=True):
    """What became of a batch."""

    revision: int
    """The book's, from 1."""
    ids: tuple[str, ...] = ()
    """Of the bullets that its ``ADD``s made, in their order."""
    repeated: bool = False
    """The batch's key was known: this is what the first one did."""


MAX_CONTENT_CHARACTERS = 4000
MAX_SECTION_CHARACTERS = 80
MAX_OPERATIONS = 1000
"""Of one batch."""

encode_operations = msgspec.json.Encoder().encode
decode_operations = msgspec.json.Decoder(tuple[Operation, ...]).decode
