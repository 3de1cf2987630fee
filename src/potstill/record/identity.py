"""The name of a request's episode, where the request itself says it.

What it knows: our own header, and the fields by which agents and SDKs name a session. What it does not do: stitch
calls that name nothing (``live``), read messages.

Named by, the first that is there:

1. the header ``x-potstill-episode``;
2. a session header: ``x-session-id``, ``x-conversation-id``, ``session_id`` (Codex), ``x-litellm-session-id``, ...;
3. a field of the body: ``conversation`` (OpenAI responses), ``metadata.session_id`` and its spellings in LiteLLM,
   Langfuse and OpenRouter, Anthropic's ``metadata.user_id`` where it holds a session (Claude Code's does).

OpenAI's ``prompt_cache_key``, ``safety_identifier`` and ``user`` name no episode: by their documentation they stand for
a user or for all requests that begin alike. Calls that differ in them are never put together, that is all.
"""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Mapping
from hashlib import blake2b
from typing import Any
from urllib.parse import unquote

import msgspec

from potstill.errors import NOT_JSON

EPISODE_HEADER = "x-potstill-episode"
SESSION_HEADERS = (
    "x-session-id",
    "x-conversation-id",
    "x-thread-id",
    "session_id",
    "session-id",
    "conversation_id",
    "conversation-id",
    "x-litellm-session-id",
    "langfuse_session_id",
    "langfuse-session-id",
    "helicone-session-id",
)
SESSION_FIELDS = (
    "session_id",
    "litellm_session_id",
    "langfuse_session_id",
    "conversation_id",
    "thread_id",
    "sessionId",
    "threadId",
)
"""In ``metadata``; the first three also at the top of the body."""
MAX_ID_CHARACTERS = 200
TOLD_HEADERS = {
    "x-potstill-goal": "goal",
    "x-potstill-plan": "plan",
    "x-potstill-observation": "observation",
    "x-potstill-task": "task",
    "x-potstill-environment": "environment",
    "x-potstill-tags": "tags",
}
"""What a client can say of its episode in so many words (percent-encoded where not plain ASCII)."""
TRACE_HEADER = "traceparent"
"""W3C Trace Context: kept as it is where it is well-formed, under this name in the exchange's metadata."""
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
_CLAUDE_SESSION = re.compile(r"(?:\A|_)session_([0-9A-Za-z-]{8,})\Z")


def new_episode_id(now: float | None = None) -> str:
    """An id that cannot be guessed and never repeats, in whichever process; ids sort by time of creation.

    >>> new_episode_id(0.0)[:15]
    'ep-000000000000'
    """
    at = time.time() if now is None else now
    return f"ep-{max(0, int(at * 1000)):012x}{secrets.token_hex(12)}"


def is_valid_id(text: str) -> bool:
    """1 to 200 printable ASCII characters (a response header repeats it), no space at either end."""
    return 0 < len(text) <= MAX_ID_CHARACTERS and text.isascii() and text.isprintable() and text == text.strip()


def trajectory_id(namespace: str, episode_id: str) -> str:
    """The id under which the store keeps an episode: ids of two tenants never meet.

    >>> trajectory_id("a/b", "7"), trajectory_id("default", "ep-1")
    ('a%2Fb/7', 'default/ep-1')
    """
    return f"{namespace.replace('%', '%25').replace('/', '%2F')}/{episode_id}"


def episode_of(namespace: str, name: str) -> str:
    """The episode's own id, where it is named by the id that the store keeps it under.

    >>> episode_of("a/b", "a%2Fb/7"), episode_of("a/b", "7")
    ('7', '7')
    """
    return name.removeprefix(trajectory_id(namespace, ""))


def from_headers(headers: Mapping[str, str]) -> tuple[str | None, str, str]:
    """Episode id, how it was said (``header`` or ``session``), and a note where the id could not be taken.

    Names of headers are lower-case, as servers give them.
    """
    if not headers:
        return None, "", ""
    note = ""
    said = headers.get(EPISODE_HEADER)
    if said is not None:
        if is_valid_id(said):
            return said, "header", ""
        note = (
            f"{EPISODE_HEADER} was ignored: an episode's id has 1 to {MAX_ID_CHARACTERS} printable ASCII characters, "
            f"this one has {len(said)}"
        )
    for name in SESSION_HEADERS:
        value = headers.get(name)
        if value:
            return bounded(value), "session", note
    return None, "", note


def told(headers: Mapping[str, str]) -> dict[str, str]:
    """Goal, plan, observation, task, environment and tags that the headers state, and the trace of the request.

    >>> told({"x-potstill-goal": "Caf%C3%A9 at 50 % off", "x-other": "1"})
    {'goal': 'Café at 50 % off'}
    """
    if not headers:
        return {}
    said = {field: unquote(headers[name]) for name, field in TOLD_HEADERS.items() if name in headers}
    trace = headers.get(TRACE_HEADER)
    if trace is not None and _TRACEPARENT.match(trace):
        said[TRACE_HEADER] = trace[:55]
    return said


def from_body(fields: Mapping[str, Any]) -> str | None:
    """The session that the body's top-level fields name."""
    conversation = fields.get("conversation")
    if isinstance(conversation, Mapping):
        conversation = conversation.get("id")
    metadata = fields.get("metadata")
    inner = metadata if isinstance(metadata, Mapping) else {}
    candidates = [conversation, *(fields.get(name) for name in SESSION_FIELDS[:3])]
    candidates += [inner.get(name) for name in SESSION_FIELDS]
    for value in candidates:
        if isinstance(value, str) and value.strip():
            return bounded(value)
    return _session_of_user(inner.get("user_id"))


def _session_of_user(user_id: Any) -> str | None:
    """Claude Code writes ``user_..._account_..._session_ID``, or a JSON object with ``session_id``."""
    if not isinstance(user_id, str):
        return None
    found = _CLAUDE_SESSION.search(user_id)
    if found:
        return bounded(found[1])
    if user_id.startswith("{"):
        try:
            fields = msgspec.json.decode(user_id.encode("utf-8", "surrogatepass"), type=dict[str, Any])
        except NOT_JSON:
            return None
        session = fields.get("session_id")
        return bounded(session) if isinstance(session, str) and session.strip() else None
    return None


def partition(fields: Mapping[str, Any]) -> str:
    """What calls of one episode have in common beside their messages: calls that differ in it are never one episode."""
    named = [(name, fields.get(name)) for name in ("prompt_cache_key", "safety_identifier", "user")]
    said = [f"{name}={value}" for name, value in named if isinstance(value, str) and value]
    return bounded("&".join(said)) if said else ""


def bounded(text: str) -> str:
    """``text`` where it is a valid id, else a hash of it."""
    text = text.strip()
    if is_valid_id(text):
        return text
    return "session-" + blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
