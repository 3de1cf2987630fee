"""Trained policies as students: files that this process runs itself, asked as an upstream would be.

What it knows: how an offer becomes a policy's question and its choice the client's answer. What it does not do: find
what is offered (``record.offers``), run networks (``edge``), decide whether the choice is trusted (``decide``).

A decision takes about a millisecond and no network, so it is made on the loop.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Callable, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from potstill.errors import ModelError
from potstill.record.offers import answer_parts, offer_of
from potstill.serve.seams import Asked
from potstill.serve.settings import Gateway, Model
from potstill.trajectories.exchange import Actions, Upstream
from potstill.types import Answerer, Completion, FinishReason, Request, Usage
from potstill.wire.events import Event
from potstill.wire.neutral import Answer, Choice, Prompt, ToolUse

if TYPE_CHECKING:
    from potstill.models.policy import PolicyModel

FREE = "free"
"""Price of what this process computes: no money; ``price_as`` of the model says otherwise."""


def policies_of(settings: Gateway) -> dict[str, PolicyModel]:
    """The policies that routes name as students, opened, by the model's name. Raises as ``open_policy``."""
    students = {route.student for route in settings.routes}
    named = [model for model in settings.models if model.policy and model.name in students]
    if not named:
        return {}
    from potstill.models.policy import open_policy

    return {model.name: open_policy(model.policy) for model in named}


class PolicyAsk:
    """``seams.Ask`` for one request. ``prompt``: the client's own, without what students are shown beside it."""

    def __init__(self, policy: PolicyModel, actions: Actions, prompt: Prompt, said: Mapping[str, Any]) -> None:
        self._policy, self._actions, self._prompt, self._said = policy, actions, prompt, said

    async def ask(
        self, model: Model, prompt: Prompt, *, n: int = 1, told: Callable[[Upstream], None] = lambda call: None
    ) -> list[Asked]:
        """``n`` draws at the prompt's temperature (none: the likeliest action). Raises ``ModelError`` where the client
        lists nothing, as a policy that is not sure: then it is the teacher's turn."""
        offer = offer_of(self._prompt, self._actions, self._said)
        if offer is None:
            raise ModelError("the request lists no action as the route's settings say, so a policy cannot choose")
        request = Request(
            messages=(),
            admissible=offer.admissible,
            situation=offer.situation,
            temperature=prompt.temperature or 0.0,
            seed=prompt.seed,
        )
        completion = await self._policy.sample(request, n)
        choices = tuple(chosen(reply.text, self._actions) for reply in completion.replies)
        return [answered(model, model.policy, completion, choices, told)]

    def stream(self, model: Model, prompt: Prompt) -> AsyncIterator[Event]:
        raise ModelError("a policy's choice is one word of the client's own: it is not streamed")


def chosen(listed: str, actions: Actions) -> Choice:
    """A listed action as a choice of the client's dialect."""
    parts = answer_parts(listed, actions, "call_0")
    called = isinstance(parts[0], ToolUse)
    return Choice(parts=parts, finish=FinishReason.TOOL_CALLS if called else FinishReason.STOP)


def answered(
    model: Model, named: str, completion: Completion, choices: tuple[Choice, ...], told: Callable[[Upstream], None]
) -> Asked:
    """What a model of this process said, as an upstream's answer. ``named``: how its calls call it."""
    call = completion.calls[0]
    asked = Upstream(
        model=named,
        upstream="",
        answerer=Answerer.STUDENT,
        dialect="",
        price_as=model.price_as or FREE,
        started_at=call.started_at,
        latency_s=sum(one.latency_s for one in completion.calls),
        status=200,
        n=len(choices),
        raw_usage=_usage(call.usage),
    )
    told(asked)
    answer = Answer(id=f"student-{uuid.uuid4().hex}", model=model.name, choices=choices, created=call.started_at)
    usage = msgspec.structs.replace(answer, usage=call.usage, raw_usage=asked.raw_usage)
    return Asked(answer=usage, call=asked, candidates=completion.replies[0].candidates)


def _usage(usage: Usage | None) -> dict[str, Any] | None:
    """Words read and written, as a chat's provider would count tokens."""
    if usage is None:
        return None
    read, written = usage.input_tokens, usage.output_tokens
    return {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}
