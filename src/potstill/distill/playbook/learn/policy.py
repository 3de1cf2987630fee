"""What of a Curator's proposal may be written at all, and in which stage: the learning gate.

What it knows: signals, stages, pins, which operations a Curator has. What it does not do: near-duplicates (``gate``),
conflicts with other writers (``apply``), what becomes of live bullets (``live``).

A lesson that begins in ``shadow`` changes nothing that is shown. What others do to live bullets: ``live``.

Whoever plays the Curator, its texts are cleaned here once more: a script of one's own may copy from an episode.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import NamedTuple, Protocol

import msgspec

from potstill.distill.playbook import neutral
from potstill.distill.playbook.apply import MAX_REASON_CHARACTERS, kind_of, named
from potstill.distill.playbook.learn.settings import Settings
from potstill.distill.playbook.operations import Add, Bullet, Merge, Operation, Remove, Stage, Tag, Update
from potstill.distill.playbook.roles.contract import Lesson, Signal


class Why(StrEnum):
    """Why an operation was not written, or an answer not taken."""

    NOT_ALLOWED = "not-allowed"
    """An operation that a Curator does not have, here or ever."""
    UNKNOWN = "unknown"
    """A bullet that it was not shown."""
    PINNED = "pinned"
    """Somebody pinned the bullet: only people change it."""
    NO_SIGNAL = "no-signal"
    """Without a label or a signal of execution nothing changes that somebody is shown."""
    STAGED = "staged"
    """What is learnt so begins in shadow, and would change what somebody is shown."""
    UNLIKE = "unlike"
    """Live bullets would be merged into a text that is not like each of them."""
    SHARE = "share"
    """One batch stages back and rewrites a small share of the live bullets at most."""
    HELPS = "helps"
    """Trials showed that the bullet helps, which weighs more than an opinion."""
    EMPTY = "empty"
    OUTVOTED = "outvoted"
    """Another group of the batch said something else of the same bullet."""
    TOO_MANY = "too-many"
    OVERTAKEN = "overtaken"
    """Others changed the bullet, each time that the Curator was asked again."""
    ANSWER = "answer"
    """A model said it, and it was refused at the border."""


class NotTaken(NamedTuple):
    """Something that was proposed and not written, and the reason in a sentence."""

    why: str
    """``Why``, or the border's."""
    message: str
    operation: Operation | None = None


class Likeness(Protocol):
    """What live bullets may be merged into (``live.Alike``)."""

    def against(self, merge: Merge, bullets: Mapping[str, Bullet]) -> str: ...


class Permitted(NamedTuple):
    operations: tuple[Operation, ...]
    refused: tuple[NotTaken, ...]


def trust(lessons: Iterable[Lesson]) -> Signal:
    """The weakest signal among them: nobody can say which of them a proposal comes from."""
    signals = {lesson.signal for lesson in lessons}
    return next((one for one in (Signal.NONE, Signal.EXECUTION, Signal.LABEL) if one in signals), Signal.NONE)


def permitted(
    operations: Sequence[Operation],
    bullets: Mapping[str, Bullet],
    signal: Signal,
    settings: Settings,
    alike: Likeness,
    recorded: bool,
) -> Permitted:
    """Those that may be written, with texts cleaned, sections placed and stages set. ``bullets``: as it was shown."""
    kept: list[Operation] = []
    refused: list[NotTaken] = []
    stage = settings.first_stage(signal, recorded=recorded)
    for operation in operations:
        problem = _problem(operation, bullets, signal, stage, settings)
        if problem is not None:
            refused.append(NotTaken(*problem, operation))
        elif (made := _clean(operation, bullets, stage, settings)) is None:
            refused.append(NotTaken(Why.EMPTY, f"{_called(operation)} says nothing once it is cleaned.", operation))
        elif isinstance(made, Merge) and (unlike := alike.against(made, bullets)):
            refused.append(NotTaken(Why.UNLIKE, unlike, operation))
        else:
            kept.append(made)
    return Permitted(tuple(kept), tuple(refused))


def counted(tags: Iterable[Tag], bullets: Mapping[str, Bullet], signal: Signal) -> list[Tag]:
    """Votes that count: on bullets that are there and, without a signal, only on what nobody is shown. One vote for
    each bullet."""
    found: dict[str, Tag] = {}
    for tag in tags:
        bullet = bullets.get(tag.id)
        if bullet is not None and (signal is not Signal.NONE or bullet.stage is Stage.SHADOW):
            found.setdefault(tag.id, tag)
    return list(found.values())


def _problem(
    operation: Operation, bullets: Mapping[str, Bullet], signal: Signal, stage: Stage, settings: Settings
) -> tuple[Why, str] | None:
    called = _called(operation)
    if kind_of(operation) not in settings.operations:
        return Why.NOT_ALLOWED, f"{called} is none that a Curator may propose here: {', '.join(settings.operations)}."
    for id in named(operation):
        bullet = bullets.get(id)
        if bullet is None:
            return Why.UNKNOWN, f"{called} names {id[:40]!r}, which is no bullet that it was shown."
        if bullet.pinned:
            return Why.PINNED, f"{called} would change {id}, which is pinned."
        if signal is Signal.NONE and bullet.stage is not Stage.SHADOW:
            return (
                Why.NO_SIGNAL,
                f"{called} would change {id}, which agents are shown, and nobody said who was right.",
            )
        if stage is Stage.SHADOW and bullet.stage is not Stage.SHADOW:
            return (
                Why.STAGED,
                f"{called} would change {id}, which agents are shown; what is learnt here begins in shadow.",
            )
    return None


def _clean(operation: Operation, bullets: Mapping[str, Bullet], stage: Stage, settings: Settings) -> Operation | None:
    """None: nothing is left of its text."""
    if isinstance(operation, Remove):
        reason = neutral.line(operation.reason, MAX_REASON_CHARACTERS)
        return msgspec.structs.replace(operation, reason=reason, revision=bullets[operation.id].revision)
    if not isinstance(operation, Add | Update | Merge):
        return operation
    content = neutral.content(operation.content)
    if not any(each.isalnum() for each in content):
        return None
    if isinstance(operation, Add):
        section = settings.places.place(neutral.section(operation.section))
        return Add(section=section, content=content, stage=stage)
    return msgspec.structs.replace(operation, content=content)


def _called(operation: Operation) -> str:
    ids = named(operation)
    return f"{kind_of(operation)} of {', '.join(id[:40] for id in ids[:3])}" if ids else kind_of(operation)
