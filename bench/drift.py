"""How often the drift monitor cries wolf, and how soon it finds drift that is there, beside named peers.

    python bench/drift.py [--streams 2000]

Each stream is 10,000 shadow observations. Allowed disagreement 5 %, alpha 0.05. *False alarms*: the true rate is the
allowed one (the worst case) or four fifths of it. *Delay*: observations from the onset to the alarm, where the rate
jumps from 4 % at the onset, or rises over 2,000 observations; streams that alarm before the onset are left out and
counted, those that never alarm count as later than any.

Peers, in the same run on the same streams:

- CUSUM (Page 1954) for Bernoulli data with twice the allowed rate as its target. Its threshold is tuned by simulation,
  on other streams at exactly the allowed rate, to the false-alarm rate of the monitor within 10,000 observations: it is
  told the horizon and the true rate, which the monitor is not.
- Disjoint windows of 200 and of 500 observations, each by the exact binomial test at alpha over their number
  (Bonferroni).

Ten times as long: false alarms of both within 100,000 observations, with what was fixed for 10,000.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

import _results
from potstill.decide import drift
from potstill.decide.bounds import binomial_cdf, clopper_pearson
from potstill.decide.drift import DriftPlan, DriftVerdict

PLAN = DriftPlan(allowed_rate=0.05, alpha=0.05)
BEFORE = 0.04
HORIZON = 10_000
LONG = 100_000
ONSETS = (0, 1130, 5130)
"""Not at the edge of a window, which would flatter the windows."""
RATES = (0.075, 0.1, 0.15, 0.3)
RAMP = 2000
NEVER = -1
BLOCK = 1000
PART = 50

Streams = NDArray[np.bool_]
"""Disagreements, shape (streams, observations)."""
Times = NDArray[np.int64]
"""Number of the observation at which each stream alarms first, from 1; ``NEVER``."""
Detector = Callable[[Streams], Times]


def monitor(disagreed_ST: Streams) -> Times:
    """``drift.observe`` for many streams at once; ``agrees`` checks that it is the same."""
    bets_B = np.asarray(drift.bet_sizes(PLAN))
    gains_2B = 1.0 + bets_B * (np.array([0.0, 1.0])[:, None] - PLAN.allowed_rate)
    cash = np.array([drift.unstarted(PLAN, n) for n in range(disagreed_ST.shape[1] + 1)])
    wealth_SB = np.zeros((len(disagreed_ST), len(bets_B)))
    first_S = np.full(len(disagreed_ST), NEVER)
    for t, column_S in enumerate(np.ascontiguousarray(disagreed_ST.T).astype(np.int8)):
        wealth_SB += cash[t] - cash[t + 1]
        wealth_SB *= gains_2B[column_S]
        np.minimum(wealth_SB, drift.MOST_WEALTH, out=wealth_SB)
        alarm_S = wealth_SB.mean(axis=1) + cash[t + 1] >= 1.0 / PLAN.alpha
        first_S[alarm_S & (first_S == NEVER)] = t + 1
    return first_S


def agrees(disagreed_ST: Streams) -> None:
    """Raise unless the vectorised monitor alarms exactly when the library's does."""
    for row_T, first in zip(disagreed_ST, monitor(disagreed_ST), strict=True):
        state, found = drift.start(PLAN), NEVER
        for n, disagreed in enumerate(row_T, start=1):
            state = drift.observe(state, not disagreed)
            if drift.verdict(state) is DriftVerdict.ALARM:
                found = n
                break
        if found != first:
            raise AssertionError(f"the monitor alarms at {found}, its vectorised form at {first}")


def cusum_path(disagreed_ST: Streams) -> NDArray[np.float64]:
    """Page's sum of log-likelihood ratios of the target to the allowed rate, never below 0; shape (S, T)."""
    p, q = PLAN.allowed_rate, 2 * PLAN.allowed_rate
    steps_ST = np.where(disagreed_ST, math.log(q / p), math.log((1 - q) / (1 - p)))
    walk_ST = np.cumsum(steps_ST, axis=1)
    return walk_ST - np.minimum(np.minimum.accumulate(walk_ST, axis=1), 0.0)


def cusum(threshold: float) -> Detector:
    return lambda disagreed_ST: np.concatenate(
        [_first(cusum_path(part_ST) >= threshold) for part_ST in _parts(disagreed_ST)]
    )


def _parts(disagreed_ST: Streams) -> Iterator[Streams]:
    """A few streams at a time: a path takes eight bytes an observation."""
    for start in range(0, len(disagreed_ST), PART):
        yield disagreed_ST[start : start + PART]


def windows(size: int) -> Detector:
    """Disjoint windows, each tested exactly at alpha over the number of windows within the horizon."""
    level = PLAN.alpha * size / HORIZON
    least = next(k for k in range(size + 1) if 1.0 - binomial_cdf(k - 1, size, PLAN.allowed_rate) <= level)

    def detect(disagreed_ST: Streams) -> Times:
        streams, length = disagreed_ST.shape
        counts_SW = disagreed_ST[:, : length // size * size].reshape(streams, -1, size).sum(axis=2)
        first_S = _first(counts_SW >= least)
        return np.where(first_S == NEVER, NEVER, first_S * size)

    return detect


def _first(alarm_ST: Streams) -> Times:
    return np.where(alarm_ST.any(axis=1), alarm_ST.argmax(axis=1) + 1, NEVER)


# --- what is measured -----------------------------------------------------------------------------------------------


def streams(rates_T: NDArray[np.float64], number: int, seed: int) -> Streams:
    random = np.random.default_rng(seed)
    return np.concatenate(
        [
            random.random((min(BLOCK, number - start), len(rates_T)), dtype=np.float32) < rates_T
            for start in range(0, number, BLOCK)
        ]
    )


def false_alarms(name: str, rate: float, horizon: int, times_S: Times) -> dict[str, Any]:
    alarms = int((times_S != NEVER).sum())
    return {
        "kind": "false alarms",
        "detector": name,
        "rate": rate,
        "observations": horizon,
        "streams": len(times_S),
        "alarms": alarms,
        "alarm_rate": alarms / len(times_S),
        "alarm_rate_ci": clopper_pearson(alarms, len(times_S)),
    }


def delays(name: str, shape: str, rate: float, onset: int, times_S: Times) -> dict[str, Any]:
    early_S = (times_S != NEVER) & (times_S <= onset)
    late_S = times_S[~early_S]
    delay_S = np.where(late_S == NEVER, np.inf, late_S - onset)
    return {
        "kind": "delay",
        "detector": name,
        "drift": shape,
        "rate": rate,
        "onset": onset,
        "streams": len(times_S),
        "before_onset": int(early_S.sum()),
        "found": float(np.isfinite(delay_S).mean()),
        "median": float(np.quantile(delay_S, 0.5, method="higher")),
        "p90": float(np.quantile(delay_S, 0.9, method="higher")),
    }


def tuned(number: int) -> tuple[float, float]:
    """The CUSUM threshold at which as many streams alarm as under the monitor, and that share."""
    null_ST = streams(np.full(HORIZON, PLAN.allowed_rate), number, seed=1)
    share = float((monitor(null_ST) != NEVER).mean())
    tops_S = np.concatenate([cusum_path(part_ST).max(axis=1) for part_ST in _parts(null_ST)])
    return float(np.quantile(tops_S, 1.0 - share, method="higher")), share


def drifts() -> list[tuple[str, float, int, NDArray[np.float64]]]:
    """Name, final rate, onset, and the rate at each observation."""
    at_T = np.arange(HORIZON)
    found = [("jump", rate, onset, np.where(at_T < onset, BEFORE, rate)) for onset in ONSETS for rate in RATES]
    ramp_T = BEFORE + (0.15 - BEFORE) * np.clip((at_T - ONSETS[1]) / RAMP, 0.0, 1.0)
    return [*found, ("ramp", 0.15, ONSETS[1], ramp_T)]


def update_s(n: int = 100_000) -> float:
    state = drift.start(PLAN)
    disagreed = streams(np.full(n, BEFORE), 1, seed=9)[0].tolist()
    begun = time.process_time()
    for one in disagreed:
        state = drift.observe(state, not one)
    return (time.process_time() - begun) / n


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, default=2000)
    number = parser.parse_args().streams
    begun = time.process_time()
    agrees(streams(np.where(np.arange(4000) < 1500, BEFORE, 0.12), 20, seed=8))
    threshold, share = tuned(number)
    detectors = {
        "monitor": monitor,
        "CUSUM, tuned": cusum(threshold),
        **{f"windows of {w}": windows(w) for w in (200, 500)},
    }
    rows = []
    for rate in (PLAN.allowed_rate, 0.8 * PLAN.allowed_rate):
        null_ST = streams(np.full(HORIZON, rate), number, seed=2)
        rows += [false_alarms(name, rate, HORIZON, detect(null_ST)) for name, detect in detectors.items()]
    long_ST = streams(np.full(LONG, PLAN.allowed_rate), max(10, number // 10), seed=3)
    rows += [false_alarms(name, PLAN.allowed_rate, LONG, detect(long_ST)) for name, detect in detectors.items()]
    for index, (shape, rate, onset, rates_T) in enumerate(drifts()):
        drifting_ST = streams(rates_T, max(10, number // 4), seed=10 + index)
        rows += [delays(name, shape, rate, onset, detect(drifting_ST)) for name, detect in detectors.items()]
    for row in rows:
        print(" ".join(f"{key}={item:.4g}" if isinstance(item, float) else f"{item}" for key, item in row.items()))
    _results.write(
        "drift",
        rows,
        n=number,
        seeds=[1, 2, 3, 8, 9, *range(10, 10 + len(drifts()))],
        extra={
            "allowed_rate": PLAN.allowed_rate,
            "alpha": PLAN.alpha,
            "rate_before": BEFORE,
            "cusum_threshold": threshold,
            "tuned_to_false_alarm_rate": share,
            "update_us": update_s() * 1e6,
            "cpu_s": time.process_time() - begun,
        },
    )


if __name__ == "__main__":
    main()
