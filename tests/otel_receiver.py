"""A collector as far as tests need one: takes OTLP over HTTP, decodes it with OpenTelemetry's own protobuf classes."""

from __future__ import annotations

import asyncio
import base64
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from aiohttp import web

_IDS = ("traceId", "spanId", "parentSpanId")


class Collector:
    """``bodies``: the requests as they came, decompressed. ``status`` and ``delay_s``: how it behaves from now on."""

    def __init__(self) -> None:
        self.url = ""
        self.bodies: list[bytes] = []
        self.headers: list[dict[str, str]] = []
        self.status = 200
        self.answer = b""
        self.delay_s = 0.0

    def documents(self) -> list[dict[str, Any]]:
        """Each request as OTLP's JSON, as a collector's file exporter writes it."""
        from google.protobuf.json_format import MessageToDict
        from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

        found = []
        for body in self.bodies:
            document = MessageToDict(ExportTraceServiceRequest.FromString(body))
            for span in _spans(document):
                for holder in (span, *span.get("links", [])):
                    for name in _IDS:
                        if name in holder:
                            holder[name] = base64.b64decode(holder[name]).hex()
            found.append(document)
        return found

    def spans(self) -> list[dict[str, Any]]:
        """All spans, attributes as an object."""
        return [
            {**span, "attributes": {pair["key"]: _value(pair["value"]) for pair in span.get("attributes", [])}}
            for document in self.documents()
            for span in _spans(document)
        ]

    def calls(self) -> list[dict[str, Any]]:
        return [span for span in self.spans() if span["attributes"]["gen_ai.operation.name"] == "chat"]

    def wait_for(self, spans: int, within_s: float = 60.0) -> list[dict[str, Any]]:
        until = time.monotonic() + within_s
        pause = threading.Event()
        while len(self.spans()) < spans and time.monotonic() < until:
            pause.wait(0.05)
        found = self.spans()
        assert len(found) >= spans, f"{len(found)} spans came"
        return found

    async def _take(self, request: web.Request) -> web.Response:
        self.headers.append({name.lower(): value for name, value in request.headers.items()})
        body = await request.read()
        if self.delay_s:
            await asyncio.sleep(self.delay_s)
        if self.status == 200:
            self.bodies.append(body)
        return web.Response(status=self.status, body=self.answer, content_type="application/x-protobuf")


def _spans(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for resource in document.get("resourceSpans", []):
        for scope in resource.get("scopeSpans", []):
            yield from scope.get("spans", [])


def _value(typed: dict[str, Any]) -> Any:
    kind, value = next(iter(typed.items()))
    if kind == "arrayValue":
        return [_value(one) for one in value.get("values", [])]
    return int(value) if kind == "intValue" else value


@contextmanager
def collector() -> Iterator[Collector]:
    """A running one."""
    taken, loop = Collector(), asyncio.new_event_loop()

    async def start() -> web.AppRunner:
        app = web.Application(client_max_size=1 << 26)
        app.router.add_post("/v1/traces", taken._take)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        taken.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        return runner

    async def stop(runner: web.AppRunner) -> None:
        await runner.cleanup()

    runner = loop.run_until_complete(start())
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield taken
    finally:
        asyncio.run_coroutine_threadsafe(stop(runner), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def lines(documents: list[dict[str, Any]]) -> bytes:
    return b"".join(json.dumps(document).encode() + b"\n" for document in documents)
