"""What the gateway costs: requests a second on one core, CPU a request, added latency, memory, bytes and commits.

    python bench/gateway.py [--seconds 5] [--sizes 1,31] [--no-memory]

The gateway is pinned to one core; client and fake upstream share the other, and what they manage without a gateway is
reported as ``direct``. Bodies differ and grow as histories of agents do, ``size_kb`` on average. Latencies are open
loop: they count from when a request was due, not from when it could be sent. ``gateway_peers.py`` does the same for
other gateways, side by side.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import _results
from _gateway_load import (
    OTHER_CORE,
    ROOT,
    SEED,
    Target,
    cpu_s,
    episodes,
    fake_upstream,
    most_memory,
    open_loop,
    percentiles,
    rss_mb,
    saturate,
)
from _gateways import metrics, potstill, recorded

STREAMS = 200


def measured(size_kb: float, stream: bool, seconds: float, folder: Path) -> list[dict[str, Any]]:
    import uvloop

    bodies = episodes(size_kb, stream)
    common = {"size_kb": size_kb, "stream": stream}
    with fake_upstream() as upstream:
        count, took = uvloop.run(saturate(Target(upstream), bodies, seconds))
        direct = {"gateway": "direct", **common, "requests_per_s": round(count / took)}
        with potstill(upstream, folder) as gateway:
            target, pid, port = gateway.target, gateway.pid, gateway.target.port
            uvloop.run(saturate(target, bodies, 1.0))  # warm: imports, connections, first pages of the store
            begun, before = int(metrics(port)["potstill_recorded_total"]), cpu_s(pid)
            count, took = uvloop.run(saturate(target, bodies, seconds))
            recorded(port, begun + count)
            used = cpu_s(pid) - before
            rate = count / took
            half = rate / 2
            direct |= percentiles(uvloop.run(open_loop(Target(upstream), bodies, half, seconds)))
            through = percentiles(uvloop.run(open_loop(target, bodies, half, seconds)))
            found = recorded(port, begun + count + int(half * seconds))
            total = found["potstill_recorded_total"]
            row = {
                "gateway": gateway.name,
                **common,
                "requests_per_s": round(rate),
                "cpu_us_per_request": round(used / count * 1e6),
                "rate_of_latencies_per_s": round(half),
                **through,
                "added_p50_ms": round(through["first_byte_p50_ms"] - direct["first_byte_p50_ms"], 3),
                "added_p99_ms": round(through["first_byte_p99_ms"] - direct["first_byte_p99_ms"], 3),
                "rss_mb": round(rss_mb(pid), 1),
                "recorded": int(total),
                "dropped": int(found["potstill_dropped_total"]),
                "commits": int(found["potstill_commits_total"]),
            }
        row["stored_bytes_per_request"] = round(gateway.stored_bytes() / total)
    return [direct, row]


def memory(folder: Path) -> dict[str, Any]:
    """Memory while ``STREAMS`` streams are open at a time, each two seconds long."""
    import uvloop

    with fake_upstream(100.0) as upstream, potstill(upstream, folder) as gateway:
        highest = uvloop.run(most_memory(gateway.target, gateway.pid, STREAMS))
    row = {"gateway": gateway.name, "size_kb": 31, "stream": True, "concurrent_streams": STREAMS}
    return {**row, "rss_mb": round(highest, 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--sizes", default="1,31")
    parser.add_argument("--no-memory", action="store_true")
    options = parser.parse_args()
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {OTHER_CORE})
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(dir=ROOT / "data" if (ROOT / "data").is_dir() else None) as folder:
        for size in map(float, options.sizes.split(",")):
            for stream in (False, True):
                rows += measured(size, stream, options.seconds, Path(folder))
                print(rows[-2], rows[-1], sep="\n", file=sys.stderr)
        if not options.no_memory:
            rows.append(memory(Path(folder)))
            print(rows[-1], file=sys.stderr)
    os.sched_setaffinity(0, cores)
    counts = [row["recorded"] for row in rows if "recorded" in row]
    _results.write("gateway", rows, n=min(counts), seeds=[SEED])


if __name__ == "__main__":
    main()
