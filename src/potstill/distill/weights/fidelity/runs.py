"""Two recorded runs: whether A, the student's, decides as B, the teacher's, where both were asked the same.

It knows how an episode becomes what ``decisions``, ``tools`` and ``episodes`` count, and which steps of a pair are the
same situation. It does not pair episodes (``measure.comparison_sides``), read stores or print.

An environment that does the same after the same actions asks both sides the same until they first act differently. So
a pair gives its decisions up to and including that one, and no later one: at most one of a pair's is no agreement.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable, Sequence
from itertools import takewhile
from typing import NamedTuple

from potstill.decide.agreement import agreement_rule
from potstill.distill.weights.fidelity.decisions import top1
from potstill.distill.weights.fidelity.episodes import Loops, Parting, loops, parting, plan_adherence
from potstill.distill.weights.fidelity.shares import Share
from potstill.distill.weights.fidelity.tools import Arguments, ToolChoice, arguments, tool_choice
from potstill.measure.tally import task_key
from potstill.trajectories.situations import done, seen
from potstill.types import Answerer, Observation, Reply, Step, Struct, ToolCall, Trajectory


class Decided(NamedTuple):
    """A step as it is compared."""

    state: Hashable
    """What a policy reads, and what it may do."""
    choice: Hashable | None
    """The action under the agreement rule ``json``; None: no valid action."""
    did: Hashable
    """The same, or the action as it was written where it is not valid: the environment got that."""
    calls: tuple[ToolCall, ...]
    words: str
    """The action's words in small letters, to find it in a plan."""


class Walked(Struct, frozen=True, kw_only=True):
    """An episode without its calls to models: what somebody decided, up to a step that nobody did (a restart)."""

    task: str
    plan: tuple[str, ...]
    """The recorded plan's lines as words; empty where there is none."""
    steps: tuple[Decided, ...]

    @property
    def actions(self) -> list[Hashable]:
        return [step.did for step in self.steps]


class RunFidelity(Struct, frozen=True, kw_only=True):
    """How alike A and B decide in pairs of episodes; every interval takes a task as the unit."""

    pairs: int
    seen_apart: int
    """Pairs that saw different things before they acted differently: not the same game, or one with chance in it. Their
    decisions until then count; where they part is not known."""
    agreement: Share
    """Equal decisions in equal situations."""
    tool_choice: ToolChoice | None
    """None where nobody called a tool in these situations; so is ``arguments``."""
    arguments: Arguments | None
    parting: Parting
    """Of the pairs that saw the same until they parted."""
    loops_a: Loops
    loops_b: Loops
    plan_a: Share | None
    """Lines of A's own plans that A carried out in their order; None where none of its episodes has a plan."""
    plan_b: Share | None


def walked(trajectory: Trajectory) -> Walked:
    """What of a recorded episode is compared."""
    decided = takewhile(lambda step: step.answerer is not Answerer.NOBODY, trajectory.steps)
    return Walked(
        task=task_key(trajectory),
        plan=plan_lines(trajectory.plan),
        steps=tuple(_decided(step) for step in decided),
    )


def run_fidelity(
    pairs: Sequence[tuple[Walked, Walked]], *, confidence: float = 0.95, samples: int = 2000, seed: int = 0
) -> RunFidelity:
    """A's episodes beside B's of the same task and seed. ``samples`` and ``seed`` are the bootstrap's."""
    shared = [_shared(a, b) for a, b in pairs]
    both = [(a.task, *steps) for (a, _), path in zip(pairs, shared, strict=True) for steps in path.decisions]
    tasks = [task for task, _, _ in both]
    a_calls, b_calls = [a.calls for _, a, _ in both], [b.calls for _, _, b in both]
    with_tools = any(a_calls) or any(b_calls)
    same = [pair for pair, path in zip(pairs, shared, strict=True) if not path.seen_apart]
    sides = [[a for a, _ in pairs], [b for _, b in pairs]]
    loops_a, loops_b = (_loops(side, confidence) for side in sides)
    plan_a, plan_b = (_plans(side, confidence) for side in sides)
    return RunFidelity(
        pairs=len(pairs),
        seen_apart=len(pairs) - len(same),
        agreement=top1([a.choice for _, a, _ in both], [b.choice for _, _, b in both], tasks, confidence=confidence),
        tool_choice=tool_choice(b_calls, a_calls, tasks, confidence=confidence, samples=samples, seed=seed)
        if with_tools
        else None,
        arguments=arguments(b_calls, a_calls, tasks, confidence=confidence) if with_tools else None,
        parting=parting(
            [b.actions for _, b in same], [a.actions for a, _ in same], [a.task for a, _ in same], confidence=confidence
        ),
        loops_a=loops_a,
        loops_b=loops_b,
        plan_a=plan_a,
        plan_b=plan_b,
    )


class _Path(NamedTuple):
    """What a pair has in common, A's step first."""

    decisions: list[tuple[Decided, Decided]]
    seen_apart: bool


def _shared(a: Walked, b: Walked) -> _Path:
    """The steps in which both saw the same, up to and including the first at which they act differently."""
    found: list[tuple[Decided, Decided]] = []
    for ours, theirs in zip(a.steps, b.steps, strict=False):
        if ours.state != theirs.state:
            return _Path(found, True)
        found.append((ours, theirs))
        if ours.did != theirs.did:
            break
    return _Path(found, False)


def _loops(side: Sequence[Walked], confidence: float) -> Loops:
    circles = [[(step.state, step.did) for step in one.steps] for one in side]
    return loops(circles, [one.task for one in side], confidence=confidence)


def _plans(side: Iterable[Walked], confidence: float) -> Share | None:
    planned = [one for one in side if one.plan]
    if not planned:
        return None
    return plan_adherence(
        [one.plan for one in planned],
        [[step.words for step in one.steps] for one in planned],
        [one.task for one in planned],
        matches=carries_out,
        confidence=confidence,
    )


# --- of an episode ----------------------------------------------------------------------------------------------------


def _decided(step: Step) -> Decided:
    action = step.action
    calls = () if action.listed else action.tool_calls
    reply = Reply(text=action.listed or action.text, tool_calls=calls)
    choice = agreement_rule("json").key(reply, step.observation.admissible)
    return Decided(
        state=_state(step.observation),
        choice=choice,
        did=("invalid", done(action)) if choice is None else choice,
        calls=calls,
        words=_words(done(action)),
    )


def _state(observation: Observation) -> Hashable:
    allowed = None if observation.admissible is None else frozenset(observation.admissible)
    return seen(observation), allowed, tuple(image.digest for image in observation.images)


_NUMBER = re.compile(r"^\s*(?:(?:step\s*)?\d+\s*[.):]|[-*])\s*(?=\S)", re.IGNORECASE)


def plan_lines(plan: str) -> tuple[str, ...]:
    """The steps of a recorded plan as words: its numbered or listed lines, or all where none is.

    >>> plan_lines("Plan:\\n1. Go to desk 1.\\n2) Take the mug")
    ('go to desk 1', 'take the mug')
    """
    lines = plan.splitlines()
    listed = [line for line in lines if _NUMBER.match(line)]
    texts = (_words(_NUMBER.sub("", line, count=1)) for line in listed or lines)
    return tuple(text for text in texts if text)


def carries_out(line: str, action: str) -> bool:
    """Whether the words of one stand in the other in a row; what a plan says in other words is not found.

    >>> carries_out("go to desk 1 and look", "go to desk 1"), carries_out("go to desk 10", "go to desk 1")
    (True, False)
    """
    one, other = f" {line} ", f" {action} "
    return bool(line and action) and (one in other or other in one)


def _words(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.casefold()))
