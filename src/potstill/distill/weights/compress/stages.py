"""Stages of compression, one after the other: each is judged by what was given, kept or undone, and told in a table.

The judge is always the student as it was given: errors of single stages cannot add up unseen. A stage that fails leaves
no trace in what is written, and the next one starts from what stood before. Knows verdicts. Does not know what a stage
does, nor kinds of students: ``Ways`` says how one of them is asked, played and measured.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Any, Generic, NamedTuple, TypeVar

import msgspec

from potstill.distill.weights.compress.recipe import Compression
from potstill.distill.weights.gate import Floor, Parity, Side, compare
from potstill.distill.weights.gate_shapes import as_recorded
from potstill.distill.weights.gate_success import Outcomes, Success, success
from potstill.errors import PotstillError
from potstill.types import Struct

S = TypeVar("S")
"""A student between two stages."""


class Verdict(StrEnum):
    GIVEN = "given"
    KEPT = "kept"
    UNDONE = "undone"
    UNTUNED = "not judged yet"
    """Pruned, and judged after its fine-tuning."""


class Row(Struct, frozen=True, kw_only=True):
    """What a stage came to. All but the last two are the same in every run."""

    stage: str
    verdict: Verdict
    size_bytes: int
    """Of the file without its manifest; of a language model its weights'."""
    parameters: int
    agreement: float
    """With the student as it was given, on held-out decisions; ``kl_nats`` from it."""
    kl_nats: float
    success: float | None
    """Share of the episodes that were played; None: none were, or the student as it was given did none of them."""
    zeros: float
    """Share of the numbers that are zero."""
    decision_ms: float
    """CPU; of a policy by numpy, of a language model by PyTorch."""
    memory_bytes: int | None
    """Of numpy's runtime with the policy's arrays, at most, while it opens the policy and decides; None: not known."""


class Measures(NamedTuple):
    """What a student takes: fields of ``Row``."""

    size_bytes: int
    parameters: int
    zeros: float
    decision_ms: float
    memory_bytes: int | None


class Ways(NamedTuple, Generic[S]):
    """How a kind of student is asked, played and measured."""

    side: Callable[[S], Side]
    measures: Callable[[S], Measures]
    play: Callable[[S], Outcomes] | None
    """Equal episodes at each call; None: no episode is played."""


class NothingSmaller(PotstillError):
    """Every stage was undone; nothing was written. ``rows`` has the table."""

    def __init__(self, rows: tuple[Row, ...], recipe: Compression) -> None:
        failed = [row for row in rows if row.verdict is Verdict.UNDONE]
        told = "; ".join(f"{row.stage}: agreement {row.agreement:.3f}, KL {row.kl_nats:.2g}" for row in failed)
        super().__init__(
            f"No stage does what the student does ({told}; asked: agreement {recipe.floor.agreement:g}, KL "
            f"{recipe.floor.kl_nats:g}, success at most {recipe.floor.success_margin:.1%} lower). Nothing was written. "
            "Allow more with --least-agreement and --most-kl, or type a larger width, a smaller share or more steps."
        )
        self.rows = rows


class Compressed(NamedTuple, Generic[S]):
    """The table, and what is left after the stages that were kept."""

    rows: tuple[Row, ...]
    state: S
    success: Success | None
    """Of what is left against the student as it was given; None: no episode was played."""

    @property
    def smaller(self) -> bool:
        return any(row.verdict is Verdict.KEPT for row in self.rows)


class Stages(Generic[S]):
    """``state``: what stands after the stages so far."""

    def __init__(
        self, given: S, ways: Ways[S], questions: Sequence[Any], floor: Floor, told: Callable[[Row], None]
    ) -> None:
        """Judges what is given by itself first. ``told`` hears of every row."""
        self.state = given
        self._ways, self._questions, self._floor, self._told = ways, questions, floor, told
        self._rows: list[Row] = []
        self._success: Success | None = None
        self._reference = _remembered(ways.side(given))
        self._play = ways.play
        self._outcomes = None if self._play is None else self._play(given)
        parity = self._with_success(self._parity(given), self._outcomes)
        if not any((self._outcomes or {}).values()):
            self._play = None  # nothing can be lost in tasks of which none is done, so they prove nothing
        self._note("as given", Verdict.GIVEN, given, parity)

    def untuned(self, stage: str, state: S) -> None:
        """Tell of what is judged after the next stage."""
        self._note(stage, Verdict.UNTUNED, state, self._parity(state))

    def judge(self, stage: str, state: S) -> None:
        """Keep what passes, alike enough on held-out decisions first, then in the episodes."""
        parity = self._parity(state)
        if parity.passed and self._play is not None:
            parity = self._with_success(parity, self._play(state))
        self._note(stage, Verdict.KEPT if parity.passed else Verdict.UNDONE, state, parity)
        if parity.passed:
            self.state, self._success = state, parity.success

    def done(self) -> Compressed[S]:
        return Compressed(tuple(self._rows), self.state, self._success)

    def _parity(self, state: S) -> Parity:
        side = self._ways.side(state)
        return compare(self._reference, side, self._questions, floor=self._floor, batches=(1,), shapes=as_recorded)

    def _with_success(self, parity: Parity, theirs: Outcomes | None) -> Parity:
        if self._outcomes is None or theirs is None:
            return parity
        compared = success(self._outcomes, theirs, margin=self._floor.success_margin)
        return msgspec.structs.replace(parity, success=compared)

    def _note(self, stage: str, verdict: Verdict, state: S, parity: Parity) -> None:
        (found,) = parity.rows
        row = Row(
            stage=stage,
            verdict=verdict,
            agreement=found.agreement,
            kl_nats=found.kl_nats,
            success=None if parity.success is None else parity.success.exported,
            **self._ways.measures(state)._asdict(),
        )
        self._rows.append(row)
        self._told(row)


def _remembered(side: Side) -> Side:
    """The side, asked each question once: every stage asks the same."""
    known: dict[int, Any] = {}

    def answer(questions: Sequence[Any]) -> list[Any]:
        for question in questions:
            if id(question) not in known:
                (known[id(question)],) = side([question])
        return [known[id(question)] for question in questions]

    return answer
