"""Trials of a search, and the file that keeps them: whole trials only, replaced as a whole after each.

Optuna's own storages keep a trial that was killed half-way, and its halves would count in later decisions. Here a trial
that did not end leaves nothing; as each is a function of those before it, the search goes on to the same trials.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path

import msgspec

from potstill.distill.weights.identity import must_be_equal
from potstill.distill.weights.search.space import Point
from potstill.durable import replacing
from potstill.errors import NOT_JSON, ConfigError
from potstill.types import Struct

VERSION = 2
WHOLE = 32
"""Bits of a weight as it was trained."""


class State(StrEnum):
    FINISHED = "finished"
    """It took all of its steps."""
    STOPPED = "stopped"
    """Others were better at a rung."""
    DIVERGED = "diverged"


class Look(Struct, frozen=True):
    """What a trial had reached at a rung or at its end: the best value so far."""

    step: int
    value: float


class Variant(Struct, frozen=True, kw_only=True):
    """The trained weights in so many bits, whole or pruned and tuned."""

    bits: int
    bytes: int
    value: float
    pruned: float = 0.0
    """Share of the units that were taken out."""
    parameters: int = 0
    cpu_s: float = 0.0
    """What pruning and tuning took beyond the trial's training."""

    @property
    def plain(self) -> bool:
        """It is what was trained."""
        return self.bits == WHOLE and not self.pruned


class Trial(Struct, frozen=True, kw_only=True):
    number: int
    point: Point
    state: State
    steps: int
    looks: tuple[Look, ...] = ()
    parameters: int = 0
    labels: int = 0
    """Of the teacher, that it learnt."""
    variants: tuple[Variant, ...] = ()
    """Of a finished one: as trained (32 bits, no unit taken out) first."""
    cpu_s: float = 0.0
    """Of its training, in this process."""
    smaller_cpu_s: float = 0.0
    """Of making its variants and judging them."""

    @property
    def value(self) -> float | None:
        """Of a finished one."""
        return self.looks[-1].value if self.state is State.FINISHED else None


def timeless(trial: Trial) -> Trial:
    """A trial without what differs from run to run."""
    variants = tuple(msgspec.structs.replace(variant, cpu_s=0.0) for variant in trial.variants)
    return msgspec.structs.replace(trial, cpu_s=0.0, smaller_cpu_s=0.0, variants=variants)


class _Kept(Struct, frozen=True, kw_only=True):
    version: int
    identity: dict[str, str]
    trials: tuple[Trial, ...]


def keep(path: Path, identity: Mapping[str, str], trials: Sequence[Trial]) -> None:
    """Replace the file. Raises ``StoreError``."""
    kept = _Kept(version=VERSION, identity=dict(identity), trials=tuple(trials))
    with replacing(path) as file:
        file.write(msgspec.json.format(msgspec.json.encode(kept), indent=1) + b"\n")


def read(path: Path, identity: Mapping[str, str]) -> list[Trial]:
    """The trials of the same search. Raises ``ConfigError`` for another's, no file, or one that is none of these."""
    try:
        kept = msgspec.json.decode(path.read_bytes(), type=_Kept)
    except FileNotFoundError:
        raise ConfigError(f"There is no search {path} to resume. Leave --resume away to begin anew.") from None
    except NOT_JSON as error:
        raise ConfigError(f"{path} is no file of a search ({error}). Remove it to begin anew.") from None
    if kept.version != VERSION:
        raise ConfigError(f"{path} is of version {kept.version}, read is {VERSION}. Remove it to begin anew.")
    must_be_equal(f"The search {path} is another one", kept.identity, identity)
    return list(kept.trials)
