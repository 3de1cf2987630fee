"""An import into a book, batch by batch: through the near-duplicate gate, then counters, pins and quarantines.

What it knows: that the same file again changes nothing (its batches have the file's keys), also where the first import
broke off. What it does not do: read files, print.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

import msgspec

from potstill.distill.playbook.book import Playbook
from potstill.distill.playbook.formats import Imported, batches, became, follow_up
from potstill.distill.playbook.gate import What, gated
from potstill.distill.playbook.operations import Add, Applied, Batch, Bullet, Stage
from potstill.distill.playbook.twins import BookIndex


class Done(NamedTuple):
    book: str
    added: int
    twins: int
    """Bullets of the file that the book, or another bullet of the file, says already."""
    repeated: bool
    revision: int
    ids: list[str]
    """What each bullet of the file became, in its order."""
    shadow: int
    """Added ones that nobody is shown."""


def with_sources(imported: Imported, sources: tuple[str, ...]) -> Imported:
    """The same with these sources behind those that the file names for each bullet: what forgets the import later."""
    if not sources:
        return imported
    replace = msgspec.structs.replace
    items = (replace(one, sources=tuple(dict.fromkeys((*one.sources, *sources)))) for one in imported.items)
    return replace(imported, items=tuple(items))


def import_into(
    book: Playbook,
    imported: Imported,
    stage: Stage | None,
    actor: str,
    *,
    key: str | None,
    applied: Callable[[Playbook, Batch], Applied],
) -> Done:
    index = BookIndex(book.bullets().values())
    ids: list[str] = []
    twins: set[str] = set()
    added: list[str] = []
    repeats: list[bool] = []
    for batch in batches(imported, actor, stage=stage, key=key):
        written, decisions = gated(batch, index)
        done = applied(book, written)
        became_ids, among = became(decisions, done)
        ids += became_ids
        twins |= among
        repeats.append(done.repeated)
        added += () if done.repeated else done.ids
        index.put(book.bullets(done.ids).values())
    for batch in follow_up(imported, ids, actor, stage=stage, key=key, twins=twins):
        repeats.append(applied(book, batch).repeated)
    shadow = sum(one.stage is Stage.SHADOW for one in book.bullets(added).values())
    repeated = bool(repeats) and all(repeats)
    alike = 0 if repeated else len(imported.items) - len(added)
    return Done(book.name, len(added), alike, repeated, book.revision, ids, shadow)


def would_import(there: Iterable[Bullet], imported: Imported, stage: Stage | None) -> Done:
    """What an import would do to a book of these bullets, as far as it was not done before."""
    index = BookIndex(there)
    added = shadow = 0
    for batch in batches(imported, stage=stage):
        written, decisions = gated(batch, index)
        stay = [one for one in written.operations if isinstance(one, Add)]
        shadow += sum(one.stage is Stage.SHADOW for one in stay)
        numbers = range(10**9 + added, 10**9 + added + len(stay))
        new = zip(numbers, stay, strict=True)
        index.put(Bullet(id=f"new {n}", number=n, section=one.section, content=one.content) for n, one in new)
        added += sum(one.what in (What.ADD, What.ASK) for one in decisions)
    return Done("", added, len(imported.items) - added, False, 0, [], shadow)
