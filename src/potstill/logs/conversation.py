"""A call's prompt and answer as hashes, sizes and previews: the part of ``LogCall`` that comes from messages.

What it knows: how the dialects (OpenAI chat and responses, Anthropic, OpenTelemetry's parts, LangChain's names) write
messages, and in which ways a client repeats an answer in its next request: content null, empty or missing, a text or a
list of parts, cache marks, reasoning left out, arguments with other white space. All of these hash the same, so the
prefix of an episode's next call is found by ``after``. What it does not do: read files, know a log's other fields, or
raise: whatever stands where a message should be is hashed as it is.

Hashes are BLAKE2b over canonical bytes, 64 bits: the same in every process, and numbers below 2**64.
"""

from __future__ import annotations

import base64
import binascii
import sys
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from hashlib import blake2b
from typing import Any, NamedTuple
from zlib import crc32

import msgspec

from potstill.logs.records import PREVIEW

_ROLES = {
    "system": "s",
    "developer": "s",
    "user": "u",
    "human": "u",
    "assistant": "a",
    "ai": "a",
    "model": "a",
    "tool": "t",
    "function": "t",
    "function_call": "a",
    "function_call_output": "t",
    "custom_tool_call": "a",
    "custom_tool_call_output": "t",
}
_LETTERS = {letter: letter.encode() for letter in "suat"}
_CALLS = {"tool_use", "tool_call", "function_call", "server_tool_use", "custom_tool_call"}
_RESULTS = {"tool_result", "tool_call_response", "function_call_output", "custom_tool_call_output"}
_THOUGHTS = {"thinking", "redacted_thinking", "reasoning"}
_CACHED_ARGUMENTS = 2000
"""Characters. Arguments up to here are remembered: every later call of an episode repeats them."""

_MESSAGE_BYTES = 150
"""Of a conversation's memory: two hashes and two small things for each message."""

_encode = msgspec.json.encode
_decode = msgspec.json.decode


class Conversation(NamedTuple):
    """The fields of a ``LogCall`` that its messages give: ``LogCall(model=..., **conversation._asdict())``."""

    roles: str = ""
    sizes: tuple[int, ...] = ()
    prefixes: tuple[int, ...] = ()
    contents: tuple[int, ...] = ()
    after: int | None = None
    tools: tuple[int, int] = (0, 0)
    tool_calls: tuple[tuple[str, int], ...] = ()
    answer_characters: int = 0
    prompt_preview: str = ""
    answer_preview: str = ""


class _Folded(msgspec.Struct, gc=False):
    """One message in canonical form."""

    letter: str
    text: str
    size: int
    calls: tuple[tuple[str, int], ...] = ()
    rest: bytes = b""
    """What counts beside role and text: ids, tools called, images."""


class _Link(msgspec.Struct, gc=False):
    """A message at its place behind a conversation."""

    folded: _Folded
    chain: bytes
    prefix: int
    content: int


class _Seen:
    """Messages at their places that were met lately: an agent's next request repeats all of its last one.

    Two generations of at most ``_SEEN_CHARACTERS`` each; what is not met again falls out with the older one.
    """

    def __init__(self) -> None:
        self._young: dict[Hashable, _Link] = {}
        self._old: dict[Hashable, _Link] = {}
        self._characters = 0

    def find(self, key: Hashable) -> _Link | None:
        link = self._young.get(key)
        if link is None:
            link = self._old.get(key)
            if link is not None:
                self.keep(key, link)
        return link

    def keep(self, key: Hashable, link: _Link) -> None:
        self._young[key] = link
        self._characters += link.folded.size + _SEEN_OVERHEAD
        if self._characters > _SEEN_CHARACTERS:
            self._old, self._young, self._characters = self._young, {}, 0


_SEEN_CHARACTERS = 8_000_000
_SEEN_OVERHEAD = 400
_seen = _Seen()


def told(messages: Any, answer: Any = None, *, system: Any = None, tools: Any = None) -> Conversation:
    """What one request and its answer say. ``messages``: a list of messages in any dialect, or a prompt as text.

    ``answer``: the answer's message, a list of them (the responses API's ``output``), or its text; None: there is none.
    ``system``: Anthropic's ``system`` (text or blocks) or the responses API's ``instructions``: a first message.

    >>> asked = [{"role": "user", "content": "hi"}]
    >>> first = told(asked, {"role": "assistant", "content": "hello", "refusal": None, "annotations": []})
    >>> repeated = {"role": "assistant", "content": [{"type": "text", "text": "hello"}]}
    >>> told([*asked, repeated]).prefixes[-1] == first.after
    True
    """
    thread = Thread(system=system, tools=tools)
    for message in _listed(messages, "user"):
        thread.repeat(message)
    return thread.call(answer)


class Thread:
    """A conversation that grows. ``add`` each message; ``call`` gives the fields of a call made at this point."""

    __slots__ = ("_chain", "_contents", "_last", "_prefixes", "_roles", "_said", "_sizes", "_tools")

    def __init__(self, *, system: Any = None, tools: Any = None) -> None:
        self._roles: list[str] = []
        self._sizes: list[int] = []
        self._prefixes: list[int] = []
        self._contents: list[int] = []
        self._chain = b""
        self._last = _Folded("u", "", 0)
        self._said: _Link | None = None
        self._tools = tools_told(tools)
        if system:
            self.add({"role": "system", "content": system})

    def __len__(self) -> int:
        return len(self._sizes)

    @property
    def memory(self) -> int:
        """Bytes that it takes, about: four numbers for each message, and the last one's text."""
        said = 0 if self._said is None else sys.getsizeof(self._said.folded.text)
        return _MESSAGE_BYTES * len(self._sizes) + sys.getsizeof(self._last.text) + said

    def fork(self) -> Thread:
        """The same conversation, to go on in another way."""
        other = Thread.__new__(Thread)
        other._roles = self._roles.copy()
        other._sizes = self._sizes.copy()
        other._prefixes = self._prefixes.copy()
        other._contents = self._contents.copy()
        other._chain, other._last = self._chain, self._last
        other._said, other._tools = self._said, self._tools
        return other

    def add(self, message: Any) -> None:
        """Put a message behind the conversation (an Anthropic message with tool results is several)."""
        for folded in _fold(message, "u"):
            self._say(folded)

    def say(self, role: str, text: str) -> None:
        """``add`` for a message that is no more than a text (a tool's has an id)."""
        self._say(_Folded(_ROLES.get(role, "u"), text, len(text)))

    def _say(self, folded: _Folded) -> None:
        """A message is mostly the answer of the call before it, whose hashes are known."""
        said = self._said
        self._put(said if said is not None and said.folded == folded else _linked(self._chain, folded))

    def repeat(self, message: Any) -> None:
        """``add``, for a message that other conversations have at the same place: it is hashed once for all of them."""
        key = _key(message, self._chain)
        known = None if key is None else _seen.find(key)
        if known is not None:
            self._put(known)
            return
        for folded in _fold(message, "u"):
            link = _linked(self._chain, folded)
            self._put(link)
            if key is not None:
                _seen.keep(key, link)

    def _put(self, link: _Link) -> None:
        folded = link.folded
        self._chain = link.chain
        self._contents.append(link.content)
        self._roles.append(folded.letter)
        self._sizes.append(folded.size)
        self._prefixes.append(link.prefix)
        self._last = folded
        self._said = None

    def prompt(self) -> tuple[str, tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
        """What ``call`` says of the prompt: roles, sizes, prefixes, contents."""
        return "".join(self._roles), tuple(self._sizes), tuple(self._prefixes), tuple(self._contents)

    def call(self, answer: Any = None, *, tools: tuple[int, int] | None = None) -> Conversation:
        """A call whose prompt is the conversation so far. The answer is not added: ``add`` it if it stays.

        ``tools``: what ``tools_told`` gives for the tools of this call, where they are not the conversation's.
        """
        links = self._links(answer)
        self._said = links[0] if len(links) == 1 else None
        return self._told(links, self._tools if tools is None else tools)

    def answered(self, answer: Any) -> Conversation:
        """``call``, with the answer put behind the conversation: it is hashed once for both."""
        links = self._links(answer)
        conversation = self._told(links, self._tools)
        for link in links:
            self._put(link)
        return conversation

    def _links(self, answer: Any) -> list[_Link]:
        chain, links = self._chain, []
        for message in _listed(answer, "assistant"):
            for folded in _fold(message, "a"):
                link = _linked(chain, folded)
                chain = link.chain
                links.append(link)
        return links

    def _told(self, links: Sequence[_Link], tools: tuple[int, int]) -> Conversation:
        calls: tuple[tuple[str, int], ...] = ()
        text, size = "", 0
        if len(links) == 1:
            folded = links[0].folded
            text, size, calls = folded.text, folded.size, folded.calls
        elif links:
            answers = [link.folded for link in links]
            calls = tuple(call for folded in answers for call in folded.calls)
            text = "\n".join(folded.text for folded in answers if folded.text)
            size = sum(folded.size for folded in answers)
        return Conversation(
            "".join(self._roles),
            tuple(self._sizes),
            tuple(self._prefixes),
            tuple(self._contents),
            links[-1].prefix if links else None,
            tools,
            calls,
            size,
            _preview(self._last.text, self._last.calls),
            _preview(text, calls),
        )


def tools_told(tools: Any) -> tuple[int, int]:
    """Hash and characters of definitions of tools, (0, 0) for none. Their order counts, as in a provider's cache."""
    if not tools:
        return 0, 0
    encoded = tools.encode("utf-8", "surrogatepass") if isinstance(tools, str) else _json(tools)
    if b'"cache_control"' in encoded:
        encoded = _json(_without_marks(tools))
    return _hash(encoded), len(encoded)


def arguments_hash(arguments: Any) -> int:
    """Hash of a tool call's arguments, the same for JSON text and object, for any order of keys, and for 1.0 and 1."""
    if not isinstance(arguments, str):
        return _hash(_normal_json(arguments))
    return _text_hash(arguments) if len(arguments) <= _CACHED_ARGUMENTS else _hash_text(arguments)


def _key(message: Any, chain: bytes) -> Hashable | None:
    """What a plain message (role, text, OpenAI's calls of tools) says at its place; ``None`` for any other shape."""
    if type(message) is not dict or "content" not in message:
        return None
    role, content, calls = message.get("role"), message["content"], message.get("tool_calls")
    if type(role) is not str or (type(content) is not str and content is not None):
        return None
    if calls is None:
        answered = message.get("tool_call_id")
        if type(answered) is str:
            return (chain, role, content, answered) if len(message) == 3 else None
        return (chain, role, content) if len(message) == 2 else None
    if type(calls) is not list or len(message) != 3:
        return None
    said: list[Hashable] = [chain, role, content]
    for call in calls:
        function = call.get("function") if type(call) is dict else None
        if type(function) is not dict:
            return None
        parts = (call.get("id"), function.get("name"), function.get("arguments"))
        if any(type(part) is not str for part in parts) or "call_id" in call:
            return None
        said.append(parts)
    return tuple(said)


def _linked(chain: bytes, folded: _Folded) -> _Link:
    """A message behind a conversation. Lengths stand before texts in what is hashed, so that none can pass for two."""
    letter, rest = folded.letter, folded.rest
    text = folded.text.strip().encode("utf-8", "surrogatepass")
    hashed = b"%b%b%d:%b%b" % (chain, _LETTERS[letter], len(text), text, rest)
    after = blake2b(hashed, digest_size=8).digest()
    content = crc32(text, ord(letter)) if not folded.calls and (letter == "t" or not rest) else _content(folded, text)
    return _Link(folded, after, int.from_bytes(after, "little"), content)


# --- one message ----------------------------------------------------------------------------------------------------


def _listed(messages: Any, role: str) -> Sequence[Any]:
    """Messages as a list; a bare text is the content of one message of ``role``."""
    if messages is None:
        return ()
    if isinstance(messages, str):
        return ({"role": role, "content": messages},)
    return messages if isinstance(messages, list | tuple) else (messages,)


def _fold(message: Any, default: str) -> Iterable[_Folded]:
    """A message in canonical form; none for the reasoning items of the responses API."""
    if not isinstance(message, dict):
        message = {"content": message if isinstance(message, str | list) else _text(message)}
    role = message.get("role")
    kind = role if role is not None else message.get("type")
    kind = kind if isinstance(kind, str) else ""
    letter = _ROLES.get(kind, default)
    content = message.get("content")
    if role is not None and letter != "a" and type(content) is str:
        return (_Folded(letter, content, len(content), (), _tool_id(message) if letter == "t" else b""),)
    if role is not None and letter == "a" and (plain := _plain_answer(message, content)) is not None:
        return (plain,)
    if role is None and kind in _THOUGHTS:
        return ()
    if role is None and (kind in _CALLS or kind in _RESULTS):
        content = [message]
    elif content is None:
        content = message.get("parts")
    return _fold_parts(message, letter, content)


def _plain_answer(message: dict[str, Any], content: Any) -> _Folded | None:
    """An answer of text and calls of tools, as most are; None for one of another shape."""
    text = content
    if content is None and not message.get("parts") and not message.get("refusal"):
        text = ""
    if type(text) is not str or "function_call" in message:
        return None
    listed = message.get("tool_calls")
    if not listed:
        return _Folded("a", text, len(text)) if listed is None or type(listed) is list else None
    if type(listed) is not list:
        return None
    size, calls, rest = len(text), [], []
    for call in listed:
        if type(call) is not dict:
            return None
        called, characters, identity = _tool_call(call)
        size += characters
        calls.append(called)
        rest.append(identity)
    return _Folded("a", text, size, tuple(calls), b"".join(rest))


def _tool_call(call: dict[str, Any]) -> tuple[tuple[str, int], int, bytes]:
    """A call of a tool, however it is written: (name, hash of the arguments), characters, what identifies it."""
    function = call.get("function")
    inner = function if isinstance(function, dict) else call
    name = inner.get("name")
    name = name if isinstance(name, str) else function if isinstance(function, str) else ""
    arguments = _first(inner, "arguments", "input", "args")
    if isinstance(arguments, str):
        hashed, size = arguments_hash(arguments), len(arguments)
    else:
        normal = _normal_json(arguments)
        hashed, size = _hash(normal), len(normal)
    identity = _framed(_identity(call)) + _framed(name) + hashed.to_bytes(8, "little")
    return (name, hashed), len(name) + size, identity


def _fold_parts(message: Mapping[str, Any], letter: str, content: Any) -> Iterator[_Folded]:
    """A message of several parts: results of tools are messages of their own, the rest is one."""
    told_parts = _Parts()
    if isinstance(content, str):
        told_parts.texts.append(content)
    elif content is not None:
        parts = content if isinstance(content, list | tuple) else (content,)
        for part in parts:
            result = told_parts.take(part)
            if result is not None:
                yield result
    for call in _listed(message.get("tool_calls"), ""):
        told_parts.call(call)
    if isinstance(message.get("function_call"), dict):
        told_parts.call(message["function_call"])
    refusal = message.get("refusal")
    if isinstance(refusal, str) and not told_parts.texts:
        told_parts.texts.append(refusal)
    if told_parts.results and not (told_parts.texts or told_parts.calls or told_parts.rest):
        return
    if letter == "t":
        told_parts.rest.append(_tool_id(message))
    yield told_parts.folded(letter)


class _Parts:
    """Gathers what the parts of one message say."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.calls: list[tuple[str, int]] = []
        self.rest: list[bytes] = []
        self.characters = 0
        self.results = 0

    def take(self, part: Any) -> _Folded | None:
        """Note a part; a tool's result is given back as a message of its own."""
        if isinstance(part, str):
            self.texts.append(part)
            return None
        if not isinstance(part, dict):
            self.texts.append(_text(part))
            return None
        named = part.get("type")
        kind = named if isinstance(named, str) else ""
        text = part.get("text")
        if isinstance(text, str) and kind not in _THOUGHTS:
            self.texts.append(text)
        elif kind in _CALLS or "functionCall" in part:
            self.call(part.get("functionCall", part))
        elif kind in _RESULTS or "functionResponse" in part:
            self.results += 1
            return _result(part.get("functionResponse", part))
        elif kind not in _THOUGHTS:
            self._other(part, kind)
        return None

    def call(self, call: Any) -> None:
        """Note a call of a tool, however it is written."""
        if not isinstance(call, dict):
            self.texts.append(_text(call))
            return
        called, characters, identity = _tool_call(call)
        self.calls.append(called)
        self.characters += characters
        self.rest.append(identity)

    def folded(self, letter: str) -> _Folded:
        text = self.texts[0] if len(self.texts) == 1 else "".join(self.texts)
        return _Folded(letter, text, len(text) + self.characters, tuple(self.calls), b"".join(self.rest))

    def _other(self, part: Mapping[str, Any], kind: str) -> None:
        """A part that is neither text nor tool: refusals, OpenTelemetry's texts, images and files."""
        spoken = part.get("refusal") if kind == "refusal" else part.get("content") if kind == "text" else None
        if isinstance(spoken, str):
            self.texts.append(spoken)
        else:
            self.rest.append(b"i" + blake2b(_media(part), digest_size=8).digest())


def _result(part: Mapping[str, Any]) -> _Folded:
    """A tool's result as the message of a tool."""
    content = _first(part, "content", "output", "response", "result")
    inner = _Parts()
    for piece in content if isinstance(content, list) else (content,):
        if piece is not None:
            inner.take(piece if isinstance(piece, str) or _is_part(piece) else _text(piece))
    inner.rest.append(_tool_id(part))
    return inner.folded("t")


def _is_part(piece: Any) -> bool:
    return isinstance(piece, dict) and isinstance(piece.get("type"), str)


def _media(part: Mapping[str, Any]) -> bytes:
    """The bytes of an image or file, where it holds them; else its address; else the part as it is."""
    for value in (part, *(inner for inner in part.values() if isinstance(inner, dict))):
        found = _first(value, "data", "url", "image_url", "file_data", "content", "file_id", "uri")
        if isinstance(found, str):
            encoded = found.partition(";base64,")[2] if found.startswith("data:") else found
            try:
                return base64.b64decode(encoded, validate=True)
            except (binascii.Error, ValueError):
                return found.encode("utf-8", "surrogatepass")
    return _normal_json(_without_marks(part))


def _tool_id(message: Mapping[str, Any]) -> bytes:
    return _framed(_first(message, "tool_call_id", "tool_use_id", "call_id", "id") or "")


def _identity(call: Mapping[str, Any]) -> Any:
    """The id by which a result names its call (the responses API gives the item another one)."""
    return call.get("call_id") or call.get("id") or ""


# --- bytes ----------------------------------------------------------------------------------------------------------


def _content(folded: _Folded, text: bytes) -> int:
    """32 bits of what one message says, without the ids of calls: the same observation again is the same number."""
    start = ord(folded.letter)
    if folded.calls:
        for name, arguments in folded.calls:
            start = crc32(b"%b%d" % (name.encode("utf-8", "surrogatepass"), arguments), start)
    elif folded.rest and folded.letter != "t":
        start = crc32(folded.rest, start)
    return crc32(text, start)


def _framed(value: Any) -> bytes:
    text = (value if isinstance(value, str) else _text(value)).encode("utf-8", "surrogatepass")
    return b"%d:%b" % (len(text), text)


def _hash(data: bytes) -> int:
    return int.from_bytes(blake2b(data, digest_size=8).digest(), "little")


def _hash_text(arguments: str) -> int:
    if not arguments.strip():
        return _hash(b"{}")
    try:
        value = _decode(arguments)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return _hash(arguments.strip().encode("utf-8", "surrogatepass"))
    return _hash(_normal_json(value))


_text_hash = lru_cache(maxsize=4096)(_hash_text)


def _normal_json(value: Any) -> bytes:
    """JSON with sorted keys and without the difference of 1.0 and 1."""
    try:
        return _json({} if value is None else _whole(value), "deterministic")
    except RecursionError:
        return _json(value)


def _json(value: Any, order: Any = None) -> bytes:
    try:
        return _encode(value, order=order)
    except RecursionError:
        return b"(too deep)"
    except (TypeError, ValueError, OverflowError, msgspec.MsgspecError):
        return repr(value).encode("utf-8", "surrogatepass")


def _whole(value: Any) -> Any:
    """``value`` with floats that are whole numbers as whole numbers."""
    kind = type(value)
    if kind is float:
        return int(value) if value.is_integer() and abs(value) < 2**53 else value
    if kind is dict:
        return {key: inner if type(inner) is str else _whole(inner) for key, inner in value.items()}
    if kind is list:
        return [_whole(inner) for inner in value]
    return value


def _without_marks(value: Any) -> Any:
    """``value`` without marks of prompt caches."""
    if isinstance(value, dict):
        return {key: _without_marks(inner) for key, inner in value.items() if key != "cache_control"}
    return [_without_marks(inner) for inner in value] if isinstance(value, list) else value


def _first(value: Mapping[str, Any], *names: str) -> Any:
    for name in names:
        found = value.get(name)
        if found is not None:
            return found
    return None


def _text(value: Any) -> str:
    return _json(value).decode("utf-8", "surrogatepass")


def _preview(text: str, calls: Sequence[tuple[str, int]]) -> str:
    """The start of a text; the names of the tools called where there is none."""
    return text[:PREVIEW] if text and not text.isspace() else ", ".join(f"{name}(…)" for name, _ in calls)[:PREVIEW]
