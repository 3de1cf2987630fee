"""The dashboard's figures as admin endpoints: a day's overview, episodes to search, an episode with its dollars.

What it knows: which stored rows a day is made of, and how many may be read for one answer. What it does not do: the
arithmetic (``serve.figures``), authentication (``api``).

Reading an episode costs milliseconds, so figures are kept for as long as the episode does not change, and one answer
reads for no longer than ``READ_S``: what is still unread is counted in ``unread``, and the next answer goes on.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from functools import partial
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from potstill.errors import PotstillError, StoreError
from potstill.measure.prices.table import PriceTable
from potstill.record.fold import trajectory_of
from potstill.serve.admin import episode_steps
from potstill.serve.admin.episode_pages import EpisodePages, Wanted
from potstill.serve.admin.seams import AdminStore, Blocking
from potstill.serve.clients import json_http
from potstill.serve.clients.json_http import Call, Receive, Refusal
from potstill.serve.figures.episode import DAY_S, EpisodeFigures, episode_figures, plain
from potstill.serve.figures.overview import overview
from potstill.serve.figures.remembered import KeptFigures, Key
from potstill.serve.settings import Gateway
from potstill.serve.tenants.key_rows import iso_day, moment
from potstill.serve.tenants.limits import day_of
from potstill.trajectories.exchange import OpenEpisode
from potstill.trajectories.queries import Summary
from potstill.types import Struct, Trajectory

EPISODES = 10_000
"""So many of a day's episodes are looked at, the newest first."""
BEFORE_S = 6 * 3600.0
"""Episodes that began so long before midnight are looked at for calls of the day."""
READ_S = 2.0
FRESH_S = 2.0
"""Who asks again sooner gets the same answer: several pages that are open cost no more than one."""
REST = 4.0
"""So many times as long as the intervals took, the answer stays: they take two seconds for ten thousand episodes."""
AT_ONCE = 2
"""Searches and episodes that are read at a time, so that a thread is always left for what an admin changes."""
PAGE = 50
PAUSE_S = 0.02
"""At most, after each episode that was read, as long as it took: half of a core is left to the event loop."""
LOOKED_AT = 2000
"""Episodes that are looked through for one page of a search; then the page ends early, with a cursor."""
Answer = tuple[int, object]
Keyed = tuple[Key, Callable[[], Trajectory]]


class Search(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The query of a page of episodes. ``text``: part of an episode's id, goal, task or route, in any case."""

    tenant: Annotated[str, Meta(max_length=300)] | None = None
    route: Annotated[str, Meta(max_length=300)] | None = None
    answerer: Literal["teacher", "student", "both"] | None = None
    outcome: Literal["success", "failure", "unknown"] | None = None
    state: Literal["open", "ended"] | None = None
    text: Annotated[str, Meta(max_length=300)] = ""
    limit: Annotated[int, Meta(ge=1, le=100)] = PAGE
    cursor: Annotated[str, Meta(max_length=2000)] | None = None


class StepsQuery(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``prompts_of``: only that step, with the whole prompts of its calls."""

    after: Annotated[int, Meta(ge=-1)] = -1
    limit: Annotated[int, Meta(ge=1, le=100)] = PAGE
    prompts_of: Annotated[int, Meta(ge=0)] | None = None


class Figures:
    """``prices`` None: the packaged table, with the user's own rows where the gateway was started."""

    def __init__(
        self,
        settings: Gateway,
        store: AdminStore,
        blocking: Blocking,
        clock: Callable[[], float],
        prices: PriceTable | None = None,
    ) -> None:
        self._settings = settings
        self._store = store
        self._blocking = blocking
        self._clock = clock
        self._pages = EpisodePages(store)
        self._prices = prices
        self._looked = prices is not None
        self._teachers = _teachers(settings)
        self.kept = KeptFigures()
        self._room = asyncio.Semaphore(AT_ONCE)
        self._reading: asyncio.Task[dict[str, Any]] | None = None
        self._told: dict[str, Any] = {}
        self._fresh_until = 0.0

    async def overview(self, call: Call, body: bytes, receive: Receive) -> Answer:
        """Today's figures (UTC). Who asks while they are read waits for the same ones."""
        if time.monotonic() >= self._fresh_until and (self._reading is None or self._reading.done()):
            self._reading = asyncio.ensure_future(self._blocking(self._overview))
        if self._reading is not None and not self._reading.done():
            return 200, await asyncio.shield(self._reading)
        return 200, self._told

    async def episodes(self, call: Call, body: bytes, receive: Receive) -> Answer:
        """Newest first, with who answered and what it cost. A page holds ``limit`` rows or a few more."""
        wanted = json_http.query(call, Search)
        async with self._room:
            return 200, await self._blocking(self._search, wanted)

    async def episode(self, call: Call, body: bytes, receive: Receive, *, tenant: str, episode: str) -> Answer:
        """Step by step, whether it goes on or has ended."""
        wanted = json_http.query(call, StepsQuery)
        async with self._room:
            return 200, await self._blocking(self._steps, tenant, episode, wanted)

    # --- the overview -------------------------------------------------------------------------------------------------

    def _overview(self) -> dict[str, Any]:
        day, until = day_of(self._clock()), time.monotonic() + READ_S
        unread = damaged = 0
        of_day, all_of_them = self._of_day(day)
        for one in of_day:
            key, read = self._keyed(one)
            if self.kept.holds(key, day):
                continue
            if time.monotonic() > until:
                unread += 1
                continue
            try:
                self._figures(key, read, day)
            except (StoreError, ValueError):
                damaged += 1
        self.kept.only((self._keyed(one)[0] for one in of_day), day)
        table, began = self._table(), time.monotonic()
        told = overview(row for row in self.kept.of_day(day) if row.spent or int(row.started_at // DAY_S) == day)
        ended = time.monotonic()
        self._told = {
            "day": iso_day(day),
            "now": moment(self._clock()),
            "prices_date": None if table is None else table.date,
            "unread": unread,
            "damaged": damaged,
            "all": all_of_them,
            **told,
        }
        self._fresh_until = ended + max(FRESH_S, REST * (ended - began))
        return self._told

    def _of_day(self, day: int) -> tuple[list[OpenEpisode | Summary], bool]:
        """Every episode of the day once, the newest first; whether these are all of them.

        What ended comes before what goes on: it is read six times as fast, and once.
        """
        begins = float(day * DAY_S)
        going_on = [one for one in self._store.open_episodes() if one.last_at >= begins]
        named = {(one.namespace, one.episode_id) for one in going_on}
        ended = self._store.summaries(namespace=None, since=begins - BEFORE_S, newest_first=True, limit=EPISODES)
        found: list[OpenEpisode | Summary] = [
            row for row in ended if not row.run_id and (row.namespace, row.id) not in named
        ]
        found += reversed(going_on)
        return found[:EPISODES], len(found) <= EPISODES and len(ended) < EPISODES

    def _keyed(self, one: OpenEpisode | Summary) -> Keyed:
        """What its figures hold for, and how it is read."""
        if isinstance(one, OpenEpisode):
            key: Key = (one.namespace, one.episode_id, one.exchanges, one.last_at, one.outcome_known)
            return key, partial(self._trajectory, one.namespace, one.episode_id)
        key = (one.namespace, one.id, one.steps, one.success, one.error, one.seq)
        return key, partial(self._store.get, one.id, namespace=one.namespace)

    def _figures(self, key: Key, read: Callable[[], Trajectory], day: int | None) -> EpisodeFigures:
        """Raises ``StoreError``, ``ValueError``."""
        found = self.kept.find(key, day)
        if found is None:
            began = time.perf_counter()
            found = episode_figures(read(), self._table(), day, self._teachers)
            self.kept.keep(key, day, found)
            time.sleep(min(PAUSE_S, time.perf_counter() - began))
        return found

    def _table(self) -> PriceTable | None:
        """List prices; without them only tokens are shown."""
        if not self._looked:
            self._looked = True
            try:
                self._prices = PriceTable.load()
            except PotstillError:
                self._prices = None
        return self._prices

    # --- a search -----------------------------------------------------------------------------------------------------

    def _search(self, wanted: Search) -> dict[str, Any]:
        success = {"success": "true", "failure": "false", "unknown": "unknown"}.get(wanted.outcome or "")
        rows: list[dict[str, Any]] = []
        cursor, looked_at, until = wanted.cursor, 0, time.monotonic() + READ_S
        while True:
            query = Wanted(tenant=wanted.tenant, state=wanted.state, limit=min(PAGE, wanted.limit), cursor=cursor)
            page = self._pages.page(msgspec.structs.replace(query, success=_pushed(success, wanted.state)))
            for row in page["episodes"]:
                shown = self._row(row)
                if _matches(shown, wanted):
                    rows.append(shown)
            cursor, looked_at = page["next"], looked_at + len(page["episodes"])
            if cursor is None or len(rows) >= wanted.limit or looked_at >= LOOKED_AT or time.monotonic() > until:
                return {"episodes": rows, "next": cursor, "looked_at": looked_at}

    def _row(self, row: dict[str, Any]) -> dict[str, Any]:
        """A page's row with the figures of the whole episode."""
        tenant, episode = row["tenant"], row["episode"]
        key = (tenant, episode, *(row.get(name) for name in ("state", "exchanges", "last_at", "outcome_known")))
        key = (*key, row.get("steps"), row.get("success"), row.get("error"))
        try:
            figures = self._figures(key, partial(self._trajectory, tenant, episode), None)
        except (StoreError, ValueError):
            return {**row, "damaged": True, "answered": {}, "usd": None, "route": "", "goal": ""}
        told = plain(figures)
        for name in ("tenant", "episode", "started_at", "usd", "alone_usd", "decided", "escalated"):
            told.pop(name)
        return {**row, **told, "name": figures.episode, "usd": figures.way_usd, "damaged": False}

    # --- an episode ---------------------------------------------------------------------------------------------------

    def _trajectory(self, tenant: str, episode: str) -> Trajectory:
        """As it would be if it ended now, earlier parts among it. Raises ``StoreError``."""
        known = self._store.episode(tenant, episode)
        if not known.exchanges and known.trajectory_id is None:
            return self._store.get(episode, namespace=tenant)
        before = None if known.trajectory_id is None else self._store.get(known.trajectory_id, namespace=tenant)
        if not known.exchanges and before is not None:
            return before
        return trajectory_of(
            known.exchanges,
            namespace=tenant,
            episode_id=episode,
            outcome=known.outcome,
            before=before,
            damaged=known.damaged,
        )

    def _steps(self, tenant: str, episode: str, wanted: StepsQuery) -> dict[str, Any]:
        try:
            trajectory = self._trajectory(tenant, episode)
        except StoreError:
            raise Refusal(404, "not_found", "There is no such episode of this tenant.") from None
        table, steps = self._table(), trajectory.steps
        if wanted.prompts_of is not None:
            if wanted.prompts_of >= len(steps):
                raise Refusal(404, "not_found", f"The episode has {len(steps)} steps.")
            return {"step": episode_steps.step(trajectory, steps[wanted.prompts_of], table, prompts=True)}
        chosen = steps[wanted.after + 1 : wanted.after + 1 + wanted.limit]
        more = wanted.after + 1 + len(chosen) < len(steps)
        figures = episode_figures(trajectory, table, None, self._teachers)
        return {
            "tenant": tenant,
            "episode": episode,
            "name": figures.episode,
            "route": figures.route,
            "stage": figures.stage,
            "answered": figures.answered,
            "usd": figures.way_usd,
            "trajectory": episode_steps.head(trajectory),
            "steps": [episode_steps.step(trajectory, one, table) for one in chosen],
            "next_after": wanted.after + len(chosen) if more else None,
        }


def _teachers(settings: Gateway) -> dict[str, str]:
    """The name that each route's teacher is priced by."""
    models = {model.name: model.price_as or model.model for model in settings.models}
    return {route.name: models[route.teacher] for route in settings.routes if route.teacher in models}


def _pushed(success: str | None, state: str | None) -> Any:
    """The page's own filter, where it means the same: an open episode may have an outcome that the page cannot see."""
    return success if state == "ended" else None


def _matches(row: dict[str, Any], wanted: Search) -> bool:
    answered = row["answered"]
    if wanted.route and row["route"] != wanted.route:
        return False
    if wanted.answerer and wanted.answerer != _answerer(answered):
        return False
    if wanted.outcome and {"success": True, "failure": False, "unknown": None}[wanted.outcome] is not row.get(
        "success"
    ):
        return False
    text = wanted.text.casefold()
    return not text or any(
        text in str(row.get(name) or "").casefold() for name in ("episode", "name", "goal", "task", "route")
    )


def _answerer(answered: dict[str, int]) -> str:
    teacher, student = answered.get("teacher", 0), answered.get("student", 0)
    return "both" if teacher and student else "teacher" if teacher else "student" if student else "nobody"
