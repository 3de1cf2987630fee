"""A stream of the responses dialect, written: ``wire.events`` to the frames that a client expects.

What it knows: the order and numbering of the dialect's events (``sequence_number``, ``output_index``,
``content_index``, the ids of items), and that neighbouring texts are one message.
What it does not do: reading (``responses_stream``), answers as a whole (``responses_answer``).

A stream that breaks ends with ``response.failed``, which repeats what came before it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from potstill.errors import BadRequest, BadResponse, Untranslatable
from potstill.types import FinishReason
from potstill.wire.events import Begin, Broken, Delta, Done, Event, Finish, PartBegin, PartEnd, Ping, Spent
from potstill.wire.neutral import Opaque, Prompt, Thinking
from potstill.wire.reading import dumps
from potstill.wire.responses_answer import (
    complete_item,
    encode_logprobs,
    encode_usage,
    envelope,
    error_code,
    status_of,
)
from potstill.wire.responses_content import ANNOTATION, CONTENT, NAME, unknown_part
from potstill.wire.responses_items import ITEM, new_id, proof_of
from potstill.wire.sse import PING, FrameEncoder, encode


@dataclass
class _Item:
    value: dict[str, Any]
    """As the client has it so far."""
    index: int
    open: int = 0
    """How many of its parts have not ended."""
    sealed: bool = False
    """No further part can join it."""
    done: bool = False


@dataclass
class _Open:
    item: _Item
    kind: str
    content: int = 0
    texts: list[str] = field(default_factory=list)
    logprobs: list[dict[str, Any]] = field(default_factory=list)
    signature: str | None = None
    redacted: str | None = None
    id: str | None = None
    """Thinking: the id that its dialect gave."""


class Encoder(FrameEncoder):
    """A ``wire.dialect.StreamEncoder``.

    A second choice, and a part that only another dialect has, break the stream: the client has seen half an answer.
    """

    def __init__(self, prompt: Prompt) -> None:
        super().__init__()
        self._prompt = prompt
        self._sequence = 0
        self._response: dict[str, Any] | None = None
        self._own = False
        self._dialect = ""
        self._items: list[_Item] = []
        self._parts: dict[int, _Open] = {}
        self._hint: dict[str, Any] = {}
        self._finish = Finish()
        self._spent = Spent(usage=None)
        self._out: list[bytes] = []

    def write(self, event: Event) -> bytes:
        if isinstance(event, Ping):
            return PING
        self._encode(event)
        return self._written()

    def broken(self, event: Broken) -> bytes:
        try:
            if self._response is None:
                self._begin(Begin(id="", model=""))
            self._broken(event)
        except (BadRequest, BadResponse):  # What was said before cannot be repeated: JSON cannot hold it.
            self._items, self._parts, self._spent = [], {}, Spent(usage=None)
            self._response = {"object": "response"}
            self._broken(event)
        return self._written()

    def _written(self) -> bytes:
        out, self._out = b"".join(self._out), []
        return out

    def _encode(self, event: Event) -> None:
        if isinstance(event, PartBegin | Delta | PartEnd | Finish) and event.choice:
            raise Untranslatable(f"the stream holds a choice {event.choice}; the dialect '{NAME}' gives one answer")
        if self._response is None:
            self._begin(event if isinstance(event, Begin) else Begin(id="", model=""))
        match event:
            case PartBegin():
                self._part_begin(event)
            case Delta():
                self._delta(event)
            case PartEnd():
                self._part_end(event.index)
            case Finish():
                self._finish = event
                self._end_all()
            case Spent():
                self._spent = event
            case Done():
                self._done()

    # --- the response as a whole

    def _emit(self, kind: str, **fields: Any) -> None:
        body = {"type": kind, "sequence_number": self._sequence} | fields
        self._sequence += 1
        self._out.append(encode(dumps(body, BadResponse, "The stream"), kind))

    def _begin(self, event: Begin) -> None:
        self._own, self._dialect = event.dialect == NAME, event.dialect
        extra = dict(event.extra) if self._own else {}
        self._response = envelope(self._prompt, event.id, event.model, event.created, extra)
        self._response |= {"output": [], "usage": None}
        if event.usage is not None or event.raw_usage is not None:
            self._spent = Spent(usage=event.usage, raw_usage=event.raw_usage)
        self._emit("response.created", response=self._response)
        self._emit("response.in_progress", response=self._response)

    def _final(self, status: str, **fields: Any) -> dict[str, Any]:
        usage = encode_usage(self._spent.usage, self._spent.raw_usage if self._own else None)
        output = [item.value for item in self._items]
        return {**(self._response or {}), "status": status, "output": output, "usage": usage, **fields}

    def _done(self) -> None:
        self._end_all()
        status, why = status_of(self._finish.reason, self._finish.raw if self._own else None)
        kind = "response.incomplete" if status == "incomplete" else "response.completed"
        self._emit(kind, response=self._final(status, incomplete_details=why))

    def _broken(self, event: Broken) -> None:
        for part in self._parts.values():
            self._keep(part)
        for item in self._items:
            if not item.done and "status" in item.value:
                item.value["status"] = "incomplete"
        error = {"code": error_code(event.kind), "message": event.message}
        self._emit("response.failed", response=self._final("failed", error=error))

    def _end_all(self) -> None:
        for index in list(self._parts):
            self._part_end(index)
        self._seal()

    # --- items

    def _open_item(self, value: dict[str, Any]) -> _Item:
        item = _Item(value=value, index=len(self._items))
        self._items.append(item)
        self._emit("response.output_item.added", output_index=item.index, item=dict(value))
        return item

    def _seal(self) -> None:
        """The message that texts could join takes no more of them."""
        for item in self._items:
            item.sealed = True
            self._close(item)

    def _close(self, item: _Item) -> None:
        if item.sealed and not item.open and not item.done:
            item.done = True
            cut = self._finish.reason is FinishReason.LENGTH and item is self._items[-1]
            complete_item(item.value, "incomplete" if cut else "completed")
            self._emit("response.output_item.done", output_index=item.index, item=item.value)

    def _message(self) -> _Item:
        last = self._items[-1] if self._items else None
        if last is not None and last.value["type"] == "message" and not last.sealed and not self._hint:
            return last
        self._seal()
        hint, self._hint = self._hint, {}
        value = {"id": new_id("msg"), "type": "message", "status": "in_progress", "role": "assistant", "content": []}
        return self._open_item(value | (hint if hint.get("type") == "message" else {}))

    # --- parts

    def _part_begin(self, event: PartBegin) -> None:
        if event.kind in ("text", "refusal"):
            self._begin_text(event)
        elif event.kind == "opaque":
            self._opaque(event)
        else:
            self._seal()
            value = self._new_value(event)
            part = _Open(item=self._open_item(value), kind=event.kind, id=event.id)
            self._parts[event.index] = part
            part.item.open, part.item.sealed = 1, True

    def _new_value(self, event: PartBegin) -> dict[str, Any]:
        hint, self._hint = self._hint, {}
        if event.kind == "thinking":
            value: dict[str, Any] = {"id": event.id or new_id("rs"), "type": "reasoning", "summary": []}
            return value
        value = {"id": new_id("fc"), "type": "function_call", "status": "in_progress", "arguments": ""}
        value |= {"call_id": event.id or "", "name": event.name or ""}
        return value | (hint if hint.get("type") == "function_call" else {})

    def _begin_text(self, event: PartBegin) -> None:
        item = self._message()
        part = _Open(item=item, kind=event.kind, content=len(item.value["content"]))
        item.open += 1
        self._parts[event.index] = part
        item.value["content"] = [*item.value["content"], _content(part)]
        self._emit("response.content_part.added", **self._at(part), part=_content(part))

    def _at(self, part: _Open) -> dict[str, Any]:
        at = {"item_id": part.item.value["id"], "output_index": part.item.index}
        counter = {"text": "content_index", "refusal": "content_index", "thinking": "summary_index"}.get(part.kind)
        return at | ({counter: part.content} if counter else {})

    def _delta(self, event: Delta) -> None:
        part = self._parts.get(event.index)
        if part is None:
            return
        part.signature = event.signature if event.signature is not None else part.signature
        part.redacted = event.redacted if event.redacted is not None else part.redacted
        logprobs = encode_logprobs(event.logprobs) if self._prompt.logprobs else []
        part.logprobs.extend(logprobs)
        if not event.text and not logprobs:
            return
        if part.kind == "thinking" and not part.texts:
            empty = {"type": "summary_text", "text": ""}
            self._emit("response.reasoning_summary_part.added", **self._at(part), part=empty)
        part.texts.append(event.text)
        more = {"logprobs": logprobs} if part.kind == "text" else {}
        self._emit(_DELTAS[part.kind], **self._at(part), delta=event.text, **more)

    def _part_end(self, index: int) -> None:
        part = self._parts.pop(index, None)
        if part is None:
            return
        if part.kind == "tool_use" and not part.texts:
            part.texts.append("{}")
            self._emit(_DELTAS[part.kind], **self._at(part), delta="{}")
        self._keep(part)
        text, at = "".join(part.texts), self._at(part)
        if part.kind == "text":
            self._emit("response.output_text.done", **at, text=text, logprobs=part.logprobs)
            self._emit("response.content_part.done", **at, part=_content(part))
        elif part.kind == "refusal":
            self._emit("response.refusal.done", **at, refusal=text)
            self._emit("response.content_part.done", **at, part=_content(part))
        elif part.kind == "thinking" and part.texts:
            self._emit("response.reasoning_summary_text.done", **at, text=text)
            self._emit("response.reasoning_summary_part.done", **at, part={"type": "summary_text", "text": text})
        elif part.kind == "tool_use":
            named = {"name": part.item.value["name"], "arguments": text}
            self._emit("response.function_call_arguments.done", **at, **named)
        part.item.open -= 1
        self._close(part.item)

    def _keep(self, part: _Open) -> None:
        """What the part has said so far goes into its item."""
        value, text = part.item.value, "".join(part.texts)
        if part.kind == "thinking":
            value["summary"] = [{"type": "summary_text", "text": text}] if text else []
            thought = Thinking(signature=part.signature, redacted=part.redacted, id=part.id)
            proof = proof_of(thought, self._dialect)
            if proof is not None:
                value["encrypted_content"] = proof
        elif part.kind == "tool_use":
            value["arguments"] = text
        else:
            value["content"][part.content] = _content(part)

    def _opaque(self, event: PartBegin) -> None:
        value: dict[str, Any] = dict(event.value or {})
        dialect = event.dialect or (NAME if self._own else "")
        if dialect != NAME:
            if not event.hint:
                part = Opaque(dialect=dialect, kind=event.name or "", value=value)
                raise unknown_part(part, "the answer")
        elif event.name == ITEM:
            self._hint = value
        elif event.name == ANNOTATION:
            self._annotate(value)
        elif (event.name or "").startswith(CONTENT):
            item = self._message()
            item.value["content"] = [*item.value["content"], value]
            at = {
                "item_id": item.value["id"],
                "output_index": item.index,
                "content_index": len(item.value["content"]) - 1,
            }
            self._emit("response.content_part.added", **at, part=value)
            self._emit("response.content_part.done", **at, part=value)
        else:
            self._seal()
            self._open_item({"type": event.name or "unknown"} | value).sealed = True
            self._close(self._items[-1])

    def _annotate(self, value: dict[str, Any]) -> None:
        last = self._items[-1] if self._items else None
        contents = last.value.get("content") if last is not None and not last.done else None
        if last is None or not contents or contents[-1].get("type") != "output_text":
            return
        notes = contents[-1]["annotations"]
        at = {"item_id": last.value["id"], "output_index": last.index, "content_index": len(contents) - 1}
        self._emit("response.output_text.annotation.added", **at, annotation_index=len(notes), annotation=value)
        contents[-1] = contents[-1] | {"annotations": [*notes, value]}


_DELTAS = {
    "text": "response.output_text.delta",
    "refusal": "response.refusal.delta",
    "thinking": "response.reasoning_summary_text.delta",
    "tool_use": "response.function_call_arguments.delta",
}


def _content(part: _Open) -> dict[str, Any]:
    text = "".join(part.texts)
    if part.kind == "refusal":
        return {"type": "refusal", "refusal": text}
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": list(part.logprobs)}
