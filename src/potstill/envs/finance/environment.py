"""One question about finance as an ``Environment``: it is shown, it is answered once, the answer is graded.

What it knows: how an episode of one step goes, and what may be said of the outcome. What it does not do: read files
(``tasks``), grade (``grading``).

The label stands in the task and is what the expert answers. What the outcome says never holds it: how many parts were
right and which, so that learning with labels and learning from outcomes alone stay two things.
"""

from __future__ import annotations

from fractions import Fraction

from potstill.envs.finance.answers import answer_text
from potstill.envs.finance.grading import TOLERANCE, Grade, Grader, grade
from potstill.errors import BadTask, ConfigError, EnvError, one_of
from potstill.types import Action, Blob, Observation, Outcome, Task


class FinanceEnvironment:
    """A question of FiNER or Formula at a time.

    ``grader``: ``tolerant``, or ``exact`` as the paper's release grades; the outcome's detail tells what the other one
    says. ``tolerance``: share of a label by which a number may be off, 0 to 0.1. The seed of ``reset`` changes nothing.
    """

    instructions = (
        "You answer questions about financial figures and filings. Give the answer in the form that the question asks "
        "for. If you reason first, write the answer alone on the last line, after 'Answer:'."
    )
    max_steps = 1

    def __init__(self, *, grader: str = Grader.TOLERANT.value, tolerance: float = float(TOLERANCE)) -> None:
        one_of("grader", grader, [kind.value for kind in Grader])
        if not 0 <= tolerance <= 0.1:
            raise ConfigError(f"The tolerance is {tolerance}; allowed: 0 to 0.1, for example 0.001.")
        self._grader = Grader(grader)
        self._tolerance = Fraction(str(tolerance))
        self._label: str | None = None
        self._said: str | None = None

    @property
    def name(self) -> str:
        return "finance"

    def reset(self, task: Task, seed: int) -> Observation:
        label, material = task.data.get("label"), task.data.get("material")
        if not isinstance(label, str) or not isinstance(material, str) or not label.strip():
            raise BadTask(f"Task '{task.id}' holds no label and material in its data: {sorted(task.data)}")
        self._label, self._said = label, None
        return Observation(text=material)

    def step(self, action: Action) -> Observation:
        if self._label is None:
            raise EnvError("No episode was started: call reset first.")
        if self._said is not None:
            raise EnvError("The episode is over: call reset before the next step.")
        self._said = action.text
        taken = "Your answer was taken." if action.text.strip() else "You gave no answer in words."
        return Observation(text=taken, done=True, score=self._graded(self._grader, self._label).score)

    def outcome(self) -> Outcome:
        """Success if every part is right; ``score``: the share of parts that are."""
        if self._label is None:
            raise EnvError("No episode was started: call reset first.")
        if self._said is None:
            return Outcome(success=False, score=0.0, detail="not answered")
        grades = {kind: self._graded(kind, self._label) for kind in Grader}
        own = grades[self._grader]
        other = next(kind for kind in Grader if kind is not self._grader)
        detail = f"{_words(own)}; graded {other.value}: {_words(grades[other])}"
        return Outcome(success=own.success, score=own.score, detail=detail)

    def expert_action(self) -> Action | None:
        return None if self._label is None or self._said is not None else Action(text=self._label)

    def read_blob(self, blob: Blob) -> bytes:
        raise KeyError(blob.digest)

    def close(self) -> None:
        self._label = None

    def _graded(self, grader: Grader, label: str) -> Grade:
        return grade(answer_text(self._said or ""), label, grader, self._tolerance)


def _words(graded: Grade) -> str:
    if len(graded.right) == 1:
        return "right" if graded.success else "wrong"
    wrong = [str(place) for place, right in enumerate(graded.right, start=1) if not right]
    extra = f", {graded.extra} more than asked for" if graded.extra else ""
    return f"{sum(graded.right)} of {len(graded.right)} right{', wrong: ' + ' '.join(wrong) if wrong else ''}{extra}"
