"""How often each teacher is right, told from where they agree and from how their episodes ended, by EM.

The one-coin model of Dawid and Skene (1979, Applied Statistics 28:20; one coin: Raykar et al. 2010, JMLR 11:1297),
for states with different numbers of actions: every state has one right action, each as likely before anyone was heard;
a teacher names it with its reliability r, and otherwise one of the A - 1 others, each as likely. An episode's outcome
is one more observation of whether its decisions were right: won with probability q1 after a right one and q0 after a
wrong one. It is one observation for all of its steps, so each step has its share of it (``outcome_share``).

A teacher counts once in a state, however often it came there: what it repeats is no second opinion. What is not known
to differ is held together: the reliability for one kind of task is drawn towards the teacher's own over all kinds.
Agreement alone tells three teachers apart if each beats chance, and fewer do not suffice: then outcomes must tell.
Knows arrays. Does not know decisions (``fusing``).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from potstill.errors import ConfigError

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

START = 0.7
"""Every teacher's reliability before the first step: the first guess is then the vote of the majority."""
WON = (0.75, 0.25)
"""How often an episode is won after a right decision and after a wrong one, before the first step."""
PRIOR = (1.0, 1.0)
"""Right and wrong answers that each teacher has before the data: the mean of the posterior is what is taken."""
HELD = 4.0
"""Decisions of a kind that it takes for half of a teacher's reliability there to be the kind's own."""
LIMITS = (1e-3, 1.0 - 1e-3)
STEPS, TOLERANCE = 500, 1e-6


class Ballots(NamedTuple):
    """V votes on S states by J teachers in tasks of K kinds."""

    state_V: Integers
    action_V: Integers
    """Position among the state's actions."""
    teacher_V: Integers
    weight_V: Floats
    """Shares of a teacher's one voice in a state; they add up to 1 for each teacher and state."""
    won_V: Floats
    """Of the episodes in which it was said, the share that was won, and lost; both 0: not known."""
    lost_V: Floats
    actions_S: Integers
    """How many actions each state has, at least 2."""
    kind_S: Integers
    teachers: int
    kinds: int = 1


class Reliability(NamedTuple):
    right_JK: Floats
    """The probability that a teacher names the right action in a task of a kind."""
    right_J: Floats
    """Over all kinds."""
    won_if_right: float
    won_if_wrong: float
    steps: int
    """Of EM, until nothing changed by more than ``TOLERANCE``."""


def estimate(ballots: Ballots, *, outcome_share: float = 0.0, steps: int = STEPS) -> Reliability:
    """EM from the same start for all. ``outcome_share``: how much of an episode's outcome each decision has, such as 1
    over the steps of an episode; 0: outcomes are not looked at.

    Raises ``ConfigError`` for no vote, a state with fewer than two actions, and a share outside 0 to 1.
    """
    _check(ballots, outcome_share)
    right_J = np.full(ballots.teachers, START)
    found = Reliability(np.full((ballots.teachers, ballots.kinds), START), right_J, *WON, 0)
    for step in range(1, steps + 1):
        right_V = chosen_is_right(ballots, found, outcome_share)
        new = _counted(ballots, right_V, outcome_share, step)
        change = float(np.abs(new.right_JK - found.right_JK).max())
        found = new
        if change < TOLERANCE:
            break
    return found


def chosen_is_right(ballots: Ballots, reliability: Reliability, outcome_share: float = 0.0) -> Floats:
    """For each vote, the probability that its action is the right one: what the E step is."""
    return np.asarray(np.exp(posterior(ballots, reliability, outcome_share)[0]))


def posterior(ballots: Ballots, reliability: Reliability, outcome_share: float = 0.0) -> tuple[Floats, Floats]:
    """Log-probability of each vote's action to be right, shape (V,), and of each action of a state that nobody named,
    shape (S,). Votes for one action of a state have the same.

    By Bayes: the evidence for an action is the sum over its votes of ``log r / ((1 - r) / (A - 1))``, and what their
    outcomes add; an action without votes has 0.
    """
    b, share = ballots, outcome_share
    right_V = reliability.right_JK[b.teacher_V, b.kind_S[b.state_V]]
    others_V = b.actions_S[b.state_V] - 1.0
    evidence_V = b.weight_V * (np.log(right_V) - np.log((1.0 - right_V) / others_V))
    if share:
        q1, q0 = reliability.won_if_right, reliability.won_if_wrong
        outcome_V = b.won_V * math.log(q1 / q0) + b.lost_V * math.log((1.0 - q1) / (1.0 - q0))
        evidence_V = evidence_V + share * b.weight_V * outcome_V
    return _normalised(b, evidence_V)


def _normalised(b: Ballots, evidence_V: Floats) -> tuple[Floats, Floats]:
    """Votes for the same action of the same state are summed, then each state's actions add up to 1."""
    most = int(b.actions_S.max())
    pairs, of_V = np.unique(b.state_V * most + b.action_V, return_inverse=True)
    evidence_P = np.bincount(of_V, weights=evidence_V, minlength=len(pairs))
    state_P = pairs // most
    named_S = np.bincount(state_P, minlength=len(b.actions_S))
    top_S = np.where(named_S < b.actions_S, 0.0, -np.inf)
    np.maximum.at(top_S, state_P, evidence_P)
    top_S = np.where(np.isfinite(top_S), top_S, 0.0)
    total_S = np.bincount(state_P, weights=np.exp(evidence_P - top_S[state_P]), minlength=len(b.actions_S))
    total_S = total_S + (b.actions_S - named_S) * np.exp(-top_S)
    log_S = top_S + np.log(total_S)
    return (evidence_P - log_S[state_P])[of_V], -log_S


def _counted(b: Ballots, right_V: Floats, share: float, step: int) -> Reliability:
    """The M step. States that one teacher alone judged, without an outcome, say nothing of it and are left out."""
    telling_V = b.weight_V * _telling(b, share)
    cells = b.teacher_V * b.kinds + b.kind_S[b.state_V]
    hits_JK = np.bincount(cells, weights=telling_V * right_V, minlength=b.teachers * b.kinds)
    heard_JK = np.bincount(cells, weights=telling_V, minlength=b.teachers * b.kinds)
    hits_JK, heard_JK = (values.reshape(b.teachers, b.kinds) for values in (hits_JK, heard_JK))
    right_J = (hits_JK.sum(1) + PRIOR[0]) / (heard_JK.sum(1) + sum(PRIOR))
    right_JK = (hits_JK + HELD * right_J[:, None]) / (heard_JK + HELD) if b.kinds > 1 else right_J[:, None]
    q1, q0 = _outcomes(b, right_V) if share else WON
    return Reliability(np.clip(right_JK, *LIMITS), np.clip(right_J, *LIMITS), q1, q0, step)


def _telling(b: Ballots, share: float) -> Floats:
    pairs = np.unique(b.state_V * b.teachers + b.teacher_V)
    judges_S = np.bincount(pairs // b.teachers, minlength=len(b.actions_S))
    known_V = (b.won_V + b.lost_V) > 0 if share else np.zeros(len(b.state_V), bool)
    return np.asarray((judges_S[b.state_V] > 1) | known_V, np.float64)


def _outcomes(b: Ballots, right_V: Floats) -> tuple[float, float]:
    """How often episodes are won after a right decision, and after a wrong one: at most as often."""
    won, lost = b.weight_V * b.won_V, b.weight_V * b.lost_V
    hit = (float((won * right_V).sum()) + 1.0, float((lost * right_V).sum()) + 1.0)
    miss = (float((won * (1 - right_V)).sum()) + 1.0, float((lost * (1 - right_V)).sum()) + 1.0)
    q1, q0 = hit[0] / sum(hit), miss[0] / sum(miss)
    if q1 < q0:
        q1 = q0 = (hit[0] + miss[0]) / (sum(hit) + sum(miss))
    return q1, q0


def _check(b: Ballots, share: float) -> None:
    if not len(b.state_V):
        raise ConfigError("No teacher's decision is there to be weighed. Record episodes of the teachers first.")
    if b.actions_S.min() < 2:
        raise ConfigError("A state has fewer than two actions, so nothing was decided there. Leave it out.")
    if not 0.0 <= share <= 1.0:
        raise ConfigError(f"outcome_share is {share}. Allowed: 0 to 1, such as 1 over the steps of an episode.")
