"""The OpenAI responses dialect, both directions: ``RESPONSES`` satisfies ``wire.dialect.Dialect``.

What it knows: nothing itself; it gathers its files: requests (``responses_request``, with the lists of fields that a
translation may drop: ``HARMLESS``, and must not: ``HISTORY``), items (``responses_items``), contents
(``responses_content``), answers and errors (``responses_answer``), streams (``responses_stream``, read, and
``responses_encoder``, written). What it does not do: keep responses, as the provider's endpoint does: whoever refers to
an earlier one (``previous_response_id``, ``conversation``) can only be served by the provider that holds it.
"""

from __future__ import annotations

from typing import Literal

from potstill.types import Struct
from potstill.wire.dialect import Problem, StreamDecoder, StreamEncoder
from potstill.wire.neutral import Answer, Prompt
from potstill.wire.responses_answer import decode_answer, decode_problem, encode_answer, encode_problem
from potstill.wire.responses_content import NAME
from potstill.wire.responses_encoder import Encoder
from potstill.wire.responses_items import needs_rewriting
from potstill.wire.responses_request import HARMLESS, HISTORY, decode_request, encode_request
from potstill.wire.responses_stream import Decoder


class Responses(Struct, frozen=True, kw_only=True):
    """See ``wire.dialect.Dialect`` for what each method promises.

    ``reasoning``: where an upstream reads the reasoning of earlier turns: OpenAI in ``summary``, llama.cpp and vLLM in
    ``content``; each refuses the other.
    """

    reasoning: Literal["summary", "content"] = "summary"
    name: str = NAME
    path: str = "/responses"

    def decode_request(self, body: bytes) -> Prompt:
        return decode_request(body)

    def encode_request(self, prompt: Prompt) -> bytes:
        return encode_request(prompt, self.reasoning)

    def decode_answer(self, body: bytes) -> Answer:
        return decode_answer(body)

    def encode_answer(self, answer: Answer, prompt: Prompt) -> bytes:
        return encode_answer(answer, prompt)

    def stream_decoder(self) -> StreamDecoder:
        return Decoder()

    def stream_encoder(self, prompt: Prompt) -> StreamEncoder:
        return Encoder(prompt)

    def encode_problem(self, problem: Problem) -> bytes:
        return encode_problem(problem)

    def decode_problem(self, status: int, body: bytes) -> Problem:
        return decode_problem(status, body)


RESPONSES = Responses()

__all__ = ["HARMLESS", "HISTORY", "RESPONSES", "Responses", "needs_rewriting"]
