"""The book as a learning run has it before it: its bullets, their index for near-duplicates, and the pen.

What it knows: what was read last, and how to read only what came since. What it does not do: ask anybody. Its methods
block (run them in a thread), one at a time.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

import msgspec

from potstill.distill.playbook import gate as gates
from potstill.distill.playbook.apply import named, touched
from potstill.distill.playbook.book import Playbook
from potstill.distill.playbook.credit.utility import effects_of
from potstill.distill.playbook.learn.doubts import ACTOR, Doubts
from potstill.distill.playbook.learn.live import Alike
from potstill.distill.playbook.learn.settings import Refinement, Settings
from potstill.distill.playbook.operations import Add, Batch, Bullet, Merge, Operation, SetStage, Stage, Tag, Update
from potstill.distill.playbook.page import everybody_sees
from potstill.distill.playbook.render import entry, in_order, render
from potstill.distill.playbook.twins import BookIndex, How, Kept
from potstill.protocols import Embedder
from potstill.retrieval.tokens import EstimatedTokens

_MOST_TWINS = 20
"""Of one bullet, that are merged at once."""


class Gated(NamedTuple):
    """A batch as the near-duplicate gate lets it through."""

    batch: Batch
    repeats: int
    """``ADD``s that the book or the batch says already."""
    due: bool
    """It may leave near-duplicates that should be merged after it: what is let in although something is like it, and
    what is rewritten."""


class Desk:
    """One run's. ``look`` before anything else, and again whenever others may have written."""

    def __init__(
        self, book: Playbook, settings: Settings, embedder: Embedder | None = None, kept: Kept = frozenset()
    ) -> None:
        self.book = book
        self._settings = settings
        self._embedder = embedder
        self._kept = kept
        self._erasures = -1
        self.revision = 0
        self.bullets: dict[str, Bullet] = {}
        self._past = Doubts()
        self.alike = Alike(settings.gate, embedder, kept)
        self._index = BookIndex(embedder=embedder)

    def look(self) -> None:
        """Read what was written since; everything anew where something was erased."""
        since = self.book.since(self.revision)
        if since.erasures != self._erasures:
            since = self.book.since(0)
            self._erasures, self.bullets, self._past = since.erasures, {}, Doubts()
            self._index = BookIndex(embedder=self._embedder)
        self.revision = since.revision
        self.bullets.update(since.bullets)
        self._index.put(since.bullets.values())
        if any(one.stage is Stage.CANARY for one in self.bullets.values()):
            self._past.read(self.book.log(self._past.revision, until=self.revision))

    def nameable(self) -> dict[str, Bullet]:
        """Bullets that may be changed: neither removed nor in quarantine nor staged back by a Curator's opinion."""
        closed = self._past.doubted
        return {
            id: one
            for id, one in self.bullets.items()
            if not one.removed and not one.quarantined and not (one.stage is Stage.CANARY and id in closed)
        }

    def helping(self) -> set[str]:
        """Bullets that trials showed to help. Reads all episodes that were shown the book."""
        return {id for id, one in effects_of(self.book).items() if one.interval[0] > 0.0 and not one.uneven}

    def some(self, ids: Iterable[str]) -> dict[str, Bullet]:
        """Of these, the ones that are not removed."""
        return {id: self.bullets[id] for id in ids if id in self.bullets and not self.bullets[id].removed}

    def voted(self, episode: str) -> set[str]:
        """Bullets that a batch which names this episode has counted votes on: it has no more to give them. Of a batch
        of several episodes nobody can say whose the votes were, so they count as each one's."""
        book = self.book
        revisions = book.store.playbooks_of_source(book.namespace, episode).get(book.name, [])
        entries = [entry for revision in revisions for entry in book.log(revision - 1, until=revision)]
        return {one.id for entry in entries for one in entry.batch.operations if isinstance(one, Tag)}

    # --- writing ----------------------------------------------------------------------------------------------------

    def gated(self, batch: Batch) -> Gated:
        """The batch to write instead of this one.

        Where a lesson in it begins in shadow, repeats count as neutral, whatever the settings say: that nobody judged
        says nothing for what is shown.
        """
        gate = self._settings.write_gate
        if any(isinstance(one, Add) and one.stage is Stage.SHADOW for one in batch.operations):
            gate = msgspec.structs.replace(gate, repeat="neutral")
        written, decisions = gates.gated(batch, self._index, gate, kept=self._kept)
        more = _promotions(batch, decisions, self.bullets)
        repeats = sum(one.what in (gates.What.TAG, gates.What.DROP) for one in decisions)
        let_in = any(one.what is gates.What.ASK for one in decisions)
        rewritten = any(isinstance(one, Update | Merge) for one in batch.operations)
        return Gated(
            batch=msgspec.structs.replace(written, operations=(*written.operations, *more)),
            repeats=repeats - sum(isinstance(one, Add) for one in more),
            due=let_in or rewritten or bool(more),
        )

    # --- refining ---------------------------------------------------------------------------------------------------

    def refinement(self, revision: int, key: str) -> Batch:
        """A batch that merges near-duplicates; without operations where none is to be merged now.

        Lazily: of the whole book, when it is too long. Else: of what the batch of this revision touched, and others
        since it was decided on, so that it costs what they touched and not what the book holds.
        """
        if self._settings.refinement is Refinement.LAZY:
            found = gates.clusters(self._index, self._settings.gate, kept=self._kept) if self._too_long() else ()
        else:
            found = self._clusters_at(self._touched(revision))
        batch = gates.refine(self._index, self._settings.gate, kept=self._kept, found=found, actor=ACTOR, key=key)
        return msgspec.structs.replace(batch, base=self.revision)

    def _touched(self, revision: int) -> set[str]:
        (entry,) = self.book.log(revision - 1, until=revision)
        base = entry.batch.base if entry.batch.base is not None else revision - 1
        entries = self.book.log(min(base, revision - 1))
        return {id for one in entries for id in (*one.ids, *touched(one.batch)) if id in self._index}

    def _clusters_at(self, ids: Collection[str]) -> tuple[gates.Cluster, ...]:
        """Near-duplicates of these bullets among all."""
        gate = self._settings.gate
        near = set(ids)
        for id in ids:
            bullet, seen = self._index[id], {id}
            while len(seen) <= _MOST_TWINS:
                twin = self._index.twin(bullet.section, bullet.content, gate, kept=self._kept, without=seen)
                if twin is None:
                    break
                seen.add(twin.id)
            near |= seen
        some = BookIndex((self._index[id] for id in sorted(near)), embedder=self._embedder)
        return gates.clusters(some, gate, kept=self._kept)

    def _too_long(self) -> bool:
        """Whether the live bullets do not all fit into the text."""
        sections = self._settings.places
        live = in_order((one for one in self.bullets.values() if everybody_sees(one)), sections)
        text = render((entry(one) for one in live), sections)
        return EstimatedTokens().count(text) > self._settings.budget.tokens


def _promotions(batch: Batch, decisions: Sequence[gates.Decision], bullets: Mapping[str, Bullet]) -> list[Operation]:
    """What a lesson that may be shown is owed where its twin may not.

    The same words, in shadow until now: they are staged as the lesson is. Nearly the same words: the lesson goes in by
    itself, so that nobody can keep it out by saying something like it first.
    """
    more: dict[Operation, None] = {}
    changed = {id for operation in batch.operations if not isinstance(operation, Tag) for id in named(operation)}
    for one in decisions:
        if one.stage is None:
            continue
        twin = bullets.get(one.id)
        if twin is not None and (twin.quarantined or twin.pinned):
            continue
        if one.what is gates.What.TAG and one.how is How.EXACT:
            read = twin.revision if twin is not None and twin.id not in changed else None
            more[SetStage(id=one.id, stage=one.stage, revision=read)] = None
        elif one.what in (gates.What.TAG, gates.What.DROP):
            more[batch.operations[one.index]] = None
    return list(more)
