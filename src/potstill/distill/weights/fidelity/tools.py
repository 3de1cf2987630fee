"""Which tools teacher and student call in the same situations, and with which arguments.

Names and values are compared in the canonical form of the agreement rule ``json``, so key order, white space around
texts and ``1`` against ``1.0`` do not count. Decisions come as their tool calls, none where it was said in words.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from potstill.decide.agreement import agreement_rule
from potstill.distill.weights.fidelity.shares import Share, by_task, same_length, share
from potstill.measure.statistics import Interval, check_confidence, percentiles, resample_sums
from potstill.types import Reply, Struct, ToolCall

Calls = Sequence[ToolCall]
IN_WORDS = ""
"""The tool of a decision without any call."""


class ToolShare(Struct, frozen=True, kw_only=True):
    """One tool. ``teacher`` and ``student``: its share of all choices of that side."""

    tool: str
    teacher: Share
    student: Share
    kept: Share
    """Of the decisions in which the teacher called it, those in which the student did too."""


class ToolChoice(Struct, frozen=True, kw_only=True):
    """Two distributions over tools. A decision without calls is one choice of the tool ``""``."""

    distance: float | None
    """Total variation: half the sum of the absolute differences of the shares, 0 to 1."""
    distance_ci: Interval | None
    """By a bootstrap over tasks. A distance cannot be below 0, so chance alone makes it positive, in few decisions much
    so: compare it with that of the teacher against itself."""
    n: int
    """Decisions."""
    tools: tuple[ToolShare, ...]
    """The teacher's commonest first."""


def tool_choice(
    teacher: Sequence[Calls],
    student: Sequence[Calls],
    tasks: Sequence[str] | None = None,
    *,
    confidence: float = 0.95,
    samples: int = 2000,
    seed: int = 0,
) -> ToolChoice:
    """How far apart the tools are that both call, over all decisions and tool by tool."""
    same_length(teacher, student)
    check_confidence(confidence)
    theirs, ours = [_names(calls) for calls in teacher], [_names(calls) for calls in student]
    if not theirs:
        return ToolChoice(distance=None, distance_ci=None, n=0, tools=())
    tools = _commonest_first(theirs, ours)
    columns = [[float(counts[tool]) for counts in side] for side in (theirs, ours) for tool in tools]
    values_TK = np.array(by_task(tasks, *columns))
    interval = None
    if len(values_TK) > 1:
        interval = percentiles(_distances(resample_sums(values_TK, samples, seed)), confidence)
    return ToolChoice(
        distance=float(_distances(values_TK.sum(axis=0, keepdims=True))[0]),
        distance_ci=interval,
        n=len(theirs),
        tools=tuple(_tool_share(tool, theirs, ours, tasks, confidence) for tool in tools),
    )


def _commonest_first(theirs: Sequence[Counter[str]], ours: Sequence[Counter[str]]) -> list[str]:
    """The teacher's tools by how often it called them, then those that only the student called."""
    totals = Counter[str]()
    for counts in theirs:
        totals.update(counts)
    others = {name for counts in ours for name in counts} - set(totals)
    return [*sorted(totals, key=lambda name: (-totals[name], name)), *sorted(others)]


def _names(calls: Calls) -> Counter[str]:
    return Counter([call.name for call in calls] or [IN_WORDS])


def _distances(sums_SK: np.ndarray) -> np.ndarray:
    """Total variation between the first half of the columns and the second, each made to add up to 1."""
    theirs, ours = np.split(sums_SK, 2, axis=1)
    gaps = theirs / theirs.sum(axis=1, keepdims=True) - ours / ours.sum(axis=1, keepdims=True)
    return np.asarray(np.abs(gaps).sum(axis=1) / 2)


def _tool_share(
    tool: str,
    theirs: Sequence[Mapping[str, int]],
    ours: Sequence[Mapping[str, int]],
    tasks: Sequence[str] | None,
    confidence: float,
) -> ToolShare:
    def of(side: Sequence[Mapping[str, int]]) -> Share:
        called, choices = [counts.get(tool, 0) for counts in side], [sum(counts.values()) for counts in side]
        return share(called, tasks, of=choices, confidence=confidence)

    asked = [float(tool in counts) for counts in theirs]
    both = [float(tool in one and tool in other) for one, other in zip(theirs, ours, strict=True)]
    return ToolShare(
        tool=tool, teacher=of(theirs), student=of(ours), kept=share(both, tasks, of=asked, confidence=confidence)
    )


class Arguments(Struct, frozen=True, kw_only=True):
    """Arguments of calls in which both chose the same tool; what one side called alone is in ``tool_choice``."""

    n: int
    """Pairs of calls: the k-th call of a tool in a decision is compared with the other side's k-th call of it."""
    calls: Share
    """Pairs that are equal as a whole."""
    names: Share
    """Pairs in which both give the same arguments by name."""
    values: Share
    """Of the teacher's arguments, those that the student gave with an equal value."""
    added: int
    """Arguments that the student gave and the teacher did not."""
    unreadable: int
    """The student's calls whose arguments are not a JSON object; nothing in them is equal to anything."""
    unreadable_teacher: int
    """The teacher's; such pairs are left out, for there is nothing to compare with."""


class _Compared(Struct, frozen=True, kw_only=True):
    task: str
    calls: bool
    names: bool
    values: int
    of: int
    added: int
    readable: bool


def arguments(
    teacher: Sequence[Calls], student: Sequence[Calls], tasks: Sequence[str] | None = None, *, confidence: float = 0.95
) -> Arguments:
    """How faithfully the student fills in the arguments of the tools that both call."""
    same_length(teacher, student)
    units = [str(index) for index in range(len(teacher))] if tasks is None else tasks
    same_length(teacher, units)
    found: list[_Compared] = []
    unreadable_teacher = 0
    for task, theirs, ours in zip(units, teacher, student, strict=True):
        for one, other in _pairs(theirs, ours):
            wanted = _canonical(one)
            if wanted is None:
                unreadable_teacher += 1
            else:
                found.append(_compared(task, wanted, _canonical(other)))
    names = [pair.task for pair in found]
    return Arguments(
        n=len(found),
        calls=share([pair.calls for pair in found], names, confidence=confidence),
        names=share([pair.names for pair in found], names, confidence=confidence),
        values=share([pair.values for pair in found], names, of=[pair.of for pair in found], confidence=confidence),
        added=sum(pair.added for pair in found),
        unreadable=sum(1 for pair in found if not pair.readable),
        unreadable_teacher=unreadable_teacher,
    )


def _pairs(theirs: Calls, ours: Calls) -> list[tuple[ToolCall, ToolCall]]:
    """Calls of the same tool, in order."""
    left = list(ours)
    found = []
    for call in theirs:
        match = next((other for other in left if other.name == call.name), None)
        if match is not None:
            left.remove(match)
            found.append((call, match))
    return found


def _canonical(call: ToolCall) -> dict[str, str] | None:
    """The arguments by name, each as canonical JSON; None if they are not a JSON object."""
    key = agreement_rule("json").key(Reply(tool_calls=(call,)), None)
    if not isinstance(key, tuple):
        return None
    ((_, text),) = key
    return {name: json.dumps(value, sort_keys=True) for name, value in json.loads(text).items()}


def _compared(task: str, wanted: Mapping[str, str], given: Mapping[str, str] | None) -> _Compared:
    mine = given or {}
    return _Compared(
        task=task,
        calls=given is not None and wanted == given,
        names=given is not None and set(wanted) == set(given),
        values=sum(1 for name, value in wanted.items() if mine.get(name) == value),
        of=len(wanted),
        added=len(set(mine) - set(wanted)),
        readable=given is not None,
    )
