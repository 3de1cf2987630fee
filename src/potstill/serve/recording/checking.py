"""Checker plug-ins: how an episode ended, told by a function that is given its trajectory.

What it knows: which route names which plug-in (``checker = "NAME"``, entry points of ``potstill.checkers``), when to
ask it (the episode was folded, and nobody else said how it ended) and what becomes of its word. What it does not do:
judge, fold, or keep anybody waiting: checkers run in threads of their own.

A checker that fails costs the outcome, never the episode: it is counted, and the outcome's ``detail`` says why.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, Unpack

from potstill import plugins
from potstill.errors import ConfigError
from potstill.protocols import Checker
from potstill.serve.settings import Gateway
from potstill.trajectories.exchange import OutcomePlace
from potstill.trajectories.queries import Filters, Summary
from potstill.types import Outcome, OutcomeSource, Trajectory

THREADS = 2
MOST = 1000
"""Episodes that wait for their checker; those beyond are looked at when the gateway starts again."""
CATCH_UP_S = 86400.0
"""How far back a starting gateway looks for episodes that were folded and not checked."""

log = logging.getLogger("potstill.gateway")


class CheckedStore(Protocol):
    """The store, as far as checkers need it. Blocks."""

    def get(self, id: str, *, namespace: str | None = None) -> Trajectory: ...

    def summaries(self, **filters: Unpack[Filters]) -> list[Summary]: ...

    def set_episode_outcome(self, namespace: str, episode_id: str, outcome: Outcome) -> OutcomePlace: ...


def loaded(settings: Gateway) -> dict[str, tuple[str, Checker]]:
    """Each route's checker with its name. Raises ``UnknownName`` and ``ConfigError``, when the gateway starts."""
    found = {}
    for route in settings.routes:
        if route.checker is not None:
            checker = plugins.load("checker", route.checker)
            if not callable(checker):
                raise ConfigError(
                    f"The checker '{route.checker}' of {plugins.origin('checker', route.checker)} is a "
                    f"{type(checker).__name__}; it must be a function of a Trajectory."
                )
            found[route.name] = (route.checker, checker)
    return found


class Checkers:
    """``told`` hears of each outcome that was set, in the checkers' threads. ``redact``: for what an error says."""

    def __init__(
        self,
        checkers: Mapping[str, tuple[str, Checker]],
        store: CheckedStore,
        told: Callable[[str, str], None],
        redact: Callable[[str], str] = str,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._checkers, self._store, self._told = checkers, store, told
        self._redact, self._clock = redact, clock
        self._threads = ThreadPoolExecutor(THREADS, "potstill-checker")
        self._lock = threading.Lock()
        self._waiting = 0
        self._closed = False
        self.counts: Counter[str] = Counter()
        """What checkers said (``success``, ``failure``, ``unknown``), or that they did not (``error``, ``dropped``)."""

    def folded(self, trajectory: Trajectory) -> bool:
        """Have an episode checked, if its route has a checker and nobody else knows how it ended. Never waits."""
        if self._checker_of(trajectory) is None or not self._unknown(trajectory):
            return False
        with self._lock:
            if self._closed or self._waiting >= MOST:
                self.counts["dropped"] += 1
                return False
            self._waiting += 1
        self._threads.submit(self._checked, trajectory.id, trajectory.namespace)
        return True

    def catch_up(self) -> None:
        """Have episodes checked that were folded when the gateway was stopped. In a thread of its own."""
        if self._checkers:
            self._threads.submit(self._catch_up)

    def close(self) -> None:
        """Let the checks that run end; the others are made when the gateway starts again. Blocks."""
        with self._lock:
            self._closed = True
        self._threads.shutdown(wait=True, cancel_futures=True)

    def _checker_of(self, trajectory: Trajectory) -> tuple[str, Checker] | None:
        routes = trajectory.metadata.get("routes") or ()
        return next((self._checkers[name] for name in routes if name in self._checkers), None)

    def _unknown(self, trajectory: Trajectory) -> bool:
        """Nobody said how it ended, or a checker did of an episode that went on since."""
        outcome = trajectory.outcome
        if outcome is None:
            return True
        return outcome.source is OutcomeSource.CHECKER and outcome.detail.startswith(_SIGNED)

    def _catch_up(self) -> None:
        try:
            since = self._clock() - CATCH_UP_S
            rows = self._store.summaries(namespace=None, since=since, newest_first=True, limit=MOST)
            for row in rows:
                if row.success is None and not self._closed:
                    trajectory = self._store.get(row.id, namespace=row.namespace)
                    if trajectory.outcome is None:
                        self.folded(trajectory)
        except Exception:
            log.exception("episodes that were not checked could not be found")

    def _checked(self, id: str, namespace: str) -> None:
        try:
            trajectory = self._store.get(id, namespace=namespace)  # as it is now: an outcome may have come
            named = self._checker_of(trajectory)
            episode_id = trajectory.metadata.get("episode_id")
            if named is None or not isinstance(episode_id, str) or not self._unknown(trajectory):
                return
            self._store.set_episode_outcome(namespace, episode_id, self._said(*named, trajectory))
            self._told(namespace, episode_id)
        except Exception:  # the store failed: the episode is checked when the gateway starts again
            self.counts["error"] += 1
            log.exception("the outcome of a checked episode could not be kept")
        finally:
            with self._lock:
                self._waiting -= 1

    def _said(self, name: str, checker: Checker, trajectory: Trajectory) -> Outcome:
        try:
            outcome = _outcome(name, checker(trajectory))
        except Exception as error:  # whatever a plug-in raises
            self.counts["error"] += 1
            log.warning("checker '%s' failed on %s: %s", name, trajectory.id, type(error).__name__)
            detail = self._redact(f"{_SIGNED}{name}' failed: {type(error).__name__}: {error}"[:4000])
            return Outcome(success=None, source=OutcomeSource.CHECKER, detail=detail)
        self.counts[_SAYS[outcome.success]] += 1
        return outcome


_SIGNED = "checker '"
_SAYS = {True: "success", False: "failure", None: "unknown"}


def _outcome(name: str, said: object) -> Outcome:
    """Raises ``TypeError`` for what is no word on an outcome."""
    signed = f"{_SIGNED}{name}'"
    if isinstance(said, Outcome):
        detail = f"{signed}: {said.detail}" if said.detail else signed
        return Outcome(success=said.success, source=OutcomeSource.CHECKER, score=said.score, detail=detail[:4000])
    if said is None or isinstance(said, bool):
        return Outcome(success=said, source=OutcomeSource.CHECKER, detail=signed)
    raise TypeError(f"it returned a {type(said).__name__}; allowed: True, False, None or an Outcome")
