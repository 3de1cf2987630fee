"""What a reader must know before believing a measurement, as sentences.

What it knows: the rows and how they were measured. What it does not do: compute or print.
"""

from __future__ import annotations

from collections.abc import Iterable

from potstill.measure.measurement import ArmSummary, Options


def notes(
    rows: list[ArmSummary], options: Options, demonstrations_known: bool, pooled: Iterable[str] = ()
) -> tuple[str, ...]:
    """What was pooled, broke, was priced as something else, was simulated, or is unknown; each once."""
    found = [*pooled]
    broken = [f"{row.errors} of {row.n} in '{row.arm}'" for row in rows if row.errors]
    if broken:
        found.append(f"episodes broke and count as failures unless their outcome is known: {', '.join(broken)}")
    found += [note for row in rows for note in row.priced_as]
    if options.cache == "simulated":
        found.append("prompt caches are simulated where the priced model did not report its own")
    if options.cache == "none":
        found.append("prompt caches are left out: every input token at the full rate")
    missing = [row.arm for row in rows if row.calls_without_cost]
    if missing:
        found.append(f"cost unknown for calls without token counts, in: {', '.join(missing)}")
    if any(row.calls_estimated for row in rows):
        found.append("some token counts are estimates of ours, not the provider's")
    if any(row.unknown_outcomes for row in rows):
        found.append("episodes without an outcome are left out of success and cost of pass")
    if any(row.seeds > 1 for row in rows):
        found.append("success_ci takes episodes as independent; success_ci_by_task does not")
    if not demonstrations_known:
        found.append("the cost of the demonstrations is unknown: their episodes were not among those measured")
    return tuple(dict.fromkeys(found))
