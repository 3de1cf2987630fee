"""When in-context distillation pays for its demonstrations: arXiv 2512.02543's amortisation, and with prompt caches.

The paper divides what the teacher's demonstrations cost by what an episode saves. Its teacher pays the full rate for a
history that it sends again at every step; a teacher that uses its provider's prompt cache costs much less, and the
saving shrinks. Both are computed here by the engine that prices recorded episodes; what is assumed is printed.

    python recipes/amortisation.py
    python recipes/amortisation.py --input-share 0.95 --hits 0.9 --json

Not asked here: whether the arms are equally good. On ALFWorld the student arm succeeds more often than the teacher
(0.96 and 0.89), on AppWorld less often (0.66 and 0.83), where a break-even between them says little.
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any, NamedTuple

from potstill.measure.breakeven import Investment, break_even_episodes, net_saving_usd, payback
from potstill.measure.cache import ledger
from potstill.measure.ledger import price_usage
from potstill.measure.prices import PriceTable
from potstill.measure.ways import Sampling, episodes, ways
from potstill.measure.workload import Workload
from potstill.types import Usage

TEACHER = "claude-sonnet-4-5"
DATE = "2026-11-21"
SERVED = 1_000_000


class Published(NamedTuple):
    """Inputs from the paper in US dollars: all demonstrations, an episode of each arm. Steps and prefix: assumed."""

    demonstrations_usd: float
    teacher_usd: float
    student_usd: float
    break_even: int
    success: tuple[float, float]
    """Of teacher and student arm."""
    steps: int
    prefix_tokens: int


PAPER = {
    "ALFWorld": Published(29.50, 0.059, 0.024, 843, (0.89, 0.96), 12, 600),
    "AppWorld": Published(86.73, 0.589, 0.171, 207, (0.83, 0.66), 19, 3000),
}


def main() -> int:
    options = parsed().parse_args()
    table = PriceTable.load(date=DATE, prices={})
    rows = [
        row
        for name, paper in PAPER.items()
        for row in (
            as_published(name, paper),
            with_hits(name, paper, table, options.input_share, options.hits),
            simulated(name, paper, table, options.input_share),
        )
    ]
    if options.json:
        print(json.dumps(rows, indent=1))
    else:
        show(rows)
        print(assumptions(options.input_share, options.hits), file=sys.stderr)
    return 0


def as_published(name: str, paper: Published) -> dict[str, Any]:
    """The paper's own arithmetic."""
    return row(name, "published", paper, paper.teacher_usd, hits=0.0)


def with_hits(name: str, paper: Published, table: PriceTable, input_share: float, hits: float) -> dict[str, Any]:
    """The teacher's bill with ``hits`` of its input read from the cache and the rest written into it."""
    fresh = tokens(paper, table, input_share)
    read = round(fresh.input_tokens * hits)
    cached = Usage(
        input_tokens=fresh.input_tokens,
        cache_read_tokens=read,
        cache_write_tokens=fresh.input_tokens - read,
        output_tokens=fresh.output_tokens,
        cache_reported=True,
    )
    return row(name, "cache, hits assumed", paper, price_usage(cached, TEACHER, table).total_usd, hits=hits)


def simulated(name: str, paper: Published, table: PriceTable, input_share: float) -> dict[str, Any]:
    """The same tokens spread over the steps of an episode whose history grows, through the cache simulator."""
    bill = tokens(paper, table, input_share)
    later = paper.steps * (paper.steps - 1) // 2
    load = Workload(
        steps=paper.steps,
        prefix_tokens=paper.prefix_tokens,
        per_step_tokens=max(0, bill.input_tokens - paper.steps * paper.prefix_tokens) // later,
        output_tokens=bill.output_tokens // paper.steps,
    )
    alone = ways(Sampling.SEPARATE)[0]
    (episode,) = episodes(alone, load, TEACHER, TEACHER, phase=0.0)
    billed = ledger(episode.calls, table, cache="simulated")
    read = sum(one.usage.cache_read_tokens for one in billed if one.usage is not None)
    sent = sum(one.usage.input_tokens for one in billed if one.usage is not None)
    return row(name, "cache, simulated", paper, sum(one.total_usd or 0.0 for one in billed), hits=read / sent)


def tokens(paper: Published, table: PriceTable, input_share: float) -> Usage:
    """An episode of the teacher in tokens: what the published dollars buy at the full rates."""
    rates = table.price(TEACHER).rates
    return Usage(
        input_tokens=round(paper.teacher_usd * input_share / rates.input * 1e6),
        output_tokens=round(paper.teacher_usd * (1 - input_share) / (rates.output or 1.0) * 1e6),
    )


def row(name: str, variant: str, paper: Published, teacher_usd: float, hits: float) -> dict[str, Any]:
    even = break_even_episodes(paper.demonstrations_usd, teacher_usd, paper.student_usd)
    spent = Investment(collection_usd=paper.demonstrations_usd)
    as_good = paper.success[1] >= paper.success[0]
    whole = payback(spent, base_usd=teacher_usd, new_usd=paper.student_usd, non_inferior=as_good)
    return {
        "benchmark": name,
        "variant": variant,
        "teacher_usd": round(teacher_usd, 5),
        "student_usd": paper.student_usd,
        "cache_hit_rate": round(hits, 3),
        "ratio": round(teacher_usd / paper.student_usd, 3),
        "break_even_episodes": None if even is None else round(even),
        "valid_break_even": whole.episodes,
        "why_not": whole.why_not,
        "saved_usd_per_million": round(
            net_saving_usd(paper.demonstrations_usd, teacher_usd, paper.student_usd, SERVED), 2
        ),
        "teacher_usd_per_success": round(teacher_usd / paper.success[0], 4),
        "student_usd_per_success": round(paper.student_usd / paper.success[1], 4),
    }


def show(rows: list[dict[str, Any]]) -> None:
    columns = ("benchmark", "variant", "teacher_usd", "student_usd", "cache_hit_rate", "ratio", "break_even_episodes")
    print(*columns, "saved_usd_per_million", sep="\t")
    for one in rows:
        never = "never" if one["break_even_episodes"] is None else one["break_even_episodes"]
        shown = {**one, "break_even_episodes": never}
        print(*(shown[name] for name in columns), f"{one['saved_usd_per_million']:.0f}", sep="\t")


def assumptions(input_share: float, hits: float) -> str:
    return (
        f"assumed: {input_share:.0%} of the teacher's dollars are input; of it {hits:.0%} hits the cache and the rest\n"
        "is written ('hits assumed'), or the history grows evenly over 12 (ALFWorld) and 19 (AppWorld) steps\n"
        f"('simulated'). {TEACHER}, prices of {DATE}: reads at a tenth, writes at 1.25 of the input rate.\n"
        "The student arm is left as published: its demonstrations change at every step, so that its prompts are no\n"
        "prefix of each other. Frozen ones would be cached too: potstill plan compares the two.\n"
        "published: 29.50 / (0.059 - 0.024) = 843; 86.73 / (0.589 - 0.171) = 207.5, which the paper gives as 207\n"
        "(its teacher before rounding, $0.590 = 86.73 / 147, gives 86.73 / 0.419 = 207.0)."
    )


def parsed() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--input-share", type=share, default=0.85, help="Share of the teacher's dollars that is input.")
    parser.add_argument("--hits", type=share, default=0.85, help="Share of its input that is read from the cache.")
    parser.add_argument("--json", action="store_true", help="Print JSON.")
    return parser


def share(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text} is no share; allowed: 0 to 1, for example 0.85")
    return value


if __name__ == "__main__":
    sys.exit(main())
