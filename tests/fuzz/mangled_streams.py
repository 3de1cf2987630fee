"""Streams of upstreams that misbehave: real ones of each dialect, damaged in their events, their bytes and their HTTP.

Everything is drawn by hypothesis, so that a failure shrinks to the least damage that shows it.
"""

from __future__ import annotations

import copy
import gzip
import json
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st
from pair_samples import ANTHROPIC, CASES, CHAT, STREAMS, Says
from upstream_double import CLOSE, END, RESET, chunk

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
RICH = Says(
    text="Half \u00e9 \u4f60 \U0001f44b [DONE] message_stop response.completed end",
    thinking="hm \u2603",
    calls=CASES["parallel tool calls"].calls,
    finish="tool_calls",
)
SAYS = [*CASES.values(), RICH]
GIANT = 200_000

odd = st.sampled_from(
    [
        None,
        True,
        0,
        -1,
        2**63,
        2**64,
        1.5,
        "",
        "x",
        "\x00",
        "\u2028",
        [],
        {},
        [[]],
        [None],
        {"type": 1},
        {"error": None},
    ]
)


def _comment(draw: st.DrawFn, frames: list[bytes], at: int) -> None:
    frames.insert(at, draw(st.sampled_from([b": ping\n\n", b":\n", b": a\n: b\n\n", b"\n\n", b"id: 7\nretry: 10\n\n"])))


def _unknown(draw: st.DrawFn, frames: list[bytes], at: int) -> None:
    known = [b'{"type":"never.heard","x":1}', b'{"choices":[]}', b"{}", b'{"type":"ping"}', b'{"object":"new.thing"}']
    frames.insert(at, b"event: never.heard\ndata: " + draw(st.sampled_from(known)) + b"\n\n")


def _not_json(draw: st.DrawFn, frames: list[bytes], at: int) -> None:
    wrong = [
        *(b"", b"{", b"nope", b"[]", b"null", b"7", b'"x"', b"NaN", b"\xff\xfe", b"[" * 5000, b'{"a":' * 5000),
        *(b'{"a":"\\ud800"}', b'{"a":1e999}', b'{"id":"a","id":"b"}', b'{"error":"x"}', b'{"error":null}'),
    ]
    frames.insert(at, b"data: " + draw(st.sampled_from(wrong)) + b"\n\n")


def _error(draw: st.DrawFn, frames: list[bytes], at: int) -> None:
    told = [
        b'data: {"error":{"message":"overloaded","type":"server_error","code":null}}\n\n',
        b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error","message":"busy"}}\n\n',
        b'event: error\ndata: {"type":"error","code":"x","message":"busy","param":null,"sequence_number":3}\n\n',
        b'data: {"error":"just text"}\n\n',
    ]
    frames.insert(at, draw(st.sampled_from(told)))


def _giant(draw: st.DrawFn, frames: list[bytes], at: int) -> None:
    frames.insert(at, draw(st.sampled_from([b": ", b"data: ", b"never: "])) + b"a" * GIANT + b"\n\n")


def _split_data(draw: st.DrawFn, frames: list[bytes], at: int) -> None:
    """One event's data on two lines, as the format allows."""
    if at < len(frames):
        frames[at] = frames[at].replace(b", ", b",\ndata:  ", 1)


def _drop(draw: st.DrawFn, frames: list[bytes], at: int) -> None:
    del frames[at : at + 1]


def _twice(draw: st.DrawFn, frames: list[bytes], at: int) -> None:
    frames[at : at + 1] = frames[at : at + 1] * 2


def _swap(draw: st.DrawFn, frames: list[bytes], at: int) -> None:
    other = draw(st.integers(0, len(frames)))
    if at < len(frames) and other < len(frames):
        frames[at], frames[other] = frames[other], frames[at]


def _value(draw: st.DrawFn, frames: list[bytes], at: int) -> None:
    """A wrong type, or a member that is not there."""
    if at >= len(frames) or b"data: {" not in frames[at]:
        return
    name, _, data = frames[at].partition(b"data: ")
    try:
        event = json.loads(data)
    except (ValueError, RecursionError):
        return
    found = _places(event)
    if not found:
        return
    *path, last = draw(st.sampled_from(found))
    holder: Any = event
    for key in path:
        holder = holder[key]
    if draw(st.booleans()):
        holder[last] = draw(odd)
    else:
        del holder[last]
    frames[at] = name + b"data: " + json.dumps(event).encode() + b"\n\n"


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    found = [path] if path else []
    for key, held in inner:
        found += _places(held, (*path, key))
    return found


DAMAGE: list[Callable[[st.DrawFn, list[bytes], int], None]] = [
    *(_value, _value, _drop, _twice, _swap, _comment, _unknown, _not_json, _error, _giant, _split_data)
]


@dataclass(frozen=True)
class Plan:
    """One answer of an upstream."""

    body: bytes
    """What it means to say, before any of it is cut off."""
    pieces: tuple[bytes | float, ...]
    clean: bool
    """Neither damaged nor cut off."""


@st.composite
def plans(draw: st.DrawFn, dialect: str) -> Plan:
    """An answer that streams, with up to three damages in its events, then in its bytes, then in its HTTP."""
    frames = copy.copy(STREAMS[dialect](draw(st.sampled_from(SAYS))))
    damages = draw(st.lists(st.sampled_from(DAMAGE), max_size=3))
    for damage in damages:
        damage(draw, frames, draw(st.integers(0, len(frames))))
    style = draw(st.sampled_from(["lf", "lf", "crlf", "cr", "mixed", "wild"]))
    body = _lines(draw, b"".join(frames), style)
    body += draw(st.sampled_from([b"", b"", b"", b"\n", b"data: more\n\n", b'data: {"id": "ch', b"\xff", b": x\n\n"]))
    if draw(st.integers(0, 9)) == 0:
        body = b"\xef\xbb\xbf" + body
    cut = draw(st.none() | st.none() | st.integers(0, len(body)))
    said = body if cut is None else body[:cut]
    pieces, whole = _http(draw, said)
    return Plan(said, pieces, clean=not damages and style != "wild" and cut is None and whole)


def _lines(draw: st.DrawFn, body: bytes, style: str) -> bytes:
    """``wild``: a blank line may vanish, where a line ends in CR and the next one, empty, in LF."""
    if style == "lf":
        return body
    if style in ("mixed", "wild"):
        kinds = [b"\n", b"\r\n", b"\r"] if style == "wild" else [b"\n", b"\r\n"]
        ends = draw(st.lists(st.sampled_from(kinds), min_size=2, max_size=5))
        lines = body.split(b"\n")
        return b"".join(line + ends[number % len(ends)] for number, line in enumerate(lines[:-1])) + lines[-1]
    return body.replace(b"\n", b"\r\n" if style == "crlf" else b"\r")


def _http(draw: st.DrawFn, body: bytes) -> tuple[tuple[bytes | float, ...], bool]:
    """The answer's bytes on the socket, and whether HTTP says that it is whole."""
    coding = draw(st.sampled_from(["identity"] * 6 + ["gzip", "deflate", "broken"]))
    head = HEAD
    if coding != "identity":
        head += b"content-encoding: " + (b"deflate" if coding == "deflate" else b"gzip") + b"\r\n"
        packed = zlib.compress(body) if coding == "deflate" else gzip.compress(body, 1)
        body = packed[: len(packed) // 2] + b"\x00\x01" if coding == "broken" else packed
    cuts = sorted(draw(st.lists(st.integers(0, len(body)), max_size=4)))
    parts = [body[start:end] for start, end in zip([0, *cuts], [*cuts, len(body)], strict=True)]
    pause = draw(st.sampled_from([0.0, 0.0, 0.001]))
    framing = draw(st.sampled_from(["chunked", "chunked", "length", "close"]))
    last = draw(st.sampled_from(["end", "end", "end", "close", "reset"]))
    out: list[bytes | float] = []
    if framing == "chunked":
        out.append(head + b"transfer-encoding: chunked\r\n\r\n")
        parts = [chunk(part) for part in parts if part]
    elif framing == "length":
        missing = 0 if last == "end" else draw(st.integers(0, 9))
        out.append(head + b"content-length: %d\r\n\r\n" % (len(body) + missing))
    else:
        out.append(head + b"connection: close\r\n\r\n")
    for part in parts:
        out += [part, pause] if pause else [part]
    whole = coding != "broken" and (last == "end" or (framing == "close" and last == "close"))
    if last == "end" and framing == "chunked":
        out.append(END)
    elif last == "reset":
        out.append(RESET)
    elif last == "close" or framing == "close":
        out.append(CLOSE)
    return tuple(out), whole


__all__ = ["ANTHROPIC", "CHAT", "Plan", "plans"]
