"""One choice of a chat completions stream: deltas as servers send them to parts that start, grow and end in order.

What it knows: how servers number, name and split what they stream. What it does not do: frames, usage, several choices
(``chat_stream``).

A part ends where another begins, so that an encoder may write one after the other. Calls are told apart by their index,
id or name; arguments of a later call wait until those of the one before are whole JSON, or the choice ends.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import msgspec

from potstill.errors import NOT_JSON, BadResponse
from potstill.types import Struct, TokenLogprob
from potstill.wire.chat_answer import (
    OPAQUE_FIELDS,
    call_extra,
    call_id,
    custom_call,
    finish_of,
    opaque_field,
    tokens_of,
)
from potstill.wire.events import Delta, Event, Finish, PartBegin, PartEnd, PartKind
from potstill.wire.neutral import Opaque
from potstill.wire.openai_chat import Logprobs, content_of
from potstill.wire.reading import EMPTY


class FunctionDelta(Struct, frozen=True, kw_only=True):
    name: str | None = None
    arguments: str | dict[str, Any] | None = None


class CallDelta(Struct, frozen=True, kw_only=True):
    index: int | None = None
    id: str | None = None
    type: str | None = None
    function: FunctionDelta | None = None
    custom: dict[str, Any] | None = None
    extra_content: dict[str, Any] | None = None


class MessageDelta(Struct, frozen=True, kw_only=True):
    content: str | list[Any] | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: list[CallDelta] | None = None
    function_call: FunctionDelta | None = None
    annotations: Any = None
    audio: Any = None
    images: Any = None
    reasoning_details: Any = None


class ChoiceDelta(Struct, frozen=True, kw_only=True):
    delta: MessageDelta | None = None
    message: MessageDelta | None = None
    """Servers that send a whole answer as one chunk."""
    index: int | None = None
    finish_reason: str | None = None
    logprobs: Logprobs | None = None
    stop_reason: Any = None
    usage: dict[str, Any] | None = None
    """Moonshot counts here."""


@dataclass(eq=False)
class _Item:
    """A part on its way."""

    kind: PartKind
    id: str | None = None
    name: str | None = None
    number: int = 0
    """Of a call among the choice's calls."""
    part: int = -1
    begun: bool = False
    closed: bool = False
    waiting: list[str] = field(default_factory=list)
    """Came, but is not yet given on."""
    whole: list[str] = field(default_factory=list)
    """All the arguments of a call."""
    extra_content: dict[str, Any] = field(default_factory=dict)

    def complete(self) -> bool:
        """Nothing more can belong to it, now that something else has begun."""
        if self.kind != "tool_use":
            return True
        return self.name is not None and _is_json("".join(self.whole))


class ChoiceReader:
    def __init__(self, choice: int, answer_id: str) -> None:
        self.finished = False
        self._choice = choice
        self._answer_id = answer_id
        self._queue: deque[_Item] = deque()
        """Only the first is given on; those behind it collect."""
        self._calls: list[_Item] = []
        self._by_index: dict[int, _Item] = {}
        self._parts = 0
        self._tokens: list[TokenLogprob] = []
        self._fields: dict[str, Any] = {}

    def read(self, choice: ChoiceDelta) -> Iterator[Event]:
        """Raises ``BadResponse`` for what cannot be a choice; nothing comes after its end."""
        if self.finished:
            return
        self._tokens.extend(tokens_of(choice.logprobs))
        delta = choice.delta or choice.message
        if delta is not None:
            yield from self._delta(delta)
        if choice.finish_reason == "error":
            raise BadResponse("the endpoint broke off its answer with the finish reason 'error'")
        if choice.finish_reason:
            yield from self.finish(choice.finish_reason, choice.stop_reason)

    def finish(self, word: str = "stop", stop_reason: Any = None) -> Iterator[Event]:
        """Ends every part and the choice."""
        if self._tokens and not self._queue:
            self._append(_Item("text"))
        yield from self._advance(final=True)
        for name, value in self._fields.items():
            yield from self._opaque(opaque_field(name, value))
        self.finished = True
        reason, raw = finish_of(word, bool(self._calls))
        stop = stop_reason if isinstance(stop_reason, str) else None
        yield Finish(choice=self._choice, reason=reason, raw=raw, stop_sequence=stop)

    # --- what comes -------------------------------------------------------------------------------------------------

    def _delta(self, delta: MessageDelta) -> Iterator[Event]:
        text, thought = content_of(delta.content)
        yield from self._say("thinking", delta.reasoning_content or delta.reasoning or thought)
        yield from self._say("text", text)
        yield from self._say("refusal", delta.refusal or "")
        seen: set[int] = set()
        for call in delta.tool_calls or ():
            yield from self._call(call, seen)
        if delta.function_call is not None:
            yield from self._call(CallDelta(index=0, function=delta.function_call), seen)
        for name in OPAQUE_FIELDS:
            value = getattr(delta, name)
            if value not in EMPTY:
                self._fields[name] = _merged(self._fields.get(name), value)

    def _say(self, kind: PartKind, text: str) -> Iterator[Event]:
        if text:
            last = self._queue[-1] if self._queue else None
            item = last if last is not None and last.kind == kind else self._append(_Item(kind))
            item.waiting.append(text)
            yield from self._advance()

    def _call(self, call: CallDelta, seen: set[int]) -> Iterator[Event]:
        item = self._item_of(call, seen)
        item.id = item.id or call.id
        if call.extra_content:
            item.extra_content.update(call.extra_content)
        name, text = _name_and_text(call)
        item.name = item.name or name
        if item.closed and text.strip():
            raise BadResponse(f"the endpoint sent more arguments for the call of {item.name!r}, which was complete")
        if not item.closed:
            item.waiting.append(text)
            item.whole.append(text)
            yield from self._advance()

    def _item_of(self, call: CallDelta, seen: set[int]) -> _Item:
        """The call that a delta belongs to; some servers number all calls 0, or not at all."""
        known = self._by_index.get(call.index) if call.index is not None else self._latest(call)
        if known is None or self._is_another(call, known, seen):
            kind: PartKind = "opaque" if call.custom is not None or call.type == "custom" else "tool_use"
            known = self._append(_Item(kind, number=len(self._calls)))
            self._calls.append(known)
        if call.index is not None:
            self._by_index[call.index] = known
            seen.add(call.index)
        return known

    def _latest(self, call: CallDelta) -> _Item | None:
        if call.id is not None:
            return next((item for item in self._calls if item.id == call.id), None)
        named = call.function is not None and call.function.name
        return None if named or not self._calls else self._calls[-1]

    def _is_another(self, call: CallDelta, known: _Item, seen: set[int]) -> bool:
        name, _ = _name_and_text(call)
        if not name or known.name is None:
            return False
        if call.id and known.id:
            return call.id != known.id
        return call.index in seen or (name != known.name and known.complete())

    def _append(self, item: _Item) -> _Item:
        self._queue.append(item)
        return item

    # --- what goes --------------------------------------------------------------------------------------------------

    def _advance(self, *, final: bool = False) -> Iterator[Event]:
        """Gives on what the first part has, and ends it where the next one waits and it is whole."""
        while self._queue:
            head = self._queue[0]
            last = len(self._queue) == 1
            yield from self._emit(head, final=final, last=last)
            if not final and (last or not head.complete()):
                return
            yield from self._close(head)
            self._queue.popleft()

    def _emit(self, item: _Item, *, final: bool, last: bool) -> Iterator[Event]:
        if item.kind == "opaque":
            return
        if not item.begun:
            if item.kind == "tool_use" and item.name is None:
                if final:
                    raise BadResponse("the endpoint called a tool without naming it")
                return
            yield self._begin(item)
        text = "".join(item.waiting)
        item.waiting.clear()
        if text or (final and last and self._tokens):
            tokens, self._tokens = tuple(self._tokens), []
            yield Delta(choice=self._choice, index=item.part, text=text, logprobs=tokens)

    def _begin(self, item: _Item) -> PartBegin:
        item.begun = True
        item.part = self._next_part()
        if item.kind == "tool_use":
            item.id = item.id or call_id(self._answer_id, self._choice, item.number)
        return PartBegin(kind=item.kind, choice=self._choice, index=item.part, id=item.id, name=item.name)

    def _close(self, item: _Item) -> Iterator[Event]:
        item.closed = True
        if item.kind == "opaque":
            identity = item.id or call_id(self._answer_id, self._choice, item.number)
            yield from self._opaque(custom_call(identity, {"name": item.name or "", "input": "".join(item.whole)}))
            return
        yield PartEnd(choice=self._choice, index=item.part)
        if item.extra_content:
            yield from self._opaque(call_extra(item.id or "", item.extra_content))

    def _opaque(self, part: Opaque) -> Iterable[Event]:
        index = self._next_part()
        yield PartBegin(
            kind="opaque",
            choice=self._choice,
            index=index,
            name=part.kind,
            value=part.value,
            dialect=part.dialect,
            hint=part.hint,
        )
        yield PartEnd(choice=self._choice, index=index)

    def _next_part(self) -> int:
        self._parts += 1
        return self._parts - 1


def _name_and_text(call: CallDelta) -> tuple[str | None, str]:
    if call.custom is not None:
        name, text = call.custom.get("name"), call.custom.get("input")
        return name if isinstance(name, str) else None, text if isinstance(text, str) else ""
    if call.function is None:
        return None, ""
    arguments = call.function.arguments
    if isinstance(arguments, dict):
        arguments = msgspec.json.encode(arguments).decode()
    return call.function.name or None, arguments or ""


def _is_json(text: str) -> bool:
    try:
        msgspec.json.decode(text)
    except NOT_JSON:
        return False
    return True


_WHOLE_WORDS = frozenset({"id", "type", "format", "signature", "expires_at"})


def _merged(old: Any, new: Any, key: str = "") -> Any:
    """What a streamed field holds after one more delta: texts and lists grow, items of a list with one ``index`` are
    the same item."""
    if old is None:
        return new
    if isinstance(old, dict) and isinstance(new, dict):
        return {**old, **{name: _merged(old.get(name), value, name) for name, value in new.items()}}
    if isinstance(old, list) and isinstance(new, list):
        grown = list(old)
        for item in new:
            place = next((spot for spot, other in enumerate(grown) if _same_item(other, item)), None)
            if place is None:
                grown.append(item)
            else:
                grown[place] = _merged(grown[place], item)
        return grown
    if isinstance(old, str) and isinstance(new, str) and key not in _WHOLE_WORDS:
        return old + new
    return old if new is None else new


def _same_item(one: Any, other: Any) -> bool:
    both = isinstance(one, dict) and isinstance(other, dict)
    return both and one.get("index") is not None and all(one.get(key) == other.get(key) for key in ("index", "type"))
