"""Chat completions: a request and its answer in a row, and the output of OpenAI's Batch API.

What it knows: the dialect's members (the API reference and the SDK ``openai`` 3.54, read in 2026-11). What it does not
do: find request and answer in a row (``exchange.py``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from potstill.logs.conversation import told
from potstill.logs.formats import values
from potstill.logs.formats.base import Skipped
from potstill.logs.formats.exchange import dialect, exchange, log_call
from potstill.logs.records import LogCall, Problem, Source


class OpenAIChat:
    """Rows with a chat-completion request, answer, or both."""

    name = "openai-chat"
    arrays = ("", "requests", "logs", "data", ".")

    def fits(self, row: Mapping[str, Any]) -> bool:
        found = exchange(row)
        return found is not None and dialect(found) == "chat"

    def head(self, document: Mapping[str, Any]) -> Mapping[str, Any]:
        return {}

    def records(self, row: bytes, source: Source, head: Mapping[str, Any]) -> Iterable[LogCall]:
        found = exchange(msgspec.json.decode(row, type=dict[str, Any]))
        if found is None:
            raise Skipped("neither request nor answer of a model")
        problems: list[Problem] = []
        request, answer = found.request, found.answer
        prompt = request.get("messages")
        conversation = told(
            request.get("prompt") if prompt is None else prompt,
            _message(answer),
            tools=request.get("tools") or request.get("functions"),
        )
        usage = values.usage(answer.get("usage"), problems)
        return (log_call(found, source, conversation, usage, problems),)


def _message(answer: Mapping[str, Any]) -> Any:
    """The first choice's message; of several samples for one prompt only the first goes on."""
    choices = answer.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    if not isinstance(choice, Mapping):
        return None
    message = choice.get("message")
    return message if message is not None else choice.get("text")


FORMATS = (OpenAIChat(),)
