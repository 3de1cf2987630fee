"""An environment's own expert as a model, and the token counts that price it "as" a language model.

What it knows: how to ask the handle that a request carries, and what a named model would have been billed for the same
prompt and answer. What it does not do: know any environment, or prices. Its counts are estimates and say so.
"""

from __future__ import annotations

import functools
import time

import msgspec

from potstill.errors import ConfigError
from potstill.protocols import Capabilities, ExpertHandle, TokenCounter
from potstill.types import (
    Action,
    Answerer,
    Call,
    Completion,
    FinishReason,
    Message,
    Reply,
    Request,
    ToolCall,
    ToolSpec,
    Usage,
)

CHARACTERS_PER_TOKEN = 4.0
"""English prose takes about four characters a token in the vocabularies of large models (OpenAI's help centre, "What
are tokens and how to count them?"). Game states and JSON take fewer, so a count from this is rather too low."""

MESSAGE_OVERHEAD_TOKENS = 4
"""Role and separators that a chat template adds to each message (OpenAI cookbook: 3 per message, 1 for the role)."""


class EstimateCounter:
    """Counts characters instead of tokens: ``ceil(characters / 4)``. Needs no tokenizer and no download.

    >>> EstimateCounter().count("go to shelf 1")
    4
    """

    def __init__(self, characters_per_token: float = CHARACTERS_PER_TOKEN) -> None:
        if not characters_per_token > 0:
            raise ConfigError(f"characters_per_token is {characters_per_token}; it must be above 0.")
        self._characters_per_token = characters_per_token

    @property
    def name(self) -> str:
        return f"estimate:{self._characters_per_token:g}-characters-per-token"

    def count(self, text: str) -> int:
        return int(-(-len(text) // self._characters_per_token))


class ExpertModel:
    """Answers with ``await request.handle.expert_action()``; billed as if ``priced_as`` had read and written it.

    Deterministic: ``n`` samples are the same action ``n`` times and one call, whose output counts ``n`` times.
    Usage says who counted, and every table says it too. Errors of the environment pass through as they are: they end
    the episode.

    Raises ``ConfigError`` where the request carries no handle, or the environment has no expert.
    """

    def __init__(self, counter: TokenCounter, *, priced_as: str | None = None, name: str = "expert") -> None:
        self._counter = counter
        self._priced_as = priced_as
        self._name = name
        # A prompt only grows: each message is counted when it first appears, not again at every step.
        self._count = functools.lru_cache(maxsize=65536)(counter.count)

    @property
    def name(self) -> str:
        return self._name

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(n_shares_prompt=True, tools=True, constrained=True)

    async def sample(self, request: Request, n: int = 1) -> Completion:
        if n < 1:
            raise ConfigError(f"n is {n}; at least one sample must be asked for.")
        handle: ExpertHandle | None = request.handle
        if handle is None:
            raise ConfigError(
                "The model 'expert' is an environment's own expert and this request comes from none. Use it as "
                "--teacher in 'potstill run' on an environment that has one (see: potstill envs list)."
            )
        started, clock = time.time(), time.perf_counter()
        action = await handle.expert_action()
        if action is None:
            raise ConfigError("This environment has no expert. Name another teacher, such as openai:MODEL.")
        replies = (_reply(action),) * n
        call = Call(
            model=self._name,
            answerer=Answerer.NOBODY,
            purpose=request.purpose,
            prompt=request.messages,
            tools=request.tools,
            replies=replies,
            usage=self._usage(request, replies[0], n),
            priced_as=self._priced_as,
            temperature=request.temperature,
            started_at=started,
            latency_s=time.perf_counter() - clock,
        )
        return Completion(replies=replies, calls=(call,))

    async def aclose(self) -> None:
        self._count.cache_clear()

    def _usage(self, request: Request, reply: Reply, n: int) -> Usage:
        return Usage(
            input_tokens=sum(map(self._message_tokens, request.messages)) + self._tools_tokens(request.tools),
            output_tokens=n * (self._count(reply.text) + self._calls_tokens(reply.tool_calls)),
            estimated=True,
            counted_by=self._counter.name,
        )

    def _message_tokens(self, message: Message) -> int:
        return MESSAGE_OVERHEAD_TOKENS + self._count(message.content) + self._calls_tokens(message.tool_calls)

    def _calls_tokens(self, calls: tuple[ToolCall, ...]) -> int:
        return sum(MESSAGE_OVERHEAD_TOKENS + self._count(call.name) + self._count(call.arguments) for call in calls)

    def _tools_tokens(self, tools: tuple[ToolSpec, ...]) -> int:
        return sum(self._count(msgspec.json.encode(tool).decode()) for tool in tools)


def _reply(action: Action) -> Reply:
    finish = FinishReason.TOOL_CALLS if action.tool_calls else FinishReason.STOP
    return Reply(text=action.text, tool_calls=action.tool_calls, finish_reason=finish)
