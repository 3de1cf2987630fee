"""What a learning run came to: added up from its journal, so the same for a run that was interrupted.

What it knows: rows of the journal. What it does not do: print.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Protocol

from potstill.distill.playbook.book import Playbook
from potstill.distill.playbook.learn.bill import Spent, added, cost_usd
from potstill.distill.playbook.learn.journal import Journal, Kind, Row, Skip, settings_of
from potstill.distill.playbook.learn.policy import NotTaken
from potstill.distill.playbook.learn.settings import Mode
from potstill.types import Struct


class Stopped(StrEnum):
    """Why a sitting ended."""

    DONE = "done"
    BUDGET = "budget"
    """``max_cost_usd`` is spent. With a higher one the run goes on."""
    PATIENCE = "patience"
    """Validation got no better for long enough."""
    OPEN = "open"
    """It is in progress, or was interrupted."""


class Validated(Struct, frozen=True, kw_only=True):
    """How the book did on the tasks that nothing is learnt from."""

    position: int
    epoch: int
    revision: int
    """Of the book that was judged."""
    episodes: int
    """Of which somebody said how they ended."""
    succeeded: int

    @property
    def share(self) -> float | None:
        return self.succeeded / self.episodes if self.episodes else None


class Result(Struct, frozen=True, kw_only=True):
    """Everything that a run did up to now, over all its sittings."""

    run: str
    mode: Mode
    stopped: Stopped
    epochs: int
    """That were begun."""
    episodes: int
    """That were learnt from, each time that they were; not those whose Reflector or Curator gave nothing usable."""
    known: int
    """Episodes that were played for learning, and of which somebody said how they ended."""
    succeeded: int
    """Of these; each with the book as it was before it was learnt from."""
    validations: tuple[Validated, ...]
    back_to: int | None
    """The revision that was gone back to, because later ones did worse in validation."""
    applied: dict[str, int]
    """Operations that were written, by their names."""
    repeats: int
    """``ADD``s that said what the book says already."""
    refused: dict[str, int]
    """What was proposed and not written, by why."""
    not_taken: tuple[NotTaken, ...]
    """The same in sentences and with the operations, of this sitting alone: a journal keeps no texts."""
    skipped: tuple[Skip, ...]
    """Episodes that were not learnt from."""
    spent: tuple[Spent, ...]
    """By part and model, with what came to nothing."""
    first_revision: int
    revision: int
    """The book's before the run and after it."""

    @property
    def cost_usd(self) -> float | None:
        """None: there are calls whose price is not known."""
        return None if any(one.without_price for one in self.spent) else cost_usd(self.spent)

    @property
    def before(self) -> Validated | None:
        """The first validation, before anything was learnt."""
        return self.validations[0] if self.validations else None

    @property
    def after(self) -> Validated | None:
        """How the book that stays did: the best validation where it was gone back to, else the last one."""
        if self.back_to is not None:
            return next(one for one in self.validations if one.revision == self.back_to)
        return self.validations[-1] if self.validations else None


class Progress(Struct, frozen=True, kw_only=True):
    """Told after each step."""

    kind: Kind
    done: int
    """Steps, with this one."""
    steps: int
    """Of the whole run, at most."""
    epoch: int
    row: Row
    """What this step did."""
    cost_usd: float
    """Of all calls so far whose price is known."""


class OnProgress(Protocol):
    """Called from the event loop; must not block."""

    def __call__(self, progress: Progress, /) -> None: ...


def ignored(progress: Progress, /) -> None:
    """For those who do not want to know."""


class Story:
    """A run's rows, as far as they go."""

    def __init__(self) -> None:
        self.rows: dict[int, Row] = {}
        self.asides: list[Row] = []
        self.validations: list[Validated] = []
        self.best: Validated | None = None
        self.worse = 0
        """Validations since one was better than all before it."""
        self.episode_of: dict[int, str] = {}
        """Ids of the window that is being learnt from, by place."""
        self.cost_usd = 0.0
        self.unpriced = 0

    @property
    def last(self) -> int:
        """The last position that is done; -1: none."""
        return max(self.rows, default=-1)

    @property
    def due(self) -> bool:
        """Whether a refinement should follow the last step."""
        return bool(self.rows) and self.rows[self.last].due

    def add(self, position: int, row: Row, items: Sequence[int] = ()) -> None:
        """``items``: of ``PLAY``, which places were played."""
        self.cost_usd += cost_usd(row.spent)
        self.unpriced += sum(one.without_price for one in row.spent)
        if position < 0:
            self.asides.append(row)
            return
        self.rows[position] = row
        if row.kind is Kind.PLAY:
            self.episode_of = dict(zip(items, row.episodes, strict=True))
        if row.kind is Kind.VALIDATE:
            self._validated(position, row)

    def _validated(self, position: int, row: Row) -> None:
        one = Validated(
            position=position, epoch=row.epoch, revision=row.revision, episodes=row.known, succeeded=row.succeeded
        )
        self.validations.append(one)
        best = self.best.share if self.best is not None else None
        if one.share is None:
            return
        self.worse = 0 if best is None or one.share > best else self.worse + 1
        if best is None or one.share >= best:
            self.best = one

    def result(self, run: str, mode: Mode, stopped: Stopped, not_taken: Sequence[NotTaken] = ()) -> Result:
        rows = [self.rows[position] for position in sorted(self.rows)]
        learnt = [row for row in rows if row.kind is Kind.LEARN]
        played = [row for row in rows if row.kind is Kind.PLAY]
        return Result(
            run=run,
            mode=mode,
            stopped=stopped,
            epochs=1 + max((row.epoch for row in learnt), default=-1),
            episodes=sum(len(taught(row)) for row in learnt),
            known=sum(row.known for row in played),
            succeeded=sum(row.succeeded for row in played),
            validations=tuple(self.validations),
            back_to=next((row.back_to for row in rows if row.back_to is not None), None),
            applied=_sum([row.applied for row in rows]),
            repeats=sum(row.repeats for row in rows),
            refused=_sum([row.refused for row in rows]),
            not_taken=tuple(not_taken),
            skipped=tuple(skip for row in rows for skip in row.skipped),
            spent=added(one for row in [*rows, *self.asides] for one in row.spent),
            first_revision=rows[0].revision if rows else 0,
            revision=rows[-1].revision if rows else 0,
        )


def taught(row: Row) -> set[str]:
    """Of ``LEARN``: the episodes that were learnt from, also where they taught nothing new."""
    return set(row.episodes) - {skip.episode for skip in row.skipped}


def _sum(counts: Sequence[Mapping[str, int]]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for one in counts:
        total.update(one)
    return dict(sorted(total.items()))


def result_of(book: Playbook, run: str) -> Result:
    """What a run has done up to now, read from its journal. Raises ``StoreError`` where there is no such run."""
    mode = settings_of(book, run).mode
    story = Story()
    for position, row in Journal(book, run).rows():
        story.add(position, row, range(len(row.episodes)))
    ended = story.rows[story.last].ended
    return story.result(run, mode, Stopped(ended) if ended else Stopped.OPEN)
