"""What a learning run has done, as rows of the store: enough to go on exactly, and no text of any episode.

What it knows: the rows' fields. What it does not do: SQL (``trajectories.learning``), say what comes next (``loop``).

A row holds ids, counts and tokens, so forgetting a source has nothing to erase here. Why something was refused or left
out is kept as a word of ours; the sentences are in the result of the sitting that saw them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import StrEnum

import msgspec

from potstill.distill.playbook.book import Playbook
from potstill.distill.playbook.learn.bill import Spent
from potstill.distill.playbook.learn.settings import Settings
from potstill.errors import NOT_JSON, StoreError
from potstill.trajectories.learning import FORGOTTEN, Noted, forgotten_mark
from potstill.types import Struct


class Kind(StrEnum):
    """What a position is."""

    BEGIN = "begin"
    VALIDATE = "validate"
    PLAY = "play"
    LEARN = "learn"
    REFINE = "refine"
    KEEP = "keep"
    """The book that did best is the one that stays."""
    END = "end"
    ASIDE = "aside"
    """Spending beside the positions: of what the roles answered, kept before anything is done with it, and of calls
    that failed."""


class Skip(Struct, frozen=True, kw_only=True):
    """An episode that was not learnt from."""

    episode: str
    """Its id; of one that was never recorded, the id that it would have had."""
    why: str
    """The kind of the error, or why its reflection could not be used."""


def forgotten_skip(id: str) -> Skip:
    """Of an episode that the book has forgotten: not by its id."""
    return Skip(episode=id if id.startswith(FORGOTTEN) else forgotten_mark(id), why="forgotten")


class Row(Struct, frozen=True, kw_only=True):
    """One position. Fields that a kind does not use are left out."""

    kind: Kind
    epoch: int = 0
    episodes: tuple[str, ...] = ()
    """Ids, in order; empty where one could not be played. Of ``BEGIN``: recorded ones that are to be learnt from."""
    known: int = 0
    """Episodes of which somebody said how they ended."""
    succeeded: int = 0
    applied: Mapping[str, int] = {}
    """Operations that were written, by their names."""
    repeats: int = 0
    """``ADD``s that the near-duplicate gate turned into a tag or dropped."""
    refused: Mapping[str, int] = {}
    """Operations and answers that were not taken, by why."""
    skipped: tuple[Skip, ...] = ()
    revision: int = 0
    """The book's then."""
    due: bool = False
    """A refinement should follow."""
    back_to: int | None = None
    """The revision that was gone back to."""
    spent: tuple[Spent, ...] = ()
    ended: str = ""
    """Of ``END``: why."""
    settings: Settings | None = None
    """Of ``BEGIN``."""
    digest: str = ""
    """Of ``BEGIN``: what must be the same when the run goes on."""


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Row).decode


class Journal:
    """Of one run of one book."""

    def __init__(self, book: Playbook, run: str) -> None:
        self._book = book
        self.run = run

    def rows(self) -> Iterator[tuple[int, Row]]:
        """By position; asides, which are below 0, first. Raises ``StoreError`` for a row that cannot be read."""
        book = self._book
        for row in book.store.learning_rows(book.namespace, book.name, self.run):
            try:
                yield row.position, _decode(row.body)
            except NOT_JSON as error:
                raise StoreError(
                    f"Position {row.position} of learning run {self.run!r} in {book.store.path} is damaged, or was "
                    f"written by a newer potstill ({error}). Type: pip install --upgrade potstill"
                ) from error

    def note(self, position: int, row: Row) -> None:
        """A position that writes nothing into the book."""
        book = self._book
        book.store.learning_note(book.namespace, book.name, self.run, position, _encode(row).decode())

    def noted(self, position: int, row: Row, *, refine_unless: int = 0) -> Noted:
        """For ``Playbook.apply``: the row is written with the batch. ``refine_unless``: another revision than this one
        means that others wrote since the book was read, and may have said the same."""
        return Noted(self.run, position, lambda revision: _body(row, revision, refine_unless))

    def aside(self, row: Row) -> int:
        """Note spending; returns the number below 0 that it was given."""
        book = self._book
        return book.store.learning_aside(book.namespace, book.name, self.run, _encode(row).decode())


def _body(row: Row, revision: int, refine_unless: int) -> str:
    due = row.due or bool(refine_unless and revision != refine_unless)
    return _encode(msgspec.structs.replace(row, revision=revision, due=due)).decode()


def settings_of(book: Playbook, run: str) -> Settings:
    """What a run was begun with. Raises ``StoreError`` where there is no such run."""
    for position, row in Journal(book, run).rows():
        if position == 0 and row.settings is not None:
            return row.settings
    runs = ", ".join(one.run for one in book.store.learning_runs(book.namespace, book.name)) or "none"
    raise StoreError(f"Playbook {book.name!r} has no learning run {run!r}. It has: {runs}.")
