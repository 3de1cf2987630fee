"""What an admin sees: the gateway's state, its routes, episodes, exchanges as they come, and what tenants spend.

What it knows: filters, pages, how long a live tail may wait. What it does not do: authentication (``api``), changes
(``acts``), how an exchange is made readable (``views``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from potstill import __version__
from potstill.errors import StoreError
from potstill.serve.admin import views
from potstill.serve.admin.acts import rollout, shown, shown_switch
from potstill.serve.admin.episode_pages import EpisodePages, Wanted
from potstill.serve.admin.seams import AdminStore, Blocking, RouteActs
from potstill.serve.clients import json_http
from potstill.serve.clients.json_http import Call, Receive, Refusal
from potstill.serve.seams import Loaded
from potstill.serve.settings import Gateway, Mode, Tenant
from potstill.serve.tenants.gate import TenantGate
from potstill.serve.tenants.key_rows import StoreRows, iso_day, moment
from potstill.serve.tenants.limits import MICROS, day_of
from potstill.trajectories.exchange import Recorded
from potstill.trajectories.state import Spend
from potstill.types import Struct

POLL_S = 0.5
WATCHERS = 16
"""Live tails at a time."""
PAGE_BYTES = 4 * 1024 * 1024
"""Of exchanges in one answer; the rest comes with the next page."""
Answer = tuple[int, object]


class DetailQuery(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    after_seq: Annotated[int, Meta(ge=0)] = 0
    limit: Annotated[int, Meta(ge=1, le=100)] = 20
    prompts: Literal["true", "false"] = "false"


class LiveQuery(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    after_seq: Annotated[int, Meta(ge=0)] | None = None
    """None: begin with the last few."""
    wait_s: Annotated[float, Meta(ge=0.0, le=60.0)] = 25.0
    limit: Annotated[int, Meta(ge=1, le=200)] = 50
    tenant: str | None = None


class Reads:
    def __init__(
        self,
        settings: Gateway,
        store: AdminStore,
        blocking: Blocking,
        stages: RouteActs | None,
        gate: TenantGate | None,
        gauges: Callable[[], Mapping[str, Any]],
        clock: Callable[[], float],
        policies: Callable[[], Mapping[str, Loaded]] = dict,
    ) -> None:
        self._settings = settings
        self._policies = policies
        self._store = store
        self._rows = StoreRows(store)
        self._pages = EpisodePages(store)
        self._blocking = blocking
        self._stages = stages
        self._gate = gate
        self._gauges = gauges
        self._clock = clock
        self._started_at = clock()
        self._watchers = 0
        self.draining = asyncio.Event()

    async def status(self, call: Call, body: bytes, receive: Receive) -> Answer:
        seq = await self._blocking(self._store.last_seq)
        switch = None if self._stages is None else self._stages.switch
        return 200, {
            "version": __version__,
            "now": moment(self._clock()),
            "started_at": moment(self._started_at),
            "last_seq": seq,
            "routes": len(self._settings.routes),
            "kill_switch": None if switch is None else shown_switch(switch.killed, switch.at, switch.by),
            "gate": {} if self._gate is None else dict(self._gate.counters()),
            **self._gauges(),
        }

    async def routes(self, call: Call, body: bytes, receive: Receive) -> Answer:
        rows = []
        for route in self._settings.routes:
            stages = self._stages if route.student is not None else None
            rows.append(
                {
                    "name": route.name,
                    "mode": route.mode,
                    "rolls_out": route.mode is Mode.CASCADE and route.rollout,
                    "teacher": route.teacher,
                    "student": route.student,
                    "policy": self._policy(route.student),
                    "rollout": None if stages is None else rollout(stages, route.name, stages.row(route.name)),
                }
            )
        return 200, {"routes": rows}

    def _policy(self, student: str | None) -> dict[str, object] | None:
        """Which version of a policy is served; None where the student is none."""
        served = self._policies().get(student or "")
        return None if served is None else {**msgspec.structs.asdict(served), "loaded_at": moment(served.loaded_at)}

    # --- episodes -----------------------------------------------------------------------------------------------------

    async def episodes(self, call: Call, body: bytes, receive: Receive) -> Answer:
        """Newest first: those that go on, then those that ended."""
        return 200, await self._blocking(self._pages.page, json_http.query(call, Wanted))

    async def episode(self, call: Call, body: bytes, receive: Receive, *, tenant: str, episode: str) -> Answer:
        wanted = json_http.query(call, DetailQuery)
        return 200, await self._blocking(self._detail, tenant, episode, wanted)

    def _detail(self, tenant: str, episode: str, wanted: DetailQuery) -> dict[str, object]:
        """An episode of the journal with the trajectory that it was folded into, or any trajectory by its id."""
        known = self._store.episode(tenant, episode)
        trajectory_id = known.trajectory_id
        if not known.exchanges and trajectory_id is None and known.outcome is None:
            trajectory_id = episode
        try:
            trajectory = None if trajectory_id is None else self._store.get(trajectory_id, namespace=tenant)
        except StoreError:
            raise Refusal(404, "not_found", "There is no such episode of this tenant.") from None
        shown_exchanges, more = _bounded([one for one in known.exchanges if one.seq > wanted.after_seq], wanted.limit)
        return {
            "tenant": tenant,
            "episode": episode,
            "outcome": known.outcome or (None if trajectory is None else trajectory.outcome),
            "exchanges": shown_exchanges,
            "next_after_seq": shown_exchanges[-1]["seq"] if more else None,
            "damaged": list(known.damaged),
            "trajectory": None
            if trajectory is None
            else views.trajectory(trajectory, prompts=wanted.prompts == "true"),
        }

    # --- as it happens ------------------------------------------------------------------------------------------------

    async def live(self, call: Call, body: bytes, receive: Receive) -> Answer:
        """Exchanges after a sequence number, at once where there are some, else when some come or time is over."""
        wanted = json_http.query(call, LiveQuery)
        if self._watchers >= WATCHERS:
            raise Refusal(503, "overloaded", f"{WATCHERS} live tails are open already.", retry_after_s=5.0)
        self._watchers += 1
        left = asyncio.ensure_future(receive())
        try:
            return 200, await self._tail(wanted, left)
        finally:
            left.cancel()
            self._watchers -= 1

    async def _tail(self, wanted: LiveQuery, left: asyncio.Future[Any]) -> dict[str, object]:
        last = await self._blocking(self._store.last_seq)
        after = max(0, last - wanted.limit) if wanted.after_seq is None else wanted.after_seq
        until = asyncio.get_running_loop().time() + wanted.wait_s
        while True:
            if last > after:
                found = await self._blocking(self._store.recent, wanted.tenant, after, wanted.limit)
                if found:
                    return {"exchanges": [views.light(one) for one in found], "after_seq": found[-1].seq}
                after = last
            rest = until - asyncio.get_running_loop().time()
            if rest <= 0 or self.draining.is_set() or left.done():
                return {"exchanges": [], "after_seq": after}
            await asyncio.wait({left}, timeout=min(POLL_S, rest))
            last = await self._blocking(self._store.last_seq)

    # --- tenants ------------------------------------------------------------------------------------------------------

    async def tenants(self, call: Call, body: bytes, receive: Receive) -> Answer:
        """What each spent today (UTC) of what it may; a second or so behind."""
        day = day_of(self._clock())
        return 200, await self._blocking(self._tenants_on, day)

    def _tenants_on(self, day: int) -> dict[str, object]:
        spent, all_keys = self._rows.spent_on(day), self._rows.all_keys()
        settings = {tenant.name: tenant for tenant in self._settings.tenants}
        names = sorted({*settings, *(row.namespace for row in spent), *(key.tenant for key in all_keys)})
        at = self._clock()
        rows = []
        for name in names:
            limits = settings.get(name, Tenant(name=name))
            own = {row.key_id: row for row in spent if row.namespace == name}
            key_rows = [
                {**shown(key, at), "spent": _spent([own[key.id]] if key.id in own else [])}
                for key in all_keys
                if key.tenant == name
            ]
            rows.append(
                {
                    "name": name,
                    "budget_usd_per_day": limits.budget_usd_per_day,
                    "budget_tokens_per_day": limits.budget_tokens_per_day,
                    "requests_per_minute": limits.requests_per_minute,
                    "models": list(limits.models),
                    "spent": _spent(list(own.values())),
                    "without_key": _spent([own[""]] if "" in own else []),
                    "keys": key_rows,
                }
            )
        return {"day": iso_day(day), "tenants": rows}


def _spent(rows: list[Spend]) -> dict[str, object]:
    return {
        "usd": sum(row.usd_micros for row in rows) / MICROS,
        "tokens": sum(row.tokens for row in rows),
        "requests": sum(row.requests for row in rows),
    }


def _bounded(exchanges: list[Recorded], limit: int) -> tuple[list[dict[str, Any]], bool]:
    """Readable exchanges, at least one, up to a number and a size; whether there are more."""
    shown_rows: list[dict[str, Any]] = []
    size = 0
    for one in exchanges:
        size += len(one.exchange.request) + len(one.exchange.response)
        if shown_rows and (len(shown_rows) >= limit or size > PAGE_BYTES):
            return shown_rows, True
        shown_rows.append(views.whole(one))
    return shown_rows, False
