"""A playbook as ``protocols.Context``, alone or beside demonstrations.

What it knows: which text an episode and a step are given, and what became of the episodes that were shown a bullet.
What it does not do: keep the book (a ``Source`` reads it), look at it (``looking``), estimate what a bullet is worth,
put text into prompts.

``for_task`` gives the page: the same bytes for every episode until the book changes, and then the same bytes with
something behind them (``page`` says when not). Behind it stand the canaries that this task draws. ``for_step`` gives
bullets that the page has no room for and that are near to the step; it is a block of its own, behind the page. Bullets
that stand on the page are not repeated there. What would stand there and is withheld by lot (``holdout``) leaves its
place empty: nothing comes in for it, so that its absence is all that is compared. A line that does not say yet what
its bullet says now is shown to all and named to nobody: what becomes of the episode is no word on the new text.

Nothing is remembered of an episode, so one object serves any number at once. The draws depend on the task, the episode,
the bullet and the seed alone: asked twice, an episode gets the same answer. The book is looked at when an episode
begins, so what is removed or quarantined is gone from the next episode on and, among a step's bullets, from the next
look on.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence

from potstill.distill.playbook import border
from potstill.distill.playbook.book import Playbook
from potstill.distill.playbook.budget import Budget
from potstill.distill.playbook.holdout import draw, draws
from potstill.distill.playbook.keeper import EpochKeeper
from potstill.distill.playbook.looking import Looked, Looker, Source, Utility
from potstill.distill.playbook.operations import Bullet
from potstill.distill.playbook.page import Epoch, Page, Setting, everybody_sees, standing_as
from potstill.distill.playbook.render import Entry, entry, in_order, pieces, render
from potstill.distill.playbook.sections import DEFAULT, sections_named
from potstill.distill.playbook.shortlist import Shortlist
from potstill.errors import ConfigError
from potstill.protocols import BulletObserver, BulletReader, Context, ContextBlock, ContextQuery, TokenCounter
from potstill.retrieval.registry import ranker_factory
from potstill.retrieval.tokens import EstimatedTokens
from potstill.run.prompt import heading_of
from potstill.types import DemonstrationRef, Struct


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
    holdout_share: float = 0.1
    """Share of the episodes that are trials: each of them is not shown about half of the bullets (``holdout``)."""
    seed: int = 0

    def __post_init__(self) -> None:
        for name, value in (("top_k", self.top_k), ("step_tokens", self.step_tokens)):
            if value < 0:
                raise ConfigError(f"A playbook's {name} is {value}; it must be 0 or more.")
        for name, share in (("canary_share", self.canary_share), ("holdout_share", self.holdout_share)):
            if not 0 <= share <= 1:
                raise ConfigError(f"A playbook's {name} is {share:g}; it must be a share from 0 to 1, such as 0.1.")

    def setting(self, counter: TokenCounter | None = None) -> Setting:
        """What the page depends on."""
        sections = sections_named(*self.sections) if self.sections else DEFAULT
        return Setting(budget=self.budget, sections=sections, counter=counter or EstimatedTokens())


class Exposure(Struct, frozen=True, kw_only=True):
    """Episodes that were shown a bullet."""

    shown: int = 0
    succeeded: int = 0


class PlaybookContext:
    """Shows a playbook to episodes of its namespace. One event loop; the book is read and ranked in threads.

    ``keeper``: where the page is kept, so that other processes show the same bytes. Errors of the source are raised,
    ``ConfigError`` for an episode of another namespace.
    """

    def __init__(
        self,
        source: Source,
        config: PlaybookConfig | None = None,
        *,
        name: str = "playbook",
        counter: TokenCounter | None = None,
        utility: Utility | None = None,
        keeper: EpochKeeper | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.name = name
        self._source = source
        self._config = config or PlaybookConfig()
        self._setting = self._config.setting(counter)
        self._shortlist = Shortlist(ranker_factory(self._config.ranker)) if self._config.top_k else None
        self._looker = Looker(source, self._setting, keeper=keeper, utility=utility, changed=self._hold, clock=clock)
        self._exposures: dict[str, Exposure] = {}

    @classmethod
    def of(
        cls,
        book: Playbook,
        config: PlaybookConfig | None = None,
        *,
        counter: TokenCounter | None = None,
        utility: Utility | None = None,
        clock: Callable[[], float] = time.time,
    ) -> PlaybookContext:
        """A book of a store, whose page is kept there: all processes on the store show the same bytes, and so do those
        that come later."""
        config = config or PlaybookConfig()
        keeper = EpochKeeper(book, config.setting(counter))
        return cls(book, config, counter=counter, utility=utility, keeper=keeper, clock=clock)

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
        for id in dict.fromkeys(shown):
            before = self._exposures.get(id, Exposure())
            self._exposures[id] = Exposure(shown=before.shown + 1, succeeded=before.succeeded + bool(success))

    def cited(self, said: str, shown: Sequence[str]) -> tuple[str, ...]:
        return border.cited(said, frozenset(shown))

    # --- looking ----------------------------------------------------------------------------------------------------

    @property
    def exposures(self) -> dict[str, Exposure]:
        """Outcomes that this object was told of, by id: a view of this process's. Credit reads the store's uses."""
        return dict(self._exposures)

    def page(self) -> Page:
        """The text as of now, what it is made of, and its epoch. Reads the book if it has changed."""
        return self._looker.look().page

    def erasures(self) -> int:
        """Another number than before: something was erased from the book, and no page from before may be shown on."""
        return self._looker.look().erasures

    def compact(self) -> Epoch:
        """Begin a new epoch now."""
        return self._looker.look(begin=True).page.epoch

    async def catch_up(self) -> None:
        """Begin a new epoch where lines are out of date or bullets wait for room: for who plays episodes to see what
        was just written, and can do without the cached prefix. Episodes at once share one."""
        await asyncio.to_thread(lambda: self._looker.look(catch_up=True))

    @property
    def left_out(self) -> bool:
        """Whether the page had no room for all bullets, as it was last looked at; nothing is read."""
        last = self._looker.last
        return last is not None and bool(last.page.epoch.left_out or last.page.epoch.pinned_out or last.page.waiting)

    def _hold(self, looked: Looked, anew: bool) -> None:
        if self._shortlist is not None:
            standing = frozenset(looked.page.ids)
            others = (one for one in looked.bullets.values() if everybody_sees(one) and one.id not in standing)
            self._shortlist.hold(others, anew=anew)

    # --- showing ----------------------------------------------------------------------------------------------------

    def _task_block(self, query: ContextQuery) -> ContextBlock:
        self._must_be_of(query)
        looked = self._looker.look()
        canaries = in_order(self._canaries(query, looked.canaries), self._setting.sections)
        behind = self._fitting(looked.page.entries, [entry(one) for one in canaries])
        standing = (*looked.page.entries, *behind)
        return self._block(query, looked.revision, standing, [looked.bullets[one.id] for one in standing])

    def _block(
        self, query: ContextQuery, revision: int, standing: Sequence[Entry], bullets: Iterable[Bullet]
    ) -> ContextBlock:
        """What stands there, without what is withheld from this episode."""
        now = [bullet for one, bullet in zip(standing, bullets, strict=True) if standing_as(one, bullet)]
        free = (one.id for one in now if not one.pinned)
        lots = draw(query, free, share=self._config.holdout_share, seed=self._config.seed)
        shown = [one for one in standing if one.id not in lots.withheld]
        return ContextBlock(
            text=render(shown, self._setting.sections),
            bullets=tuple(one.id for one in now if one.id not in lots.withheld),
            withheld=tuple(one.id for one in standing if one.id in lots.withheld),
            trial=lots.trial,
            playbook=self._source.name,
            revision=revision,
        )

    def _must_be_of(self, query: ContextQuery) -> None:
        if query.namespace != self._source.namespace:
            raise ConfigError(
                f"Playbook {self._source.name!r} belongs to namespace {self._source.namespace!r}; an episode of "
                f"namespace {query.namespace!r} is not shown it. Open that namespace's own."
            )

    def _canaries(self, query: ContextQuery, bullets: Iterable[Bullet]) -> list[Bullet]:
        return [one for one in bullets if draws(query, one.id, self._config.canary_share, self._config.seed)]

    def _fitting(self, before: Sequence[Entry], more: Sequence[Entry]) -> list[Entry]:
        """Those for which the limit of the whole text has room."""
        fitting: list[Entry] = []
        text = render(before, self._setting.sections)
        for one in more:
            after = [*before, *fitting][-1].section if before or fitting else None
            longer = text + pieces([one], self._setting.sections, after)[0]
            if self._setting.counter.count(longer) <= self._setting.budget.tokens:
                fitting.append(one)
                text = longer
        return fitting

    def _step_block(self, query: ContextQuery, shortlist: Shortlist) -> ContextBlock:
        self._must_be_of(query)
        looked = self._looker.last or self._looker.look()
        words = "\n".join(part for part in (query.goal, query.observation, query.reasoning) if part)
        chosen: list[Bullet] = []
        for one in shortlist.nearest(words, self._config.top_k):
            if self._step_tokens([*chosen, one]) <= self._config.step_tokens:
                chosen.append(one)
        return self._block(query, looked.revision, self._step_entries(chosen), chosen)

    def _step_tokens(self, bullets: Sequence[Bullet]) -> int:
        return self._setting.counter.count(render(self._step_entries(bullets), self._setting.sections))

    def _step_entries(self, bullets: Sequence[Bullet]) -> list[Entry]:
        return [entry(one) for one in in_order(bullets, self._setting.sections)]


class Both:
    """Two contexts as one, a playbook and demonstrations: the first one's text, and behind it the second one's.

    The playbook goes first: it is the same for all tasks, and demonstrations differ from task to task. Where both have
    something to show, the second one's stands behind a heading of its own.
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

    def cited(self, said: str, shown: Sequence[str]) -> tuple[str, ...]:
        named = (id for part in self._parts if isinstance(part, BulletReader) for id in part.cited(said, shown))
        return tuple(dict.fromkeys(named))


def _joined(blocks: Sequence[ContextBlock]) -> ContextBlock:
    books = [block for block in blocks if block.playbook]
    if len({block.playbook for block in books}) > 1:
        raise ConfigError(
            f"An episode is shown one playbook, not both {' and '.join(block.playbook for block in books)}: "
            "their bullets have the same ids. Name one."
        )
    bullets = tuple(dict.fromkeys(id for block in blocks for id in block.bullets))
    return ContextBlock(
        text=_texts(sorted((block for block in blocks if block.text), key=lambda block: not block.bullets)),
        demonstrations=tuple(ref for block in blocks for ref in block.demonstrations),
        bullets=bullets,
        withheld=tuple(dict.fromkeys(id for block in books for id in block.withheld if id not in bullets)),
        trial=any(block.trial for block in books),
        playbook=books[0].playbook if books else "",
        revision=books[0].revision if books else 0,
    )


def _texts(blocks: Sequence[ContextBlock]) -> str:
    """Who puts it into a prompt writes the first one's heading."""
    return "\n\n".join(f"{heading_of(block)}\n\n{block.text}" if at else block.text for at, block in enumerate(blocks))
