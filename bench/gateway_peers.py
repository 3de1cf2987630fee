"""Gateways side by side in one run: potstill in record mode, LiteLLM's proxy, TensorZero's embedded gateway, and none.

    python bench/gateway_peers.py --venvs FOLDER [--seconds 3] [--repeats 3] [--sizes 1,31]

``FOLDER`` keeps the peers' virtual environments (made at the first run, some 900 MB). One gateway at a time runs, on
one core; client and fake upstream share the other, and what they manage without a gateway is ``direct``, their ceiling.
Bodies differ and grow as histories of agents do, ``size_kb`` on average. Capacity is what 32 connections that never
rest get; latencies are open loop at half of it: they count from when a request was due. ``added`` is over direct at the
same rate. Repeats go through all gateways in turn; each figure is the median of the repeats.

potstill records every request with its answer to disk. LiteLLM runs without a database and TensorZero without
observability (it needs ClickHouse or Postgres): these two store nothing. TensorZero reads and writes anew every
message, potstill and LiteLLM do not or do not all: what a gateway is for differs, what it costs is what is measured.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import sys
import tempfile
from collections.abc import Iterator, Sequence
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
from _gateways import LITELLM, TENSORZERO, Running, environment, litellm, metrics, potstill, recorded, tensorzero

STREAMS = 200
FEWEST = 100
"""Requests behind a latency: slow gateways are given longer than ``--seconds`` for these."""
LONGEST_S = 8.0
OURS = "potstill"


@contextlib.contextmanager
def gateways(venvs: Path, upstream: int, folder: Path) -> Iterator[list[Running]]:
    """All of them, none awake."""
    with contextlib.ExitStack() as stack:
        folders = [folder / name for name in ("potstill", "litellm", "tensorzero")]
        for each in folders:
            each.mkdir(parents=True)
        started = [
            stack.enter_context(potstill(upstream, folders[0])),
            stack.enter_context(litellm(environment(venvs, "litellm", LITELLM, "[proxy]"), upstream, folders[1])),
            stack.enter_context(tensorzero(environment(venvs, "tensorzero", TENSORZERO), upstream, folders[2])),
        ]
        for one in started:
            with one.awake():
                _run(saturate(one.target, episodes(1, False), 2.0))  # imports, connections, first pages of the store
                _run(saturate(one.target, episodes(1, True), 2.0))
        yield started


def _run(work: Any) -> Any:
    import uvloop

    return uvloop.run(work)


# --- one repeat -------------------------------------------------------------------------------------------------------


def direct(upstream: int, size_kb: float, stream: bool, seconds: float) -> dict[str, Any]:
    count, took = _run(saturate(Target(upstream), episodes(size_kb, stream), seconds))
    return {"gateway": "direct", "size_kb": size_kb, "stream": stream, "requests_per_s": count / took}


def measured(one: Running, upstream: int, size_kb: float, stream: bool, seconds: float) -> dict[str, Any]:
    """Capacity, CPU, and what is added at half of the capacity."""
    bodies, errors = episodes(size_kb, stream), list[str]()
    with one.awake():
        before, stored, written = cpu_s(one.pid), one.stored_bytes(), _counters(one, 0)
        count, took = _run(saturate(one.target, bodies, seconds, errors))
        after = _counters(one, count + written.get("recorded", 0))
        used = cpu_s(one.pid) - before
        half = count / took / 2
        longer = min(LONGEST_S, max(seconds, FEWEST / half))
        times = _run(open_loop(one.target, bodies, half, longer, errors))
        rss = rss_mb(one.pid)
    row = {
        "gateway": one.name,
        "size_kb": size_kb,
        "stream": stream,
        "requests_per_s": count / took,
        "cpu_us_per_request": used / count * 1e6,
        "rate_of_latencies_per_s": half,
        "latencies": len(times),
        "errors": len(errors),
        "rss_mb": rss,
        **percentiles(times),
    }
    for key, value in after.items():
        row[key] = value - written[key]
    if after:
        row["stored_bytes_per_request"] = (one.stored_bytes() - stored) / (count + len(times))
    without = percentiles(_run(open_loop(Target(upstream), bodies, half, min(seconds, longer))))
    for cut in ("p50", "p99"):
        row[f"added_{cut}_ms"] = row[f"first_byte_{cut}_ms"] - without[f"first_byte_{cut}_ms"]
    return row


def _counters(one: Running, wanted: float) -> dict[str, float]:
    """What potstill says it recorded, once that is at least ``wanted``."""
    if not one.name.startswith(OURS):
        return {}
    found = recorded(one.target.port, int(wanted)) if wanted else metrics(one.target.port)
    return {name: found[f"potstill_{name}_total"] for name in ("recorded", "dropped", "commits")}


def memory(venvs: Path, folder: Path) -> list[dict[str, Any]]:
    """Each while ``STREAMS`` streams are open at a time, each two seconds long."""
    rows = []
    with fake_upstream(100.0) as upstream, gateways(venvs, upstream, folder) as started:
        for one in started:
            with one.awake():
                highest = _run(most_memory(one.target, one.pid, STREAMS))
            rows.append({"gateway": one.name, "size_kb": 31.0, "concurrent_streams": STREAMS, "rss_mb": highest})
            print(rows[-1], file=sys.stderr)
    return rows


# --- all --------------------------------------------------------------------------------------------------------------


def repeated(options: argparse.Namespace, sizes: Sequence[float], folder: Path) -> list[dict[str, Any]]:
    """One row a repeat, gateway, size and kind of answer."""
    rows = []
    with fake_upstream() as upstream, gateways(options.venvs, upstream, folder) as started:
        for repeat in range(options.repeats):
            for size in sizes:
                for stream in (False, True):
                    found = [direct(upstream, size, stream, options.seconds)]
                    found += [measured(one, upstream, size, stream, options.seconds) for one in started]
                    for row in found:
                        print(repeat, {key: _short(value) for key, value in row.items()}, file=sys.stderr)
                    rows += found
    return rows


def medians(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row for each gateway, size and kind of answer, with how many times another's requests a core it serves."""
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["size_kb"], row["stream"], row["gateway"]), []).append(row)
    found = []
    for (size, stream, name), group in groups.items():
        numbers = {key for key, value in group[0].items() if key not in ("gateway", "size_kb", "stream")}
        row = {"gateway": name, "size_kb": size, "stream": stream, "repeats": len(group)}
        row |= {key: _short(statistics.median(one[key] for one in group)) for key in group[0] if key in numbers}
        if name.startswith(OURS):
            row["dropped"] = int(sum(one["dropped"] for one in group))
        found.append(row)
    for row in found:
        ours = next(
            one
            for one in found
            if one["gateway"].startswith(OURS) and (one["size_kb"], one["stream"]) == (row["size_kb"], row["stream"])
        )
        if "cpu_us_per_request" in row:
            row["times_potstill_cpu"] = _short(row["cpu_us_per_request"] / ours["cpu_us_per_request"])
            row["requests_per_s_of_potstill"] = _short(ours["requests_per_s"] / row["requests_per_s"])
    return found


def _short(value: Any) -> Any:
    return float(f"{value:.4g}") if isinstance(value, float) else value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--venvs", type=Path, default=Path.home() / ".cache" / "potstill-bench", help="the peers' home")
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--sizes", default="1,31")
    parser.add_argument("--prepare", action="store_true", help="only make the virtual environments")
    options = parser.parse_args()
    options.venvs.mkdir(parents=True, exist_ok=True)
    environment(options.venvs, "litellm", LITELLM, "[proxy]")
    environment(options.venvs, "tensorzero", TENSORZERO)
    if options.prepare:
        return
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {OTHER_CORE})
    base = ROOT / "data" if (ROOT / "data").is_dir() else None
    with tempfile.TemporaryDirectory(dir=base) as folder:
        rows = repeated(options, [float(size) for size in options.sizes.split(",")], Path(folder) / "load")
        streams = memory(options.venvs, Path(folder) / "memory")
    os.sched_setaffinity(0, cores)
    streams = [{key: _short(value) for key, value in row.items()} for row in streams]
    repeats = [{key: _short(value) for key, value in row.items()} for row in rows]
    extra = {"streams": streams, "repeats": repeats, "versions": {"litellm": LITELLM, "tensorzero": TENSORZERO}}
    _results.write("gateway_peers", medians(rows), n=options.repeats, seeds=[SEED], extra=extra)


if __name__ == "__main__":
    main()
