"""Since when a bullet is what it is: what was seen before that is of another text, or of another stage.

Where something was forgotten, an older text or stage is back: since the ``FORGET``, for until then episodes were shown
what is erased. The log does not say which ``FORGET`` erased a row, so of several the last one counts; evidence may be
lost by that and none is charged to the wrong text.

What it knows: the log. What it does not do: replay bullets (``apply.replay``), count episodes (``tally``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from potstill.distill.playbook.apply import Entry, Erased, kind_of, steps
from potstill.distill.playbook.operations import Add, Bullet, Merge, Restore, SetStage, Stage, Update
from potstill.types import Struct

ACTOR = "credit"
"""Who signs what is decided here."""
BACK = "credit-back-"
"""How the keys of batches begin with which a book is back."""
PART = "credit-part-"
"""How those begin that go a part of the way."""


class Begun(Struct, frozen=True, kw_only=True):
    """Revisions of the book with which a bullet's present state came."""

    text: int = 0
    """Its content, or its last ``RESTORE``: who restores a bullet gives it a new trial. Where a later text was
    forgotten: that."""
    stage: int = 0
    shelved: bool = False
    """It is in shadow because somebody put it there, and not since it came."""
    demotions: int = 0
    """How often credit sent it from live back to canary since its text came: each one doubles what a way up takes."""


def begun(entries: Iterable[Entry], bullets: Mapping[str, Bullet]) -> dict[str, Begun]:
    """Of each of these bullets."""
    past = _Past()
    for entry in entries:
        past.read(entry)
    return {id: past.of(bullet) for id, bullet in bullets.items()}


def last_back(entries: Iterable[Entry]) -> int:
    """The revision with which credit last brought the book back; 0: it never did."""
    return max(
        (one.revision for one in entries if one.batch.actor == ACTOR and one.batch.key.startswith(BACK)), default=0
    )


class _Past:
    def __init__(self) -> None:
        self._stage: dict[str, Stage] = {}
        self._set: dict[str, int] = {}
        self._restored: dict[str, int] = {}
        self._demoted: dict[str, list[int]] = {}
        self._erased: dict[tuple[str, bool], int] = {}
        """The last erased text (or, True, stage) of a bullet: the revision with which it came."""
        self._forgot = 0
        """The revision of the last ``FORGET``."""

    def read(self, entry: Entry) -> None:
        if entry.forgot:
            self._forgot = entry.revision
        given = iter(entry.ids)
        for step in steps(entry):
            if isinstance(step, Add):
                self._stage[next(given)] = step.stage
            elif isinstance(step, Erased):
                if step.kind == _ADD:
                    self._stage[next(given)] = step.stage
                elif step.kind in _TEXT or step.kind == _STAGE:
                    self._erased[step.ids[0], step.kind == _STAGE] = entry.revision
            elif isinstance(step, SetStage):
                self._staged(step, entry)
            elif isinstance(step, Restore):
                self._restored[step.id] = entry.revision

    def _staged(self, step: SetStage, entry: Entry) -> None:
        before = self._stage.get(step.id)
        self._stage[step.id] = step.stage
        if before is step.stage:
            return
        self._set[step.id] = entry.revision
        if entry.batch.actor == ACTOR and before is Stage.LIVE and step.stage is Stage.CANARY:
            self._demoted.setdefault(step.id, []).append(entry.revision)

    def of(self, bullet: Bullet) -> Begun:
        restored = self._restored.get(bullet.id, 0)
        staged = self._set.get(bullet.id, 0)
        text = max(bullet.changed_in, restored, self._back(bullet.id, bullet.changed_in))
        stage = max(bullet.added_in, restored, staged, self._back(bullet.id, staged, of_stage=True))
        return Begun(
            text=text,
            stage=stage,
            shelved=bullet.stage is Stage.SHADOW and bullet.id in self._set,
            demotions=sum(revision > text for revision in self._demoted.get(bullet.id, ())),
        )

    def _back(self, id: str, came: int, *, of_stage: bool = False) -> int:
        """The revision with which a text or stage that came with ``came`` is back; 0: nothing was in its place."""
        erased = self._erased.get((id, of_stage), -1)
        return max(erased, self._forgot) if erased >= came else 0


_ADD = kind_of(Add(section="", content=""))
_STAGE = kind_of(SetStage(id="", stage=Stage.SHADOW))
_TEXT = frozenset(
    {kind_of(Update(id="", content="", revision=0)), kind_of(Merge(into="", ids=(), content="", revisions=()))}
)
"""Kinds that give the first of their bullets a text."""
