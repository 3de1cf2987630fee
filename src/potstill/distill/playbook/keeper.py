"""Where a page stands is kept in the store, so that every process on it, and the next one, shows the same bytes.

What it knows: which line was written at which revision of the book, and how to write it again. What it does not do:
decide what a page shows (``page``), look at the book (``looking``).

An epoch alone is not enough for that: behind it a page depends on when it was looked at. A line that was updated stays
as it was, and a bullet that was staged late stands where it was first seen. So what is kept is the page of whoever
looked first: its epoch, and of each line the id and the revision with which its content came. It is changed by
compare-and-set; who comes second reads what the first one left. No text is kept: nothing has to be erased here when a
source is forgotten, and a line whose content was erased is written as the bullet is now.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

import msgspec

from potstill.distill.playbook.apply import Entry as Row
from potstill.distill.playbook.apply import advance, steps
from potstill.distill.playbook.book import Playbook
from potstill.distill.playbook.effects import Book
from potstill.distill.playbook.operations import Bullet
from potstill.distill.playbook.page import Epoch, Page, Setting, everybody_sees, standing_as
from potstill.distill.playbook.render import Entry, entry
from potstill.errors import StoreError
from potstill.types import Struct

KIND = "playbook-epoch"
"""Of the store's rows of state."""

Written = Mapping[str, int]
"""The revision of the book with which the content of each line came, by the bullet's id."""


class Kept(Struct, frozen=True, kw_only=True):
    """A page without its text."""

    epoch: Epoch
    revision: int
    """The book's when the lines last changed."""
    lines: tuple[tuple[str, int], ...] = ()
    """In the order of the text: the bullet, and the revision with which its content came."""
    waiting: tuple[str, ...] = ()


class Held(NamedTuple):
    """What the store holds of a page."""

    version: int
    """How often it was written; 0: never."""
    kept: Kept | None


class EpochKeeper:
    """One book's page under one setting, in the book's store. Blocking; safe to use from threads and processes."""

    def __init__(self, book: Playbook, setting: Setting) -> None:
        self._book = book
        self._key = msgspec.json.encode([book.namespace, book.name, digest_of(setting)]).decode()

    def read(self) -> Held:
        """Raises ``StoreError``, also for what only a newer potstill can read."""
        found = self._book.store.get_state(KIND, self._key)
        if found is None:
            return Held(0, None)
        try:
            return Held(found.version, msgspec.convert(found.value, Kept))
        except msgspec.ValidationError as error:
            raise StoreError(
                f"The page of playbook {self._book.name!r} of namespace {self._book.namespace!r} in "
                f"{self._book.store.path} cannot be read: it was written by a newer potstill ({error}). "
                "Type: pip install --upgrade potstill"
            ) from error

    def write(self, kept: Kept, version: int) -> bool:
        """Compare and set; False: another process was faster."""
        return self._book.store.put_state(KIND, self._key, msgspec.json.decode(msgspec.json.encode(kept)), version)

    def open(self, kept: Kept, bullets: Mapping[str, Bullet]) -> Page:
        """The page that was kept. ``bullets``: the book's, as of ``kept.revision`` or later."""
        present = {id: bullets[id] for id, _ in kept.lines if id in bullets}
        stale = {id: revision for id, revision in kept.lines if id in present and present[id].changed_in != revision}
        before = contents_at(self._book.log(until=max(stale.values())), stale) if stale else {}
        lines = [_line(bullet, id in stale, before.get(id)) for id, bullet in present.items()]
        entries = tuple(line for line in lines if line is not None)
        return Page(epoch=kept.epoch, revision=kept.revision, entries=entries, waiting=kept.waiting)


def digest_of(setting: Setting) -> str:
    """Of what a page's text depends on beside the book: another setting has a page of its own."""
    told = [setting.budget, setting.sections, setting.counter.name]
    return hashlib.sha256(msgspec.json.encode(told)).hexdigest()[:16]


def kept_of(page: Page, written: Written) -> Kept:
    lines = tuple((one.id, written[one.id]) for one in page.entries)
    return Kept(epoch=page.epoch, revision=page.revision, lines=lines, waiting=page.waiting)


def written_in(entries: Iterable[Entry], bullets: Mapping[str, Bullet], before: Written) -> dict[str, int]:
    """With which revision the content of each line came: of one that is out of date, what was known before."""
    return {
        one.id: bullets[one.id].changed_in if standing_as(one, bullets[one.id]) else before[one.id] for one in entries
    }


def contents_at(rows: Collection[Row], wanted: Written) -> dict[str, Bullet]:
    """The bullets as they were at these revisions, those left out whose content was erased. Reads the log once."""
    asked: dict[int, list[str]] = {}
    for id, revision in wanted.items():
        asked.setdefault(revision, []).append(id)
    book = Book({}, 1)
    found: dict[str, Bullet] = {}
    for row in rows:
        for step in steps(row):
            advance(book, step, row)
        found |= {id: book[id] for id in asked.get(row.revision, ()) if id in book}
    return {id: one for id, one in found.items() if one.content and one.changed_in == wanted[id]}


def _line(now: Bullet, stale: bool, before: Bullet | None) -> Entry | None:
    if not stale:
        return entry(now)
    if before is not None:
        return entry(before)
    return entry(now) if everybody_sees(now) else None
