"""The OpenAI chat completions dialect as the gateway speaks it: requests, answers, streams and errors, both ways.

What it knows: which file does what. What it does not do: the work (``chat_request``, ``chat_prompt``, ``chat_answer``,
``chat_stream``, ``chat_problem``), our own loop's leaner requests (``openai_chat``).
"""

from __future__ import annotations

from potstill.types import Struct
from potstill.wire import chat_answer, chat_problem, chat_prompt, chat_request
from potstill.wire.chat_stream import ChatDecoder, ChatEncoder
from potstill.wire.dialect import Dialect, Problem
from potstill.wire.neutral import Answer, Prompt


class Chat(Struct, frozen=True, kw_only=True):
    """A ``wire.dialect.Dialect``."""

    max_tokens_field: str = "max_completion_tokens"
    """How the limit of tokens is called where the prompt comes from another dialect. OpenAI's newer models refuse
    ``max_tokens``; a few servers (Ollama, Mistral's API) know nothing else."""

    @property
    def name(self) -> str:
        return chat_request.NAME

    @property
    def path(self) -> str:
        return "/chat/completions"

    def decode_request(self, body: bytes) -> Prompt:
        return chat_request.decode_request(body)

    def encode_request(self, prompt: Prompt) -> bytes:
        return chat_prompt.encode_request(prompt, max_tokens_field=self.max_tokens_field)

    def decode_answer(self, body: bytes) -> Answer:
        return chat_answer.decode_answer(body)

    def encode_answer(self, answer: Answer, prompt: Prompt) -> bytes:
        return chat_answer.encode_answer(answer, prompt)

    def stream_decoder(self) -> ChatDecoder:
        return ChatDecoder()

    def stream_encoder(self, prompt: Prompt) -> ChatEncoder:
        return ChatEncoder(prompt)

    def encode_problem(self, problem: Problem) -> bytes:
        return chat_problem.encode_problem(problem)

    def decode_problem(self, status: int, body: bytes) -> Problem:
        return chat_problem.decode_problem(status, body)


CHAT: Dialect = Chat()
