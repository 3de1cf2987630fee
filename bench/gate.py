"""What admitting and settling a request costs: CPU microseconds of the gate, by the limits of the key and its tenant.

A real store on disk; the key is in use, so that no request waits for it. Every 10,000 requests the gate is brought in
step with the store, apart from the measured time.

    python bench/gate.py [50000]
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from pathlib import Path

from _results import write
from potstill.serve.seams import Admission
from potstill.serve.settings import Tenant
from potstill.serve.tenants import keys
from potstill.serve.tenants.gate import TenantGate
from potstill.serve.tenants.key_rows import StoreRows
from potstill.trajectories import Store

MUCH = 10**9
REPEATS = 5
CHUNK = 10_000
CASES: dict[str, tuple[dict[str, int], bool]] = {
    "no limits": ({}, False),
    "a rate on the key": ({"requests_per_minute": MUCH}, False),
    "budgets and rate on the key": (
        {"requests_per_minute": MUCH, "budget_usd_per_day": MUCH, "budget_tokens_per_day": MUCH},
        False,
    ),
    "budgets and rate on key and tenant": (
        {"requests_per_minute": MUCH, "budget_usd_per_day": MUCH, "budget_tokens_per_day": MUCH},
        True,
    ),
}


async def measure(rows: StoreRows, limits: dict[str, int], tenant_too: bool, requests: int) -> tuple[float, float]:
    """CPU microseconds of one admission and of one settling."""
    tenants = [Tenant(name="team", **limits)] if tenant_too else []
    gate = TenantGate(rows, tenants, keys_required=True)
    key, text = keys.create("team", time.time(), **limits)
    rows.put(key)
    admitting = settling = 0.0
    for _ in range(0, requests, CHUNK):
        first = await gate.admit(text, "auto", time.time())
        assert isinstance(first, Admission)
        gate.settle(first, usd=0.0012, tokens=900, at=time.time())
        at = time.time()
        started = time.process_time()
        admissions = [await gate.admit(text, "auto", at) for _ in range(CHUNK)]
        between = time.process_time()
        for admission in admissions:
            assert isinstance(admission, Admission), admission
            gate.settle(admission, usd=0.0012, tokens=900, at=at)
        settling += time.process_time() - between
        admitting += between - started
        await gate.sync()
    await gate.aclose()
    rounds = len(range(0, requests, CHUNK)) * CHUNK
    return admitting / rounds * 1e6, settling / rounds * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("requests", type=int, nargs="?", default=50_000)
    requests = parser.parse_args().requests
    found = []
    with tempfile.TemporaryDirectory() as folder, Store.open(Path(folder) / "gate.db") as store:
        rows = StoreRows(store)
        for case, (limits, tenant_too) in CASES.items():
            times = [asyncio.run(measure(rows, limits, tenant_too, requests)) for _ in range(REPEATS)]
            admit_us, settle_us = (statistics.median(column) for column in zip(*times, strict=True))
            found.append({"case": case, "admit_cpu_us": round(admit_us, 2), "settle_cpu_us": round(settle_us, 2)})
            print(f"{case}: admit {admit_us:.2f} us, settle {settle_us:.2f} us", file=sys.stderr)
    write("gate", found, n=requests, extra={"repeats": REPEATS, "statistic": "median of the repeats' means"})


if __name__ == "__main__":
    main()
