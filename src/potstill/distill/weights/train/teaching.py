"""Training as every student has it: a network that is ready, its data, and the loop with what a checkpoint belongs to.

It knows no kind of student: each has a module of its own that prepares it (``ranker``, ``film``, ``mlp``; ``students``
chooses).
"""

from __future__ import annotations

import copy
import functools
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec

from potstill.distill.weights.policies.batch import Examples
from potstill.distill.weights.train.loop import Evaluator, Keeping, Trained, train
from potstill.distill.weights.train.processes import started
from potstill.distill.weights.train.progress import Progress
from potstill.distill.weights.train.recipe import Recipe

TIMED_STEPS = 4


class Prepared(NamedTuple):
    """A network with its first weights, and the data as it reads them."""

    network: Any
    data: Examples
    held_out: Examples

    @property
    def parameters(self) -> int:
        return sum(value.numel() for value in self.network.parameters())


def teach(
    prepared: Prepared,
    recipe: Recipe,
    *,
    evaluate: Evaluator | None = None,
    keeping: Keeping | None = None,
    watch: Callable[[Progress, int], None] = lambda progress, total: None,
    parent: str = "",
) -> Trained:
    """Train the prepared network; it holds the best weights afterwards. Raises as ``loop.train``.

    Where the recipe has several processes, the others live as long as this takes; see ``processes.started``.

    ``parent``: the version that it goes on from; a checkpoint belongs to one.
    """
    begun = {"parent": parent} if parent else {}
    network = {
        **begun,
        "network": msgspec.json.encode(prepared.network.shape.config()).decode(),
        "dropout": str(recipe.dropout),
    }
    taught = functools.partial(
        train,
        prepared.network,
        prepared.data,
        recipe.train,
        held_out=prepared.held_out,
        evaluate=evaluate,
        keeping=keeping,
        identity=network,
        watch=watch,
    )
    if recipe.train.processes == 1:
        return taught()
    with started(prepared.network, prepared.data, recipe.train) as together:
        trained = taught(gradients=together)
    return trained._replace(others_cpu_s=together.cpu_s)


def seconds_a_step(prepared: Prepared, recipe: Recipe) -> float:
    """CPU seconds of a gradient step on this machine, as a few steps of a copy take."""
    network = copy.deepcopy(prepared.network)
    config = msgspec.structs.replace(recipe.train, steps=1, warmup=0, patience=0, processes=1)
    train(network, prepared.data, config)
    started = time.process_time()
    train(network, prepared.data, msgspec.structs.replace(config, steps=TIMED_STEPS))
    return (time.process_time() - started) / TIMED_STEPS
