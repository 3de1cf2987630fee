"""Whole episodes: success, cost per success and teacher share of every arm of recorded runs, with paired differences.

    potstill distill context --env alfworld --tasks DIR --split train --n 330 --seed 1 --teacher expert --db alf.db
    potstill run --env alfworld --tasks DIR --split valid_seen --n 12 --seeds 2 --student torch:smollm2-135m \\
        --student-option template=plain --style transcript --history 6 --window 1 --retrieval per-step \\
        --teacher expert --price-teacher-as claude-sonnet-5-5 --price-student-as gpt-4.1-mini --samples 5 \\
        --arm zero-shot,random-demos,context,cascade,context+cascade,random-mix,copy-nearest,teacher \\
        --db alf.db --run arms
    python bench/arms.py --db alf.db --run arms --name alfworld_arms

Several runs go into one table: ``--run arms --run likelihood=likelihood``, where the word after ``=`` is put behind the
names of that run's arms; an episode that several runs hold counts once. Recording takes an hour or more and resumes;
this script only measures, with simulated prompt caches and without any.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

import _results
from potstill.cli.wiring import pricer
from potstill.measure.ledger import Pricing
from potstill.measure.measurement import ArmSummary, Options
from potstill.measure.prices import PriceTable
from potstill.measure.statistics import paired_difference, wilson_by_task
from potstill.measure.summary import summarise
from potstill.run.runner import RunConfig
from potstill.trajectories import Store
from potstill.types import Answerer, Trajectory

AGAINST = {
    "context": ("zero-shot", "random-demos", "copy-nearest"),
    "cascade": ("zero-shot", "random-mix", "teacher"),
    "context+cascade": ("context", "cascade", "random-mix", "teacher"),
}
"""Which arms each arm is compared with, where both were recorded (in the same mode, or in none)."""


EARLY = (20, 30)
"""Steps within which success is told too: with enough of them, a teacher that acts at random gets there in the end."""
Price = Callable[[Trajectory], float | None]
Played = Mapping[tuple[str, int], Trajectory]
"""An arm's episodes by task and seed."""


def main() -> None:
    options = parsed()
    runs = [tuple(run.partition("=")[::2]) for run in options.run]
    with Store.read(options.db) as store:
        configs = [run_config(store.get_run(run)) for run, _ in runs]
        found = [labelled(e, label) for run, label in runs for e in store.select(run_id=run)]
    episodes = list({(e.arm, e.task.id, e.seed): e for e in found}.values())
    first = configs[0]
    teacher_as = options.price_teacher_as or first.price_teacher_as
    student_as = options.price_student_as or first.price_student_as
    pricing = Pricing(student_as=student_as, teacher_as=teacher_as)
    table = PriceTable.load()
    measured = summarise(episodes, table, Options(cache="simulated", pricing=pricing))
    extra = {
        "runs": [run for run, _ in runs],
        "student": first.student,
        "priced_as": {"teacher": teacher_as, "student": student_as},
        "differences": list(differences(episodes, pricer(table, pricing))),
    }
    rows = [{**row(arm), **early([e for e in episodes if e.arm == arm.arm])} for arm in measured.arms]
    tasks = len({episode.task.id for episode in episodes})
    seeds = sorted({episode.seed for episode in episodes})
    _results.write(options.name, rows, n=tasks, seeds=seeds, prices_date=measured.prices_date, extra=extra)


def labelled(episode: Trajectory, label: str) -> Trajectory:
    return msgspec.structs.replace(episode, arm=f"{episode.arm} {label}") if label else episode


def run_config(stored: dict[str, Any]) -> RunConfig:
    return msgspec.convert(stored, RunConfig)


def row(arm: ArmSummary) -> dict[str, Any]:
    return {
        "arm": arm.arm,
        "n": arm.n,
        "steps_mean": arm.steps_mean,
        "success": arm.success,
        "success_ci": arm.success_ci,
        "teacher_step_share": arm.teacher_step_share,
        "cost_of_pass_usd": arm.cost_of_pass_usd,
        "cost_of_pass_ci_usd": arm.cost_of_pass_ci_usd,
        "uncached_cost_of_pass_usd": arm.uncached.cost_of_pass_usd,
        "cache_hit_rate": arm.cache_hit_rate,
    }


def early(episodes: Sequence[Trajectory]) -> dict[str, Any]:
    """Success within fewer steps than were allowed, and the teacher's share of those steps.

    No arm knows how many steps are left, so the beginning of a long episode is what a shorter one would have been.
    """
    found: dict[str, Any] = {}
    for limit in EARLY:
        by_task: dict[str, list[bool]] = {}
        for episode in episodes:
            by_task.setdefault(episode.task.id, []).append(within(episode, limit))
        steps = [step for episode in episodes for step in episode.steps[:limit]]
        found[f"success_in_{limit}"] = sum(map(sum, by_task.values())) / len(episodes)
        found[f"success_in_{limit}_ci"] = wilson_by_task(
            [sum(values) for values in by_task.values()], [len(values) for values in by_task.values()]
        )
        found[f"teacher_share_in_{limit}"] = sum(step.answerer is Answerer.TEACHER for step in steps) / len(steps)
    return found


def within(episode: Trajectory, limit: int) -> bool:
    return episode.succeeded and len(episode.steps) <= limit


def differences(episodes: Sequence[Trajectory], price: Price) -> Iterator[dict[str, Any]]:
    """One arm minus another on the same tasks and seeds in success, steps, teacher's steps and dollars an episode."""
    by_arm: dict[str, dict[tuple[str, int], Trajectory]] = {}
    for episode in episodes:
        by_arm.setdefault(episode.arm, {})[episode.task.id, episode.seed] = episode
    for of in by_arm:
        for against in opponents(of, by_arm):
            yield from paired(of, by_arm[of], against, by_arm[against], price)


def paired(of: str, ours: Played, against: str, theirs: Played, price: Price) -> Iterator[dict[str, Any]]:
    values: dict[str, Callable[[Trajectory], float]] = {
        "success": lambda episode: float(episode.succeeded),
        **{f"success in {limit} steps": early_success(limit) for limit in EARLY},
        "steps": lambda episode: float(len(episode.steps)),
        "teacher's steps": lambda episode: float(sum(s.answerer is Answerer.TEACHER for s in episode.steps)),
        "dollars": lambda episode: known(price, episode),
    }
    for what, value in values.items():
        found = paired_difference(
            {key: value(episode) for key, episode in ours.items()},
            {key: value(episode) for key, episode in theirs.items()},
        )
        if found is not None:
            yield {
                "of": of,
                "against": against,
                "in": what,
                "n": found.n,
                "difference": found.difference,
                "difference_ci": found.difference_ci,
            }


def known(price: Price, episode: Trajectory) -> float:
    usd = price(episode)
    if usd is None:
        raise SystemExit(f"What the episode {episode.id} cost is not known.")
    return usd


def early_success(limit: int) -> Callable[[Trajectory], float]:
    return lambda episode: float(within(episode, limit))


def opponents(of: str, arms: Mapping[str, object]) -> Iterator[str]:
    """The recorded arms that ``of`` is compared with: of its own mode and label if there is one, else the plain one."""
    base, suffix = split(of)
    for against in AGAINST.get(base, ()):
        for name in (against + suffix, against):
            if name in arms:
                yield name
                break


def split(name: str) -> tuple[str, str]:
    """``context+cascade@sticky label`` into its kind and the rest.

    >>> split("context+cascade@sticky votes")
    ('context+cascade', '@sticky votes')
    """
    end = min((name.index(mark) for mark in "@ " if mark in name), default=len(name))
    return name[:end], name[end:]


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--db", type=Path, required=True)
    parser.add_argument("--run", action="append", required=True, help="NAME or NAME=LABEL; repeatable")
    parser.add_argument("--name", default="arms")
    parser.add_argument("--price-teacher-as", help="instead of the run's own setting")
    parser.add_argument("--price-student-as", help="instead of the run's own setting")
    return parser.parse_args()


if __name__ == "__main__":
    main()
