"""Tasks with known truth for the bench of calibration: synthetic profiles, and a recorded finite population.

A synthetic task has a difficulty; a student's sample is right with a probability that falls with it. Mistakes are
scattered over several answers, or, at a share of the tasks, the same one in every sample: then samples agree on a wrong
answer, which is the failure that no vote sees. The teacher fails too, more often at hard tasks.

What it knows: numpy and the arrays of ``decide.calibration.units``. What it does not do: calibrate or judge.
"""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from potstill.decide.calibration.units import Units

SAMPLES = 5
STUDENT_USD = 0.05
"""A student's sample, where the teacher's answer costs 1."""
WRONG_ANSWERS = 4


class Profile(NamedTuple):
    """One kind of work."""

    name: str
    easy: float
    """Share of easy tasks."""
    easy_right: float
    """Mean chance of a right sample at easy tasks; its spread over tasks is that of a Beta with ``sharpness``."""
    hard_right: float
    sharpness: float
    """Large: all easy tasks alike, and agreement tells easy from hard. Small: everything in between exists."""
    same_mistake: float
    """Share of tasks at which all wrong samples give the same wrong answer."""
    teacher_easy: float
    teacher_hard: float
    signal: float
    """How much a second signal (a log-probability margin) says about the chance of being right: 0 nothing."""


PROFILES = (
    Profile("informative agreement", 0.7, 0.97, 0.25, 20.0, 0.02, 0.99, 0.90, 1.0),
    Profile("weak agreement", 0.6, 0.93, 0.60, 6.0, 0.10, 0.98, 0.92, 2.0),
    Profile("consistently wrong", 0.7, 0.97, 0.20, 10.0, 0.50, 0.98, 0.90, 1.0),
    Profile("imperfect teacher", 0.7, 0.96, 0.30, 10.0, 0.10, 0.85, 0.45, 1.0),
)


def stream(profile: Profile, n: int, random: np.random.Generator, student_usd: float = STUDENT_USD) -> Units:
    """``n`` independent tasks of a profile, every one labelled."""
    easy_U = random.random(n) < profile.easy
    mean_U = np.where(easy_U, profile.easy_right, profile.hard_right)
    right_U = random.beta(mean_U * profile.sharpness, (1 - mean_U) * profile.sharpness)
    same_U = random.random(n) < profile.same_mistake
    right_US = random.random((n, SAMPLES)) < right_U[:, None]
    mistake_US = np.where(same_U[:, None], 1, random.integers(1, WRONG_ANSWERS + 1, (n, SAMPLES)))
    raw_US = np.where(right_US, 0, mistake_US)
    teacher_U = random.random(n) < np.where(easy_U, profile.teacher_easy, profile.teacher_hard)
    margin_US = profile.signal * 2.0 * (right_U - 0.5)[:, None] + random.normal(size=(n, SAMPLES))
    return Units(
        task_U=np.arange(n, dtype=np.int64),
        answers_US=first_seen(raw_US),
        success_US=right_US.astype(np.int8),
        student_usd_US=np.full((n, SAMPLES), student_usd),
        teacher_answer_U=_code_of(raw_US, np.where(teacher_U, 0, -7)),
        teacher_success_U=teacher_U.astype(np.int8),
        teacher_usd_U=np.ones(n),
        labelled_U=np.ones(n, dtype=bool),
        features={"margin": margin_US},
    )


def first_seen(raw_US: NDArray[Any]) -> NDArray[np.int32]:
    """Answers as codes within their unit, numbered in the order in which the samples first give them."""
    first_US = (raw_US[:, :, None] == raw_US[:, None, :]).argmax(axis=2)
    new_US = first_US == np.arange(raw_US.shape[1])
    rank_US = np.cumsum(new_US, axis=1) - 1
    return np.take_along_axis(rank_US, first_US, axis=1).astype(np.int32)


def _code_of(raw_US: NDArray[Any], answer_U: NDArray[Any]) -> NDArray[np.int32]:
    """The unit's code of an answer; one beyond all codes where no sample gave it."""
    same_US = raw_US == answer_U[:, None]
    code_U = np.take_along_axis(first_seen(raw_US), same_US.argmax(axis=1)[:, None], axis=1)[:, 0]
    return np.where(same_US.any(axis=1), code_U, raw_US.shape[1]).astype(np.int32)


# --- recorded -------------------------------------------------------------------------------------------------------

WRITES = frozenset(
    {
        "modify_pending_order_items",
        "modify_pending_order_address",
        "modify_pending_order_payment",
        "modify_user_address",
        "return_delivered_order_items",
        "exchange_delivered_order_items",
        "cancel_pending_order",
    }
)
TEACHER_RUN = "_gpt-5-mini__base__all_"
STUDENT = "gpt-4.1-mini"
ORDERS = 120


def recorded(path: Path, student_usd: float = STUDENT_USD) -> Units:
    """tau2-bench retail: what six runs of gpt-4.1-mini wrote to the shop's database votes, gpt-5-mini is the teacher.

    The answer of an episode is the set of its successful writing calls with normalised arguments. Each of the tasks is
    there in ``ORDERS`` random orders of its six samples, so that any of them may be the first; this finite population
    is the truth, and calibration draws from it with replacement. Dollars are assumed (``student_usd`` to 1).
    """
    runs = _by_run(path)
    teacher = runs[TEACHER_RUN]
    students = [
        episodes
        for name, episodes in sorted(runs.items())
        if name != TEACHER_RUN and set(episodes) == set(teacher) and _model(episodes) == STUDENT
    ]
    random = np.random.default_rng(0)
    orders = [random.permutation(len(students)) for _ in range(ORDERS)]
    cells = itertools.product(sorted(teacher), orders)
    rows = [([students[i][task] for i in order], teacher[task]) for task, order in cells]
    numbers: dict[str, int] = {}
    for samples, own in rows:
        for episode in (*samples, own):
            numbers.setdefault(answer(episode), len(numbers))
    raw_US = np.array([[numbers[answer(one)] for one in samples] for samples, _ in rows])
    teacher_U = np.array([numbers[answer(own)] for _, own in rows])
    return Units(
        task_U=np.arange(len(rows), dtype=np.int64),
        answers_US=first_seen(raw_US),
        success_US=np.array([[one["success"] for one in samples] for samples, _ in rows], dtype=np.int8),
        student_usd_US=np.full(raw_US.shape, student_usd),
        teacher_answer_U=_code_of(raw_US, teacher_U),
        teacher_success_U=np.array([own["success"] for _, own in rows], dtype=np.int8),
        teacher_usd_U=np.ones(len(rows)),
        labelled_U=np.ones(len(rows), dtype=bool),
        features={"messages": np.array([[one["messages"] for one in samples] for samples, _ in rows], dtype=float)},
    )


def _by_run(path: Path) -> dict[str, dict[str, dict[str, Any]]]:
    runs: dict[str, dict[str, dict[str, Any]]] = {}
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            row = json.loads(line)
            runs.setdefault(row["run"], {})[row["task_id"]] = {
                "model": row["agent_model"],
                "success": row["reward"] == 1,
                "messages": len(row["messages"]),
                "writes": _writes(row["messages"]),
            }
    return runs


def _model(episodes: dict[str, dict[str, Any]]) -> str:
    return str(next(iter(episodes.values()))["model"])


def answer(episode: dict[str, Any]) -> str:
    return str(episode["writes"])


def _writes(messages: list[dict[str, Any]]) -> str:
    failed = {message.get("id") for message in messages if message["role"] == "tool" and message.get("error")}
    calls = [
        json.dumps([call["name"], _normal(call["arguments"])], sort_keys=True)
        for message in messages
        for call in message.get("tool_calls") or ()
        if call["name"] in WRITES and call["id"] not in failed
    ]
    return "\n".join(sorted(calls))


def _normal(value: Any) -> Any:
    """Order of list items, case and white space at the ends do not count."""
    if isinstance(value, dict):
        return {key: _normal(item) for key, item in value.items()}
    if isinstance(value, list):
        return sorted((_normal(item) for item in value), key=str)
    return value.strip().lower() if isinstance(value, str) else value
