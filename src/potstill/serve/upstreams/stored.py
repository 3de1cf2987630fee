"""What a provider keeps and a client asks for by its id: stored responses and chat completions.

What it knows: their paths, and which upstream such a request goes to, which names no model. What it does not do: keep
anything itself, record these requests, or look into what comes back.

The upstream is that of the model named in the header ``x-potstill-model``; without the header the only one that speaks
the path's dialect. A client needs the right to ask for one of its models. Who came with one of the gateway's own keys
shares the provider's key with other tenants, and may only ask where the settings say that they may see each other's.
Ids are checked letter by letter, so that a path leads nowhere but to the object.
"""

from __future__ import annotations

import re

from potstill.errors import UnknownName
from potstill.serve.clients.problems import CHAT, RESPONSES, Refused, refused
from potstill.serve.routes import PASSED, Routes, Target
from potstill.serve.seams import Admission, Gate
from potstill.serve.upstreams.endpoints import Endpoint, Upstreams
from potstill.wire.dialect import Problem

MODEL_HEADER = b"x-potstill-model"
_OTHERS = (
    "What '{name}' stores is one heap for all tenants of this gateway, so it is not fetched by id here. Where tenants "
    "may see each other's, set share_stored = true in [upstreams.{name}]."
)
_ID = r"[A-Za-z0-9_-]{1,128}"
_QUERY = re.compile(r"[A-Za-z0-9_.\[\]%=&-]{0,2000}")
PLACES: tuple[tuple[str, str, str], ...] = (
    ("GET", "/v1/responses/{id}", RESPONSES),
    ("DELETE", "/v1/responses/{id}", RESPONSES),
    ("POST", "/v1/responses/{id}/cancel", RESPONSES),
    ("GET", "/v1/responses/{id}/input_items", RESPONSES),
    ("GET", "/v1/chat/completions/{id}", CHAT),
    ("POST", "/v1/chat/completions/{id}", CHAT),
    ("DELETE", "/v1/chat/completions/{id}", CHAT),
    ("GET", "/v1/chat/completions/{id}/messages", CHAT),
)
"""Method, path and dialect of each."""
_PATTERNS = [(method, re.compile(path.replace("{id}", _ID)), dialect) for method, path, dialect in PLACES]


def dialect_at(method: str, path: str) -> str | None:
    """Whose object it is; None where nothing of the kind stands at that path. Raises ``Refused`` for another method."""
    found = [(one, dialect) for one, pattern, dialect in _PATTERNS if pattern.fullmatch(path)]
    if not found:
        return None
    for one, dialect in found:
        if one == method:
            return dialect
    raise refused(405, "invalid_request", f"{path} does not take {method}.")


def with_query(path: str, query: bytes) -> str:
    """The path under an upstream's base URL, with the client's query. Raises ``Refused`` for a query that holds more
    than names and values."""
    text = query.decode("latin-1")
    if not _QUERY.fullmatch(text):
        raise refused(400, "invalid_request", "The query holds characters that no field here has.")
    return path.removeprefix("/v1") + (f"?{text}" if text else "")


class Kept:
    """Finds the upstream and asks the gate."""

    def __init__(self, routes: Routes, upstreams: Upstreams, gate: Gate) -> None:
        self._routes = routes
        self._upstreams = upstreams
        self._gate = gate

    async def admitted(self, dialect: str, model: str | None, key: str | None, at: float) -> tuple[Endpoint, Admission]:
        """The upstream to ask, and what is to be settled. Raises ``Refused``."""
        known = await self._gate.admit(key, "", at)
        if isinstance(known, Problem):
            raise Refused(known)
        problem: Problem | None = None
        for target in self._targets(dialect, model):
            admitted = await self._gate.admit(key, target.route.name, at)
            if isinstance(admitted, Admission):
                endpoint = self._upstreams.endpoints[target.teacher.upstream]
                if admitted.key_id is not None and not endpoint.upstream.share_stored:
                    self._gate.settle(admitted, usd=0.0, tokens=0, at=at)
                    raise refused(403, "permission", _OTHERS.format(name=endpoint.name))
                return endpoint, admitted
            problem = admitted
        assert problem is not None
        raise Refused(problem)

    def _targets(self, dialect: str, model: str | None) -> list[Target]:
        """Routes to one upstream that speaks the dialect; at least one."""
        endpoints = self._upstreams.endpoints
        if model is not None:
            target = self._named(model)
            endpoint = endpoints[target.teacher.upstream]
            if endpoint.dialect != dialect:
                message = (
                    f"The upstream '{endpoint.name}' of '{model}' speaks {endpoint.dialect}: it keeps nothing here."
                )
                raise refused(404, "not_found", message)
            return [target]
        found = [one for one in self._all() if endpoints[one.teacher.upstream].dialect == dialect]
        names = sorted({one.teacher.upstream for one in found})
        if not names:
            message = f"No upstream here speaks {dialect}: what it answers through this gateway is kept nowhere."
            raise refused(404, "not_found", message)
        if len(names) > 1:
            message = f"{', '.join(names)} speak {dialect}. Say whose it is with the header x-potstill-model: MODEL."
            raise refused(400, "invalid_request", message)
        return found

    def _named(self, model: str) -> Target:
        try:
            return self._routes.find(model)
        except UnknownName as error:
            raise refused(404, "not_found", str(error), code="model_not_found") from None

    def _all(self) -> list[Target]:
        passed = self._routes.passed(PASSED)
        return [*self._routes.targets(), *([] if passed is None else [passed])]
