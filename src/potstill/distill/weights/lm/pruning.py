"""One round of pruning a language model: heads and units out, and what is left tuned on the student's own choices.

What is learnt is every action that the student finds likely, each as often as it would choose it: the cross-entropy
with its distribution over the admissible actions, by the tokens of each. Knows models and chats. Judges nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from potstill.distill.weights.compress.axes import Axis
from potstill.distill.weights.compress.gradients import products
from potstill.distill.weights.compress.recipe import Compression
from potstill.distill.weights.compress.scores import Products, kept_of
from potstill.distill.weights.gate import Side
from potstill.distill.weights.lm.axes import axes_of, kind_of, permitted, staying, without
from potstill.distill.weights.lm.chats import Chat
from potstill.distill.weights.lm.network import LmNetwork, new_network
from potstill.distill.weights.lm.recipe import LmRecipe
from potstill.distill.weights.lm.student import asked
from potstill.distill.weights.lm.tokens import LmExamples
from potstill.distill.weights.train.config import TrainConfig
from potstill.distill.weights.train.loop import train
from potstill.edge.policy import log_softmax

BATCHES = 12
"""Of Taylor's score; each has as many decisions as a gradient step."""
DECISIONS = 64
"""Learnt at least, where there are as many: few steps tell little of them, and Taylor's score needs some."""
LIKELY = 0.01
"""Actions below this probability are not learnt: they cost as many tokens as others and weigh nothing."""


def chosen(axes: Mapping[str, Axis], names: Sequence[str]) -> dict[str, Axis]:
    """The axes of these kinds; of all where none is named."""
    return {name: axis for name, axis in axes.items() if not names or kind_of(name) in names}


def drawn(chats: Sequence[Chat], recipe: Compression) -> list[Chat]:
    """As many as the fine-tuning can meet, by the seed; all where there are fewer."""
    most = max(DECISIONS, recipe.finetune_steps * recipe.batch)
    order = np.random.default_rng(recipe.seed).permutation(len(chats))[:most]
    return [chats[at] for at in sorted(order.tolist())]


def pruned(model: Any, data: LmExamples, share: float, recipe: Compression) -> Any:
    """A new model without ``share`` of the units of each axis (``axes.staying``), scored as they stand; ``model`` stays
    as it is."""
    axes = chosen(axes_of(model), recipe.axes)
    arrays = {name: value.detach().numpy() for name, value in model.state_dict().items()}
    parts = {part.array for axis in axes.values() for part in axis.parts}
    for name, value in model.named_parameters():
        value.requires_grad_(name in parts)
    network = LmNetwork(model)

    def made() -> Products:
        return products(network, data, seed=recipe.seed, batches=BATCHES, size=recipe.batch)

    counts = {name: staying(permitted(model.config, axis), axis.size, share) for name, axis in axes.items()}
    keep = kept_of(axes, arrays, made, counts, recipe.score)
    model.requires_grad_(False)
    return without(model, keep)


def tuned(model: Any, data: LmExamples, recipe: Compression) -> Any:
    """The model after its fine-tuning by adapters, which are added to its weights; ``model`` is used up.

    Raises ``Diverged``.
    """
    config = TrainConfig(
        seed=recipe.seed,
        steps=recipe.finetune_steps,
        batch=recipe.batch,
        learning_rate=recipe.learning_rate / 2,
        warmup=min(10, recipe.finetune_steps // 4),
        weight_decay=0.0,
        evaluate_every=recipe.finetune_steps,
        patience=0,
        threads=recipe.threads,
    )
    network = new_network(model, LmRecipe(base=model.config.model_type, train=config))
    train(network, data, config)
    return network.peft.merge_and_unload().eval()


def as_chosen(side: Side, chats: Sequence[Chat], hard_share: float = 0.0) -> list[Chat]:
    """Of each chat one for every action that ``side`` finds likely, weighed by ``(1 - hard_share)`` times its
    probability among the admissible ones, and by ``hard_share`` besides where it is the recorded one.
    """
    found = []
    for chat, logits in zip(chats, side([asked(chat) for chat in chats]), strict=True):
        weights = (1.0 - hard_share) * np.exp(log_softmax(np.asarray(logits, np.float64)))
        weights[chat.admissible.index(chat.action)] += hard_share
        found += [
            msgspec.structs.replace(chat, action=action, weight=chat.weight * float(weight))
            for action, weight in zip(chat.admissible, weights, strict=True)
            if weight >= LIKELY
        ]
    return found
