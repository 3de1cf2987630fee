"""Streams of the OpenAI chat completions dialect: chunks to events, and events to chunks.

What it knows: chunks, ``[DONE]``, where usage stands, errors in the middle.
What it does not do: how one choice's deltas make parts (``chat_deltas``), whole answers (``chat_answer``).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from potstill.errors import NOT_JSON, BadResponse
from potstill.types import TokenLogprob, Usage
from potstill.wire.chat_answer import (
    answer_id,
    created_at,
    encode_call,
    finish_word,
    legacy_calls,
    logprobs_of,
    refuse_foreign,
    thinking_field,
    usage_of,
)
from potstill.wire.chat_deltas import ChoiceDelta, ChoiceReader
from potstill.wire.chat_problem import error_object, problem_of
from potstill.wire.chat_request import NAME
from potstill.wire.dialect import KINDS, Problem
from potstill.wire.events import Begin, Broken, Delta, Done, Event, Finish, PartBegin, PartEnd, Spent
from potstill.wire.neutral import Opaque, Prompt
from potstill.wire.openai_chat import excerpt
from potstill.wire.reading import dumps
from potstill.wire.sse import PING, Frame, FrameDecoder, FrameEncoder, encode
from potstill.wire.usage import normalise_usage

# --- reading ----------------------------------------------------------------------------------------------------------


class _Groq(msgspec.Struct):
    usage: dict[str, Any] | None = None


class _Chunk(msgspec.Struct):
    choices: list[ChoiceDelta] | None = None
    usage: dict[str, Any] | None = None
    x_groq: _Groq | None = None
    error: Any = None
    id: str | None = None
    model: str | None = None
    created: Any = None
    service_tier: Any = None
    system_fingerprint: Any = None


_CHUNK = msgspec.json.Decoder(_Chunk)


class ChatDecoder(FrameDecoder):
    """A ``dialect.StreamDecoder``. Usage is given once, before ``Done``: the last that came, wherever it stood.

    A connection that ends without ``[DONE]`` counts as complete where every choice has said why it finished.
    """

    def __init__(self) -> None:
        super().__init__()
        self._begun: Begin | None = None
        self._choices: dict[int, ChoiceReader] = {}
        self._raw_usage: dict[str, Any] | None = None

    def read(self, frame: Frame) -> Iterator[Event]:
        data = frame.data.strip()
        if data == b"[DONE]":
            yield from self._done()
        elif data:
            yield from self._chunk(data, frame.event)

    def end(self) -> Iterable[Event]:
        complete = self._choices and all(choice.finished for choice in self._choices.values())
        return self._done() if complete else super().end()

    def _chunk(self, data: bytes, event: str) -> Iterator[Event]:
        try:
            chunk = _CHUNK.decode(data)
        except NOT_JSON as error:
            raise BadResponse(f"the stream holds no chunk of a chat completion ({error}): {excerpt(data)}") from None
        if chunk.error or event == "error":
            problem = problem_of(chunk.error or excerpt(data))
            yield Broken(message=problem.message, kind=problem.kind, status=problem.status)
            return
        self._count(chunk.usage or (chunk.x_groq.usage if chunk.x_groq else None))
        for choice in chunk.choices or ():
            if self._begun is None:
                self._begun = _begin(chunk, data)
                yield self._begun
            self._count(choice.usage)
            number = choice.index or 0
            if number not in self._choices:
                self._choices[number] = ChoiceReader(number, self._begun.id)
            yield from self._choices[number].read(choice)

    def _count(self, usage: dict[str, Any] | None) -> None:
        self._raw_usage = usage or self._raw_usage

    def _done(self) -> Iterator[Event]:
        if self._begun is None:
            raise BadResponse("the upstream's stream ended without an answer")
        for choice in self._choices.values():
            if not choice.finished:
                yield from choice.finish()
        if self._raw_usage:
            yield Spent(usage=normalise_usage(self._raw_usage), raw_usage=self._raw_usage)
        yield Done()


def _begin(chunk: _Chunk, data: bytes) -> Begin:
    extra = {"service_tier": chunk.service_tier, "system_fingerprint": chunk.system_fingerprint}
    return Begin(
        id=chunk.id or answer_id(data),
        model=chunk.model or "",
        created=created_at(chunk.created),
        dialect=NAME,
        extra={name: value for name, value in extra.items() if isinstance(value, str)},
    )


# --- writing ----------------------------------------------------------------------------------------------------------


class ChatEncoder(FrameEncoder):
    """A ``dialect.StreamEncoder`` for the client that sent ``prompt``.

    The role goes first; usage, if the client asked for it, in a chunk without choices at the end. A part that only
    another dialect knows ends the stream with an error.
    """

    def __init__(self, prompt: Prompt) -> None:
        super().__init__()
        self._prompt = prompt
        self._head: dict[str, Any] = {"id": "", "object": "chat.completion.chunk", "created": 0, "model": prompt.model}
        self._own = False
        self._roles: set[int] = set()
        self._parts: dict[tuple[int, int], PartBegin] = {}
        self._calls: dict[int, list[str]] = {}
        """Ids of the calls of each choice, in the order of their numbers."""
        self._numbers: dict[tuple[int, int], int] = {}
        """Numbers of the calls by the part's place."""
        self._silent: set[tuple[int, int]] = set()
        """Calls whose arguments have not begun."""

    def write(self, event: Event) -> bytes:
        match event:
            case Begin():
                return self._begin(event)
            case PartBegin():
                return self._role(event.choice) + self._part(event)
            case Delta():
                return self._delta(event)
            case PartEnd():
                return self._part_end(event)
            case Finish():
                word = finish_word(event.reason, event.raw, self._prompt)
                return self._role(event.choice) + self._chunk(event.choice, {}, finish_reason=word)
            case Spent():
                return self._spent(event.usage, event.raw_usage)
            case Done():
                return encode(b"[DONE]")
        return PING

    def broken(self, event: Broken) -> bytes:
        return encode(dumps(error_object(_problem(event))))

    def _begin(self, event: Begin) -> bytes:
        self._own = event.dialect == NAME
        self._head |= {
            "id": event.id,
            "created": int(event.created or 0),
            "model": event.model or self._prompt.model,
        }
        if self._own:
            self._head |= event.extra
        return self._role(0)

    def _role(self, choice: int) -> bytes:
        if choice in self._roles:
            return b""
        self._roles.add(choice)
        return self._chunk(choice, {"role": "assistant", "content": "", "refusal": None})

    def _part(self, event: PartBegin) -> bytes:
        place = (event.choice, event.index)
        if place in self._parts:
            return b""
        self._parts[place] = event
        if event.kind == "opaque":
            return self._opaque(event)
        if event.kind != "tool_use":
            return b""
        self._silent.add(place)
        number = self._numbers[place] = self._number(event.choice, event.id or "")
        function = {"name": event.name or "", "arguments": ""}
        if number == 0 and legacy_calls(self._prompt):
            return self._chunk(event.choice, {"function_call": function})
        call = {"index": number, "id": event.id or "", "type": "function", "function": function}
        return self._chunk(event.choice, {"tool_calls": [call]})

    def _number(self, choice: int, identity: str) -> int:
        calls = self._calls.setdefault(choice, [])
        calls.append(identity)
        return len(calls) - 1

    def _opaque(self, event: PartBegin) -> bytes:
        value: dict[str, Any] = dict(event.value or {})
        dialect = event.dialect or (NAME if self._own else "")
        if refuse_foreign(dialect, event.name or "", event.hint):
            return b""
        if event.name == "message":
            return self._chunk(event.choice, value)
        if event.name == "tool_call_extra":
            calls = self._calls.get(event.choice, [])
            if value.get("id") not in calls:
                return b""
            return self._chunk(
                event.choice, {"tool_calls": [{"index": calls.index(value["id"]), **value.get("extra", {})}]}
            )
        call = encode_call(Opaque(dialect=NAME, kind=event.name or "", value=value))
        if call is None:
            return b""
        number = self._number(event.choice, str(call.get("id", "")))
        return self._chunk(event.choice, {"tool_calls": [{"index": number, **call}]})

    def _delta(self, event: Delta) -> bytes:
        place = (event.choice, event.index)
        part = self._parts.get(place)
        if part is None or part.kind == "opaque":
            return b""
        if part.kind == "tool_use":
            if event.text:
                self._silent.discard(place)
            return self._arguments(event) if event.text or event.logprobs else b""
        if not event.text and not (event.logprobs and self._prompt.logprobs):
            return b""
        name = {"text": "content", "refusal": "refusal", "thinking": thinking_field(self._prompt)}[part.kind]
        return self._chunk(
            event.choice, {name: event.text}, logprobs=self._logprobs(event.logprobs, part.kind == "refusal")
        )

    def _arguments(self, event: Delta) -> bytes:
        number = self._numbers[event.choice, event.index]
        tokens = self._logprobs(event.logprobs, False)
        if number == 0 and legacy_calls(self._prompt):
            return self._chunk(event.choice, {"function_call": {"arguments": event.text}}, logprobs=tokens)
        call = {"index": number, "function": {"arguments": event.text}}
        return self._chunk(event.choice, {"tool_calls": [call]}, logprobs=tokens)

    def _part_end(self, event: PartEnd) -> bytes:
        """Arguments that never came are an empty object: clients parse what they collected."""
        place = (event.choice, event.index)
        if place not in self._silent:
            return b""
        self._silent.discard(place)
        return self._arguments(Delta(choice=event.choice, index=event.index, text="{}"))

    def _spent(self, usage: Usage | None, raw: dict[str, Any] | None) -> bytes:
        written = usage_of(usage, raw if self._own else None)
        if written is None or not self._prompt.stream_usage:
            return b""
        return encode(dumps({**self._head, "choices": [], "usage": written}))

    def _logprobs(self, tokens: tuple[TokenLogprob, ...], refusal: bool) -> dict[str, Any] | None:
        return logprobs_of(tokens, self._prompt, refusal=refusal)

    def _chunk(
        self,
        choice: int,
        delta: dict[str, Any],
        *,
        finish_reason: str | None = None,
        logprobs: dict[str, Any] | None = None,
    ) -> bytes:
        choices = [{"index": choice, "delta": delta, "logprobs": logprobs, "finish_reason": finish_reason}]
        usage = {"usage": None} if self._prompt.stream_usage else {}
        return encode(dumps({**self._head, "choices": choices, **usage}))


def _problem(event: Broken) -> Problem:
    kind = event.kind if event.kind in KINDS else "upstream"
    return Problem(status=event.status or 502, kind=kind, message=event.message)
