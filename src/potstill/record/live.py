"""Which episode does a live request belong to?

What it knows: the order of the ways to tell (``identity`` names them; then the chain of response ids; then
``record.stitch`` by what prompts repeat) and what it costs to tell. What it does not do: store, decode what is not
needed, or fail: a body that cannot be read is an episode of its own.

A request that names its episode is placed in microseconds. Any other is stitched; its bytes are compared with those of
the prompts before it, so that only new messages are decoded and hashed (``outline.Threads``), and answers are read only
where they decide something (``answers.Unread``). The decision itself is always the stitcher's.

Two processes on one database give each other what they know through ``placement.Shared``; the ids that they make up
never collide.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from hashlib import blake2b
from typing import Any

from potstill.errors import NOT_JSON
from potstill.logs.conversation import Thread
from potstill.logs.records import LogCall
from potstill.record import identity
from potstill.record.answers import Waiting, response_id, told_by
from potstill.record.outline import MAX_BYTES, Outline, Threads, outline
from potstill.record.placement import Placement, Shared
from potstill.record.recent import Recent
from potstill.record.stitch import Seat, Stitcher
from potstill.types import Struct

_RESPONSES = "openai-responses"
_STEPS_PER_EPISODE = 4
_RESPONSES_IDLE = 4
"""So many times as long as an episode may be idle, its responses are known: people come back to a conversation."""


class _Pending(Struct, frozen=True):
    """What is kept from a request until its answer is there. ``seat`` None: the episode was named."""

    seat: Seat | None = None
    thread: Thread | None = None


class LiveEpisodes:
    """Finds the episode of each request as it arrives (``serve.seams.Episodes``). One event loop, no locks.

    ``idle_s``: seconds without a call after which a stitched episode is closed, and what is remembered of any is
    forgotten. ``max_episodes``: open at a time, about 5 KB each. ``max_bytes``: of conversations that are remembered
    for speed, and as many of answers that were not read yet. ``shared``: what other processes know. ``placed`` counts
    how requests were placed.
    """

    def __init__(
        self,
        *,
        idle_s: float = 1800.0,
        max_episodes: int = 4000,
        max_bytes: int = MAX_BYTES,
        shared: Shared | None = None,
        new_id: Callable[[], str] = identity.new_episode_id,
    ) -> None:
        self._stitcher = Stitcher(idle_s=idle_s, max_episodes=max_episodes, name=new_id)
        self._threads = Threads(max_bytes, idle_s)
        self._waiting = Waiting(max_bytes)
        self._shared = shared
        self._new_id = new_id
        most = max_episodes * _STEPS_PER_EPISODE
        self._steps: Recent[tuple[str, str], int] = Recent(most, idle_s)
        self._responses: Recent[tuple[str, str], str] = Recent(most, _RESPONSES_IDLE * idle_s)
        self.placed: Counter[str] = Counter()

    async def ready(
        self, namespace: str, headers: Mapping[str, str], body: bytes, now: float, asked: Outline | None = None
    ) -> None:
        """Before ``place``: ask other processes about a request that goes on from an answer which is unknown here."""
        shared = self._shared
        if shared is None or identity.from_headers(headers)[0] is not None:
            return
        asked = outline(body) if asked is None else asked
        fields = asked.fields()
        if fields and identity.from_body(fields) is not None:
            return
        before = fields.get("previous_response_id") if fields else None
        if isinstance(before, str) and before:
            if self._responses.get((namespace, before), now) is None:
                await shared.fetch(namespace, (_hash_of_response(before),))
            return
        space = _space(namespace, fields)
        try:
            thread = self._threads.of(space, asked, now)
        except NOT_JSON:
            return
        call = _call(thread, space, now)
        if "a" in call.roles and not self._stitcher.knows(call):
            await shared.fetch(namespace, call.prefixes[::-1])

    def place(
        self,
        namespace: str,
        headers: Mapping[str, str],
        dialect: str,
        body: bytes,
        now: float,
        asked: Outline | None = None,
    ) -> Placement:
        """The episode of a request. Names of headers are lower-case; ``now``: Unix seconds; ``asked``: the body's
        outline, where it is known.

        >>> live = LiveEpisodes()
        >>> live.place("default", {"x-potstill-episode": "booking-7"}, "openai-chat", b"{}", 0.0).episode_id
        'booking-7'
        """
        episode_id, how, note = identity.from_headers(headers)
        pending = None
        if episode_id is None:
            asked = outline(body) if asked is None else asked
            fields = asked.fields()
            episode_id, how = self._said(namespace, fields, now) if fields else None, "session"
            if episode_id is None:
                episode_id, how, pending = self._stitched(namespace, asked, fields, now)
        if pending is None and dialect == _RESPONSES:
            pending = _Pending()
        self.placed[how] += 1
        return Placement(
            episode_id=episode_id,
            how=how,
            step=self._count(namespace, episode_id, now),
            note=note,
            metadata=identity.told(headers),
            seat=pending,
        )

    def answered(
        self, namespace: str, placement: Placement, dialect: str, response: bytes, *, streamed: bool, now: float
    ) -> None:
        """The request was answered. Without it (the client left) the next one is found by its prompt alone."""
        pending: _Pending | None = placement.seat
        if pending is None:
            return
        if dialect == _RESPONSES:
            self._chain(namespace, placement.episode_id, response_id(response, streamed=streamed), now)
        seat, thread = pending.seat, pending.thread
        if seat is None or thread is None:
            return
        if self._shared is None:
            self._stitcher.defer(seat, self._waiting.add(thread, dialect, response, streamed=streamed, at=now))
            return
        told = told_by(thread, dialect, response, streamed=streamed, at=now)
        for one in told:
            self._stitcher.note(seat, one)
        hashes = [one.after for one in told if one.after is not None]
        self._shared.publish(namespace, placement.episode_id, hashes, now)

    # --- the ways to tell ---------------------------------------------------------------------------------------------

    def _said(self, namespace: str, fields: Mapping[str, Any], now: float) -> str | None:
        """By a field of the body, or by the response that this request goes on from."""
        named = identity.from_body(fields)
        before = fields.get("previous_response_id")
        if named is not None or not isinstance(before, str) or not before:
            return named
        known = self._responses.get((namespace, before), now)
        if known is None and self._shared is not None:
            known = self._shared.find(namespace, (_hash_of_response(before),))
        return known or "response-" + blake2b(before.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()

    def _stitched(
        self, namespace: str, asked: Outline, fields: Mapping[str, Any], now: float
    ) -> tuple[str, str, _Pending | None]:
        space = _space(namespace, fields)
        try:
            thread = self._threads.of(space, asked, now)
        except NOT_JSON:
            return self._new_id(), "unreadable", None
        if not len(thread):
            return self._new_id(), "alone", None
        call = _call(thread, space, now)
        shared = self._shared
        adopt = None if shared is None else lambda c: shared.find(namespace, c.prefixes[::-1])
        seat = self._stitcher.place(call, adopt=adopt)
        if shared is not None:  # the answer takes its time: whoever gets the next request then knows of this one
            shared.publish(namespace, seat.key, (seat.prompt,), now)
        return seat.key, seat.placed.value, _Pending(seat, thread)

    def _chain(self, namespace: str, episode_id: str, response: str | None, now: float) -> None:
        if not response:
            return
        self._responses.put((namespace, response), episode_id, now)
        if self._shared is not None:
            self._shared.publish(namespace, episode_id, (_hash_of_response(response),), now)

    def _count(self, namespace: str, episode_id: str, now: float) -> int:
        key = (namespace, episode_id)
        step = self._steps.get(key, now) or 0
        self._steps.put(key, step + 1, now)
        return step


def _space(namespace: str, fields: Mapping[str, Any]) -> str:
    return f"{namespace}\x00{identity.partition(fields)}" if fields else f"{namespace}\x00"


def _call(thread: Thread, run: str, now: float) -> LogCall:
    roles, sizes, prefixes, contents = thread.prompt()
    return LogCall(model="", run=run, started_at=now, roles=roles, sizes=sizes, prefixes=prefixes, contents=contents)


def _hash_of_response(response: str) -> int:
    digest = blake2b(b"response:" + response.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little")
