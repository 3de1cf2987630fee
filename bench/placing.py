"""How many live requests find their episode, with every id removed, and in how many microseconds?

Recorded tau2 episodes (``--data``, JSON lines with ``messages``) are sent as bodies of chat completions, in order of
their times and 50 at a time, and placed as they arrive; each answer is noted before the next request. A request is
right if it lies in the predicted episode that is assigned to its true one (one to one, largest overlaps first). Run:
``python bench/placing.py --data episodes.jsonl``.
"""

from __future__ import annotations

import argparse
import datetime
import json
import random
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import _results
from potstill.record.live import LiveEpisodes

Message = dict[str, Any]
CONCURRENT = 50
SYSTEM = {
    "role": "system",
    "content": "You are an agent of a shop. Follow its policy. " + "Be helpful and exact. " * 100,
}


class Asked(NamedTuple):
    at: float
    body: bytes
    answer: bytes
    streamed: bool


def wire(message: Message) -> Message:
    """A recorded message as chat completions write it."""
    if message["role"] == "tool":
        return {"role": "tool", "tool_call_id": message.get("id"), "content": message.get("content")}
    said: Message = {"role": message["role"], "content": message.get("content")}
    if message.get("tool_calls"):
        said["tool_calls"] = [
            {
                "id": call["id"],
                "type": "function",
                "function": {"name": call["name"], "arguments": json.dumps(call["arguments"])},
            }
            for call in message["tool_calls"]
        ]
    return said


def stream_of(message: Message) -> bytes:
    """The answer as server-sent events, a few characters each."""
    deltas: list[Message] = [{"role": "assistant", "content": ""}]
    text = message.get("content") or ""
    deltas += [{"content": text[n : n + 12]} for n in range(0, len(text), 12)]
    deltas += [{"tool_calls": [{"index": n, **call}]} for n, call in enumerate(message.get("tool_calls") or ())]
    events = [{"id": "c", "model": "m", "choices": [{"index": 0, "delta": delta}]} for delta in deltas]
    events.append({"id": "c", "model": "m", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    return b"".join(b"data: %b\n\n" % json.dumps(event).encode() for event in events) + b"data: [DONE]\n\n"


def requests_of(messages: list[Message], *, streamed: bool) -> Iterator[Asked]:
    """One request for each answer of the assistant that something came before."""
    said: list[Message] = [SYSTEM]
    before = None
    for message in messages:
        at = datetime.datetime.fromisoformat(message["ts"]).timestamp() if message.get("ts") else before
        if message["role"] == "assistant" and before is not None and len(said) > 1:
            answer = wire(message)
            whole = {"id": "c", "model": "m", "choices": [{"index": 0, "message": answer, "finish_reason": "stop"}]}
            body = json.dumps({"model": "m", "messages": said}).encode()
            yield Asked(before, body, stream_of(answer) if streamed else json.dumps(whole).encode(), streamed)
        said = [*said, wire(message)]
        before = at


def by_the_clock(recorded: list[list[Message]], *, streamed: bool) -> Iterator[tuple[int, Asked]]:
    """In the order in which they were made; decoded again for each, so that memory stays small."""
    times = [
        (asked.at, number, step)
        for number, messages in enumerate(recorded)
        for step, asked in enumerate(requests_of(messages, streamed=streamed))
    ]
    open_ones: dict[int, Iterator[Asked]] = {}
    for _, number, _ in sorted(times):
        if number not in open_ones:
            open_ones[number] = requests_of(recorded[number], streamed=streamed)
        yield number, next(open_ones[number])


def interleaved(recorded: list[list[Message]], seed: int, *, streamed: bool) -> Iterator[tuple[int, Asked]]:
    """``CONCURRENT`` episodes at a time, each next request from one of them at random."""
    draw = random.Random(seed)
    order = draw.sample(range(len(recorded)), len(recorded))
    running: list[tuple[int, Iterator[Asked]]] = []
    now = 1_700_000_000.0
    while order or running:
        while order and len(running) < CONCURRENT:
            number = order.pop()
            running.append((number, requests_of(recorded[number], streamed=streamed)))
        picked = draw.randrange(len(running))
        number, asked = running[picked][0], next(running[picked][1], None)
        if asked is None:
            running.pop(picked)
            continue
        now += draw.expovariate(10.0)
        yield number, asked._replace(at=now)


def measured(order: str, calls: Iterator[tuple[int, Asked]]) -> dict[str, Any]:
    live = LiveEpisodes()
    overlaps: Counter[tuple[str, int]] = Counter()
    placing, noting, sizes = [], [], []
    for number, asked in calls:
        started = time.perf_counter()
        placement = live.place("default", {}, "openai-chat", asked.body, asked.at)
        placed = time.perf_counter()
        live.answered("default", placement, "openai-chat", asked.answer, streamed=asked.streamed, now=asked.at)
        noting.append(time.perf_counter() - placed)
        placing.append(placed - started)
        sizes.append(len(asked.body))
        overlaps[placement.episode_id, number] += 1
    large = sorted(seconds for seconds, size in zip(placing, sizes, strict=True) if 28_000 <= size <= 34_000)
    placing.sort()
    return {
        "order": order,
        "right_share": round(right(overlaps) / len(placing), 5),
        "requests": len(placing),
        "episodes": len({number for _, number in overlaps}),
        "episodes_found": len({key for key, _ in overlaps}),
        "placed": dict(live.placed),
        "place_us_p50": round(1e6 * placing[len(placing) // 2], 1),
        "place_us_p99": round(1e6 * placing[len(placing) * 99 // 100], 1),
        "place_us_p50_31kb": round(1e6 * large[len(large) // 2], 1) if large else None,
        "place_us_p99_31kb": round(1e6 * large[len(large) * 99 // 100], 1) if large else None,
        "answered_us_mean": round(1e6 * sum(noting) / len(noting), 1),
        "mean_body_bytes": round(sum(sizes) / len(sizes)),
    }


def right(overlaps: Counter[tuple[str, int]]) -> int:
    used: set[object] = set()
    count = 0
    for (key, number), shared in overlaps.most_common():
        if key not in used and number not in used:
            used |= {key, number}
            count += shared
    return count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="tau2 episodes, JSON lines")
    parser.add_argument("--seeds", type=int, default=2)
    options = parser.parse_args()
    with options.data.open(encoding="utf-8") as file:
        recorded = [json.loads(line)["messages"] for line in file]
    seeds = list(range(options.seeds))
    rows = []
    for streamed in (False, True):
        shape = "streamed" if streamed else "whole"
        runs = [(f"real times, {shape}", by_the_clock(recorded, streamed=streamed))]
        runs += [(f"50 at a time, {shape}", interleaved(recorded, seed, streamed=streamed)) for seed in seeds]
        for order, calls in runs:
            rows.append(measured(order, calls))
            print(json.dumps(rows[-1]))
    _results.write("placing", rows, n=len(recorded), seeds=seeds)


if __name__ == "__main__":
    main()
