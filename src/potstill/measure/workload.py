"""What an agent's episodes look like in tokens: the input of a what-if.

What it knows: the shape of an episode, what values it may have, and how to read it off recorded episodes.
What it does not do: prices, or the ways to use a student (``ways.py``).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from statistics import median

from msgspec.structs import replace

from potstill.errors import ConfigError
from potstill.types import Answerer, EscalationMode, Step, Struct, Trajectory, TrajectoryKind, Usage

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
    """The teacher's prompt where it gets a summary in place of the history, at the steps where that is shorter."""
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

    def prompt_tokens(self, step: int) -> int:
        """The whole prompt at a step, counted from 0, without demonstrations."""
        return self.prefix_tokens + self.per_step_tokens * step

    @property
    def longest_tokens(self) -> int:
        """The prompt of the last step."""
        return self.prompt_tokens(self.steps - 1)

    def hands_off(self, step: int) -> bool:
        """Whether a hand-off at this step is shorter than the history it stands for."""
        return self.handoff_tokens < self.prompt_tokens(step)


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
    demonstrations_tokens: int | None = None
    """By how much a student's prompts with demonstrations are longer than the teacher's at the same point (median)."""
    teacher: str | None = None
    student: str | None = None
    """The models as the recorded episodes name them, the most frequent ones."""
    students: int = 0
    """Episodes of a student alone."""


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
            demonstrations_tokens=min(base.demonstrations_tokens, self.largest),
        )


class _Shown:
    """How long demonstrations are: what a student is shown beyond what the teacher sees at the same point."""

    def __init__(self) -> None:
        self._beyond: list[int] = []
        self._firsts: list[int] = []

    def add(self, episode: Trajectory) -> None:
        """The prompts of both sides at one step, and the student's first one."""
        for number, step in enumerate(episode.steps):
            if not step.demonstrations:
                continue
            student, teacher = (_prompt_tokens(step, who) for who in (Answerer.STUDENT, Answerer.TEACHER))
            if student is not None and not number:
                self._firsts.append(student)
            compact = step.decision is not None and step.decision.mode is EscalationMode.COMPACT
            if student is not None and teacher is not None and not compact:
                self._beyond.append(student - teacher)

    def tokens(self, teachers: Sequence[Workload]) -> int | None:
        """The median; where no step has both prompts, of first prompts over those of the teacher's own episodes."""
        beyond = self._beyond
        if not beyond and teachers:
            prefix = round(median(load.prefix_tokens for load in teachers))
            beyond = [first - prefix for first in self._firsts]
        return max(0, round(median(beyond))) if beyond else None


def _prompt_tokens(step: Step, who: Answerer) -> int | None:
    """Of the first call of a side at a step."""
    found = (call.usage for call in step.calls if call.answerer is who and call.replies)
    usage = next(found, None)
    return None if usage is None else usage.input_tokens


class _Names:
    """Which model is which, by the number of episodes that say so."""

    def __init__(self) -> None:
        self._teachers: Counter[str] = Counter()
        self._students: Counter[str] = Counter()

    def add(self, episode: Trajectory) -> None:
        for names, name in ((self._teachers, episode.teacher), (self._students, episode.student)):
            if name is not None:
                names[name] += 1

    @property
    def teacher(self) -> str | None:
        return next((name for name, _ in self._teachers.most_common(1)), None)

    @property
    def student(self) -> str | None:
        return next((name for name, _ in self._students.most_common(1)), None)


def observe(episodes: Iterable[Trajectory], base: Workload) -> Observed:
    """Steps, prompts and answers of recorded episodes; what they do not tell is taken from ``base``.

    The shape is that of the teacher's episodes where there are any, otherwise of all: what a student is shown beside
    the history would count twice. Demonstrations of ``base`` are cut to the longest prompt of each episode. Raises
    ``ConfigError`` if no episode has token counts.
    """
    shapes: dict[bool, list[Workload | None]] = {True: [], False: []}
    escalated = decided = cascades = students = 0
    shown, names = _Shown(), _Names()
    for episode in episodes:
        names.add(episode)
        shown.add(episode)
        students += episode.kind is TrajectoryKind.STUDENT
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
        demonstrations_tokens=shown.tokens(teachers),
        teacher=names.teacher,
        student=names.student,
        students=students,
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
