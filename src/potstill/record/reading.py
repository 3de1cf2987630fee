"""An exchange's bytes as what was asked and what was answered, whatever dialect, streamed or not.

What it knows: which dialect wrote which bytes, and that either side may be unreadable: that is data, never a crash.
What it does not do: steps, trajectories (``fold``).
"""

from __future__ import annotations

from typing import NamedTuple

from potstill.errors import PotstillError
from potstill.trajectories.exchange import Exchange, Upstream
from potstill.types import ErrorRecord
from potstill.wire.assemble import Assembler
from potstill.wire.dialect import dialect as named
from potstill.wire.neutral import Answer, Prompt

FAILED_STATUS = 400


class Read(NamedTuple):
    """``problem``: why a part is missing, or why the answer is not whole."""

    prompt: Prompt | None
    answer: Answer | None
    problem: ErrorRecord | None = None


def read_exchange(exchange: Exchange) -> Read:
    prompt, wrong = read_prompt(exchange.dialect, exchange.request)
    answer, missing = read_answer(
        exchange.dialect, exchange.response, status=exchange.status, streamed=exchange.streamed, whole=exchange.complete
    )
    return Read(prompt, answer, wrong or exchange.error or missing)


def read_call(call: Upstream, client: Read) -> Read:
    """What one upstream was asked and answered; the client's own where the record says that it is the same."""
    prompt, wrong = (client.prompt, None) if call.request is None else read_prompt(call.dialect, call.request)
    if call.error is not None and call.response is None:
        return Read(prompt, None, call.error)
    if call.response is None:
        return Read(prompt, client.answer, wrong or call.error or client.problem)
    answer, missing = read_answer(call.dialect, call.response, status=call.status or 200, streamed=None, whole=True)
    return Read(prompt, answer, wrong or call.error or missing)


def read_prompt(dialect: str, body: bytes) -> tuple[Prompt | None, ErrorRecord | None]:
    try:
        return named(dialect).decode_request(body), None
    except (PotstillError, RecursionError) as error:
        return None, _record(error, f"the request of {len(body)} bytes is not {dialect}")


def read_answer(
    dialect: str, body: bytes, *, status: int, streamed: bool | None, whole: bool
) -> tuple[Answer | None, ErrorRecord | None]:
    """``streamed`` None: to be seen from the bytes."""
    try:
        if status >= FAILED_STATUS:
            problem = named(dialect).decode_problem(status, body)
            return None, ErrorRecord(kind=problem.kind, message=problem.message)
        if streamed or (streamed is None and is_stream(body)):
            return _streamed(dialect, body)
        if not body and not whole:
            return None, _incomplete("before it began")
        return named(dialect).decode_answer(body), None if whole else _incomplete("before its end")
    except (PotstillError, RecursionError) as error:
        return None, _record(error, f"the answer of {len(body)} bytes is not {dialect}")


def is_stream(body: bytes) -> bool:
    return body.lstrip().startswith((b"data:", b"event:", b":", b"id:", b"retry:"))


def _streamed(dialect: str, body: bytes) -> tuple[Answer | None, ErrorRecord | None]:
    decoder, assembler = named(dialect).stream_decoder(), Assembler()
    assembler.extend(decoder.feed(body))
    assembler.extend(decoder.close())
    broken = None if assembler.done else _incomplete("before its end")
    if assembler.broken is not None:
        broken = ErrorRecord(kind=assembler.broken.kind, message=assembler.broken.message)
    answer = assembler.answer(partial=True)
    return (answer if answer.choices or broken is None else None), broken


def _incomplete(when: str) -> ErrorRecord:
    return ErrorRecord(kind="Incomplete", message=f"the answer was cut off {when}")


def _record(error: Exception, what: str) -> ErrorRecord:
    return ErrorRecord(kind=type(error).__name__, message=f"{what}: {error}")
