"""Deltas give back the very bytes, whatever was changed, and a damaged frame is never taken for a whole one."""

from __future__ import annotations

import contextlib
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from potstill.trajectories import delta
from potstill.trajectories.delta import Base, Content, Damaged

small = st.binary(max_size=40)
few_letters = st.text("ab", max_size=30).map(str.encode)
bodies = st.lists(small | few_letters, max_size=4).map(tuple)
others = st.lists(small, max_size=3).map(tuple)
contents = st.builds(Content, bodies, others)


def through(content: Content, base: Base | None) -> bytes:
    frame = delta.encode(content, delta.pieces(content.bodies, base), base)
    assert delta.decode(frame, base) == content
    return frame


def prefix_by_hand(a: bytes, b: bytes) -> int:
    same = 0
    while same < min(len(a), len(b)) and a[same] == b[same]:
        same += 1
    return same


@given(few_letters, few_letters)
def test_common_ends_are_those_that_a_walk_finds(a, b):
    assert delta.common_prefix(a, b) == prefix_by_hand(a, b)
    assert delta.common_suffix(a, b) == prefix_by_hand(a[::-1], b[::-1])
    for limit in range(min(len(a), len(b)) + 1):
        assert delta.common_prefix(a, b, limit) == min(limit, prefix_by_hand(a, b))
        assert delta.common_suffix(a, b, limit) == min(limit, prefix_by_hand(a[::-1], b[::-1]))


@given(contents, st.none() | contents)
def test_any_content_comes_back(content, before):
    through(content, None if before is None else delta.base_of(before))


@settings(max_examples=200)
@given(st.data())
def test_a_chain_of_random_edits_comes_back(data):
    body = data.draw(st.binary(max_size=300))
    base: Base | None = None
    frames = []
    wanted = []
    for _ in range(data.draw(st.integers(1, 8))):
        start = data.draw(st.integers(0, len(body)))
        stop = data.draw(st.integers(start, len(body)))
        body = body[:start] + data.draw(st.binary(max_size=60)) + body[stop:]
        content = Content((body, *data.draw(bodies)), data.draw(others))
        frames.append(through(content, base))
        wanted.append(content)
        base = delta.base_of(content)
    base = None
    for frame, content in zip(frames, wanted, strict=True):  # as a reader does, with nothing but the frames
        read = delta.decode(frame, base)
        assert read == content
        base = delta.base_of(read)


def test_the_hand_worked_example():
    base = delta.base_of(Content((b'{"m":[1],"n":1}',), (b"yes",)))
    assert delta.pieces([b'{"m":[1,22],"n":1}'], base) == (delta.Piece(1, 7, 8, 3),)
    assert delta.pieces([b"same", b"same", b"some"], None) == (
        delta.Piece(0, 0, 0, 4),
        delta.Piece(-1, 4, 0, 0),
        delta.Piece(-1, 1, 2, 1),
    )
    assert delta.pieces([b"", b'{"m":[1],"n":1}'], base) == (delta.Piece(0, 0, 0, 0), delta.Piece(1, 15, 0, 0))


def test_ten_megabytes_that_grow_in_the_middle():
    rng = random.Random(3)
    old = rng.randbytes(10_000_000)
    new = old[:7_000_000] + b"a new message" + old[7_000_000:]
    base = delta.base_of(Content((old,), (b"answer",)))
    assert len(through(Content((new,), (b"another answer",)), base)) < 200
    assert len(through(Content((old,), ()), base)) < 60
    assert len(through(Content((rng.randbytes(10_000_000),), ()), base)) < 10_010_000


def test_a_clock_in_front_of_the_history_does_not_cost_the_history():
    rng = random.Random(4)
    history = b" ".join(b"%d" % rng.randrange(10**9) for _ in range(3000))
    old = b'{"now":"10:00","messages":[' + history + b"]}"
    new = b'{"now":"10:07","messages":[' + history + b",12345]}"
    base = delta.base_of(Content((old,), ()))
    assert delta.own_bytes(delta.pieces([new], base)) > 29_000
    assert len(through(Content((new,), ()), base)) < 200
    assert len(through(Content((new,), ()), None)) > 10_000


def test_a_history_longer_than_the_dictionary_comes_back():
    rng = random.Random(5)
    old = b"<1>" + rng.randbytes(3 * delta.DICTIONARY_BYTES) + b"<1>"
    new = b"<2>" + old[3:-3] + b"<2>"
    base = delta.base_of(Content((old,), (rng.randbytes(50_000),)))
    through(Content((new,), (b"x",)), base)


@given(contents, contents, st.data())
def test_a_changed_frame_is_refused_or_gives_other_bytes_but_never_crashes(before, content, data):
    base = delta.base_of(before)
    frame = bytearray(through(content, base))
    frame[data.draw(st.integers(4, len(frame) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    with contextlib.suppress(Damaged):
        delta.decode(bytes(frame), base)


def test_a_frame_without_its_base_is_refused():
    base = delta.base_of(Content((b"a long common beginning, and more",), ()))
    frame = through(Content((b"a long common beginning, and less",), ()), base)
    with pytest.raises(Damaged, match="compared with one that is not there"):
        delta.decode(frame, None)
    with pytest.raises(Damaged):
        delta.decode(frame, Base((b"short",), b""))
    with pytest.raises(Damaged, match="layout"):
        delta.decode(b"", None)
