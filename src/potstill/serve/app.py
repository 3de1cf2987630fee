"""The gateway as a raw ASGI application: paths, keys, limits, and the hand-over to what serves a request.

What it knows: which path is what, and in which order a request is let in. What it does not do: answer a completion
(``forward``), settings' files, the HTTP server (``server``).
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from importlib.resources import files
from typing import Any
from urllib.parse import quote, urlsplit

import msgspec

from potstill.errors import PotstillError, UnknownName
from potstill.serve.admin.api import Admin
from potstill.serve.clients.bodies import Bodies
from potstill.serve.clients.call import Call, Scope
from potstill.serve.clients.client import Client, Receive, Send, Watch
from potstill.serve.clients.hosts import Hosts
from potstill.serve.clients.problems import (
    ANTHROPIC,
    CHAT,
    RESPONSES,
    Refused,
    problem_of,
    refused,
)
from potstill.serve.clients.request_fields import Outline, outline_of
from potstill.serve.forward import Forwarder
from potstill.serve.recording.recorder import Recorder
from potstill.serve.routes import Routes, Target
from potstill.serve.seams import Admission, Episodes, Gate
from potstill.serve.settings import Limits
from potstill.serve.telemetry.metrics import CONTENT_TYPE, Metrics
from potstill.serve.upstreams.endpoints import Upstreams
from potstill.serve.upstreams.listing import Listing
from potstill.serve.upstreams.plain import Plain
from potstill.serve.upstreams.stored import MODEL_HEADER, PLACES, Kept, dialect_at, with_query
from potstill.serve.work import Incoming, Work
from potstill.wire.dialect import Problem

COMPLETIONS = {"/v1/chat/completions": CHAT, "/v1/responses": RESPONSES, "/v1/messages": ANTHROPIC}

PLAIN = "".join(chr(code) for code in range(0x21, 0x7F) if chr(code) != "%")
"""What stands in a header as it is; the rest of an episode's name is percent-encoded."""
_is_plain = re.compile(r"[!-$&-~]+").fullmatch
MODEL = "/v1/models/"
"""Before a model's name, to ask about that one."""
WITHOUT_V1 = ("/chat/completions", "/responses", "/messages", "/embeddings", "/models")
_WRONG_HOST = Problem(
    status=421,
    kind="permission",
    message="A gateway that asks for no key answers under the names of this machine only, so that no page in a browser "
    "reaches it under a name of its own. Ask for http://127.0.0.1, or write the name into allowed_hosts of [gateway].",
)

_log = logging.getLogger("potstill.gateway")

Handler = Callable[[Call], Awaitable[None]]


class App:
    """Serves requests once its parts are there. ``draining`` says that the server is on its way down."""

    def __init__(
        self,
        *,
        routes: Routes,
        gate: Gate,
        episodes: Episodes,
        recorder: Recorder,
        forwarder: Forwarder,
        upstreams: Upstreams,
        plain: Plain,
        metrics: Metrics,
        limits: Limits,
        hosts: Hosts | None,
        metrics_public: bool,
        admin: Admin,
    ) -> None:
        self.draining = False
        self.inflight = 0
        """Requests of any kind, from their heads on."""
        self._served = 0
        self._bodies = Bodies(limits)
        self._quiet = asyncio.Event()
        self._routes = routes
        self._gate = gate
        self._episodes = episodes
        self._recorder = recorder
        self._forwarder = forwarder
        self._plain = plain
        self._metrics = metrics
        self._limits = limits
        self._hosts = hosts
        self._metrics_public = metrics_public
        self._scrapes = 0
        self._admin = admin
        self._started = time.time()
        self._kept = Kept(routes, upstreams, gate)
        self._listing = Listing(routes, upstreams, plain, self._started)
        self._get: dict[str, Handler] = {
            "/healthz": self._healthz,
            "/readyz": self._readyz,
            "/metrics": self._metrics_page,
            "/v1/models": self._models,
            "/v1/potstill/acknowledged": self._acknowledged,
            "/v1/potstill/openapi.json": self._openapi,
        }
        self._post: dict[str, Handler] = {
            **dict.fromkeys(COMPLETIONS, self._completion),
            "/v1/embeddings": self._passed,
            "/v1/messages/count_tokens": self._passed,
        }
        metrics.gauge("potstill_inflight", "Requests that are being served.", lambda: self.inflight - self._scrapes)
        metrics.gauge("potstill_reading", "Requests whose bodies are still coming.", lambda: self._bodies.reading)
        metrics.gauge("potstill_reading_bytes", "Bytes of these that have come.", lambda: self._bodies.bytes)
        metrics.gauge("potstill_tasks", "Tasks on the event loop.", lambda: len(asyncio.all_tasks()))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        call = Call(scope, receive, send)
        if self._hosts is not None and not self._hosts.allows(call.raw(b"host")):
            return await call.refuse(_WRONG_HOST)
        if call.path not in self._get and self._admin.handles(call.path):
            if (problem := self._wrong_origin(call)) is not None:
                return await call.refuse(problem)
            return await self._admin(scope, receive, send)
        if call.path == "/metrics" and not self._metrics_public and not await self._admin.permits(scope, send):
            return None
        if not call.path.startswith("/v1/") and call.path.startswith(WITHOUT_V1):
            call.path = f"/v1{call.path}"  # a base URL without /v1
        call.dialect = COMPLETIONS.get(call.path, ANTHROPIC if "/messages/" in call.path else CHAT)
        self.inflight += 1
        try:
            await self._handler(scope["method"], call.path)(call)
        except Exception as error:
            if not isinstance(error, Refused | PotstillError):
                _log.exception("request %s failed", call.request_id)
            problem = problem_of(error)
            self._metrics.requests.add("", call.dialect, str(problem.status), "gateway")
            await call.refuse(problem)
        finally:
            self.inflight -= 1
            if not self.inflight:
                self._quiet.set()

    def drain(self) -> None:
        """The server is on its way down: whoever only waits for news is answered now."""
        self.draining = True
        self._recorder.drain()
        self._admin.drain()

    async def idle(self) -> None:
        """Until no request is served any more."""
        self._quiet.clear()
        if self.inflight:
            await self._quiet.wait()

    def _handler(self, method: str, path: str) -> Handler:
        handlers = self._post if method == "POST" else self._get if method in ("GET", "HEAD") else {}
        if path in handlers:
            return handlers[path]
        if method in ("GET", "HEAD") and path.startswith(MODEL):
            return self._model
        kept = dialect_at(method, path)
        if kept is not None:
            return partial(self._stored, method, kept)
        if path in self._get or path in self._post:
            raise refused(405, "invalid_request", f"{path} does not take {method}.")
        kept_paths = {place.replace("{id}", "ID") for _, place, _ in PLACES}
        paths = ", ".join(sorted({*self._get, *self._post, *kept_paths, "/v1/episodes/ID/outcome"}))
        raise refused(404, "not_found", f"There is no such path here. There are: {paths}.")

    # --- completions --------------------------------------------------------------------------------------------------

    async def _completion(self, call: Call) -> None:
        self._check_origin(call)
        body = await self._body(call)
        with self._serving():
            await self._answered(call, body)

    async def _answered(self, call: Call, body: bytes) -> None:
        outline = outline_of(body)
        target, admission = await self._admitted(call, outline.model)
        try:
            work = await self._placed(call, body, outline, target, admission)
        except BaseException:
            self._gate.settle(admission, usd=0.0, tokens=0, at=call.at)
            raise
        await self._forwarder.serve(work, Watch(call.receive, call.connection))

    async def _placed(self, call: Call, body: bytes, outline: Outline, target: Target, admission: Admission) -> Work:
        names = call.names_of_episode()
        await self._episodes.ready(admission.tenant, names, body, call.at, outline)
        placement = self._episodes.place(admission.tenant, names, call.dialect, body, call.at, outline)
        ticket = await self._recorder.reserve(len(body), None if call.connection is None else call.connection.reads)
        ours = call.ours()
        ours.append((b"x-potstill-episode", _in_header(placement.episode_id)))
        if not ticket.accepted:
            ours.append((b"x-potstill-recording", b"dropped"))
        return Work(
            incoming=Incoming(call.request_id, call.dialect, call.headers, body, outline, call.at, call.started),
            target=target,
            admission=admission,
            placement=placement,
            client=Client(call.send, ours, call.connection),
            ticket=ticket,
        )

    async def _body(self, call: Call) -> bytes:
        """The whole body. Nothing of it is read before the key was looked at: who may not ask holds nothing here."""
        self._bodies.check(call)
        await self._known(call)
        self._check_room()
        return await self._bodies.read(call)

    def _check_room(self) -> None:
        most = self._limits.max_inflight
        if self._served >= most:
            message = f"The gateway serves {most} requests already (max_inflight)."
            raise refused(503, "overloaded", message, retry_after_s=1.0)

    @contextmanager
    def _serving(self) -> Iterator[None]:
        """A place among the requests that are served; those that are still being sent have none."""
        self._check_room()
        self._served += 1
        try:
            yield
        finally:
            self._served -= 1

    async def _admitted(self, call: Call, model: str) -> tuple[Target, Admission]:
        """Only who holds a key learns which models there are."""
        try:
            target = self._routes.find(model)
        except UnknownName as error:
            await self._known(call)
            raise refused(404, "not_found", str(error), code="model_not_found") from None
        admitted = await self._gate.admit(call.key(), model, call.at)
        if isinstance(admitted, Problem):
            raise Refused(admitted)
        return target, admitted

    async def _known(self, call: Call) -> None:
        """Whose key this is matters; no limit is looked at."""
        admitted = await self._gate.admit(call.key(), "", call.at)
        if isinstance(admitted, Problem):
            raise Refused(admitted)

    def _check_origin(self, call: Call) -> None:
        if (problem := self._wrong_origin(call)) is not None:
            raise Refused(problem)

    def _wrong_origin(self, call: Call) -> Problem | None:
        """A page in a browser on this machine must not spend the owner's money, nor say how episodes ended."""
        origin = call.header(b"origin")
        if origin is None or self._hosts is None or self._hosts.knows(_host_of(origin)):
            return None
        message = f"Pages of '{origin}' may not use a gateway that asks for no key."
        return Problem(status=403, kind="permission", message=message)

    # --- the rest -----------------------------------------------------------------------------------------------------

    async def _passed(self, call: Call) -> None:
        self._check_origin(call)
        body = await self._body(call)
        outline = outline_of(body)
        with self._serving():
            target, admission = await self._admitted(call, outline.model)
            path = call.path.removeprefix("/v1")
            if path == "/embeddings":
                target = self._routes.embedding(outline.model, target)
            status, headers, answer = await self._plain.charged(path, target, admission, call.headers, body, outline)
            await call.reply(status, answer, headers)

    async def _stored(self, method: str, dialect: str, call: Call) -> None:
        """What the provider keeps."""
        call.dialect = dialect
        self._check_origin(call)
        body = await self._body(call) if method == "POST" else None
        path = with_query(call.path, call.query)
        model = call.header(MODEL_HEADER)
        endpoint, admission = await self._kept.admitted(dialect, model, call.key(), call.at)
        self._gate.settle(admission, usd=0.0, tokens=0, at=call.at)
        headers = endpoint.headers(call.headers, same_dialect=True)
        if method == "GET":
            watch = Watch(call.receive, call.connection)
            try:
                return await self._plain.streamed(endpoint, path, headers, Client(call.send, call.ours()))
            except asyncio.CancelledError:
                if watch.left:
                    return None
                raise
            finally:
                watch.stop()
        status, told, answer = await self._plain.asked(endpoint, method, path, headers, body or None)
        await call.reply(status, answer, told)

    async def _models(self, call: Call) -> None:
        call.dialect = ANTHROPIC if call.header(b"anthropic-version") else CHAT
        await self._known(call)
        await call.reply(200, await self._listing.page(call.headers))

    async def _model(self, call: Call) -> None:
        call.dialect = ANTHROPIC if call.header(b"anthropic-version") else CHAT
        await self._known(call)
        name = call.path.removeprefix(MODEL)
        found = await self._listing.one(name, call.headers)
        if found is None:
            raise refused(404, "not_found", f"There is no model '{name}' here.", code="model_not_found")
        await call.reply(200, found)

    async def _healthz(self, call: Call) -> None:
        await call.reply(200, b'{"status":"ok"}')

    async def _readyz(self, call: Call) -> None:
        problem = "draining" if self.draining else None
        status = 200 if problem is None else 503
        await call.reply(status, msgspec.json.encode({"status": "ready" if problem is None else problem}))

    async def _metrics_page(self, call: Call) -> None:
        self._scrapes += 1
        try:
            text = self._metrics.text()
        finally:
            self._scrapes -= 1
        await call.reply(200, text, [(b"content-type", CONTENT_TYPE)])

    async def _openapi(self, call: Call) -> None:
        await call.reply(200, described())

    async def _acknowledged(self, call: Call) -> None:
        await self._known(call)
        recorder = self._recorder
        told: dict[str, Any] = {"seq": recorder.acknowledged, "waiting": recorder.waiting}
        wanted = dict(part.partition("=")[::2] for part in call.query.decode("latin-1").split("&")).get("request_id")
        if wanted:
            fate, seq = recorder.fate(wanted)
            told["request"] = {"id": wanted, "state": fate.value, "seq": seq}
        await call.reply(200, msgspec.json.encode(told))


def _in_header(episode_id: str) -> bytes:
    return (episode_id if _is_plain(episode_id) else quote(episode_id, safe=PLAIN)).encode()


def _host_of(origin: str) -> str:
    try:
        return urlsplit(origin).hostname or ""
    except ValueError:
        return ""


@cache
def described() -> bytes:
    """The OpenAPI description of all that the gateway answers."""
    return files("potstill.serve").joinpath("openapi.json").read_bytes()
