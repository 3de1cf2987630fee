"""What an episode was shown of a playbook, out of what each of its exchanges says.

What it knows: that what was shown once was not withheld from the episode, and that a student that was only asked beside
the teacher acted in nothing. What it does not do: folding (``fold``), reading what a student said.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from potstill.types import PlaybookUse


def joined(uses: Iterable[PlaybookUse | None]) -> PlaybookUse | None:
    """One use out of those of an episode's exchanges, in their order. A route that was given another book amid the
    episode goes on under the first one's name, with the first one's bullets: ids of two books are not compared."""
    whole: PlaybookUse | None = None
    for use in uses:
        if whole is None:
            whole = use
        elif use is not None and use.name == whole.name:
            whole = _with(whole, use)
    return whole


def _with(whole: PlaybookUse, more: PlaybookUse) -> PlaybookUse:
    shown = _each_once(whole.shown, more.shown)
    return msgspec.structs.replace(
        whole,
        shown=shown,
        withheld=tuple(id for id in _each_once(whole.withheld, more.withheld) if id not in shown),
        trial=whole.trial or more.trial,
        cited=_each_once(whole.cited, more.cited),
    )


def _each_once(before: tuple[str, ...], more: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*before, *more)))
