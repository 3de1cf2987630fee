"""The list of models: the names that routes have, and those that an upstream adds where unknown names are passed to it.

What it knows: both providers' words for a model, side by side: clients read their own. What it does not do: keys.
An upstream that does not answer in time adds nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import msgspec

from potstill.errors import NOT_JSON, PotstillError
from potstill.serve.clients.problems import Headers, Refused
from potstill.serve.routes import PASSED, Routes
from potstill.serve.upstreams.endpoints import Endpoint, Upstreams
from potstill.serve.upstreams.plain import Plain

DEADLINE_S = 5.0
MOST = 10_000
_log = logging.getLogger("potstill.gateway")


class _Told(msgspec.Struct):
    """A model in any provider's words."""

    id: str
    created: Any = None
    created_at: Any = None
    owned_by: Any = None
    display_name: Any = None


class _List(msgspec.Struct):
    data: list[_Told] = []


_list = msgspec.json.Decoder(_List)


class Listing:
    """``started``: Unix seconds, which are the age of the gateway's own names."""

    def __init__(self, routes: Routes, upstreams: Upstreams, plain: Plain, started: float) -> None:
        self._routes = routes
        self._upstreams = upstreams
        self._plain = plain
        self._started = int(started)

    async def page(self, headers: Headers) -> bytes:
        """All of them. ``headers``: the client's, whose key an upstream may want."""
        rows = await self._rows(headers)
        ends = {"first_id": rows[0]["id"], "last_id": rows[-1]["id"]} if rows else {"first_id": None, "last_id": None}
        return msgspec.json.encode({"object": "list", "data": rows, "has_more": False, **ends})

    async def one(self, name: str, headers: Headers) -> bytes | None:
        """None where there is none of that name."""
        if name in self._routes.names():
            return msgspec.json.encode(_row(_Told(id=name), self._started))
        return next((msgspec.json.encode(row) for row in await self._rows(headers) if row["id"] == name), None)

    async def _rows(self, headers: Headers) -> list[dict[str, Any]]:
        own = self._routes.names()
        told = (one for one in await self._passed(headers) if one.id not in own)
        return _rows([*(_Told(id=name) for name in own), *told], self._started)

    async def _passed(self, headers: Headers) -> list[_Told]:
        """What the upstream says to which unknown names are passed."""
        target = self._routes.passed(PASSED)
        if target is None:
            return []
        endpoint = self._upstreams.endpoints[target.teacher.upstream]
        try:
            async with asyncio.timeout(DEADLINE_S):
                return await self._asked(endpoint, headers)
        except (Refused, PotstillError, TimeoutError, *NOT_JSON) as error:
            _log.warning("the models of the upstream '%s' are not listed: %s", endpoint.name, error)
            return []

    async def _asked(self, endpoint: Endpoint, headers: Headers) -> list[_Told]:
        sent = endpoint.headers(headers, same_dialect=False)
        status, _, body = await self._plain.asked(endpoint, "GET", "/models", sent, None)
        return _list.decode(body).data[:MOST] if status == 200 else []


def _rows(told: Iterable[_Told], started: int) -> list[dict[str, Any]]:
    return [_row(one, started) for one in told]


def _row(one: _Told, started: int) -> dict[str, Any]:
    created = _seconds(one)
    created = started if created is None else created
    return {
        "id": one.id,
        "object": "model",
        "created": created,
        "owned_by": one.owned_by if isinstance(one.owned_by, str) else "potstill",
        "type": "model",
        "display_name": one.display_name if isinstance(one.display_name, str) else one.id,
        "created_at": datetime.fromtimestamp(created, UTC).isoformat().replace("+00:00", "Z"),
    }


def _seconds(one: _Told) -> int | None:
    """Unix seconds, whichever way they are told; None for what is no date."""
    try:
        if isinstance(one.created_at, str):
            return int(datetime.fromisoformat(one.created_at).timestamp())
        return int(one.created) if isinstance(one.created, int | float) and 0 <= one.created < 1e11 else None
    except (ValueError, OverflowError):
        return None
