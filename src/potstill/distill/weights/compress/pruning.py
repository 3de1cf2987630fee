"""A narrower network, or one without some of its units, that learns the policy's own distribution. Judges nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from potstill.distill.weights.compress.axes import axes_of, shrunk
from potstill.distill.weights.compress.features import matching
from potstill.distill.weights.compress.gradients import products
from potstill.distill.weights.compress.recipe import Compression
from potstill.distill.weights.compress.scores import kept_of, left
from potstill.distill.weights.compress.subject import Subject
from potstill.distill.weights.losses.config import Kind, Loss
from potstill.distill.weights.train.config import TrainConfig
from potstill.distill.weights.train.loop import Gradients, alone, train
from potstill.edge.tensors import Array


def pruned(
    subject: Subject, arrays: Mapping[str, Array], config: Mapping[str, Any], share: float, recipe: Compression
) -> tuple[dict[str, Array], dict[str, Any]]:
    """The policy without ``share`` of the units of each axis. All axes are scored as they stand, then cut."""
    found, smaller = dict(arrays), dict(config)
    axes = {name: axis for name, axis in axes_of(smaller).items() if name in (recipe.axes or axes_of(smaller))}
    network = subject.network(found, smaller)
    counts = {name: left(axis.size, share) for name, axis in axes.items()}
    stay = kept_of(axes, found, lambda: products(network, subject.learn, seed=recipe.seed), counts, recipe.score)
    for name, units in stay.items():
        found, smaller = shrunk(found, smaller, name, units)
    return found, smaller


def tuned(subject: Subject, arrays: Mapping[str, Array], config: Mapping[str, Any], recipe: Compression) -> Any:
    """The network after its fine-tuning. Raises ``Diverged``."""
    network = subject.network(arrays, config)
    learn_from(subject, network, recipe, recipe.finetune_steps, recipe.learning_rate / 2)
    return network


def distilled(subject: Subject, recipe: Compression) -> tuple[Any, dict[str, Any]]:
    """A new network of the recipe's width that learnt the policy's distribution, and its configuration.

    Raises ``Diverged``.
    """
    network, config = subject.fresh(recipe.width, recipe.seed)
    if not recipe.features:
        learn_from(subject, network, recipe, recipe.distill_steps, recipe.learning_rate)
        return network, config
    given = subject.network(subject.policy.arrays, subject.policy.config)
    beside, gradients = matching(network, given, subject.last, recipe.features, seed=recipe.seed)
    learn_from(subject, beside, recipe, recipe.distill_steps, recipe.learning_rate, gradients)
    return network, config


def learn_from(
    subject: Subject, network: Any, recipe: Compression, steps: int, rate: float, gradients: Gradients = alone
) -> None:
    """Train a network on the policy's own distribution; it holds the best weights afterwards. Raises ``Diverged``."""
    train(network, subject.learn, _learning(recipe, steps, rate), held_out=subject.held_out, gradients=gradients)


def _learning(recipe: Compression, steps: int, rate: float) -> TrainConfig:
    loss = Loss(kind=Kind.SOFT, temperature=recipe.temperature, hard_share=recipe.hard_share)
    return TrainConfig(
        seed=recipe.seed,
        steps=steps,
        batch=recipe.batch,
        learning_rate=rate,
        evaluate_every=max(1, steps // 10),
        patience=0,
        loss=loss,
        threads=recipe.threads,
    )
