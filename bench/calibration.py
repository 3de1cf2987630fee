"""Does calibration keep its promise, and what does the promise cost? Many calibrations on tasks whose truth is known.

    python bench/calibration.py [--recorded episodes.jsonl] [--runs 500]

For each kind of work, each number of labelled tasks and each ``--keep``: draw tasks, calibrate on them at a confidence
of 0.95 as ``potstill calibrate --samples 1,2,3,5`` does, and look up in a large population what the chosen candidate
really loses and costs. A *violation* is a choice whose true loss P(lost | teacher right) is above 1 - keep; they may
happen in 5 % of the runs. Costs are relative to the teacher alone (a student's sample is assumed to cost 0.05 of its
answer); where nothing is certified the teacher's cost of 1 counts. Costs above the oracle:

- ``above_oracle``: the oracle's loss is all that is allowed, which nobody can prove who has only samples;
- ``above_oracle_same_success``: run by run, the oracle's loss is the true loss of what was chosen. Random mixtures of
  two candidates are open to it, and of a candidate with the teacher.

The others, at the same success (rules that lose too much are mixed with the teacher at random, those that lose less
stay as they are):

- unanimity of 3 samples, and a fixed 4 of 5, which know nothing of the task;
- random escalation at exactly the share that keeps enough;
- plug-in: the cheapest candidate whose *observed* loss is allowed, by vote or by a learned score as in FrugalGPT
  (arXiv 2305.05176), without any correction: its violations say what the correction is for;
- the oracle, which has learned scores of 1, 2, 3 and 5 samples fitted on 25,000 tasks and knows the true loss of every
  threshold of them and of the votes, and the clairvoyant, which knows each answer.

"at the edge": one vote of three samples whose strictest threshold truly loses 0.1 % more than allowed: here the exact
test should be wrong almost as often as it may.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import _results
from _streams import PROFILES, recorded, stream
from potstill.decide.bounds import clopper_pearson
from potstill.decide.calibration.candidates import LEARNED, Chain, learned_chains, vote_chain
from potstill.decide.calibration.certify import certify
from potstill.decide.calibration.paths import learned_scores, paths
from potstill.decide.calibration.score import Score, table
from potstill.decide.calibration.units import Units, vote

KEEPS = (0.9, 0.95, 0.98)
CONFIDENCE = 0.95
SIZES = {200: 1.0, 500: 1.0, 1000: 1.0, 5000: 0.2, 20000: 0.04}
"""Labelled tasks, and the part of ``--runs`` that is made with so many."""
MOST_RECORDED = 1000
"""Of tasks drawn from the recorded ones: with many times their number, a learned score would know them by heart."""
LEARNED_SAMPLES = 3
FINE = 500
"""Thresholds of the learned score that the oracle tries."""
POPULATION = 1_000_000
SCORED = 100_000
"""Of the population, for learned scores, which differ from run to run."""
BORDER = 1000


class Value(NamedTuple):
    """What a rule truly does: loss is P(lost | teacher right), cost is relative to the teacher alone."""

    loss: float
    cost: float


TEACHER = Value(0.0, 1.0)
Rule = tuple[str, int, float]
"""Signal, samples, threshold."""


class World:
    """A population, and the truth about every candidate on it."""

    def __init__(
        self,
        name: str,
        draw: Callable[[int, np.random.Generator], Units],
        population: Units,
        most: int = max(SIZES),
    ) -> None:
        self.name, self.draw, self.most = name, draw, most
        self.samples = tuple(k for k in (1, 2, 3, 5) if k <= population.most_samples)
        self.votes: dict[Rule, Value] = {}
        for k in self.samples:
            chain = vote_chain(population, k)
            self.votes |= {("votes", k, threshold): value(chain, threshold) for threshold in chain.thresholds}
        scored = population.take(np.arange(len(population)) < SCORED)
        self.chains = {k: vote_chain(scored, k) for k in self.samples}
        self.signals = {k: table(scored, vote(scored, k), k) for k in self.samples}
        self.family = [TEACHER, *self.votes.values()]
        for k in self.samples:
            best = learned_chains(scored, k)
            if best is not None:
                fine = np.unique(np.quantile(best[1].score_U, np.linspace(0.0, 1.0, FINE)))
                self.family += [value(best[1], threshold) for threshold in fine]
        self.frontier = hull(self.family)
        self.scored = lru_cache(maxsize=2 * len(self.samples))(self._scored)

    def _scored(self, samples: int, score: Score) -> Chain:
        return self.chains[samples]._replace(score_U=score(self.signals[samples]))

    def truth(self, signal: str, samples: int, threshold: float, score: Score | None) -> Value:
        if signal != LEARNED:
            return self.votes[signal, samples, threshold]
        assert score is not None
        return value(self.scored(samples, score), threshold)

    def oracle(self, allowed: float) -> float:
        return min(one.cost for one in self.family if one.loss <= allowed)

    def oracle_at(self, loss: float) -> float:
        """The least cost of the family, mixtures included, at no more than this true loss."""
        return float(np.interp(loss, [one.loss for one in self.frontier], [one.cost for one in self.frontier]))

    def clairvoyant(self, allowed: float) -> float:
        """One sample; the teacher where that would be lost, less what may be lost."""
        chain = self.chains[LEARNED_SAMPLES]
        lost = (chain.right_U & ~chain.good_U).mean() - allowed * chain.right_U.mean()
        return float(self.votes["votes", 1, 1.0].cost + max(0.0, lost))

    def mixed(self, rule: Rule, allowed: float) -> float:
        """Cost of a rule, given to the teacher at random as often as it takes to lose no more than allowed."""
        found = self.votes[rule]
        part = 1.0 if found.loss <= allowed else allowed / found.loss
        return part * found.cost + (1.0 - part)


def value(chain: Chain, threshold: float) -> Value:
    acted_U = chain.acted_U(threshold)
    right = float(chain.right_U.sum())
    spent = chain.student_usd_U.sum() + chain.teacher_usd_U[~acted_U].sum()
    return Value(
        float((acted_U & chain.right_U & ~chain.good_U).sum()) / right, float(spent / chain.teacher_usd_U.sum())
    )


def hull(family: Sequence[Value]) -> list[Value]:
    """The lower convex hull of loss and cost, as far as more loss costs less: what mixtures at random can reach."""
    found: list[Value] = []
    for one in sorted(set(family)):
        if found and one.cost >= found[-1].cost:
            continue
        while len(found) > 1 and _above(found[-2], found[-1], one):
            found.pop()
        found.append(one)
    return found


def _above(left: Value, middle: Value, right: Value) -> bool:
    """Whether ``middle`` is on or above the line from ``left`` to ``right``."""
    slope = (right.cost - left.cost) / (right.loss - left.loss)
    return middle.cost >= left.cost + slope * (middle.loss - left.loss)


def synthetic(index: int) -> World:
    profile = PROFILES[index]

    def draw(n: int, random: np.random.Generator) -> Units:
        return stream(profile, n, random)

    return World(profile.name, draw, draw(POPULATION, np.random.default_rng([index, 10**6])))


def finite(path: Path) -> World:
    population = recorded(path)

    def draw(n: int, random: np.random.Generator) -> Units:
        chosen = population.take(random.integers(0, len(population), n))
        return Units(**{**vars(chosen), "task_U": np.arange(n, dtype=np.int64)})

    return World("recorded: tau2 retail, 114 tasks", draw, population, MOST_RECORDED)


# --- one run --------------------------------------------------------------------------------------------------------


class Run(NamedTuple):
    certified: bool
    ours: Value
    signal: str
    plug_in_votes: Value
    plug_in_learned: Value


def calibrate(world: World, n: int, seed: int) -> list[Run]:
    """One draw of ``n`` tasks, calibrated for every keep."""
    units = world.draw(n, np.random.default_rng([seed, n]))
    scores = learned_scores(units, world.samples, seed=seed)
    observed = observe([vote_chain(units, k) for k in world.samples])
    scored = observe([testing for _, testing in scores if testing.samples == LEARNED_SAMPLES])
    runs = []
    for keep in KEEPS:
        result = certify(paths(units, world.samples, keep, CONFIDENCE, scores=scores), keep, CONFIDENCE)
        ours = TEACHER
        if result.certified and result.recommendation == "cascade":
            assert result.signal is not None
            assert result.samples is not None
            assert result.threshold is not None
            ours = world.truth(result.signal, result.samples, result.threshold, result.score)
        runs.append(
            Run(
                certified=ours is not TEACHER,
                ours=ours,
                signal=result.signal or "",
                plug_in_votes=plug_in(world, observed, 1 - keep),
                plug_in_learned=plug_in(world, scored, 1 - keep),
            )
        )
    return runs


Observed = list[tuple[Value, Chain, float]]


def observe(chains: Sequence[Chain]) -> Observed:
    return [(value(chain, threshold), chain, threshold) for chain in chains for threshold in chain.thresholds]


def plug_in(world: World, observed: Observed, allowed: float) -> Value:
    """The truth about the cheapest candidate whose observed loss is allowed."""
    fit = [one for one in observed if one[0].loss <= allowed and one[0].cost < 1.0]
    if not fit:
        return TEACHER
    _, chain, threshold = min(fit, key=lambda one: one[0].cost)
    return world.truth(chain.signal, chain.samples, threshold, chain.score)


# --- tables ---------------------------------------------------------------------------------------------------------


def rows_of(world: World, n: int, runs: Sequence[Sequence[Run]]) -> list[dict[str, Any]]:
    rows = []
    for index, keep in enumerate(KEEPS):
        allowed = 1 - keep
        found = [run[index] for run in runs]
        oracle = world.oracle(allowed)
        same = float(np.mean([world.oracle_at(run.ours.loss) for run in found]))
        cost = float(np.mean([run.ours.cost for run in found]))
        sure = [run.ours.cost for run in found if run.certified]
        violations = sum(run.ours.loss > allowed for run in found)
        rows.append(
            {
                "work": world.name,
                "n": n,
                "keep": keep,
                "runs": len(found),
                "violations": violations,
                "violation_rate": violations / len(found),
                "violation_rate_ci": clopper_pearson(violations, len(found)),
                "certified": len(sure) / len(found),
                "learned_chosen": sum(run.signal == LEARNED and run.certified for run in found) / len(found),
                "true_loss": float(np.mean([run.ours.loss for run in found])),
                "cost": cost,
                "cost_where_certified": float(np.mean(sure)) if sure else None,
                "oracle": oracle,
                "above_oracle": cost / oracle - 1,
                "oracle_same_success": same,
                "above_oracle_same_success": cost / same - 1,
                "clairvoyant": world.clairvoyant(allowed),
                "unanimity_3": world.mixed(("votes", 3, 1.0), allowed),
                "fixed_4_of_5": world.mixed(("votes", 5, 0.8), allowed),
                "random": world.mixed(("votes", 1, 1.0), allowed),
                **wild("plug_in_votes", [run.plug_in_votes for run in found], allowed),
                **wild("plug_in_learned", [run.plug_in_learned for run in found], allowed),
            }
        )
    return rows


def wild(name: str, found: Sequence[Value], allowed: float) -> dict[str, Any]:
    violations = sum(one.loss > allowed for one in found)
    return {
        f"{name}_violation_rate": violations / len(found),
        f"{name}_violation_rate_ci": clopper_pearson(violations, len(found)),
        f"{name}_cost": float(np.mean([one.cost for one in found])),
    }


def border(world: World, runs: int) -> dict[str, Any]:
    """How often a candidate is certified that truly loses 0.1 % more than allowed."""
    allowed = world.votes["votes", 3, 1.0].loss / 1.001
    wrong = 0
    for seed in range(runs):
        units = world.draw(BORDER, np.random.default_rng([seed, BORDER, 7]))
        wrong += certify([vote_chain(units, 3, thresholds=(1.0,))], 1 - allowed, CONFIDENCE).certified
    return {
        "work": world.name,
        "n": BORDER,
        "keep": 1 - allowed,
        "at_the_edge": True,
        "runs": runs,
        "violations": wrong,
        "violation_rate": wrong / runs,
        "violation_rate_ci": clopper_pearson(wrong, runs),
    }


def speed() -> list[dict[str, Any]]:
    """Seconds to calibrate, draws not included: votes and learned scores of four numbers of samples, all tests."""
    rows = []
    for n in (10_000, 100_000, 1_000_000):
        units = stream(PROFILES[1], n, np.random.default_rng(n))
        begun, cpu = time.perf_counter(), time.process_time()
        certify(paths(units, (1, 2, 3, 5), 0.98, CONFIDENCE), 0.98, CONFIDENCE)
        rows.append({"decisions": n, "cpu_s": time.process_time() - cpu, "wall_s": time.perf_counter() - begun})
    return rows


def total(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    violations, runs = sum(row["violations"] for row in rows), sum(row["runs"] for row in rows)
    return {"runs": runs, "violations": violations, "violation_rate_ci": clopper_pearson(violations, runs)}


class Part(NamedTuple):
    """All that is measured in one world."""

    rows: list[dict[str, Any]]
    edge: dict[str, Any]
    cpu_s: float


def measure(make: Callable[[], World], runs: int) -> Part:
    begun, world, rows = time.process_time(), make(), []
    for n, part in SIZES.items():
        if n > world.most:
            continue
        rows += rows_of(world, n, [calibrate(world, n, seed) for seed in range(max(10, round(runs * part)))])
        for row in rows[-len(KEEPS) :]:
            print(
                f"{world.name[:22]:22} n={n:5} keep={row['keep']} wrong={row['violation_rate']:.3f} "
                f"certified={row['certified']:.2f} cost={row['cost']:.3f} oracle={row['oracle']:.3f} "
                f"above={row['above_oracle']:.3f} same={row['above_oracle_same_success']:.3f} "
                f"unanimity={row['unanimity_3']:.3f} random={row['random']:.3f} "
                f"plug-in wrong={row['plug_in_votes_violation_rate']:.2f} "
                f"learned {row['plug_in_learned_violation_rate']:.2f}",
                flush=True,
            )
    edge = border(world, runs)
    print(world.name, "at the edge", edge["violation_rate"], flush=True)
    return Part(rows, edge, time.process_time() - begun)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=500)
    parser.add_argument("--jobs", type=int, default=1, help="processes; worlds are shared out")
    parser.add_argument("--recorded", type=Path, help="tau2 episodes as JSON lines")
    options = parser.parse_args()
    begun = time.process_time()
    makers: list[Callable[[], World]] = [partial(synthetic, index) for index in range(len(PROFILES))]
    if options.recorded:
        makers.insert(0, partial(finite, options.recorded))
    with ProcessPoolExecutor(options.jobs) as pool:
        parts = list(pool.map(measure, makers, [options.runs] * len(makers)))
    rows, edges = [row for part in parts for row in part.rows], [part.edge for part in parts]
    speeds = speed()
    _results.write(
        "calibration",
        [*rows, *edges],
        n=None,
        seeds=[0, options.runs - 1],
        extra={
            "confidence": CONFIDENCE,
            "all": total(rows),
            "all_at_the_edge": total(edges),
            "speed": speeds,
            "cpu_s": sum(part.cpu_s for part in parts) + time.process_time() - begun,
        },
    )


if __name__ == "__main__":
    main()
