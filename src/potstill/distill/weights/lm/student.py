"""From chats to a tuned language model: tokens, adapters, training, and the sides that the parity gate asks.

It knows what a language-model student needs. It does not read stores, make prompts (``chats``) or write (``folder``).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np

from potstill.distill.weights import gate
from potstill.distill.weights.gate_shapes import Question, as_recorded
from potstill.distill.weights.lm.chats import Chat
from potstill.distill.weights.lm.network import LmNetwork, new_network
from potstill.distill.weights.lm.recipe import LmRecipe
from potstill.distill.weights.lm.tokens import LmChoices, LmExamples, check_lengths, longest_reasoning
from potstill.distill.weights.policies.pytorch import load_torch
from potstill.distill.weights.train.config import TrainConfig
from potstill.distill.weights.train.loop import Evaluator, Keeping, Trained, train
from potstill.distill.weights.train.progress import Progress
from potstill.errors import BadModelFile, ConfigError
from potstill.models.convert import load_transformers, offline
from potstill.models.lm_texts import LmTexts
from potstill.models.torch_engine import load_model
from potstill.models.tuned import TunedModel
from potstill.models.tuned_file import weights_sha256
from potstill.types import Request, Situation

torch = load_torch()

ASKED = 12
"""Held-out questions for the parity gate."""
FLOOR = gate.Floor(kl_nats=1e-4)
"""Of the folder against what was trained: adapters that are added to the weights round otherwise than beside them."""


class Prepared(NamedTuple):
    """A model with fresh adapters, and the data as it reads them."""

    base: Path
    base_sha256: str
    network: LmNetwork
    texts: LmTexts
    data: LmExamples
    held_out: LmChoices

    @property
    def parameters(self) -> int:
        """Of the adapters."""
        return sum(value.numel() for value in self.network.parameters())


class Tokens(NamedTuple):
    """The data as a base reads them."""

    texts: LmTexts
    data: LmExamples
    held_out: LmChoices
    vocabulary: int
    """Of the base's weights."""
    context_tokens: int


def as_tokens(base: Path, learn: Sequence[Chat], held_out: Sequence[Chat], recipe: LmRecipe) -> Tokens:
    """What can be refused before weights are loaded. ``base``: a checkpoint folder.

    Raises ``ConfigError`` for data that teach nothing and prompts that are too long, ``BadModelFile`` for a tokenizer
    and weights that do not belong together; ``MissingExtra``.
    """
    texts, config = LmTexts(base), _config(base)
    vocabulary = int(config.vocab_size)
    _check_vocabulary(base, texts, vocabulary)
    data = LmExamples(learn, texts, recipe.spans, vocabulary, recipe.whole_episodes)
    held = LmChoices(held_out, texts, longest_reasoning(learn, texts))
    problem = data.problem()
    if problem is not None:
        raise ConfigError(f"Nothing can be learnt: {problem}. Record other episodes, or more of them.")
    if recipe.whole_episodes and len(data) == len(learn):
        raise ConfigError(
            f"No prompt of the {len(learn)} decisions goes on from where another one ended, as the template of this "
            "base writes them, so there is nothing to learn in one pass. Leave --whole-episodes away."
        )
    check_lengths(data, held, int(config.max_position_embeddings))
    return Tokens(texts, data, held, vocabulary, int(config.max_position_embeddings))


def prepare(base: Path, learn: Sequence[Chat], held_out: Sequence[Chat], recipe: LmRecipe) -> Prepared:
    """Everything that training needs, the weights as well. Raises as ``as_tokens``."""
    texts, data, held, vocabulary, _ = as_tokens(base, learn, held_out, recipe)
    model = load_model(base)
    rows = int(model.get_input_embeddings().weight.shape[0])
    if rows != vocabulary:
        raise BadModelFile(
            f"{base}: its weights have {rows} tokens and its configuration {vocabulary}. Convert it anew."
        )
    return Prepared(base, weights_sha256(base), new_network(model, recipe), texts, data, held)


def teach(
    prepared: Prepared,
    recipe: LmRecipe,
    *,
    evaluate: Evaluator | None = None,
    keeping: Keeping | None = None,
    watch: Callable[[Progress, int], None] = lambda progress, total: None,
) -> Trained:
    """Train the adapters; they hold the best weights afterwards. Raises as ``loop.train``."""
    told = msgspec.structs.replace(recipe, train=TrainConfig())
    return train(
        prepared.network,
        prepared.data,
        recipe.train,
        held_out=prepared.held_out,
        evaluate=evaluate,
        keeping=keeping,
        identity={"base": prepared.base_sha256, "adapters": msgspec.json.encode(told).decode()},
        watch=watch,
    )


def seconds_a_step(prepared: Prepared, recipe: LmRecipe) -> float:
    """CPU seconds of a gradient step on this machine, as one step takes; the adapters are as they were afterwards."""
    before = {name: value.detach().clone() for name, value in prepared.network.state_dict().items()}
    config = msgspec.structs.replace(recipe.train, steps=2, warmup=0, patience=0)
    started = time.process_time()
    train(prepared.network, prepared.data, config)
    prepared.network.load_state_dict(before)
    return (time.process_time() - started) / 3  # the loop looks at one more batch before it begins


# --- the gate -------------------------------------------------------------------------------------------------------


class Asked(Question, frozen=True, kw_only=True):
    """A held-out chat as a question of the gate."""

    chat: Chat


def questions_of(chats: Sequence[Chat], most: int = ASKED) -> list[Asked]:
    """``most`` held-out chats, evenly picked."""
    return [asked(chat) for chat in chats[:: max(1, -(-len(chats) // most))]]


def asked(chat: Chat) -> Asked:
    """A chat as a question of the gate."""
    return Asked(situation=Situation(observation=chat.messages[-1].content), admissible=chat.admissible, chat=chat)


def parity(trained: gate.Side, written: TunedModel, questions: Sequence[Asked]) -> gate.Parity:
    """Both sides' likelihoods of every candidate: ``side_of`` a network, and the student as it acts.

    Raises ``GateFailed``.
    """
    found = gate.compare(trained, _acting_side(written), questions, floor=FLOOR, batches=(1,), shapes=as_recorded)
    if not found.passed:
        raise gate.GateFailed(found)
    return found


def trained_side(prepared: Prepared) -> gate.Side:
    """The network in training, as a side of the gate."""
    return side_of(prepared.network, prepared.texts)


def side_of(network: LmNetwork, texts: LmTexts) -> gate.Side:
    """A network as a side of the gate that is asked ``Asked``."""

    def answer(questions: Sequence[Asked]) -> list[Any]:
        chats = [question.chat for question in questions]
        batch = LmChoices(chats, texts).batch(np.arange(len(chats)))
        network.eval()
        scores_BA = network(batch.inputs).numpy()
        return [row[: len(chat.admissible)] for row, chat in zip(scores_BA, chats, strict=True)]

    return answer


def _acting_side(written: TunedModel) -> gate.Side:
    async def ask(questions: Sequence[Asked]) -> list[Any]:
        answers = []
        for question in questions:
            request = Request(messages=question.chat.messages, admissible=question.admissible)
            scores = dict((await written.weigh(request)).replies[0].candidates)
            answers.append(np.array([scores[action] for action in question.admissible]))
        return answers

    return lambda questions: asyncio.run(ask(questions))


# --- before ---------------------------------------------------------------------------------------------------------


def _config(base: Path) -> Any:
    with offline():
        try:
            return load_transformers().AutoConfig.from_pretrained(str(base))
        except (OSError, ValueError, KeyError) as error:
            raise BadModelFile(f"{base} is no checkpoint that transformers reads: {error}") from None


def vocabulary_of(base: Path) -> int:
    """How many tokens a checkpoint's weights know. Raises ``BadModelFile``."""
    return int(_config(base).vocab_size)


def _check_vocabulary(base: Path, texts: LmTexts, vocabulary: int) -> None:
    entries = len(texts.tokenizer)
    if entries > vocabulary:
        raise BadModelFile(
            f"The tokenizer of {base} has {entries} tokens and its model {vocabulary}: they do not belong together. "
            "Give a folder whose tokenizer and weights were saved from one model."
        )
