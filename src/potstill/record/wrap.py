"""``potstill.wrap``: record what an official ``openai`` or ``anthropic`` client asks, without a proxy in between.

What it knows: that these clients send through an HTTP client with event hooks (httpx), and which paths speak which
dialect. What it does not do: change requests (but for their accepted encodings, and headers for a gateway where no
store is given), stand in the way of an answer, or keep anything (``recording``).

Bytes are recorded as they were sent and came, streams too: when the answer has been read, or its episode ends. What the
SDK tries again is an exchange of its own; folding makes one step of them.
"""

from __future__ import annotations

import functools
import logging
import time
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakKeyDictionary

import msgspec

from potstill.errors import NOT_JSON, ConfigError, PotstillError
from potstill.record.episodes import current
from potstill.record.recording import Recording as Recording
from potstill.record.recording import Sent, opened
from potstill.record.streams import Noted, recorded_stream
from potstill.types import Answerer, ErrorRecord

if TYPE_CHECKING:
    from potstill.record.redact import Redactor
    from potstill.trajectories.store import Store

DIALECTS = {"/chat/completions": "openai-chat", "/responses": "openai-responses", "/messages": "anthropic"}
"""By how the path ends; other requests (embeddings, files) are not recorded."""
_EXTENSION = "potstill"
_UNREAD = ErrorRecord(kind="Incomplete", message="the answer was not read to its end")
_LAST = (b"\ndata: [DONE]", b"\nevent: message_stop", b"\nevent: response.completed", b"\nevent: response.incomplete")
"""The SDKs stop reading there, before the connection says that this was all."""
_log = logging.getLogger("potstill.record")
Client = TypeVar("Client")


class _Body(msgspec.Struct):
    model: Any = None


def _model(body: bytes) -> str:
    try:
        model = msgspec.json.decode(body, type=_Body).model
    except NOT_JSON:
        return "unknown"
    return model if isinstance(model, str) and model else "unknown"


# --- clients ----------------------------------------------------------------------------------------------------------

_recordings: WeakKeyDictionary[Any, Recording | None] = WeakKeyDictionary()


def wrap(
    client: Client,
    store: Store | str | Path | None = "potstill.db",
    *,
    namespace: str = "default",
    answerer: Answerer | str = Answerer.TEACHER,
    price_as: str | None = None,
    redact: bool | Iterable[str] = True,
    recording: Recording | None = None,
) -> Client:
    """Record what ``client`` (``OpenAI``, ``AsyncOpenAI``, ``Anthropic``, ``AsyncAnthropic``) asks; returns it.

    ``store``: a store or the path of one, made if it is not there; None: nothing is recorded here, and requests of a
    ``potstill.episode`` carry its headers to the gateway that the client talks to. ``answerer``: which side of a
    cascade the client's model is. ``price_as``: whose price its tokens have. ``redact``: True for the built-in rules,
    regular expressions for more, False for none. Raises ``ConfigError`` for another kind of client.
    """
    http = getattr(client, "_client", None)
    hooks = getattr(http, "event_hooks", None)
    if http is None or not isinstance(hooks, dict):
        raise ConfigError(
            f"potstill.wrap knows the clients of the packages openai and anthropic, not {type(client).__name__}. "
            "Send other clients through the gateway: potstill serve"
        )
    if http in _recordings:
        raise ConfigError("This client is wrapped already (clients made by copy() or with_options() share their wrap).")
    if recording is None and store is not None:
        recording = Recording(
            opened(store) if isinstance(store, str | Path) else store,
            place=store if isinstance(store, str | Path) else None,
            namespace=namespace,
            answerer=Answerer(answerer),
            price_as=price_as,
            redactor=_redactor(redact),
        )
    hooks = {name: list(held) for name, held in hooks.items()}
    before, after = (_async_hooks if hasattr(http, "aclose") else _hooks)(recording)
    http.event_hooks = {
        "request": [*hooks.get("request", []), before],
        "response": [after, *hooks.get("response", [])],
    }
    if recording is not None:
        http.send = (_async_send if hasattr(http, "aclose") else _send)(http.send, recording)
    _recordings[http] = recording
    return client


def recording_of(client: Any) -> Recording:
    """The recording of a wrapped client: its counters, ``flush``, its store."""
    recording = _recordings.get(getattr(client, "_client", None))
    if recording is None:
        raise ConfigError("This client records nothing here: potstill.wrap it with a store first.")
    return recording


def _redactor(redact: bool | Iterable[str]) -> Redactor | None:
    if redact is False:
        return None
    from potstill.record.redact import Redactor

    return Redactor(() if redact is True else redact)


# --- hooks ------------------------------------------------------------------------------------------------------------


def _asked(recording: Recording | None, request: Any, body: bytes) -> None:
    """Note a request that is about to be sent."""
    episode = current()
    if recording is None:
        if episode is not None:
            for name, value in episode.headers.items():
                request.headers[name] = value
        return
    dialect = next((dialect for end, dialect in DIALECTS.items() if request.url.path.endswith(end)), None)
    if dialect is None or request.method != "POST":
        return
    request.headers["accept-encoding"] = "gzip, deflate"
    try:
        now = time.time()
        placement = recording.place(request.headers, dialect, body, episode, now)
        request.extensions[_EXTENSION] = Sent(placement, dialect, body, request.url.host, _model(body), now)
    except (PotstillError, ValueError, TypeError) as error:
        _log.error("a request was not recorded: %s: %s", type(error).__name__, error)


def _answering(recording: Recording | None, response: Any) -> None:
    """Have an answer's bytes noted as they are read."""
    sent = response.request.extensions.get(_EXTENSION)
    if recording is None or not isinstance(sent, Sent):
        return
    sent.answered = True
    sent.first_byte_s = time.perf_counter() - sent.clock
    streamed = "text/event-stream" in response.headers.get("content-type", "")
    encoding = response.headers.get("content-encoding", "")
    status = response.status_code

    def done(chunks: list[bytes], complete: bool) -> None:
        recording.done(noted)
        body, whole = _decoded(b"".join(chunks), encoding)
        ended = streamed and any(mark in body for mark in _LAST)
        error = None if ended or (complete and whole) else _UNREAD
        recording.finished(sent, body, status=status, streamed=streamed, error=error)

    noted = Noted(done)
    recording.reading(sent, noted)
    response.stream = recorded_stream(response.stream, noted)


def _unanswered(recording: Recording, request: Any, error: BaseException) -> None:
    """No answer came: no connection, a time-out, or the caller gave up."""
    sent = request.extensions.get(_EXTENSION)
    if isinstance(sent, Sent) and not sent.answered:
        sent.answered = True
        told = ErrorRecord(kind=type(error).__name__, message=str(error) or "no answer came")
        recording.finished(sent, b"", status=0, streamed=False, error=told)


def _send(send: Callable[..., Any], recording: Recording) -> Callable[..., Any]:
    @functools.wraps(send)
    def noted(request: Any, *arguments: Any, **named: Any) -> Any:
        try:
            return send(request, *arguments, **named)
        except BaseException as error:
            _unanswered(recording, request, error)
            raise

    return noted


def _async_send(send: Callable[..., Any], recording: Recording) -> Callable[..., Any]:
    @functools.wraps(send)
    async def noted(request: Any, *arguments: Any, **named: Any) -> Any:
        try:
            return await send(request, *arguments, **named)
        except BaseException as error:
            _unanswered(recording, request, error)
            raise

    return noted


def _hooks(recording: Recording | None) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
    def before(request: Any) -> None:
        _asked(recording, request, request.read())

    def after(response: Any) -> None:
        _answering(recording, response)

    return before, after


def _async_hooks(recording: Recording | None) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
    async def before(request: Any) -> None:
        _asked(recording, request, await request.aread())

    async def after(response: Any) -> None:
        _answering(recording, response)

    return before, after


def _decoded(data: bytes, encoding: str) -> tuple[bytes, bool]:
    """The body without its content encoding, and whether that was whole."""
    if encoding not in ("gzip", "deflate"):
        return data, True
    for bits in (47, -15):
        decoder = zlib.decompressobj(bits)
        try:
            return decoder.decompress(data) + decoder.flush(), decoder.eof
        except zlib.error:
            continue
    return data, False
