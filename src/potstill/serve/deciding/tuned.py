"""Tuned language models as students that this process runs itself, asked as an upstream would be.

Where the route says how its requests list actions, the student is asked with the prompt that it learnt with, made from
goal, history and observation of the client's own (``run.voice``), and weighs what is listed. Where it does not, it is
sent the client's messages and writes. It refuses those that it was not tuned with: then it is the teacher's turn.

Knows prompts. Does not load weights (``models.tuned``) and does not decide whether an answer is trusted (``decide``).
"""

from __future__ import annotations

import importlib.util
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from potstill.errors import MissingExtra, ModelError
from potstill.models.tuned_file import Engine, place_of, read_tuned
from potstill.record.messages import Translator
from potstill.record.offers import offer_of
from potstill.run.voice import messages_of
from potstill.serve.deciding.policies import answered, chosen
from potstill.serve.seams import Asked
from potstill.serve.settings import Gateway, Model
from potstill.trajectories.exchange import Actions, Upstream
from potstill.types import Reply, Request
from potstill.wire.events import Event
from potstill.wire.neutral import Choice, Prompt, Text

if TYPE_CHECKING:
    from potstill.models.tuned import TunedModel

MAX_TOKENS = 256
"""Of an answer, where the client sets no limit."""
_NEEDS = {
    Engine.TORCH: (("torch", "transformers", "peft"), "lm"),
    Engine.CTRANSLATE2: (("ctranslate2", "transformers"), "ct2"),
    Engine.LLAMA_CPP: (("xllamacpp",), "local"),
}


def check_tuned(settings: Gateway) -> None:
    """Raises what would keep a student from being loaded, without loading it: ``ConfigError``, ``BadModelFile``,
    ``MissingExtra``."""
    for place in _places(settings).values():
        packages, extra = _NEEDS[read_tuned(place).engine]
        if any(importlib.util.find_spec(package) is None for package in packages):
            raise MissingExtra(f"The tuned student {place}", extra)


def tuned_students(settings: Gateway) -> dict[str, TunedModel]:
    """The tuned models that routes name as students and no upstream serves, loaded, by the model's name. Takes seconds.

    Raises as ``models.tuned.open_tuned``.
    """
    places = _places(settings)
    if not places:
        return {}
    from potstill.models.tuned import open_tuned

    allowed = {model.name: model.allow_demonstrations for model in settings.models}
    return {name: open_tuned(place, allow_demonstrations=allowed[name]) for name, place in places.items()}


def _places(settings: Gateway) -> dict[str, Path]:
    students = {route.student for route in settings.routes}
    named = [model for model in settings.models if model.name in students and model.runs_here]
    return {model.name: place_of(model.tuned) for model in named if model.tuned}


class TunedAsk:
    """``seams.Ask`` for one request. ``prompt``: the client's own, without what students are shown beside it."""

    def __init__(self, student: TunedModel, actions: Actions | None, prompt: Prompt, said: Mapping[str, Any]) -> None:
        self._student, self._actions, self._prompt, self._said = student, actions, prompt, said

    async def ask(
        self, model: Model, prompt: Prompt, *, n: int = 1, told: Callable[[Upstream], None] = lambda call: None
    ) -> list[Asked]:
        """``n`` answers. Raises ``ModelError`` for a request that lists nothing or that it cannot read, ``ConfigError``
        for a prompt with what it was not tuned with; either way it is the teacher's turn."""
        request = self._weighing(prompt, self._actions) if self._actions is not None else _writing(prompt)
        completion = await self._student.sample(request, n)
        choices = tuple(self._choice(reply) for reply in completion.replies)
        return [answered(model, model.title, completion, choices, told)]

    def stream(self, model: Model, prompt: Prompt) -> AsyncIterator[Event]:
        raise ModelError("a tuned student's answer is weighed as a whole: it is not streamed")

    def _weighing(self, prompt: Prompt, actions: Actions) -> Request:
        offer = offer_of(self._prompt, actions, self._said)
        if offer is None:
            raise ModelError("the request lists no action as the route's settings say, so nothing can be weighed")
        return Request(
            messages=messages_of(self._student.tuned, offer.situation, offer.admissible),
            admissible=offer.admissible,
            situation=offer.situation,
            temperature=prompt.temperature or 0.0,
            seed=prompt.seed,
        )

    def _choice(self, reply: Reply) -> Choice:
        if self._actions is not None:
            return chosen(reply.text, self._actions)
        return Choice(parts=(Text(text=reply.text),), finish=reply.finish_reason)


def _writing(prompt: Prompt) -> Request:
    """The client's own messages. Raises ``ModelError`` for what a tuned model cannot read or write."""
    if prompt.tools or prompt.format is not None:
        raise ModelError("the request wants tools or a format, and a tuned student writes text: say in the route's "
                         "actions where its actions are listed")  # fmt: skip
    translator = Translator()
    messages = translator.messages(prompt)
    if translator.left_out:
        raise ModelError(f"the request holds {next(iter(translator.left_out))}, and a tuned student reads text only")
    return Request(
        messages=messages,
        temperature=prompt.temperature or 0.0,
        max_tokens=prompt.max_tokens or MAX_TOKENS,
        stop=prompt.stop,
        seed=prompt.seed,
    )
