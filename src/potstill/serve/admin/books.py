"""The playbooks that routes show, for an admin to read: which tenants have one, and each bullet with what it does.

What it knows: pages, and for how long a measurement of help is good. What it does not do: change a book (``potstill
playbook`` does), estimate (``distill.playbook.credit``), authentication (``api``).

A measurement reads all of a book's episodes, so it is made in a thread of its own, one at a time; who asks waits for it
a moment and is told then that it goes on.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import msgspec
from msgspec import Meta

from potstill.serve.admin.seams import AdminStore, Blocking
from potstill.serve.clients import json_http
from potstill.serve.clients.json_http import Call, Receive, Refusal
from potstill.serve.settings import Gateway, Route
from potstill.serve.tenants.key_rows import moment
from potstill.trajectories.store import Store
from potstill.types import Struct

if TYPE_CHECKING:
    from potstill.distill.playbook.book import Playbook
    from potstill.distill.playbook.credit.effect import Effect
    from potstill.distill.playbook.operations import Bullet

WAIT_S = 1.0
"""So long an answer waits for a measurement; the next one has it."""
FRESH_S = 60.0
REST = 20.0
"""So many times as long as a measurement took, it is good at least."""
KEPT = 16
"""Books whose measurement is remembered."""
Answer = tuple[int, object]

_log = logging.getLogger("potstill.gateway")


class PageQuery(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    offset: Annotated[int, Meta(ge=0, le=10_000_000)] = 0
    limit: Annotated[int, Meta(ge=1, le=200)] = 100


class _Measuring(NamedTuple):
    """Under way, or done."""

    began: float
    effects: Future[dict[str, Effect]]


class Books:
    """One for each process. ``clock``: seconds that only go on."""

    def __init__(
        self, settings: Gateway, store: AdminStore, blocking: Blocking, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._settings = settings
        self._store = store if isinstance(store, Store) else None
        self._blocking = blocking
        self._clock = clock
        self._turn = threading.Lock()
        self._good_until: dict[tuple[str, str], float] = {}
        self._measured: OrderedDict[tuple[str, str], _Measuring] = OrderedDict()

    async def books(self, call: Call, body: bytes, receive: Receive) -> Answer:
        """Routes that show a playbook, and which tenants have one of this name."""
        return 200, {"routes": await self._blocking(self._routes)}

    async def book(self, call: Call, body: bytes, receive: Receive, *, tenant: str, name: str) -> Answer:
        """A part of a book's bullets, in the order of their numbers; removed ones are left out."""
        wanted = json_http.query(call, PageQuery)
        book = await self._blocking(self._opened, tenant, name)
        effects = await self._effects(book)
        return 200, await self._blocking(self._page, book, effects, wanted)

    def _routes(self) -> list[dict[str, Any]]:
        shown = [route for route in self._settings.routes if route.playbook.name]
        names = {route.playbook.name for route in shown}
        infos = self._store.playbooks(None) if self._store is not None and names else []
        return [
            {
                "route": route.name,
                "playbook": route.playbook.name,
                "max_tokens": route.playbook.max_tokens,
                "holdout_share": route.playbook.holdout_share,
                "books": [
                    {
                        "tenant": info.namespace,
                        "revision": info.revision,
                        "bullets": info.bullets,
                        "changed_at": moment(info.changed_at),
                    }
                    for info in infos
                    if info.name == route.playbook.name
                ],
            }
            for route in shown
        ]

    def _opened(self, tenant: str, name: str) -> Playbook:
        """Raises ``Refusal``."""
        from potstill.distill.playbook.book import Playbook

        if self._store is None or not any(info.name == name for info in self._store.playbooks(tenant)):
            raise Refusal(404, "not_found", "There is no such playbook of this tenant.")
        return Playbook(self._store, tenant, name)

    def _page(self, book: Playbook, effects: dict[str, Effect] | None, wanted: PageQuery) -> dict[str, Any]:
        from potstill.distill.playbook.credit.decide import CreditPlan

        held = book.since(0)
        there = [bullet for bullet in held.bullets.values() if not bullet.removed]
        part = there[wanted.offset : wanted.offset + wanted.limit]
        end = wanted.offset + len(part)
        return {
            "tenant": book.namespace,
            "name": book.name,
            "routes": [route.name for route in _showing(self._settings, book.name)],
            "revision": held.revision,
            "bullets": [_row(bullet, (effects or {}).get(bullet.id)) for bullet in part],
            "of": len(there),
            "next_offset": end if end < len(there) else None,
            "measuring": effects is None,
            "confidence": 1.0 - CreditPlan().alpha,
        }

    # --- what bullets do ----------------------------------------------------------------------------------------------

    async def _effects(self, book: Playbook) -> dict[str, Effect] | None:
        """By bullet; None: they are being measured, or cannot be."""
        found = asyncio.wrap_future(self._measuring(book).effects)
        done, _ = await asyncio.wait({found}, timeout=WAIT_S)
        return found.result() if done else None

    def _measuring(self, book: Playbook) -> _Measuring:
        key = (book.namespace, book.name)
        held = self._measured.get(key)
        if held is None or (held.effects.done() and self._clock() >= self._good_until.get(key, 0.0)):
            held = self._measured[key] = _Measuring(self._clock(), Future())
            thread = threading.Thread(
                target=self._measure, args=(book, key, held), name="potstill-admin-credit", daemon=True
            )
            thread.start()
        self._measured.move_to_end(key)
        while len(self._measured) > KEPT:
            dropped, _ = self._measured.popitem(last=False)
            self._good_until.pop(dropped, None)
        return held

    def _measure(self, book: Playbook, key: tuple[str, str], held: _Measuring) -> None:
        from potstill.distill.playbook.credit.utility import effects_of

        with self._turn:
            began = self._clock()
            try:
                found = effects_of(book)
            except Exception:  # the bullets are shown without: to read them is what was asked for
                _log.warning("the effects of playbook %s could not be read", book.name[:200], exc_info=True)
                found = {}
            now = self._clock()
            self._good_until[key] = now + max(FRESH_S, REST * (now - began))
            held.effects.set_result(found)


def _showing(settings: Gateway, name: str) -> list[Route]:
    return [route for route in settings.routes if route.playbook.name == name]


def _row(bullet: Bullet, effect: Effect | None) -> dict[str, Any]:
    from potstill.distill.playbook.render import bullet_line
    from potstill.retrieval.tokens import EstimatedTokens

    return {
        "id": bullet.id,
        "section": bullet.section,
        "content": bullet.content,
        "stage": msgspec.to_builtins(bullet.stage),
        "quarantined": bullet.quarantined,
        "pinned": bullet.pinned,
        "helpful": bullet.helpful,
        "harmful": bullet.harmful,
        "neutral": bullet.neutral,
        "tokens": EstimatedTokens().count(bullet_line(bullet)),
        "help": None if effect is None else _help(effect),
    }


def _help(effect: Effect) -> dict[str, Any]:
    """Shares of episodes; ``difference`` null where all trials showed it, or none did."""
    low, high = effect.interval
    return {
        "difference": effect.difference,
        "low": low,
        "high": high,
        "trials": effect.trials.n,
        "uneven": effect.uneven,
    }
