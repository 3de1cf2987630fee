"""Looking at a book: what is new in it, and the page that follows from the last one.

What it knows: when the book, or what the store keeps of its page, has changed. What it does not do: the rules by which
a page grows (``page``), what one episode is shown of it (``context``).

With a keeper the last page is the store's, whoever left it there: so two processes show the same bytes, and so does one
that was started again. Without one it is this object's own.

Votes and what is in shadow change nothing that anybody is shown, so a look after them costs what was written.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol

import msgspec

from potstill.distill.playbook.book import Since
from potstill.distill.playbook.keeper import EpochKeeper, Held, Kept, Written, kept_of, written_in
from potstill.distill.playbook.operations import Bullet, Stage
from potstill.distill.playbook.page import Page, Setting, advance, compact, due, open_page
from potstill.errors import StoreError

_TRIES = 20
"""Looks, each of them lost to another process that was faster."""


class Source(Protocol):
    """Where the book is read: a ``book.Playbook``. Called from threads, one call at a time; may block."""

    @property
    def namespace(self) -> str: ...

    @property
    def name(self) -> str: ...

    @property
    def revision(self) -> int:
        """The book's, cheaply: asked at the beginning of each episode."""

    def since(self, revision: int) -> Since:
        """What was written after a revision; all of it after 0."""


class Looked(NamedTuple):
    """The book as it was last read, and the page made of it."""

    revision: int
    erasures: int
    bullets: dict[str, Bullet]
    page: Page
    version: int
    """Of what the store keeps of the page."""
    written: Written
    canaries: tuple[Bullet, ...] = ()
    """Those that may be shown to some, in the order of their numbers."""


Utility = Callable[[Sequence[Bullet]], Mapping[str, float]]
"""What bullets are worth, by id; those that it leaves out are rated by their counters. Asked where not all bullets
fit at a compaction; should not take long, since episodes wait for it."""


class Looker:
    """Reads a book again whenever it has changed. Safe to use from threads."""

    def __init__(
        self,
        source: Source,
        setting: Setting,
        *,
        keeper: EpochKeeper | None = None,
        utility: Utility | None = None,
        changed: Callable[[Looked, bool], None] = lambda looked, anew: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._source = source
        self._setting = setting
        self._keeper = keeper
        self._utility = utility
        self._changed = changed
        self._clock = clock
        self._last: Looked | None = None
        self._lock = threading.Lock()

    @property
    def last(self) -> Looked | None:
        """What it saw the last time; nothing is read."""
        return self._last

    def look(self, *, begin: bool = False, catch_up: bool = False) -> Looked:
        """The book as it is now. ``begin``: with a new epoch; ``catch_up``: where the page does not say what the book
        says. ``changed`` is told of what may be shown anew before this returns, and whether something was erased.
        Raises what the source does, ``StoreError``."""
        with self._lock:
            for _ in range(_TRIES):
                held = Held(0, None) if self._keeper is None else self._keeper.read()
                before = self._last
                stands = before is not None and not begin and held.version == before.version
                if before is not None and stands and self._may_stay(before.page, catch_up) and self._is_now(before):
                    return before
                news, erased = self._news(before)
                looked = None
                if before is not None and stands and not erased:
                    looked = self._unmoved(before, news, catch_up)
                if looked is None:
                    looked = self._looked(before, held, news, erased, begin, catch_up)
                    if looked is None:
                        continue
                    self._changed(looked, erased)
                self._last = looked
                return looked
        raise StoreError(
            f"The page of playbook {self._source.name!r} could not be kept: other processes changed it {_TRIES} times "
            "meanwhile. Try again."
        )

    def _is_now(self, before: Looked) -> bool:
        return self._source.revision == before.revision

    def _may_stay(self, page: Page, catch_up: bool) -> bool:
        return not (catch_up and page.behind) and due(page, self._setting.budget, self._clock()) is None

    def _unmoved(self, before: Looked, news: Since, catch_up: bool) -> Looked | None:
        """The same page with what was written since; None: something of it may be shown, or was."""
        if any(_moves(before.bullets.get(id), bullet) for id, bullet in news.bullets.items()):
            return None
        page = msgspec.structs.replace(before.page, revision=news.revision)
        if not self._may_stay(page, catch_up):
            return None
        return before._replace(revision=news.revision, bullets={**before.bullets, **news.bullets}, page=page)

    def _news(self, before: Looked | None) -> tuple[Since, bool]:
        """What was written since the last look; all, where something was erased."""
        if before is None:
            return self._source.since(0), False
        news = self._source.since(before.revision)
        if news.erasures == before.erasures and news.revision >= before.revision:
            return news, False
        return self._source.since(0), True

    def _looked(
        self, before: Looked | None, held: Held, news: Since, erased: bool, begin: bool, catch_up: bool
    ) -> Looked | None:
        """None: another process was faster, look again."""
        bullets = dict(news.bullets) if before is None or erased else {**before.bullets, **news.bullets}
        last, written = self._left(before, held, bullets, erased)
        page = None if begin or last is None else self._followed(last, bullets, news.revision, erased, catch_up)
        page = page or self._begun(bullets, news.revision)
        version = held.version
        if self._keeper is not None:
            written = written_in(page.entries, bullets, written)
            kept = kept_of(page, written)
            if _differs(kept, held):
                if not self._keeper.write(kept, held.version):
                    return None
                version += 1
        canaries = tuple(one for one in bullets.values() if one.shown and one.stage is Stage.CANARY)
        return Looked(news.revision, news.erasures, bullets, page, version, written, canaries)

    def _left(
        self, before: Looked | None, held: Held, bullets: Mapping[str, Bullet], erased: bool
    ) -> tuple[Page | None, Written]:
        """The page as it was last left, here or by another process."""
        if self._keeper is None or (before is not None and held.version == before.version and not erased):
            return (None, {}) if before is None else (before.page, before.written)
        if held.kept is None:
            return None, {}
        return self._keeper.open(held.kept, bullets), dict(held.kept.lines)

    def _followed(
        self, last: Page, bullets: Mapping[str, Bullet], revision: int, erased: bool, catch_up: bool
    ) -> Page | None:
        """The present page after this look; None: it is time for a new epoch."""
        if revision < last.revision:  # another book by the same name
            return None
        anew = erased and self._keeper is None  # a keeper's page was read again, without what was erased
        page = advance(last, bullets.values(), revision=revision, setting=self._setting, anew=anew)
        return page if self._may_stay(page, catch_up) else None

    def _begun(self, bullets: Mapping[str, Bullet], revision: int) -> Page:
        epoch = compact(bullets.values(), revision=revision, setting=self._setting)
        if self._utility is not None and (epoch.left_out or epoch.pinned_out):  # else all of them fit
            worth = self._utility(tuple(bullets.values()))
            epoch = compact(bullets.values(), revision=revision, setting=self._setting, utility=worth)
        epoch = msgspec.structs.replace(epoch, at=self._clock())
        return open_page(epoch, bullets.values(), self._setting)


def _moves(before: Bullet | None, now: Bullet) -> bool:
    """Whether what anybody is shown may depend on the difference. Counters make no bullet's revision newer."""
    if before is None:
        return now.shown
    return before.revision != now.revision and (before.shown or now.shown)


def _differs(now: Kept, held: Held) -> bool:
    """Whether it has to be written. A look that changed no line has no part in what later ones see."""
    if held.kept is None:
        return now.revision > 0
    return (now.epoch, now.lines, now.waiting) != (held.kept.epoch, held.kept.lines, held.kept.waiting)
