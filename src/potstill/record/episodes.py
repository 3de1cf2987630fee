"""``potstill.episode``: an agent says where an attempt at a task begins, ends, and whether it succeeded.

What it knows: the episode of the present context (threads and tasks that are started inside belong to it only if they
copy the context, as asyncio's tasks do). What it does not do: record calls (``wrap``, or the gateway).
"""

from __future__ import annotations

import asyncio
import json
import logging
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from contextlib import suppress
from contextvars import ContextVar, Token
from types import TracebackType
from typing import Any
from urllib.parse import quote

from potstill.errors import ConfigError
from potstill.record.identity import EPISODE_HEADER, MAX_ID_CHARACTERS, TOLD_HEADERS, is_valid_id, new_episode_id
from potstill.types import Outcome, OutcomeSource

Ending = Callable[["Episode"], None]
_current: ContextVar[Episode | None] = ContextVar("potstill_episode", default=None)
_POST_TIMEOUT_S = 30.0
_log = logging.getLogger("potstill.record")


class Episode:
    """One attempt at a task, as ``potstill.episode`` gives it.

    ``metadata``: what was said of it. ``outcome``: None until ``succeed`` or ``fail``. ``headers``: what a gateway
    wants to see with each request of the episode. ``lost``: the gateway did not take the outcome (it is logged why).
    """

    def __init__(
        self, episode_id: str, metadata: dict[str, str], *, gateway: str | None = None, key: str | None = None
    ) -> None:
        self.id = episode_id
        self.metadata = metadata
        self.outcome: Outcome | None = None
        self.lost = False
        self._gateway, self._key = gateway, key
        self._endings: dict[int, Ending] = {}
        self._tokens: list[Token[Episode | None]] = []

    @property
    def headers(self) -> dict[str, str]:
        """To be sent with each request to a potstill gateway: ``extra_headers=ep.headers`` in the official SDKs."""
        names = {field: name for name, field in TOLD_HEADERS.items()}
        said = {names[field]: quote(text, safe=_PLAIN) for field, text in self.metadata.items() if field in names}
        return {EPISODE_HEADER: self.id, **said}

    def succeed(
        self, score: float | None = None, detail: str = "", source: OutcomeSource | str = OutcomeSource.CHECKER
    ) -> None:
        """The task was done. ``score`` in [0, 1]; ``source``: who says so."""
        self.outcome = _outcome(True, score, detail, source)

    def fail(
        self, reason: str = "", score: float | None = None, source: OutcomeSource | str = OutcomeSource.CHECKER
    ) -> None:
        """The task was not done."""
        self.outcome = _outcome(False, score, reason, source)

    def at_end(self, key: int, ending: Ending) -> None:
        """Have ``ending`` called when the episode ends, once for each ``key``."""
        self._endings.setdefault(key, ending)

    # --- as a context -------------------------------------------------------------------------------------------------

    def __enter__(self) -> Episode:
        self._tokens.append(_current.set(self))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leave(error)
        self._end()

    async def __aenter__(self) -> Episode:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """As ``__exit__``, in a thread."""
        self._leave(error)
        await asyncio.to_thread(self._end)

    def _leave(self, error: BaseException | None) -> None:
        token = self._tokens.pop()
        try:
            _current.reset(token)
        except ValueError:  # a generator that was begun in one task goes on in another: that one is in no episode
            if _current.get() is self:
                _current.set(None)
        if error is not None and self.outcome is None:
            self.outcome = Outcome(success=None, source=OutcomeSource.CHECKER, detail=f"raised {type(error).__name__}")

    def _end(self) -> None:
        endings, self._endings = self._endings, {}
        for ending in endings.values():
            ending(self)
        if self._gateway is not None and self.outcome is not None:
            try:
                _post(self._gateway, self._key, self.id, self.outcome)
            except OSError as error:
                self.lost = True
                _log.error("the outcome of episode %r did not reach %s: %s", self.id, self._gateway, _words(error))


def episode(
    goal: str | None = None,
    *,
    task_id: str | None = None,
    plan: str | None = None,
    environment: str | None = None,
    tags: Mapping[str, str] | None = None,
    id: str | None = None,
    gateway: str | None = None,
    key: str | None = None,
) -> Episode:
    """Everything that wrapped clients ask inside belongs to one episode; both ``with`` and ``async with`` work.

    ``task_id``: attempts at the same task have the same (else those with the same goal). ``id``: 1 to 200 printable
    ASCII characters, made up if not given. ``gateway``: the base URL of one (``http://127.0.0.1:8000``) that the
    outcome is posted to at the end, with ``key`` as bearer token. Where the block raises, the outcome is unknown.

    >>> with episode("book a table", task_id="t-1") as ep:
    ...     ep.succeed()
    >>> ep.outcome.success, ep.headers["x-potstill-goal"]
    (True, 'book a table')
    """
    if id is not None and not is_valid_id(id):
        raise ConfigError(
            f"{id!r} cannot be the id of an episode: 1 to {MAX_ID_CHARACTERS} printable ASCII characters, no space at "
            "either end."
        )
    if gateway is not None and not gateway.startswith(("http://", "https://")):
        raise ConfigError(f"The gateway's address {gateway!r} is no http address, such as http://127.0.0.1:8000.")
    tagged = ",".join(f"{name}={value}" for name, value in (tags or {}).items()) or None
    said = {"goal": goal, "task": task_id, "plan": plan, "environment": environment, "tags": tagged}
    metadata = {field: text for field, text in said.items() if text}
    return Episode(id or new_episode_id(), metadata, gateway=gateway, key=key)


def current() -> Episode | None:
    """The episode of this context."""
    return _current.get()


_PLAIN = " !\"#$&'()*+,-./:;<=>?@[]^_`{|}~"


def _outcome(success: bool, score: float | None, detail: str, source: OutcomeSource | str) -> Outcome:
    if score is not None and not 0.0 <= score <= 1.0:
        raise ConfigError(f"A score is {score!r}; allowed: 0 to 1.")
    return Outcome(success=success, score=score, detail=detail, source=OutcomeSource(source))


def _post(gateway: str, key: str | None, episode_id: str, outcome: Outcome) -> None:
    """Raises ``OSError`` if the gateway cannot be reached or does not take the outcome."""
    base = gateway.rstrip("/").removesuffix("/v1")
    body: dict[str, Any] = {"success": outcome.success, "detail": outcome.detail[:4000], "source": outcome.source.value}
    if outcome.score is not None:
        body["score"] = outcome.score
    url = f"{base}/v1/episodes/{quote(episode_id, safe='')}/outcome"
    headers = {"content-type": "application/json", **({"authorization": f"Bearer {key}"} if key else {})}
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=_POST_TIMEOUT_S):
        return


def _words(error: OSError) -> str:
    """What a gateway said, where it answered."""
    if isinstance(error, urllib.error.HTTPError):
        with suppress(OSError, ValueError, KeyError, TypeError):
            return f"{error.code}: {json.loads(error.read())['error']['message']}"
    return str(error)
