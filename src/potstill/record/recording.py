"""Where the exchanges of wrapped clients go: into a store, episode by episode, while their process lives and after.

What it knows: which answers are still being read, which episodes are still in the journal, what a fork and the end of
the process mean for both. What it does not do: HTTP clients (``wrap``), dialects, or let a failing store fail a call.

A store is not used across a fork: a child opens it anew, and waits for each exchange to be durable, because children of
``multiprocessing`` end without running what was registered for the end.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
from collections import OrderedDict
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from potstill.errors import StoreError
from potstill.record.episodes import Episode
from potstill.record.live import LiveEpisodes
from potstill.record.placement import Placement
from potstill.record.streams import Noted
from potstill.trajectories.exchange import Exchange, Upstream
from potstill.types import Answerer, ErrorRecord

if TYPE_CHECKING:
    from potstill.record.redact import Redactor
    from potstill.trajectories.store import Store

IDLE_S = 1800.0
"""An episode that another process left in the journal is over after so long without a call."""
LEFT_AT_A_TIME = 100
REMEMBERED = 10_000
END_S = 5.0
"""How long the end of a process may take for trajectories; what is left then is made by whoever looks next."""
_log = logging.getLogger("potstill.record")


class Sent:
    """A request on its way."""

    __slots__ = ("answered", "at", "body", "clock", "dialect", "first_byte_s", "host", "model", "placement")

    def __init__(self, placement: Placement, dialect: str, body: bytes, host: str, model: str, at: float) -> None:
        self.placement, self.dialect, self.body, self.host, self.at = placement, dialect, body, host, at
        self.model = model
        self.clock = time.perf_counter()
        self.first_byte_s: float | None = None
        self.answered = False


class Recording:
    """The exchanges of one or several clients. ``recorded`` and ``lost`` count them.

    Made by ``wrap``; one may serve several clients (``wrap(other, recording=recording_of(client))``).
    """

    def __init__(
        self,
        store: Store,
        *,
        namespace: str,
        answerer: Answerer,
        price_as: str | None,
        redactor: Redactor | None,
        place: str | Path | None = None,
    ) -> None:
        self.store, self.namespace = store, namespace
        self.recorded = self.lost = 0
        self._place = place
        self._answerer, self._price_as, self._redactor = answerer, price_as, redactor
        self._live = LiveEpisodes()
        self._lock = threading.Lock()
        self._waiting: list[Future[list[int]]] = []
        self._reading: dict[Noted, str] = {}
        self._unfolded = _Left() if place is None else _left.setdefault(_known(place), _Left())
        self._unfolded.namespaces.add(namespace)
        self._forked = self._child = False
        _all.add(self)

    def place(self, headers: Any, dialect: str, body: bytes, episode: Episode | None, now: float) -> Placement:
        if self._forked:
            self._reopen()
        with self._lock:
            if episode is not None:
                episode.at_end(id(self), self._ended)
                placed = Placement(episode_id=episode.id, how="sdk", metadata=dict(episode.metadata))
            else:
                placed = self._live.place(self.namespace, headers, dialect, body, now)
            self._unfolded.add(self.namespace, placed.episode_id)
        return placed

    def reading(self, sent: Sent, noted: Noted) -> None:
        """An answer has begun; ``done`` when it was read."""
        with self._lock:
            self._reading[noted] = sent.placement.episode_id

    def done(self, noted: Noted) -> None:
        with self._lock:
            self._reading.pop(noted, None)

    def finished(
        self, sent: Sent, response: bytes, *, status: int, streamed: bool, error: ErrorRecord | None = None
    ) -> None:
        """The answer was read, or will not be. Never raises: what cannot be recorded is counted and logged."""
        try:
            exchange = self._exchange(sent, response, status=status, streamed=streamed, error=error)
            with self._lock:
                self._live.answered(
                    self.namespace, sent.placement, sent.dialect, response, streamed=streamed, now=time.time()
                )
            if self._redactor is not None:
                exchange = self._redactor.exchange(exchange)
            future = self.store.record_nowait([exchange])
        except Exception as failure:
            self._failed(failure)
            return
        with self._lock:
            self._waiting = [one for one in self._waiting if not one.done()] + [future]
        future.add_done_callback(self._settled)
        if self._child:
            future.exception()

    def flush(self) -> None:
        """Wait until what was recorded so far is durable."""
        with self._lock:
            waiting, self._waiting = self._waiting, []
        for future in waiting:
            future.exception()

    def close(self) -> None:
        """The process ends: answers that are still read are kept as far as they came."""
        if not self._forked:
            self._cut(None)
            self.flush()

    def _exchange(
        self, sent: Sent, response: bytes, *, status: int, streamed: bool, error: ErrorRecord | None
    ) -> Exchange:
        latency_s = time.perf_counter() - sent.clock
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
            complete=error is None,
            request=sent.body,
            response=response,
            answerer=self._answerer if status else Answerer.NOBODY,
            calls=(call,),
            notes=(sent.placement.note,) if sent.placement.note else (),
            error=error,
            metadata=sent.placement.metadata,
        )

    # --- ends ---------------------------------------------------------------------------------------------------------

    def _ended(self, episode: Episode) -> None:
        """The agent says that the episode is over: it becomes a trajectory."""
        self._cut(episode.id)
        self.flush()
        try:
            if episode.outcome is not None:
                self.store.set_episode_outcome(self.namespace, episode.id, episode.outcome)
        except StoreError as error:
            _log.error("the outcome of episode %r is not kept: %s", episode.id, error)
        self._fold(episode.id)

    def _cut(self, episode_id: str | None) -> None:
        """Answers that are still being read count as far as they came; None: those of all episodes."""
        with self._lock:
            cut = [noted for noted, of in self._reading.items() if episode_id is None or of == episode_id]
        for noted in cut:
            noted.finish(False)

    def _fold(self, episode_id: str) -> None:
        with self._lock:
            self._unfolded.episodes.pop((self.namespace, episode_id), None)
        _folded(self.store, self.namespace, episode_id)

    def _settled(self, future: Future[list[int]]) -> None:
        error = future.exception()
        if error is None:
            self.recorded += 1
        else:
            self._failed(error)

    def _failed(self, error: BaseException) -> None:
        self.lost += 1
        _log.error("an exchange was not recorded: %s: %s", type(error).__name__, error)

    # --- forks --------------------------------------------------------------------------------------------------------

    def after_fork(self) -> None:
        """In the child: threads, locks and connections of the parent are of no use here."""
        self._lock = threading.Lock()
        self._waiting, self._reading, self._unfolded = [], {}, _Left()
        self._forked = self._child = True

    def _reopen(self) -> None:
        """Raises ``StoreError`` where the child cannot know how."""
        place = self._place or _file_of(self.store)
        if place is None:
            raise StoreError("a store that was handed over open cannot be used after a fork: wrap with its address")
        _parents.append(self.store)
        self.store = opened(place)
        self._forked = False


def _folded(store: Store, namespace: str, episode_id: str) -> None:
    from potstill.record.folding import fold_episode

    try:
        fold_episode(store, namespace, episode_id)
    except StoreError as error:
        _log.error("episode %r stays in the journal: %s", episode_id, error)


# --- stores of this process -------------------------------------------------------------------------------------------


class _Left:
    """Episodes that nobody ended yet, by namespace and id, and all namespaces that there were."""

    def __init__(self) -> None:
        self.episodes: OrderedDict[tuple[str, str], None] = OrderedDict()
        self.namespaces: set[str] = set()

    def add(self, namespace: str, episode_id: str) -> None:
        self.episodes[namespace, episode_id] = None
        if len(self.episodes) > REMEMBERED:
            self.episodes.popitem(last=False)


_all: WeakSet[Recording] = WeakSet()
_left: dict[str, _Left] = {}
"""By place of a store."""
_stores: dict[str, Store] = {}
_parents: list[Store] = []
"""Stores of the parent: never closed in a child, where that would end them for the parent, too."""


def opened(place: str | Path) -> Store:
    """The store at this place, one for all recordings of the process."""
    from potstill.trajectories.opening import open_store

    known = _known(place)
    if known not in _stores:
        _stores[known] = open_store(known)
    return _stores[known]


def _known(place: str | Path) -> str:
    from potstill.trajectories.opening import is_url

    return str(place) if is_url(place) else str(Path(place).expanduser().absolute())


def _file_of(store: Store) -> Path | None:
    """Where an open store lies, if that says all that it takes to open it."""
    from potstill.trajectories.store import Store as FileStore

    return Path(store.path) if type(store) is FileStore else None


@atexit.register
def _close_all() -> None:
    for recording in list(_all):
        recording.close()
    until = time.monotonic() + END_S
    for place, store in _stores.items():
        try:
            _end(store, _left.get(place, _Left()), until)
        except Exception as error:  # a disk that is full now: the end goes on
            _log.error("the end of %s: %s: %s", place, type(error).__name__, error)
        finally:
            store.close()
    _stores.clear()


def _end(store: Store, left: _Left, until: float) -> None:
    """No episode of this process goes on, and none that an earlier process, killed perhaps, left idle."""
    for namespace in left.namespaces:
        for one in store.open_episodes(namespace, idle_before=time.time() - IDLE_S, limit=LEFT_AT_A_TIME):
            left.episodes[namespace, one.episode_id] = None
    for namespace, episode_id in list(left.episodes):
        if time.monotonic() < until:
            _folded(store, namespace, episode_id)


def _after_fork() -> None:
    _parents.extend(_stores.values())
    _stores.clear()
    _left.clear()
    for recording in list(_all):
        recording.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
