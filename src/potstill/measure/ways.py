"""The ways to use a student, each as the calls that one episode of it would make.

What it knows: who is called at each step, with which prompt. What it does not do: prices and caches (``ledger`` and
``cache`` price these calls like recorded ones, so there is no second formula), or quality: what a way needs in order
to be as good as the teacher is named, not predicted.

Prompts carry text of the right length and nothing else. A prompt is laid out as the loop lays it out: static text,
then (if frozen) demonstrations, then a history that only grows, then a short last message that is valid for this step.
A hand-off that is not shorter than the prompt it replaces is not made: the teacher then gets the history.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from math import floor

from potstill.measure.cache import MESSAGE_CHARACTERS
from potstill.measure.workload import Workload
from potstill.types import Answerer, Call, EscalationMode, Message, Reply, Role, Struct, Usage

CHARACTERS = 4
"""Of a made token. Only shares of a prompt matter, so any number does."""
_TAIL = Message(role="user", content="")
_TAIL_TOKENS = MESSAGE_CHARACTERS // CHARACTERS


class Assumption(StrEnum):
    """What must be true for a way to keep the teacher's success."""

    SIGNAL = "signal"
    """The samples' disagreement shows the steps at which the student would fail."""
    HANDOFF = "handoff"
    """The teacher acts as well on a summary as on the whole history."""
    GATE = "gate"
    """It can be told before the start which tasks the student fails."""
    START = "start"
    """The student finishes what the teacher has begun."""
    VERIFIER = "verifier"
    """A failed attempt is noticed for free, and the task can be started again."""
    STUDENT = "student"
    """The student alone is good enough."""


class Demonstrations(StrEnum):
    NONE = "none"
    FROZEN = "frozen"
    """Chosen once for the task, behind the static text."""
    FIRST = "first"
    """Chosen anew at each step, behind the static text: what follows is no prefix any more."""
    LAST = "last"
    """Chosen anew at each step, behind the history."""


class Sampling(StrEnum):
    ONE = "one"
    SEPARATE = "separate"
    """A request for each sample."""
    TOGETHER = "together"
    """One request with n samples, whose prompt is billed once."""
    TWO_THEN_MORE = "two-then-more"
    """Two, and the others only if these agree: enough to see that not all do."""
    TIE_BREAK = "tie-break"
    """Two, and the others only if these differ."""


class Way(Struct, frozen=True, kw_only=True):
    """One way to use a student."""

    name: str
    says: str
    mode: EscalationMode | None = None
    """``None``: one model alone."""
    alone: Answerer | None = None
    demonstrations: Demonstrations = Demonstrations.FROZEN
    sampling: Sampling = Sampling.ONE
    cached: bool = True
    assumes: tuple[Assumption, ...] = ()


class Episode(Struct, frozen=True, kw_only=True):
    """The calls of one kind of episode that a way leads to, and how often it does."""

    weight: float
    calls: tuple[Call, ...]
    teacher_steps: int
    steps: int


def ways(best: Sampling) -> tuple[Way, ...]:
    """All ways, the teacher alone first. ``best``: the cheapest sampling that the student's provider allows."""
    step, signal = EscalationMode.STEP, (Assumption.SIGNAL,)
    first, separate = Demonstrations.FIRST, Sampling.SEPARATE
    many = {
        Sampling.ONE: "one sample",
        Sampling.SEPARATE: "samples asked for apart",
        Sampling.TOGETHER: "samples that share one billed prompt",
        Sampling.TWO_THEN_MORE: "two samples, more only if they agree",
        Sampling.TIE_BREAK: "two samples, more only if they differ",
    }[best]
    return (
        Way(
            name="teacher",
            says="the teacher alone",
            alone=Answerer.TEACHER,
            demonstrations=Demonstrations.NONE,
        ),
        Way(
            name="student",
            says="the student alone, one sample, demonstrations frozen",
            alone=Answerer.STUDENT,
            assumes=(Assumption.STUDENT,),
        ),
        Way(
            name="cascade-uncached",
            says="step cascade, demonstrations per step, no caching on either side",
            mode=step,
            demonstrations=first,
            sampling=separate,
            cached=False,
            assumes=signal,
        ),
        Way(
            name="cascade-per-step",
            says="step cascade, demonstrations per step before the history, samples asked for apart",
            mode=step,
            demonstrations=first,
            sampling=separate,
            assumes=signal,
        ),
        Way(
            name="cascade-per-step-last",
            says="step cascade, demonstrations per step behind the history, samples asked for apart",
            mode=step,
            demonstrations=Demonstrations.LAST,
            sampling=separate,
            assumes=signal,
        ),
        Way(
            name="cascade-frozen",
            says="step cascade, demonstrations frozen, samples asked for apart",
            mode=step,
            sampling=separate,
            assumes=signal,
        ),
        Way(
            name="cascade",
            says=f"step cascade, demonstrations frozen, {many}",
            mode=step,
            sampling=best,
            assumes=signal,
        ),
        Way(
            name="sticky",
            says=f"as 'cascade', but the teacher keeps some steps, {many}",
            mode=EscalationMode.STICKY,
            sampling=best,
            assumes=signal,
        ),
        Way(
            name="handoff",
            says=f"as 'cascade', but the teacher gets a summary, {many}",
            mode=EscalationMode.COMPACT,
            sampling=best,
            assumes=(Assumption.SIGNAL, Assumption.HANDOFF),
        ),
        Way(
            name="gate",
            says="each task goes to one side before it starts, the student with one sample",
            mode=EscalationMode.TASK,
            assumes=(Assumption.GATE,),
        ),
        Way(
            name="teacher-first",
            says="the teacher takes the first steps, the student the rest, one sample",
            mode=EscalationMode.TEACHER_FIRST,
            assumes=(Assumption.START,),
        ),
        Way(
            name="retry",
            says="the student first, one sample; tasks it fails are done again by the teacher",
            mode=EscalationMode.RESTART,
            assumes=(Assumption.VERIFIER,),
        ),
    )


def varies(way: Way) -> bool:
    """Whether an episode depends on where in it the escalations fall."""
    return way.mode in (EscalationMode.STEP, EscalationMode.STICKY, EscalationMode.COMPACT)


def episodes(way: Way, load: Workload, teacher: str, student: str, phase: float) -> list[Episode]:
    """The calls of one episode of ``way``; ``phase`` in [0, 1) shifts the evenly spaced escalations."""
    made = _Calls(way, load, teacher, student)
    share = load.task_share
    match way.mode:
        case None:
            return [made.whole(way.alone or Answerer.TEACHER, 1.0)]
        case EscalationMode.TASK:
            return [made.whole(Answerer.TEACHER, share), made.whole(Answerer.STUDENT, 1 - share)]
        case EscalationMode.RESTART:
            return [made.whole(Answerer.STUDENT, 1.0), made.whole(Answerer.TEACHER, share)]
        case EscalationMode.TEACHER_FIRST:
            return [made.teacher_first()]
        case _:
            return [made.cascade(phase)]


def escalates(number: int, share: float, phase: float) -> bool:
    """Whether decision ``number`` is one of the evenly spaced ones that escalate.

    >>> [number for number in range(20) if escalates(number, 0.2, 0.0)]
    [4, 9, 14, 19]
    """
    # Products of shares such as 0.2 miss whole numbers by 1e-16: what is that near counts as reached.
    return floor((number + 1) * share + phase + 1e-9) > floor(number * share + phase + 1e-9)


class _Calls:
    """Makes the calls of episodes of one way."""

    def __init__(self, way: Way, load: Workload, teacher: str, student: str) -> None:
        self._way, self._load = way, load
        self._names = {Answerer.TEACHER: teacher, Answerer.STUDENT: student}
        self._static = _text("system", load.prefix_tokens - _TAIL_TOKENS, 0)
        grown = load.steps if load.per_step_tokens else 0
        self._history = [_text("user", load.per_step_tokens, 1 + step) for step in range(grown)]
        self._shown = _text("user", load.demonstrations_tokens, _APART)

    def whole(self, who: Answerer, weight: float) -> Episode:
        """An episode that one side plays alone, the student with one sample."""
        calls = tuple(self._call(who, step) for step in range(self._load.steps))
        teacher_steps = len(calls) if who is Answerer.TEACHER else 0
        return Episode(weight=weight, calls=calls, teacher_steps=teacher_steps, steps=len(calls))

    def teacher_first(self) -> Episode:
        begun = min(self._load.keep_steps, self._load.steps)
        calls = tuple(
            self._call(Answerer.TEACHER if step < begun else Answerer.STUDENT, step) for step in range(self._load.steps)
        )
        return Episode(weight=1.0, calls=calls, teacher_steps=begun, steps=len(calls))

    def cascade(self, phase: float) -> Episode:
        """The student decides each step that the teacher does not hold, and escalates some of them."""
        calls: list[Call] = []
        teacher_steps = held = decisions = 0
        for step in range(self._load.steps):
            escalated = False
            if not held:
                escalated = escalates(decisions, self._load.escalation, phase)
                decisions += 1
                calls += self._samples(step, escalated)
            if held or escalated:
                calls.append(self._call(Answerer.TEACHER, step, number=len(calls)))
                teacher_steps += 1
                sticky = self._way.mode is EscalationMode.STICKY
                held = held - 1 if held else (self._load.keep_steps - 1 if sticky else 0)
        return Episode(weight=1.0, calls=tuple(calls), teacher_steps=teacher_steps, steps=self._load.steps)

    def _samples(self, step: int, escalated: bool) -> Iterator[Call]:
        wanted = self._load.samples
        match self._way.sampling:
            case Sampling.TOGETHER:
                yield self._call(Answerer.STUDENT, step, samples=wanted)
                return
            case Sampling.ONE:
                wanted = 1
            case Sampling.TWO_THEN_MORE if escalated:
                wanted = min(2, wanted)
            case Sampling.TIE_BREAK if not escalated:
                wanted = min(2, wanted)
        prompt = self._prompt(Answerer.STUDENT, step)
        for number in range(wanted):
            yield self._call(Answerer.STUDENT, step, number=number, prompt=prompt)

    def _call(
        self, who: Answerer, step: int, *, samples: int = 1, number: int = 0, prompt: tuple[Message, ...] | None = None
    ) -> Call:
        prompt = self._prompt(who, step) if prompt is None else prompt
        characters = sum(len(message.content) + MESSAGE_CHARACTERS for message in prompt)
        seconds = self._load.step_seconds
        return Call(
            model=self._names[who],
            answerer=who,
            prompt=prompt,
            replies=(Reply(),) * samples,
            usage=Usage(
                input_tokens=round(characters / CHARACTERS),
                output_tokens=samples * self._load.output_tokens,
                estimated=True,
            ),
            started_at=1.0 + step * seconds + number * 1e-3 if seconds else 0.0,
        )

    def _prompt(self, who: Answerer, step: int) -> tuple[Message, ...]:
        if who is Answerer.TEACHER:
            if self._way.mode is EscalationMode.COMPACT and self._load.hands_off(step):
                return (_text("user", self._load.handoff_tokens, _APART + 1 + step),)
            return (self._static, *self._history[:step], _TAIL)
        if not self._load.demonstrations_tokens or self._way.demonstrations is Demonstrations.NONE:
            return (self._static, *self._history[:step], _TAIL)
        if self._way.demonstrations is Demonstrations.FROZEN:
            return (self._static, self._shown, *self._history[:step], _TAIL)
        shown = _text("user", self._load.demonstrations_tokens, _APART + 1 + step)
        if self._way.demonstrations is Demonstrations.FIRST:
            return (self._static, shown, *self._history[:step], _TAIL)
        return (self._static, *self._history[:step], shown)


_APART = 5000
"""Texts numbered from here are demonstrations and hand-offs, below it parts of the history."""


def _text(role: Role, tokens: int, number: int) -> Message:
    """A message that counts ``tokens`` and shares no first character with one of another number."""
    length = max(0, tokens * CHARACTERS - MESSAGE_CHARACTERS)
    return Message(role=role, content=chr(0x4E00 + number) * length)
