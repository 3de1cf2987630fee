"""``potstill.wrap``: record what an official ``openai`` or ``anthropic`` client asks, without a proxy in between.

What it knows: that these clients send through an HTTP client with event hooks (httpx), and which paths speak which
dialect. What it does not do: change requests (but for their accepted encodings, and headers for a gateway where no
store is given), stand in the way of an answer, or let a failing store fail a call.

Bytes are recorded as they were sent and came, streams too: when the answer has been read. A request that the SDK tries
again is an exchange of its own; folding makes one step of them.
"""

from __future__ import annotations

import atexit
import logging
import threading
import time
import zlib
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakKeyDictionary

import msgspec

from potstill.errors import ConfigError, PotstillError, StoreError
from potstill.record.episodes import Episode, current
from potstill.record.live import LiveEpisodes
from potstill.record.placement import Placement
from potstill.record.streams import recorded_stream
from potstill.trajectories.exchange import Exchange, Upstream
from potstill.types import Answerer, ErrorRecord

if TYPE_CHECKING:
    from potstill.record.redact import Redactor
    from potstill.trajectories.store import Store

DIALECTS = {"/chat/completions": "openai-chat", "/responses": "openai-responses", "/messages": "anthropic"}
"""By how the path ends; other requests (embeddings, files) are not recorded."""
_EXTENSION = "potstill"
_LAST = (b"\ndata: [DONE]", b"\nevent: message_stop", b"\nevent: response.completed", b"\nevent: response.incomplete")
"""The SDKs stop reading there, before the connection says that this was all."""
_log = logging.getLogger("potstill.record")
Client = TypeVar("Client")


class Recording:
    """Where the exchanges of wrapped clients go. ``recorded`` and ``lost`` count them.

    Made by ``wrap``; one may serve several clients (``wrap(other, recording=recording_of(client))``).
    """

    def __init__(
        self, store: Store, *, namespace: str, answerer: Answerer, price_as: str | None, redactor: Redactor | None
    ) -> None:
        self.store, self.namespace = store, namespace
        self.recorded = self.lost = 0
        self._answerer, self._price_as, self._redactor = answerer, price_as, redactor
        self._live = LiveEpisodes()
        self._lock = threading.Lock()
        self._waiting: list[Future[list[int]]] = []

    def place(self, headers: Any, dialect: str, body: bytes, episode: Episode | None, now: float) -> Placement:
        if episode is not None:
            episode.at_end(id(self), self._ended)
            return Placement(episode_id=episode.id, how="sdk", metadata=dict(episode.metadata))
        with self._lock:
            return self._live.place(self.namespace, headers, dialect, body, now)

    def finished(self, sent: _Sent, response: bytes, *, status: int, complete: bool, streamed: bool) -> None:
        """The answer was read. Never raises: what cannot be recorded is counted and logged."""
        try:
            exchange = self._exchange(sent, response, status=status, complete=complete, streamed=streamed)
            with self._lock:
                self._live.answered(
                    self.namespace, sent.placement, sent.dialect, response, streamed=streamed, now=time.time()
                )
            if self._redactor is not None:
                exchange = self._redactor.exchange(exchange)
            future = self.store.record_nowait([exchange])
        except Exception as error:
            self._failed(error)
            return
        with self._lock:
            self._waiting = [one for one in self._waiting if not one.done()] + [future]
        future.add_done_callback(self._settled)

    def flush(self) -> None:
        """Wait until what was recorded so far is durable."""
        with self._lock:
            waiting, self._waiting = self._waiting, []
        for future in waiting:
            future.exception()

    def _exchange(self, sent: _Sent, response: bytes, *, status: int, complete: bool, streamed: bool) -> Exchange:
        latency_s = time.perf_counter() - sent.clock
        error = None if complete else ErrorRecord(kind="Incomplete", message="the answer was not read to its end")
        call = Upstream(
            model=sent.model,
            upstream=sent.host,
            answerer=self._answerer,
            dialect=sent.dialect,
            price_as=self._price_as,
            started_at=sent.at,
            latency_s=latency_s,
            first_byte_s=sent.first_byte_s,
            status=status,
            error=error,
        )
        return Exchange(
            namespace=self.namespace,
            episode_id=sent.placement.episode_id,
            route=sent.model,
            dialect=sent.dialect,
            started_at=sent.at,
            latency_s=latency_s,
            first_byte_s=sent.first_byte_s,
            status=status,
            streamed=streamed,
            complete=complete,
            request=sent.body,
            response=response,
            answerer=self._answerer,
            calls=(call,),
            notes=(sent.placement.note,) if sent.placement.note else (),
            error=error,
            metadata=sent.placement.metadata,
        )

    def _ended(self, episode: Episode) -> None:
        """The agent says that the episode is over: it becomes a trajectory."""
        from potstill.record.folding import fold_episode

        self.flush()
        try:
            if episode.outcome is not None:
                self.store.set_episode_outcome(self.namespace, episode.id, episode.outcome)
            fold_episode(self.store, self.namespace, episode.id)
        except StoreError as error:
            _log.error("episode %r stays in the journal: %s", episode.id, error)

    def _settled(self, future: Future[list[int]]) -> None:
        error = future.exception()
        if error is None:
            self.recorded += 1
        else:
            self._failed(error)

    def _failed(self, error: BaseException) -> None:
        self.lost += 1
        _log.error("an exchange was not recorded: %s: %s", type(error).__name__, error)


class _Sent:
    """A request on its way."""

    __slots__ = ("at", "body", "clock", "dialect", "first_byte_s", "host", "model", "placement")

    def __init__(self, placement: Placement, dialect: str, body: bytes, host: str, at: float) -> None:
        self.placement, self.dialect, self.body, self.host, self.at = placement, dialect, body, host, at
        self.model = _model(body)
        self.clock = time.perf_counter()
        self.first_byte_s: float | None = None


class _Body(msgspec.Struct):
    model: Any = None


def _model(body: bytes) -> str:
    try:
        model = msgspec.json.decode(body, type=_Body).model
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return "unknown"
    return model if isinstance(model, str) and model else "unknown"


# --- clients ----------------------------------------------------------------------------------------------------------

_recordings: WeakKeyDictionary[Any, Recording | None] = WeakKeyDictionary()
_stores: dict[Path, Store] = {}


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
        opened = _opened(store)
        recording = Recording(
            opened,
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
    _recordings[http] = recording
    return client


def recording_of(client: Any) -> Recording:
    """The recording of a wrapped client: its counters, ``flush``, its store."""
    recording = _recordings.get(getattr(client, "_client", None))
    if recording is None:
        raise ConfigError("This client records nothing here: potstill.wrap it with a store first.")
    return recording


def _opened(store: Store | str | Path) -> Store:
    if not isinstance(store, str | Path):
        return store
    from potstill.trajectories.store import Store as Opened

    path = Path(store).expanduser().absolute()
    if path not in _stores:
        _stores[path] = Opened.open(path)
    return _stores[path]


@atexit.register
def _close_all() -> None:
    for recording in list(_recordings.values()):
        if recording is not None:
            recording.flush()
    for store in _stores.values():
        store.close()
    _stores.clear()


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
        request.extensions[_EXTENSION] = _Sent(placement, dialect, body, request.url.host, now)
    except (PotstillError, ValueError, TypeError) as error:
        _log.error("a request was not recorded: %s: %s", type(error).__name__, error)


def _answering(recording: Recording | None, response: Any) -> None:
    """Have an answer's bytes noted as they are read."""
    sent = response.request.extensions.get(_EXTENSION)
    if recording is None or not isinstance(sent, _Sent):
        return
    sent.first_byte_s = time.perf_counter() - sent.clock
    streamed = "text/event-stream" in response.headers.get("content-type", "")
    encoding = response.headers.get("content-encoding", "")
    status = response.status_code

    def done(chunks: list[bytes], complete: bool) -> None:
        body, whole = _decoded(b"".join(chunks), encoding)
        ended = streamed and any(mark in body for mark in _LAST)
        recording.finished(sent, body, status=status, complete=ended or (complete and whole), streamed=streamed)

    response.stream = recorded_stream(response.stream, done)


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
