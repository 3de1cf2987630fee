"""What learning costs: calls to models, added up by role and model.

What it knows: tokens as they were reported, and that an answer is kept before anything is done with it. What it does
not do: prices (a function comes in), guess: what has no price or no tokens is counted apart, never as zero.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterable, Sequence
from enum import StrEnum

from potstill.distill.playbook.learn.contract import Price
from potstill.distill.playbook.learn.together import finished
from potstill.types import Call, Struct, Trajectory


class Part(StrEnum):
    """For what a model was called."""

    GENERATOR = "generator"
    """Episodes that were learnt from, also those that were played again with a reflection."""
    VALIDATION = "validation"
    REFLECTOR = "reflector"
    CURATOR = "curator"


class Spent(Struct, frozen=True, kw_only=True):
    """Of one part on one model. Tokens of calls that reported them."""

    part: Part
    model: str
    calls: int = 0
    input_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    output_tokens: int = 0
    without_tokens: int = 0
    """Calls that reported none."""
    cost_usd: float = 0.0
    """Of the calls whose price is known."""
    without_price: int = 0


Keep = Callable[[tuple[Spent, ...]], None]
"""Makes durable what was spent; blocks. One call at a time, from any thread."""


class Bill:
    """Collects calls while something is done. ``price``: dollars of a call; None: not known. ``keep``: where calls go
    that are not to be lost with a step that is broken off."""

    def __init__(self, price: Price, keep: Keep | None = None) -> None:
        self._price = price
        self._keep = keep
        self._keeping = threading.Lock()
        self._lock = threading.Lock()
        self._calls: list[tuple[Part, Call]] = []
        self._episodes: dict[str, tuple[Part, Trajectory]] = {}

    def add(self, part: Part, calls: Iterable[Call]) -> None:
        with self._lock:
            self._calls.extend((part, call) for call in calls)

    async def paid(self, part: Part, calls: Sequence[Call]) -> None:
        """Add calls that were answered; they are kept when this returns, and also where it is cancelled."""
        self.add(part, calls)
        if calls and self._keep is not None:
            await finished(self.keep)

    def keep(self) -> None:
        """Keep the calls up to now, which are on the bill elsewhere then; episodes are still to be counted. Blocks."""
        if self._keep is None:
            return
        with self._keeping:
            with self._lock:
                calls, self._calls = self._calls, []
            if not calls:
                return
            try:
                self._keep(added(_spent(part, call, self._price(call)) for part, call in calls))
            except BaseException:
                with self._lock:
                    self._calls[:0] = calls
                raise

    def add_episode(self, part: Part, trajectory: Trajectory) -> None:
        """One that is in the store."""
        self._episodes[trajectory.id] = (part, trajectory)

    def total(self) -> tuple[Spent, ...]:
        """What was collected, added up."""
        calls = list(self._calls)
        for part, trajectory in self._episodes.values():
            calls += [(part, call) for step in trajectory.steps for call in step.calls]
        return added(_spent(part, call, self._price(call)) for part, call in calls)

    def clear(self) -> None:
        """Begin anew: what was collected is kept elsewhere."""
        self._calls, self._episodes = [], {}


def _spent(part: Part, call: Call, cost_usd: float | None) -> Spent:
    usage = call.usage
    return Spent(
        part=part,
        model=call.model,
        calls=1,
        input_tokens=usage.input_tokens if usage else 0,
        cache_read_tokens=usage.cache_read_tokens if usage else 0,
        cache_write_tokens=usage.cache_write_tokens if usage else 0,
        output_tokens=usage.output_tokens if usage else 0,
        without_tokens=int(usage is None),
        cost_usd=cost_usd or 0.0,
        without_price=int(cost_usd is None),
    )


def added(spent: Iterable[Spent]) -> tuple[Spent, ...]:
    """One for each part and model, in that order."""
    groups: dict[tuple[str, str], list[Spent]] = {}
    for one in spent:
        groups.setdefault((one.part, one.model), []).append(one)
    return tuple(_sum(groups[key]) for key in sorted(groups))


def _sum(several: Sequence[Spent]) -> Spent:
    counts = [field for field in Spent.__struct_fields__ if field not in ("part", "model", "cost_usd")]
    sums = {field: sum(getattr(one, field) for one in several) for field in counts}
    return Spent(part=several[0].part, model=several[0].model, cost_usd=cost_usd(several), **sums)


def cost_usd(spent: Iterable[Spent]) -> float:
    """Of what has a price; the same in whatever order it was spent."""
    return math.fsum(one.cost_usd for one in spent)
