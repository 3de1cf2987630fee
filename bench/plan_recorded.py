"""The planner against what was billed: one model alone on recorded episodes of tau2-bench (retail).

For each agent model: dollars and cache-hit rate that the run recorded, and what the planner makes of nothing but the
length of each episode (calls, first prompt, growth, answers), with caches simulated and without. A simulated cache
never loses an entry before its time; a provider's does, so the simulated bill is a lower bound and the one without
caches an upper one.

    python bench/plan_recorded.py [EPISODES.jsonl.zst]
"""

from __future__ import annotations

import argparse
import io
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import _results
from potstill.measure.prices import PriceTable
from potstill.measure.reconcile import Reconciliation, reconcile
from potstill.measure.whatif import plan
from potstill.measure.workload import Shape, Workload
from potstill.types import Usage

DATE = "2026-11-21"
DATA = Path(os.environ.get("POTSTILL_TEST_DATA") or _results.ROOT.parent / "shared" / "data")


class Recorded:
    """What the episodes of one model say."""

    def __init__(self) -> None:
        self.loads: list[Workload] = []
        self.usd = 0.0
        self.read = self.sent = self.calls = 0
        self.prices = Reconciliation()

    def add(self, row: dict[str, Any], table: PriceTable) -> None:
        shape = Shape()
        for message in row["messages"]:
            if message["role"] == "assistant" and message.get("usage"):
                usage = tokens(message["usage"])
                shape.add(usage)
                self.usd += message["cost"]
                self.read += usage.cache_read_tokens
                self.sent += usage.input_tokens
                self.prices.add(reconcile(usage, row["agent_model"], table, message["cost"]))
        load = shape.workload(Workload(demonstrations_tokens=0))
        if load is not None:
            self.loads.append(load)
            self.calls += shape.calls


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("episodes", nargs="?", type=Path, default=DATA / "tau2_retail" / "episodes.jsonl.zst")
    table = PriceTable.load(date=DATE, prices={})
    models: dict[str, Recorded] = {}
    for row in episodes(parser.parse_args().episodes):
        models.setdefault(row["agent_model"], Recorded()).add(row, table)
    rows = [line(model, found, table) for model, found in sorted(models.items()) if found.loads]
    for row in rows:
        print(row)
    _results.write("plan_recorded", rows, n=sum(row["episodes"] for row in rows), seeds=None, prices_date=DATE)


def line(model: str, found: Recorded, table: PriceTable) -> dict[str, Any]:
    alone = plan(found.loads, teacher=model, student=model, table=table).way("teacher")
    billed = found.usd / len(found.loads)
    return {
        "model": model,
        "episodes": len(found.loads),
        "calls": found.calls,
        "price_agrees": found.prices.agreeing,
        "billed_usd": billed,
        "planned_usd": alone.cost_usd,
        "planned_over_billed": alone.cost_usd / billed,
        "uncached_usd": alone.uncached_cost_usd,
        "uncached_over_billed": alone.uncached_cost_usd / billed,
        "hit_rate_billed": found.read / found.sent,
        "hit_rate_planned": alone.cache_hit_rate,
    }


def tokens(usage: dict[str, int]) -> Usage:
    return Usage(
        input_tokens=usage["in"],
        cache_read_tokens=usage["cached"],
        output_tokens=usage["out"],
        reasoning_tokens=usage["reasoning"],
        cache_reported=True,
    )


def episodes(path: Path) -> Iterator[dict[str, Any]]:
    packed = path.suffix == ".zst"
    content = subprocess.run(["zstd", "-dcq", str(path)], capture_output=True, check=True).stdout if packed else None
    with io.BytesIO(content) if content is not None else path.open("rb") as lines:
        yield from map(json.loads, lines)


if __name__ == "__main__":
    main()
