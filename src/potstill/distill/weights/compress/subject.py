"""What a chain of compression needs of a kind of policy: networks from arrays, data to learn from, questions to judge.

A teacher for all of it is the policy that is made smaller: ``learn`` holds its distribution beside the actions that
were recorded. Knows the kinds of policies. Does not prune, round or judge.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from potstill.distill.weights.data.labelled import Evidence, Labelled, normalised
from potstill.distill.weights.gate import Side
from potstill.distill.weights.gate_shapes import questions_of
from potstill.distill.weights.policies.batch import Examples
from potstill.distill.weights.policies.film import Film, FilmShape, film_shape, new_film
from potstill.distill.weights.policies.grids import GridExamples
from potstill.distill.weights.policies.mlp import VectorExamples, mlp_from, new_mlp, shape_of
from potstill.distill.weights.policies.pytorch import load_torch
from potstill.distill.weights.policies.ranker import Ranker, RankerShape, new_ranker, ranker_shape
from potstill.distill.weights.policies.texts import TextExamples
from potstill.distill.weights.train.mlp import vector_in
from potstill.distill.weights.train.students import trained_side
from potstill.edge.film import Film as EdgeFilm
from potstill.edge.mlp import Mlp as EdgeMlp
from potstill.edge.policy import Policy
from potstill.edge.ranker import Ranker as EdgeRanker
from potstill.edge.tensors import Array
from potstill.errors import ConfigError

torch = load_torch()
CALIBRATION = "temperature"
Shape = TypeVar("Shape", RankerShape, FilmShape)


class Subject(NamedTuple):
    """A policy to be made smaller, and everything that is needed for it."""

    policy: Policy
    learn: Examples
    held_out: Examples
    """Labelled by the policy: what training is stopped by."""
    questions: Sequence[Any]
    network: Callable[[Mapping[str, Array], Mapping[str, Any]], Any]
    """The PyTorch network with these arrays (float32) and this configuration, without dropout."""
    fresh: Callable[[int, int], tuple[Any, dict[str, Any]]]
    """Width and seed -> a new network and its configuration."""
    last: Callable[[Any], Any]
    """A network's last layer, which reads its last hidden one."""
    side: Callable[[Any], Side]
    """A PyTorch network as the gate asks it."""


def subject_of(policy: Policy, learn: Sequence[Labelled], held_out: Sequence[Labelled]) -> Subject:
    """Of a policy and the decisions that it was trained on and judged by; without these ``ConfigError``."""
    network = policy.network
    if not isinstance(network, EdgeMlp):
        return reader_subject(policy, learn, held_out)
    vectors, judged = (
        np.array([vector_in(one) for one in some], np.float32).reshape(len(some), network.inputs)
        for some in (learn, held_out)
    )
    return mlp_subject(policy, vectors, [network.actions.index(one.action) for one in learn], judged)


def reader_subject(policy: Policy, learn: Sequence[Labelled], held_out: Sequence[Labelled]) -> Subject:
    """Of a ranker or a grid student, and the decisions that it was trained on and judged by."""
    reader = policy.network
    assert not isinstance(reader, EdgeMlp)
    if not learn or not held_out:
        raise ConfigError(f"{len(learn)} decisions to learn from and {len(held_out)} held out: both are needed.")
    kind = _film(policy.config) if isinstance(reader, EdgeFilm) else _ranker(policy.config)
    return Subject(
        policy=policy,
        learn=kind.examples([_taught(reader, one) for one in learn]),
        held_out=kind.examples([_taught(reader, one, relabel=True) for one in held_out]),
        questions=questions_of(held_out),
        network=lambda arrays, config: _loaded(kind.network(config), arrays),
        fresh=kind.fresh,
        last=lambda network: network.score,
        side=trained_side,
    )


def mlp_subject(
    policy: Policy, observations: NDArray[Any], actions: Sequence[int] | NDArray[Any], held_out: NDArray[Any]
) -> Subject:
    """Of a multilayer perceptron, observations (n, d) with what was done (n,), and held-out ones (m, d)."""
    if len(observations) == 0 or len(held_out) == 0:
        raise ConfigError(f"{len(observations)} observations to learn from and {len(held_out)} held out: give both.")
    network = policy.network
    if not isinstance(network, EdgeMlp):
        raise ConfigError(f"A policy of the kind '{policy.kind}' reads no vectors. Give a perceptron's file.")
    logits, judged = (np.asarray(network.logits(x)) for x in (observations, held_out))
    count = logits.shape[1]
    normal = _normal(policy.arrays)
    return Subject(
        policy=policy,
        learn=VectorExamples(observations, actions, action_count=count, logits=logits),
        held_out=VectorExamples(held_out, judged.argmax(axis=1), action_count=count, logits=judged),
        questions=list(np.asarray(held_out, np.float32)),
        network=mlp_from,
        fresh=lambda width, seed: _fresh_mlp(policy.config, width, seed, normal),
        last=lambda network: network.layers[-1],
        side=trained_side,
    )


def _loaded(network: Any, arrays: Mapping[str, Array]) -> Any:
    network.load_state_dict({name: torch.tensor(np.asarray(array, np.float32)) for name, array in arrays.items()})
    network.eval()
    return network


# --- policies that read situations ----------------------------------------------------------------------------------


class _Kind(NamedTuple):
    examples: Callable[[Sequence[Labelled]], Examples]
    network: Callable[[Mapping[str, Any]], Any]
    fresh: Callable[[int, int], tuple[Any, dict[str, Any]]]


def _ranker(given: Mapping[str, Any]) -> _Kind:
    words = _shape(given, RankerShape).words()

    def fresh(width: int, seed: int) -> tuple[Any, dict[str, Any]]:
        shape = msgspec.structs.replace(ranker_shape(given["vocabulary"], width), buckets=given["buckets"])
        return new_ranker(shape, seed=seed, dropout=0.0), {**_calibration(given), **shape.config()}

    return _Kind(
        lambda some: TextExamples(some, words), lambda config: Ranker(_shape(config, RankerShape), dropout=0.0), fresh
    )


def _film(given: Mapping[str, Any]) -> _Kind:
    told = _shape(given, FilmShape)
    words, form = told.words(), told.form()

    def fresh(width: int, seed: int) -> tuple[Any, dict[str, Any]]:
        kept = {name: getattr(told, name) for name in ("buckets", "size", "symbols", "blocks")}
        shape = msgspec.structs.replace(film_shape(told.vocabulary, told.actions, width), **kept)
        return new_film(shape, seed=seed, dropout=0.0), {**_calibration(given), **shape.config()}

    return _Kind(
        lambda some: GridExamples(some, words, form, told.actions),
        lambda config: Film(_shape(config, FilmShape), dropout=0.0),
        fresh,
    )


def _shape(config: Mapping[str, Any], kind: type[Shape]) -> Shape:
    """As a policy's configuration says it, what else stands there aside."""
    return msgspec.convert({name: config[name] for name in kind.__struct_fields__}, kind)


def _taught(reader: EdgeRanker | EdgeFilm, decision: Labelled, *, relabel: bool = False) -> Labelled:
    """The decision with the policy's distribution, and with ``relabel`` its action."""
    logits = reader.logits(msgspec.to_builtins(decision.situation), decision.admissible)
    known = normalised([float(one) for one in logits])
    if known is None:
        raise ConfigError(
            "The policy's logits are no numbers for a decision of its own data: its weights are too large."
        )
    action = decision.admissible[int(np.argmax(logits))] if relabel else decision.action
    return msgspec.structs.replace(
        decision, action=action, evidence=Evidence.LOG_PROBABILITIES, log_probabilities=known, votes=()
    )


# --- perceptrons ----------------------------------------------------------------------------------------------------


def _fresh_mlp(config: Mapping[str, Any], width: int, seed: int, normal: Any) -> tuple[Any, dict[str, Any]]:
    hidden = [width] * (len(config["sizes"]) - 2)
    shape = shape_of({**config, "sizes": [config["sizes"][0], *hidden, config["sizes"][-1]]})
    return new_mlp(shape, seed=seed, normal=normal), {**_calibration(config), **shape.config()}


def _normal(arrays: Mapping[str, Array]) -> tuple[Any, Any] | None:
    return (arrays["input.mean"], arrays["input.scale"]) if "input.mean" in arrays else None


def _calibration(config: Mapping[str, Any]) -> dict[str, Any]:
    """A student of the policy's distribution is as sure as the policy."""
    return {CALIBRATION: config[CALIBRATION]} if CALIBRATION in config else {}
