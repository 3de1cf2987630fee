"""What an admin changes: keys, stages of routes, the kill switch, an episode's outcome.

What it knows: the bodies that are taken, and what is told of a key (never its secret but once, never its digest). What
it does not do: authentication (``api``), reading pages (``reads``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

from potstill.decide.rollout import Stage
from potstill.errors import ConfigError
from potstill.serve.admin import outcomes
from potstill.serve.admin.seams import AdminStore, Blocking, RouteActs
from potstill.serve.clients import json_http
from potstill.serve.clients.json_http import Call, Receive, Refusal
from potstill.serve.rollout.rows import StageRow
from potstill.serve.tenants import keys
from potstill.serve.tenants.gate import TenantGate
from potstill.serve.tenants.key_rows import StoreRows, moment
from potstill.serve.tenants.keys import VirtualKey
from potstill.serve.tenants.limits import DAY_S
from potstill.types import OutcomeSource, Struct

Text = Annotated[str, Meta(max_length=200)]
Answer = tuple[int, object]


class NewKey(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    tenant: Text
    name: Text = ""
    routes: Annotated[tuple[Text, ...], Meta(max_length=200)] = ()
    budget_usd_per_day: float | None = None
    budget_tokens_per_day: int | None = None
    requests_per_minute: int | None = None
    expires_in_days: float | None = None


class KeyChange(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is left out stays; null: no limit."""

    name: Text | UnsetType = UNSET
    routes: Annotated[tuple[Text, ...], Meta(max_length=200)] | UnsetType = UNSET
    budget_usd_per_day: float | UnsetType | None = UNSET
    budget_tokens_per_day: int | UnsetType | None = UNSET
    requests_per_minute: int | UnsetType | None = UNSET
    expires_in_days: float | UnsetType | None = UNSET


class By(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    by: Annotated[str, Meta(max_length=100)] = "admin"


class Kill(By, frozen=True, kw_only=True, forbid_unknown_fields=True):
    killed: bool


class KeysQuery(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    tenant: str | None = None


class Acts:
    def __init__(
        self,
        store: AdminStore,
        blocking: Blocking,
        stages: RouteActs | None,
        gate: TenantGate | None,
        redact: Callable[[str], str],
        clock: Callable[[], float],
        tell: outcomes.Tell,
    ) -> None:
        self._tell = tell
        self._store = store
        self._rows = StoreRows(store)
        self._blocking = blocking
        self._stages = stages
        self._gate = gate
        self._redact = redact
        self._clock = clock

    # --- keys ---------------------------------------------------------------------------------------------------------

    async def keys(self, call: Call, body: bytes, receive: Receive) -> Answer:
        """All keys, revoked ones among them."""
        wanted = json_http.query(call, KeysQuery)
        found = await self._blocking(self._rows.all_keys, wanted.tenant)
        return 200, {"keys": [shown(key, self._clock()) for key in found]}

    async def key(self, call: Call, body: bytes, receive: Receive, *, id: str) -> Answer:
        return 200, {"key": shown(await self._known(id), self._clock())}

    async def create_key(self, call: Call, body: bytes, receive: Receive) -> Answer:
        """The only time that the key's text is told."""
        wanted = json_http.decode(call, body, NewKey)
        at = self._clock()
        fields: dict[str, Any] = {name: getattr(wanted, name) for name in wanted.__struct_fields__}
        tenant = fields.pop("tenant")
        fields["expires_at"] = _expiry(fields.pop("expires_in_days"), at)
        try:
            key, text = keys.create(tenant, at, **fields)
        except ConfigError as error:
            raise Refusal(400, "invalid_request", str(error)) from None
        await self._blocking(self._rows.put, key)
        return 201, {"key": shown(key, at), "text": text}

    async def change_key(self, call: Call, body: bytes, receive: Receive, *, id: str) -> Answer:
        wanted = json_http.decode(call, body, KeyChange)
        key = await self._known(id)
        changes: dict[str, Any] = {
            name: value for name in wanted.__struct_fields__ if (value := getattr(wanted, name)) is not UNSET
        }
        if "expires_in_days" in changes:
            changes["expires_at"] = _expiry(changes.pop("expires_in_days"), self._clock())
        changed: VirtualKey = msgspec.structs.replace(key, **changes)
        try:
            keys.check(changed)
        except ConfigError as error:
            raise Refusal(400, "invalid_request", str(error)) from None
        await self._blocking(self._rows.put, changed)
        self._forget(id)
        return 200, {"key": shown(await self._known(id), self._clock())}

    async def revoke_key(self, call: Call, body: bytes, receive: Receive, *, id: str) -> Answer:
        """At once in this process, within seconds in others. Again: changes nothing."""
        await self._known(id)
        await self._blocking(self._rows.revoke, id)
        self._forget(id)
        return 200, {"key": shown(await self._known(id), self._clock())}

    async def _known(self, id: str) -> VirtualKey:
        found = await self._blocking(self._rows.virtual_key, id) if id.isascii() and len(id) <= 64 else None
        if found is None:
            raise Refusal(
                404, "not_found", "There is no such key. A key's id is the part between 'psk_' and the next '_'."
            )
        return found

    def _forget(self, id: str) -> None:
        if self._gate is not None:
            self._gate.cache.forget(id)

    # --- routes -------------------------------------------------------------------------------------------------------

    async def route(self, call: Call, body: bytes, receive: Receive, *, name: str, act: str) -> Answer:
        by = json_http.decode(call, body, By) if body else By()
        row = await self._acting().act(name, act, self._redact(by.by))
        return 200, {"route": name, "rollout": rollout(self._acting(), name, row)}

    async def kill_switch(self, call: Call, body: bytes, receive: Receive) -> Answer:
        wanted = json_http.decode(call, body, Kill)
        if self._stages is None:  # whoever stops all students need not know that there are none
            told = "No route has a student: all of them are at their teachers."
            return 200, {"kill_switch": shown_switch(False, 0.0, ""), "note": told}
        switch = await self._acting().kill_all(wanted.killed, self._redact(wanted.by))
        answer: dict[str, object] = {"kill_switch": shown_switch(switch.killed, switch.at, switch.by)}
        if self._acting().unwritten:
            answer["note"] = UNWRITTEN
        return 200, answer

    def _acting(self) -> RouteActs:
        if self._stages is None:
            raise Refusal(409, "conflict", "No route of this gateway has a student: there is nothing to roll out.")
        return self._stages

    # --- episodes -----------------------------------------------------------------------------------------------------

    async def outcome(self, call: Call, body: bytes, receive: Receive, *, tenant: str, episode: str) -> Answer:
        """A person's label, unless the body names another source."""
        told = json_http.decode(call, body, outcomes.Told)
        if b'"source"' not in body:
            told = msgspec.structs.replace(told, source=OutcomeSource.HUMAN)
        return 200, await outcomes.put(self._store, self._blocking, tenant, episode, told, self._redact, self._tell)


def _expiry(days: float | None, at: float) -> float | None:
    """Raises ``Refusal`` for a span that is not in the future."""
    if days is None:
        return None
    if not 0.0 < days <= 36500.0:
        raise Refusal(400, "invalid_request", f"expires_in_days is {days}; allowed: above 0 and at most 36500, or null")
    return at + days * DAY_S


# --- what is shown ----------------------------------------------------------------------------------------------------


def shown(key: VirtualKey, at: float) -> dict[str, object]:
    """A key for listings: all but salt and digest."""
    expired = key.expires_at is not None and at >= key.expires_at
    return {
        "id": key.id,
        "tenant": key.tenant,
        "name": key.name,
        "state": "revoked" if key.revoked_at is not None else "expired" if expired else "active",
        "routes": list(key.routes),
        "budget_usd_per_day": key.budget_usd_per_day,
        "budget_tokens_per_day": key.budget_tokens_per_day,
        "requests_per_minute": key.requests_per_minute,
        "created_at": moment(key.created_at),
        "expires_at": moment(key.expires_at),
        "revoked_at": moment(key.revoked_at),
    }


def shown_switch(killed: bool, at: float, by: str) -> dict[str, object]:
    return {"killed": killed, "at": moment(at), "by": by}


NOT_ROLLING = "The route does not roll out: its mode says who answers."
UNWRITTEN = (
    "Teachers answer everything at this gateway. The store does not answer, so other gateways and a restart do not know"
    " of it yet; it is written as soon as the store takes it."
)
SWITCHED = "The kill switch is on: the teacher answers."
BY_PEOPLE = ("kill", "release")
"""All that changes a route that does not roll out."""


def rollout(stages: RouteActs, name: str, row: StageRow) -> dict[str, object]:
    """A route's stage and what led to it; ``serving`` is who answers now, whatever the stage."""
    state, placed, rolls = row.rollout, stages.placed_by_mode(name), stages.rolls_out(name)
    sentence, killed = row.sentence if placed is None else NOT_ROLLING, stages.switch.killed
    return {
        "stage": placed or state.stage,
        "serving": Stage.KILLED if killed else placed or state.serving,
        "rung": state.rung,
        "entered_at": moment(state.entered_at),
        "step_backs": state.step_backs,
        "needs_calibration": state.needs_calibration,
        "reason": row.reason if placed is None else "",
        "sentence": SWITCHED if killed else sentence,
        "counts": msgspec.to_builtins(row.counts),
        "changes": [
            {"at": moment(change.at), "what": change.what, "sentence": change.sentence}
            for change in reversed(row.changes)
            if rolls or change.what in BY_PEOPLE
        ],
    }
