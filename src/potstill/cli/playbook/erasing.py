"""What is left of a source in a tenant's books: traces in every one of them, and merges that may still speak of it.

What it knows: that a text may have been copied from book to book, and that a merge may have said it in other words.
What it does not do: decide what goes (``forgetting``), erase, print.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import NamedTuple

import msgspec

from potstill.distill.playbook import renderings
from potstill.distill.playbook.apply import Erased, steps
from potstill.distill.playbook.blame import step_ids
from potstill.distill.playbook.book import Playbook
from potstill.distill.playbook.forgetting import Forgotten, forget, forget_bullets
from potstill.distill.playbook.leftovers import left
from potstill.distill.playbook.operations import Merge
from potstill.distill.playbook.renderings import StillThere, still_there
from potstill.distill.playbook.telling import Telling, runs_shared
from potstill.distill.playbook.traces import Trace, traces


class What(NamedTuple):
    """What is to be forgotten: a source, or bullets of one book."""

    source: str = ""
    bullets: tuple[str, ...] = ()

    def erase(self, book: Playbook, actor: str) -> tuple[Forgotten, tuple[Trace, ...]]:
        if self.bullets:
            return book.forget_bullets(self.bullets, actor=actor)
        return book.forget_source(self.source, actor=actor)

    def would_erase(self, book: Playbook) -> Forgotten:
        entries = book.log()
        forgotten = forget_bullets(entries, self.bullets) if self.bullets else forget(entries, self.source)
        prompts = renderings.would_erase(book.store, book.namespace, book.pages(forgotten))
        return msgspec.structs.replace(forgotten, prompts=prompts)


class Told(NamedTuple):
    """A book, and what forgetting did or would do to it."""

    name: str
    forgotten: Forgotten | None
    """None: it was not to be touched, and is only looked through."""
    traces: tuple[Trace, ...]
    review: tuple[str, ...] = ()
    """Bullets that took in one that the source had taught, and say it in other words, if they do."""
    holding: tuple[str, ...] = ()
    """Bullets of it by whose texts or decisions the traces are there: without them there would be none."""
    alike: tuple[str, ...] = ()
    """Bullets that stay and hold words or a telling piece of what was erased, now or in an earlier text or a reason."""
    shared: tuple[str, ...] = ()
    """Other bullets that share a run of words with it, as chance may have it."""


class Done(NamedTuple):
    """What became of a source in all of a tenant's books and episodes."""

    books: list[Told]
    episodes: tuple[StillThere, ...] = ()
    """Episodes that hold words of erased texts and were not given other prompts: what somebody said, or was asked."""
    kept: tuple[StillThere, ...] = ()
    """Of the source itself."""


def erased(books: Iterable[Playbook], chosen: set[str], what: What, actor: str) -> Done:
    """Erase the source in the chosen books; then look through every row of all for what was erased in any of them."""
    books = list(books)
    done = {one.name: what.erase(one, actor) for one in books if one.name in chosen}
    texts = _texts(forgotten for forgotten, _ in done.values())
    told = []
    for book in books:
        forgotten, own = done.get(book.name, (None, ()))
        others = texts if forgotten is None else [text for text in texts if text not in set(forgotten.texts)]
        name = what.source if forgotten is None else ""
        found = left(others, name, _words(book)) if others or name else ()
        told.append(_told(book, forgotten, (*own, *found), texts, what.source))
    return _with_episodes(books, told, texts, what.source)


def _with_episodes(books: Sequence[Playbook], told: list[Told], texts: Sequence[str], source: str) -> Done:
    found = still_there(books[0].store, books[0].namespace, texts)
    own = tuple(one for one in found if one.episode == source)
    return Done(told, tuple(one for one in found if one.episode != source), own)


def would_erase(books: Iterable[Playbook], chosen: set[str], what: What) -> Done:
    """What ``erased`` would do. Traces: in texts of bullets that would stay, of all books, and none in episodes."""
    books = list(books)
    done = {one.name: what.would_erase(one) for one in books if one.name in chosen}
    texts = _texts(done.values())
    told = []
    for book in books:
        forgotten = done.get(book.name)
        bullets = book.bullets() if forgotten is None else forgotten.bullets
        found = traces(texts, what.source, ((f"{id} of {book.name}", bullet.content) for id, bullet in bullets.items()))
        told.append(_told(book, forgotten, found, texts, what.source))
    return Done(told)


def _told(
    book: Playbook, forgotten: Forgotten | None, found: tuple[Trace, ...], texts: Sequence[str], source: str
) -> Told:
    review = () if forgotten is None else reworded(forgotten)
    holding = _holding(book, found, texts, source)
    alike = _alike(book, forgotten, texts)
    bullets = book.bullets() if forgotten is None else forgotten.bullets
    kept = [(id, one.content) for id, one in bullets.items() if id not in {*alike, *holding}]
    return Told(book.name, forgotten, found, review, holding, alike, runs_shared(texts, kept))


def _alike(book: Playbook, forgotten: Forgotten | None, texts: Sequence[str]) -> tuple[str, ...]:
    bullets = book.bullets() if forgotten is None else forgotten.bullets
    telling = Telling(texts, (one.content for one in bullets.values()))
    found = {} if forgotten is None else dict.fromkeys(forgotten.alike)
    for entry in (book.log() if forgotten is None else forgotten.entries) if telling else ():
        given = iter(entry.ids)
        for step in steps(entry):
            words = (getattr(step, name, "") for name in ("content", "section", "reason"))
            ids = step_ids(step, given)
            if any(telling.piece(word) for word in (*words, entry.batch.reason) if word):
                found[ids[0]] = None
    return tuple(found)


def _holding(book: Playbook, found: Iterable[Trace], texts: Sequence[str], source: str) -> tuple[str, ...]:
    """Bullets that a trace stands in, or that the operations of a row are about which hold one."""
    places = [one.place.partition(" of ") for one in found]
    ids = [name for table, _, name in places if table == "playbook_bullets.body"]
    rows = {int(name) for table, _, name in places if table == "playbook_log.body"}
    for entry in book.log() if rows else ():
        if entry.revision in rows:
            given = iter(entry.ids)
            steps_ = [(step_ids(step, given), msgspec.json.encode(step).decode()) for step in steps(entry)]
            hit = [own for own, words in steps_ if traces(texts, source, [("", words)])]
            ids += [own[0] for own in hit or [own for own, _ in steps_]]
    return tuple(dict.fromkeys(ids))


def _texts(all_: Iterable[Forgotten]) -> list[str]:
    return list(dict.fromkeys(text for one in all_ for text in one.texts))


def _words(book: Playbook) -> Iterable[tuple[str, str]]:
    return chain(book.texts(), book.store.learning_texts(book.namespace, book.name))


def reworded(forgotten: Forgotten) -> tuple[str, ...]:
    """Bullets that stay, got their text by a merge, and took in one whose text was erased, or one that had done so.

    Whoever merged had the erased text before them: no scan finds it in other words, so a person is to look.
    """
    taught = {*forgotten.gone, *forgotten.kept}
    reached: dict[str, None] = {}
    for entry in forgotten.entries:
        given = iter(entry.ids)
        for step in steps(entry):
            ids = step_ids(step, given)
            if isinstance(step, Merge) and not taught.isdisjoint(ids):
                taught.add(step.into)
                reached[step.into] = None
            elif isinstance(step, Erased) and step.kind == "MERGE" and not taught.isdisjoint(ids):
                taught.add(ids[0])
    return tuple(id for id in reached if id in forgotten.bullets and id not in forgotten.alike)


def known_sources(books: Iterable[Playbook]) -> set[str]:
    """Every source that a batch of any of the books names."""
    return {source for book in books for entry in book.log() for source in entry.batch.sources}


def is_learnt_from(books: Iterable[Playbook], source: str) -> bool:
    """Whether a learning run of one of the books names it as an episode, though no batch does yet."""
    return any(book.store.learning_names(book.namespace, book.name, source) for book in books)


def nearest(source: str, known: Iterable[str]) -> str | None:
    """The name that was probably meant."""
    return next(iter(difflib.get_close_matches(source, sorted(known), n=1, cutoff=0.6)), None)
