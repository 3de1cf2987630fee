"""How a playbook learns: the mode, how often, how much at once, and where a new bullet begins.

What it knows: numbers, their limits, their defaults and where these come from. What it does not do: learn (``loop``).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from enum import StrEnum
from typing import Literal

import msgspec

from potstill.distill.playbook.apply import MAX_SOURCES
from potstill.distill.playbook.budget import Budget
from potstill.distill.playbook.operations import Stage
from potstill.distill.playbook.roles.contract import Signal
from potstill.distill.playbook.sections import DEFAULT, Sections, sections_named
from potstill.distill.playbook.twins import Gate
from potstill.errors import ConfigError, one_of
from potstill.trajectories.learning import FORGOTTEN, forgotten_mark
from potstill.types import Struct


class Mode(StrEnum):
    """In what order episodes are played and learnt from."""

    OFFLINE = "offline"
    """A training split, one episode after the other, each learnt from before the next; several epochs."""
    ONLINE = "online"
    """A window of episodes is played with the book as it is, then each of them is learnt from (the paper's release)."""
    SAMPLE = "sample"
    """Online with a window of one: each episode is judged with the book that all episodes before it wrote."""
    BATCH = "batch"
    """Many episodes at once: reflected on in parallel, curated in groups, written as one batch (arXiv 2604.04247)."""


class Refinement(StrEnum):
    """When near-duplicates that got into the book are merged."""

    PROACTIVE = "proactive"
    """After each delta that may have brought one."""
    LAZY = "lazy"
    """When the live bullets no longer fit into the budget."""
    NEVER = "never"


OPERATIONS = ("ADD", "UPDATE", "MERGE", "REMOVE")
"""What a Curator may propose."""


class Settings(Struct, frozen=True, kw_only=True):
    """Raises ``ConfigError`` for impossible values. Defaults are the paper's release where it has one (3 rounds,
    1 epoch, window 15)."""

    mode: Mode = Mode.OFFLINE
    epochs: int = 1
    """How often the episodes are gone through; online modes go once."""
    rounds: int = 3
    """Of reflection on one episode, at most."""
    replay: bool = False
    """After a reflection on a failed episode, play its task again with the reflection in context, and go on reflecting
    until it succeeds (the release's rounds). False: a reflection is bettered without playing again."""
    window: int = 15
    """Episodes that are played with one state of the book; mode ``online``."""
    batch: int = 16
    """Episodes that are learnt from at once; mode ``batch``. An interrupted batch is begun anew. Its bullets come from
    all of its episodes, so forgetting one of these takes what the whole batch taught."""
    parallel: int = 4
    """Episodes in play, reflections or Curator's calls at the same time. Changes no result."""
    groups: int = 0
    """Of a batch's reflections, a Curator's call each. 0: the square root of their number."""
    copies: int = 2
    """Of each reflection, in different groups, so that none depends on one call; 1: none is duplicated."""
    attempts: int = 3
    """How often the Curator is asked again when what it proposed was overtaken by others."""
    tags: bool = True
    """Count the Reflector's votes on the bullets that an episode was shown."""
    operations: tuple[str, ...] = OPERATIONS
    """Those that a Curator may propose; ``ADD`` alone is what the paper's release applies."""
    label_stage: Stage | None = None
    """Where a bullet begins that was learnt with the right answer known. None: ``live`` offline, ``canary`` online and
    from recorded episodes."""
    execution_stage: Stage | None = None
    """The same, where the environment, a checker or a person said how it ended. Without either it is ``shadow``, and
    no setting changes that: the paper loses 3.4 points there (table 2, FiNER online without labels)."""
    gate: Gate = Gate()
    refinement: Refinement = Refinement.PROACTIVE
    budget: Budget = Budget()
    sections: tuple[str, ...] = ()
    """Titles in their order. Empty: the paper's."""
    validate_every: int = 0
    """Learning steps between two validations. 0: after each epoch."""
    patience: int = 0
    """Validations without a better one after which the run ends. 0: it goes on to its end."""
    keep_best: bool = True
    """At the end, go back to the book that did best in validation. Needs tasks to validate on."""
    shuffle: bool = False
    """Another order of the episodes in each epoch, by ``seed``."""
    seed: int = 0
    """Of the episodes that are played, and of whatever is drawn."""
    max_cost_usd: float | None = None
    """Nothing more is begun once this is spent, over all sittings of the run."""

    def __post_init__(self) -> None:
        least = {"epochs": 1, "rounds": 1, "window": 1, "batch": 1, "parallel": 1, "groups": 0, "copies": 1}
        for name, low in {**least, "attempts": 0, "validate_every": 0, "patience": 0}.items():
            if getattr(self, name) < low:
                raise ConfigError(f"'{name}' is {getattr(self, name)}; it must be {low} or more.")
        if self.mode in (Mode.ONLINE, Mode.SAMPLE) and self.epochs > 1:
            raise ConfigError(f"Mode '{self.mode}' goes through its episodes once; 'epochs' is {self.epochs}. Use 1.")
        if self.batch > MAX_SOURCES:
            raise ConfigError(f"'batch' is {self.batch}; at most {MAX_SOURCES} episodes are learnt from at once.")
        if self.max_cost_usd is not None and not self.max_cost_usd >= 0:
            raise ConfigError(f"'max_cost_usd' is {self.max_cost_usd}; it must be 0 or more.")
        for operation in self.operations:
            one_of("operation of a Curator", operation, OPERATIONS)

    @property
    def at_once(self) -> int:
        """Episodes that are played with one state of the book."""
        return {Mode.ONLINE: self.window, Mode.BATCH: self.batch}.get(self.mode, 1)

    @property
    def write_gate(self) -> Gate:
        """What keeps near-duplicates out of a batch: where they are merged lazily, only exact ones."""
        if self.refinement is Refinement.NEVER:
            return self.gate
        mode: Literal["lazy", "proactive"] = "lazy" if self.refinement is Refinement.LAZY else "proactive"
        return msgspec.structs.replace(self.gate, mode=mode)

    @property
    def places(self) -> Sections:
        return sections_named(*self.sections) if self.sections else DEFAULT

    def first_stage(self, signal: Signal, *, recorded: bool) -> Stage:
        """Where a bullet begins: the learning gate. ``recorded``: of episodes that others played, in production."""
        if signal is Signal.NONE:
            return Stage.SHADOW
        online = recorded or self.mode in (Mode.ONLINE, Mode.SAMPLE)
        given = self.label_stage if signal is Signal.LABEL else self.execution_stage
        return given or (Stage.CANARY if online else Stage.LIVE)

    def groups_of(self, lessons: int) -> int:
        """Into how many groups so many reflections are put: about the square root, so that the calls of a Curator and
        what each has to read grow alike."""
        wanted = self.groups or round(math.sqrt(lessons))
        return max(1, min(wanted, lessons))


_FREE = ("parallel", "max_cost_usd")
"""What may change when a run goes on."""


def digest_of(settings: Settings, episodes: Sequence[str], validation: Sequence[str]) -> str:
    """What must be the same when a run goes on: SHA-256 of the settings that decide results, and of what it goes
    through, the same where one of these was forgotten since."""
    bare = {name: value for name, value in msgspec.to_builtins(settings).items() if name not in _FREE}
    marks = [one if one.startswith(FORGOTTEN) else forgotten_mark(one) for one in episodes]
    said = msgspec.json.encode([bare, marks, list(validation)], order="deterministic")
    return hashlib.sha256(said).hexdigest()
