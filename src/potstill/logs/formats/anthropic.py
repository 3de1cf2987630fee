"""Anthropic messages: a request and its answer in a row, and the results of Anthropic's message batches.

What it knows: the dialect's members (the API reference and the SDK ``anthropic`` 2.12, read in 2026-11). What it does
not do: find request and answer in a row (``exchange.py``).
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


class Anthropic:
    """Rows with an Anthropic messages request, answer, or both."""

    name = "anthropic"
    arrays = ("", "requests", "logs", "data", ".")

    def fits(self, row: Mapping[str, Any]) -> bool:
        found = exchange(row)
        return found is not None and dialect(found) == "anthropic"

    def head(self, document: Mapping[str, Any]) -> Mapping[str, Any]:
        return {}

    def records(self, row: bytes, source: Source, head: Mapping[str, Any]) -> Iterable[LogCall]:
        found = exchange(msgspec.json.decode(row, type=dict[str, Any]))
        if found is None:
            raise Skipped("neither request nor answer of a model")
        problems: list[Problem] = []
        request, answer = found.request, found.answer
        conversation = told(
            request.get("messages"),
            {"role": "assistant", "content": answer["content"]} if answer.get("content") is not None else None,
            system=request.get("system"),
            tools=request.get("tools"),
        )
        usage = values.usage(answer.get("usage"), problems)
        return (log_call(found, source, conversation, usage, problems),)


FORMATS = (Anthropic(),)
