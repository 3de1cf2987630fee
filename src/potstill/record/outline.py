"""The outline of a request's body: its messages as undecoded bytes, and the few fields that name a session.

What it knows: where the three dialects put messages and instructions. What it does not do: decode a message that was
seen before, or raise: a body that is no request has no messages.

An agent repeats its whole history at each call. ``Threads`` remembers by the bytes of a prompt the hashes of its
conversation, so that only what is new is decoded and hashed.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import msgspec

from potstill.logs.conversation import Thread

_MARK = re.compile(rb',\s*"cache_control"\s*:\s*\{[^{}]*\}')
_ANSWER_ROLES = {"assistant", "function_call", "reasoning", "custom_tool_call", "model"}
_PLAIN_ANSWER = (b'{"role":"assistant"', b'{"role": "assistant"')
_PLAIN_OTHER = (b'{"role":"user"', b'{"role": "user"', b'{"role":"tool"', b'{"role": "tool"')
_WALK = 64
"""Messages from the end in which the last answer is looked for."""


class Outline(msgspec.Struct):
    """What placing needs of a body."""

    messages: list[msgspec.Raw] | None = None
    input: str | list[msgspec.Raw] | None = None
    system: msgspec.Raw = msgspec.Raw(b"")
    instructions: msgspec.Raw = msgspec.Raw(b"")
    metadata: Any = None
    conversation: Any = None
    previous_response_id: Any = None
    prompt_cache_key: Any = None
    safety_identifier: Any = None
    user: Any = None
    session_id: Any = None
    litellm_session_id: Any = None
    langfuse_session_id: Any = None

    marked: bool = False
    """Whether the body holds marks of prompt caches."""

    def fields(self) -> dict[str, Any]:
        """The fields that may name a session or a user."""
        return {name: value for name in _NAMING if (value := getattr(self, name)) is not None}

    def raw_messages(self) -> Sequence[bytes | msgspec.Raw]:
        """The messages, without marks of prompt caches: these wander from call to call."""
        given = self.messages if self.messages is not None else self.input
        if isinstance(given, str):
            return [msgspec.json.encode({"role": "user", "content": given})]
        return [_MARK.sub(b"", bytes(raw)) for raw in given or ()] if self.marked else given or ()

    def raw_system(self) -> bytes:
        said = bytes(self.system or self.instructions)
        return _MARK.sub(b"", said) if self.marked else said


_NAMING = (
    "metadata",
    "conversation",
    "previous_response_id",
    "prompt_cache_key",
    "safety_identifier",
    "user",
    "session_id",
    "litellm_session_id",
    "langfuse_session_id",
)


class _Kind(msgspec.Struct):
    role: Any = None
    type: Any = None


_outline = msgspec.json.Decoder(Outline)
_kind = msgspec.json.Decoder(_Kind)


def outline(body: bytes) -> Outline:
    """The outline of a body; an empty one where it is no JSON object with a list of messages."""
    try:
        asked = _outline.decode(body)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return Outline()
    asked.marked = b'"cache_control"' in body
    return asked


def last_answer(messages: Sequence[bytes | msgspec.Raw]) -> int:
    """Index of the first message of the last run of the model's own messages; 0 where there is none near the end."""
    at, within = len(messages), False
    for index in range(len(messages) - 1, max(-1, len(messages) - 1 - _WALK), -1):
        if _is_answer(messages[index]):
            at, within = index, True
        elif within:
            return at
    return at if within else 0


def _is_answer(raw: bytes | msgspec.Raw) -> bool:
    data = bytes(raw)
    if data.startswith(_PLAIN_ANSWER):
        return True
    if data.startswith(_PLAIN_OTHER):
        return False
    if b"assistant" not in data and b"call" not in data and b"reasoning" not in data and b"model" not in data:
        return False
    try:
        kind = _kind.decode(data)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return False
    said = kind.role if kind.role is not None else kind.type
    return isinstance(said, str) and said in _ANSWER_ROLES


class Threads:
    """Conversations by the bytes of the prompts that ended with them, the least recently used forgotten first.

    ``max_messages``: in all of them together, about 150 bytes each.
    """

    def __init__(self, max_messages: int = 200_000) -> None:
        self._most, self._held = max_messages, 0
        self._known: OrderedDict[tuple[str, int, int], Thread] = OrderedDict()
        self.hits = self.misses = 0

    def __len__(self) -> int:
        return len(self._known)

    def of(self, space: str, asked: Outline) -> Thread:
        """The conversation of a prompt. Raises ``msgspec.DecodeError`` for a message that is no JSON.

        ``space``: prompts of two spaces have nothing to do with each other.
        """
        messages, system = asked.raw_messages(), asked.raw_system()
        start = last_answer(messages)
        joined = b"".join(messages)
        whole = (space, hash(system), hash(joined))
        known = self._known.get(whole)
        if known is not None:
            self._known.move_to_end(whole)
            self.hits += 1
            return known
        before = (space, whole[1], hash(b"".join(messages[:start]))) if start else whole
        known = self._known.pop(before, None) if start else None
        if known is not None:
            self.hits += 1
            self._held -= len(known)
            thread, rest = known.fork(), messages[start:]
        else:
            self.misses += 1
            thread, rest = Thread(system=_decoded(system)), messages
        for raw in rest:
            thread.add(msgspec.json.decode(raw))
        self._keep(whole, thread)
        return thread

    def _keep(self, key: tuple[str, int, int], thread: Thread) -> None:
        self._known[key] = thread
        self._held += len(thread)
        while self._held > self._most and len(self._known) > 1:
            self._held -= len(self._known.popitem(last=False)[1])


def _decoded(raw: bytes) -> Any:
    return msgspec.json.decode(raw) if raw else None
