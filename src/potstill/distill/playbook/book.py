"""A playbook in a store: batches go in whole or not at all, bullets and the log come out.

What it knows: how batches, bullets and rows of the log are written as JSON. What it does not do: decide what a batch
does (``apply``), SQL (``trajectories.playbooks``). Safe to use from many threads and processes at once, like the store.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from itertools import chain
from typing import NamedTuple

import msgspec

from potstill.distill.playbook import forgetting, renderings
from potstill.distill.playbook.apply import (
    Entry,
    Refused,
    Why,
    apply,
    check_batch,
    check_texts,
    free_hash,
    gathered,
    replay,
    state_hash,
)
from potstill.distill.playbook.leftovers import left
from potstill.distill.playbook.operations import Applied, Batch, Bullet
from potstill.distill.playbook.traces import Trace
from potstill.errors import NOT_JSON, StoreError
from potstill.trajectories import Store
from potstill.trajectories.learning import Noted
from potstill.trajectories.playbooks import BulletRow, LogRow, PlaybookState, Read, Rewritten, Written

_encode = msgspec.json.Encoder().encode
_bullet = msgspec.json.Decoder(Bullet).decode
_entry = msgspec.json.Decoder(Entry).decode


class Since(NamedTuple):
    """What became of a book's bullets since it was looked at."""

    revision: int
    """The book's now."""
    erasures: int
    """Another one than the last time: something was erased, so read everything anew."""
    bullets: dict[str, Bullet]
    """Those that were written since, in counters too; by id, in the order of their numbers."""


class Checked(NamedTuple):
    """What a look through a whole book came to."""

    revision: int
    """The book's when it was read."""
    problems: list[str]
    """In words; empty: its bullets are what a replay of its log gives."""


class Forgotten(NamedTuple):
    """What a book is from now on, without what it is to forget."""

    batch: Batch
    """The row that says so: who. It has no operations."""
    digest: str
    """SHA-256 of what was forgotten."""
    entries: Mapping[int, Entry]
    """Rows of the log that are replaced, by revision."""
    bullets: Mapping[str, Bullet]
    """All of the book's."""


class Playbook:
    """A tenant's book of this name; it comes to be with its first batch.

    >>> book = Playbook(store, "default", "support")  # doctest: +SKIP
    >>> book.apply(Batch(operations=(Add(section="rules", content="Ask for the order first."),), actor="ana"))
    Applied(revision=1, ids=('b-1',))
    """

    def __init__(self, store: Store, namespace: str, name: str) -> None:
        self.store = store
        self.namespace = namespace
        self.name = name

    # --- writing ----------------------------------------------------------------------------------------------------

    def apply(self, batch: Batch, *, noted: Noted | None = None) -> Applied:
        """Apply a batch; returns when it is durable. Costs what the batch touches, not what the book holds.

        ``noted``: the position of a learning run that is done with it, in the same transaction. Raises ``Refused`` with
        nothing applied: the author reads again and decides again, or (``Why.FORGOTTEN``) leaves out the source that the
        book has forgotten. ``StoreError``, ``DiskFull``.
        """
        check_batch(batch)  # before it takes a turn of the writer's

        def work(read: Read, revision: int, next_number: int) -> Written:
            bullets = gathered(batch, lambda ids: self._decoded(read(ids)))
            change = apply(bullets, batch, revision=revision, next_number=next_number)
            return Written(
                body=_text(Entry(revision=revision, at=0.0, batch=batch, ids=change.ids)),
                bullets=[_row(bullet) for bullet in (*change.changed, *change.added)],
                next_number=next_number + len(change.added),
                sources=batch.sources,
            )

        unless = {_forgets(source): _forgotten(source) for source in batch.sources}
        changed = self.store.playbook_change(self.namespace, self.name, batch.key, work, noted=noted, unless=unless)
        return Applied(revision=changed.row.revision, ids=self._read(changed.row).ids, repeated=changed.repeated)

    def forget_source(self, source: str, *, actor: str) -> tuple[forgetting.Forgotten, tuple[Trace, ...]]:
        """Erase what a trajectory taught from the log, the bullets and the pages in recorded prompts, and its id from
        the journals of learning runs.

        From then on a batch that names it is refused, also where the book had learnt nothing from it yet and a run was
        to. Returns what was done (nothing where the book knows no such source) and every place of the book's rows that
        still holds a trace; ``renderings.still_there`` looks into episodes. A source that was forgotten before: lines
        of bullets that are gone are erased from what was recorded since. Backups and exported files are not the book's
        to erase. Raises ``Refused`` for an actor that is none.
        """
        done: list[forgetting.Forgotten] = []
        saying = Batch(operations=(), actor=actor)
        check_texts(saying)
        learns = not self.forgotten([source]) and self.store.learning_names(self.namespace, self.name, source)

        def decide(entries: list[Entry], bullets: dict[str, Bullet]) -> Forgotten | None:
            done[:] = [forgotten := forgetting.forget(entries, source, bullets)]
            if not (forgotten.erased or learns):
                return None
            return Forgotten(saying, forgetting.source_digest(source), forgotten.rows, forgotten.bullets)

        self.forget(decide, key=_forgets(source))
        self.store.learning_forget(self.namespace, self.name, source)
        forgotten = done[0] if done else forgetting.Forgotten(entries=(), bullets={})
        if forgotten.erased or self.forgotten([source]):
            shown = renderings.erase(self.store, self.namespace, self.pages(forgotten))
            forgotten = msgspec.structs.replace(forgotten, prompts=shown)
        journals = self.store.learning_texts(self.namespace, self.name)
        return forgotten, left(forgotten.texts, source, chain(self.texts(), journals))

    def forget_bullets(self, ids: Collection[str], *, actor: str) -> tuple[forgetting.Forgotten, tuple[Trace, ...]]:
        """Erase bullets with all texts that they ever had, whoever taught them, from the log, the bullets and the pages
        in recorded prompts.

        Returns as ``forget_source`` does. Where nothing of them is left to erase, lines of bullets that are gone are
        erased from what was recorded since. Raises ``Refused`` for an actor that is none.
        """
        done: list[forgetting.Forgotten] = []
        saying = Batch(operations=(), actor=actor)
        check_texts(saying)

        def decide(entries: list[Entry], bullets: dict[str, Bullet]) -> Forgotten | None:
            done[:] = [forgotten := forgetting.forget_bullets(entries, ids, bullets)]
            if not forgotten.erased:
                return None
            digest = forgetting.source_digest(" ".join(sorted(ids)))
            return Forgotten(saying, digest, forgotten.rows, forgotten.bullets)

        self.forget(decide)
        forgotten = done[0] if done else forgetting.Forgotten(entries=(), bullets={})
        shown = renderings.erase(self.store, self.namespace, self.pages(forgotten))
        journals = self.store.learning_texts(self.namespace, self.name)
        return (
            msgspec.structs.replace(forgotten, prompts=shown),
            left(forgotten.texts, "", chain(self.texts(), journals)),
        )

    def pages(self, forgotten: forgetting.Forgotten) -> renderings.Pages:
        """What takes the lines that this or an earlier forgetting erased out of prompts."""
        gone = renderings.gone(forgotten.entries, forgotten.bullets)
        return renderings.Pages(self.name, forgotten.texts, gone)

    def forgotten(self, sources: Collection[str]) -> set[str]:
        """Those of the sources that the book has forgotten."""
        keys = {_forgets(source): source for source in sources}
        return {keys[key] for key in self.store.playbook_known(self.namespace, self.name, keys)}

    def forget(self, decide: Callable[[list[Entry], dict[str, Bullet]], Forgotten | None], key: str = "") -> int | None:
        """Replace rows of the log and the bullets in one transaction, in which ``decide`` is given both.

        Returns the book's revision then; None: ``decide`` wants nothing erased. It may be asked more than once.
        ``key``: of the row that says so.
        """

        def work(rows: list[LogRow], held: PlaybookState) -> Rewritten | None:
            decided = decide([self._read(row) for row in rows], self._bullets(held))
            if decided is None:
                return None
            entry = Entry(revision=held.revision + 1, at=0.0, batch=decided.batch, forgot=decided.digest)
            bullets = [_row(bullet) for bullet in decided.bullets.values()]
            replaced = {revision: (_text(one), one.batch.sources) for revision, one in decided.entries.items()}
            return Rewritten(Written(_text(entry), bullets, held.next_number), replaced)

        row = self.store.playbook_rewrite(self.namespace, self.name, work, key)
        return None if row is None else row.revision

    # --- reading ----------------------------------------------------------------------------------------------------

    @property
    def revision(self) -> int:
        """How many batches it holds; 0 for a book that is not there."""
        return self.store.playbook_bullets(self.namespace, self.name, ids=()).revision

    def bullets(self, ids: Collection[str] | None = None) -> dict[str, Bullet]:
        """Bullets as they are now, removed ones among them, by id in the order of their numbers; all, or these."""
        return self._bullets(self.store.playbook_bullets(self.namespace, self.name, ids=ids))

    def since(self, revision: int) -> Since:
        """What was written after a revision: for who keeps a book in memory."""
        state = self.store.playbook_bullets(self.namespace, self.name, after=revision)
        return Since(state.revision, state.erasures, self._bullets(state))

    def log(self, after: int = 0, *, until: int | None = None) -> list[Entry]:
        """Batches after a revision, oldest first; ``until``: that revision is the last one."""
        return [self._read(row) for row in self.store.playbook_log(self.namespace, self.name, after, until=until)]

    def as_of(self, revision: int) -> dict[str, Bullet]:
        """The bullets as they were at a revision; what was forgotten since was never there."""
        return replay(self.log(until=revision))

    def state_hash(self) -> str:
        """Of everything about its bullets; equal to that of a replay of its log."""
        return state_hash(self.bullets())

    def free_hash(self) -> str:
        """The same without ids, numbers and revisions, which the order of batches gives."""
        return free_hash(self.bullets())

    def check(self) -> list[str]:
        """What is wrong with it, in words; empty if its bullets are what a replay of its log gives."""
        return self.checked().problems

    def checked(self) -> Checked:
        """The same with the revision at which it was so; others may go on writing meanwhile.

        The log only grows, so the part of it up to that revision is what made the bullets, unless somebody erased
        between the two looks: then both are read again.
        """
        while True:
            held = self.since(0)
            entries = self.log(until=held.revision)
            if self.since(held.revision).erasures == held.erasures:
                break
        problems = [f"row {n} of the log is revision {e.revision}" for n, e in enumerate(entries, 1) if n != e.revision]
        replayed = replay(entries)
        odd = sorted(id for id in replayed.keys() | held.bullets.keys() if replayed.get(id) != held.bullets.get(id))
        return Checked(held.revision, problems + [f"bullet {id} is not what the log says" for id in odd])

    def texts(self) -> Iterator[tuple[str, str]]:
        """Everything that its rows hold in words: where, and what stands there."""
        return self.store.playbook_texts(self.namespace, self.name)

    def scan(self, texts: Collection[str]) -> list[tuple[str, str]]:
        """Where one of these texts stands in any row of the book, and which; empty: nowhere."""
        return self.store.playbook_scan(self.namespace, self.name, texts)

    # --- inside -----------------------------------------------------------------------------------------------------

    def _bullets(self, state: PlaybookState) -> dict[str, Bullet]:
        return self._decoded({row.id: row.body for row in state.bullets})

    def _decoded(self, bodies: Mapping[str, str]) -> dict[str, Bullet]:
        try:
            return {id: _bullet(body) for id, body in bodies.items()}
        except NOT_JSON as error:
            raise self._damaged("a bullet", error) from error

    def _read(self, row: LogRow) -> Entry:
        try:
            return msgspec.structs.replace(_entry(row.body), revision=row.revision, at=row.at)
        except NOT_JSON as error:
            raise self._damaged(f"revision {row.revision}", error) from error

    def _damaged(self, what: str, error: Exception) -> StoreError:
        return StoreError(
            f"Playbook {self.name!r} of namespace {self.namespace!r} in {self.store.path} cannot be read: {what} is "
            f"damaged, or was written by a newer potstill ({error}). Type: pip install --upgrade potstill"
        )


def _forgets(source: str) -> str:
    """The key of the batch that forgets a source."""
    return f"forget/{forgetting.source_digest(source)}"


def _forgotten(source: str) -> Refused:
    reason = f"this book has forgotten the source {source[:40]!r}, and learns nothing from it again. Leave it out."
    return Refused(None, Why.FORGOTTEN, reason, source)


def _row(bullet: Bullet) -> BulletRow:
    return BulletRow(bullet.id, bullet.number, _text(bullet))


def _text(value: Entry | Bullet) -> str:
    return _encode(value).decode()
