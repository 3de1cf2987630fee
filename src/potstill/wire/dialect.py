"""What each dialect offers, and which one a path speaks.

What it knows: the names and paths of the three dialects. What it does not do: any dialect's bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from potstill.errors import UnknownName
from potstill.types import Struct
from potstill.wire.events import Event
from potstill.wire.neutral import Answer, Prompt


class Problem(Struct, frozen=True, kw_only=True):
    """An error as a client reads it. ``kind`` is one of ``KINDS``."""

    status: int
    kind: str
    message: str
    code: str | None = None
    retry_after_s: float | None = None


KINDS = (
    "invalid_request",
    "authentication",
    "permission",
    "not_found",
    "too_large",
    "rate_limit",
    "quota",
    "overloaded",
    "timeout",
    "upstream",
    "internal",
)


class StreamDecoder(Protocol):
    """Bytes of a server-sent stream, cut anywhere, to events."""

    def feed(self, chunk: bytes) -> Sequence[Event]:
        """The events that are complete now. Wrong JSON gives ``Broken``, never an exception."""

    def close(self) -> Sequence[Event]:
        """What the end of the connection means: nothing after ``Done``, else ``Broken``."""


class StreamEncoder(Protocol):
    """Events to bytes of a server-sent stream; holds the numbering that its dialect wants."""

    def encode(self, event: Event) -> bytes:
        """Never raises: what the dialect cannot say ends the stream with an error event, and nothing follows."""

    @property
    def failure(self) -> str | None:
        """Why the encoder ended the stream itself; None where it did not."""


class Dialect(Protocol):
    """One HTTP dialect, both directions, pure. ``decode_*`` raise ``BadRequest`` or ``BadResponse``, saying why."""

    @property
    def name(self) -> str: ...

    @property
    def path(self) -> str:
        """Of the endpoint, under the base URL that ends in ``/v1``: for example ``/chat/completions``."""

    def decode_request(self, body: bytes) -> Prompt: ...

    def encode_request(self, prompt: Prompt) -> bytes: ...

    def decode_answer(self, body: bytes) -> Answer: ...

    def encode_answer(self, answer: Answer, prompt: Prompt) -> bytes:
        """As the client that sent ``prompt`` expects it."""

    def stream_decoder(self) -> StreamDecoder: ...

    def stream_encoder(self, prompt: Prompt) -> StreamEncoder: ...

    def encode_problem(self, problem: Problem) -> bytes: ...

    def decode_problem(self, status: int, body: bytes) -> Problem: ...


NAMES = ("openai-chat", "openai-responses", "anthropic")


def dialect(name: str) -> Dialect:
    """Raises ``UnknownName`` with the nearest one."""
    if name == "openai-chat":
        from potstill.wire.chat_server import CHAT

        return CHAT
    if name == "openai-responses":
        from potstill.wire.openai_responses import RESPONSES

        return RESPONSES
    if name == "anthropic":
        from potstill.wire.anthropic import ANTHROPIC

        return ANTHROPIC
    raise UnknownName("dialect", name, NAMES)
