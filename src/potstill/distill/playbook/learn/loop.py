"""A learning run: turn by turn through its plan, from where its journal ends.

What it knows: the order of things, when to stop, what is kept whatever happens. What it does not do: play, reflect or
write by itself (``playing``, ``studying``, ``writing``, ``keeping``), open models or stores, print.

*Going on exactly.* Each turn does one thing to the book, in one transaction with its row in the journal. A turn that
was interrupted is done again from its beginning, with the book as it was then, and with the same episodes: they are in
the store before anything is learnt from them. So with roles that answer the same when asked the same, a run that was
killed at any place, any number of times, ends with the book of an undisturbed one.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence

from potstill.distill.playbook.book import Playbook
from potstill.distill.playbook.learn import keeping
from potstill.distill.playbook.learn.bill import Bill, Spent
from potstill.distill.playbook.learn.contract import Episodes, Roles, Tasks
from potstill.distill.playbook.learn.desk import Desk
from potstill.distill.playbook.learn.health import Health
from potstill.distill.playbook.learn.journal import Journal, Kind, Row, Skip, forgotten_skip
from potstill.distill.playbook.learn.plan import Turn, turns
from potstill.distill.playbook.learn.playing import Played, Player
from potstill.distill.playbook.learn.policy import NotTaken
from potstill.distill.playbook.learn.result import OnProgress, Progress, Result, Stopped, Story, ignored
from potstill.distill.playbook.learn.settings import Settings, digest_of
from potstill.distill.playbook.learn.studying import Study
from potstill.distill.playbook.learn.together import finished
from potstill.distill.playbook.learn.writing import Tools, Write, learn_from
from potstill.errors import ConfigError, StoreError, UnknownPrice
from potstill.trajectories.learning import FORGOTTEN
from potstill.types import Trajectory

_COSTLY = (Kind.VALIDATE, Kind.PLAY, Kind.LEARN)


async def learn(
    book: Playbook,
    episodes: Episodes,
    roles: Roles,
    settings: Settings | None = None,
    *,
    run: str,
    progress: OnProgress = ignored,
) -> Result:
    """Learn from episodes into a book; called again with the same ``run`` and settings, it goes on where it was.

    The result is of the whole run. Ends early, with what is done kept, where the money is spent or validation gets no
    better (``Result.stopped``); cancelled, it leaves no step half done. An episode whose Generator, Reflector or
    Curator failed is listed as skipped.

    >>> settings = Settings(mode=Mode.BATCH, batch=16)  # doctest: +SKIP
    >>> roles = Roles(reflector=ModelReflector(teacher), curator=ModelCurator(teacher))  # doctest: +SKIP
    >>> result = await learn(book, Recorded(ids=ids), roles, settings, run="monday")  # doctest: +SKIP
    >>> result.applied  # doctest: +SKIP
    {'ADD': 21, 'TAG': 64}

    Raises ``ModelError`` or ``EnvError`` where nothing answers any more, ``ConfigError`` for a run that goes on
    elsewhere or was begun with other settings or episodes, ``UnknownPrice`` where a limit of cost cannot be kept, and
    ``StoreError``. All of these keep what is done.
    """
    settings = settings or Settings()
    with book.store.alone(f"learning/{book.namespace}/{book.name}/{run}") as has:
        if not has:
            raise ConfigError(
                f"Learning run {run!r} of playbook {book.name!r} is going on in another process. Wait for it, or give "
                "this one another run."
            )
        return await _Run(book, episodes, roles, settings, run, progress).go()


class _Run:
    """One sitting."""

    def __init__(
        self, book: Playbook, episodes: Episodes, roles: Roles, settings: Settings, run: str, progress: OnProgress
    ) -> None:
        self._episodes = episodes
        self._settings = settings
        self._run = run
        self._progress = progress
        self._story = Story()
        self._not_taken: list[NotTaken] = []
        self._bill = Bill(roles.price, self._keep_paid)
        health = Health()
        self._player: Player | None = None
        if isinstance(episodes, Tasks):
            self._player = Player(book, run, episodes, roles, settings, health, self._bill)
        self._tools = Tools(
            desk=Desk(book, settings, roles.embedder, roles.kept),
            journal=Journal(book, run),
            roles=roles,
            settings=settings,
            health=health,
            bill=self._bill,
            recorded=self._player is None,
        )
        self._study = Study(
            book.name, roles, settings, health, self._bill, self._player.again if self._player else None
        )

    async def go(self) -> Result:
        plan = list(self._plan())
        await asyncio.to_thread(self._open, plan)
        for turn in plan[self._story.last + 1 :]:
            if self._nothing_to_do(turn):
                continue
            if turn.kind in _COSTLY and self._spent():
                return self._result(Stopped.BUDGET)
            try:
                done = await self._do(turn)
            except BaseException:
                self._keep_the_bill()
                raise
            if done is not None:
                self._note(turn, done, len(plan))
        return self._result(Stopped(self._story.rows[self._story.last].ended))

    # --- where it is ------------------------------------------------------------------------------------------------

    def _plan(self) -> Sequence[Turn]:
        tasks = self._episodes if isinstance(self._episodes, Tasks) else None
        count = len(tasks.tasks) if tasks is not None else len(self._ids)
        validate = tasks is not None and bool(tasks.validation)
        return list(turns(self._settings, count, play=tasks is not None, validate=validate))

    @property
    def _ids(self) -> Sequence[str]:
        """Of what it goes through: episodes, or the tasks of those to come."""
        if isinstance(self._episodes, Tasks):
            return [f"{task.environment}\x1f{task.id}" for task in self._episodes.tasks]
        return list(self._episodes.ids)

    def _open(self, plan: Sequence[Turn]) -> None:
        """Read what is done. Blocks."""
        validation = self._episodes.validation if isinstance(self._episodes, Tasks) else ()
        named = [f"{task.environment}\x1f{task.id}" for task in validation]
        self._digest = digest_of(self._settings, self._ids, named)
        for position, row in self._tools.journal.rows():
            if row.kind is Kind.BEGIN and row.digest != self._digest:
                raise ConfigError(
                    f"Learning run {self._run!r} was begun with other settings or other episodes. Give the same ones "
                    "to go on (only 'parallel' and 'max_cost_usd' may change), or begin another run."
                )
            self._story.add(position, row, plan[position].items if position >= 0 else ())
        self._tools.desk.look()

    def _nothing_to_do(self, turn: Turn) -> bool:
        if turn.kind is Kind.REFINE:
            return not self._story.due
        if turn.kind is Kind.LEARN and not any(self._id(item) for item in turn.items):
            return True
        return turn.kind not in (Kind.BEGIN, Kind.KEEP, Kind.END) and self._out_of_patience

    @property
    def _out_of_patience(self) -> bool:
        return bool(self._settings.patience) and self._story.worse >= self._settings.patience

    def _spent(self) -> bool:
        limit = self._settings.max_cost_usd
        return limit is not None and self._story.cost_usd >= limit

    # --- one turn ---------------------------------------------------------------------------------------------------

    async def _do(self, turn: Turn) -> Write | None:
        """Do it and note it; None: there was nothing to do, and nothing is noted."""
        match turn.kind:
            case Kind.PLAY | Kind.VALIDATE:
                return await self._play(turn)
            case Kind.LEARN:
                return await self._learn(turn)
            case Kind.REFINE:
                revision = self._story.rows[self._story.last].revision
                return await finished(lambda: keeping.refine(self._tools, turn, revision))
            case Kind.KEEP:
                last = self._story.validations[-1] if self._story.validations else None
                return await finished(lambda: keeping.keep_best(self._tools, turn, self._story.best, last))
            case _:
                return await finished(lambda: self._begin_or_end(turn))

    async def _play(self, turn: Turn) -> Write:
        assert self._player is not None
        if turn.kind is Kind.PLAY:
            played = await self._player.window(turn.epoch, turn.items)
        else:
            played = await self._player.validation(turn.number)
        return await finished(lambda: self._played(turn, played))

    def _played(self, turn: Turn, played: Played) -> Write:
        row = Row(
            kind=turn.kind,
            epoch=turn.epoch,
            episodes=played.episodes,
            known=played.known,
            succeeded=played.succeeded,
            skipped=played.skipped,
            revision=self._tools.desk.book.revision,
            spent=self._bill.total(),
        )
        self._tools.journal.note(turn.position, row)
        self._bill.clear()
        return Write(row, ())

    async def _learn(self, turn: Turn) -> Write:
        ids = [self._id(item) for item in turn.items]
        trajectories, gone = await asyncio.to_thread(self._read, [id for id in ids if id])
        await asyncio.to_thread(self._tools.desk.look)
        studied = await self._study.all(trajectories, self._tools.desk.some)
        row = Row(kind=Kind.LEARN, epoch=turn.epoch, episodes=tuple(one.id for one in trajectories), skipped=gone)
        return await learn_from(self._tools, turn, studied, row)

    def _id(self, item: int) -> str:
        """Of an episode by its place; empty where it could not be played."""
        return self._story.episode_of.get(item, "") if self._player is not None else self._ids[item]

    def _read(self, ids: Sequence[str]) -> tuple[list[Trajectory], tuple[Skip, ...]]:
        """Those that are there; others were forgotten, or never were the tenant's."""
        book, found, gone = self._tools.desk.book, [], []
        forgotten = book.forgotten(ids)
        for id in ids:
            if id in forgotten or id.startswith(FORGOTTEN):
                gone.append(forgotten_skip(id))
                continue
            try:
                found.append(book.store.get(id, namespace=book.namespace))
            except StoreError:
                gone.append(Skip(episode=id, why="not-in-the-store"))
        return found, tuple(gone)

    def _begin_or_end(self, turn: Turn) -> Write:
        row = Row(kind=turn.kind, epoch=turn.epoch, revision=self._tools.desk.book.revision)
        if turn.kind is Kind.BEGIN:
            ids = () if self._player is not None else tuple(self._ids)
            row = Row(kind=turn.kind, revision=row.revision, episodes=ids, settings=self._settings, digest=self._digest)
        else:
            ended = Stopped.PATIENCE if self._out_of_patience else Stopped.DONE
            row = Row(kind=turn.kind, epoch=turn.epoch, revision=row.revision, ended=ended)
        self._tools.journal.note(turn.position, row)
        return Write(row, ())

    # --- what is kept -----------------------------------------------------------------------------------------------

    def _note(self, turn: Turn, done: Write, steps: int) -> None:
        self._story.add(turn.position, done.row, turn.items)
        self._not_taken += done.not_taken
        self._progress(
            Progress(
                kind=turn.kind,
                done=turn.position + 1,
                steps=steps,
                epoch=turn.epoch,
                row=done.row,
                cost_usd=self._story.cost_usd,
            )
        )
        if self._settings.max_cost_usd is not None and self._story.unpriced:
            raise UnknownPrice(
                f"A limit of ${self._settings.max_cost_usd} cannot be kept: what {self._story.unpriced} of the calls "
                "cost is not known (a model without a price, or an endpoint that reports no tokens). What was learnt "
                "is kept. Give the model a price, or lift the limit."
            )

    def _keep_the_bill(self) -> None:
        """What a turn cost that came to nothing is still to be paid."""
        with contextlib.suppress(StoreError):
            self._bill.keep()
        self._bill.clear()

    def _keep_paid(self, spent: tuple[Spent, ...]) -> None:
        """Put calls into the journal, for who is killed before the turn is done: it pays for them again, and what was
        paid counts against the limit. Blocks."""
        row = Row(kind=Kind.ASIDE, spent=spent)
        self._story.add(self._tools.journal.aside(row), row)

    def _result(self, stopped: Stopped) -> Result:
        return self._story.result(self._run, self._settings.mode, stopped, self._not_taken)
