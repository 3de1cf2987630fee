"""A real HTTP server in a process of its own that answers chat completions well or badly, chosen by the path.

Run as a script it prints its port. ``/BEHAVIOUR/v1/chat/completions`` misbehaves as named; ``/stats`` says what came.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import time
import urllib.request
from collections import Counter
from email.utils import formatdate
from typing import Any

from aiohttp import web


class Endpoint:
    """Where the server listens, and what it saw."""

    def __init__(self, port: int) -> None:
        self.root = f"http://127.0.0.1:{port}"

    def url(self, behaviour: str) -> str:
        return f"{self.root}/{behaviour}/v1"

    def stats(self) -> dict[str, Any]:
        with urllib.request.urlopen(f"{self.root}/stats") as answer:
            return json.load(answer)

    def seen(self, behaviour: str) -> int:
        return self.stats()["seen"].get(behaviour, 0)


seen: Counter[str] = Counter()
underway: Counter[str] = Counter()
dropped: Counter[str] = Counter()
most_underway: Counter[str] = Counter()
bodies: dict[str, list[Any]] = {}
authorizations: dict[str, list[str | None]] = {}


def completion(body: dict[str, Any], n: int, first: int = 0) -> dict[str, Any]:
    prompt = sum(len(str(message["content"]).split()) for message in body["messages"])
    choices = [
        {
            "index": index,
            "finish_reason": "stop",
            "message": {"role": "assistant", "content": f"answer {first + index}"},
        }
        for index in range(n)
    ]
    usage = {
        "prompt_tokens": prompt,
        "completion_tokens": 2 * n,
        "total_tokens": prompt + 2 * n,
        "prompt_tokens_details": {"cached_tokens": prompt if first else 0},
    }
    return {"id": f"chatcmpl-{first}", "object": "chat.completion", "model": "m", "choices": choices, "usage": usage}


def ok(behaviour: str, body: dict[str, Any]) -> web.Response:
    answer = completion(body, body.get("n", 1), seen[behaviour] - 1)
    return web.json_response(answer, headers={"x-request-id": f"req-{seen[behaviour]}"})


def error(status: int, message: str, headers: dict[str, str] | None = None, **more: Any) -> web.Response:
    return web.json_response({"error": {"message": message, **more}}, status=status, headers=headers)


async def behave(behaviour: str, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
    count = seen[behaviour]
    match behaviour:
        case "ok" | "ok-apart":
            return ok(behaviour, body)
        case "slow":
            await asyncio.sleep(0.05)
            return ok(behaviour, body)
        case "one-choice":
            return web.json_response(completion(body, 1, count - 1))
        case "two-choices":
            return web.json_response(completion(body, min(2, body.get("n", 1)), count - 1))
        case "hang" | "hang-and-count":
            await asyncio.sleep(3600)
        case "hang-once" if count == 1:
            await asyncio.sleep(3600)
        case "html":
            return web.Response(text="<html><h1>Welcome</h1></html>", content_type="text/html")
        case "wrong-json":
            return web.json_response({"hello": "world"})
        case "no-json":
            return web.Response(text="all fine", content_type="application/json")
        case "event-stream":
            return web.Response(text="data: {}\n\n", content_type="text/event-stream")
        case "empty":
            return web.Response(body=b"", content_type="application/json")
        case "limited-once" if count == 1:
            return error(429, "slow down", {"Retry-After": "0"})
        case "limited-until-date" if count == 1:
            return error(429, "slow down", {"Retry-After": formatdate(time.time(), usegmt=True)})
        case "limited-always":
            return error(429, "slow down", {"retry-after-ms": "1"})
        case "limited-for-an-hour":
            return error(429, "slow down", {"Retry-After": "3600"})
        case "no-money":
            return error(429, "You exceeded your current quota", code="insufficient_quota")
        case "busy-thrice" if count <= 3:
            return web.Response(status=503, text="<html>busy</html>", content_type="text/html")
        case "busy-always":
            return error(503, "overloaded")
        case "reset-before-answer" if count == 1:
            request.transport.abort()  # type: ignore[union-attr]
        case "reset-in-body":
            return await half(request)
        case "reset-in-body-once" if count == 1:
            return await half(request)
        case "slow-loris":
            response = web.StreamResponse(headers={"Content-Type": "application/json"})
            await response.prepare(request)
            while True:
                await response.write(b" ")
                await asyncio.sleep(0.02)
        case "giant":
            response = web.StreamResponse(headers={"Content-Type": "application/json"})
            await response.prepare(request)
            while True:
                await response.write(b" " * 65536)
        case "giant-gzip":
            headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
            return web.Response(body=gzip.compress(b" " * 20_000_000), headers=headers)
        case "refused-key":
            return error(401, f"Incorrect API key provided: {request.headers.get('Authorization')}")
        case "forbidden":
            return error(403, "no access to this model")
        case "bad-answer-with-key":
            return web.Response(text=f"debug: {request.headers.get('Authorization')}")
        case "moved":
            raise web.HTTPPermanentRedirect("https://elsewhere.invalid/v1/chat/completions?token=x")
        case "no-such-model":
            return error(404, "The model `m` does not exist")
        case "overflow":
            return error(400, "maximum context length is 8 tokens", code="context_length_exceeded")
        case "bad-field":
            return error(400, "Unsupported value: 'temperature'")
        case "second-fails" if count == 2:
            return error(400, "second")
    return ok(behaviour, body)


async def half(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "application/json", "Content-Length": "5000"})
    await response.prepare(request)
    await response.write(b'{"id": "x", "choices": [')
    request.transport.abort()  # type: ignore[union-attr]
    return response


async def chat(request: web.Request) -> web.StreamResponse:
    behaviour = request.match_info["behaviour"]
    body = await request.json()
    seen[behaviour] += 1
    bodies.setdefault(behaviour, []).append(body)
    authorizations.setdefault(behaviour, []).append(request.headers.get("Authorization"))
    underway[behaviour] += 1
    most_underway[behaviour] = max(most_underway[behaviour], underway[behaviour])
    try:
        return await behave(behaviour, request, body)
    except asyncio.CancelledError:
        dropped[behaviour] += 1
        raise
    finally:
        underway[behaviour] -= 1


async def stats(_: web.Request) -> web.Response:
    counters = {"seen": seen, "underway": underway, "dropped": dropped, "most_underway": most_underway}
    return web.json_response(counters | {"bodies": bodies, "authorizations": authorizations})


async def main() -> None:
    app = web.Application()
    app.router.add_post("/{behaviour}/v1/chat/completions", chat)
    app.router.add_get("/stats", stats)
    runner = web.AppRunner(app, handler_cancellation=True, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    print(json.dumps(runner.addresses[0][1]), flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
