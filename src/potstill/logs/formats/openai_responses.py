"""OpenAI's responses API: a request and its answer in a row.

What it knows: the dialect's members (the API reference and the SDK ``openai`` 3.54, read in 2026-11). What it does not
do: follow ``previous_response_id``, whose earlier messages the provider keeps and the log does not have.
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


class OpenAIResponses:
    """Rows with a request to the responses API, an answer, or both."""

    name = "openai-responses"
    arrays = ("", "requests", "logs", "data", ".")

    def fits(self, row: Mapping[str, Any]) -> bool:
        found = exchange(row)
        return found is not None and dialect(found) == "responses"

    def head(self, document: Mapping[str, Any]) -> Mapping[str, Any]:
        return {}

    def records(self, row: bytes, source: Source, head: Mapping[str, Any]) -> Iterable[LogCall]:
        found = exchange(msgspec.json.decode(row, type=dict[str, Any]))
        if found is None:
            raise Skipped("neither request nor answer of a model")
        problems: list[Problem] = []
        request, answer = found.request, found.answer
        conversation = told(
            request.get("input"),
            answer.get("output"),
            system=request.get("instructions"),
            tools=request.get("tools"),
        )
        usage = values.usage(_usage(answer.get("usage")), problems)
        return (log_call(found, source, conversation, usage, problems),)


def _usage(raw: Any) -> Any:
    """The counts, marked as of this dialect also where a server leaves the details out."""
    return {"input_tokens_details": {}, **raw} if isinstance(raw, Mapping) else raw


FORMATS = (OpenAIResponses(),)
