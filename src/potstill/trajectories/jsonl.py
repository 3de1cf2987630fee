"""Our own file format: one trajectory a line, exact, versioned, as linear in new text as the store.

What it knows: the line. What it does not do: files, databases, other formats.

A line is ``{"format": "potstill/trajectory", "version": 1, "trajectory": {...}, "messages": [...], "nodes": [[parent,
message], ...], "toolsets": [[...], ...], "refs": [[step, call, node, toolset], ...]}``. A call's prompt is the chain
that ends at ``nodes[node]``, walked up by ``parent`` until -1; ``call`` -1 is the step's observation. Whoever writes
such lines by hand may leave the last four out and give each call its ``prompt`` and ``tools`` in place.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import BinaryIO

import msgspec

from potstill.errors import StoreError
from potstill.trajectories import records
from potstill.trajectories.records import Flat, Ref
from potstill.types import SCHEMA_VERSION, Message, ToolSpec, Trajectory

FORMAT = "potstill/trajectory"
MAX_LINE_BYTES = 256 * 2**20


class Line(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    format: str
    version: int
    trajectory: Trajectory
    messages: tuple[Message, ...] = ()
    nodes: tuple[tuple[int, int], ...] = ()
    toolsets: tuple[tuple[ToolSpec, ...], ...] = ()
    refs: tuple[Ref, ...] = ()


class BadLine(msgspec.Struct, frozen=True):
    """A line that could not be read: its number (from 1) and why."""

    line: int
    problem: str


class _Head(msgspec.Struct, frozen=True):
    format: str = ""
    version: int = 0


_head_decoder = msgspec.json.Decoder(_Head)
_PLACE = re.compile(r"\(byte (\d+)\)$")
_NO_NUMBER = re.compile(rb"NaN|Infinity")
_line_decoder = msgspec.json.Decoder(Line)


def encode_line(trajectory: Trajectory) -> bytes:
    """One line with its newline. Raises ``StoreError`` for a value that does not read back equal (NaN, wrong types)."""
    flat = records.flatten(trajectory)
    line = Line(
        format=FORMAT,
        version=SCHEMA_VERSION,
        trajectory=flat.bare,
        messages=flat.messages,
        nodes=flat.nodes,
        toolsets=flat.toolsets,
        refs=flat.refs,
    )
    try:
        text = msgspec.json.encode(line)
        if _line_decoder.decode(text) == line:
            return text + b"\n"
        problem = "it holds a value that JSON cannot carry unchanged"
    except (msgspec.MsgspecError, ValueError, TypeError, RecursionError) as error:
        problem = str(error)
    raise StoreError(f"Cannot write trajectory {trajectory.id!r}: {records.first_unstorable(trajectory) or problem}.")


def decode_line(line: bytes) -> Trajectory:
    """Raises ``ValueError`` that says what is wrong with the line."""
    try:
        head = _head_decoder.decode(line)
        if head.format != FORMAT:
            raise ValueError(f"not a trajectory: 'format' is {head.format!r}, expected {FORMAT!r}")
        if not 1 <= head.version <= SCHEMA_VERSION:
            raise ValueError(f"version {head.version}; this potstill reads 1 to {SCHEMA_VERSION}")
        read = _line_decoder.decode(line)
        return records.inflate(
            Flat(
                bare=read.trajectory,
                messages=read.messages,
                nodes=read.nodes,
                toolsets=read.toolsets,
                refs=read.refs,
            )
        )
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    except msgspec.MsgspecError as error:
        raise ValueError(problem_of(error, line)) from error


def problem_of(error: Exception, line: bytes) -> str:
    """What is wrong with a line, for a person: the decoder's words, and which number JSON does not know."""
    told = str(error) or "nested too deeply"
    place = _PLACE.search(told)
    odd = place and _NO_NUMBER.match(line, int(place[1]))
    return f"{told}: JSON has no {odd[0].decode()}; write null, or leave the value out" if odd else told


def lines(source: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """Numbered lines without blank ones. A line beyond the limit is cut there, so it will not decode."""
    number = 0
    while raw := source.readline(MAX_LINE_BYTES):
        number += 1
        rest = raw
        while not rest.endswith(b"\n") and (rest := source.readline(MAX_LINE_BYTES)):
            continue
        if raw.strip():
            yield number, raw


def read_jsonl(source: BinaryIO) -> Iterator[tuple[int, Trajectory | BadLine]]:
    """Every line of a file in turn with its number: what it holds, or what is wrong with it."""
    for number, line in lines(source):
        try:
            yield number, decode_line(line)
        except ValueError as error:
            yield number, BadLine(number, str(error))


def write_jsonl(trajectories: Iterable[Trajectory], target: BinaryIO) -> int:
    """Write trajectories one at a time; returns how many."""
    count = 0
    for trajectory in trajectories:
        target.write(encode_line(trajectory))
        count += 1
    return count
