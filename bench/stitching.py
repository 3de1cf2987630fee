"""How many calls does the stitcher put into the right episode, with every id removed?

Recorded tau2 episodes (``--data``, JSON lines with ``messages``) are taken apart into single calls without run and
session, brought into several orders in time, and stitched. A call is right if it lies in the predicted episode that is
assigned to its true one: one to one, largest overlaps first (a lower bound of the best assignment). Run:
``python bench/stitching.py --data episodes.jsonl``.
"""

from __future__ import annotations

import argparse
import datetime
import json
import random
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import _results
from potstill.logs.conversation import Thread, told
from potstill.logs.records import LogCall
from potstill.record.stitch import Stitcher

Message = dict[str, Any]
Change = Callable[[Message], Message]
Labelled = tuple[int, LogCall]
CONCURRENT = 50


def episodes(path: Path) -> list[list[Message]]:
    with path.open(encoding="utf-8") as file:
        rows = [json.loads(line)["messages"] for line in file]
    return [messages for messages in rows if any(m["role"] == "assistant" for m in messages)]


def as_it_is(message: Message) -> Message:
    return message


def without_ids(message: Message) -> Message:
    """The client throws the ids of tool calls away: equal episodes look more alike."""
    calls = [{key: value for key, value in call.items() if key != "id"} for call in message.get("tool_calls") or ()]
    changed = {key: value for key, value in message.items() if key not in ("id", "tool_calls")}
    return changed | ({"tool_calls": calls} if calls else {})


def reasoning_dropped(message: Message) -> Message:
    """The client puts back what was called, and not what was said beside it."""
    return {**message, "content": None} if message.get("tool_calls") else message


def reserialised(message: Message) -> Message:
    """The client writes every answer anew: white space folded, a full stop cut, ids of its own."""
    if message["role"] == "user":
        return message
    text = re.sub(r"\s+", " ", message.get("content") or "").rstrip(".") if message["role"] == "assistant" else None
    changed = without_ids(message)
    return changed if text is None else {**changed, "content": text}


def calls_of(messages: list[Message], put_back: Change, answered: Change = as_it_is) -> Iterator[LogCall]:
    """One call for each answer of the assistant but a canned greeting. ``put_back`` is how the client repeats it."""
    thread, before = Thread(), None
    for message in messages:
        at = datetime.datetime.fromisoformat(message["ts"]).timestamp() if message.get("ts") else None
        if message["role"] == "assistant" and len(thread):
            latency = max(0.0, at - before) if at is not None and before is not None else None
            yield LogCall(model="m", started_at=before, latency_s=latency, **thread.call(answered(message))._asdict())
        thread.add(put_back(message))
        before = at if at is not None else before


def truncated(messages: list[Message], keep: int = 6) -> Iterator[LogCall]:
    """A client that keeps the first two messages and the last ones."""
    window: list[Message] = []
    before = None
    for message in messages:
        at = datetime.datetime.fromisoformat(message["ts"]).timestamp() if message.get("ts") else None
        if message["role"] == "assistant" and window:
            prompt = window if len(window) <= keep + 2 else window[:2] + window[-keep:]
            latency = max(0.0, at - before) if at is not None and before is not None else None
            yield LogCall(model="m", started_at=before, latency_s=latency, **told(prompt, message)._asdict())
        window.append(message)
        before = at if at is not None else before


def by_the_clock(per_episode: list[list[LogCall]]) -> list[Labelled]:
    """The order in which the calls were made; episodes without times are left out."""
    timed = [(n, call) for n, calls in enumerate(per_episode) for call in calls if call.started_at is not None]
    return sorted(timed, key=lambda pair: pair[1].started_at or 0.0)


def interleaved(per_episode: list[list[LogCall]], seed: int, *, clocks: bool) -> list[Labelled]:
    """``CONCURRENT`` episodes at a time, each next call from one of them at random; times are made up or removed."""
    import msgspec

    draw = random.Random(seed)
    order = draw.sample(range(len(per_episode)), len(per_episode))
    running: list[tuple[int, Iterator[LogCall]]] = []
    out: list[Labelled] = []
    now = 1_700_000_000.0
    while order or running:
        while order and len(running) < CONCURRENT:
            number = order.pop()
            running.append((number, iter(per_episode[number])))
        picked = draw.randrange(len(running))
        number, calls = running[picked]
        call = next(calls, None)
        if call is None:
            running.pop(picked)
            continue
        now += draw.expovariate(10.0)
        times = {"started_at": now, "latency_s": 0.0} if clocks else {"started_at": None, "latency_s": None}
        out.append((number, msgspec.structs.replace(call, **times)))
    return out


def lossy(calls: list[Labelled], share: float, seed: int) -> list[Labelled]:
    draw = random.Random(seed)
    return [pair for pair in calls if draw.random() >= share]


def score(calls: list[Labelled]) -> tuple[float, Stitcher, float]:
    """Share of calls in the right episode, the stitcher, and seconds."""
    stitcher = Stitcher()
    started = time.process_time()
    keys = [stitcher.episode_of(call) for _, call in calls]
    seconds = time.process_time() - started
    overlaps = Counter((key, number) for key, (number, _) in zip(keys, calls, strict=True))
    used: set[object] = set()
    right = 0
    for (key, number), count in overlaps.most_common():
        if key not in used and number not in used:
            used |= {key, number}
            right += count
    return right / len(calls), stitcher, seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="tau2 episodes, JSON lines")
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    recorded = episodes(options.data)
    variants: dict[str, list[list[LogCall]]] = {
        "clean": [list(calls_of(m, as_it_is)) for m in recorded],
        "no ids of tool calls": [list(calls_of(m, without_ids, without_ids)) for m in recorded],
        "client drops text beside tool calls": [list(calls_of(m, reasoning_dropped)) for m in recorded],
        "client writes answers anew": [list(calls_of(m, reserialised)) for m in recorded],
        "client keeps 8 messages": [list(truncated(m)) for m in recorded],
    }
    rows = []
    seeds = list(range(options.seeds))
    for variant, per_episode in variants.items():
        for lost in (0.0, 0.05):
            orders = {"real times": [by_the_clock(per_episode)]}
            orders["50 at a time"] = [interleaved(per_episode, seed, clocks=True) for seed in seeds]
            orders["50 at a time, no clock"] = [interleaved(per_episode, seed, clocks=False) for seed in seeds]
            for order, runs in orders.items():
                rows.append(
                    row(variant, order, lost, [lossy(run, lost, n) if lost else run for n, run in enumerate(runs)])
                )
                print(json.dumps(rows[-1]))
    _results.write("stitching", rows, n=len(recorded), seeds=seeds)


def row(variant: str, order: str, lost: float, runs: list[list[Labelled]]) -> dict[str, Any]:
    scored = [score(run) for run in runs]
    shares = [share for share, _, _ in scored]
    placed = sum((stitcher.placed for _, stitcher, _ in scored), Counter())
    calls = sum(len(run) for run in runs)
    return {
        "variant": variant,
        "order": order,
        "calls_lost": lost,
        "right_share": round(sum(shares) / len(shares), 5),
        "right_share_lowest": round(min(shares), 5),
        "calls": calls,
        "episodes": sum(len({number for number, _ in run}) for run in runs),
        "episodes_found": sum(stitcher.stitched for _, stitcher, _ in scored),
        "placed": {reason.value: count for reason, count in placed.items()},
        "us_per_call": round(1e6 * sum(seconds for _, _, seconds in scored) / calls, 1),
    }


if __name__ == "__main__":
    main()
