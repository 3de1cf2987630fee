"""Whether the models of a run answer at all: when one failed episode is skipped, and when the run has to end.

What it knows: consecutive failures by part. What it does not do: ask again (the models' clients do).
"""

from __future__ import annotations

from collections.abc import Sequence

from potstill.distill.playbook.learn.bill import Part
from potstill.errors import BadModelFile, EnvError, KeyRefused, ModelError

PATIENCE = 3
"""Failures of one part in a row, with nothing that went well beside them, after which nothing more is tried."""

_LASTING = (KeyRefused, BadModelFile)
"""Errors that no other episode would fare better with."""


class Health:
    """Over one sitting."""

    def __init__(self) -> None:
        self._lasting: Exception | None = None
        self._in_a_row: dict[Part, list[Exception]] = {}

    def saw(self, part: Part, errors: Sequence[ModelError | EnvError | None]) -> None:
        """How pieces of work that went on together ended; None: well. Where one of them ended well, the others have
        reasons of their own."""
        self._lasting = next((error for error in errors if isinstance(error, _LASTING)), self._lasting)
        failed = [error for error in errors if error is not None]
        before = self._in_a_row.get(part, [])
        self._in_a_row[part] = [*before, *failed] if len(failed) == len(errors) else []

    def check(self) -> None:
        """Raises the error for which the run must end, if there is one."""
        if self._lasting is not None:
            raise self._lasting
        for errors in self._in_a_row.values():
            if len(errors) >= PATIENCE:
                raise errors[-1]
