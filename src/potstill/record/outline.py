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
from typing import Any, NamedTuple, Self

import msgspec

from potstill.errors import NOT_JSON
from potstill.logs.conversation import Thread

_MARK = re.compile(rb',\s*"cache_control"\s*:\s*\{[^{}]*\}')
_ANSWER_ROLES = {"assistant", "function_call", "reasoning", "custom_tool_call", "model"}
_PLAIN_ANSWER = (b'{"role":"assistant"', b'{"role": "assistant"')
_PLAIN_OTHER = (b'{"role":"user"', b'{"role": "user"', b'{"role":"tool"', b'{"role": "tool"')
MAX_BYTES = 8 * 1024 * 1024
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

    def of(self, body: bytes) -> Self:
        """Itself, knowing the body that it was read from."""
        self.marked = b'"cache_control"' in body
        return self

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
        return _outline.decode(body).of(body)
    except NOT_JSON:
        return Outline()


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
    except NOT_JSON:
        return False
    said = kind.role if kind.role is not None else kind.type
    return isinstance(said, str) and said in _ANSWER_ROLES


class Threads:
    """Conversations by the bytes of the prompts that ended with them, the least recently used forgotten first.

    ``max_bytes``: of all of them together, about. ``idle_s``: seconds after which one that was not asked for is
    forgotten.
    """

    def __init__(self, max_bytes: int = MAX_BYTES, idle_s: float = float("inf")) -> None:
        self._most, self._idle_s = max_bytes, idle_s
        self.bytes = 0
        self._known: OrderedDict[tuple[str, int, int], _Kept] = OrderedDict()
        self.hits = self.misses = 0

    def __len__(self) -> int:
        return len(self._known)

    def of(self, space: str, asked: Outline, now: float = 0.0) -> Thread:
        """The conversation of a prompt. Raises ``msgspec.DecodeError`` for a message that is no JSON.

        ``space``: prompts of two spaces have nothing to do with each other. ``now``: Unix seconds.
        """
        messages, system = asked.raw_messages(), asked.raw_system()
        start = last_answer(messages)
        joined = b"".join(messages)
        whole = (space, hash(system), hash(joined))
        known = self._take(whole)
        if known is not None:
            self.hits += 1
            self._keep(whole, known.thread, now)
            return known.thread
        known = self._take((space, whole[1], hash(b"".join(messages[:start])))) if start else None
        if known is not None:
            self.hits += 1
            thread, rest = known.thread.fork(), messages[start:]
        else:
            self.misses += 1
            thread, rest = Thread(system=_decoded(system)), messages
        for raw in rest:
            thread.add(msgspec.json.decode(raw))
        self._keep(whole, thread, now)
        return thread

    def _take(self, key: tuple[str, int, int]) -> _Kept | None:
        known = self._known.pop(key, None)
        if known is not None:
            self.bytes -= known.size
        return known

    def _keep(self, key: tuple[str, int, int], thread: Thread, now: float) -> None:
        kept = _Kept(thread, thread.memory + _OVERHEAD_BYTES, now)
        self._known[key] = kept
        self.bytes += kept.size
        while len(self._known) > 1:
            oldest, one = next(iter(self._known.items()))
            if self.bytes <= self._most and now - one.at <= self._idle_s:
                return
            self._take(oldest)


class _Kept(NamedTuple):
    thread: Thread
    size: int
    """Of its memory, in bytes, about."""
    at: float
    """When it was asked for last."""


_OVERHEAD_BYTES = 500


def _decoded(raw: bytes) -> Any:
    return msgspec.json.decode(raw) if raw else None
