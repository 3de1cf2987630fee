"""Trained policies as students: files that this process runs itself, asked as an upstream would be.

What it knows: which policies are open, how an offer becomes a policy's question and its choice the client's answer.
What it does not do: look for new files (``reloading``), find what is offered (``record.offers``), run networks
(``edge``), decide whether the choice is trusted (``decide``).

A decision takes about a millisecond and no network, so it is made on the loop.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from potstill.errors import ConfigError, ModelError
from potstill.measure.calibration_file import file_sha256
from potstill.record.offers import answer_parts, offer_of
from potstill.serve.rollout.trust import Trust
from potstill.serve.seams import Asked
from potstill.serve.settings import Gateway, Model
from potstill.trajectories.exchange import Actions, Upstream
from potstill.types import Answerer, Completion, FinishReason, Request, Usage
from potstill.wire.events import Event
from potstill.wire.neutral import Answer, Choice, Prompt, ToolUse

if TYPE_CHECKING:
    from potstill.models.policy import PolicyModel

_TRIES = 3
_COUNTED = (
    "input_tokens", "cache_read_tokens", "cache_write_tokens", "cache_write_1h_tokens", "output_tokens",
    "reasoning_tokens",
)  # fmt: skip
FREE = "free"
"""Price of what this process computes: no money; ``price_as`` of the model says otherwise."""


class Opened(NamedTuple):
    """A policy with the hash of the bytes that it was read from."""

    model: PolicyModel
    sha256: str


def opened(file: str) -> Opened:
    """Raises as ``open_policy``, and ``ConfigError`` where the file is replaced again and again meanwhile."""
    from potstill.models.policy import open_policy

    for _ in range(_TRIES):
        sha256 = file_sha256(Path(file))
        found = Opened(open_policy(file), sha256)
        if file_sha256(Path(file)) == sha256:
            return found
    raise ConfigError(f"{file} is replaced all the time: it was never the same before and after it was read.")


class Policies:
    """The policies that routes name as students, by the model's name. Raises as ``opened``.

    One that takes another's place is there at once, and the one before it for the requests that began with it.
    """

    def __init__(self, settings: Gateway) -> None:
        students = {route.student for route in settings.routes}
        self.files = {model.name: model.policy for model in settings.models if model.policy and model.name in students}
        self._models: dict[str, PolicyModel] = {}
        self._served: dict[str, str] = {}
        for name, file in self.files.items():
            self.put(name, opened(file))

    def add(self, found: Opened) -> None:
        """Have it at hand for trusts that are in it."""
        self._models[found.sha256] = found.model

    def put(self, name: str, found: Opened) -> None:
        """It is served under this name from now on."""
        self.add(found)
        before, self._served[name] = self._served.get(name), found.sha256
        kept = {before, *self._served.values()}
        self._models = {sha256: model for sha256, model in self._models.items() if sha256 in kept}

    def served(self, name: str | None) -> Opened | None:
        """What is served under a model's name; None where it is no policy."""
        sha256 = self._served.get(name or "")
        return None if sha256 is None else Opened(self._models[sha256], sha256)

    def of(self, trust: Trust) -> PolicyModel | None:
        """The very policy that a route's trust is in."""
        return self._models.get(trust.policy_sha256)


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
    call, read = completion.calls[0], together([one.usage for one in completion.calls])
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
        raw_usage=_usage(read),
    )
    told(asked)
    answer = Answer(id=f"student-{uuid.uuid4().hex}", model=model.name, choices=choices, created=call.started_at)
    usage = msgspec.structs.replace(answer, usage=read, raw_usage=asked.raw_usage)
    return Asked(answer=usage, call=asked, candidates=completion.replies[0].candidates)


def together(usages: Sequence[Usage | None]) -> Usage | None:
    """What several calls of a model of this process read and wrote; unknown where one's is."""
    known = [usage for usage in usages if usage is not None]
    if len(known) < len(usages):
        return None
    first, *others = known
    sums = {name: sum(getattr(one, name) for one in known) for name in _COUNTED}
    return msgspec.structs.replace(first, **sums) if others else first


def _usage(usage: Usage | None) -> dict[str, Any] | None:
    """Words read and written, as a chat's provider would count tokens."""
    if usage is None:
        return None
    read, written = usage.input_tokens, usage.output_tokens
    return {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}
