"""JSON lines in pieces: each read by itself, by this process or by several, with records in the file's order.

What it knows: ranges of bytes, worker processes, and how records travel between them (MessagePack, no pickles of data).
What it does not do: formats. At most a few pieces are under way at a time, so memory stays bounded.
"""

from __future__ import annotations

import signal
import sys
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import BinaryIO

import msgspec

from potstill.logs.documents import head_of, rows_at
from potstill.logs.formats.registry import format_named
from potstill.logs.lines import LINE_LIMIT, Piece, TooLong, numbered, pieces
from potstill.logs.records import Attempt, LogCall, Record, Source
from potstill.logs.report import Tally
from potstill.logs.rows import Interpreter

_AHEAD = 2
"""Pieces that wait beside those that are being read."""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """How the lines of one file are read: all that another process must know."""

    path: str
    format: str
    inner: str | None = None
    """Each line is a whole document with its rows at this path."""
    strict: bool = False
    line_limit: int = LINE_LIMIT


def read_lines(
    file: BinaryIO, plan: Plan, tally: Tally, *, first_line: int = 1, stop: int | None = None
) -> Iterator[Record]:
    """The records of the lines of an open file (of its next ``stop`` bytes), counted in ``tally``."""
    row_format = format_named(plan.format)
    interpreter = Interpreter(plan.path, row_format, tally, strict=plan.strict)
    records = interpreter.records
    for number, line in numbered(file, first_line, limit=plan.line_limit, stop=stop):
        if isinstance(line, TooLong):
            tally.skip("line too long", number, f"{line.size} bytes; at most {plan.line_limit} are read")
        elif plan.inner is None:
            yield from records(line, number)
        elif rows := rows_at(line, plan.inner):
            head = head_of(row_format, line, plan.inner)
            inside = Interpreter(plan.path, row_format, tally, head, strict=plan.strict)
            for row in rows:
                yield from inside.records(bytes(row), number)
        else:
            yield from records(line, number)


def read_range(plan: Plan, piece: Piece, tally: Tally) -> Iterator[Record]:
    """The records of one piece of an uncompressed file."""
    with open(plan.path, "rb") as file:
        file.seek(piece.start)
        if piece.start == 0 and file.read(3) != b"\xef\xbb\xbf":
            file.seek(0)
        yield from read_lines(file, plan, tally, first_line=piece.first_line, stop=piece.stop - file.tell())


# --- between processes ----------------------------------------------------------------------------------------------


class _Batch(msgspec.Struct, array_like=True):
    """The records of a piece. ``order`` has one letter for each: ``c`` call, ``a`` attempt."""

    order: str
    calls: list[LogCall]
    attempts: list[Attempt]
    tally: Tally


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Batch).decode


def _work(plan: Plan, piece: Piece) -> bytes:
    """In a worker: read a piece, and give its records as bytes."""
    tally = Tally()
    calls: list[LogCall] = []
    attempts: list[Attempt] = []
    order: list[str] = []
    for record in read_range(plan, piece, tally):
        if isinstance(record, LogCall):
            order.append("c")
            calls.append(record)
        else:
            order.append("a")
            attempts.append(record)
    return _encode(_Batch("".join(order), calls, attempts, tally))


def _unpacked(data: bytes, path: str, tally: Tally) -> Iterator[Record]:
    batch = _decode(data)
    tally.add(batch.tally)
    calls, attempts = iter(batch.calls), iter(batch.attempts)
    for letter in batch.order:
        record: Record = next(calls) if letter == "c" else next(attempts)
        _share(record, path)
        if isinstance(record, Attempt):
            for call in record.calls:
                _share(call, path)
        yield record


def _share(record: Record, path: str) -> None:
    """Let records have the same text objects for what is the same in all of them: it saves most of their memory."""
    put = msgspec.structs.force_setattr
    put(record, "source", Source(path, record.source.line))
    put(record, "model", sys.intern(record.model))
    put(record, "run", sys.intern(record.run))


def _ignore_interrupts() -> None:
    """Ctrl-C goes to the whole group of processes; the parent alone decides what to do about it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def read_parallel(plan: Plan, tally: Tally, jobs: int, progress: Callable[[int], None]) -> Iterator[Record]:
    """The records of an uncompressed file, read by ``jobs`` processes. What a broken worker leaves is read here."""
    pool = ProcessPoolExecutor(jobs, mp_context=get_context("spawn"), initializer=_ignore_interrupts)
    waiting: deque[tuple[Piece, Future[bytes] | None]] = deque()
    todo = pieces(plan.path)
    finished = False
    try:
        while True:
            while len(waiting) < jobs + _AHEAD and (piece := next(todo, None)) is not None:
                waiting.append((piece, _submitted(pool, plan, piece)))
            if not waiting:
                break
            piece, future = waiting.popleft()
            yield from _finished(plan, piece, future, tally)
            progress(piece.stop)
        finished = True
    finally:
        pool.shutdown(wait=finished, cancel_futures=True)


def _submitted(pool: ProcessPoolExecutor, plan: Plan, piece: Piece) -> Future[bytes] | None:
    try:
        return pool.submit(_work, plan, piece)
    except BrokenProcessPool:
        return None


def _finished(plan: Plan, piece: Piece, future: Future[bytes] | None, tally: Tally) -> Iterator[Record]:
    try:
        data = future.result() if future is not None else None
    except BrokenProcessPool:
        data = None
    if data is not None:
        yield from _unpacked(data, plan.path, tally)
        return
    note = "a worker process ended early: its part was read in the main process"
    if note not in tally.notes:
        tally.notes.append(note)
    yield from read_range(plan, piece, tally)
