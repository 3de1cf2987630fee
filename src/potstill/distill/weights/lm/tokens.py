"""Chats as tokens with weights, and held-out chats as prompts with their candidates: what the training loop reads.

The loop knows decisions among actions; here a decision is a token of the answer among the vocabulary, so that its loss
is the weighted mean over the tokens of the chosen spans (``losses.spans.span_mean``). Knows ids. Does not run models.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np

from potstill.distill.weights.lm.chats import Chat
from potstill.distill.weights.lm.passes import Pass, joined
from potstill.distill.weights.losses.spans import Span, SpanKind, span_weights
from potstill.distill.weights.policies.batch import Batch, Integers
from potstill.distill.weights.policies.pytorch import load_torch
from potstill.errors import ConfigError
from potstill.models.likelihood import Tokens
from potstill.models.lm_texts import LmTexts
from potstill.models.reasoned import LEAD, begun_with
from potstill.models.torch_engine import TorchEngine

torch = load_torch()


class Row(NamedTuple):
    """One chat as tokens: ``answer`` and its ``weights`` are as long as each other."""

    prompt: list[int]
    answer: list[int]
    weights: list[float]


class Spans(NamedTuple):
    """A batch to learn from, rows aligned at their ends. B rows, T tokens at most, N of them learnt."""

    ids_BT: Any
    mask_BT: Any
    """1 where there is a token."""
    keep_K: Any
    """Positions whose logits are needed in some row: the head sees no others."""
    where_N2: Any
    """Row, and place in ``keep_K``, whose logits say the next, learnt token."""


class Thinking(NamedTuple):
    """How a student that reasons writes before it is asked to choose."""

    texts: LmTexts
    most: int
    """Tokens that it may write."""

    def after(self, engine: TorchEngine, prompt: list[int]) -> list[int]:
        """The prompt with the likeliest line of reasoning, as far as the action: as ``models.reasoned`` acts."""

        def ended(row: int, tokens: list[int]) -> bool:
            return tokens[-1] in engine.ends or "\n" in self.texts.tokenizer.decode(tokens)

        asked = [*prompt, *self.texts.begun_ids(LEAD)]
        (written,), _ = engine.decode(asked, 1, self.most, 0.0, 0, ended, lambda: None)
        text: str = self.texts.tokenizer.decode([token for token, _ in written if token not in engine.ends])
        return [*prompt, *self.texts.begun_ids(begun_with(text.partition("\n")[0]))]


class Choices(NamedTuple):
    """Held-out questions: each prompt, and its candidates' tokens."""

    prompts: list[list[int]]
    candidates: list[list[Tokens]]
    thinking: Thinking | None = None
    """None: the candidates follow the prompt at once."""


def row_of(chat: Chat, texts: LmTexts, weights: dict[SpanKind, float]) -> Row:
    """A chat's tokens; the end of the answer counts as part of the action."""
    before, action = _answer(chat, texts)
    said = [*action, *texts.end_ids()]
    spans = [Span(len(before), len(before) + len(said), SpanKind.TEXT)]
    if before:
        spans.insert(0, Span(0, len(before), SpanKind.REASONING))
    answer = [*before, *said]
    return Row(texts.prompt_ids(chat.messages), answer, list(span_weights(len(answer), spans, weights)))


def _pass(row: Row, weight: float) -> Pass:
    return Pass([*row.prompt, *row.answer], [0.0] * len(row.prompt) + [weight * value for value in row.weights])


def _answer(chat: Chat, texts: LmTexts) -> tuple[Tokens, Tokens]:
    """The tokens before the action, and the action's: split as a model writes them, a space with the word after it."""
    if not chat.reasoning:
        return (), texts.action_ids(chat.action)
    return thought_ids(chat, texts), texts.answer_ids(f" {chat.action}")


def thought_ids(chat: Chat, texts: LmTexts) -> Tokens:
    return texts.begun_ids(begun_with(chat.reasoning))


class LmExamples:
    """Chats to learn from. Satisfies ``policies.batch.Examples``."""

    def __init__(
        self,
        chats: Sequence[Chat],
        texts: LmTexts,
        weights: dict[SpanKind, float],
        vocabulary: int,
        whole_episodes: bool = False,
    ) -> None:
        """``vocabulary``: how many logits the model has, which may be more than the tokenizer's entries.

        ``whole_episodes``: decisions whose prompts go on from one another are learnt in one pass (``passes.joined``).
        """
        self.rows = [row_of(chat, texts, weights) for chat in chats]
        passes = [_pass(row, chat.weight) for row, chat in zip(self.rows, chats, strict=True)]
        self.passes = joined(passes) if whole_episodes else passes
        self._vocabulary = vocabulary
        self.digest = digest_of([self.rows, [chat.weight for chat in chats]])

    def __len__(self) -> int:
        """How many passes there are: decisions, or episodes."""
        return len(self.passes)

    def batch(self, rows: Integers) -> Batch:
        some = [self.passes[at] for at in rows]
        width = max(len(one.ids) for one in some) - 1  # nothing follows the last token
        ids_BT, mask_BT = np.zeros((len(some), width), np.int64), np.zeros((len(some), width), np.int64)
        learnt = list[tuple[int, int, int, float]]()
        for at, one in enumerate(some):
            before = width - len(one.ids) + 1
            ids_BT[at, before:], mask_BT[at, before:] = one.ids[:-1], 1
            learnt += [
                (at, before + place - 1, one.ids[place], weight)
                for place, weight in enumerate(one.weights)
                if weight > 0
            ]
        row, position, target, weight = zip(*learnt, strict=True)
        keep_K, places = np.unique(position, return_inverse=True)
        where_N2 = torch.from_numpy(np.stack([np.array(row), places], axis=1))
        return Batch(
            inputs=Spans(torch.from_numpy(ids_BT), torch.from_numpy(mask_BT), torch.from_numpy(keep_K), where_N2),
            mask_BA=torch.ones(len(target), self._vocabulary, dtype=torch.bool),
            target_B=torch.tensor(target, dtype=torch.int64),
            probabilities_BA=None,
            weight_B=torch.tensor(weight, dtype=torch.float32),
        )

    def problem(self) -> str | None:
        if not self.rows:
            return "there is no decision to learn from"
        return "every answer is the same" if len({tuple(row.answer) for row in self.rows}) == 1 else None


class LmChoices:
    """Held-out chats, asked by the likelihood of every admissible action. Satisfies ``Examples``.

    A student that reasons is asked behind what it writes itself: the teacher's reasoning, or one made in hindsight,
    would tell the answer.
    """

    def __init__(self, chats: Sequence[Chat], texts: LmTexts, writes: int = 0) -> None:
        """``writes``: how many tokens of reasoning the student may write first; 0: it acts at once."""
        self.chats = list(chats)
        self._thinking = Thinking(texts, writes) if writes else None
        self._prompts = [texts.prompt_ids(chat.messages) for chat in chats]
        lead = begun_with("") if writes else ""
        self._candidates = [[texts.action_ids(action, lead) for action in chat.admissible] for chat in chats]
        self.digest = digest_of([self._prompts, self._candidates, writes])

    def __len__(self) -> int:
        return len(self.chats)

    def batch(self, rows: Integers) -> Batch:
        some = [self.chats[at] for at in rows]
        width = max(len(chat.admissible) for chat in some)
        mask_BA = np.array([[at < len(chat.admissible) for at in range(width)] for chat in some])
        return Batch(
            inputs=Choices([self._prompts[at] for at in rows], [self._candidates[at] for at in rows], self._thinking),
            mask_BA=torch.from_numpy(mask_BA),
            target_B=torch.tensor([chat.admissible.index(chat.action) for chat in some], dtype=torch.int64),
            probabilities_BA=None,
            weight_B=torch.tensor([chat.weight for chat in some], dtype=torch.float32),
        )

    def questions(self) -> Choices:
        """All of them at once."""
        return Choices(self._prompts, self._candidates, self._thinking)

    def problem(self) -> str | None:
        return None if self.chats else "no decision is held out"

    @property
    def longest(self) -> int:
        """Tokens of the longest prompt with its longest candidate, and what may be written between them."""
        pairs = zip(self._prompts, self._candidates, strict=True)
        thinking = self._thinking
        between = thinking.most + len(thinking.texts.begun_ids(begun_with(""))) if thinking is not None else 0
        return between + max((len(prompt) + max(map(len, actions)) for prompt, actions in pairs), default=0)


def longest_reasoning(chats: Sequence[Chat], texts: LmTexts) -> int:
    """In tokens, with what leads in and out of it; 0: nobody reasons."""
    return max((len(thought_ids(chat, texts)) for chat in chats if chat.reasoning), default=0)


def check_lengths(examples: LmExamples, held_out: LmChoices, context_tokens: int) -> None:
    """Raises ``ConfigError`` for prompts that the model cannot take, before hours are spent."""
    lengths = [len(row.prompt) + len(row.answer) for row in examples.rows]
    longest = max([*lengths, held_out.longest])
    if longest > context_tokens:
        over = sum(length > context_tokens for length in lengths)
        raise ConfigError(
            f"The longest prompt with its answer has {longest} tokens ({over} of {len(lengths)} decisions to learn are "
            f"too long), and the model takes {context_tokens}. Show fewer past turns: --history 4"
        )


def digest_of(content: object) -> str:
    """SHA-256 of what training reads."""
    return hashlib.sha256(msgspec.json.encode(content)).hexdigest()
