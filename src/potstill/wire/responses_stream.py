"""A stream of the responses dialect, read: its frames to ``wire.events``.

What it knows: which events a stream has, that an item holds several contents, and how servers deviate (no content
events, no ``output_index``, whole items only at the end): whatever an item's last word holds beyond its deltas is
still told. What it does not do: server-sent events themselves (``wire.sse``), writing (``responses_encoder``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from potstill.errors import BadResponse
from potstill.wire.events import Begin, Broken, Delta, Done, Event, Finish, PartBegin, PartEnd, PartKind, Ping, Spent
from potstill.wire.neutral import Opaque, Part, Refusal, Text, Thinking, ToolUse
from potstill.wire.openai_chat import excerpt
from potstill.wire.reading import Fields, load
from potstill.wire.responses_answer import ANSWER_FIELDS, decode_logprobs, failure_of, finish_of, kind_of
from potstill.wire.responses_content import ANNOTATION, NAME
from potstill.wire.responses_items import decode_output_item
from potstill.wire.sse import Frame, FrameDecoder
from potstill.wire.usage import normalise_usage


@dataclass
class _Open:
    """A part that has started. ``said``: what its deltas held, in pieces."""

    index: int
    kind: PartKind
    said: list[str] = field(default_factory=list)
    ended: bool = False
    block: tuple[str, int] | None = None
    """Reasoning: which summary or text the deltas belong to."""


@dataclass
class _Item:
    kind: str
    name: str
    parts: dict[int, _Open] = field(default_factory=dict)
    """By the index of the content."""
    notes: list[dict[str, Any]] = field(default_factory=list)
    """Annotations that came."""
    told: int = 0
    """How many of them were given on."""
    done: bool = False


class Decoder(FrameDecoder):
    """A ``wire.dialect.StreamDecoder``."""

    def __init__(self) -> None:
        super().__init__()
        self._begun = False
        self._items: dict[int, _Item] = {}
        self._parts = 0
        self._calls = False

    def read(self, frame: Frame) -> Iterable[Event]:
        if frame.data.strip() == b"[DONE]":
            return ()
        event = load(frame.data, BadResponse, "An event of the stream")
        kind = event.text("type") or frame.event
        if kind in ("keepalive", "ping"):
            return (Ping(),)
        handler = _HANDLERS.get(kind)
        if handler is not None:
            return handler(self, event)
        if kind == "error" or (not kind and event.value.get("error")):
            return (_broken(event),)
        if not kind:
            raise BadResponse(f"an event of the stream has no type: {excerpt(frame.data)}")
        return ()

    # --- the response as a whole

    def _begin(self, event: Fields) -> Iterator[Event]:
        if self._begun:
            return
        raw = event.inner("response") or Fields({}, "response", BadResponse)
        self._begun = True
        yield Begin(
            id=raw.text("id") or "",
            model=raw.text("model") or "",
            created=raw.number("created_at"),
            dialect=NAME,
            extra=raw.rest(ANSWER_FIELDS),
        )

    def _complete(self, event: Fields) -> Iterator[Event]:
        yield from self._begin(event)
        raw = event.inner("response") or Fields({}, "response", BadResponse)
        for index, value in enumerate(raw.items("output")):
            if index not in self._items or not self._items[index].done:
                yield from self._item_done(Fields({"item": value, "output_index": index}, "", BadResponse))
        for item in self._items.values():
            yield from _end(item, item.parts.values())
        calls: list[Part] = [ToolUse(id="", name="")] if self._calls else []
        finish, finer = finish_of(raw, calls)
        yield Finish(reason=finish, raw=finer)
        usage = raw.map("usage")
        if usage is not None:
            yield Spent(usage=normalise_usage(usage), raw_usage=usage)
        yield Done()

    def _failed(self, event: Fields) -> Iterator[Event]:
        raw = event.inner("response") or event
        message, code = failure_of(raw)
        yield Broken(message=message, kind=kind_of(code, "", 0))

    # --- items

    def _item_added(self, event: Fields) -> Iterator[Event]:
        value = event.map("item")
        if value is None:
            return
        known = len(self._items)
        item = self._register(event, Fields(value, "item", BadResponse))
        if len(self._items) == known:
            return
        if item.kind == "reasoning":
            yield from self._start(item, 0, "thinking", name=item.name or None)
        elif item.kind == "message":
            yield from self._hints(Fields(value, "item", BadResponse), ("content",))
        elif item.kind == "function_call" and isinstance(value.get("name"), str) and value.get("namespace") is None:
            yield from self._start_call(item, Fields(value, "item", BadResponse))

    def _register(self, event: Fields, raw: Fields) -> _Item:
        index = event.count("output_index")
        index = len(self._items) if index is None else index
        item = self._items.setdefault(index, _Item(kind=raw.need("type"), name=raw.text("id") or ""))
        return item

    def _hints(self, raw: Fields, without: tuple[str, ...]) -> Iterator[Event]:
        """What an item says beside its contents, before they come."""
        bare = {key: value for key, value in raw.value.items() if key not in without}
        for part in decode_output_item(Fields(bare, raw.where, BadResponse), raw.need("type"), keep_ids=False):
            if isinstance(part, Opaque):
                yield from self._opaque(part)

    def _start_call(self, item: _Item, raw: Fields) -> Iterator[Event]:
        yield from self._hints(raw, ("arguments",))
        self._calls = True
        call_id = raw.text("call_id") or item.name
        yield from self._start(item, 0, "tool_use", name=call_id, tool=raw.need("name"))

    def _item_done(self, event: Fields) -> Iterator[Event]:
        value = event.map("item")
        if value is None:
            return
        raw = Fields(value, "item", BadResponse)
        index = event.count("output_index")
        item = self._items.get(index) if index is not None else self._named(raw.text("id"))
        fresh = item is None
        if item is None:
            item = self._register(event, raw)
        if item.done:
            return
        item.done = True
        number = 0
        for part in decode_output_item(raw, raw.need("type"), keep_ids=False):
            if isinstance(part, Opaque):
                known = part.hint and not fresh and (part.kind != ANNOTATION or part.value in item.notes)
                if not known:
                    yield from self._opaque(part)
                continue
            if number not in item.parts and isinstance(part, ToolUse):
                self._calls = True
            yield from self._whole(item, number, part)
            number += 1
        yield from _end(item, item.parts.values())

    def _named(self, name: str | None) -> _Item | None:
        return next((item for item in self._items.values() if name and item.name == name), None)

    def _whole(self, item: _Item, number: int, part: Part) -> Iterator[Event]:
        """A part in its final form: what its deltas have not said yet."""
        kind, text, name, tool = _kind_of(part)
        if number not in item.parts:
            yield from self._start(item, number, kind, name=name, tool=tool)
        told = item.parts[number]
        yield from _rest(told, text)
        if isinstance(part, Thinking) and not told.ended and (part.signature or part.redacted):
            yield Delta(index=told.index, signature=part.signature, redacted=part.redacted)
        yield from _end(item, (told,))

    # --- parts

    def _start(
        self, item: _Item, number: int, kind: PartKind, *, name: str | None = None, tool: str | None = None
    ) -> Iterator[Event]:
        item.parts[number] = _Open(index=self._parts, kind=kind)
        yield PartBegin(kind=kind, index=self._parts, id=name, name=tool)
        self._parts += 1

    def _opaque(self, part: Opaque) -> Iterator[Event]:
        index = self._parts
        self._parts += 1
        yield PartBegin(kind="opaque", index=index, name=part.kind, value=part.value, dialect=NAME, hint=part.hint)
        yield PartEnd(index=index)

    def _item_of(self, event: Fields) -> _Item:
        index = event.count("output_index")
        item = self._items.get(index) if index is not None else self._named(event.text("item_id"))
        if item is None and self._items and index is None:
            item = self._items[max(self._items)]
        if item is None:
            kind = "reasoning" if "reasoning" in event.need("type") else "message"
            item = self._register(event, Fields({"type": kind, "id": event.text("item_id")}, "item", BadResponse))
        return item

    def _content_added(self, event: Fields) -> Iterator[Event]:
        item, part = self._item_of(event), event.inner("part")
        kind = part.text("type") if part else None
        number = event.count("content_index") or 0
        if item.kind == "message" and kind in ("output_text", "refusal") and number not in item.parts:
            yield from self._start(item, number, "refusal" if kind == "refusal" else "text")

    def _content_done(self, event: Fields) -> Iterator[Event]:
        item = self._item_of(event)
        told = item.parts.get(event.count("content_index") or 0)
        if item.kind == "message" and told is not None:
            part = event.inner("part")
            whole = (part.text("text") or part.text("refusal") or "") if part else ""
            yield from _rest(told, whole)
            yield from _end(item, (told,))
            notes, item.told = item.notes[item.told :], len(item.notes)
            for note in notes:
                yield from self._opaque(Opaque(dialect=NAME, kind=ANNOTATION, value=note, hint=True))

    def _said(self, event: Fields, kind: PartKind, key: str, whole: bool) -> Iterator[Event]:
        item, number = self._item_of(event), event.count("content_index") or 0
        if number not in item.parts:
            if kind == "tool_use":
                return
            yield from self._start(item, number, kind)
        told = item.parts[number]
        if told.kind != kind:
            raise BadResponse(f"a delta of kind '{kind}' came for a part of kind '{told.kind}'")
        text = event.text(key) or ""
        if whole:
            yield from _rest(told, text)
            return
        logprobs = tuple(decode_logprobs(event.items("logprobs"))) if "logprobs" in event.value else ()
        if (text or logprobs) and not told.ended:
            told.said.append(text)
            yield Delta(index=told.index, text=text, logprobs=logprobs)

    def _thought(self, event: Fields, key: str, counter: str) -> Iterator[Event]:
        """Several summaries and texts of one item are one thought, parted by empty lines."""
        item, text = self._item_of(event), event.text("delta") or ""
        if 0 not in item.parts:
            yield from self._start(item, 0, "thinking", name=item.name or None)
        told = item.parts[0]
        if not text or told.ended:
            return
        block = (key, event.count(counter) or 0)
        if told.block not in (None, block):
            text = "\n\n" + text
        told.block = block
        told.said.append(text)
        yield Delta(index=told.index, text=text)

    def _note(self, event: Fields) -> Iterator[Event]:
        note = event.map("annotation")
        if note is not None:
            self._item_of(event).notes.append(note)
        return iter(())


def _kind_of(part: Part) -> tuple[PartKind, str, str | None, str | None]:
    """(kind, text, id, name of the tool)."""
    match part:
        case Refusal():
            return "refusal", part.text, None, None
        case Thinking():
            return "thinking", part.text, part.id, None
        case ToolUse():
            return "tool_use", part.arguments, part.id, part.name
        case Text():
            return "text", part.text, None, None
    raise BadResponse(f"an answer cannot hold a part of type {type(part).__name__}")


def _rest(told: _Open, whole: str) -> Iterator[Event]:
    """What ``whole`` holds beyond the deltas. Where it contradicts them, the deltas stand."""
    said = "".join(told.said)
    if whole.startswith(said) and len(whole) > len(said) and not told.ended:
        yield Delta(index=told.index, text=whole[len(said) :])
        told.said = [whole]


def _end(item: _Item, parts: Iterable[_Open]) -> Iterator[Event]:
    for told in parts:
        if not told.ended:
            told.ended = True
            yield PartEnd(index=told.index)


def _broken(event: Fields) -> Broken:
    """The dialect's own form has the fields at the top, some servers nest them in ``error``."""
    error = event.value.get("error")
    inner = error if isinstance(error, dict) else event.value
    message = inner.get("message") or (error if isinstance(error, str) else None) or inner.get("code")
    code, word = str(inner.get("code") or ""), str(inner.get("type") or "")
    return Broken(message=str(message or "the upstream gave no reason"), kind=kind_of(code, word, 0))


_HANDLERS: dict[str, Callable[[Decoder, Fields], Iterable[Event]]] = {
    "response.created": Decoder._begin,
    "response.queued": Decoder._begin,
    "response.in_progress": Decoder._begin,
    "response.completed": Decoder._complete,
    "response.incomplete": Decoder._complete,
    "response.failed": Decoder._failed,
    "response.output_item.added": Decoder._item_added,
    "response.output_item.done": Decoder._item_done,
    "response.content_part.added": Decoder._content_added,
    "response.content_part.done": Decoder._content_done,
    "response.output_text.delta": lambda self, event: self._said(event, "text", "delta", False),
    "response.output_text.done": lambda self, event: self._said(event, "text", "text", True),
    "response.output_text.annotation.added": Decoder._note,
    "response.refusal.delta": lambda self, event: self._said(event, "refusal", "delta", False),
    "response.refusal.done": lambda self, event: self._said(event, "refusal", "refusal", True),
    "response.function_call_arguments.delta": lambda self, event: self._said(event, "tool_use", "delta", False),
    "response.function_call_arguments.done": lambda self, event: self._said(event, "tool_use", "arguments", True),
    "response.reasoning_summary_text.delta": lambda self, event: self._thought(event, "summary", "summary_index"),
    "response.reasoning_text.delta": lambda self, event: self._thought(event, "content", "content_index"),
}
