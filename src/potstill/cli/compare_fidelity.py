"""``potstill compare --fidelity``: whether A decides as B, beside whether it succeeds.

What it knows: which episodes are meant, and the table. What it does not do: compare (``distill.weights.fidelity``).
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from potstill.cli.output import emit_table, emit_text, note
from potstill.errors import ConfigError

if TYPE_CHECKING:
    from potstill.cli.compare_sides import Sources
    from potstill.distill.weights.fidelity import RunFidelity, Share
    from potstill.measure.comparison_result import Options
    from potstill.measure.comparison_sides import Side

COLUMNS = ("measure", "of", "value", "low", "high", "n")
BOTH = "A as B"


def refuse_files(names: list[str]) -> None:
    """Raise ``ConfigError`` for a side that is a file: before anything is read."""
    from potstill.cli.compare_sides import split_file

    for name in names:
        if split_file(name) is not None:
            raise ConfigError(
                f"--fidelity compares the steps of episodes, and '{name}' is a file of attempts, which holds none. "
                "Name two runs of a store (RUN or RUN:ARM, with --db), or leave --fidelity away."
            )


def fidelity_of(sources: Sources, a: Side, b: Side, options: Options) -> RunFidelity:
    """How alike both decide in the pairs that the comparison has. The store is read once more, for its steps."""
    from potstill.distill.weights.fidelity import run_fidelity, walked
    from potstill.measure.comparison_sides import pair

    pairs = pair(a.usable, b.usable).pairs
    ours, theirs = ({one.id: walked(one) for one in sources.episodes(side.name)} for side in (a, b))
    return run_fidelity(
        [(ours[str(one.episode_id)], theirs[str(other.episode_id)]) for one, other in pairs],
        confidence=options.confidence,
        samples=options.samples,
        seed=options.seed,
    )


def show_fidelity(alike: RunFidelity) -> None:
    """The table, under the comparison's own; in a pipe an empty line parts the two."""
    if not sys.stdout.isatty():
        emit_text("")
    emit_table(COLUMNS, _rows(alike), json_mode=False, title="How alike A and B decide")
    if alike.seen_apart:
        note(
            f"note: {alike.seen_apart} of {alike.pairs} pairs saw different things before they acted differently, so "
            "they count until then and where they part is not known: other seeds, or an environment with chance in it"
        )


def _rows(alike: RunFidelity) -> Iterator[list[object]]:
    """One row a measure and side; unknown where there is nothing of the kind."""
    tools, given = alike.tool_choice, alike.arguments
    low, high = (tools.distance_ci if tools is not None else None) or (None, None)
    yield _row("same decision", BOTH, alike.agreement)
    yield ["distance of tools called", BOTH, *((tools.distance, low, high, tools.n) if tools else [None] * 4)]
    yield _row("same call of a tool", BOTH, given.calls if given else None)
    yield _row("same names of arguments", BOTH, given.names if given else None)
    yield _row("same values of arguments", BOTH, given.values if given else None)
    yield _row("episodes that never part", BOTH, alike.parting.never)
    yield ["half part by step (from 0)", BOTH, alike.parting.median_step, None, None, alike.parting.n]
    for side, found, plan in (("A", alike.loops_a, alike.plan_a), ("B", alike.loops_b, alike.plan_b)):
        yield _row("episodes with a loop", side, found.cycling)
        yield _row("steps in loops", side, found.in_cycles)
        yield _row("plan carried out in order", side, plan)


def _row(measure: str, of: str, share: Share | None) -> list[object]:
    if share is None:
        return [measure, of, None, None, None, None]
    return [measure, of, share.value, *(share.interval or (None, None)), share.n]
