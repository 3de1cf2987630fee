"""The parity gate: no file is written whose decisions differ from those of what was trained.

Both sides answer the same held-out questions, in batches of several sizes and in several shapes (without a past, with a
longer one, with fewer actions): an export that froze the shape it was traced with passes at that shape only. Below the
floor nothing is written, and the inputs that differ are named. Knows logits. Does not know how a side makes them.

Where both sides also played episodes, the export must do the tasks as well (``gate_success``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from potstill.distill.weights import artefact
from potstill.distill.weights.gate_shapes import Question, shaped, told
from potstill.distill.weights.gate_success import Outcomes, Success, success
from potstill.distill.weights.lineage import Manifest
from potstill.edge.mlp import Mlp
from potstill.edge.policy import Policy, log_softmax
from potstill.errors import ConfigError, PotstillError
from potstill.types import Struct

Side = Callable[[Sequence[Any]], Sequence[Any]]
"""Questions in, one array of logits for each out. A question: ``gate_shapes.Question`` or a vector."""

Shapes = Callable[[Sequence[Any]], Mapping[str, Sequence[tuple[int, Any]]]]
"""The questions by shape, each with the index that it was given under."""

BATCHES = (1, 3, 32)
NAMED = 10


class Floor(Struct, frozen=True, kw_only=True):
    """What an export must reach in every row of the table. None: not asked."""

    agreement: float = 1.0
    """Share of questions with the same likeliest action. Another one that is as likely within the ties is the same."""
    kl_nats: float | None = 1e-5
    """Mean over the questions of KL(trained || exported)."""
    difference: float | None = 1e-3
    """The largest of two logits of one action, in units of the question's largest logit where that is above 1."""
    tie: float = 1e-5
    """Two logits that near, in the same units, are as large: programs add up in other orders."""
    tie_nats: float = 0.0
    """Two log-probabilities that near are as likely: which comes first was no preference."""
    success_margin: float = 0.02
    """How much lower the share of successful episodes may be, where episodes are played."""


EXACT = Floor()
"""For the same numbers in another program."""
COMPRESSED = Floor(agreement=0.98, kl_nats=0.05, difference=None, tie_nats=1e-3)
"""For fewer bits. Rounding turns two actions around that are as likely within a thousandth, .5003 against .4997."""


class Row(Struct, frozen=True, kw_only=True):
    """One shape of the questions at one size of batch."""

    shape: str
    batch: int
    questions: int
    agreement: float
    kl_nats: float
    kl_most_nats: float
    difference: float


class Differing(Struct, frozen=True, kw_only=True):
    """A question that both sides answer differently."""

    index: int
    """Of the question as it was given."""
    shape: str
    batch: int
    question: str
    trained: str
    """The action, and so below."""
    exported: str
    kl_nats: float
    difference: float

    @property
    def told(self) -> str:
        """What became of the answer."""
        if self.trained == self.exported:
            return f"still {self.trained!r}, {self.kl_nats:.2g} nats and {self.difference:.2g} from what it was"
        return f"{self.trained!r} became {self.exported!r}"


class Parity(Struct, frozen=True, kw_only=True):
    """The table, and the questions that are answered worst (``NAMED`` at most; ``differing_in_all`` counts them)."""

    floor: Floor
    rows: tuple[Row, ...]
    differing: tuple[Differing, ...] = ()
    differing_in_all: int = 0
    success: Success | None = None
    """Of episodes that both sides played; None: none were."""

    @property
    def passed(self) -> bool:
        return all(_reaches(row, self.floor) for row in self.rows) and (self.success is None or self.success.passed)

    def summary(self) -> dict[str, Any]:
        """The worst of each column, for a manifest."""
        return {
            "questions": max(row.questions for row in self.rows),
            "shapes": len({row.shape for row in self.rows}),
            "batches": sorted({row.batch for row in self.rows}),
            "agreement": min(row.agreement for row in self.rows),
            "kl_nats": max(row.kl_nats for row in self.rows),
            "difference": max(row.difference for row in self.rows),
            "floor": msgspec.to_builtins(self.floor),
            "success": msgspec.to_builtins(self.success),
        }


class GateFailed(PotstillError):
    """The export is not what was trained; nothing was written. ``parity`` has the table."""

    def __init__(self, parity: Parity) -> None:
        super().__init__(
            f"The exported policy does not act as the trained one: {'; '.join(_reasons(parity))}. Nothing was written."
        )
        self.parity = parity


def compare(
    trained: Side,
    exported: Side,
    questions: Sequence[Any],
    *,
    floor: Floor = EXACT,
    batches: Sequence[int] = BATCHES,
    shapes: Shapes = shaped,
) -> Parity:
    """Ask both sides all held-out questions in every shape, in batches of every size.

    Raises ``ConfigError`` where there are no questions, or a side answers with other shapes than the question has.
    """
    if len(questions) == 0:
        raise ConfigError(
            "The parity gate has no held-out questions: an export cannot be compared with what was trained."
        )
    rows, differing = [], []
    for shape, asked in shapes(questions).items():
        for batch in batches:
            found = _Answers(shape, batch, [question for _, question in asked], [index for index, _ in asked])
            found.ask(trained, exported, floor)
            rows.append(found.row())
            differing += found.differing(floor)
    differing.sort(key=lambda one: (one.trained == one.exported, -one.kl_nats, -one.difference))
    return Parity(floor=floor, rows=tuple(rows), differing=tuple(differing[:NAMED]), differing_in_all=len(differing))


def edge_side(policy: Policy) -> Side:
    """A policy as the runtime acts with it: one question at a time."""
    network = policy.network
    if isinstance(network, Mlp):
        return lambda vectors: [network.logits(vector) for vector in vectors]
    return lambda questions: [
        network.logits(msgspec.to_builtins(question.situation), list(question.admissible)) for question in questions
    ]


def export(
    path: Path,
    arrays: Mapping[str, Any],
    config: Mapping[str, Any],
    manifest: Manifest,
    *,
    trained: Side,
    questions: Sequence[Any],
    floor: Floor = EXACT,
    key: Path | None = None,
    play: Callable[[Policy], tuple[Outcomes, Outcomes]] | None = None,
) -> tuple[artefact.Artefact, Parity]:
    """Write a policy if the file, read back from the disk, acts as ``trained`` does; its table goes into the manifest.

    ``play``: has the trained side and this policy do the same episodes; asked only where the logits pass. Raises
    ``GateFailed`` (nothing is written, a file that was there stays), and what ``artefact.write`` raises.
    """
    tables: list[Parity] = []

    def approve(policy: Policy) -> dict[str, Any]:
        parity = compare(trained, edge_side(policy), questions, floor=floor)
        if parity.passed and play is not None:
            parity = msgspec.structs.replace(parity, success=success(*play(policy), margin=floor.success_margin))
        if not parity.passed:
            raise GateFailed(parity)
        tables.append(parity)
        return {"parity": parity.summary()}

    written = artefact.write(path, arrays, config, manifest, key=key, approve=approve)
    return written, tables[0]


def _reasons(parity: Parity) -> list[str]:
    """What is below the floor, with the worst row and the first inputs."""
    found = []
    if not all(_reaches(row, parity.floor) for row in parity.rows):
        worst = min(parity.rows, key=lambda row: (row.agreement, -row.kl_nats, -row.difference))
        found.append(
            f"agreement {worst.agreement:.3f}, KL {worst.kl_nats:.2g} nats, difference {worst.difference:.2g} "
            f"({worst.shape}, batches of {worst.batch}); {parity.differing_in_all} answers differ"
        )
        found += [f"{one.question} ({one.shape}): {one.told}" for one in parity.differing[:3]]
    if parity.success is not None and not parity.success.passed:
        told = parity.success
        lost = ", ".join(f"{task} (seed {seed})" for task, seed in told.lost[:3])
        found.append(
            f"it succeeded in {told.exported:.1%} of {told.episodes} episodes, the trained one in {told.trained:.1%} "
            f"(at most {told.margin:.1%} lower is allowed); lost: {lost}"
        )
    return found


def _reaches(row: Row, floor: Floor) -> bool:
    return (
        row.agreement >= floor.agreement
        and (floor.kl_nats is None or row.kl_nats <= floor.kl_nats)
        and (floor.difference is None or row.difference <= floor.difference)
    )


class _Answers:
    """Both sides' answers to one shape of the questions in batches of one size."""

    def __init__(self, shape: str, batch: int, questions: Sequence[Any], indices: Sequence[int]) -> None:
        self.shape, self.batch, self.questions, self.indices = shape, batch, questions, indices

    def ask(self, trained: Side, exported: Side, floor: Floor) -> None:
        pairs = list(zip(self._asked(trained, "trained"), self._asked(exported, "exported"), strict=True))
        for place, (ours, theirs) in enumerate(pairs):
            if len(ours) != len(theirs):
                raise ConfigError(
                    f"The trained policy has {len(ours)} logits where the exported one has {len(theirs)} "
                    f"({told(self.questions[place])[0]}): they do not choose among the same actions."
                )
        self.best = [(int(ours.argmax()), int(theirs.argmax())) for ours, theirs in pairs]
        self.same = [
            bool(ours[best[1]] >= ours[best[0]] - max(floor.tie * _unit(ours), floor.tie_nats))
            for (ours, _), best in zip(pairs, self.best, strict=True)
        ]
        self.kl = [_kl(ours, theirs) for ours, theirs in pairs]
        self.difference = [float(np.abs(ours - theirs).max()) / _unit(ours) for ours, theirs in pairs]

    def row(self) -> Row:
        return Row(
            shape=self.shape,
            batch=self.batch,
            questions=len(self.questions),
            agreement=sum(self.same) / len(self.same),
            kl_nats=sum(self.kl) / len(self.kl),
            kl_most_nats=max(self.kl),
            difference=max(self.difference),
        )

    def differing(self, floor: Floor) -> list[Differing]:
        found = []
        for place, question in enumerate(self.questions):
            if self.same[place] and not self._too_far(place, floor):
                continue
            text, actions = told(question)
            ours, theirs = (actions[best] if actions else str(best) for best in self.best[place])
            found.append(
                Differing(
                    index=self.indices[place],
                    shape=self.shape,
                    batch=self.batch,
                    question=f"question {self.indices[place]}: {text}",
                    trained=ours,
                    exported=theirs,
                    kl_nats=self.kl[place],
                    difference=self.difference[place],
                )
            )
        return found

    def _too_far(self, place: int, floor: Floor) -> bool:
        return (floor.difference is not None and self.difference[place] > floor.difference) or (
            floor.kl_nats is not None and self.kl[place] > floor.kl_nats
        )

    def _asked(self, side: Side, name: str) -> list[NDArray[np.float64]]:
        answers: list[NDArray[np.float64]] = []
        for start in range(0, len(self.questions), self.batch):
            some = self.questions[start : start + self.batch]
            found = [np.asarray(logits, np.float64) for logits in side(some)]
            if len(found) != len(some):
                raise ConfigError(f"The {name} policy answered {len(found)} of {len(some)} questions of a batch.")
            answers += found
        for question, logits in zip(self.questions, answers, strict=True):
            _checked(question, logits, name)
        return answers


def _checked(question: Any, logits: NDArray[np.float64], name: str) -> None:
    wanted = len(question.admissible) if isinstance(question, Question) else None
    if logits.ndim != 1 or not logits.size or wanted not in (None, logits.size):
        actions = "" if wanted is None else f" for {wanted} actions"
        raise ConfigError(f"The {name} policy answered a question with logits of the shape {logits.shape}{actions}.")
    if not np.isfinite(logits).all():
        raise ConfigError(f"The {name} policy's logits are not finite: {told(question)[0]}.")


def _unit(logits: NDArray[np.float64]) -> float:
    return max(1.0, float(np.abs(logits).max()))


def _kl(ours: NDArray[np.float64], theirs: NDArray[np.float64]) -> float:
    """KL(ours || theirs) in nats, both as softmax."""
    p, q = log_softmax(ours), log_softmax(theirs)
    return max(0.0, float((np.exp(p) * (p - q)).sum()))
