"""Whole episodes: success, cost per success and teacher share of every arm of a recorded run, with paired differences.

    potstill distill context --env alfworld --tasks DIR --split train --n 330 --seed 1 --teacher expert --db alf.db
    potstill run --env alfworld --tasks DIR --split valid_seen --n 40 --seeds 2 --student torch:smollm2-135m \\
        --teacher expert --price-teacher-as claude-sonnet-5-5 --price-student-as claude-haiku-5-5 --db alf.db \\
        --arm zero-shot,random-demos,context,cascade,context+cascade,random-mix,copy-nearest,teacher --run arms
    python bench/alfworld_arms.py --db alf.db --run arms

Recording takes hours and resumes; this script only measures, with simulated prompt caches and without any.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

import _results
from potstill.measure.ledger import Pricing
from potstill.measure.measurement import ArmSummary, Options
from potstill.measure.prices import PriceTable
from potstill.measure.statistics import paired_difference
from potstill.measure.summary import summarise
from potstill.run.runner import RunConfig
from potstill.trajectories import Store
from potstill.types import Trajectory

CONTRASTS = (
    ("context", "zero-shot"),
    ("context", "random-demos"),
    ("context", "copy-nearest"),
    ("cascade", "zero-shot"),
    ("context+cascade", "random-mix"),
    ("context+cascade", "teacher"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--db", type=Path, required=True)
    parser.add_argument("--run", required=True)
    parser.add_argument("--name", default="alfworld_arms")
    options = parser.parse_args()
    with Store.open(options.db, create=False) as store:
        config = run_config(store.get_run(options.run))
        episodes = list(store.select(run_id=options.run))
    table = PriceTable.load()
    pricing = Pricing(student_as=config.price_student_as, teacher_as=config.price_teacher_as)
    measured = summarise(episodes, table, Options(cache="simulated", pricing=pricing))
    extra = {
        "run": config.run_id,
        "student": config.student,
        "priced_as": {"teacher": config.price_teacher_as, "student": config.price_student_as},
        "differences": differences(episodes),
    }
    seeds = list(range(config.seed, config.seed + config.seeds))
    rows = [row(arm) for arm in measured.arms]
    _results.write(options.name, rows, n=config.n, seeds=seeds, prices_date=measured.prices_date, extra=extra)


def run_config(stored: dict[str, Any]) -> RunConfig:
    return msgspec.convert(stored, RunConfig)


def row(arm: ArmSummary) -> dict[str, Any]:
    return {
        "arm": arm.arm,
        "n": arm.n,
        "success": arm.success,
        "success_ci": arm.success_ci,
        "steps": arm.steps_mean,
        "teacher_step_share": arm.teacher_step_share,
        "cost_of_pass_usd": arm.cost_of_pass_usd,
        "cost_of_pass_ci_usd": arm.cost_of_pass_ci_usd,
        "uncached_cost_of_pass_usd": arm.uncached.cost_of_pass_usd,
        "cache_hit_rate": arm.cache_hit_rate,
    }


def differences(episodes: Sequence[Trajectory]) -> list[dict[str, Any]]:
    """Success of one arm minus another's on the same tasks and seeds; the interval resamples tasks."""
    success: dict[str, dict[tuple[str, int], float]] = {}
    for episode in episodes:
        success.setdefault(episode.arm, {})[episode.task.id, episode.seed] = float(episode.succeeded)
    found = []
    for of, against in CONTRASTS:
        paired = paired_difference(success.get(of, {}), success.get(against, {}))
        if paired is not None:
            found.append(
                {
                    "of": of,
                    "against": against,
                    "n": paired.n,
                    "difference": paired.difference,
                    "difference_ci": paired.difference_ci,
                    "p_mcnemar": paired.p_mcnemar,
                }
            )
    return found


if __name__ == "__main__":
    main()
