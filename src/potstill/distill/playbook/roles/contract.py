"""What the roles are given and what they return, whoever plays them: a model, a rule, a person's script.

What it knows: fields. What it does not do: ask anybody (``reflector``, ``curator``), write anything: what a Curator
proposes are operations that the near-duplicate gate and the book may still refuse.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Protocol

from potstill.distill.playbook.operations import Bullet, Operation, Tag
from potstill.distill.playbook.said import Reflection
from potstill.distill.playbook.spoken import Refusal
from potstill.types import Call, Struct


class Signal(StrEnum):
    """What says how an episode ended."""

    LABEL = "label"
    """The right answer is known."""
    EXECUTION = "execution"
    """The environment, a checker or a person said whether it was done."""
    NONE = "none"
    """Nobody: only the model's own opinion. What is learnt so stays in ``shadow``."""


class Case(Struct, frozen=True, kw_only=True):
    """One episode as a Reflector may see it: text of ours and of strangers, never a part of a prompt's structure."""

    id: str
    """Of the trajectory: the source of what is learnt."""
    goal: str
    account: str
    """What happened, step by step, from the fields that may be learnt from, capped (``evidence``)."""
    signal: Signal
    success: bool | None = None
    """None: nobody said."""
    feedback: str = ""
    """The environment's or checker's words on how it ended."""
    label: str = ""
    """The right answer; only with ``Signal.LABEL``."""
    shown: tuple[str, ...] = ()
    """Ids of the bullets that it was shown."""
    cited: tuple[str, ...] = ()
    """Those that it named."""


class Reflecting(Struct, frozen=True, kw_only=True):
    """What came of asking a Reflector once."""

    reflection: Reflection | None = None
    """None: it said nothing usable; ``refused`` says why."""
    tags: tuple[Tag, ...] = ()
    refused: tuple[Refusal, ...] = ()
    calls: tuple[Call, ...] = ()
    """What is on the bill, whatever came of it."""


class Lesson(Struct, frozen=True, kw_only=True):
    """What was learnt from one or several episodes, ready for a Curator."""

    sources: tuple[str, ...]
    goal: str
    reflection: Reflection
    signal: Signal
    success: bool | None = None
    proven: bool = False
    """The episode failed, and its task was done when it was played again with this reflection in the context."""


class Curating(Struct, frozen=True, kw_only=True):
    """What came of asking a Curator once. Operations with ``stage`` other than shadow are not its to propose."""

    operations: tuple[Operation, ...] = ()
    reasoning: str = ""
    refused: tuple[Refusal, ...] = ()
    calls: tuple[Call, ...] = ()


class Reflector(Protocol):
    """Says what an episode teaches.

    Contract: ``previous`` is its own reflection from the round before, on the same case or on the attempt before it,
    to be bettered; None in the first round. Raises ``ModelError`` where nobody answers; an answer that cannot be used
    is returned as refused.
    """

    @property
    def name(self) -> str: ...

    async def reflect(
        self, case: Case, bullets: Mapping[str, Bullet], previous: Reflection | None = None
    ) -> Reflecting: ...


class Curator(Protocol):
    """Proposes what to change.

    Contract: ``bullets`` are those that it may name, as they are now; ``objections`` say why its last proposal on the
    same lessons was not applied. Raises and refuses as a Reflector.
    """

    @property
    def name(self) -> str: ...

    async def curate(
        self, lessons: Sequence[Lesson], bullets: Mapping[str, Bullet], objections: Sequence[str] = ()
    ) -> Curating: ...
