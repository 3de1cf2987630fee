"""``POST /v1/episodes/{id}/outcome``: a client tells how its episode ended, whenever it knows.

What it knows: the shape of an outcome, whose episode it may be about, how long an exchange may still be on its way into
the store. What it does not do: judge, fold, or look at another tenant's episodes: they are not found.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Annotated

from msgspec import Meta

from potstill.errors import StoreError
from potstill.record.identity import episode_of
from potstill.serve.admin.seams import AdminStore, Blocking
from potstill.serve.clients import json_http
from potstill.serve.clients.json_http import Call, Refusal
from potstill.serve.seams import Gate
from potstill.types import Outcome, OutcomeSource, Struct
from potstill.wire.dialect import Problem

MAX_ID_CHARACTERS = 512
Tell = Callable[[str, str], None]
"""Whose outcome was set: tenant and episode. It must not wait."""
WAITS_S = (0.0, 0.05, 0.2, 0.75)
"""An outcome may come before the recorder has written the episode's last exchange: pauses before looking again."""


class Told(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a client sends. ``success`` null: not known, perhaps a score is."""

    success: bool | None
    score: Annotated[float, Meta(ge=0.0, le=1.0)] | None = None
    detail: Annotated[str, Meta(max_length=4000)] = ""
    source: OutcomeSource = OutcomeSource.CHECKER


class Outcomes:
    def __init__(
        self,
        store: AdminStore,
        gate: Gate,
        blocking: Blocking,
        redact: Callable[[str], str],
        clock: Callable[[], float],
        tell: Tell,
    ) -> None:
        self._tell = tell
        self._store = store
        self._gate = gate
        self._blocking = blocking
        self._redact = redact
        self._clock = clock

    async def post(self, call: Call, body: bytes, episode: str) -> tuple[int, object]:
        """The tenant is the key's. Raises ``Refusal``."""
        admitted = await self._gate.admit(call.key, "", self._clock())
        if isinstance(admitted, Problem):
            raise Refusal(admitted.status, admitted.kind, admitted.message, retry_after_s=admitted.retry_after_s)
        told = json_http.decode(call, body, Told)
        return 200, await put(self._store, self._blocking, admitted.tenant, episode, told, self._redact, self._tell)


async def put(
    store: AdminStore,
    blocking: Blocking,
    tenant: str,
    episode: str,
    told: Told,
    redact: Callable[[str], str],
    tell: Tell,
) -> dict[str, object]:
    """Set or replace an outcome; the same one again changes nothing. Raises ``Refusal`` 404 for an unknown episode.

    ``tell`` hears of it once it is kept."""
    if not 0 < len(episode) <= MAX_ID_CHARACTERS or "\x00" in episode:
        raise Refusal(404, "not_found", "There is no such episode.")
    for wait_s in WAITS_S:
        await asyncio.sleep(wait_s)
        if await blocking(store.episode_known, tenant, episode):
            break
        own = episode_of(tenant, episode)  # ended episodes are listed under the id of their trajectory
        if own != episode and await blocking(store.episode_known, tenant, own):
            episode = own
            break
    else:
        raise Refusal(404, "not_found", "There is no such episode. The answer's 'x-potstill-episode' header names it.")
    outcome = Outcome(success=told.success, source=told.source, score=told.score, detail=redact(told.detail))
    try:
        place = await blocking(store.set_episode_outcome, tenant, episode, outcome)
    except StoreError as error:
        if "Cannot store" in str(error):
            raise Refusal(400, "invalid_request", "This outcome cannot be kept.") from error
        raise
    tell(tenant, episode)
    return {"episode": episode, "tenant": tenant, "outcome": outcome, "kept_in": place.value}
