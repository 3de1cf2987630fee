"""Asking a model for an object until it can be read, a set number of times, with every call kept.

What it knows: rounds of repair, roles of calls, what goes on the bill when something fails or is broken off. What it
does not do: the words of the prompts (``prompts``), reading (``border``).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Generic, Protocol, TypeVar

import msgspec

from potstill.distill.playbook.neutral import content
from potstill.distill.playbook.roles.prompts import STATIC_MESSAGES, repair_message
from potstill.distill.playbook.spoken import Refusal, Why
from potstill.errors import ConfigError, MissingExtra, ModelError
from potstill.protocols import Model
from potstill.types import Answerer, Call, FinishReason, Message, Purpose, Reply, Request, Struct

_SHOWN_BACK = 2_000
"""Characters of an unusable answer that its author is shown again: enough to see what was wrong."""

T = TypeVar("T")

Paid = Callable[[Sequence[Call]], Awaitable[None]]
"""Told of calls as each is answered, so that they are on the bill whatever becomes of who asked."""
_paid: ContextVar[Paid | None] = ContextVar("paid", default=None)
"""Of whoever waits in ``metered``: a role's contract has no place for it, and scripts that wrap a role need none."""


@contextmanager
def paying(paid: Paid) -> Iterator[None]:
    """``tell`` tells ``paid`` within."""
    before = _paid.set(paid)
    try:
        yield
    finally:
        _paid.reset(before)


async def tell(calls: Sequence[Call]) -> None:
    """Put calls that were answered on the bill of whoever waits for more than them; nothing where nobody does."""
    if calls and (paid := _paid.get()) is not None:
        await paid(calls)


class Billed(Protocol):
    """What a role gives: a ``Reflecting`` or a ``Curating``."""

    @property
    def calls(self) -> tuple[Call, ...]: ...


B = TypeVar("B", bound=Billed)


class Asking(Struct, frozen=True, kw_only=True):
    """How a role's model is asked. Raises ``ConfigError`` for impossible values."""

    purpose: Purpose
    answerer: Answerer
    max_tokens: int = 2048
    temperature: float = 0.0
    seed: int | None = None
    repairs: int = 1
    """How many times an unusable answer goes back with the reasons."""

    def __post_init__(self) -> None:
        if self.max_tokens < 1:
            raise ConfigError(f"max_tokens is {self.max_tokens}; it must be 1 or more.")
        if self.temperature < 0:
            raise ConfigError(f"The temperature is {self.temperature:g}; it must be 0 or more.")
        if self.repairs < 0:
            raise ConfigError(f"repairs is {self.repairs}; it must be 0 or more.")


class Heard(Struct, Generic[T], frozen=True, kw_only=True):
    """What came of asking: the last answer as it was read, why it cannot be used (empty: it can), and every call."""

    answer: T | None
    refused: tuple[Refusal, ...] = ()
    calls: tuple[Call, ...] = ()


async def ask(
    model: Model, asking: Asking, messages: tuple[Message, ...], read: Callable[[str], tuple[T, Sequence[Refusal]]]
) -> Heard[T]:
    """Ask, read, and ask again while ``read`` gives refusals and repairs are left.

    ``read`` gives an answer and the reasons why it cannot be used (none: it is used). Raises ``ModelError`` where
    nobody answers, with the calls of this question in ``calls``, those of earlier rounds among them. Where almost-JSON
    needs a library that is not installed, the answer is refused with what to type.
    """
    calls: tuple[Call, ...] = ()
    conversation = messages
    for left in range(asking.repairs, -1, -1):
        try:
            completion = await model.sample(_request(asking, conversation), 1)
        except ModelError as problem:
            problem.calls = (*calls, *_as_role(problem.calls, asking))
            raise
        answered = _as_role(completion.calls, asking)
        calls = (*calls, *answered)
        await tell(answered)
        reply = completion.replies[0] if completion.replies else Reply()
        answer, refused = _read(reply, read)
        if not refused or not left:
            return Heard(answer=answer, refused=refused, calls=calls)
        cut_at = asking.max_tokens if reply.finish_reason is FinishReason.LENGTH else None
        said = Message(role="assistant", content=content(reply.text, _SHOWN_BACK) or "(nothing)")
        conversation = (*messages, said, repair_message(refused, cut_at))
    raise AssertionError("the last round returns")


async def metered(asked: Awaitable[B], paid: Paid) -> B:
    """What a role says. ``paid`` is told of each of its calls once: of those by way of ``ask`` before anything else
    happens, so also where it is cancelled or killed behind them; of others when it answers, or raises ``ModelError``.
    """
    told: list[Call] = []

    async def heard(calls: Sequence[Call]) -> None:
        told.extend(calls)
        await paid(calls)

    def others(calls: Sequence[Call]) -> list[Call]:
        known = {id(call) for call in told}
        return [call for call in calls if id(call) not in known]

    try:
        with paying(heard):
            said = await asked
    except ModelError as problem:
        await paid(others(problem.calls))
        raise
    await paid(others(said.calls))
    return said


def _request(asking: Asking, messages: tuple[Message, ...]) -> Request:
    return Request(
        messages=messages,
        temperature=asking.temperature,
        max_tokens=asking.max_tokens,
        seed=asking.seed,
        static_messages=STATIC_MESSAGES,
        purpose=asking.purpose,
    )


def _as_role(calls: Sequence[Call], asking: Asking) -> tuple[Call, ...]:
    """The calls with who asked and why: a model does not know its role."""
    return tuple(msgspec.structs.replace(call, answerer=asking.answerer, purpose=asking.purpose) for call in calls)


def _read(reply: Reply, read: Callable[[str], tuple[T, Sequence[Refusal]]]) -> tuple[T | None, tuple[Refusal, ...]]:
    if not reply.text.strip():
        return None, (Refusal(why=Why.EMPTY, message="The answer is empty. Write one JSON object."),)
    try:
        answer, refused = read(reply.text)
    except MissingExtra as missing:
        return None, (Refusal(why=Why.BROKEN, message=f"It is not JSON. {missing}"),)
    return answer, tuple(refused)
