"""Whose reasoning a student learns for each decision: the teacher's own, else a rationale of the first file with one.

Pure; knows decisions and what files held. Does not read files (``lines``) or make prompts (``lm.chats``).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from potstill.distill.weights.data.labelled import Labelled
from potstill.distill.weights.lineage import Dataset
from potstill.distill.weights.rationales.lines import Key, Rationale, Read, decision_of
from potstill.errors import ConfigError
from potstill.types import Struct

TEACHER, NONE = "teacher", "none"


class Reasoned(Struct, frozen=True, kw_only=True):
    """What became of the rationales: a part of a student's lineage. Counts are of decisions to learn."""

    files: dict[str, str]
    """SHA-256 of each file, by its name."""
    models: tuple[str, ...]
    """Who wrote the rationales that are learnt."""
    decisions: dict[str, int]
    """By whose reasoning it is: ``teacher``, ``templated``, ``sampled``, ``hinted``; ``none``: they are not learnt."""


def datasets_of(reasoned: Reasoned | None) -> list[Dataset]:
    """The files as a lineage names what was learnt from."""
    if reasoned is None:
        return []
    made = sum(count for whose, count in reasoned.decisions.items() if whose not in (TEACHER, NONE))
    return [Dataset(name=name, sha256=sha256, decisions=made) for name, sha256 in reasoned.files.items()]


def joined(reads: Iterable[Read]) -> dict[Key, Rationale]:
    """Of each step the first rationale with a text."""
    found: dict[Key, Rationale] = {}
    for read in reads:
        for key, one in read.rationales.items():
            if one.text.strip():
                found.setdefault(key, one)
    return found


def must_belong(read: Read, name: str, filters: dict[str, str]) -> None:
    """Raises ``ConfigError`` for rationales of another tenant, environment or split."""
    for field in ("namespace", "environment", "split"):
        if getattr(read.origin, field) != filters[field]:
            raise ConfigError(
                f"The rationales {name} were made for the {field} '{getattr(read.origin, field)}', and what is learnt "
                f"from has '{filters[field]}'. Make some for it: potstill distill rationales"
            )


def with_reasoning(
    decisions: Sequence[Labelled], found: dict[Key, Rationale], files: dict[str, str]
) -> tuple[list[Labelled], Reasoned]:
    """The decisions that have reasoning, and whose it is.

    Raises ``ConfigError`` for a rationale of another decision than is learnt, and where none is left.
    """
    sources, models, kept = Counter[str](), set[str](), list[Labelled]()
    for one in decisions:
        rationale = found.get((one.trajectory_id, one.step_index))
        if one.reasoning.strip():
            sources[TEACHER] += 1
        elif rationale is None:
            sources[NONE] += 1
            continue
        else:
            _must_fit(one, rationale)
            sources[rationale.source.value] += 1
            models.add(rationale.model)
        kept.append(one)
    if not kept:
        raise ConfigError(
            f"None of the {len(decisions)} decisions to learn has reasoning: the rationales are about others. Make "
            "some of the same store, environment and split: potstill distill rationales"
        )
    told = Reasoned(files=files, models=tuple(sorted(models - {""})), decisions=dict(sorted(sources.items())))
    return kept, told


def _must_fit(decision: Labelled, rationale: Rationale) -> None:
    if rationale.decision != decision_of(decision):
        raise ConfigError(
            f"The rationale for step {decision.step_index} of the episode {decision.trajectory_id} is about another "
            "decision than the store holds. Make the rationales anew: potstill distill rationales"
        )
