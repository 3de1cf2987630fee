"""Requests and answers of no dialect: what translation between dialects goes through, as rich as the richest of them.

What it knows: the parts that messages are made of, and which fields a request may carry. What it does not do: bytes of
any dialect (one file each), streams (``wire.events``), the leaner ``types.Request`` that our own loop asks with.

A dialect that cannot say something raises ``errors.Untranslatable``; it never leaves it out silently, except for hints
that change no answer (cache marks, ids for abuse monitoring).
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Literal

import msgspec

from potstill.types import FinishReason, Role, Struct, TokenLogprob, Usage

# --- parts ------------------------------------------------------------------------------------------------------------


class Text(Struct, frozen=True, kw_only=True, tag="text"):
    text: str
    cache: dict[str, Any] | None = None
    """A cache breakpoint behind this part, as Anthropic writes ``cache_control``."""


class Image(Struct, frozen=True, kw_only=True, tag="image"):
    """By ``url`` (never fetched by us) or as base64 ``data`` with its ``media_type``."""

    url: str | None = None
    data: str | None = None
    media_type: str | None = None
    detail: str | None = None
    cache: dict[str, Any] | None = None


class Thinking(Struct, frozen=True, kw_only=True, tag="thinking"):
    """Reasoning that the model showed. ``signature`` or ``redacted`` must go back unchanged within the same dialect."""

    text: str = ""
    signature: str | None = None
    redacted: str | None = None
    """Reasoning that only the provider can read (Anthropic's redacted thinking, OpenAI's encrypted content)."""
    id: str | None = None


class Refusal(Struct, frozen=True, kw_only=True, tag="refusal"):
    text: str


class ToolUse(Struct, frozen=True, kw_only=True, tag="tool_use"):
    """The model calls a tool. ``arguments`` is raw JSON text and may be invalid."""

    id: str
    name: str
    arguments: str = "{}"
    cache: dict[str, Any] | None = None


class ToolOutput(Struct, frozen=True, kw_only=True, tag="tool_output"):
    """What the client's tool answered to the call ``call_id``."""

    call_id: str
    parts: tuple[Text | Image, ...] = ()
    is_error: bool = False
    cache: dict[str, Any] | None = None


class Opaque(Struct, frozen=True, kw_only=True, tag="opaque"):
    """A part that only ``dialect`` knows (a document, audio, a server-side tool): kept as its JSON object."""

    dialect: str
    kind: str
    value: dict[str, Any]
    hint: bool = False
    """Another dialect may leave it out: it changes no answer, or a part beside it says the same (citations, details of
    reasoning). Where False, another dialect's encoder raises ``Untranslatable``."""


Part = Text | Image | Thinking | Refusal | ToolUse | ToolOutput | Opaque


class Turn(Struct, frozen=True, kw_only=True):
    """One message. ``tool`` turns hold ``ToolOutput`` parts only; several may stand in one turn."""

    role: Role
    parts: tuple[Part, ...] = ()
    name: str | None = None


# --- the request ------------------------------------------------------------------------------------------------------


class Tool(Struct, frozen=True, kw_only=True):
    """A function that the client can execute."""

    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None
    """A JSON Schema object."""
    strict: bool | None = None
    cache: dict[str, Any] | None = None
    extra: dict[str, Any] = msgspec.field(default_factory=dict)
    """Hints that only the prompt's dialect knows (examples of inputs), as they came; the others leave them out."""


class OpaqueTool(Struct, frozen=True, kw_only=True):
    """A tool that only ``dialect`` knows (built in at the provider, or a grammar)."""

    dialect: str
    value: dict[str, Any]


class ChoiceMode(StrEnum):
    AUTO = "auto"
    NONE = "none"
    REQUIRED = "required"
    TOOL = "tool"


class ToolChoice(Struct, frozen=True, kw_only=True):
    mode: ChoiceMode = ChoiceMode.AUTO
    name: str | None = None
    """With ``TOOL``: which one."""


class Format(Struct, frozen=True, kw_only=True):
    """Structured output."""

    kind: Literal["json_object", "json_schema"]
    name: str | None = None
    description: str | None = None
    schema: dict[str, Any] | None = None
    strict: bool | None = None


class Thought(Struct, frozen=True, kw_only=True):
    """How much reasoning is asked for."""

    effort: str | None = None
    budget_tokens: int | None = None
    summary: str | None = None
    extra: dict[str, Any] = msgspec.field(default_factory=dict)


class Prompt(Struct, frozen=True, kw_only=True):
    """A request. ``None``: not said, the upstream's default holds."""

    model: str
    turns: tuple[Turn, ...]
    """System and developer texts are ``system`` turns, wherever the dialect puts them."""
    tools: tuple[Tool | OpaqueTool, ...] = ()
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    format: Format | None = None
    thought: Thought | None = None
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    stop: tuple[str, ...] = ()
    seed: int | None = None
    n: int = 1
    logprobs: bool = False
    top_logprobs: int | None = None
    stream: bool = False
    stream_usage: bool = False
    """Usage is wanted at the end of the stream (always so in Anthropic's and the responses dialect)."""
    user: str | None = None
    metadata: dict[str, Any] = msgspec.field(default_factory=dict)
    dialect: str = ""
    """Where ``extra`` comes from."""
    spelling: dict[str, str] = msgspec.field(default_factory=dict)
    """Which of several words ``dialect`` wrote for a field above, for its own encoders; others ignore it."""
    extra: dict[str, Any] = msgspec.field(default_factory=dict)
    """Fields that the neutral form does not know, as they came: kept within the dialect. Another dialect's encoder
    drops those on its own list of harmless ones and raises ``Untranslatable`` for the others."""


# --- the answer -------------------------------------------------------------------------------------------------------


class Choice(Struct, frozen=True, kw_only=True):
    """One sample: ``Text``, ``Thinking``, ``Refusal``, ``ToolUse`` and ``Opaque`` parts in the order of the answer."""

    parts: tuple[Part, ...] = ()
    finish: FinishReason = FinishReason.STOP
    finish_raw: str | None = None
    """The dialect's own word, where it is finer than ``finish`` (``pause_turn``, ``stop_sequence``)."""
    stop_sequence: str | None = None
    logprobs: tuple[TokenLogprob, ...] = ()


class Answer(Struct, frozen=True, kw_only=True):
    id: str
    model: str
    choices: tuple[Choice, ...]
    created: float | None = None
    """Unix seconds."""
    usage: Usage | None = None
    raw_usage: dict[str, Any] | None = None
    """In the shape of the dialect that answered; an encoder writes its own shape from ``usage`` where that differs."""
    dialect: str = ""
    extra: dict[str, Any] = msgspec.field(default_factory=dict)
