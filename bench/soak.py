"""A day of the gateway in minutes: does it keep its memory, files, threads and queue?

    python bench/soak.py [--requests 86400] [--rate 160] [--warm-up 0.3]

What stands for 24 hours: 86,400 requests, one for each second of the day, sent evenly at ``--rate`` a second. They are
the turns of episodes (1 to 12, each repeating its history) in all three dialects, half of them streams, to an upstream
of the same dialect or of another one; on one route the student answers too (``shadow``). Of the episodes 12 % end with
an upstream's fault (429, 500, half JSON, reset, half a stream) and 6 % with a client that leaves within a stream; a
third are told their outcome. Beside that somebody looks at the dashboard and scrapes the metrics. Time that does not go
faster by sending faster is shortened by the same factor: episodes are idle after ``1800 s / factor`` and folded, and
what is older than 6 h / factor is pruned by another process, as an operator's cron would.

What is not a day: idle time itself, the clock's dates, keys that expire, 24 h of a connection that stays open.

Reported: resident memory each second, and the slope of a straight line through the medians of 20 blocks after the
warm-up, in MiB a day, with its 95 % interval (Student's t); open files, threads, tasks and queue at both ends; what the
client saw; what was recorded. The upstream and the clients run in this process, the gateway in its own.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import aiohttp

import _results
import _soak_upstream

DAY_REQUESTS = 86_400
DAY_S = 86_400.0
ADMIN_KEY = "soak-admin-key-5f1c97ab02e4"
SEED = 11
PATHS = {"chat": "/v1/chat/completions", "responses": "/v1/responses", "messages": "/v1/messages"}
FAULTS = ("@@429", "@@500", "@@json", "@@reset", "@@half")
BLOCKS = 20
T_95 = 2.101
"""Of Student's t with 18 degrees of freedom."""
CONFIG = """
[gateway]
db = "{db}"
[limits]
idle_episode_s = {idle}
[upstreams.chat]
base_url = "http://127.0.0.1:{port}/v1"
retries = 0
[upstreams.messages]
base_url = "http://127.0.0.1:{port}/v1"
dialect = "anthropic"
retries = 0
[models.chat]
upstream = "chat"
model = "gpt-6.1-sol"
[models.messages]
upstream = "messages"
model = "claude-sonnet-5"
[models.small]
upstream = "chat"
model = "small"
[routes."to-chat"]
teacher = "chat"
[routes."to-messages"]
teacher = "messages"
[routes."to-both"]
teacher = "chat"
student = "small"
mode = "shadow"
shadow_share = 0.2
"""


# --- what agents do ---------------------------------------------------------------------------------------------------


class Episode:
    """One agent's task, turn by turn."""

    def __init__(self, number: int, drawn: random.Random) -> None:
        self.name = f"soak-{number}"
        self.dialect = drawn.choice(sorted(PATHS))
        self.model = drawn.choice(("to-chat", "to-messages", "to-both"))
        self.stream = drawn.random() < 0.5
        self.turns = drawn.randint(1, 12)
        self.named = drawn.random() < 0.7
        self.told_outcome = self.named and drawn.random() < 0.45
        ending = drawn.random()
        self.fault = drawn.choice(FAULTS) if ending < 0.12 else ""
        self.leaves = 0.12 <= ending < 0.18
        self._drawn = drawn
        self._history = [self._turn("user", f"Task {number}: {self._words(120)}")]

    def body(self, turn: int) -> bytes:
        """The request of a turn, the whole history in it."""
        last = turn == self.turns - 1
        mark = (self.fault or ("@@slow" if self.leaves else "")) if last else ""
        history = [*self._history, self._turn("user", f"turn {turn} {mark}")] if mark else self._history
        asked: dict[str, Any] = {"model": self.model, "stream": self.stream or self.leaves}
        if self.dialect == "responses":
            return json.dumps({**asked, "input": history}).encode()
        if self.dialect == "messages":
            asked["max_tokens"] = 500
        return json.dumps({**asked, "messages": history}).encode()

    def goes_on(self) -> None:
        self._history.append(self._turn("assistant", self._words(40)))
        self._history.append(self._turn("user", f"Observation: {self._words(80)}"))

    def _words(self, count: int) -> str:
        return " ".join(self._drawn.choices(_soak_upstream.WORDS, k=count)) + f" {self._drawn.random():.6f}"

    def _turn(self, role: str, text: str) -> dict[str, Any]:
        return {"role": role, "content": text}


class Load:
    """Turns at an even rate, whatever the gateway does; ``seen`` counts what came of them."""

    def __init__(self, url: str, rate: float, requests: int) -> None:
        self.url, self.rate, self.requests = url, rate, requests
        self.sent = 0
        self.seen: Counter[str] = Counter()
        self._drawn = random.Random(SEED)
        self._numbers = iter(range(10**9))
        self._begun = time.monotonic()

    async def run(self, session: aiohttp.ClientSession, agents: int) -> None:
        self._begun = time.monotonic()
        await asyncio.gather(*(self._agent(session) for _ in range(agents)))

    async def _agent(self, session: aiohttp.ClientSession) -> None:
        while self.sent < self.requests:
            episode = Episode(next(self._numbers), self._drawn)
            for turn in range(episode.turns):
                due = self._begun + self.sent / self.rate
                self.sent += 1
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                await self._ask(session, episode, turn)
                episode.goes_on()
            if episode.told_outcome:
                await self._outcome(session, episode)

    async def _ask(self, session: aiohttp.ClientSession, episode: Episode, turn: int) -> None:
        headers = {"content-type": "application/json"}
        if episode.named:
            headers["x-potstill-episode"] = episode.name
        leaves = episode.leaves and turn == episode.turns - 1
        try:
            async with session.post(
                self.url + PATHS[episode.dialect], data=episode.body(turn), headers=headers
            ) as told:
                if leaves:
                    await told.content.readany()
                    self.seen["left"] += 1
                    told.close()
                    return
                body = await told.read()
                broken = b'"error"' in body[-600:] and told.status == 200
                self.seen["error event" if broken else str(told.status)] += 1
        except aiohttp.ClientError as error:
            self.seen[type(error).__name__] += 1

    async def _outcome(self, session: aiohttp.ClientSession, episode: Episode) -> None:
        url = f"{self.url}/v1/episodes/{episode.name}/outcome"
        async with session.post(url, json={"success": not episode.fault}) as told:
            self.seen[f"outcome {told.status}"] += 1


async def looks(session: aiohttp.ClientSession, url: str) -> None:
    """Somebody who has the dashboard open."""
    pages = ("figures", "figures/episodes", "episodes?limit=50", "tenants", "status", "live?wait_s=1")
    while True:
        for page in pages:
            headers = {"authorization": f"Bearer {ADMIN_KEY}"}
            async with session.get(f"{url}/v1/potstill/{page}", headers=headers) as told:
                await told.read()
            await asyncio.sleep(1.0)


def prune(db: Path, older_s: float) -> None:
    """As an operator's cron does, in a process of its own."""
    code = (
        "import sys, time; from potstill.trajectories.store import Store\n"
        "with Store.open(sys.argv[1]) as store: store.prune(time.time() - float(sys.argv[2]))"
    )
    subprocess.run([sys.executable, "-c", code, str(db), str(older_s)], check=False)


async def prunes(db: Path, older_s: float) -> None:
    while True:
        await asyncio.sleep(older_s / 4)
        await asyncio.to_thread(prune, db, older_s)


# --- what is watched --------------------------------------------------------------------------------------------------


async def samples(session: aiohttp.ClientSession, url: str, pid: int, db: Path, rows: list[dict[str, float]]) -> None:
    """A row each second."""
    begun = time.monotonic()
    while True:
        async with session.get(f"{url}/metrics") as page:
            rows.append({"at_s": time.monotonic() - begun, **watched(pid, await page.text(), db)})
        await asyncio.sleep(1.0)


def watched(pid: int, metrics: str, db: Path) -> dict[str, float]:
    status = Path(f"/proc/{pid}/status").read_text()
    told = dict(re.findall(r"^potstill_(\w+) ([\d.]+)$", metrics, re.MULTILINE))
    return {
        "rss_mib": _field(status, "VmRSS") / 1024,
        "threads": _field(status, "Threads"),
        "files": len(os.listdir(f"/proc/{pid}/fd")),
        "disk_mib": sum(one.stat().st_size for one in db.parent.glob(db.name + "*")) / 2**20,
        **{name: float(told.get(name, 0)) for name in GAUGES},
    }


GAUGES = (
    "inflight",
    "tasks",
    "queue_exchanges",
    "queue_bytes",
    "recorded_total",
    "dropped_total",
    "record_failures_total",
)


def _field(status: str, name: str) -> int:
    found = re.search(rf"^{name}:\s+(\d+)", status, re.MULTILINE)
    assert found is not None
    return int(found[1])


def slope(rows: list[dict[str, float]], name: str, per_s: float) -> tuple[float, float]:
    """Of a straight line through the medians of blocks, each ``per_s`` seconds: estimate, half of its 95 % interval.

    Samples that follow each other are much alike; the medians of blocks are nearly independent.
    """
    size = len(rows) // BLOCKS
    blocks = [rows[number * size : (number + 1) * size] for number in range(BLOCKS)]
    x = [statistics.median(row["at_s"] for row in block) / per_s for block in blocks]
    y = [statistics.median(row[name] for row in block) for block in blocks]
    mean_x, mean_y = statistics.fmean(x), statistics.fmean(y)
    spread = sum((one - mean_x) ** 2 for one in x)
    estimate = sum((one - mean_x) * (other - mean_y) for one, other in zip(x, y, strict=True)) / spread
    left = sum((other - mean_y - estimate * (one - mean_x)) ** 2 for one, other in zip(x, y, strict=True))
    return estimate, T_95 * (left / (BLOCKS - 2) / spread) ** 0.5


# --- the run ----------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def gateway(folder: Path, port: int, factor: float) -> Any:
    """The command that users type; its stderr goes to a file."""
    config, db = folder / "soak.toml", folder / "soak.db"
    config.write_text(CONFIG.format(db=db, port=port, idle=max(2.0, 1800 / factor)))
    with (folder / "stderr").open("w") as stderr:
        command = [sys.executable, "-m", "potstill", "serve", "--config", str(config), "--port", "0"]
        process = subprocess.Popen(command, stderr=stderr, env={**os.environ, "POTSTILL_ADMIN_KEY": ADMIN_KEY})
    try:
        while not (found := re.search(r"listens on (http://\S+?):? ", (folder / "stderr").read_text())):
            if process.poll() is not None:
                raise SystemExit((folder / "stderr").read_text())
            time.sleep(0.1)
        yield process.pid, found[1], db
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


async def soak(requests: int, rate: float, folder: Path) -> tuple[list[dict[str, float]], Counter[str], float]:
    factor = rate * DAY_S / DAY_REQUESTS
    server, port = await _soak_upstream.serve()
    rows: list[dict[str, float]] = []
    with gateway(folder, port, factor) as (pid, url, db):
        limits = aiohttp.ClientTimeout(total=60)
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=limits) as session:
            load = Load(url, rate, requests)
            beside = [
                asyncio.create_task(samples(session, url, pid, db, rows)),
                asyncio.create_task(looks(session, url)),
                asyncio.create_task(prunes(db, 6 * 3600 / factor)),
            ]
            begun = time.monotonic()
            await load.run(session, agents=32)
            took = time.monotonic() - begun
            await asyncio.sleep(5.0)
            for task in beside:
                task.cancel()
            ends = await asyncio.gather(*beside, return_exceptions=True)
            for end in ends:
                if not isinstance(end, asyncio.CancelledError) and isinstance(end, BaseException):
                    raise end
    server.close()
    return rows, load.seen, took


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=DAY_REQUESTS)
    parser.add_argument("--rate", type=float, default=160.0, help="requests a second")
    parser.add_argument("--warm-up", type=float, default=0.3, help="share of the run that the slope leaves out")
    parser.add_argument("--trial", action="store_true", help="print, write no result")
    options = parser.parse_args()
    import uvloop

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows, seen, took = uvloop.run(soak(options.requests, options.rate, folder))
        said = (folder / "stderr").read_text()
    report(options, rows, seen, took, said)


def report(
    options: argparse.Namespace, rows: list[dict[str, float]], seen: Counter[str], took: float, said: str
) -> None:
    asked = sum(number for name, number in seen.items() if not name.startswith("outcome"))
    kept = [row for row in rows if row["at_s"] > options.warm_up * took and row["at_s"] <= took]
    day_s = took * DAY_REQUESTS / asked
    mib, half = slope(kept, "rss_mib", day_s)
    first, last = kept[0], rows[-1]
    row = {
        "requests": asked,
        "took_s": round(took, 1),
        "requests_per_s": round(asked / took, 1),
        "rss_mib_after_warm_up": round(first["rss_mib"], 1),
        "rss_mib_at_end": round(last["rss_mib"], 1),
        "rss_mib_most": round(max(one["rss_mib"] for one in rows), 1),
        "rss_mib_per_day": round(mib, 2),
        "rss_mib_per_day_ci": [round(mib - half, 2), round(mib + half, 2)],
        **{f"{name}_after_warm_up": int(first[name]) for name in ("files", "threads", "tasks")},
        **{f"{name}_at_end": int(last[name]) for name in ("files", "threads", "tasks", "inflight", "queue_exchanges")},
        "queue_bytes_most": int(max(one["queue_bytes"] for one in rows)),
        "disk_mib_most": round(max(one["disk_mib"] for one in rows), 1),
        "recorded": int(last["recorded_total"]),
        "dropped": int(last["dropped_total"]),
        "record_failures": int(last["record_failures_total"]),
        "tracebacks": said.count("Traceback"),
    }
    print(json.dumps(row, indent=1), dict(sorted(seen.items())), said[-3000:] if row["tracebacks"] else "", sep="\n")
    if not options.trial:
        course = [{"at_s": round(one["at_s"]), "rss_mib": round(one["rss_mib"], 1)} for one in rows[:: len(rows) // 60]]
        _results.write(
            "soak", [row], n=asked, seeds=[SEED], extra={"seen": dict(sorted(seen.items())), "course": course}
        )


if __name__ == "__main__":
    main()
