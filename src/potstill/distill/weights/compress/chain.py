"""Distil, prune, fine-tune, set to zero, round: one stage after the other, each judged by the gate or undone.

The judge is always the policy as it was given: errors of single stages cannot add up unseen. A stage that fails leaves
no trace in what is written, and the next one starts from what stood before. Knows stages. Does not know kinds of
networks (``subject``), files, or how episodes are played.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any, NamedTuple

import msgspec

from potstill.distill.weights.compress.axes import axes_of
from potstill.distill.weights.compress.cost import decision_ms, memory_bytes, size_bytes
from potstill.distill.weights.compress.masks import holding, masked, masks_of
from potstill.distill.weights.compress.pruning import distilled, learn_from, pruned, tuned
from potstill.distill.weights.compress.quantize import in_bits
from potstill.distill.weights.compress.recipe import Compression
from potstill.distill.weights.compress.subject import CALIBRATION, Subject
from potstill.distill.weights.gate import Parity, compare, edge_side
from potstill.distill.weights.gate_shapes import as_recorded
from potstill.distill.weights.gate_success import Outcomes, success
from potstill.distill.weights.policies.ranker import arrays_of
from potstill.edge.layers import bits
from potstill.edge.policy import Policy, network
from potstill.edge.tensors import Array
from potstill.errors import ConfigError, PotstillError, one_of
from potstill.types import Struct

Play = Callable[[Policy], Outcomes]


class NothingSmaller(PotstillError):
    """Every stage was undone; nothing was written. ``rows`` has the table."""

    def __init__(self, rows: tuple[Row, ...], recipe: Compression) -> None:
        failed = [row for row in rows if row.verdict is Verdict.UNDONE]
        told = "; ".join(f"{row.stage}: agreement {row.agreement:.3f}, KL {row.kl_nats:.2g}" for row in failed)
        super().__init__(
            f"No stage does what the policy does ({told}; asked: agreement {recipe.floor.agreement:g}, KL "
            f"{recipe.floor.kl_nats:g}, success at most {recipe.floor.success_margin:.1%} lower). Nothing was written. "
            "Allow more with --least-agreement and --most-kl, or type a larger width, a smaller share or more steps."
        )
        self.rows = rows


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
    """Of the file without its manifest."""
    parameters: int
    agreement: float
    """With the policy as it was given, on held-out decisions; ``kl_nats`` from it."""
    kl_nats: float
    success: float | None
    """Share of the episodes that were played; None: none were, or the policy as it was given did none of them."""
    zeros: float
    """Share of the numbers that are zero."""
    decision_ms: float
    """CPU, by numpy."""
    memory_bytes: int
    """Of numpy's runtime with the policy's arrays, at most, while it opens the policy and decides."""


class State(NamedTuple):
    """A policy between two stages: in float32, and as it would be written."""

    arrays: dict[str, Array]
    config: dict[str, Any]
    written: dict[str, Array]


class Compressed(NamedTuple):
    """The table, and what is left after the stages that were kept."""

    rows: tuple[Row, ...]
    state: State

    @property
    def smaller(self) -> bool:
        return any(row.verdict is Verdict.KEPT for row in self.rows)


def compress(
    subject: Subject,
    recipe: Compression,
    *,
    play: Play | None = None,
    told: Callable[[Row], None] = lambda row: None,
) -> Compressed:
    """Run the stages. ``play``: outcomes of a policy on fixed episodes, equal episodes at each call; ``told`` hears of
    every row. Raises ``ConfigError`` for axes that the policy has not, ``Diverged``."""
    return _Chain(subject, recipe, play, told).run()


class _Chain:
    def __init__(self, subject: Subject, recipe: Compression, play: Play | None, told: Callable[[Row], None]) -> None:
        self._subject, self._recipe, self._play, self._told = subject, recipe, play, told
        self._reference = edge_side(subject.policy)
        self._rows: list[Row] = []
        given = dict(subject.policy.arrays)
        if any(bits(array) is not None for array in given.values()):
            raise ConfigError("The policy's weights have few bits already. Give the file that it was made from.")
        self._state = State(given, dict(subject.policy.config), given)
        axes = axes_of(self._state.config)
        for axis in recipe.axes:
            one_of("axis", axis, axes)
        if recipe.features and not axes:
            raise ConfigError("A linear policy has no hidden layer whose features a student could learn: --features 0")

    def run(self) -> Compressed:
        recipe = self._recipe
        self._outcomes = None if self._play is None else self._play(self._subject.policy)
        given = self._with_success(self._parity(self._state), self._outcomes)
        if not any((self._outcomes or {}).values()):
            self._play = None  # nothing can be lost in tasks of which none is done, so they prove nothing
        self._note(self._row("as given", Verdict.GIVEN, self._state, given))
        if recipe.width:
            self._judge(f"distil into width {recipe.width}", self._distilled())
        for share in recipe.prune:
            pruned = self._pruned(share)
            self._note(self._row(f"prune {share:g}", Verdict.UNTUNED, pruned, self._parity(pruned)))
            self._judge(f"prune {share:g}, fine-tune", self._tuned(pruned))
        if recipe.sparse:
            self._judge(f"zeros {recipe.sparse:g}, fine-tune", self._sparse(recipe.sparse))
        for few in sorted(recipe.bits, reverse=True):
            now = self._state
            self._judge(f"{few} bits", State(now.arrays, now.config, in_bits(now.arrays, few)))
        return Compressed(tuple(self._rows), self._state)

    # --- stages -----------------------------------------------------------------------------------------------------

    def _distilled(self) -> State:
        return _state_of(*distilled(self._subject, self._recipe))

    def _pruned(self, share: float) -> State:
        arrays, config = pruned(self._subject, self._state.arrays, self._state.config, share, self._recipe)
        return State(arrays, config, arrays)

    def _tuned(self, state: State) -> State:
        return _state_of(tuned(self._subject, state.arrays, state.config, self._recipe), state.config)

    def _sparse(self, share: float) -> State:
        masks = masks_of(self._state.arrays, share)
        network_ = self._subject.network(masked(self._state.arrays, masks), self._state.config)
        with holding(network_, masks):
            learn_from(
                self._subject, network_, self._recipe, self._recipe.finetune_steps, self._recipe.learning_rate / 2
            )
        return _state_of(network_, self._state.config)

    # --- judging ----------------------------------------------------------------------------------------------------

    def _judge(self, stage: str, state: State) -> None:
        """Keep what passes, alike enough on held-out decisions first, then in the episodes."""
        parity = self._parity(state)
        if parity.passed and self._play is not None:
            parity = self._with_success(parity, self._play(self._policy(state)))
        self._note(self._row(stage, Verdict.KEPT if parity.passed else Verdict.UNDONE, state, parity))
        if parity.passed:
            self._state = state

    def _parity(self, state: State) -> Parity:
        return compare(
            self._reference,
            edge_side(self._policy(state)),
            self._subject.questions,
            floor=self._recipe.floor,
            batches=(1,),
            shapes=as_recorded,
        )

    def _with_success(self, parity: Parity, theirs: Outcomes | None) -> Parity:
        if self._outcomes is None or theirs is None:
            return parity
        margin = self._recipe.floor.success_margin
        return msgspec.structs.replace(parity, success=success(self._outcomes, theirs, margin=margin))

    def _policy(self, state: State) -> Policy:
        temperature = float(state.config.get(CALIBRATION, 1.0))
        return Policy(network(state.written, state.config), state.config, {}, state.written, temperature)

    def _row(self, stage: str, verdict: Verdict, state: State, parity: Parity) -> Row:
        policy, (row,) = self._policy(state), parity.rows
        return Row(
            stage=stage,
            verdict=verdict,
            size_bytes=size_bytes(state.written, state.config),
            parameters=policy.parameters,
            agreement=row.agreement,
            kl_nats=row.kl_nats,
            success=None if parity.success is None else parity.success.exported,
            zeros=_zeros(state.arrays),
            decision_ms=decision_ms(edge_side(policy), self._subject.questions),
            memory_bytes=memory_bytes(state.written, state.config, self._subject.questions[0]),
        )

    def _note(self, row: Row) -> None:
        self._rows.append(row)
        self._told(row)


def _state_of(network_: Any, config: dict[str, Any]) -> State:
    arrays: dict[str, Array] = dict(arrays_of(network_))
    return State(arrays, config, arrays)


def _zeros(arrays: Mapping[str, Array]) -> float:
    return float(sum((array == 0).sum() for array in arrays.values()) / sum(array.size for array in arrays.values()))
