"""How fast are bodies redacted: clean ones, those of a growing history, and ones that hold a secret?

Bodies are real requests: recorded tau2 episodes as chat completions (``--data``, JSON lines with ``messages``; many ids
and numbers, so a hard case for the filter), and plain prose. Run: ``python bench/redaction.py --data episodes.jsonl``.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import _results
from placing import requests_of
from potstill.record.redact import Redactor
from potstill.trajectories.exchange import Exchange

PROSE = "The traveller asked whether the train would leave on time, and the clerk said that it had never done so. "
SECRET = "sk-" + "aB3dE5fG7hI9jK1lM3nO5pQ7rS9tU1vW3xY5z"


def exchange(body: bytes, episode: int) -> Exchange:
    return Exchange(
        namespace="t", episode_id=str(episode), route="m", dialect="openai-chat", started_at=0.0, request=body
    )


def measured(name: str, work: Callable[[bytes, int], object], bodies: list[tuple[int, bytes]]) -> dict[str, Any]:
    best = float("inf")
    for _ in range(3):
        started = time.process_time()
        for episode, body in bodies:
            work(body, episode)
        best = min(best, time.process_time() - started)
    size = sum(len(body) for _, body in bodies)
    row = {
        "bodies": name,
        "count": len(bodies),
        "mean_bytes": round(size / len(bodies)),
        "mb_per_s": round(size / best / 1e6, 1),
        "us_per_body": round(1e6 * best / len(bodies), 1),
    }
    print(json.dumps(row))
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="tau2 episodes, JSON lines")
    parser.add_argument("--episodes", type=int, default=60)
    options = parser.parse_args()
    with options.data.open(encoding="utf-8") as file:
        recorded = [json.loads(line)["messages"] for line, _ in zip(file, range(options.episodes), strict=False)]
    grown = [(n, one.body) for n, messages in enumerate(recorded) for one in requests_of(messages, streamed=False)]
    prose = json.dumps({"model": "m", "messages": [{"role": "user", "content": PROSE * 300}]}).encode()
    planted = json.dumps({"model": "m", "messages": [{"role": "user", "content": PROSE * 300 + SECRET}]}).encode()
    rows = [
        measured("prose, each alone", lambda body, _: Redactor.body(redactor, body), [(0, prose)] * 300),
        measured("tau2 requests, each alone", lambda body, _: Redactor.body(redactor, body), grown),
        measured(
            "tau2 requests, as histories that grow",
            lambda body, episode: Redactor.exchange(redactor, exchange(body, episode)),
            grown,
        ),
        measured("prose with a key", lambda body, _: Redactor.body(redactor, body), [(0, planted)] * 100),
    ]
    _results.write("redaction", rows, n=len(recorded))


redactor = Redactor()

if __name__ == "__main__":
    main()
