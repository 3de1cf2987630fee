"""Fitting demonstrations into a budget of tokens.

What it knows: windows can shrink, and the last demonstrations can go. What it does not do: retrieval, tokenizers (a
``TokenCounter`` counts; without one a stated estimate does).
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from potstill.distill.context.config import ContextConfig, Extent
from potstill.distill.context.demonstration import Demonstration
from potstill.distill.context.render import render
from potstill.protocols import TokenCounter

SMALLEST = 1
"""Size to which windows shrink before a demonstration is dropped: one step each side, or the first two steps."""


def fit(
    found: Sequence[Demonstration], config: ContextConfig, counter: TokenCounter, extent: Extent
) -> list[Demonstration]:
    """The largest equal windows with which all fit into ``config.budget_tokens``; else without the last ones.

    The rendered block never exceeds the budget; where not even the first demonstration's matched step fits, none is
    shown.
    """
    if config.budget_tokens is None:
        return list(found)
    for count in range(len(found), 0, -1):
        kept = found[:count]
        smallest = SMALLEST if count > 1 else 0
        largest = max(len(demonstration.shown.steps) for demonstration in kept)
        best = _largest_fit(kept, smallest, largest, config, counter, extent)
        if best is not None:
            return best
    return []


def _largest_fit(
    kept: Sequence[Demonstration],
    low: int,
    high: int,
    config: ContextConfig,
    counter: TokenCounter,
    extent: Extent,
) -> list[Demonstration] | None:
    """Binary search: blocks grow with the size."""
    best: list[Demonstration] | None = None
    while low <= high:
        size = (low + high) // 2
        cut = [_shrunk(demonstration, size, extent) for demonstration in kept]
        text = render([demonstration.shown for demonstration in cut], config.style, config.compact_chars)
        if counter.count(text) <= (config.budget_tokens or 0):
            best, low = cut, size + 1
        else:
            high = size - 1
    return best


def _shrunk(demonstration: Demonstration, size: int, extent: Extent) -> Demonstration:
    """At most ``size`` steps each side of the matched one; from the first step on where episodes are shown whole."""
    ref = demonstration.ref
    if extent is Extent.WINDOW:
        start, stop = max(ref.start, demonstration.matched - size), min(ref.stop, demonstration.matched + size + 1)
    else:
        start, stop = ref.start, min(ref.stop, ref.start + size + 1)
    steps = demonstration.shown.steps[start - ref.start : stop - ref.start]
    return msgspec.structs.replace(
        demonstration,
        ref=msgspec.structs.replace(ref, start=start, stop=stop),
        shown=msgspec.structs.replace(demonstration.shown, start=start, steps=steps),
    )
