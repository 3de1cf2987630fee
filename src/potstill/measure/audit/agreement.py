"""Which steps a cheap model would probably do: how often it gave the dear model's answer where both answered.

What it knows: answers to the same question, as hashes. What it does not do: say that agreement is success; where the
log has the cheap model's outcomes they are told beside it.

A question is a task, or a step of a task; in logs of calls, one and the same prompt. The dear model is the one whose
attempts or calls cost most on average.
"""

from __future__ import annotations

from collections.abc import Iterator

from potstill.logs.records import Attempt, LogCall
from potstill.measure.audit.result import StudentStep
from potstill.measure.statistics import wilson

MOST_QUESTIONS = 50_000
"""Prompts that are remembered; the oldest are forgotten first. Shadow calls come close to the call they shadow."""
NO_TYPE = "(no type)"


class _Answers:
    """The answers to one question: by model, in the order in which they came."""

    __slots__ = ("answers", "example", "step_type")

    def __init__(self, step_type: str, example: str) -> None:
        self.step_type, self.example = step_type, example
        self.answers: dict[str, list[tuple[int, bool | None]]] = {}


class Agreement:
    """Collects answers and compares them at the end."""

    def __init__(self) -> None:
        self._questions: dict[int, _Answers] = {}
        self._prompts: dict[int, _Answers] = {}
        self._spent: dict[str, list[float]] = {}

    def add_attempt(self, attempt: Attempt, usd: float | None) -> None:
        if attempt.answer is None or attempt.error is not None:
            return
        self._spend(attempt.model, usd)
        key = hash((attempt.task_id, attempt.step))
        found = self._questions.get(key)
        if found is None:
            kind = attempt.step_type or ("(whole task)" if attempt.step is None else NO_TYPE)
            found = self._questions[key] = _Answers(kind, attempt.episode_id or attempt.task_id)
        found.answers.setdefault(attempt.model, []).append((hash(attempt.answer), attempt.success))

    def add_call(self, call: LogCall, step_type: str, episode: str, usd: float | None) -> None:
        if call.error is not None or not call.prefixes or call.after is None:
            return
        self._spend(call.model, usd)
        key = call.prefixes[-1]
        found = self._prompts.get(key)
        if found is None:
            if len(self._prompts) >= MOST_QUESTIONS:
                self._forget()
            found = self._prompts[key] = _Answers(step_type, episode)
        answer = hash(call.tool_calls) if call.tool_calls else call.after
        found.answers.setdefault(call.model, []).append((answer, None))

    def _spend(self, model: str, usd: float | None) -> None:
        sums = self._spent.setdefault(model, [0.0, 0.0])
        if usd is not None:
            sums[0] += usd
            sums[1] += 1

    def _forget(self) -> None:
        """Drop the older half of the prompts that only one model answered."""
        for key in list(self._prompts)[: MOST_QUESTIONS // 2]:
            if len(self._prompts[key].answers) < 2:
                del self._prompts[key]
        for key in list(self._prompts)[: max(0, len(self._prompts) - MOST_QUESTIONS // 2)]:
            del self._prompts[key]

    def student_steps(self, confidence: float) -> tuple[StudentStep, ...]:
        """One row for each pair of models and type of step, the most common first."""
        counted: dict[tuple[str, str, str], _Counted] = {}
        for question in self._both():
            for against in question.answers:
                for model in question.answers:
                    if self._mean(model) < self._mean(against):
                        key = (model, against, question.step_type)
                        counted.setdefault(key, _Counted()).add(question, model, against)
        rows = [_row(key, count, confidence) for key, count in counted.items()]
        return tuple(sorted(rows, key=lambda row: (-row.n, row.model, row.against, row.step_type)))

    def _both(self) -> Iterator[_Answers]:
        for questions in (self._questions, self._prompts):
            yield from (question for question in questions.values() if len(question.answers) > 1)

    def _mean(self, model: str) -> float:
        usd, n = self._spent[model]
        return usd / n if n else 0.0


class _Counted:
    def __init__(self) -> None:
        self.n = 0
        self.agreed = 0
        self.judged = 0
        self.succeeded = 0
        self.examples: list[str] = []

    def add(self, question: _Answers, model: str, against: str) -> None:
        """One question counts once: the cheap model's first answer against the dear one's first."""
        answer, success = question.answers[model][0]
        agreed = answer == question.answers[against][0][0]
        self.n += 1
        self.agreed += agreed
        self.judged += success is not None
        self.succeeded += bool(success)
        if len(self.examples) < 3 and not agreed:
            self.examples.append(question.example)


def _row(key: tuple[str, str, str], counted: _Counted, confidence: float) -> StudentStep:
    model, against, step_type = key
    return StudentStep(
        model=model,
        against=against,
        step_type=step_type,
        n=counted.n,
        agreement=counted.agreed / counted.n,
        agreement_ci=wilson(counted.agreed, counted.n, confidence),
        success=counted.succeeded / counted.judged if counted.judged == counted.n else None,
        examples=tuple(counted.examples),
    )
