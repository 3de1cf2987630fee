"""Several rounds of reflection on one episode, each bettering the one before.

What it knows: when to stop, which tags count, what is on the bill. What it does not do: ask a model (``reflector``) or
play an episode: whoever can, hands in ``retry``.

arXiv 2510.04618, section 4.2, refines up to five times; its released code plays the task again with the reflection in
the prompt and reflects on that attempt, three times by default, and counts the tags of each round. Here a bullet gets
one vote an episode, however many rounds there were, and it comes from the attempt that was recorded: a retry was told
the reflection, so what its bullets did is not theirs alone.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from enum import StrEnum

from potstill.distill.playbook.operations import Bullet, Tag
from potstill.distill.playbook.roles.asking import Paid, metered
from potstill.distill.playbook.roles.contract import Case, Reflecting, Reflector
from potstill.distill.playbook.said import Reflection
from potstill.distill.playbook.similar import normalised
from potstill.distill.playbook.spoken import Refusal
from potstill.errors import ConfigError, EnvError, ModelError
from potstill.types import Call, ErrorRecord

ROUNDS = 3

Retry = Callable[[Case, Reflection], Awaitable[Case]]
"""Plays the case's task once more with this reflection in the context, and gives the new attempt."""


class Stopped(StrEnum):
    """Why there were no more rounds."""

    ROUNDS = "rounds"
    """All were used."""
    UNCHANGED = "unchanged"
    """The last round said what the one before had said."""
    SOLVED = "solved"
    """The task was done: at once, or in a retry."""
    REFUSED = "refused"
    """A round said nothing usable."""
    FAILED = "failed"
    """A later round's model, or a retry, failed; ``problem`` says how."""


class Refined(Reflecting, frozen=True, kw_only=True):
    """What came of all rounds: the last usable reflection, one vote for each bullet, and every call."""

    rounds: int = 0
    """How many times the Reflector answered."""
    stopped: Stopped = Stopped.ROUNDS
    case: Case
    """The last attempt; the case that was handed in where there was no retry."""
    problem: ErrorRecord | None = None
    proven: bool = False
    """A retry with the last reflection did the task."""


async def _unheard(calls: Sequence[Call]) -> None:
    """For those who read the calls from what is returned."""


async def reflect_in_rounds(
    reflector: Reflector,
    case: Case,
    bullets: Mapping[str, Bullet],
    rounds: int = ROUNDS,
    retry: Retry | None = None,
    paid: Paid = _unheard,
) -> Refined:
    """Reflect up to ``rounds`` times.

    Without ``retry`` the Reflector betters its own reflection until it changes no more. With it, the task is played
    again with each reflection, until it is done; after the last reflection it is not played, for nothing would be
    learnt from that. A case that succeeded is reflected on once then.

    Tags are those of the last reflection on ``case`` itself. A failure in a later round (``ModelError``, ``EnvError``)
    keeps what there is and is told in ``problem``; one in the first round is raised. ``paid`` is told of every call, as
    it comes, also of those of an error, and where it is cancelled. ``ConfigError``: no rounds.
    """
    if rounds < 1:
        raise ConfigError(f"rounds is {rounds}; it must be 1 or more.")
    made = _Rounds(reflector, case, bullets, paid)
    for number in range(1, rounds + 1):
        try:
            stopped = await made.reflect()
            if stopped is None and retry is not None:
                stopped = await made.again(retry, last=number == rounds)
        except (ModelError, EnvError) as problem:
            if made.reflection is None:
                raise
            return made.refined(Stopped.FAILED, problem)
        if stopped is None and retry is None and made.unchanged:
            stopped = Stopped.UNCHANGED
        if stopped is not None:
            return made.refined(stopped)
    return made.refined(Stopped.ROUNDS)


class _Rounds:
    """What is known after each round."""

    def __init__(self, reflector: Reflector, case: Case, bullets: Mapping[str, Bullet], paid: Paid) -> None:
        self._reflector = reflector
        self._paid = paid
        self._bullets = bullets
        self._first = case
        self.case = case
        self.reflection: Reflection | None = None
        self.unchanged = False
        self._tags: tuple[Tag, ...] = ()
        self._refused: tuple[Refusal, ...] = ()
        self._calls: list[Call] = []
        self._rounds = 0

    async def reflect(self) -> Stopped | None:
        """One round; why it was the last one, or None."""
        asked = self._reflector.reflect(self.case, self._bullets, self.reflection)
        heard = await metered(asked, self._paid)
        self._rounds += 1
        self._calls += heard.calls
        self._refused = heard.refused
        if heard.reflection is None:
            return Stopped.REFUSED
        self.unchanged = self.reflection is not None and _gist(heard.reflection) == _gist(self.reflection)
        self.reflection = heard.reflection
        if self.case is self._first:
            self._tags = tuple({tag.id: tag for tag in heard.tags}.values())
        return None

    async def again(self, retry: Retry, *, last: bool) -> Stopped | None:
        """Play again, unless the task is done already or no round is left to learn from it."""
        assert self.reflection is not None
        if self.case.success is not True and not last:
            try:
                self.case = await retry(self.case, self.reflection)
            except ModelError as problem:
                await self._paid(problem.calls)
                raise
        return Stopped.SOLVED if self.case.success is True else None

    def refined(self, stopped: Stopped, problem: ModelError | EnvError | None = None) -> Refined:
        lost = problem.calls if isinstance(problem, ModelError) else ()
        return Refined(
            reflection=self.reflection,
            tags=self._tags,
            refused=self._refused,
            calls=(*self._calls, *lost),
            rounds=self._rounds,
            stopped=stopped,
            case=self.case,
            proven=stopped is Stopped.SOLVED and self.case is not self._first,
            problem=None if problem is None else ErrorRecord(kind=type(problem).__name__, message=str(problem)[:2000]),
        )


def _gist(said: Reflection) -> tuple[object, ...]:
    """What a reflection says, whatever its letter case and spaces, and however it argues for it."""
    texts = (said.error_identification, said.root_cause_analysis, said.correct_approach, said.key_insight)
    return (*map(normalised, texts), frozenset((tag.id, tag.tag) for tag in said.bullet_tags))
