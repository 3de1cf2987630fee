"""potstill: run your agent on a cheap model, escalate to the expensive one only when needed, prove what it saved.

Importing the package loads nothing heavy: models, environments and reports load in the module that uses them, and so do
``wrap`` (record an official client's calls) and ``episode`` (say where an attempt begins and how it ended).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from potstill.record.episodes import episode as episode
    from potstill.record.wrap import wrap as wrap

__version__ = "0.1.0"
__all__ = ["__version__", "episode", "wrap"]


def __getattr__(name: str) -> Any:
    if name == "episode":
        from potstill.record.episodes import episode

        return episode
    if name == "wrap":
        from potstill.record.wrap import wrap

        return wrap
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
