"""Answers as the next request of their episode will repeat them: one list of messages for each sample.

What it knows: where the dialects put the model's messages, streamed or not; how many unread answers may wait.
What it does not do: prices, tokens, anything about errors but that there is no answer.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import msgspec

from potstill.errors import NOT_JSON, PotstillError
from potstill.logs.conversation import Thread
from potstill.record.opened import Told
from potstill.wire.neutral import Answer, Part, Refusal, Text, ToolUse

Message = dict[str, Any]
MAX_WAITING_BYTES = 8 * 1024 * 1024
_COMPLETED = re.compile(rb"^data: ?(\{.*\"response\.(?:completed|incomplete)\".*\})\r?$", re.MULTILINE)
_HEAD_BYTES = 16_384


class _Id(msgspec.Struct):
    id: str | None = None


class _Created(msgspec.Struct):
    response: _Id | None = None


def messages_of(dialect: str, response: bytes, *, streamed: bool) -> list[list[Message]]:
    """The model's messages, a list for each sample; empty where the response holds no answer. Never raises."""
    try:
        if streamed:
            return _of_stream(dialect, response)
        body = msgspec.json.decode(response)
        return _of_body(body) if isinstance(body, dict) else []
    except (msgspec.MsgspecError, PotstillError, UnicodeError, RecursionError, TypeError, ValueError, AttributeError):
        return []


def response_id(response: bytes, *, streamed: bool) -> str | None:
    """The id by which a next request may name this response (``previous_response_id``)."""
    try:
        if not streamed:
            return msgspec.json.decode(response, type=_Id).id
        for line in response[:_HEAD_BYTES].splitlines():
            if line.startswith(b"data:"):
                created = msgspec.json.decode(line[5:], type=_Created)
                return created.response.id if created.response is not None else None
    except NOT_JSON:
        return None
    return None


def _of_body(body: Message) -> list[list[Message]]:
    choices = body.get("choices")
    if isinstance(choices, list):
        said = [choice.get("message") for choice in choices if isinstance(choice, dict)]
        return [[{"role": "assistant", **message}] for message in said if isinstance(message, dict)]
    if isinstance(body.get("output"), list):
        return [[item for item in body["output"] if isinstance(item, dict)]]
    if isinstance(body.get("content"), list):
        return [[{"role": "assistant", "content": body["content"]}]]
    return []


def _of_stream(dialect: str, response: bytes) -> list[list[Message]]:
    if dialect == "openai-responses":
        completed = _COMPLETED.findall(response)
        whole = msgspec.json.decode(completed[-1]).get("response") if completed else None
        return _of_body(whole) if isinstance(whole, dict) else []
    from potstill.wire.assemble import Assembler
    from potstill.wire.dialect import dialect as named

    decoder, assembler = named(dialect).stream_decoder(), Assembler()
    assembler.extend(decoder.feed(response))
    assembler.extend(decoder.close())
    return neutral_messages(assembler.answer())


def neutral_messages(answer: Answer) -> list[list[Message]]:
    return [[_message(choice.parts)] for choice in answer.choices]


def _message(parts: Sequence[Part]) -> Message:
    text = "".join(part.text for part in parts if isinstance(part, Text | Refusal))
    calls = [
        {"id": part.id, "type": "function", "function": {"name": part.name, "arguments": part.arguments}}
        for part in parts
        if isinstance(part, ToolUse)
    ]
    return {"role": "assistant", "content": text, **({"tool_calls": calls} if calls else {})}


# --- answers that wait ------------------------------------------------------------------------------------------------


class Unread:
    """An answer that nobody has needed to read so far (``opened.Deferred``)."""

    __slots__ = ("_at", "_dialect", "_number", "_pile", "_response", "_streamed", "_thread")

    def __init__(
        self, pile: Waiting, number: int, thread: Thread, dialect: str, response: bytes, *, streamed: bool, at: float
    ) -> None:
        self._pile, self._number = pile, number
        self._thread, self._dialect, self._response = thread, dialect, response
        self._streamed, self._at = streamed, at

    @property
    def size(self) -> int:
        return len(self._response)

    def hear(self) -> Sequence[Told]:
        response = self._response
        self.drop()
        return told_by(self._thread, self._dialect, response, streamed=self._streamed, at=self._at)

    def drop(self) -> None:
        self._pile.remove(self._number)
        self.forget()

    def forget(self) -> None:
        """Let the bytes go; the answer counts as never given."""
        self._response = b""


def told_by(thread: Thread, dialect: str, response: bytes, *, streamed: bool, at: float) -> list[Told]:
    """What each sample of a response says about the next call; a failure where there is none."""
    samples = messages_of(dialect, response, streamed=streamed)
    if not samples:
        return [Told(None, failed=True, ended_at=at)]
    told = []
    for sample in samples:
        said = thread.call(sample)
        told.append(Told(said.after, said.answer_characters, len(said.tool_calls), ended_at=at))
    return told


class Waiting:
    """The unread answers of all episodes, bounded in bytes: the oldest are forgotten first."""

    def __init__(self, max_bytes: int = MAX_WAITING_BYTES) -> None:
        self._most, self._bytes, self._count = max_bytes, 0, 0
        self._held: OrderedDict[int, Unread] = OrderedDict()

    def __len__(self) -> int:
        return len(self._held)

    def add(self, thread: Thread, dialect: str, response: bytes, *, streamed: bool, at: float) -> Unread:
        self._count += 1
        unread = Unread(self, self._count, thread, dialect, response, streamed=streamed, at=at)
        self._held[self._count] = unread
        self._bytes += len(response)
        while self._bytes > self._most:
            _, oldest = self._held.popitem(last=False)
            self._bytes -= oldest.size
            oldest.forget()
        return unread

    def remove(self, number: int) -> None:
        unread = self._held.pop(number, None)
        if unread is not None:
            self._bytes -= unread.size
