"""A Curator that is a model: it reads lessons and says what to change in a playbook.

What it knows: which bullets it may name, and how often an unusable answer goes back. What it does not do: decide what
becomes of a proposal: the near-duplicate gate and the book do, and send their objections back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from potstill.distill.playbook.border import MAX_CURATED, Proposal, read_curation
from potstill.distill.playbook.operations import Bullet, Stage
from potstill.distill.playbook.roles.asking import Asking, ask
from potstill.distill.playbook.roles.choosing import ForLessons, Listed
from potstill.distill.playbook.roles.contract import Curating, Lesson
from potstill.distill.playbook.roles.prompts import all_guesses, curator_messages
from potstill.distill.playbook.sections import DEFAULT, Sections
from potstill.distill.playbook.spoken import Refusal
from potstill.errors import ConfigError
from potstill.protocols import Model, TokenCounter
from potstill.retrieval.registry import ranker_factory
from potstill.retrieval.tokens import EstimatedTokens
from potstill.types import Answerer, Purpose


class ModelCurator:
    """Asks ``model`` (a ``contract.Curator``). Several proposals may be asked for at once.

    ``max_tokens``, ``temperature``, ``seed``, ``answerer``, ``repairs``: as of a ``ModelReflector``. ``bullet_tokens``:
    for the bullets listed (``choosing``); what is not listed cannot be named. ``lesson_tokens``: for the lessons, whose
    longest texts are shortened first. ``most``: operations taken of one answer. ``lenient``: where no repair is left,
    the operations that can be taken are, although others are refused; else one refused operation refuses all.
    ``ranker``: what finds bullets near to the lessons (``retrieval.registry``).

    Where every lesson is a guess (``Signal.NONE``), of the bullets only those in ``shadow`` can be named.

    Raises ``ModelError`` (with all calls so far in ``calls``) where nobody answers, ``ConfigError`` for impossible
    values, also for a call without lessons.
    """

    def __init__(
        self,
        model: Model,
        *,
        max_tokens: int = 2048,
        temperature: float = 0.0,
        seed: int | None = None,
        answerer: Answerer = Answerer.TEACHER,
        repairs: int = 1,
        bullet_tokens: int = 10_000,
        lesson_tokens: int = 6_000,
        most: int = MAX_CURATED,
        lenient: bool = False,
        sections: Sections = DEFAULT,
        counter: TokenCounter | None = None,
        ranker: str = "bm25",
    ) -> None:
        if not 1 <= most <= MAX_CURATED:
            raise ConfigError(f"most is {most}; allowed are 1 to {MAX_CURATED} operations of one answer.")
        self._model = model
        self._asking = Asking(
            purpose=Purpose.CURATE,
            answerer=answerer,
            max_tokens=max_tokens,
            temperature=temperature,
            seed=seed,
            repairs=repairs,
        )
        self._bullet_tokens = bullet_tokens
        self._lesson_tokens = lesson_tokens
        self._most = most
        self._lenient = lenient
        self._sections = sections
        self._counter = counter or EstimatedTokens()
        self._chooser = ForLessons(ranker_factory(ranker), self._counter, sections)

    @property
    def name(self) -> str:
        return self._model.name

    async def curate(
        self, lessons: Sequence[Lesson], bullets: Mapping[str, Bullet], objections: Sequence[str] = ()
    ) -> Curating:
        if not lessons:
            raise ConfigError("A Curator was given no lesson. Ask it only where something was learnt.")
        listed = await asyncio.to_thread(self._chooser.choose, lessons, bullets, self._bullet_tokens)
        messages = curator_messages(
            lessons,
            listed,
            objections,
            sections=self._sections,
            most=self._most,
            tokens=self._lesson_tokens,
            counter=self._counter,
        )
        known = self._nameable(lessons, listed)

        def read(text: str) -> tuple[Proposal, Sequence[Refusal]]:
            made = read_curation(text, known, self._sections, lenient=self._lenient, most=self._most)
            return made, made.refused

        heard = await ask(self._model, self._asking, messages, read)
        said = heard.answer or Proposal()
        return Curating(operations=said.operations, reasoning=said.reasoning, refused=heard.refused, calls=heard.calls)

    @staticmethod
    def _nameable(lessons: Sequence[Lesson], listed: Listed) -> dict[str, int]:
        """The learning gate: lessons without a signal change no bullet that anybody is shown."""
        guesses = all_guesses(lessons)
        return {one.id: one.revision for one in listed.bullets if not guesses or one.stage is Stage.SHADOW}
