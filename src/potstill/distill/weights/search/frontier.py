"""What a search found: which sizes and costs are worth their value, as rows of a table. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from potstill.distill.weights.search.trials import WHOLE, Trial


def undominated(costs: Sequence[float], values: Sequence[float]) -> list[bool]:
    """For each: that no other one is as cheap and as good, and better in one of both (Pareto's frontier).

    >>> undominated([1, 2, 3, 3], [0.5, 0.9, 0.9, 0.95])
    [True, True, False, True]
    """
    pairs = list(zip(costs, values, strict=True))
    return [not any(c <= cost and v >= value and (c < cost or v > value) for c, v in pairs) for cost, value in pairs]


def rows_of(trials: Iterable[Trial]) -> list[dict[str, Any]]:
    """A row for each finished trial and width of its weights, the best first.

    ``frontier``: ``bytes`` where nothing smaller is as good, ``cpu_s`` where nothing trained in less time is; both,
    one or none. Fewer bits take no less training, so that what was trained (32 bits) stands for its time.
    """
    found = [(trial, variant) for trial in trials for variant in trial.variants]
    values = [variant.value for _, variant in found]
    by_size = undominated([variant.bytes for _, variant in found], values)
    times = [trial.cpu_s if variant.bits == WHOLE else math.inf for trial, variant in found]
    by_time = [math.isfinite(time) and on for time, on in zip(times, undominated(times, values), strict=True)]
    rows = [
        {
            "trial": trial.number,
            "bits": variant.bits,
            "value": variant.value,
            "parameters": trial.parameters,
            "bytes": variant.bytes,
            "cpu_s": trial.cpu_s,
            "frontier": " ".join(name for name, on in (("bytes", small), ("cpu_s", quick)) if on),
            "recipe": " ".join(f"{name}={_short(value)}" for name, value in trial.point.items()),
        }
        for (trial, variant), small, quick in zip(found, by_size, by_time, strict=True)
    ]
    return sorted(rows, key=lambda row: (-row["value"], row["bytes"], row["trial"]))


def _short(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
