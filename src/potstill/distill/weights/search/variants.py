"""What a finished trial comes to in fewer bits and with fewer units, each measured as the trial was.

It makes what ``compress`` makes of the file afterwards. It does not choose among them.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from potstill.distill.weights.compress.axes import axes_of
from potstill.distill.weights.compress.pruning import pruned, tuned
from potstill.distill.weights.compress.quantize import WIDTHS, in_bits, multiplied_out
from potstill.distill.weights.compress.subject import Subject, subject_of
from potstill.distill.weights.data.labelled import Labelled
from potstill.distill.weights.policies.pytorch import load_torch
from potstill.distill.weights.policies.ranker import arrays_of
from potstill.distill.weights.search.smaller import PRUNED, compression
from potstill.distill.weights.search.trials import WHOLE, Variant
from potstill.distill.weights.train.loop import Diverged, Evaluator, agreement_of
from potstill.distill.weights.train.recipe import Recipe
from potstill.distill.weights.train.teaching import Prepared
from potstill.edge.policy import Policy, network
from potstill.edge.tensors import Array

torch = load_torch()


def variants_of(
    prepared: Prepared,
    learn: Sequence[Labelled],
    judge: Sequence[Labelled],
    recipe: Recipe,
    value: float,
    evaluate: Evaluator | None,
) -> tuple[Variant, ...]:
    """The trained network as it is, whose value is known, and in fewer bits; then the same without half of its units.

    A linear policy has no units, and what diverges in its fine-tuning is left out.
    """
    arrays, config = arrays_of(prepared.network), prepared.network.shape.config()
    if not axes_of(config):
        return _in_each_width(prepared.network, arrays, value, prepared, evaluate)
    subject = subject_of(Policy(network(arrays, config), config, {}, arrays, 1.0), learn, judge)
    whole = _in_each_width(prepared.network, arrays, value, prepared, evaluate)
    started = time.process_time()
    try:
        smaller = _without_units(subject, arrays, config, recipe, len(learn))
    except Diverged:
        return whole
    cpu_s = time.process_time() - started
    known = _measured(smaller, prepared, evaluate)
    few = _in_each_width(smaller, arrays_of(smaller), known, prepared, evaluate, share=PRUNED, cpu_s=cpu_s)
    return (*whole, *few)


def _without_units(
    subject: Subject, arrays: Mapping[str, Array], config: Mapping[str, Any], recipe: Recipe, decisions: int
) -> Any:
    how = compression(recipe, decisions)
    return tuned(subject, *pruned(subject, arrays, config, PRUNED, how), how)


def _in_each_width(
    trained: Any,
    arrays: Mapping[str, Array],
    value: float,
    prepared: Prepared,
    evaluate: Evaluator | None,
    share: float = 0.0,
    cpu_s: float = 0.0,
) -> tuple[Variant, ...]:
    """``trained`` holds the weights in few bits afterwards."""
    found = [(WHOLE, _bytes(arrays), value)]
    for bits in WIDTHS:
        narrow = in_bits(arrays, bits)
        exact = multiplied_out(narrow)
        trained.load_state_dict({name: torch.from_numpy(np.array(array)) for name, array in exact.items()})
        found.append((bits, _bytes(narrow), _measured(trained, prepared, evaluate)))
    parameters = sum(array.size for array in arrays.values())
    return tuple(
        Variant(bits=bits, bytes=size, value=reached, pruned=share, parameters=parameters, cpu_s=cpu_s)
        for bits, size, reached in found
    )


def _measured(trained: Any, prepared: Prepared, evaluate: Evaluator | None) -> float:
    trained.eval()
    return evaluate(trained) if evaluate else agreement_of(trained, prepared.held_out)


def _bytes(arrays: Mapping[str, Array]) -> int:
    return sum(array.nbytes for array in arrays.values())
