"""Which book a command is about, how it is opened, and what its refusals mean to who typed it.

What it knows: ``--db``, ``--namespace``, ``--book`` and ``--actor``. What it does not do: print, or change anything.
"""

from __future__ import annotations

import functools
import shlex
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from potstill.cli.output import note
from potstill.cli.playbook.typed import safe_option
from potstill.cli.store_option import db_option, namespace_option
from potstill.cli.trajectories import reading, writing
from potstill.errors import ConfigError, PotstillError, UnknownName

if TYPE_CHECKING:
    from potstill.distill.playbook.book import Playbook
    from potstill.distill.playbook.operations import Applied, Batch, Bullet
    from potstill.trajectories import Store

FIRST = "playbook"
"""What a tenant's first book is called where nobody names it."""
MAX_NAME = 200
BOOK_HELP = f"The playbook. [default: the only one there is, or '{FIRST}' for the first]"

actor_option = click.option("--actor", default="admin", show_default=True, help="Who does it, for the log.")
reason_option = click.option("--reason", default="", callback=safe_option, help="Why, for the log.")


class Place(NamedTuple):
    """A store, a tenant in it, and the book that was named, if one was."""

    db: str
    namespace: str
    book: str | None

    @property
    def typed(self) -> str:
        """The options that name it, to be typed behind a command; without a password."""
        words = list(self.store_words)
        words += ["--namespace", self.namespace] if self.namespace != "default" else []
        words += ["--book", self.book] if self.book is not None else []
        return _typed(words)

    @property
    def store_words(self) -> list[str]:
        """``--db`` and what was typed for it, if it has to be."""
        from potstill.trajectories.opening import shown

        return ["--db", shown(self.db)] if self.db != "potstill.db" else []

    @contextmanager
    def reading(self) -> Iterator[Playbook]:
        """The book, which must be there; nothing of the store is changed."""
        with reading(self.db) as store:
            yield self._named(store, new=False)

    @contextmanager
    def writing(self, *, new: bool = False) -> Iterator[Playbook]:
        """The book to be changed. ``new``: it may come to be, and so may the store."""
        made = new and _is_missing(self.db)
        with writing(self.db, create=new) as store:
            if made:
                note(f"There was no store: a new one was made at {self.db}")
            yield self._named(store, new=new)

    def _named(self, store: Store, *, new: bool) -> Playbook:
        from potstill.distill.playbook.book import Playbook

        return Playbook(store, self.namespace, self._name(store, new))

    def name_in(self, store: Store) -> str:
        """The book that would be written to; it may not be there yet."""
        return self._name(store, new=True)

    def _name(self, store: Store, new: bool) -> str:
        names = [info.name for info in store.playbooks(self.namespace)]
        if self.book is not None and (new or self.book in names):
            return self.book if self.book in names else _new_name(self.book)
        if not names and not new:
            elsewhere = f" Type for others' books: potstill playbook list --all-namespaces{_typed(self.store_words)}"
            begin = f" Type: potstill playbook add TEXT{self.typed}, or import FILE"
            others = elsewhere if store.playbooks(None) else begin
            raise ConfigError(f"There is no playbook in namespace '{self.namespace}'.{others}")
        if self.book is not None:
            raise UnknownName("playbook", self.book, names)
        if len(names) > 1:
            raise ConfigError(f"There are {len(names)} playbooks: {_some(names)}. Type which one: --book {names[0]}")
        return names[0] if names else FIRST


def _typed(words: Iterable[str]) -> str:
    return "".join(f" {shlex.quote(word)}" for word in words)


def book_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """``--db``, ``--namespace`` and ``--book``, as the argument ``place``."""

    @functools.wraps(command)
    def with_place(*words: Any, db: str, namespace: str, book: str | None, **options: Any) -> Any:
        return command(*words, place=Place(db, namespace, book), **options)

    option = click.option("--book", metavar="NAME", help=BOOK_HELP)
    return db_option(namespace_option(option(with_place)))


def bullets_named(place: Place, book: Playbook, ids: Collection[str]) -> list[Bullet]:
    """The bullets of these ids, in the order in which they were typed. Raises ``ConfigError`` for one that is not."""
    found = book.bullets(ids)
    if missing := [id for id in ids if id not in found]:
        there = f"Type: potstill playbook show{place.typed}"
        raise ConfigError(f"The playbook '{book.name}' has no bullet '{missing[0][:40]}'. {there}")
    return [found[id] for id in dict.fromkeys(ids)]


def applied(book: Playbook, batch: Batch) -> Applied:
    """Apply a batch that somebody typed."""
    with saying_why():
        return book.apply(batch)


@contextmanager
def saying_why() -> Iterator[None]:
    """A refusal as what it is on the command line: something that cannot be typed so, or a race that was lost."""
    from potstill.distill.playbook.apply import Refused, Why

    try:
        yield
    except Refused as refused:
        if refused.why is Why.STALE:
            raise PotstillError(f"Nothing was applied: {refused.reason}") from refused
        raise ConfigError(f"Nothing was applied: {refused.reason}") from refused


def _is_missing(db: str) -> bool:
    """Whether a file is to be made for a store; a database on a server is its server's to make."""
    from pathlib import Path

    from potstill.trajectories.opening import is_url

    return not is_url(db) and not Path(db).expanduser().exists()


def _new_name(name: str) -> str:
    """A name that can be typed again, on one line."""
    if not 0 < len(name.strip()) <= MAX_NAME or not name.isprintable():
        raise ConfigError(f"--book {name[:40]!r} is no name: 1 to {MAX_NAME} characters, and no control characters.")
    return name


def _some(names: Collection[str]) -> str:
    shown = ", ".join(list(names)[:10])
    return shown if len(names) <= 10 else f"{shown}, ..."
