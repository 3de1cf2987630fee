"""Students that are asked anew in recorded situations: which they are, opened, and asked as a run asks. Wiring only.

A policy sees a situation. A tuned language model reads the prompt that the episode loop sends it, made of the recorded
turns, and weighs the listed actions; where it learnt to reason, behind the line that it writes first.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from potstill.cli.output import note
from potstill.errors import ConfigError, ContextOverflow
from potstill.models.tuned_file import SCHEME as TUNED
from potstill.models.tuned_file import Tuned, place_of, read_tuned
from potstill.types import Answerer

if TYPE_CHECKING:
    from potstill.measure.policy_samples import Student
    from potstill.models.tuned import TunedModel
    from potstill.run.prompt import View
    from potstill.run.sides import Side

SCHEME = "policy:"


def is_asked(student: str, *, logs: bool = False) -> bool:
    """Whether it is asked for its own probability: a policy always, a tuned language model unless its samples were
    recorded, in ``logs`` or in one run (``tuned:PLACE@RUN``)."""
    if not student.startswith(TUNED):
        return student.startswith(SCHEME)
    return not logs and ("@" not in student or place_of(student).exists())


@contextmanager
def opened(name: str, environment: str | None) -> Iterator[Student]:
    """The student, to be asked about decisions in this environment.

    Raises ``ConfigError`` where it is not there or could not act there, ``BadModelFile``, ``MissingExtra``.
    """
    with (_tuned if name.startswith(TUNED) else _policy)(name, environment) as student:
        yield student


@contextmanager
def _policy(name: str, environment: str | None) -> Iterator[Student]:
    from potstill.cli.policy_data import known_to
    from potstill.measure.calibration_file import file_sha256
    from potstill.measure.policy_samples import Student
    from potstill.models.policy import open_policy

    path = Path(name.removeprefix(SCHEME)).expanduser()
    model = open_policy(path)
    known = known_to(path)
    _tell(path, known.missing)
    yield Student(name, model.probabilities, file_sha256(path), known.has)


@contextmanager
def _tuned(name: str, environment: str | None) -> Iterator[Student]:
    from potstill.cli.policy_data import known_to
    from potstill.distill.weights.lm.chats import views
    from potstill.measure.calibration_file import file_sha256
    from potstill.measure.policy_samples import Student
    from potstill.models.tuned import open_tuned
    from potstill.run.voice import agent_of

    place = place_of(name)
    tuned = read_tuned(place)
    _check(name, tuned, environment)
    known = known_to(place, tuned.environment)
    _tell(place, known.missing)
    sha256, model = file_sha256(place), open_tuned(place)
    with asyncio.Runner() as runner:
        asked = _Asked(model, tuned, runner)
        try:
            seen = partial(views, agent=agent_of(tuned.voice), instructions=tuned.instructions)
            yield Student(name, asked.probabilities, sha256, known.has, seen=seen, slow=True)
        finally:
            runner.run(model.aclose())
    if asked.too_long:
        note(f"note: {name} cannot read the prompts of {asked.too_long} decisions, which are too long: the teacher's")


def _check(name: str, tuned: Tuned, environment: str | None) -> None:
    """Raises ``ConfigError`` where the prompts of a cascade would not be those that a teacher's episodes give."""
    instead = f"Run it without a promise: potstill run --student {name} --signal likelihood --threshold 0.9 ..."
    if environment not in (None, tuned.environment):
        raise ConfigError(
            f"{name} was tuned in '{tuned.environment}', and the teacher's episodes are of '{environment}'. Type: "
            f"--env {tuned.environment}"
        )
    if tuned.demonstrations:
        raise ConfigError(
            f"{name} was tuned with {tuned.demonstrations} demonstrations, and which ones a run shows is not known "
            f"before. {instead}"
        )
    if tuned.voice.reasoning != "none" and tuned.voice.history_turns != 0:
        raise ConfigError(
            f"{name} was tuned on past turns with the reasoning of each, and a teacher's episodes do not hold its own. "
            f"Tune it without past turns (potstill distill weights --history 0). {instead}"
        )


def _tell(place: Path, missing: Sequence[str]) -> None:
    if missing:
        note(
            f"note: of the data that {place.name} was made from, {', '.join(missing)} are not beside it, so their "
            "tasks are not left out. The guarantee holds only for tasks that it never saw"
        )


class _Asked:
    """A tuned student's probabilities. What is equal, prompt and actions, is asked once."""

    def __init__(self, model: TunedModel, tuned: Tuned, runner: asyncio.Runner) -> None:
        from potstill.run.sides import Side
        from potstill.run.voice import agent_of

        self._side, self._runner = Side(model, Answerer.STUDENT, agent_of(tuned.voice), seed=0), runner
        self._answers: dict[bytes, Mapping[str, float]] = {}
        self.too_long = 0
        """Decisions whose prompts do not fit."""

    def probabilities(self, view: View, actions: Sequence[str]) -> Mapping[str, float]:
        """Of each action; empty where the prompt is too long, at which a cascade turns to the teacher."""
        from potstill.run.prompt import act_messages

        key = hashlib.sha256(msgspec.json.encode((act_messages(view), actions))).digest()
        if key not in self._answers:
            self._answers[key] = self._runner.run(_weighed(self._side, view))
        self.too_long += not self._answers[key]
        return self._answers[key]


async def _weighed(side: Side, view: View) -> dict[str, float]:
    try:
        (reply,) = await side.act(view, 1, 0.0, likelihood=True)
    except ContextOverflow:
        return {}
    side.take_calls()
    best = reply.candidates[0][1]
    weights = {action: math.exp(logprob - best) for action, logprob in reply.candidates}
    total = math.fsum(weights.values())
    return {action: weight / total for action, weight in weights.items()}
