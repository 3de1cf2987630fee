"""Which live bullets a Curator staged back, read from a book's log: they are credit's to judge, not its own any more.

What it knows: stages, batch by batch, and who set them. What it does not do: read the store (``desk``), judge.
"""

from __future__ import annotations

from collections.abc import Iterable

from potstill.distill.playbook.apply import Entry, Erased, steps
from potstill.distill.playbook.operations import Add, SetStage, Stage

ACTOR = "curator"
"""Who is answerable for what learning writes, as the log has it."""


class Doubts:
    """Of one book. A bullet is out of doubt once anybody else stages it, or it is live again."""

    def __init__(self) -> None:
        self.doubted: set[str] = set()
        self.revision = 0
        """Up to which the log was read."""
        self._stages: dict[str, Stage] = {}

    def read(self, entries: Iterable[Entry]) -> None:
        for entry in entries:
            self.revision = entry.revision
            given = iter(entry.ids)
            for step in steps(entry):
                if isinstance(step, Add) or (isinstance(step, Erased) and step.kind == "ADD"):
                    self._stages[next(given)] = step.stage
                elif isinstance(step, SetStage):
                    self._staged(step, entry.batch.actor)

    def _staged(self, step: SetStage, actor: str) -> None:
        before = self._stages.get(step.id)
        self._stages[step.id] = step.stage
        if step.stage is Stage.LIVE or actor != ACTOR:
            self.doubted.discard(step.id)
        elif before is Stage.LIVE:
            self.doubted.add(step.id)
