"""What an agent's episodes look like in tokens: the input of a what-if.

What it knows: the shape of an episode, what values it may have, and how to read it off recorded episodes.
What it does not do: prices, or the ways to use a student (``ways.py``).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from msgspec.structs import replace

from potstill.errors import ConfigError
from potstill.types import Answerer, Struct, Trajectory, TrajectoryKind, Usage

MOST_STEPS = 1000
"""Longer episodes are refused: their prompts would fit into no model's context."""


class Workload(Struct, frozen=True, kw_only=True):
    """One typical episode. A step is one call of the acting model; its prompt is the whole history so far."""

    steps: int = 20
    prefix_tokens: int = 6000
    """Prompt of the first step: system text, tools, goal."""
    per_step_tokens: int = 1200
    """By how much the prompt grows with each step: the action and the next observation."""
    output_tokens: int = 300
    """Of one answer, reasoning included."""
    demonstrations_tokens: int = 8000
    """What the student is shown beside the teacher's prompt."""
    samples: int = 3
    """Of the student at each step of a cascade."""
    escalation: float = 0.2
    """Share of the student's steps that go to the teacher."""
    task_escalation: float | None = None
    """Share of whole tasks that go to the teacher, where tasks are given away whole. ``None``: as ``escalation``."""
    handoff_tokens: int = 4000
    """The teacher's prompt where it gets a summary in place of the history."""
    keep_steps: int = 5
    """How many steps the teacher keeps once it has one (sticky), or takes at the start (teacher first)."""
    step_seconds: float = 0.0
    """From one step to the next. Caches forget: 0 means that they do not within an episode."""

    def __post_init__(self) -> None:
        for name, least, most in _WHOLE:
            value = getattr(self, name)
            if not least <= value <= most:
                raise ConfigError(f"{_said(name)} is {value}; allowed: {least} to {most}.")
        for name in ("escalation", "task_escalation"):
            share = getattr(self, name)
            if share is not None and not 0 <= share <= 1:
                raise ConfigError(f"{_said(name)} is {share}; allowed: 0 to 1, for example 0.2.")
        if not 0 <= self.step_seconds < float("inf"):
            raise ConfigError(f"Step seconds are {self.step_seconds}; allowed: 0 or more.")

    @property
    def task_share(self) -> float:
        """Share of whole tasks that go to the teacher."""
        return self.escalation if self.task_escalation is None else self.task_escalation


_WHOLE = (
    ("steps", 1, MOST_STEPS),
    ("prefix_tokens", 1, 10_000_000),
    ("per_step_tokens", 0, 1_000_000),
    ("output_tokens", 0, 1_000_000),
    ("demonstrations_tokens", 0, 10_000_000),
    ("samples", 1, 100),
    ("handoff_tokens", 1, 10_000_000),
    ("keep_steps", 1, MOST_STEPS),
)


def _said(name: str) -> str:
    return name.replace("_", " ").capitalize()


class Observed(Struct, frozen=True, kw_only=True):
    """What recorded episodes say about a workload. ``None``: they do not say."""

    workloads: tuple[Workload, ...]
    """One for each episode that could be read, so that long and short ones both count."""
    escalation: float | None
    """The teacher's share of the steps of recorded cascades."""
    cascades: int
    left_out: int
    """Episodes, or calls of no known episode, without what it takes."""


class Shape:
    """The prompts of one episode as they come in: their first, their largest, their number; and the answers."""

    __slots__ = ("calls", "first", "largest", "output")

    def __init__(self) -> None:
        self.calls = self.first = self.largest = 0
        self.output = 0.0

    def add(self, usage: Usage, samples: int = 1) -> None:
        """One call of the acting model, in order."""
        self.first = self.first if self.calls else usage.input_tokens
        self.largest = max(self.largest, usage.input_tokens)
        self.output += usage.output_tokens / max(1, samples)
        self.calls += 1

    def workload(self, base: Workload) -> Workload | None:
        """The prompt of the first call, the mean growth, the mean answer; ``None`` without calls or with too many."""
        if not 0 < self.calls <= MOST_STEPS:
            return None
        growth = (self.largest - self.first) // max(1, self.calls - 1)
        return replace(
            base,
            steps=self.calls,
            prefix_tokens=max(1, self.first),
            per_step_tokens=growth,
            output_tokens=round(self.output / self.calls),
        )


def observe(episodes: Iterable[Trajectory], base: Workload) -> Observed:
    """Steps, prompts and answers of recorded episodes; what they do not tell is taken from ``base``.

    The shape is that of the teacher's episodes where there are any, otherwise of all: what a student is shown beside
    the history would count twice. Raises ``ConfigError`` if no episode has token counts.
    """
    shapes: dict[bool, list[Workload | None]] = {True: [], False: []}
    escalated = decided = cascades = 0
    for episode in episodes:
        if episode.kind is TrajectoryKind.CASCADE:
            cascades += 1
            decided += len(episode.steps)
            escalated += sum(step.answerer is Answerer.TEACHER for step in episode.steps)
        elif episode.kind is not TrajectoryKind.CONTROL:
            shapes[episode.kind is TrajectoryKind.TEACHER].append(_shape(episode).workload(base))
    left_out = sum(shape is None for found in shapes.values() for shape in found)
    teachers, others = ([shape for shape in shapes[kind] if shape is not None] for kind in (True, False))
    return Observed(
        workloads=_some(teachers or others, f"{left_out} episodes without, {cascades} cascades"),
        escalation=escalated / decided if decided else None,
        cascades=cascades,
        left_out=left_out,
    )


def observe_shapes(shapes: Iterable[Shape], base: Workload, left_out: int = 0) -> Observed:
    """The same from episodes of a log, which names no teacher; ``left_out``: calls that belong to no episode."""
    found = [shape.workload(base) for shape in shapes]
    known = [shape for shape in found if shape is not None]
    left_out += len(found) - len(known)
    workloads = _some(known, f"{left_out} calls or episodes without token counts, model or session")
    return Observed(workloads=workloads, escalation=None, cascades=0, left_out=left_out)


def _some(found: list[Workload], without: str) -> tuple[Workload, ...]:
    if not found:
        raise ConfigError(
            f"No episode of one model alone with token counts ({without}). Record some: potstill run --arm teacher; "
            "or leave --from out and give --steps, --prefix and --per-step."
        )
    return tuple(found)


def _shape(episode: Trajectory) -> Shape:
    shape = Shape()
    for call in (call for step in episode.steps for call in step.calls):
        if call.usage is not None and call.replies:
            shape.add(call.usage, len(call.replies))
    return shape


def spread(workloads: Sequence[Workload], most: int) -> list[Workload]:
    """At most ``most`` of the workloads, evenly spaced over their order by length, so that few stand for all."""
    ordered = sorted(workloads, key=lambda one: (one.steps, one.prefix_tokens, one.per_step_tokens))
    if len(ordered) <= most:
        return ordered
    return [ordered[(2 * i + 1) * len(ordered) // (2 * most)] for i in range(most)]
