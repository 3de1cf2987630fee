"""Time to the first byte of a streamed answer: what the cascade adds to it, by what becomes of the step.

Teacher and student are one fake server that waits a stated time before it answers; the gateway is a process of its own,
the client asks one request after the other, the cases in turn.

    python bench/first_byte.py [100]
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from _results import write

PAIRS_MS = ((0, 0), (200, 100), (200, 400))
"""Milliseconds to the teacher's first event, and to the student's whole answer."""
CONFIG = """
[gateway]
db = "{folder}/gateway.db"
[limits]
drain_s = 1
[upstreams]
far = {{ base_url = "{url}/teacher/v1" }}
near = {{ base_url = "{url}/student/v1", n_shares_prompt = true }}
[models]
big = {{ upstream = "far", model = "big" }}
small = {{ upstream = "near", model = "small" }}
[routes.record]
teacher = "big"
[routes.cascade]
teacher = "big"
student = "small"
mode = "cascade"
rollout = false
[routes.sticky]
teacher = "big"
student = "small"
mode = "cascade"
rollout = false
cascade = {{ mode = "task" }}
[routes.student]
teacher = "big"
student = "small"
mode = "student"
"""
WARM_UP = 5
CASES = (
    ("record", "record", {}),
    ("the student's samples agree", "cascade", {}),
    ("they differ: the teacher answers", "cascade", {"user": "differ"}),
    ("the teacher holds the episode", "sticky", {"user": "differ"}),
    ("only the teacher may be asked", "cascade", {"store": True}),
    ("the student alone (mode student)", "student", {}),
)


# --- the fake ---------------------------------------------------------------------------------------------------------


async def fake(teacher_ms: float, student_ms: float) -> None:
    from aiohttp import web

    async def teacher(request: web.Request) -> web.StreamResponse:
        await request.read()
        await asyncio.sleep(teacher_ms / 1e3)
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        for delta, finish in (({"role": "assistant", "content": "a"}, None), ({}, "stop")):
            choice = {"index": 0, "delta": delta, "finish_reason": finish}
            event = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "big", "choices": [choice]}
            await response.write(b"data: " + json.dumps(event).encode() + b"\n\n")
        await response.write(b"data: [DONE]\n\n")
        return response

    async def student(request: web.Request) -> web.Response:
        asked = await request.json()
        await asyncio.sleep(student_ms / 1e3)
        differ = "differ" in str(asked["messages"])
        texts = [f"answer {number if differ else 0}" for number in range(asked.get("n", 1))]
        choices = [
            {"index": index, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
            for index, text in enumerate(texts)
        ]
        usage = {"prompt_tokens": 9, "completion_tokens": 9, "total_tokens": 18}
        answer = {"id": "c", "object": "chat.completion", "created": 1, "model": "small"}
        return web.json_response({**answer, "choices": choices, "usage": usage})

    app = web.Application()
    app.router.add_post("/teacher/v1/chat/completions", teacher)
    app.router.add_post("/student/v1/chat/completions", student)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.Event().wait()


# --- the client -------------------------------------------------------------------------------------------------------


def body(model: str, more: dict[str, Any]) -> bytes:
    said = {**more}
    word = said.pop("user", "agree")
    return json.dumps(
        {"model": model, "stream": True, "messages": [{"role": "user", "content": word + " words" * 150}], **said}
    ).encode()


class Line:
    """One kept connection that asks for one case. Each request is an episode, but for the held one's."""

    def __init__(self, url: str, path: str, case: str, data: bytes) -> None:
        parts = urlsplit(url)
        self.case, self._data, self._path = case, data, parts.path + path
        self._connection = http.client.HTTPConnection(parts.netloc, timeout=60)
        self.found: list[float] = []

    def ask(self, number: int) -> None:
        """Milliseconds to the first byte of the body."""
        held = "holds" in self.case
        episode = (self.case if held else f"{self.case}-{number}").replace(" ", "-").replace(":", "")
        headers = {"content-type": "application/json", "x-potstill-episode": episode}
        data = later(self._data, number) if held else self._data
        started = time.perf_counter()
        self._connection.request("POST", self._path, data, headers)
        answered = self._connection.getresponse()
        assert answered.read(1), answered.status
        self.found.append((time.perf_counter() - started) * 1e3)
        answered.read()


def later(data: bytes, steps: int) -> bytes:
    """The same episode some steps later."""
    asked = json.loads(data)
    for step in range(steps):
        asked["messages"] += [{"role": "assistant", "content": "a"}, {"role": "user", "content": f"seen {step}"}]
    return json.dumps(asked).encode()


def row(case: str, pair: tuple[int, int], found: list[float], direct: list[float]) -> dict[str, Any]:
    cut = statistics.quantiles(found, n=100)
    base = statistics.quantiles(direct, n=100)
    return {
        "case": case,
        "teacher_first_event_ms": pair[0],
        "student_answer_ms": pair[1],
        "first_byte_p50_ms": round(cut[49], 2),
        "first_byte_p99_ms": round(cut[98], 2),
        "added_p50_ms": round(cut[49] - base[49], 2),
        "added_p99_ms": round(cut[98] - base[98], 2),
    }


def measured(pair: tuple[int, int], count: int) -> list[dict[str, Any]]:
    upstream = subprocess.Popen(
        [sys.executable, __file__, "--fake", *map(str, pair)], stdout=subprocess.PIPE, text=True
    )
    assert upstream.stdout is not None
    url = f"http://127.0.0.1:{upstream.stdout.readline().strip()}"
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "gateway.toml"
        file.write_text(CONFIG.format(folder=folder, url=url))
        command = [sys.executable, "-m", "potstill", "serve", "--config", str(file), "--port", "0"]
        gateway = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        assert gateway.stderr is not None
        try:
            at = next(line for line in gateway.stderr if "listens on" in line).split("listens on ")[1].split(": ")[0]
            lines = [Line(url, "/teacher/v1/chat/completions", "direct to the teacher", body("big", {}))]
            lines += [Line(at, "/v1/chat/completions", case, body(route, more)) for case, route, more in CASES]
            for number in range(count + WARM_UP):
                for line in lines:  # in turn, so that a busy machine slows all of them alike
                    line.ask(number)
            direct = lines[0].found[WARM_UP:]
            return [row(line.case, pair, line.found[WARM_UP:], direct) for line in lines]
        finally:
            gateway.terminate()
            gateway.wait(30)
            upstream.kill()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("requests", type=int, nargs="?", default=100, help="of each case")
    parser.add_argument("--fake", nargs=2, type=float, metavar="MS", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.fake:
        return asyncio.run(fake(*options.fake))
    count = options.requests
    write("first_byte", [one for pair in PAIRS_MS for one in measured(pair, count)], n=count)


if __name__ == "__main__":
    main()
