"""What a Curator may do to bullets that everybody is shown: its opinion stages one back, and destroys none.

What it knows: similarities, shares, what was measured to help. What it does not do: say which operations a Curator has
(``policy``), judge by outcomes (``credit``, which retires), bind people: what they type is not asked about here.

*Live bullets*, in one batch of learning. ``REMOVE`` is a doubt: the bullet goes back to canary, and credit decides
there; until then no Curator may name it again (``Desk.nameable``), so two doubts do not make a removal. ``UPDATE`` and
``MERGE`` take the place of texts that they are like: of near-duplicates freely, of what is only ``ALIKE`` for a few
bullets an episode. An ``UPDATE`` that is not like its bullet becomes an ``ADD`` beside it; such a ``MERGE`` is refused,
and the Curator is told. What is in canary or shadow is changed freely.

*What begins as canary* may not reach everybody by way of a live bullet either: a live bullet that it rewrites or merges
becomes a canary, with its new text.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

import msgspec

from potstill.distill.playbook.apply import named
from potstill.distill.playbook.learn.policy import NotTaken, Why
from potstill.distill.playbook.operations import Add, Bullet, Merge, Operation, Remove, SetStage, Stage, Tag, Update
from potstill.distill.playbook.twins import BookIndex, Gate, Kept, Thresholds
from potstill.protocols import Embedder

SHARE = 0.1
"""Of the live bullets that are not pinned: as many may one batch stage back, and one in a book that is shorter."""
REWRITTEN = 3
"""Live bullets that one episode may give another text that is like theirs and no near-duplicate of it: as a rule that
becomes more general, or a lesson that is corrected. ``SHARE`` of them where that is more."""
ALIKE = 0.5
"""The lexical similarity (``similar``) from which on a text is taken for the same lesson, corrected. Below the gate's
threshold, from which on two texts say the same. With an embedder 0.8 of meaning is enough."""
_ALIKE_MEANING = 0.8


class Alike:
    """Whether a text may take a bullet's place: by the gate of the near-duplicates, or more loosely."""

    def __init__(self, gate: Gate, embedder: Embedder | None = None, kept: Kept = frozenset()) -> None:
        self._gate = gate
        self._embedder = embedder
        self._kept = kept

    def near(self, bullet: Bullet, content: str) -> bool:
        """They are near-duplicates."""
        return self._twins(bullet, content, self._gate)

    def loosely(self, bullet: Bullet, content: str) -> bool:
        """They may be one lesson, corrected."""
        there = self._gate.of(bullet.section)
        looser = Thresholds(lexical=min(ALIKE, there.lexical), semantic=min(_ALIKE_MEANING, there.semantic))
        return self._twins(bullet, content, Gate(thresholds=looser, careful=False))

    def _twins(self, bullet: Bullet, content: str, gate: Gate) -> bool:
        index = BookIndex((bullet,), embedder=self._embedder)
        (vector,) = index.embed([content])
        return index.twin(bullet.section, content, gate, kept=self._kept, vector=vector) is not None

    def against(self, merge: Merge, bullets: Mapping[str, Bullet]) -> str:
        """In words, why live bullets may not be merged into this text; empty: they may."""
        ids = [id for id in named(merge) if bullets[id].stage is Stage.LIVE]
        unlike = [id for id in ids if not self.loosely(bullets[id], merge.content)]
        if not unlike:
            return ""
        return (
            f"MERGE of {', '.join(named(merge)[:5])} was not taken: {', '.join(unlike[:5])} would lose what it says. "
            "Bullets that agents are shown are merged only where each is like the new text. Leave them as they are, or "
            "ADD what is new."
        )


class Done(NamedTuple):
    """What is written of permitted operations."""

    operations: tuple[Operation, ...]
    not_taken: tuple[NotTaken, ...] = ()
    said: str = ""
    """For the log: which bullets are doubted, and beside which ones their other text stands."""


def careful(
    operations: Iterable[tuple[Operation, Stage]],
    bullets: Mapping[str, Bullet],
    alike: Alike,
    helping: Callable[[], Collection[str]] = frozenset,
    *,
    episodes: int = 1,
) -> Done:
    """Each operation with the stage in which its lesson's bullets begin. At most twice as many come out.

    ``helping``: ids of bullets that trials proved to help; it is asked only where one is doubted. ``episodes``: that
    the batch was learnt from.
    """
    hand = _Hand(bullets, alike, helping, episodes)
    made = [one for operation, stage in hand.corrections(list(operations)) for one in hand.take(operation, stage)]
    return Done(tuple(made), tuple(hand.not_taken), hand.said())


class _Hand:
    """What one batch has left."""

    def __init__(
        self, bullets: Mapping[str, Bullet], alike: Alike, helping: Callable[[], Collection[str]], episodes: int
    ) -> None:
        self._bullets = bullets
        self._alike = alike
        self._helping = helping
        live = sum(one.stage is Stage.LIVE and one.shown and not one.pinned for one in bullets.values())
        self._back = max(1, int(SHARE * live))
        self._rewritten = max(REWRITTEN * episodes, int(SHARE * live))
        self._share = (
            f"of {live} live bullets a Curator's batch stages back {self._back} at most, and rewrites {self._rewritten}"
        )
        self._doubted: list[str] = []
        self._beside: list[str] = []
        self.not_taken: list[NotTaken] = []

    def corrections(self, operations: Sequence[tuple[Operation, Stage]]) -> list[tuple[Operation, Stage]]:
        """A ``REMOVE`` beside an ``ADD`` that is like it is an ``UPDATE``: else the gate might take the lesson for a
        repetition of the bullet that is doubted, and both would be shown."""
        left = list(operations)
        for place, (removal, _) in enumerate(operations):
            if not isinstance(removal, Remove) or not self._live(removal):
                continue
            bullet = self._bullets[removal.id]
            adds = [one for one in left if isinstance(one[0], Add) and self._alike.loosely(bullet, one[0].content)]
            if adds:
                left.remove(adds[0])
                update = Update(id=bullet.id, content=getattr(adds[0][0], "content", ""), revision=bullet.revision)
                left[left.index(operations[place])] = update, adds[0][1]
        return left

    def take(self, operation: Operation, stage: Stage) -> Sequence[Operation]:
        if not self._live(operation):
            return [operation]
        if isinstance(operation, Remove):
            return self._doubt(operation)
        if isinstance(operation, Update):
            return self._rewrite(operation, stage)
        return self._merge(operation, stage) if isinstance(operation, Merge) else [operation]

    def said(self) -> str:
        doubted = f"staged back and not removed: {', '.join(self._doubted[:8])}" if self._doubted else ""
        beside = f"beside these, not in their place: {', '.join(self._beside[:8])}" if self._beside else ""
        return f"[{'; '.join(filter(None, (doubted, beside)))}]" if doubted or beside else ""

    def _live(self, operation: Operation) -> list[str]:
        if isinstance(operation, Tag | Add):
            return []
        ids = named(operation)
        return [id for id in ids if id in self._bullets and self._bullets[id].stage is Stage.LIVE]

    def _doubt(self, remove: Remove) -> Sequence[Operation]:
        if remove.id in self._helping():
            self._leave(remove, Why.HELPS, f"trials showed that {remove.id} helps; opinion does not stage it back.")
            return []
        if not self._back:
            self._leave(remove, Why.SHARE, f"{self._share}.")
            return []
        self._back -= 1
        self._doubted.append(remove.id)
        return [SetStage(id=remove.id, stage=Stage.CANARY, revision=remove.revision)]

    def _rewrite(self, update: Update, stage: Stage) -> Sequence[Operation]:
        bullet = self._bullets[update.id]
        near = self._alike.near(bullet, update.content)
        if near or self._alike.loosely(bullet, update.content):
            if stage is Stage.LIVE and self._may_rewrite([] if near else [update.id]):
                return [update]
            if stage is Stage.CANARY and self._back:
                self._back -= 1
                return [update, SetStage(id=update.id, stage=stage)]
        if near:
            self._leave(update, Why.SHARE, f"{self._share}.")
            return []
        self._beside.append(update.id)
        return [Add(section=bullet.section, content=update.content, stage=stage)]

    def _merge(self, merge: Merge, stage: Stage) -> Sequence[Operation]:
        """The survivor is a live one, so that what is live stays so."""
        live = self._live(merge)
        into = next((id for id in live if self._bullets[id].content == merge.content), "")
        unchanged = bool(into)
        into = into or (merge.into if merge.into in live else live[0])
        read = dict(zip(named(merge), merge.revisions, strict=True))
        ids = tuple(id for id in read if id != into)
        made = msgspec.structs.replace(merge, into=into, ids=ids, revisions=(read[into], *(read[id] for id in ids)))
        far = [id for id in live if not self._alike.near(self._bullets[id], merge.content)]
        back = stage is Stage.CANARY and not unchanged
        if (back and not self._back) or not self._may_rewrite(far):
            self._leave(merge, Why.SHARE, f"{self._share}.")
            return []
        self._back -= back
        return [made, SetStage(id=into, stage=stage)] if back else [made]

    def _may_rewrite(self, ids: Sequence[str]) -> bool:
        """Whether there is room to give these another text, which is taken then."""
        if len(ids) > self._rewritten:
            return False
        self._rewritten -= len(ids)
        return True

    def _leave(self, operation: Operation, why: Why, reason: str) -> None:
        ids = ", ".join(named(operation)[:3])
        self.not_taken.append(NotTaken(why, f"{type(operation).__name__.upper()} of {ids}: {reason}", operation))
