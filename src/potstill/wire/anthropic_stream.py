"""Anthropic's server-sent events to neutral events.

What it knows: the order of ``message_start``, blocks, ``message_delta`` and ``message_stop``; that the input of a tool
comes in pieces, whole at its block's start, or not at all. What it does not do: cutting bytes into frames (``sse``),
whole answers (``assemble``), the other way (``anthropic_stream_encoder``).

Blocks that only Anthropic knows (server-side tools and their results) are given whole, when they end. Unknown events
and deltas are passed over, as Anthropic asks of clients; citations follow their text as an ``Opaque`` hint.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import msgspec

from potstill.errors import NOT_JSON, BadResponse
from potstill.wire import sse
from potstill.wire.anthropic_answer import KNOWN, finish_of
from potstill.wire.anthropic_blocks import NAME, Malformed, block_parts, citations, fields_of
from potstill.wire.anthropic_problem import STATUS, kind_of_error
from potstill.wire.events import Begin, Broken, Delta, Done, Event, Finish, PartBegin, PartEnd, Ping, Spent
from potstill.wire.neutral import Opaque, Text, Thinking, ToolUse
from potstill.wire.reading import Fields, load
from potstill.wire.usage import normalise_usage

_NO_MESSAGE = fields_of({}, "message")


@dataclass
class _Block:
    """A block that has started. ``whole`` is set for one that is given at its end."""

    index: int
    whole: dict[str, Any] | None = None
    pending: str = ""
    """What the block's start already said, given unless deltas repeat it: arguments of a tool."""
    cited: list[Any] = field(default_factory=list)
    json: list[str] = field(default_factory=list)


class Decoder(sse.FrameDecoder):
    """A ``wire.dialect.StreamDecoder``."""

    def __init__(self) -> None:
        super().__init__()
        self._begun = False
        self._finished = False
        self._spent = False
        self._usage: dict[str, Any] = {}
        self._blocks: dict[int, _Block] = {}
        self._parts = 0

    def read(self, frame: sse.Frame) -> Iterator[Event]:
        if frame.data.strip() == b"[DONE]":  # Said by servers that copy the dialect, after or instead of message_stop.
            yield from self._stop() if self._finished else ()
            return
        try:
            data = load(frame.data, Malformed, "an event of the stream")
            yield from self._read(data, data.value.get("type") or frame.event)
        except (Malformed, RecursionError) as error:
            raise BadResponse(f"the stream is not in Anthropic's dialect: {error}") from None

    def _read(self, data: Fields, kind: Any) -> Iterator[Event]:
        match kind:
            case "message_start":
                yield from self._start(data.need_inner("message"))
            case "content_block_start":
                yield from self._start(_NO_MESSAGE)
                yield from self._block_start(data)
            case "content_block_delta":
                yield from self._block_delta(data)
            case "content_block_stop":
                yield from self._block_stop(data.need_count("index"))
            case "message_delta":
                yield from self._message_delta(data)
            case "message_stop":
                yield from self._stop()
            case "ping":
                yield Ping()
            case "error":
                yield _broken(data.value)

    def _start(self, message: Fields) -> Iterator[Event]:
        """The message's beginning; made up where a server that copies the dialect leaves it out."""
        if self._begun:
            return
        self._begun = True
        self._usage = dict(message.map("usage") or {})
        yield Begin(
            id=message.text("id") or "",
            model=message.text("model") or "",
            usage=normalise_usage(self._usage),
            raw_usage=dict(self._usage) or None,
            dialect=NAME,
            extra=message.rest(KNOWN),
        )

    def _block_start(self, data: Fields) -> Iterator[Event]:
        number, raw = data.need_count("index"), data.need_inner("content_block").value
        if number in self._blocks:
            yield from self._block_stop(number)
        part, *more = block_parts({"text": "", **raw} if raw.get("type") == "text" else raw, "content_block")
        block = self._blocks[number] = _Block(self._parts)
        self._parts += 1
        match part:
            case Text():
                block.cited = [one for cited in more if isinstance(cited, Opaque) for one in cited.value["citations"]]
                yield PartBegin(kind="text", index=block.index)
                if part.text:
                    yield Delta(index=block.index, text=part.text)
            case Thinking():
                yield PartBegin(kind="thinking", index=block.index)
                if part.text or part.signature or part.redacted is not None:
                    yield Delta(index=block.index, text=part.text, signature=part.signature, redacted=part.redacted)
            case ToolUse():
                block.pending = part.arguments if part.arguments != "{}" else ""
                yield PartBegin(kind="tool_use", index=block.index, id=part.id, name=part.name)
            case _:
                block.whole = dict(raw)

    def _block_delta(self, data: Fields) -> Iterator[Event]:
        number, delta = data.need_count("index"), data.need_inner("delta")
        block = self._blocks.get(number)
        if block is None:
            raise Malformed(f"'index' of a content_block_delta is {number}, a block that has not started.")
        if block.whole is not None:
            _grow(block, delta)
            return
        match delta.value.get("type"):
            case "text_delta":
                yield Delta(index=block.index, text=delta.text("text") or "")
            case "input_json_delta":
                text = delta.text("partial_json") or ""
                if text:
                    block.json.append(text)
                    yield Delta(index=block.index, text=text)
            case "thinking_delta":
                yield Delta(index=block.index, text=delta.text("thinking") or "")
            case "signature_delta":
                yield Delta(index=block.index, signature=delta.text("signature") or "")
            case "citations_delta":
                block.cited.append(delta.need_inner("citation").value)

    def _block_stop(self, number: int) -> Iterator[Event]:
        block = self._blocks.pop(number, None)
        if block is None:
            return
        if block.whole is not None:
            yield from _opaque_events(block)
            return
        if block.pending and not block.json:
            yield Delta(index=block.index, text=block.pending)
        yield PartEnd(index=block.index)
        if block.cited:
            hint = citations(block.cited)
            yield PartBegin(kind="opaque", index=self._parts, name=hint.kind, value=hint.value, dialect=NAME, hint=True)
            yield PartEnd(index=self._parts)
            self._parts += 1

    def _message_delta(self, data: Fields) -> Iterator[Event]:
        delta = data.inner("delta") or fields_of({}, "delta")
        usage = data.map("usage") or {}
        self._usage |= {key: value for key, value in usage.items() if value is not None}
        reason = delta.text("stop_reason")
        if reason is not None and not self._finished:
            yield from self._finish(reason, delta.text("stop_sequence"))
        if self._finished and self._usage:
            yield from self._spend()

    def _finish(self, reason: str | None, stop_sequence: str | None) -> Iterator[Event]:
        for number in list(self._blocks):
            yield from self._block_stop(number)
        self._finished = True
        finish, finer = finish_of(reason)
        yield Finish(reason=finish, raw=finer, stop_sequence=stop_sequence or None)

    def _spend(self) -> Iterator[Event]:
        self._spent = True
        yield Spent(usage=normalise_usage(self._usage), raw_usage=dict(self._usage))

    def _stop(self) -> Iterator[Event]:
        yield from self._start(_NO_MESSAGE)
        if not self._finished:
            yield from self._finish(None, None)
        if self._usage and not self._spent:
            yield from self._spend()
        yield Done()


def _grow(block: _Block, delta: Fields) -> None:
    """Add a delta to a block that is given whole: input of a server-side tool, or a text of a block yet unknown."""
    assert block.whole is not None
    if delta.value.get("type") == "input_json_delta":
        block.json.append(delta.text("partial_json") or "")
        return
    for key, value in delta.value.items():
        held = block.whole.get(key)
        if key == "type":
            continue
        block.whole[key] = held + value if isinstance(held, str) and isinstance(value, str) else value


def _opaque_events(block: _Block) -> Iterator[Event]:
    assert block.whole is not None
    text = "".join(block.json)
    if text.strip():
        try:
            block.whole["input"] = msgspec.json.decode(text)
        except NOT_JSON:
            raise Malformed(f"the input of a block of type '{block.whole.get('type')}' is not JSON") from None
    name = str(block.whole.get("type", ""))
    yield PartBegin(kind="opaque", index=block.index, name=name, value=block.whole, dialect=NAME)
    yield PartEnd(index=block.index)


def _broken(data: dict[str, Any]) -> Broken:
    error = data.get("error")
    error = error if isinstance(error, dict) else {"message": error}
    kind = kind_of_error(str(error.get("type")), 0)
    message = error.get("message")
    return Broken(
        message=message if isinstance(message, str) else "the upstream broke off with an error that it did not explain",
        kind=kind,
        status=STATUS.get(kind),
    )
