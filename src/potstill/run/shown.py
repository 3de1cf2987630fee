"""What an episode was shown of a playbook, put together over its steps.

What it knows: that what was shown once was not withheld, and whose words cite. What it does not do: draw lots, read ids
out of words (the context knows how they stand there).
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from potstill.protocols import BulletReader, Context, ContextBlock
from potstill.types import Answerer, Call, PlaybookUse


class ShownBullets:
    """One episode's. ``use`` None: it was given no playbook."""

    def __init__(self) -> None:
        self.use: PlaybookUse | None = None

    def show(self, *blocks: ContextBlock) -> None:
        for block in blocks:
            if block.playbook:
                self.use = _with(self.use or PlaybookUse(name=block.playbook, revision=block.revision), block)

    def hear(self, calls: Iterable[Call], context: Context | None) -> None:
        """Note which of the bullets the student names in its own words."""
        if self.use is None or not isinstance(context, BulletReader):
            return
        replies = (reply for call in calls if call.answerer is Answerer.STUDENT for reply in call.replies)
        said = "\n".join(part for reply in replies for part in (reply.reasoning, reply.text) if part)
        cited = (*self.use.cited, *context.cited(said, self.use.shown))
        self.use = msgspec.structs.replace(self.use, cited=tuple(dict.fromkeys(cited)))


def _with(use: PlaybookUse, block: ContextBlock) -> PlaybookUse:
    shown = tuple(dict.fromkeys((*use.shown, *block.bullets)))
    withheld = tuple(id for id in dict.fromkeys((*use.withheld, *block.withheld)) if id not in shown)
    return msgspec.structs.replace(use, shown=shown, withheld=withheld, trial=use.trial or block.trial)
