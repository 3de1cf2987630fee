"""Events to a whole answer, and a whole answer to events.

What it knows: the order of ``wire.events``. What it does not do: bytes of a dialect.

    assembler = Assembler()
    assembler.extend(decoder.feed(chunk)); ...; assembler.extend(decoder.close())
    answer = assembler.answer()

    for event in events_of(answer): body += encoder.encode(event)
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from potstill.errors import BadResponse
from potstill.types import FinishReason, TokenLogprob, Usage
from potstill.wire.events import Begin, Broken, Delta, Done, Event, Finish, PartBegin, PartEnd, PartKind, Spent
from potstill.wire.neutral import Answer, Choice, Opaque, Part, Refusal, Text, Thinking, ToolUse

# --- events to an answer ----------------------------------------------------------------------------------------------


@dataclass
class _Part:
    begin: PartBegin
    texts: list[str] = field(default_factory=list)
    signature: str | None = None
    redacted: str | None = None


@dataclass
class _Choice:
    parts: dict[int, _Part] = field(default_factory=dict)
    logprobs: list[TokenLogprob] = field(default_factory=list)
    finish: Finish | None = None


class Assembler:
    """Collects the events of one stream.

    ``add`` and ``extend`` never raise: what has no place (a delta of a part that never started, anything after the end)
    is left out. ``broken`` is the ``Broken`` that came, ``done`` says that ``Done`` came.
    """

    def __init__(self) -> None:
        self.broken: Broken | None = None
        self.done = False
        self._begin: Begin | None = None
        self._choices: dict[int, _Choice] = {}
        self._usage: Usage | None = None
        self._raw_usage: dict[str, Any] | None = None

    def extend(self, events: Iterable[Event]) -> None:
        for event in events:
            self.add(event)

    def add(self, event: Event) -> None:
        if self.done or self.broken is not None:
            return
        match event:
            case Begin():
                self._start(event)
            case PartBegin():
                self._choice(event.choice).parts.setdefault(event.index, _Part(event))
            case Delta():
                self._more(event)
            case Finish():
                self._choice(event.choice).finish = event
            case Spent():
                self._spend(event.usage, event.raw_usage)
            case Broken():
                self.broken = event
            case Done():
                self.done = True

    def answer(self, *, partial: bool = False) -> Answer:
        """What the events say. Raises ``BadResponse`` where the stream broke off or has not ended, unless ``partial``:
        then what has come so far, with ``FinishReason.OTHER`` for a choice that has not finished."""
        if not partial and self.broken is not None:
            raise BadResponse(f"the upstream broke off its answer: {self.broken.message}")
        if not partial and not (self.done and self._begin is not None):
            raise BadResponse("the upstream closed the connection before its answer was complete")
        begin = self._begin or Begin(id="", model="")
        return Answer(
            id=begin.id,
            model=begin.model,
            choices=tuple(_choice_of(self._choices[index], begin.dialect) for index in sorted(self._choices)),
            created=begin.created,
            usage=self._usage,
            raw_usage=self._raw_usage,
            dialect=begin.dialect,
            extra=dict(begin.extra),
        )

    def _start(self, event: Begin) -> None:
        if self._begin is None:
            self._begin = event
            self._spend(event.usage, event.raw_usage)

    def _choice(self, index: int) -> _Choice:
        return self._choices.setdefault(index, _Choice())

    def _more(self, event: Delta) -> None:
        choice = self._choice(event.choice)
        choice.logprobs.extend(event.logprobs)
        part = choice.parts.get(event.index)
        if part is None:
            return
        if event.text:
            part.texts.append(event.text)
        part.signature = event.signature if event.signature is not None else part.signature
        part.redacted = event.redacted if event.redacted is not None else part.redacted

    def _spend(self, usage: Usage | None, raw: dict[str, Any] | None) -> None:
        self._usage = usage or self._usage
        self._raw_usage = raw or self._raw_usage


def _choice_of(choice: _Choice, dialect: str) -> Choice:
    finish = choice.finish or Finish(reason=FinishReason.OTHER)
    return Choice(
        parts=tuple(_part_of(choice.parts[index], dialect) for index in sorted(choice.parts)),
        finish=finish.reason,
        finish_raw=finish.raw,
        stop_sequence=finish.stop_sequence,
        logprobs=tuple(choice.logprobs),
    )


def _part_of(part: _Part, dialect: str) -> Part:
    begin, text = part.begin, "".join(part.texts)
    match begin.kind:
        case "text":
            return Text(text=text)
        case "thinking":
            return Thinking(text=text, signature=part.signature, redacted=part.redacted, id=begin.id)
        case "refusal":
            return Refusal(text=text)
        case "tool_use":
            return ToolUse(id=begin.id or "", name=begin.name or "", arguments=text or "{}")
        case "opaque":
            return Opaque(
                dialect=begin.dialect or dialect,
                kind=begin.name or "",
                value=dict(begin.value or {}),
                hint=begin.hint,
            )


# --- an answer to events ----------------------------------------------------------------------------------------------


def events_of(answer: Answer) -> list[Event]:
    """The stream that ``Assembler`` makes this answer of: each part with one delta.

    Log-probabilities go with the choice's first text (else its first part that has deltas; else with an empty text).
    """
    events: list[Event] = [
        Begin(
            id=answer.id,
            model=answer.model,
            created=answer.created,
            dialect=answer.dialect,
            extra=dict(answer.extra),
        )
    ]
    for number, choice in enumerate(answer.choices):
        events.extend(_events_of_choice(number, choice))
    if answer.usage is not None or answer.raw_usage is not None:
        events.append(Spent(usage=answer.usage, raw_usage=answer.raw_usage))
    events.append(Done())
    return events


def _events_of_choice(number: int, choice: Choice) -> Iterable[Event]:
    parts = choice.parts
    carrier = _logprobs_carrier(parts) if choice.logprobs else None
    if choice.logprobs and carrier is None:
        parts, carrier = (*parts, Text(text="")), len(parts)
    for index, part in enumerate(parts):
        begin, delta = _begin_of(part, number, index), _delta_of(part, number, index)
        yield begin
        if index == carrier:
            yield Delta(
                choice=number,
                index=index,
                text=delta.text,
                signature=delta.signature,
                redacted=delta.redacted,
                logprobs=choice.logprobs,
            )
        elif delta.text or delta.signature is not None or delta.redacted is not None:
            yield delta
        yield PartEnd(choice=number, index=index)
    yield Finish(choice=number, reason=choice.finish, raw=choice.finish_raw, stop_sequence=choice.stop_sequence)


def _logprobs_carrier(parts: tuple[Part, ...]) -> int | None:
    kinds: tuple[type[Part], ...]
    for kinds in ((Text,), (Refusal, ToolUse, Thinking)):
        for index, part in enumerate(parts):
            if isinstance(part, kinds):
                return index
    return None


def _begin_of(part: Part, choice: int, index: int) -> PartBegin:
    kind: PartKind
    match part:
        case Text():
            kind = "text"
        case Thinking():
            return PartBegin(kind="thinking", choice=choice, index=index, id=part.id)
        case Refusal():
            kind = "refusal"
        case ToolUse():
            return PartBegin(kind="tool_use", choice=choice, index=index, id=part.id, name=part.name)
        case Opaque():
            return PartBegin(
                kind="opaque",
                choice=choice,
                index=index,
                name=part.kind,
                value=part.value,
                dialect=part.dialect,
                hint=part.hint,
            )
        case _:
            raise BadResponse(f"an answer cannot hold a part of type {type(part).__name__}")
    return PartBegin(kind=kind, choice=choice, index=index)


def _delta_of(part: Part, choice: int, index: int) -> Delta:
    match part:
        case Text() | Refusal():
            return Delta(choice=choice, index=index, text=part.text)
        case Thinking():
            return Delta(choice=choice, index=index, text=part.text, signature=part.signature, redacted=part.redacted)
        case ToolUse():
            return Delta(choice=choice, index=index, text=part.arguments)
        case _:
            return Delta(choice=choice, index=index)
