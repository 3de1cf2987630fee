"""Server-sent events: line ends, comments and cuts anywhere; frames that are too large."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from potstill.errors import BadResponse
from potstill.wire.events import Broken, Done, Event, Ping
from potstill.wire.sse import PING, Frame, FrameDecoder, Parser, encode


def frames(*chunks: bytes, max_frame_bytes: int = 1000) -> list[Frame]:
    parser = Parser(max_frame_bytes)
    return [frame for chunk in chunks for frame in parser.feed(chunk)] + list(parser.close())


STREAM = (
    b": hello\n\nevent: a\ndata: one\ndata:two\ndata\nid: 7\nretry: 3\nunknown: x\n\n"
    b"data:  \xc3\xa4 \n\nevent: no data\n\n"
)
MEANT = [Frame(data=b"one\ntwo\n", event="a", id="7"), Frame(data=b" \xc3\xa4 ", id="7")]


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_every_line_end_and_every_cut_means_the_same(end: bytes, mark: bytes) -> None:
    stream = mark + STREAM.replace(b"\n", end)
    assert frames(stream) == MEANT
    assert frames(*(bytes([byte]) for byte in stream)) == MEANT
    for cut in range(len(stream) + 1):
        assert frames(stream[:cut], b"", stream[cut:]) == MEANT


def test_a_frame_without_its_last_empty_line_is_given_at_the_end() -> None:
    parser = Parser()
    assert list(parser.feed(b"data: [DONE]")) == []
    assert list(parser.close()) == [Frame(data=b"[DONE]")]
    assert list(parser.close()) == []


def test_a_frame_comes_as_soon_as_its_empty_line_does() -> None:
    for end in (b"\n\n", b"\r\r", b"\r\n\r\n"):
        parser = Parser()
        assert list(parser.feed(b"data: x" + end[:-1])) == ([Frame(data=b"x")] if end == b"\r\n\r\n" else [])
        assert list(parser.feed(end[-1:])) == ([] if end == b"\r\n\r\n" else [Frame(data=b"x")])


def test_too_large_a_frame_is_refused_after_those_before_it() -> None:
    for large in (b"data: " + b"x" * 200, b"data: xx\n" * 50, b"data: " + b"x" * 200 + b"\n\n"):
        given_first = Parser(100).feed(b"data: a\n\n" + large)
        assert next(given_first) == Frame(data=b"a")
        with pytest.raises(BadResponse, match="more than 100 bytes"):
            list(given_first)
    assert len(frames(b"data: x\n\n" * 200, max_frame_bytes=100)) == 200


def test_endless_comments_and_names_are_bounded_too() -> None:
    with pytest.raises(BadResponse):
        frames(b":" + b"x" * 200, max_frame_bytes=100)


@given(
    st.lists(st.tuples(st.text(), st.sampled_from(["", "message_start", "ping"])), max_size=6),
    st.lists(st.integers(0, 300), max_size=6),
)
def test_what_is_encoded_is_parsed_back(sent: list[tuple[str, str]], cuts: list[int]) -> None:
    stream = PING.join(encode(data, event) for data, event in sent)
    places = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    got = frames(*(stream[start:stop] for start, stop in itertools.pairwise(places)))
    lines = [data.replace("\r\n", "\n").replace("\r", "\n").encode() for data, _ in sent]
    assert got == [Frame(data=data, event=event) for data, (_, event) in zip(lines, sent, strict=True)]


@given(st.lists(st.binary(max_size=40), max_size=10))
def test_any_bytes_are_frames_or_refused(chunks: list[bytes]) -> None:
    try:
        whole = frames(b"".join(chunks), max_frame_bytes=60)
    except BadResponse:
        return
    assert frames(*chunks, max_frame_bytes=60) == whole


# --- the frame of a decoder -------------------------------------------------------------------------------------------


class Words(FrameDecoder):
    def read(self, frame: Frame) -> Iterable[Event]:
        if frame.data == b"bad":
            raise BadResponse("not a word")
        yield Done() if frame.data == b"done" else Ping()


def test_nothing_comes_after_the_end() -> None:
    decoder = Words()
    assert decoder.feed(b"data: x\n\ndata: done\n\ndata: x\n\n") == [Ping(), Done()]
    assert [*decoder.feed(b"data: x\n\n"), *decoder.close()] == []


def test_what_is_not_the_dialect_breaks_the_stream_once() -> None:
    decoder = Words()
    assert decoder.feed(b"data: x\n\ndata: bad\n\ndata: x\n\n") == [
        Ping(),
        Broken(message="not a word", kind="upstream"),
    ]
    assert [*decoder.feed(b"data: x\n\n"), *decoder.close()] == []


def test_too_large_a_frame_breaks_the_stream() -> None:
    ping, broken = Words(max_frame_bytes=20).feed(b"data: x\n\ndata: " + b"x" * 30)
    assert ping == Ping()
    assert isinstance(broken, Broken)
    assert "20 bytes" in broken.message


def test_an_end_without_done_is_a_cut() -> None:
    decoder = Words()
    (broken,) = decoder.close()
    assert isinstance(broken, Broken)
    assert "before its answer was complete" in broken.message
    assert decoder.close() == []


def test_the_last_word_may_lack_its_empty_line() -> None:
    decoder = Words()
    assert [*decoder.feed(b"data: done"), *decoder.close()] == [Done()]
