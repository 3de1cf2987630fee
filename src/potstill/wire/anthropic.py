"""Anthropic's messages dialect, both directions: what ``wire.dialect`` asks of a dialect, put together.

What it knows: which function does what. What it does not do: headers. Requests that are translated are to be sent with
``VERSION``, the client's own bytes with the client's ``anthropic-version`` and ``anthropic-beta``.

``anthropic_request`` says how histories of other dialects are made acceptable, ``anthropic_options`` how thinking and
effort correspond, ``anthropic_blocks`` what only Anthropic can say.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from potstill.errors import BadRequest, BadResponse
from potstill.wire.anthropic_answer import read_answer, write_answer
from potstill.wire.anthropic_blocks import NAME, UNSIGNED, Malformed
from potstill.wire.anthropic_problem import read_problem, write_problem
from potstill.wire.anthropic_request import read_request, write_count, write_request
from potstill.wire.anthropic_stream import Decoder
from potstill.wire.anthropic_stream_encoder import Encoder
from potstill.wire.dialect import Problem, StreamDecoder, StreamEncoder
from potstill.wire.neutral import Answer, Prompt

VERSION = "2023-06-01"
"""``anthropic-version`` of translated requests. 2026-10-21, which the SDKs of that day send, refuses ``temperature``,
``top_p`` and ``top_k`` for every model; under this one only the models since Claude Opus 4.7 do."""


@dataclass(frozen=True)
class Anthropic:
    """See ``wire.dialect.Dialect`` for what each method promises."""

    name: str = NAME
    path: str = "/messages"

    def decode_request(self, body: bytes) -> Prompt:
        """Also of ``/messages/count_tokens``, which has no ``max_tokens``. Raises ``BadRequest``."""
        try:
            return read_request(body)
        except Malformed as error:
            raise BadRequest(str(error)) from None
        except RecursionError:
            raise BadRequest("the body is nested too deeply") from None

    def encode_request(self, prompt: Prompt) -> bytes:
        """Raises ``Untranslatable``."""
        return write_request(prompt)

    def encode_count(self, prompt: Prompt) -> bytes:
        """The request to ``/messages/count_tokens``. Raises ``Untranslatable``."""
        return write_count(prompt)

    def decode_answer(self, body: bytes) -> Answer:
        """Raises ``BadResponse``."""
        try:
            return read_answer(body)
        except Malformed as error:
            raise BadResponse(f"the endpoint did not answer in Anthropic's dialect: {error}") from None
        except RecursionError:
            raise BadResponse("the endpoint's answer is nested too deeply") from None

    def encode_answer(self, answer: Answer, prompt: Prompt) -> bytes:
        """Raises ``Untranslatable``, and ``BadResponse`` for an answer without choices."""
        return write_answer(answer)

    def encode_token_count(self, input_tokens: int) -> bytes:
        """The answer of ``/messages/count_tokens``."""
        return msgspec.json.encode({"input_tokens": input_tokens})

    def stream_decoder(self) -> StreamDecoder:
        return Decoder()

    def stream_encoder(self, prompt: Prompt) -> StreamEncoder:
        return Encoder()

    def encode_problem(self, problem: Problem) -> bytes:
        return write_problem(problem)

    def decode_problem(self, status: int, body: bytes) -> Problem:
        return read_problem(status, body)


ANTHROPIC = Anthropic()


def holds_unsigned(body: bytes) -> bool:
    """The request holds thinking that another upstream wrote: to Anthropic it must be sent translated, not as it came.

    >>> holds_unsigned(b'{"type":"thinking","thinking":"hm","signature":"potstill-unsigned"}')
    True
    """
    return UNSIGNED.encode() in body
