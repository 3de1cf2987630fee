"""How fast and how large is ``potstill audit --json``, and how do both grow with the log?

For each size a log is made (``audit_logs.py``), read once to warm the disk cache, and audited in a process of its own:
wall time, CPU time and the peak of resident memory, summed over all its processes (sampled, shared pages counted in
each). ``others_load`` is how many processes wanted a core before: wall times hold where it is low. The peer does less,
in the same run on the same file: a loop of ``json.loads`` that adds up ``usage``. Run:
``python bench/audit.py --calls 10000 100000 1000000 --folder /some/disk``.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import _results
import audit_logs

PEER = """
import json, sys
tokens = bad = 0
for line in open(sys.argv[1], "rb"):
    try:
        usage = json.loads(line)["response"]["usage"]
        tokens += usage["prompt_tokens"] + usage["completion_tokens"]
    except (ValueError, KeyError, TypeError):
        bad += 1
print(json.dumps({"tokens": tokens, "bad": bad}))
"""
SAMPLE_S = 0.05


def measured(command: list[str]) -> dict[str, Any]:
    """Run a command; its output, seconds, and bytes at the peak."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    peak = [0]
    over = threading.Event()
    watcher = threading.Thread(target=_watch, args=(process.pid, peak, over))
    watcher.start()
    output, _ = process.communicate()
    seconds = time.perf_counter() - started
    over.set()
    watcher.join()
    if process.returncode != 0:
        raise SystemExit(f"{command[0]} gave {process.returncode}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"output": output, "wall_s": round(seconds, 2), "cpu_s": round(cpu, 2), "peak_mb": round(peak[0] / 1e6)}


def _watch(root: int, peak: list[int], over: threading.Event) -> None:
    while not over.wait(SAMPLE_S):
        peak[0] = max(peak[0], sum(_resident(pid) for pid in _tree(root)))


def _tree(root: int) -> list[int]:
    """A process and all that it started, however deep (Linux)."""
    found = [root]
    for pid in found:
        try:
            for task in os.listdir(f"/proc/{pid}/task"):
                children = Path(f"/proc/{pid}/task/{task}/children").read_text()
                found += [int(child) for child in children.split()]
        except OSError:
            continue
    return found


def _resident(pid: int) -> int:
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError):
        return 0
    return pages * resource.getpagesize()


def warm(path: Path) -> None:
    with path.open("rb", buffering=0) as file:
        while file.read(1 << 24):
            pass


def row(calls: int, path: Path, seed: int, jobs: int) -> dict[str, Any]:
    size = audit_logs.write(path, calls, seed)
    warm(path)
    load = os.getloadavg()[0]
    peer = measured([sys.executable, "-c", PEER, str(path)])
    potstill = str(Path(sys.executable).with_name("potstill"))
    audit = measured([potstill, "audit", str(path), "--json", "--jobs", str(jobs)])
    found = json.loads(audit.pop("output"))
    peer.pop("output")
    return {
        "calls": calls,
        "bytes": size,
        "calls_understood": found["calls"],
        "episodes": found["episodes"],
        **audit,
        "mb_per_s": round(size / 1e6 / audit["wall_s"], 1),
        "us_per_call": round(1e6 * audit["wall_s"] / calls, 1),
        "json_loads_wall_s": peer["wall_s"],
        "json_loads_peak_mb": peer["peak_mb"],
        "others_load": round(load, 1),
        "times_json_loads": round(audit["wall_s"] / peer["wall_s"], 2),
    }


def growth(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """How time and memory grow from each size to the next: exponents of the number of calls (1 is linear)."""
    steps = []
    for small, large in itertools.pairwise(rows):
        ratio = math.log(large["calls"] / small["calls"])
        exponents = {name: round(math.log(large[name] / small[name]) / ratio, 2) for name in ("wall_s", "peak_mb")}
        steps.append({"from": small["calls"], "to": large["calls"]} | exponents)
    return {"growth": steps}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()), help="Room for about 5 kB a call.")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        path = Path(folder) / "calls.jsonl"
        for calls in sorted(options.calls):
            rows.append(row(calls, path, options.seed, options.jobs))
            print(json.dumps(rows[-1]), file=sys.stderr)
            path.unlink()
    _results.write("audit", rows, n=len(rows), seeds=[options.seed], extra=growth(rows))


if __name__ == "__main__":
    main()
