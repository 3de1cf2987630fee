"""A streamed answer as events of no dialect, and the two ways between events and a whole answer.

What it knows: which events there are and in which order they come. What it does not do: the bytes of a dialect.

Order: ``Begin``, then for each part its start, deltas and end (parts of several choices may interleave), ``Finish`` for
each choice, ``Spent`` if the upstream told, ``Done``. ``Broken`` may come at any time and is the last.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from potstill.types import FinishReason, Struct, TokenLogprob, Usage

PartKind = Literal["text", "thinking", "refusal", "tool_use", "opaque"]


class Begin(Struct, frozen=True, kw_only=True, tag="begin"):
    id: str
    model: str
    created: float | None = None
    usage: Usage | None = None
    """Anthropic tells the input's tokens at the start."""
    raw_usage: dict[str, object] | None = None
    dialect: str = ""
    """Who wrote the stream: the shape of every ``raw_usage`` and of ``extra``."""
    extra: dict[str, object] = msgspec.field(default_factory=dict)
    """As ``neutral.Answer.extra``."""


class PartBegin(Struct, frozen=True, kw_only=True, tag="part_begin"):
    """Part ``index`` of choice ``choice`` starts. Indexes count all parts of a choice, from 0."""

    kind: PartKind
    choice: int = 0
    index: int
    id: str | None = None
    name: str | None = None
    """Tool use: id of the call and the tool's name. Thinking: its id. Opaque: ``name`` is its kind."""
    value: dict[str, object] | None = None
    """Opaque: the part as its dialect wrote it."""
    dialect: str = ""
    """Opaque: whose it is; empty: the dialect of ``Begin``."""
    hint: bool = False
    """Opaque: as ``neutral.Opaque.hint``."""


class Delta(Struct, frozen=True, kw_only=True, tag="delta"):
    """More of a part: text, thought, refusal, or raw JSON of arguments."""

    choice: int = 0
    index: int
    text: str = ""
    signature: str | None = None
    """Thinking: its signature, whole."""
    redacted: str | None = None
    logprobs: tuple[TokenLogprob, ...] = ()


class PartEnd(Struct, frozen=True, kw_only=True, tag="part_end"):
    choice: int = 0
    index: int


class Finish(Struct, frozen=True, kw_only=True, tag="finish"):
    choice: int = 0
    reason: FinishReason = FinishReason.STOP
    raw: str | None = None
    stop_sequence: str | None = None


class Spent(Struct, frozen=True, kw_only=True, tag="spent"):
    usage: Usage | None
    raw_usage: dict[str, object] | None = None


class Ping(Struct, frozen=True, kw_only=True, tag="ping"):
    """The connection is alive; carries nothing."""


class Broken(Struct, frozen=True, kw_only=True, tag="broken"):
    """The upstream broke off, with the error that it told or the one that we saw."""

    message: str
    kind: str = "upstream_error"
    status: int | None = None


class Done(Struct, frozen=True, kw_only=True, tag="done"):
    """The upstream said that the stream is complete. A stream that ends without it was cut off."""


Event = Begin | PartBegin | Delta | PartEnd | Finish | Spent | Ping | Broken | Done
