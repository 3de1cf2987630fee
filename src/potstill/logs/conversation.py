"""A call's prompt and answer as hashes, sizes and previews: the part of ``LogCall`` that comes from messages.

What it knows: that each message is hashed behind those before it. In whichever way a client repeats an answer in its
next request (content null, empty or missing, a text or a list of parts, cache marks, reasoning left out, arguments
with other white space), it hashes the same (``folding``), so the prefix of an episode's next call is found by
``after``. What it does not do: read files, know a log's other fields, or raise.

Hashes are BLAKE2b over canonical bytes, 64 bits: the same in every process, and numbers below 2**64.
"""

from __future__ import annotations

import sys
from collections.abc import Hashable, Sequence
from hashlib import blake2b
from typing import Any, NamedTuple
from zlib import crc32

import msgspec

from potstill.logs.folding import ROLES, Folded, fold, listed
from potstill.logs.hashing import tools_told
from potstill.logs.records import PREVIEW

_LETTERS = {letter: letter.encode() for letter in "suat"}
_MESSAGE_BYTES = 150
"""Of a conversation's memory: two hashes and two small things for each message."""


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


class _Link(msgspec.Struct, gc=False):
    """A message at its place behind a conversation."""

    folded: Folded
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
    for message in listed(messages, "user"):
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
        self._last = Folded("u", "", 0)
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
        for folded in fold(message, "u"):
            self._say(folded)

    def say(self, role: str, text: str) -> None:
        """``add`` for a message that is no more than a text (a tool's has an id)."""
        self._say(Folded(ROLES.get(role, "u"), text, len(text)))

    def _say(self, folded: Folded) -> None:
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
        for folded in fold(message, "u"):
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
        for message in listed(answer, "assistant"):
            for folded in fold(message, "a"):
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


def _linked(chain: bytes, folded: Folded) -> _Link:
    """A message behind a conversation. Lengths stand before texts in what is hashed, so that none can pass for two."""
    letter, rest = folded.letter, folded.rest
    text = folded.text.strip().encode("utf-8", "surrogatepass")
    hashed = b"%b%b%d:%b%b" % (chain, _LETTERS[letter], len(text), text, rest)
    after = blake2b(hashed, digest_size=8).digest()
    content = crc32(text, ord(letter)) if not folded.calls and (letter == "t" or not rest) else _content(folded, text)
    return _Link(folded, after, int.from_bytes(after, "little"), content)


def _content(folded: Folded, text: bytes) -> int:
    """32 bits of what one message says, without the ids of calls: the same observation again is the same number."""
    start = ord(folded.letter)
    if folded.calls:
        for name, arguments in folded.calls:
            start = crc32(b"%b%d" % (name.encode("utf-8", "surrogatepass"), arguments), start)
    elif folded.rest and folded.letter != "t":
        start = crc32(folded.rest, start)
    return crc32(text, start)


def _preview(text: str, calls: Sequence[tuple[str, int]]) -> str:
    """The start of a text; the names of the tools called where there is none."""
    return text[:PREVIEW] if text and not text.isspace() else ", ".join(f"{name}(…)" for name, _ in calls)[:PREVIEW]
