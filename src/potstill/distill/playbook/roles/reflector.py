"""A Reflector that is a model: it reads one episode and says what it teaches.

What it knows: which bullets it may tag, and how often an unusable answer goes back. What it does not do: rounds of
refinement (``rounds``), making a case (``evidence``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from potstill.distill.playbook.border import Reflected, read_reflection
from potstill.distill.playbook.operations import Bullet
from potstill.distill.playbook.roles.asking import Asking, ask
from potstill.distill.playbook.roles.choosing import list_for_case
from potstill.distill.playbook.roles.contract import Case, Reflecting
from potstill.distill.playbook.roles.prompts import reflector_messages
from potstill.distill.playbook.said import Reflection
from potstill.distill.playbook.sections import DEFAULT, Sections
from potstill.distill.playbook.spoken import Refusal
from potstill.protocols import Model, TokenCounter
from potstill.retrieval.tokens import EstimatedTokens
from potstill.types import Answerer, Purpose


class ModelReflector:
    """Asks ``model`` (a ``contract.Reflector``). Several cases may be reflected on at once.

    ``max_tokens``, ``temperature``, ``seed``: of its answer. ``answerer``: whose money it is. ``repairs``: rounds in
    which an answer without a usable reflection goes back with the reasons. ``bullet_tokens``: for the bullets that the
    episode was shown, those that it named first; only what is listed can be tagged.

    A tag that cannot count is left out with the reason, and the reflection stands. Raises ``ModelError`` (with all
    calls so far in ``calls``) where nobody answers, ``ConfigError`` for impossible values.
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
        bullet_tokens: int = 4_000,
        sections: Sections = DEFAULT,
        counter: TokenCounter | None = None,
    ) -> None:
        self._model = model
        self._asking = Asking(
            purpose=Purpose.REFLECT,
            answerer=answerer,
            max_tokens=max_tokens,
            temperature=temperature,
            seed=seed,
            repairs=repairs,
        )
        self._bullet_tokens = bullet_tokens
        self._sections = sections
        self._counter = counter or EstimatedTokens()

    @property
    def name(self) -> str:
        return self._model.name

    async def reflect(
        self, case: Case, bullets: Mapping[str, Bullet], previous: Reflection | None = None
    ) -> Reflecting:
        listed = list_for_case(case, bullets, self._bullet_tokens, self._counter, self._sections)
        known = frozenset(listed.revisions)

        def read(text: str) -> tuple[Reflected, Sequence[Refusal]]:
            made = read_reflection(text, known)
            return made, () if made.reflection is not None else made.refused

        heard = await ask(self._model, self._asking, reflector_messages(case, listed, previous), read)
        if heard.answer is None:
            return Reflecting(refused=heard.refused, calls=heard.calls)
        said = heard.answer
        return Reflecting(reflection=said.reflection, tags=said.tags, refused=said.refused, calls=heard.calls)
