"""Dirt in the data: counted by kind and run, with the first places where it was seen.

What it knows: kinds of trouble and what each means for the figures. What it does not do: mend anything.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from potstill.logs.records import PROBLEMS, Source
from potstill.measure.audit.result import Warned

SHOWN = 3
"""Places that a warning names."""

MEANING = {
    **PROBLEMS,
    "duplicate_episodes": "episode ids that stood there before; the first is counted",
    "differing_duplicates": "duplicates that tell another outcome, other dollars or an error: look which one is right",
    "left_over": "attempts that were counted in another run: what is left of this one is a selection; leave the other "
    "out to see it whole",
    "reused_episode_ids": "episode ids that another run has for other attempts; all are counted",
    "repeated_samples": "the same task and sample number again with other content; all are counted",
    "infrastructure_errors": "attempts that ended in an infrastructure error: not in n and success, their dollars are",
    "broken_run": "more than a tenth of the attempts broke: the cost per episode and the place on the "
    "frontier are flattered",
    "errors_with_success": "attempts with an infrastructure error that say success; they count as errors",
    "errors_without_cost": "infrastructure errors with neither dollars nor tokens; taken as not billed",
    "missing_tokens": "attempts without token counts",
    "calls_without_usage": "answered calls without tokens; what they cost is known only where the log says it",
    "missing_cost": "attempts whose cost is not known; the group's dollars are not known either",
    "unknown_outcomes": "attempts that nobody judged",
    "unknown_price": "models without a price; their cost is known only where the log says it",
    "priced_from_tokens": "attempts without recorded dollars, priced from their tokens",
    "price_mismatch": "recorded dollars that the price table does not give",
    "missing_tasks": "tasks of other runs that this run did not attempt: compare on shared tasks only",
    "different_harness": "runs of one model with different harnesses: compare within one harness only",
    "different_user_model": "runs with different simulated users: compare within one user model only",
    "clock_jumps": "times that cannot be, or that run backwards within an episode",
    "mixed_formats": "rows in another format than the rest of their file",
    "skipped_rows": "rows that gave no record",
    "stitched": "calls that name no episode, put together by what their prompts repeat",
    "single_call_ids": "ids of episodes that have one call each, as proxies make them up: --ignore-ids puts the calls "
    "together by their prompts",
    "repeated_calls": "calls with the id of an earlier call; the first is counted",
}


@dataclass
class _Seen:
    count: int = 0
    noted: int = 0
    """How often; one note may count many."""
    vague: bool = False
    places: list[str] = field(default_factory=list)


class Dirt:
    """Running counts of trouble."""

    def __init__(self) -> None:
        self._seen: dict[tuple[str, str | None], _Seen] = {}

    def note(self, kind: str, run: str | None, where: Source | str | None = None, count: int = 1) -> None:
        """Count trouble of one kind; ``where`` is a place or words about it, of which the first few are kept."""
        seen = self._seen.setdefault((kind, run), _Seen())
        seen.count += count
        seen.noted += 1
        if where is not None and len(seen.places) < SHOWN:
            place = f"{where.file}:{where.line}" if isinstance(where, Source) else where
            if place not in seen.places and not seen.vague:
                seen.places.append(place)

    def take_back(self, kind: str, run: str | None) -> None:
        """One case less: what was missing has come. Which places are left is not known, so none is named."""
        seen = self._seen.get((kind, run))
        if seen is not None:
            seen.count -= 1
            seen.places.clear()
            seen.vague = True
            if seen.count <= 0:
                del self._seen[kind, run]

    def count(self, kind: str, run: str | None) -> int:
        seen = self._seen.get((kind, run))
        return 0 if seen is None else seen.count

    def warnings(self) -> tuple[Warned, ...]:
        """Everything that was noted, in the order of ``MEANING``, then by run."""
        order = {kind: number for number, kind in enumerate(MEANING)}
        keys = sorted(self._seen, key=lambda key: (order[key[0]], key[1] or ""))
        return tuple(self._warned(kind, run) for kind, run in keys)

    def _warned(self, kind: str, run: str | None) -> Warned:
        seen = self._seen[kind, run]
        return Warned(kind=kind, run=run, count=seen.count, detail=f"{MEANING[kind]}{_places(seen.places, seen.noted)}")


def _places(places: Iterable[str], count: int) -> str:
    named = list(places)
    if not named:
        return ""
    more = ", ..." if count > len(named) else ""
    return f" ({', '.join(named)}{more})"
