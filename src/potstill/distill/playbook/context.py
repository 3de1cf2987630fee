"""A playbook as ``protocols.Context``, alone or beside demonstrations.

What it knows: which text an episode and a step are given, and what became of the episodes that were shown a bullet.
What it does not do: keep the book (a ``Source`` reads it), estimate what a bullet is worth, put text into prompts.

``for_task`` gives the page: the same bytes for every episode until the book changes, and then the same bytes with
something behind them (``page`` says when not). Behind it stand the canaries that this task draws. ``for_step`` gives
bullets that the page has no room for and that are near to the step; it is a block of its own, behind the page. Bullets
that stand on the page are not repeated there.

Nothing is remembered of an episode, so one object serves any number at once. The draw of canaries depends on the task,
the bullet and the seed alone: asked twice, an episode gets the same answer. The book is looked at when an episode
begins, so what is quarantined is gone from the next episode on and, among a step's bullets, from the next look on.
"""

from __future__ import annotations

import asyncio
import hashlib
import threading
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol

from potstill.distill.playbook.book import Since
from potstill.distill.playbook.budget import Budget
from potstill.distill.playbook.operations import Bullet, Stage
from potstill.distill.playbook.page import (
    Epoch,
    Page,
    Setting,
    advance,
    compact,
    due,
    everybody_sees,
    open_page,
    text_of,
)
from potstill.distill.playbook.render import Entry, entry, in_order, pieces, render
from potstill.distill.playbook.sections import DEFAULT, sections_named
from potstill.distill.playbook.shortlist import Shortlist
from potstill.errors import ConfigError
from potstill.protocols import BulletObserver, Context, ContextBlock, ContextQuery, TokenCounter
from potstill.retrieval.registry import ranker_factory
from potstill.retrieval.tokens import EstimatedTokens
from potstill.types import DemonstrationRef, Struct


class Source(Protocol):
    """Where the book is read: a ``book.Playbook``. Called from threads, one call at a time; may block."""

    @property
    def revision(self) -> int:
        """The book's, cheaply: asked at the beginning of each episode."""

    def since(self, revision: int) -> Since:
        """What was written after a revision; all of it after 0."""


class PlaybookConfig(Struct, frozen=True, kw_only=True):
    """How a playbook is shown. Raises ``ConfigError`` for impossible values."""

    budget: Budget = Budget()
    """Of the page and the canaries behind it."""
    sections: tuple[str, ...] = ()
    """Titles in their order. Empty: the paper's."""
    top_k: int = 0
    """Bullets beside the page for each step. 0: none."""
    step_tokens: int = 1_000
    """Hard limit of a step's bullets."""
    ranker: str = "bm25"
    """What finds them: ``bm25``, ``onnx:PATH`` or ``http:URL#MODEL``."""
    canary_share: float = 0.1
    """Share of the tasks that are shown a canary; each canary draws for itself."""
    seed: int = 0

    def __post_init__(self) -> None:
        for name, value in (("top_k", self.top_k), ("step_tokens", self.step_tokens)):
            if value < 0:
                raise ConfigError(f"A playbook's {name} is {value}; it must be 0 or more.")
        if not 0 <= self.canary_share <= 1:
            raise ConfigError(
                f"A playbook's canary_share is {self.canary_share:g}; it must be a share from 0 to 1, such as 0.1."
            )


class Exposure(Struct, frozen=True, kw_only=True):
    """Episodes that were shown a bullet."""

    shown: int = 0
    succeeded: int = 0


class _Looked(NamedTuple):
    """The book as it was last read, and the page made of it."""

    revision: int
    erasures: int
    bullets: dict[str, Bullet]
    page: Page


Utility = Callable[[Sequence[Bullet]], Mapping[str, float]]
"""What bullets are worth, by id, asked at a compaction; those that it leaves out are rated by their counters."""
Withhold = Callable[[ContextQuery, Sequence[str]], Collection[str]]
"""Which of these ids this episode is not shown (a hold-out). Asked several times; must say the same each time."""
Told = Callable[[Sequence[str], bool], None]
"""Takes the ids that an episode was shown, and whether it succeeded. Runs in a thread."""


def nothing_withheld(query: ContextQuery, ids: Sequence[str]) -> Collection[str]:
    return ()


def draws(query: ContextQuery, id: str, share: float, seed: int) -> bool:
    """Whether this task is among the share that is shown this bullet: the same on every machine, for every episode."""
    words = (str(seed), query.namespace, query.task.environment, query.task.id, id)
    digest = hashlib.sha256("\0".join(words).encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big") < share * 2**64


class PlaybookContext:
    """Shows a playbook. One event loop; the book is read and ranked in threads.

    ``epoch``: where an earlier process left off (``page.epoch``), so that its bytes come again. ``told``: who else
    counts outcomes. Errors of the source are raised.
    """

    def __init__(
        self,
        source: Source,
        config: PlaybookConfig | None = None,
        *,
        name: str = "playbook",
        counter: TokenCounter | None = None,
        utility: Utility | None = None,
        withhold: Withhold = nothing_withheld,
        told: Told | None = None,
        epoch: Epoch | None = None,
    ) -> None:
        self.name = name
        self._source = source
        self._config = config or PlaybookConfig()
        self._setting = Setting(
            budget=self._config.budget,
            sections=sections_named(*self._config.sections) if self._config.sections else DEFAULT,
            counter=counter or EstimatedTokens(),
        )
        self._utility = utility
        self._withhold = withhold
        self._told = told
        self._begin_with = epoch
        self._looked: _Looked | None = None
        self._shortlist = Shortlist(ranker_factory(self._config.ranker)) if self._config.top_k else None
        self._exposures: dict[str, Exposure] = {}
        self._lock = threading.Lock()

    # --- protocols.Context ------------------------------------------------------------------------------------------

    async def for_task(self, query: ContextQuery) -> ContextBlock:
        return await asyncio.to_thread(self._task_block, query)

    async def for_step(self, query: ContextQuery) -> ContextBlock:
        if self._shortlist is None:
            return ContextBlock()
        return await asyncio.to_thread(self._step_block, query, self._shortlist)

    async def observe(self, shown: Sequence[DemonstrationRef], success: bool) -> None:
        """Demonstrations are not ours; ``observe_bullets`` counts."""

    async def observe_bullets(self, shown: Sequence[str], success: bool) -> None:
        ids = tuple(dict.fromkeys(shown))
        for id in ids:
            before = self._exposures.get(id, Exposure())
            self._exposures[id] = Exposure(shown=before.shown + 1, succeeded=before.succeeded + bool(success))
        if self._told is not None:
            await asyncio.to_thread(self._told, ids, success)

    # --- looking ----------------------------------------------------------------------------------------------------

    @property
    def exposures(self) -> dict[str, Exposure]:
        """Outcomes that this object was told of, by id."""
        return dict(self._exposures)

    def page(self) -> Page:
        """The text as of now, what it is made of, and its epoch. Reads the book if it has changed."""
        return self._look().page

    def compact(self) -> Epoch:
        """Begin a new epoch now."""
        return self._look(begin=True).page.epoch

    def _look(self, *, begin: bool = False) -> _Looked:
        with self._lock:
            before = self._looked
            if before is not None and self._source.revision == before.revision and not begin:
                return before
            news, erased = self._news(before)
            bullets = dict(news.bullets) if before is None or erased else {**before.bullets, **news.bullets}
            page = None if begin else self._follow(before, bullets, news.revision, erased)
            page = page or self._begin(bullets, news.revision)
            if self._shortlist is not None:
                standing = frozenset(page.ids)
                others = (one for one in bullets.values() if everybody_sees(one) and one.id not in standing)
                self._shortlist.hold(others, anew=erased)
            self._looked = _Looked(news.revision, news.erasures, bullets, page)
            return self._looked

    def _news(self, before: _Looked | None) -> tuple[Since, bool]:
        """What was written since the last look; all, where something was erased."""
        if before is None:
            return self._source.since(0), False
        news = self._source.since(before.revision)
        if news.erasures == before.erasures and news.revision >= before.revision:
            return news, False
        return self._source.since(0), True

    def _follow(
        self, before: _Looked | None, bullets: Mapping[str, Bullet], revision: int, erased: bool
    ) -> Page | None:
        """The present page after this look; None: it is time for a new epoch."""
        if before is not None:
            page = before.page
        elif self._begin_with is not None:
            page = open_page(self._begin_with, bullets.values(), self._setting)
        else:
            return None
        if revision < page.epoch.revision:  # another book by the same name
            return None
        page = advance(page, bullets.values(), revision=revision, setting=self._setting, anew=erased)
        return None if due(page, self._setting.budget) else page

    def _begin(self, bullets: Mapping[str, Bullet], revision: int) -> Page:
        worth = self._utility(tuple(bullets.values())) if self._utility is not None else None
        epoch = compact(bullets.values(), revision=revision, setting=self._setting, utility=worth)
        return open_page(epoch, bullets.values(), self._setting)

    # --- showing ----------------------------------------------------------------------------------------------------

    def _task_block(self, query: ContextQuery) -> ContextBlock:
        looked = self._look()
        page = looked.page
        drawn = self._canaries(query, looked.bullets.values())
        canaries = [entry(one) for one in in_order(drawn, self._setting.sections)]
        withheld = frozenset(self._withhold(query, (*page.ids, *(one.id for one in canaries))))
        text = text_of(page, self._setting, withheld)
        shown = [one for one in page.entries if one.id not in withheld]
        behind = self._fitting(text, shown, [one for one in canaries if one.id not in withheld])
        shown += behind
        return ContextBlock(text=render(shown, self._setting.sections), bullets=tuple(one.id for one in shown))

    def _canaries(self, query: ContextQuery, bullets: Iterable[Bullet]) -> list[Bullet]:
        found = (one for one in bullets if one.shown and one.stage is Stage.CANARY)
        return [one for one in found if self._drawn(query, one)]

    def _drawn(self, query: ContextQuery, bullet: Bullet) -> bool:
        return draws(query, bullet.id, self._config.canary_share, self._config.seed)

    def _fitting(self, text: str, before: Sequence[Entry], more: Sequence[Entry]) -> list[Entry]:
        """Those for which the limit of the whole text has room."""
        fitting: list[Entry] = []
        for one in more:
            after = [*before, *fitting][-1].section if before or fitting else None
            longer = text + pieces([one], self._setting.sections, after)[0]
            if self._setting.counter.count(longer) <= self._setting.budget.tokens:
                fitting.append(one)
                text = longer
        return fitting

    def _step_block(self, query: ContextQuery, shortlist: Shortlist) -> ContextBlock:
        if self._looked is None:
            self._look()
        never = frozenset(self._withhold(query, shortlist.ids))
        words = "\n".join(part for part in (query.goal, query.observation, query.reasoning) if part)
        chosen: list[Bullet] = []
        for one in shortlist.nearest(words, self._config.top_k, never):
            if self._step_tokens([*chosen, one]) <= self._config.step_tokens:
                chosen.append(one)
        entries = self._step_entries(chosen)
        return ContextBlock(text=render(entries, self._setting.sections), bullets=tuple(one.id for one in entries))

    def _step_tokens(self, bullets: Sequence[Bullet]) -> int:
        return self._setting.counter.count(render(self._step_entries(bullets), self._setting.sections))

    def _step_entries(self, bullets: Sequence[Bullet]) -> list[Entry]:
        return [entry(one) for one in in_order(bullets, self._setting.sections)]


class Both:
    """Two contexts as one: the first one's text, and behind it the second one's.

    The playbook goes first: it is the same for all tasks, and demonstrations differ from task to task.
    """

    def __init__(self, first: Context, second: Context) -> None:
        self._parts = first, second

    @property
    def name(self) -> str:
        return "+".join(part.name for part in self._parts)

    async def for_task(self, query: ContextQuery) -> ContextBlock:
        return _joined([await part.for_task(query) for part in self._parts])

    async def for_step(self, query: ContextQuery) -> ContextBlock:
        return _joined([await part.for_step(query) for part in self._parts])

    async def observe(self, shown: Sequence[DemonstrationRef], success: bool) -> None:
        for part in self._parts:
            await part.observe(shown, success)

    async def observe_bullets(self, shown: Sequence[str], success: bool) -> None:
        for part in self._parts:
            if isinstance(part, BulletObserver):
                await part.observe_bullets(shown, success)


def _joined(blocks: Sequence[ContextBlock]) -> ContextBlock:
    return ContextBlock(
        text="\n\n".join(block.text for block in blocks if block.text),
        demonstrations=tuple(ref for block in blocks for ref in block.demonstrations),
        bullets=tuple(dict.fromkeys(id for block in blocks for id in block.bullets)),
    )
