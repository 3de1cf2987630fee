"""What it costs to change who answers in the middle of an episode, from prices and from what each cache still holds.

What it knows: when each side last answered an episode and how much of the conversation it read then. What it does not
do: caches and prices (``measure.cache`` simulates them, as it does for recorded episodes), or decide.

A model whose price is not known gives no costs, and then nothing is concluded from them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from potstill.decide.sampling import TokenPrice, sampling_cost, teacher_is_cheaper
from potstill.record.parsing import action_of, words
from potstill.serve.settings import Model
from potstill.types import Answerer, Blob, Call, Message, Struct, ToolSpec, Usage
from potstill.wire.neutral import Image, Part, Prompt, Tool, ToolOutput, Turn

if TYPE_CHECKING:
    from potstill.measure.prices.table import PriceTable

BYTES_PER_TOKEN = 4
"""Stated estimate, as ``retrieval.tokens.EstimatedTokens``, until a model reported its own count."""
IMAGE_TOKENS = 750
ANSWER_TOKENS = 150.0
"""Expected length of an answer before any was seen."""


class Warmth(Struct, frozen=True, kw_only=True):
    """When a model last answered an episode, and after how many turns of the conversation."""

    at: float
    turns: int


class Lengths(Struct, frozen=True, kw_only=True):
    """Running means of one model on one route."""

    answer_tokens: float = ANSWER_TOKENS
    tokens_per_byte: float = 1.0 / BYTES_PER_TOKEN

    def after(self, usage: Usage, input_bytes: int, answers: int = 1) -> Lengths:
        """With one more request counted in: its tokens as billed, for ``answers`` choices."""
        ratio = usage.input_tokens / input_bytes if input_bytes else self.tokens_per_byte
        return Lengths(
            answer_tokens=0.9 * self.answer_tokens + 0.1 * usage.output_tokens / max(1, answers),
            tokens_per_byte=0.9 * self.tokens_per_byte + 0.1 * ratio,
        )


class Conversation(NamedTuple):
    """A prompt as the cache engine reads it, made once for both sides."""

    messages: tuple[Message, ...]
    ends: tuple[int, ...]
    """How many of the messages the first 0, 1, 2, ... turns make."""
    tools: tuple[ToolSpec, ...]
    tool_bytes: int

    def input_bytes(self, messages: int) -> int:
        """Bytes of text in the tools and the first so many messages, roughly; images are counted as tokens."""
        return self.tool_bytes + sum(_size(message) for message in self.messages[:messages])


class Side(Struct, frozen=True, kw_only=True):
    """One model at this step."""

    model: Model
    answerer: Answerer
    warmth: Warmth | None = None
    lengths: Lengths = Lengths()


class SwitchPrice(Struct, frozen=True, kw_only=True):
    """What the next step is expected to cost, in dollars."""

    teacher_usd: float
    """The teacher answers, its cache as it is now."""
    student_usd: float
    """All samples of the student, its cache as it is now."""
    escalation: float
    """Share of the student's steps that the teacher answers after all."""
    teacher_warm: bool
    """A prefix of this conversation is expected in the teacher's cache."""

    @property
    def cascade_usd(self) -> float:
        return self.student_usd + self.escalation * self.teacher_usd

    @property
    def stay(self) -> bool:
        """The teacher has the episode in its cache, and its answer costs no more than samples and escalations would."""
        return self.teacher_warm and teacher_is_cheaper(self.student_usd, self.teacher_usd, self.escalation)

    def sentence(self) -> str:
        warmth = "warm" if self.teacher_warm else "cold"
        return (
            f"teacher ${self.teacher_usd:.6f} ({warmth}), student ${self.student_usd:.6f}, "
            f"cascade ${self.cascade_usd:.6f} expected"
        )


def switch_price(
    said: Conversation,
    teacher: Side,
    student: Side,
    table: PriceTable,
    *,
    now: float,
    samples: int,
    shares_prompt: bool,
    escalation: float,
) -> SwitchPrice | None:
    """The costs of this step; None where a price is not known."""
    taught = _step(said, teacher, table, now)
    asked = _step(said, student, table, now)
    if taught is None or asked is None:
        return None
    cost = sampling_cost(
        _per_token(student, asked, table),
        samples=samples,
        input_tokens=asked.input_tokens,
        cached_tokens=asked.cache_read_tokens,
        output_tokens=student.lengths.answer_tokens,
        disagreement=escalation,
        shares_prompt=shares_prompt,
    )
    return SwitchPrice(
        teacher_usd=_usd(teacher, taught, table),
        student_usd=cost.together_usd,
        escalation=escalation,
        teacher_warm=taught.cache_read_tokens > 0,
    )


def prompt_usd(said: Conversation, side: Side, table: PriceTable, now: float) -> float | None:
    """What one answer to a conversation is expected to cost; None where the price is not known."""
    usage = _step(said, side, table, now)
    return None if usage is None else _usd(side, usage, table)


def conversation(prompt: Prompt) -> Conversation:
    """Equal beginnings of two prompts give equal beginnings here."""
    messages: list[Message] = []
    ends = [0]
    for turn in prompt.turns:
        messages.extend(_messages_of(turn))
        ends.append(len(messages))
    tools = tuple(
        ToolSpec(name=tool.name, description=tool.description or "", parameters=tool.parameters or {})
        for tool in prompt.tools
        if isinstance(tool, Tool)
    )
    return Conversation(tuple(messages), tuple(ends), tools, len(msgspec.json.encode(tools)) if tools else 0)


# --- one hypothetical request -----------------------------------------------------------------------------------------


def _step(said: Conversation, side: Side, table: PriceTable, now: float) -> Usage | None:
    """The tokens of asking ``side`` now, with what its last answer left in the cache."""
    from potstill.measure.cache import PromptCache

    if not table.has(_name(side.model)):
        return None
    cache, whole = PromptCache(), len(said.messages)
    if side.warmth is not None and 0 < side.warmth.turns < len(said.ends):
        cache.usage(_call(side, said, said.ends[side.warmth.turns], side.warmth.at), table)
    return cache.usage(_call(side, said, whole, now), table)


def _call(side: Side, said: Conversation, messages: int, at: float) -> Call:
    images = sum(len(message.images) for message in said.messages[:messages])
    tokens = round(said.input_bytes(messages) * side.lengths.tokens_per_byte) + IMAGE_TOKENS * images
    return Call(
        model=_name(side.model),
        answerer=side.answerer,
        prompt=said.messages[:messages],
        tools=said.tools,
        usage=Usage(input_tokens=tokens, output_tokens=round(side.lengths.answer_tokens), estimated=True),
        started_at=at,
    )


def _messages_of(turn: Turn) -> list[Message]:
    """A turn's texts, calls and images as messages."""
    found = []
    for part in turn.parts:
        if isinstance(part, ToolOutput):
            images = _blobs(part.parts)
            found.append(Message(role="tool", content=words(part.parts), tool_call_id=part.call_id, images=images))
    rest = [part for part in turn.parts if not isinstance(part, ToolOutput)]
    if rest or not found:
        action = action_of(rest)
        found.append(Message(role=turn.role, content=action.text, tool_calls=action.tool_calls, images=_blobs(rest)))
    return found


def _blobs(parts: Iterable[Part]) -> tuple[Blob, ...]:
    """Images by a digest of where or what they are."""
    found = []
    for part in parts:
        if isinstance(part, Image):
            held = (part.data or part.url or "").encode("utf-8", "surrogatepass")
            digest = hashlib.sha256(held).hexdigest()
            found.append(Blob(digest=digest, media_type=part.media_type or "", size_bytes=len(held)))
    return tuple(found)


def _size(message: Message) -> int:
    return len(message.content) + sum(len(call.name) + len(call.arguments) for call in message.tool_calls)


def _name(model: Model) -> str:
    return model.price_as or model.model


def _usd(side: Side, usage: Usage, table: PriceTable) -> float:
    from potstill.measure.ledger import price_tokens

    return price_tokens(usage, table.price(_name(side.model))).total_usd


def _per_token(side: Side, usage: Usage, table: PriceTable) -> TokenPrice:
    from potstill.measure.ledger import rates_for
    from potstill.measure.prices.rows import TOKENS_PER_RATE

    rates = rates_for(_name(side.model), usage.input_tokens, table)
    return TokenPrice(
        uncached=rates.input / TOKENS_PER_RATE,
        cache_read=rates.read_rate / TOKENS_PER_RATE,
        output=(rates.output or 0.0) / TOKENS_PER_RATE,
    )
