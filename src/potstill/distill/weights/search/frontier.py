"""What a search found: which sizes and costs are worth their value, as rows of a table. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from potstill.distill.weights.search.trials import WHOLE, Trial, Variant


def undominated(costs: Sequence[float], values: Sequence[float]) -> list[bool]:
    """For each: that no other one is as cheap and as good, and better in one of both (Pareto's frontier).

    >>> undominated([1, 2, 3, 3], [0.5, 0.9, 0.9, 0.95])
    [True, True, False, True]
    """
    pairs = list(zip(costs, values, strict=True))
    return [not any(c <= cost and v >= value and (c < cost or v > value) for c, v in pairs) for cost, value in pairs]


def rows_of(trials: Iterable[Trial]) -> list[dict[str, Any]]:
    """A row for each finished trial and width of its weights, the best first.

    ``frontier``: ``bytes`` where nothing smaller is as good, ``cpu_s`` where nothing trained in less time is,
    ``labels`` where nothing that learnt fewer of them is; any of them or none. Fewer bits take no less training and no
    fewer labels, so that 32 bits, pruned or not, stand for their time and labels.
    """
    found = [(trial, variant) for trial in trials for variant in trial.variants]
    values = [variant.value for _, variant in found]
    whole = [variant.bits == WHOLE for _, variant in found]
    costs = {
        "bytes": [float(variant.bytes) for _, variant in found],
        "cpu_s": [
            trial.cpu_s + variant.cpu_s if stands else math.inf
            for (trial, variant), stands in zip(found, whole, strict=True)
        ],
        "labels": [trial.labels if stands else math.inf for (trial, _), stands in zip(found, whole, strict=True)],
    }
    on = {name: _on(some, values) for name, some in costs.items()}
    rows = [row_of(*one) | {"frontier": " ".join(name for name in on if on[name][at])} for at, one in enumerate(found)]
    return sorted(rows, key=lambda row: (-row["value"], row["bytes"], row["trial"]))


def row_of(trial: Trial, variant: Variant) -> dict[str, Any]:
    """What a table has of a trial's weights, whole, pruned or in fewer bits."""
    return {
        "trial": trial.number,
        "bits": variant.bits,
        "pruned": variant.pruned,
        "value": variant.value,
        "parameters": variant.parameters,
        "bytes": variant.bytes,
        "labels": trial.labels,
        "cpu_s": trial.cpu_s + variant.cpu_s,
        "frontier": "",
        "recipe": " ".join(f"{name}={_short(value)}" for name, value in trial.point.items()),
    }


def _on(costs: Sequence[float], values: Sequence[float]) -> list[bool]:
    return [math.isfinite(cost) and on for cost, on in zip(costs, undominated(costs, values), strict=True)]


def _short(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
