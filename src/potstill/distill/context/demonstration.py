"""What retrieval gives: a window of one recorded trajectory, ready to be shown and to be referred to."""

from __future__ import annotations

from potstill.distill.context.render import ShownDemonstration
from potstill.types import DemonstrationRef, Struct


class Demonstration(Struct, frozen=True, kw_only=True):
    """A window of one trajectory. ``matched`` is the index in the episode of the step that was found."""

    ref: DemonstrationRef
    shown: ShownDemonstration
    matched: int = 0
    kind: str = ""
    task_id: str = ""
