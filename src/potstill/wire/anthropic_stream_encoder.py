"""Neutral events to Anthropic's server-sent events.

What it knows: that blocks stand one after the other, numbered from 0, whatever the numbers and the interleaving of the
events. What it does not do: reading (``anthropic_stream``).

Only the first choice is written: Anthropic's clients cannot ask for more. A text or a thought without content is not
written: Anthropic refuses it when the client sends it back. Arguments that never came are written as ``{}``. A part
that cannot be said ends the stream with an ``error`` event: the client has seen half an answer by then.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import msgspec

from potstill.types import FinishReason, Usage
from potstill.wire import sse
from potstill.wire.anthropic_answer import stop_reason, write_usage
from potstill.wire.anthropic_blocks import NAME, UNSIGNED, call_id, opaque_block
from potstill.wire.anthropic_problem import error_object
from potstill.wire.events import Begin, Broken, Delta, Done, Event, Finish, PartBegin, PartEnd, Ping, Spent
from potstill.wire.neutral import Opaque


@dataclass
class _Open:
    """The part that is being written. ``block``: number of its block, None while it has not started."""

    begin: PartBegin
    block: int | None = None
    complete: bool = False
    """Its arguments or its signature came: nothing has to be made up at its end."""
    ended: bool = False
    """A text's block stays open after its end: citations may follow."""


class Encoder(sse.FrameEncoder):
    """A ``wire.dialect.StreamEncoder``."""

    def __init__(self) -> None:
        super().__init__()
        self._dialect = ""
        self._open: _Open | None = None
        self._waiting: list[PartBegin | Delta | PartEnd] = []
        self._blocks = 0
        self._calls = False
        self._finish: Finish | None = None
        self._usage: Usage | None = None
        self._raw_usage: dict[str, Any] | None = None

    def write(self, event: Event) -> bytes:
        return b"".join(self._encode(event))

    def broken(self, event: Broken) -> bytes:
        return _frame(error_object(event.kind, event.message))

    def _encode(self, event: Event) -> Iterable[bytes]:
        match event:
            case Begin():
                yield self._begin(event)
            case PartBegin() | Delta() | PartEnd():
                if event.choice == 0:
                    yield from self._part(event)
            case Finish():
                if event.choice == 0:
                    yield from self._close_all()
                    self._finish = event
            case Spent():
                self._spend(event.usage, event.raw_usage)
            case Ping():
                yield _frame({"type": "ping"})
            case Done():
                yield from self._done()

    def _begin(self, event: Begin) -> bytes:
        self._dialect = event.dialect
        self._spend(event.usage, dict(event.raw_usage) if event.raw_usage else None)
        message: dict[str, Any] = {
            "id": event.id,
            "type": "message",
            "role": "assistant",
            "model": event.model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": self._usage_object(),
        }
        own = self._dialect == NAME
        return _frame({"type": "message_start", "message": message | (event.extra if own else {})})

    def _spend(self, usage: Usage | None, raw: dict[str, Any] | None) -> None:
        self._usage, self._raw_usage = usage or self._usage, raw or self._raw_usage

    def _usage_object(self) -> dict[str, Any]:
        return write_usage(self._usage, self._raw_usage if self._dialect == NAME else None)

    # Parts: one at a time; the events of a part that starts while another is open wait until that one ends.

    def _part(self, event: PartBegin | Delta | PartEnd) -> Iterator[bytes]:
        if self._open is not None and event.index != self._open.begin.index:
            if not self._open.ended:
                self._waiting.append(event)
                return
            if isinstance(event, PartBegin) and _cites(event):
                yield from self._cite(self._open, event)
                return
            yield from self._close()
        match event:
            case PartBegin():
                yield from self._close()
                yield from self._part_begin(event)
            case Delta():
                yield from self._delta(event)
            case PartEnd():
                yield from self._part_end()

    def _part_begin(self, event: PartBegin) -> Iterator[bytes]:
        self._open = _Open(event)
        match event.kind:
            case "tool_use":
                self._calls = True
                call = {"type": "tool_use", "id": call_id(event.id or ""), "name": event.name or "", "input": {}}
                yield self._start_block(call)
            case "opaque" if not _cites(event):
                part = Opaque(
                    dialect=event.dialect or self._dialect,
                    kind=event.name or "",
                    value=dict(event.value or {}),
                    hint=event.hint,
                )
                block = opaque_block(part, "the answer")
                if block is not None:
                    yield self._start_block(block)

    def _start_block(self, block: dict[str, Any]) -> bytes:
        assert self._open is not None
        self._open.block = self._blocks
        self._blocks += 1
        return _frame({"type": "content_block_start", "index": self._open.block, "content_block": block})

    def _delta(self, event: Delta) -> Iterator[bytes]:
        part = self._open
        if part is None:
            return
        match part.begin.kind:
            case "text" | "refusal" if event.text:
                if part.block is None:
                    yield self._start_block({"type": "text", "text": ""})
                yield self._more("text_delta", "text", event.text)
            case "tool_use" if event.text:
                part.complete = True
                yield self._more("input_json_delta", "partial_json", event.text)
            case "thinking":
                yield from self._think(part, event)

    def _think(self, part: _Open, event: Delta) -> Iterator[bytes]:
        """A thought's block starts with its first delta, which says whether it is redacted. What Anthropic did not sign
        gets ``UNSIGNED``; what another provider redacted is left out."""
        own = self._dialect == NAME and part.begin.id is None
        if own and event.redacted is not None and part.block is None:
            part.complete = True
            yield self._start_block({"type": "redacted_thinking", "data": event.redacted})
            return
        signature = event.signature if own else None
        if part.block is None and (event.text or signature):
            yield self._start_block({"type": "thinking", "thinking": "", "signature": ""})
        if event.text:
            yield self._more("thinking_delta", "thinking", event.text)
        if signature:
            part.complete = True
            yield self._more("signature_delta", "signature", signature)

    def _more(self, kind: str, field: str, text: str) -> bytes:
        assert self._open is not None
        delta = {"type": kind, field: text}
        return _frame({"type": "content_block_delta", "index": self._open.block, "delta": delta})

    def _cite(self, text: _Open, event: PartBegin) -> Iterator[bytes]:
        cited = (event.value or {}).get("citations")
        for citation in cited if isinstance(cited, list) and text.block is not None else ():
            delta = {"type": "citations_delta", "citation": citation}
            yield _frame({"type": "content_block_delta", "index": text.block, "delta": delta})

    def _part_end(self) -> Iterator[bytes]:
        part = self._open
        if part is None:
            return
        if part.begin.kind == "text" and not self._waiting:
            part.ended = True
            return
        yield from self._close()
        yield from self._resume()

    def _resume(self) -> Iterator[bytes]:
        waiting, self._waiting = self._waiting, []
        for event in waiting:
            yield from self._part(event)

    def _close(self) -> Iterator[bytes]:
        part, self._open = self._open, None
        if part is None or part.block is None:
            return
        if part.begin.kind == "tool_use" and not part.complete:
            self._open = part
            yield self._more("input_json_delta", "partial_json", "{}")
        if part.begin.kind == "thinking" and not part.complete:
            self._open = part
            yield self._more("signature_delta", "signature", UNSIGNED)
        self._open = None
        yield _frame({"type": "content_block_stop", "index": part.block})

    def _close_all(self) -> Iterator[bytes]:
        """Whatever is still open or waits ends here."""
        while self._open is not None:
            yield from self._close()
            yield from self._resume()

    def _done(self) -> Iterator[bytes]:
        yield from self._close_all()
        end = self._finish or Finish(reason=FinishReason.OTHER)
        reason = stop_reason(end.reason, end.raw, end.stop_sequence, calls=self._calls)
        delta = {"stop_reason": reason, "stop_sequence": end.stop_sequence}
        yield _frame({"type": "message_delta", "delta": delta, "usage": self._usage_object()})
        yield _frame({"type": "message_stop"})


def _cites(event: PartBegin) -> bool:
    return event.kind == "opaque" and event.name == "citations" and event.dialect in ("", NAME)


def _frame(data: dict[str, Any]) -> bytes:
    return sse.encode(msgspec.json.encode(data), data["type"])
