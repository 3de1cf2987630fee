"""Who is retired, and what that costs: credit from outcomes against the paper's rule, where outcomes are poisoned.

    python bench/playbook_credit.py [--seeds 10]

A book of 16 bullets, all live at first, whose effects are known: 4 help (by 3, 6, 9 and 12 points of success), 8 do
nothing, 4 harm as much as the others help. Success with all of them is 35 % (a hard task) or 65 % (an easy one);
effects add up. 20,000 episodes; every 500 of them each policy looks at what it has seen. In x = 0, 10, 20, 30 % of
the episodes the outcome that is seen is the wrong one.

*Regret*: probability of success that an oracle would have had, which shows just what helps, less that of what was
shown; mean over all episodes. *False keep*: share of the harmful bullets that are live at the end. *False retire*:
share of the helpful ones that are not. Neutral bullets that are retired are counted apart: they cost tokens, not
success.

Policies:

- ``credit``: this package's ``decide`` with its defaults; a tenth of the episodes are trials. ``credit, half are
  trials``: the same with more of them.
- ``votes by outcome``: the paper's counters, moved by how the episodes ended that showed a bullet; retired when
  harmful >= helpful (arXiv 2510.04618, section 3; in its release the rule exists in the statistics alone).
- ``votes of a reflector``: a Reflector votes on a fifth of the bullets shown. Of a bullet that matters it is right 7
  times out of 10, each time anew; of a neutral one it says what the outcome says; a wrong outcome turns its vote.
  ``one in five misjudged``: the same, but each bullet is, with probability 1/5, judged the wrong way round every
  time. ``that guesses``: right half of the time.
- ``never retire``: trials as ``credit``, and nothing comes of them. ``all shown``: neither.

Beside it: how many trials it takes until a bullet's interval lies below zero.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

import _results
from potstill.decide.evidence import Arm, needed
from potstill.distill.playbook.credit.decide import Act, CreditPlan, decide
from potstill.distill.playbook.credit.effect import Trials, log_evidence
from potstill.distill.playbook.credit.past import Begun
from potstill.distill.playbook.credit.tally import Counts
from potstill.distill.playbook.operations import Bullet, Stage
from potstill.measure.statistics import percentiles, resample_sums, wilson_by_task

EFFECTS_B = np.array([0.12, 0.09, 0.06, 0.03, *[0.0] * 8, -0.12, -0.09, -0.06, -0.03])
BULLETS = len(EFFECTS_B)
EPISODES, BLOCK = 20_000, 500
CANARY_SHARE = 0.1
BASES = {"hard (35 %)": 0.35, "easy (65 %)": 0.65}
FLIPPED = (0.0, 0.1, 0.2, 0.3)
VOTED, RIGHT, MISJUDGED = 0.2, 0.7, 0.2
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Row = dict[str, Any]


class Seen:
    """A block of episodes as a policy may see it."""

    def __init__(self, shown_TB: Bools, withheld_TB: Bools, success_T: Bools, flipped_T: Bools) -> None:
        self.shown_TB, self.withheld_TB = shown_TB, withheld_TB
        self.success_T = success_T
        """As reported, right or wrong."""
        self.flipped_T = flipped_T
        """For the Reflector that is misled by it; no policy looks at it."""

    def wins(self, mask_TB: Bools) -> NDArray[np.int64]:
        return (mask_TB & self.success_T[:, None]).sum(axis=0)


class Policy:
    """Shows everything and learns nothing."""

    name = "all shown"
    trials = 0.0

    def __init__(self, random: np.random.Generator) -> None:
        self.random = random
        self.live_B = np.ones(BULLETS, dtype=bool)
        self.canary_B = np.zeros(BULLETS, dtype=bool)

    def look(self, seen: Seen) -> None:
        """Take in a block, and change ``live_B`` and ``canary_B`` for the next one."""


class NeverRetire(Policy):
    name = "never retire"
    trials = 0.1


class Credit(Policy):
    """The package's own decisions, on its own counts."""

    name = "credit"
    trials = 0.1

    def __init__(self, random: np.random.Generator) -> None:
        super().__init__(random)
        self.counts_B4 = np.zeros((BULLETS, 4), dtype=np.int64)
        self.staged_B4 = np.zeros((BULLETS, 4), dtype=np.int64)
        self.demotions_B = np.zeros(BULLETS, dtype=int)

    def look(self, seen: Seen) -> None:
        trial_T1 = seen.withheld_TB.any(axis=1)[:, None]
        shown_TB, beside_TB = seen.shown_TB & trial_T1, ~seen.shown_TB & ~seen.withheld_TB
        self.counts_B4 += self._four(seen, shown_TB, seen.withheld_TB)
        self.staged_B4 += self._four(seen, seen.shown_TB, beside_TB)
        bullets = {id: self._bullet(place, id) for place, id in enumerate(IDS)}
        counts = {id: self._counts(place) for place, id in enumerate(IDS)}
        begun = {id: Begun(demotions=int(self.demotions_B[place])) for place, id in enumerate(IDS)}
        for place, one in enumerate(decide(bullets, counts, begun, CreditPlan())):
            if one.act is Act.KEEP:
                continue
            self.live_B[place] = one.act is Act.PROMOTE
            self.canary_B[place] = one.act is Act.DEMOTE
            self.demotions_B[place] += one.act is Act.DEMOTE
            self.staged_B4[place] = 0

    def _four(self, seen: Seen, one_TB: Bools, other_TB: Bools) -> NDArray[np.int64]:
        return np.stack([seen.wins(one_TB), one_TB.sum(axis=0), seen.wins(other_TB), other_TB.sum(axis=0)], axis=1)

    def _bullet(self, place: int, id: str) -> Bullet:
        stage = Stage.CANARY if self.canary_B[place] else Stage.LIVE
        gone = not (self.live_B[place] or self.canary_B[place])
        return Bullet(id=id, number=place + 1, section="s", content="x", stage=stage, quarantined=gone)

    def _counts(self, place: int) -> Counts:
        (shown, withheld), (here, beside) = _arms(self.counts_B4[place]), _arms(self.staged_B4[place])
        return Counts(trials=Trials(shown=shown, withheld=withheld), at_stage=here, beside=beside)


class CreditHalf(Credit):
    name = "credit, half are trials"
    trials = 0.5


class Votes(Policy):
    """The paper's counters, and its rule."""

    name = "votes by outcome"

    def __init__(self, random: np.random.Generator) -> None:
        super().__init__(random)
        self.helpful_B = np.zeros(BULLETS, dtype=np.int64)
        self.harmful_B = np.zeros(BULLETS, dtype=np.int64)

    def look(self, seen: Seen) -> None:
        voted_TB, good_TB = self.votes(seen)
        self.helpful_B += (voted_TB & good_TB).sum(axis=0)
        self.harmful_B += (voted_TB & ~good_TB).sum(axis=0)
        self.live_B &= ~((self.harmful_B > 0) & (self.harmful_B >= self.helpful_B))

    def votes(self, seen: Seen) -> tuple[Bools, Bools]:
        """Which bullets were voted on in which episodes, and whether as helpful."""
        return seen.shown_TB, np.broadcast_to(seen.success_T[:, None], seen.shown_TB.shape)


class Reflected(Votes):
    name = "votes of a reflector"
    right = RIGHT
    misjudged = 0.0

    def __init__(self, random: np.random.Generator) -> None:
        super().__init__(random)
        self.wrong_B = random.random(BULLETS) < self.misjudged

    def votes(self, seen: Seen) -> tuple[Bools, Bools]:
        shape = seen.shown_TB.shape
        mistaken_TB = (self.random.random(shape) >= self.right) ^ seen.flipped_T[:, None] ^ self.wrong_B[None, :]
        of_matter_TB = (EFFECTS_B > 0)[None, :] ^ mistaken_TB
        good_TB = np.where((EFFECTS_B == 0)[None, :], seen.success_T[:, None], of_matter_TB)
        return seen.shown_TB & (self.random.random(shape) < VOTED), good_TB


class Misjudged(Reflected):
    name = "votes of a reflector, one in five misjudged"
    misjudged = MISJUDGED


class Guessing(Reflected):
    name = "votes of a reflector that guesses"
    right = 0.5


IDS = [f"b-{number}" for number in range(1, BULLETS + 1)]
POLICIES: tuple[type[Policy], ...] = (Credit, CreditHalf, Votes, Reflected, Misjudged, Guessing, NeverRetire, Policy)


def _arms(counts: NDArray[np.int64]) -> tuple[Arm, Arm]:
    s1, n1, s0, n0 = (int(count) for count in counts)
    return Arm(n=n1, successes=s1), Arm(n=n0, successes=s0)


# --- one run --------------------------------------------------------------------------------------------------------


def run(kind: type[Policy], base: float, flipped: float, seed: int) -> Row:
    """20,000 episodes under one policy. ``base``: success with all bullets."""
    random = np.random.default_rng([seed, int(1000 * base), int(1000 * flipped)])
    policy = kind(np.random.default_rng([seed, 1]))
    best = base - EFFECTS_B[EFFECTS_B < 0].sum()
    regrets = []
    for _ in range(EPISODES // BLOCK):
        standing_TB = policy.live_B | (policy.canary_B & (random.random((BLOCK, BULLETS)) < CANARY_SHARE))
        trial_T = random.random(BLOCK) < policy.trials
        withheld_TB = standing_TB & trial_T[:, None] & (random.random((BLOCK, BULLETS)) < 0.5)
        shown_TB = standing_TB & ~withheld_TB
        rate_T = base - EFFECTS_B.sum() + shown_TB @ EFFECTS_B
        wrong_T = random.random(BLOCK) < flipped
        success_T = (random.random(BLOCK) < rate_T) ^ wrong_T
        regrets.append(float((best - rate_T).mean()))
        policy.look(Seen(shown_TB, withheld_TB, success_T, wrong_T))
    gone_B = ~policy.live_B
    return {
        "regret": float(np.mean(regrets)),
        "last_regret": float(np.mean(regrets[-len(regrets) // 10 :])),
        "kept_harmful": int((~gone_B & (EFFECTS_B < 0)).sum()),
        "kept_most_harmful": int(~gone_B[int(EFFECTS_B.argmin())]),
        "retired_helpful": int((gone_B & (EFFECTS_B > 0)).sum()),
        "retired_neutral": int((gone_B & (EFFECTS_B == 0)).sum()),
    }


def summarised(name: str, task: str, flipped: float, runs: list[Row]) -> Row:
    regrets = np.array([[one["regret"], 1.0] for one in runs])
    row: Row = {
        "kind": "policy",
        "policy": name,
        "task": task,
        "flipped": flipped,
        "runs": len(runs),
        "episodes": EPISODES,
        "regret": float(regrets[:, 0].mean()),
        "regret_ci": mean_interval(regrets[:, 0]),
        "regret_of_the_last_tenth": float(np.mean([one["last_regret"] for one in runs])),
    }
    for label, key, of in (
        ("false_keep", "kept_harmful", 4),
        ("false_keep_of_the_worst", "kept_most_harmful", 1),
        ("false_retire", "retired_helpful", 4),
        ("neutral_retired", "retired_neutral", 8),
    ):
        found = [one[key] for one in runs]
        row[label] = sum(found) / (of * len(runs))
        row[f"{label}_ci"] = wilson_by_task(found, [of] * len(runs))
    return row


def mean_interval(values: Floats) -> tuple[float, float]:
    """Percentiles of a bootstrap over runs."""
    sums = resample_sums(np.column_stack([values, np.ones(len(values))]), 2000, 0)
    return percentiles(sums[:, 0] / sums[:, 1], 0.95)


def compared(runs: dict[str, list[Row]], task: str, flipped: float) -> Iterator[Row]:
    """Regret of credit less that of each other policy, on the same seeds."""
    for other in runs:
        if other == Credit.name:
            continue
        gaps = np.array([a["regret"] - b["regret"] for a, b in zip(runs[Credit.name], runs[other], strict=True)])
        yield {
            "of": f"{Credit.name}, {task}, {flipped:.0%} flipped",
            "against": other,
            "difference": float(gaps.mean()),
            "difference_ci": mean_interval(gaps),
        }


# --- how long it takes ----------------------------------------------------------------------------------------------


def delays(seed: int, streams: int = 200, most: int = 8000) -> Iterator[Row]:
    """Trials until a bullet's 95 % interval lies below zero, looked at every 20."""
    random = np.random.default_rng(seed)
    for base, harm in ((0.5, 0.3), (0.5, 0.2), (0.5, 0.1), (0.8, 0.2), (0.8, 0.1), (0.95, 0.1)):
        lots_ST = random.random((streams, most)) < 0.5
        wins_ST = random.random((streams, most)) < np.where(lots_ST, base - harm, base)
        kinds = (lots_ST & wins_ST, lots_ST, ~lots_ST & wins_ST, ~lots_ST)
        counts_LS4 = np.stack([np.cumsum(kind, axis=1)[:, 19::20].T for kind in kinds], axis=2)
        first_S = np.full(streams, most + 1)
        for look, counts_S4 in enumerate(counts_LS4):
            open_S = np.flatnonzero(first_S > most)
            if not len(open_S):
                break
            arms = [_arms(counts_S4[stream]) for stream in open_S]
            proof_S = log_evidence([Trials(shown=a, withheld=b) for a, b in arms], 0.0, -1) >= needed(0.025)
            first_S[open_S[proof_S]] = 20 * (look + 1)
        p10, p50, p90 = (float(np.percentile(first_S, share)) for share in (10, 50, 90))
        found = int((first_S <= most).sum())
        yield {
            "kind": "trials until it is seen",
            "success_without": base,
            "harm": harm,
            "streams": streams,
            "seen": found,
            "trials_p10": p10,
            "trials_p50": p50,
            "trials_p90": p90,
            "episodes_p50_at_one_tenth": 10 * p50,
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10, help="runs of each policy")
    seeds = range(parser.parse_args().seeds)
    rows: list[Row] = []
    differences: list[Row] = []
    started = time.process_time()
    for task, base in BASES.items():
        for flipped in FLIPPED:
            runs = {kind.name: [run(kind, base, flipped, seed) for seed in seeds] for kind in POLICIES}
            rows += [summarised(name, task, flipped, some) for name, some in runs.items()]
            differences += compared(runs, task, flipped)
            for row in rows[-len(POLICIES) :]:
                shown = (row["regret"], row["false_keep"], row["false_retire"], row["neutral_retired"])
                print(task, f"{flipped:.0%}", row["policy"], *(f"{value:.3f}" for value in shown), sep="\t")
    rows += delays(0)
    print(f"{time.process_time() - started:.0f} s of CPU", file=sys.stderr)
    _results.write(
        "playbook_credit",
        rows,
        n=EPISODES,
        seeds=list(seeds),
        extra={"effects": EFFECTS_B.tolist(), "look_every": BLOCK, "differences": differences},
    )


if __name__ == "__main__":
    main()
