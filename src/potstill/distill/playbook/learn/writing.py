"""From lessons to a batch that is written: the Curator, the gates, compare-and-set, and what becomes of who was late.

What it knows: the one way in which all modes write. What it does not do: reflect (``studying``), say what may be
proposed (``policy``), find near-duplicates (``desk``).

Each group of lessons gets a call of the Curator. What they propose is joined with the Reflector's votes into one batch,
which is written with the position that it does. Where others changed a bullet meanwhile, nothing of the batch is
written: the groups that named the bullet are asked again with the reason, and those that are late each time go into the
result as they are. The votes conflict with nothing and are written in any case.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec

from potstill.distill.playbook import neutral
from potstill.distill.playbook.apply import MAX_REASON_CHARACTERS, Refused, kind_of, named
from potstill.distill.playbook.apply import Why as RefusedWhy
from potstill.distill.playbook.learn.bill import Bill, Part
from potstill.distill.playbook.learn.contract import Roles
from potstill.distill.playbook.learn.desk import Desk, Gated
from potstill.distill.playbook.learn.doubts import ACTOR
from potstill.distill.playbook.learn.groups import grouped, joined
from potstill.distill.playbook.learn.health import Health
from potstill.distill.playbook.learn.journal import Journal, Row, Skip, forgotten_skip
from potstill.distill.playbook.learn.live import Done, careful
from potstill.distill.playbook.learn.plan import Turn
from potstill.distill.playbook.learn.policy import NotTaken, Why, counted, permitted, trust
from potstill.distill.playbook.learn.settings import Refinement, Settings
from potstill.distill.playbook.learn.studying import Studied
from potstill.distill.playbook.learn.together import finished, together
from potstill.distill.playbook.operations import MAX_OPERATIONS, Batch, Bullet, Operation, Stage, Tag
from potstill.distill.playbook.roles.asking import metered
from potstill.distill.playbook.roles.contract import Lesson, Signal
from potstill.errors import ModelError

_REASON_ROOM = 400
"""Characters of a batch's reason that the near-duplicate gate may use, and what is said of live bullets."""
_MOST = MAX_OPERATIONS // 3
"""Operations of one batch; what keeps live bullets from canaries and the gate may each add as many."""


_STAGES = tuple(Stage)


class Group:
    """Lessons that one call of the Curator sees, and what it proposed."""

    def __init__(self, lessons: Sequence[Lesson]) -> None:
        self.lessons = tuple(lessons)
        self.signal = trust(lessons)
        self.operations: tuple[Operation, ...] = ()
        self.saw: Mapping[str, Bullet] = {}
        self.reasoning = ""
        self.objections: list[str] = []
        self.asked = 0
        self.waits = True
        """To be asked, for the first time or again."""
        self.told = False
        """Why a merge of live bullets was not taken; once."""
        self.failed = ""
        """The kind of the error, where it could not be asked, or why nothing of its answer could be used."""

    def overtaken(self, bullets: Mapping[str, Bullet]) -> bool:
        """Whether a bullet that it wants to change is no longer as it saw it."""
        ids = [id for operation in self.operations for id in named(operation)]
        return any(id not in bullets or bullets[id].revision != self.saw[id].revision for id in ids)

    def changed(self, bullets: Mapping[str, Bullet]) -> str:
        """In words, what overtook it."""
        ids = dict.fromkeys(id for operation in self.operations for id in named(operation))
        late = [id for id in ids if id not in bullets or bullets[id].revision != self.saw[id].revision]
        return f"{', '.join(late)} was changed since it was read. Read it again and decide again."


class Write(NamedTuple):
    """What came of one step of learning."""

    row: Row
    not_taken: tuple[NotTaken, ...]


class Tools(NamedTuple):
    """What a step of learning works with."""

    desk: Desk
    journal: Journal
    roles: Roles
    settings: Settings
    health: Health
    bill: Bill
    recorded: bool
    """Episodes that others played, in production."""

    @property
    def prefix(self) -> str:
        """Of the keys of what this run writes."""
        return f"learn/{hashlib.sha256(self.journal.run.encode(errors='surrogatepass')).hexdigest()[:16]}/"

    def key(self, turn: Turn, sources: Sequence[str] = (), part: int = 0) -> str:
        """What a batch is known by: the same step of the same run is applied once."""
        said = [self.settings.mode, turn.epoch, turn.position, turn.kind, list(sources), part]
        return f"{self.prefix}{hashlib.sha256(msgspec.json.encode(said)).hexdigest()}"


async def learn_from(tools: Tools, turn: Turn, studied: Sequence[Studied], row: Row) -> Write:
    """Write what these episodes teach, as the position of this turn. ``row``: what is known of them already.

    Raises ``ModelError`` where no Curator answers, ``StoreError``; nothing is written then, and the position is not
    done.
    """
    return await _Step(tools, turn, studied, row).run()


class _Step:
    """One position on its way into the book."""

    def __init__(self, tools: Tools, turn: Turn, studied: Sequence[Studied], row: Row) -> None:
        self._tools = tools
        self._turn = turn
        self._row = row
        self._studied = studied
        self._groups = _grouped([one.lesson for one in studied if one.lesson is not None], tools.settings, turn)
        self._votes = True
        self._not_taken = [refused for one in studied for refused in one.refused]

    async def run(self) -> Write:
        desk = self._tools.desk
        left = (self._tools.settings.attempts + 1) * len(self._groups) + 3
        await asyncio.to_thread(desk.look)
        while True:
            if await self._ask():
                await asyncio.to_thread(desk.look)
                self._send_back(None)
                if any(group.waits for group in self._groups):
                    continue
            try:
                return await finished(self._write)
            except Refused as refused:
                if refused.why is RefusedWhy.FORGOTTEN:
                    self._drop(refused.id)
                    continue
                await asyncio.to_thread(desk.look)
                self._send_back(refused.reason)
                left -= 1
                if not left:
                    self._leave_all(refused.reason)

    def _drop(self, episode: str) -> None:
        """Go on without an episode that was forgotten meanwhile: the Curator is asked anew, without its lesson."""
        self._studied = [one for one in self._studied if one.case.id != episode]
        self._row = msgspec.structs.replace(
            self._row,
            episodes=tuple(id for id in self._row.episodes if id != episode),
            skipped=(*self._row.skipped, forgotten_skip(episode)),
        )
        lessons = [one.lesson for one in self._studied if one.lesson is not None]
        self._groups = _grouped(lessons, self._tools.settings, self._turn)

    # --- asking -----------------------------------------------------------------------------------------------------

    async def _ask(self) -> bool:
        """Ask who waits to be asked; False: nobody does."""
        tools = self._tools
        waiting = [group for group in self._groups if group.waits]
        bullets = tools.desk.nameable()
        errors = await together((self._ask_one(group, bullets) for group in waiting), tools.settings.parallel)
        tools.health.saw(Part.CURATOR, errors)
        tools.health.check()
        return bool(waiting)

    async def _ask_one(self, group: Group, bullets: Mapping[str, Bullet]) -> ModelError | None:
        tools = self._tools
        group.waits, group.failed, group.operations = False, "", ()
        group.asked += 1
        try:
            asked = tools.roles.curator.curate(group.lessons, bullets, tuple(group.objections))
            said = await metered(asked, lambda calls: tools.bill.paid(Part.CURATOR, calls))
        except ModelError as error:
            group.failed = type(error).__name__
            return error
        taken = permitted(said.operations, bullets, group.signal, tools.settings, tools.desk.alike, tools.recorded)
        group.operations, group.saw, group.reasoning = taken.operations, bullets, said.reasoning
        if self._told(group, taken.refused):
            return None
        self._not_taken += [*(NotTaken(one.why, str(one)) for one in said.refused), *taken.refused]
        if said.refused and not said.operations:
            group.failed = str(said.refused[0].why)
        return None

    def _told(self, group: Group, refused: Sequence[NotTaken]) -> bool:
        """Whether the Curator is asked once more, for what it would have made of live bullets: its lesson may have
        stood in a text that is not taken."""
        reasons = [one.message for one in refused if one.why == Why.UNLIKE]
        if not reasons or group.told or group.asked > self._tools.settings.attempts:
            return False
        group.told = group.waits = True
        group.objections += reasons
        return True

    def _send_back(self, reason: str | None) -> None:
        """Whoever was overtaken is asked again with the reason, as often as the settings say. ``reason``: a batch was
        refused for it."""
        bullets = self._tools.desk.nameable()
        late = [group for group in self._groups if group.operations and group.overtaken(bullets)]
        if reason is not None and not late:
            late = [group for group in self._groups if group.operations]
        for group in late:
            if group.asked <= self._tools.settings.attempts:
                group.objections.append(reason or group.changed(bullets))
                group.waits = True
            else:
                self._leave(group, reason or group.changed(bullets))

    def _leave(self, group: Group, reason: str) -> None:
        self._not_taken += [NotTaken(Why.OVERTAKEN, reason, operation) for operation in group.operations]
        group.operations, group.waits = (), False

    def _leave_all(self, reason: str) -> None:
        for group in self._groups:
            self._leave(group, reason)
        self._votes = False

    # --- writing ----------------------------------------------------------------------------------------------------

    def _write(self) -> Write:
        """Note the position, with the batch where there is one. Blocks; raises ``Refused``."""
        tools, position = self._tools, self._turn.position
        batch, against = self._batch()
        gated = tools.desk.gated(batch) if batch.operations else Gated(batch, 0, False)
        not_taken = (*self._not_taken, *against)
        row = self._finished(gated, not_taken)
        if gated.batch.operations:
            noted = tools.journal.noted(position, row, refine_unless=tools.desk.revision + 1)
            applied = tools.desk.book.apply(gated.batch, noted=noted)
            due = row.due or applied.revision != tools.desk.revision + 1
            row = msgspec.structs.replace(row, revision=applied.revision, due=due)
        else:
            tools.journal.note(position, row)
        tools.bill.clear()
        return Write(row, not_taken)

    def _batch(self) -> tuple[Batch, list[NotTaken]]:
        merged = joined([group.operations for group in self._groups])
        operations = [*self._tags(), *merged.operations]
        against = [NotTaken(Why.OUTVOTED, "Another group of the batch says otherwise.", one) for one in merged.against]
        too_many = f"A batch of learning has at most {_MOST} operations."
        against += [NotTaken(Why.TOO_MANY, too_many, one) for one in operations[_MOST:]]
        kept = self._careful(operations[:_MOST])
        against += kept.not_taken
        sources = tuple(one.case.id for one in self._studied if one.lesson is not None or one.tags)
        reasons = " ".join(group.reasoning for group in self._groups if group.operations)
        batch = Batch(
            operations=kept.operations,
            actor=ACTOR,
            sources=tuple(dict.fromkeys(sources)),
            key=self._tools.key(self._turn, sources),
            base=self._tools.desk.revision,
            reason=f"{neutral.line(reasons, MAX_REASON_CHARACTERS - 2 * _REASON_ROOM)} {kept.said}".strip(),
        )
        return batch, against

    def _careful(self, operations: Sequence[Operation]) -> Done:
        """``live.careful``; where several groups propose the same, the least trusted of them counts."""
        stages: dict[Operation, Stage] = {}
        for group in self._groups:
            stage = self._tools.settings.first_stage(group.signal, recorded=self._tools.recorded)
            for one in group.operations:
                stages[one] = min(stages.get(one, stage), stage, key=_STAGES.index)
        staged = [(one, stages.get(one, Stage.LIVE)) for one in operations]
        desk = self._tools.desk
        return careful(staged, desk.bullets, desk.alike, desk.helping, episodes=len(self._studied))

    def _tags(self) -> list[Tag]:
        """One vote of each episode on each bullet, added up; however often, and in whatever run, it is learnt from."""
        sums: dict[str, Tag] = {}
        for one in self._studied if self._votes else ():
            voted = self._tools.desk.voted(one.case.id) if one.tags else ()
            for tag in counted(one.tags, self._tools.desk.bullets, one.case.signal):
                if tag.id in voted:
                    continue
                old = sums.get(tag.id, Tag(id=tag.id))
                sums[tag.id] = Tag(
                    id=tag.id,
                    helpful=old.helpful + tag.helpful,
                    harmful=old.harmful + tag.harmful,
                    neutral=old.neutral + tag.neutral,
                )
        return [sums[id] for id in sorted(sums)]

    def _finished(self, gated: Gated, not_taken: Sequence[NotTaken]) -> Row:
        tools = self._tools
        failed = {id for group in self._groups if group.failed for lesson in group.lessons for id in lesson.sources}
        heard = {id for group in self._groups if not group.failed for lesson in group.lessons for id in lesson.sources}
        why = next((group.failed for group in self._groups if group.failed), "")
        skipped = [one.skip for one in self._studied if one.skip is not None]
        skipped += [Skip(episode=id, why=why) for id in sorted(failed - heard)]
        return msgspec.structs.replace(
            self._row,
            applied=dict(Counter(kind_of(one) for one in gated.batch.operations)),
            repeats=gated.repeats,
            refused=dict(Counter(str(one.why) for one in not_taken)),
            skipped=(*self._row.skipped, *skipped),
            revision=tools.desk.revision,
            due=tools.settings.refinement is Refinement.LAZY or gated.due,
            spent=tools.bill.total(),
        )


def _grouped(lessons: Sequence[Lesson], settings: Settings, turn: Turn) -> list[Group]:
    """Lessons with a signal and without one are never in one group: nobody could tell what came from which."""
    trusted = [one for one in lessons if one.signal is not Signal.NONE]
    others = [one for one in lessons if one.signal is Signal.NONE]
    return [
        Group(some)
        for name, part in (("trusted", trusted), ("others", others))
        for some in grouped(
            part, settings.groups_of(len(part)), settings.copies, f"{settings.seed}/{turn.position}/{name}"
        )
    ]
