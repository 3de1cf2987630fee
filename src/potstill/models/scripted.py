"""A model that says what it was told to say: for tests, and for trying a configuration without spending.

What it knows: a list of answers or a function. What it does not do: imitate a language model. Its tokens are estimated.
"""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable, Iterable

from potstill.errors import ConfigError, ModelError
from potstill.models.expert import MESSAGE_OVERHEAD_TOKENS, EstimateCounter
from potstill.protocols import Capabilities, TokenCounter
from potstill.types import Answerer, Call, Completion, Reply, Request, Usage

Scripted = str | Reply | BaseException
Script = Iterable[Scripted] | Callable[[Request, int], Scripted | Awaitable[Scripted]]


class ScriptedModel:
    """Answers from a list, in order, or from ``script(request, index)``; ``index`` counts the samples of one request.

    An exception in the script is raised when its turn comes. ``requests`` keeps what was asked. A list that is used up
    raises ``ModelError``.

    >>> import asyncio
    >>> from potstill.types import Message
    >>> model = ScriptedModel(["go north", "go south"])
    >>> asyncio.run(model.sample(Request(messages=(Message(role="user", content="?"),)), n=2)).replies[1].text
    'go south'
    """

    def __init__(
        self,
        script: Script,
        *,
        name: str = "scripted",
        capabilities: Capabilities | None = None,
        counter: TokenCounter | None = None,
        delay_s: float = 0.0,
    ) -> None:
        self._function = script if callable(script) else None
        self._answers = None if callable(script) else iter(script)
        self._name = name
        self._capabilities = capabilities or Capabilities(n_shares_prompt=True, tools=True)
        self._counter = counter or EstimateCounter()
        self._delay_s = delay_s
        self.requests: list[tuple[Request, int]] = []

    @property
    def name(self) -> str:
        return self._name

    @property
    def capabilities(self) -> Capabilities:
        return self._capabilities

    async def sample(self, request: Request, n: int = 1) -> Completion:
        if n < 1:
            raise ConfigError(f"n is {n}; at least one sample must be asked for.")
        self.requests.append((request, n))
        started, clock = time.time(), time.perf_counter()
        await asyncio.sleep(self._delay_s)
        replies = tuple([await self._answer(request, index) for index in range(n)])
        call = Call(
            model=self._name,
            answerer=Answerer.NOBODY,
            purpose=request.purpose,
            prompt=request.messages,
            tools=request.tools,
            replies=replies,
            usage=self._usage(request, replies),
            temperature=request.temperature,
            started_at=started,
            latency_s=time.perf_counter() - clock,
        )
        return Completion(replies=replies, calls=(call,))

    async def aclose(self) -> None:
        """Nothing is held open."""

    async def _answer(self, request: Request, index: int) -> Reply:
        if self._function is not None:
            made = self._function(request, index)
            answer = await made if inspect.isawaitable(made) else made
        else:
            assert self._answers is not None
            try:
                answer = next(self._answers)
            except StopIteration:
                raise ModelError(
                    f"The script of '{self._name}' is used up after {len(self.requests) - 1} requests."
                ) from None
        if isinstance(answer, BaseException):
            raise answer
        return answer if isinstance(answer, Reply) else Reply(text=answer)

    def _usage(self, request: Request, replies: tuple[Reply, ...]) -> Usage:
        count = self._counter.count
        return Usage(
            input_tokens=sum(MESSAGE_OVERHEAD_TOKENS + count(message.content) for message in request.messages),
            output_tokens=sum(count(reply.text) for reply in replies),
            estimated=True,
        )
