"""Distil, prune, fine-tune, set to zero, round: the stages of a ranker or a perceptron, judged by ``stages``.

Knows what each stage does. Does not know kinds of networks (``subject``), files, or how episodes are played.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from potstill.distill.weights.compress.axes import axes_of
from potstill.distill.weights.compress.cost import decision_ms, memory_bytes, size_bytes
from potstill.distill.weights.compress.masks import holding, masked, masks_of
from potstill.distill.weights.compress.pruning import distilled, learn_from, pruned, tuned
from potstill.distill.weights.compress.quantize import in_bits
from potstill.distill.weights.compress.recipe import Compression
from potstill.distill.weights.compress.stages import Compressed, Measures, Row, Stages, Ways
from potstill.distill.weights.compress.subject import CALIBRATION, Subject
from potstill.distill.weights.gate import edge_side
from potstill.distill.weights.gate_success import Outcomes
from potstill.distill.weights.policies.ranker import arrays_of
from potstill.edge.layers import bits
from potstill.edge.policy import Policy, network
from potstill.edge.tensors import Array
from potstill.errors import ConfigError, one_of

Play = Callable[[Policy], Outcomes]


class State(NamedTuple):
    """A policy between two stages: in float32, and as it would be written."""

    arrays: dict[str, Array]
    config: dict[str, Any]
    written: dict[str, Array]

    @property
    def policy(self) -> Policy:
        temperature = float(self.config.get(CALIBRATION, 1.0))
        return Policy(network(self.written, self.config), self.config, {}, self.written, temperature)


def compress(
    subject: Subject,
    recipe: Compression,
    *,
    play: Play | None = None,
    told: Callable[[Row], None] = lambda row: None,
) -> Compressed[State]:
    """Run the stages. ``play``: outcomes of a policy on fixed episodes, equal episodes at each call; ``told`` hears of
    every row. Raises ``ConfigError`` for axes that the policy has not, ``Diverged``."""
    given = dict(subject.policy.arrays)
    if any(bits(array) is not None for array in given.values()):
        raise ConfigError("The policy's weights have few bits already. Give the file that it was made from.")
    first = State(given, dict(subject.policy.config), given)
    axes = axes_of(first.config)
    for axis in recipe.axes:
        one_of("axis", axis, axes)
    if recipe.features and not axes:
        raise ConfigError("A linear policy has no hidden layer whose features a student could learn: --features 0")
    ways: Ways[State] = Ways(
        side=lambda state: edge_side(state.policy),
        measures=lambda state: _measures(state, subject),
        play=None if play is None else lambda state: play(state.policy),
    )
    stages = Stages(first, ways, subject.questions, recipe.floor, told)
    if recipe.width:
        stages.judge(f"distil into width {recipe.width}", _state_of(*distilled(subject, recipe)))
    for share in recipe.prune:
        without = _pruned(subject, recipe, stages.state, share)
        stages.untuned(f"prune {share:g}", without)
        stages.judge(f"prune {share:g}, fine-tune", _tuned(subject, recipe, without))
    if recipe.sparse:
        stages.judge(f"zeros {recipe.sparse:g}, fine-tune", _sparse(subject, recipe, stages.state))
    for few in sorted(recipe.bits, reverse=True):
        now = stages.state
        stages.judge(f"{few} bits", State(now.arrays, now.config, in_bits(now.arrays, few)))
    return stages.done()


# --- stages ---------------------------------------------------------------------------------------------------------


def _pruned(subject: Subject, recipe: Compression, state: State, share: float) -> State:
    arrays, config = pruned(subject, state.arrays, state.config, share, recipe)
    return State(arrays, config, arrays)


def _tuned(subject: Subject, recipe: Compression, state: State) -> State:
    return _state_of(tuned(subject, state.arrays, state.config, recipe), state.config)


def _sparse(subject: Subject, recipe: Compression, state: State) -> State:
    masks = masks_of(state.arrays, recipe.sparse)
    network_ = subject.network(masked(state.arrays, masks), state.config)
    with holding(network_, masks):
        learn_from(subject, network_, recipe, recipe.finetune_steps, recipe.learning_rate / 2)
    return _state_of(network_, state.config)


def _state_of(network_: Any, config: dict[str, Any]) -> State:
    arrays: dict[str, Array] = dict(arrays_of(network_))
    return State(arrays, config, arrays)


# --- measuring ------------------------------------------------------------------------------------------------------


def _measures(state: State, subject: Subject) -> Measures:
    policy = state.policy
    return Measures(
        size_bytes=size_bytes(state.written, state.config),
        parameters=policy.parameters,
        zeros=_zeros(state.arrays),
        decision_ms=decision_ms(edge_side(policy), subject.questions),
        memory_bytes=memory_bytes(state.written, state.config, subject.questions[0]),
    )


def _zeros(arrays: Mapping[str, Array]) -> float:
    return float(sum((array == 0).sum() for array in arrays.values()) / sum(array.size for array in arrays.values()))
