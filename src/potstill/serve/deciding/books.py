"""A route's playbook in the student's prompt: whose, where, and the same for the whole episode.

What it knows: the page's place (behind the instructions, frozen for the episode), the place of a request's own bullets
(at the tail), and the lines around both, which no bullet can forge. What it does not do: keep books, choose bullets,
draw lots (``distill.playbook``), put demonstrations beside them (``context``).

Each tenant has books of its own: the name is the route's, the namespace the tenant's. A book that cannot be read, or
not in time, leaves the prompt as it is, with a note.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from potstill.protocols import ContextBlock, ContextQuery
from potstill.record.fold import ENVIRONMENT
from potstill.record.parsing import Situation
from potstill.record.uses import joined
from potstill.run.prompt import PLAYBOOK_HEADING
from potstill.serve.deciding.context import Where, at_the_tail, behind_instructions, first_of, query_of
from potstill.serve.deciding.shared_look import SharedLook
from potstill.serve.settings import Playbook
from potstill.trajectories.store import Store
from potstill.types import PlaybookUse
from potstill.wire.neutral import Prompt

if TYPE_CHECKING:
    from potstill.distill.playbook.context import PlaybookContext
    from potstill.distill.playbook.credit.utility import Measured

END = "End of the playbook."
_EPISODES = 2000
"""Frozen pages that are remembered; an episode beyond that is given the present one, which begins with the same bytes
unless something was compacted or taken out."""
_BOOKS = 256
"""Of all tenants that are held in memory; the others are read again."""


class Taught(NamedTuple):
    """A prompt with what it shows of a playbook."""

    prompt: Prompt
    use: PlaybookUse | None = None
    bullets: tuple[str, ...] = ()
    """Those of this request alone."""
    note: str = ""

    def heard(self, said: Iterable[str]) -> PlaybookUse | None:
        """The use, with the bullets that the student's own words name."""
        if self.use is None:
            return None
        from potstill.distill.playbook.border import cited

        return msgspec.structs.replace(self.use, cited=cited("\n".join(said), frozenset(self.use.shown)))


def load() -> None:
    """Import what showing a playbook takes, some 0.2 s, so that no request waits for it."""
    from potstill.distill.playbook import border
    from potstill.distill.playbook.context import PlaybookConfig
    from potstill.distill.playbook.credit import utility
    from potstill.retrieval.registry import ranker_factory

    ranker_factory(PlaybookConfig().ranker)()
    border.cited("", frozenset())
    utility.utilities({})


class _Shelved(NamedTuple):
    context: PlaybookContext
    look: SharedLook[int]
    """Reads what is new in the book, and says how often something was erased from it."""


class Books:
    """The playbooks of one store. One event loop; books are read in threads."""

    def __init__(self, store: Store | None, environment: str = ENVIRONMENT) -> None:
        self._store = store
        self._environment = environment
        self._contexts: OrderedDict[tuple[str, Playbook], _Shelved] = OrderedDict()
        self._texts: dict[tuple[str, Playbook], str] = {}
        self._erasures: dict[tuple[str, Playbook], int] = {}
        self._frozen: OrderedDict[tuple[str, Playbook, str], ContextBlock] = OrderedDict()

    async def teach(self, prompt: Prompt, settings: Playbook, situation: Situation, where: Where) -> Taught:
        """The prompt with what the route's settings show. Never raises but for cancellation."""
        if self._store is None or not settings.name:
            return Taught(prompt)
        query = query_of(situation, where, self._environment)
        try:
            async with asyncio.timeout(settings.deadline_s):
                page, own = await self._blocks(self._store, query, settings, where)
        except TimeoutError:
            return Taught(prompt, note=f"no playbook: reading it took over {settings.deadline_s:g} s")
        except Exception as problem:  # whatever breaks in a book or a ranker: the student is asked without
            return Taught(prompt, note=f"no playbook: {type(problem).__name__}: {problem}")
        if page.text:
            prompt = behind_instructions(prompt, block_of(page.text))
        if own.text:
            prompt = at_the_tail(prompt, block_of(own.text))
        return Taught(prompt, joined((_use(page), _use(own))), own.bullets)

    async def _blocks(
        self, store: Store, query: ContextQuery, settings: Playbook, where: Where
    ) -> tuple[ContextBlock, ContextBlock]:
        whose = (where.namespace, settings)
        context, look = self._shelved(store, *whose)
        self._forget(whose, await look.ask(settings.deadline_s))
        key = (*whose, where.episode_id)
        while (page := self._frozen.get(key)) is None:
            erasures = self._erasures.get(whose)
            made = await context.for_task(first_of(query))
            if self._erasures.get(whose) == erasures:  # else somebody saw an erasure that this page may not know of
                page = self._frozen.setdefault(key, self._once(whose, made))
                break
        self._frozen.move_to_end(key)
        while len(self._frozen) > _EPISODES:
            self._frozen.popitem(last=False)
        return page, await context.for_step(query)

    def _forget(self, whose: tuple[str, Playbook], erasures: int) -> None:
        """Where something was erased from a book, no episode goes on with a page from before."""
        if self._erasures.setdefault(whose, erasures) == erasures:
            return
        self._erasures[whose] = erasures
        self._texts.pop(whose, None)
        for key in [key for key in self._frozen if key[:2] == whose]:
            del self._frozen[key]

    def _once(self, whose: tuple[str, Playbook], page: ContextBlock) -> ContextBlock:
        """The block with the text of the one before where both are equal: most episodes share their page's memory."""
        text = self._texts.get(whose, "")
        if text == page.text:
            return msgspec.structs.replace(page, text=text)
        self._texts[whose] = page.text
        return page

    def _shelved(self, store: Store, namespace: str, settings: Playbook) -> _Shelved:
        from potstill.distill.playbook.book import Playbook as Book
        from potstill.distill.playbook.budget import Budget
        from potstill.distill.playbook.context import PlaybookConfig, PlaybookContext
        from potstill.distill.playbook.credit.utility import Measured

        key = (namespace, settings)
        if key not in self._contexts:
            config = PlaybookConfig(
                budget=Budget(tokens=settings.max_tokens),
                top_k=settings.top_k,
                step_tokens=settings.step_tokens,
                canary_share=settings.canary_share,
                holdout_share=settings.holdout_share,
            )
            book = Book(store, namespace, settings.name)
            measured = Measured(book, beside=True)
            context = PlaybookContext.of(book, config, utility=measured)
            self._contexts[key] = _Shelved(context, SharedLook(lambda: _look(context, measured)))
        self._contexts.move_to_end(key)
        while len(self._contexts) > _BOOKS:
            dropped, _ = self._contexts.popitem(last=False)
            self._forget(dropped, -1)
            self._erasures.pop(dropped, None)
        return self._contexts[key]


def _look(context: PlaybookContext, measured: Measured) -> int:
    """In a thread. Where bullets have no room, a later compaction will want to know what was measured: beside it, once
    an hour."""
    erasures = context.erasures()
    if context.left_out:
        measured.refresh()
    return erasures


def _use(block: ContextBlock) -> PlaybookUse | None:
    if not block.playbook:
        return None
    return PlaybookUse(
        name=block.playbook,
        revision=block.revision,
        shown=block.bullets,
        withheld=block.withheld,
        trial=block.trial,
    )


def block_of(text: str) -> str:
    """The block with its first and last line. A bullet's lines begin with its id or are indented (``render``), so none
    of them can begin a line as these do."""
    return f"{PLAYBOOK_HEADING}\n\n{text}\n\n{END}"
