"""Texts in JSON are found and changed as a parser would, however long they are and whatever bytes they hold."""

from __future__ import annotations

import json

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from potstill.record.json_texts import decoded, encoded, tokens
from potstill.record.redact import Redactor

LONG = "aB3dE5fG7hI9jK1lM3nO5pQ7rS9tU1vW3xY5z"
SECRET = f"sk-proj-{LONG}"


@pytest.mark.parametrize(
    "extra", ['"x":"\\ud800",', f'"x":{"9" * 5000},', '"x":"\udcff\udcfe",', '"\\u0069":1,', '"x":1e999,']
)
@pytest.mark.parametrize("where", [0, 1, 2])
def test_a_key_over_two_events_is_gone_though_one_of_them_is_odd(extra: str, where: int) -> None:
    lines = []
    for number, piece in enumerate([f"use {SECRET[:12]}", SECRET[12:30], SECRET[30:] + " now"]):
        odd = extra if number == where else ""
        lines.append(f'data: {{"choices": [{{{odd}"index":0,"delta":{{"content":{json.dumps(piece)}}}}}]}}\n\n')
    data = "".join(lines).encode("utf-8", "surrogateescape")
    clean = Redactor().body(data)
    assert SECRET[12:30].encode() not in clean
    assert SECRET[30:].encode() not in clean
    assert b"use [redacted:api-key]" in clean
    assert clean.count(extra.encode("utf-8", "surrogateescape")) == 1
    assert clean.count(b"\n") == data.count(b"\n")


def test_a_key_beside_bytes_that_are_no_text_is_gone_and_the_bytes_stay() -> None:
    data = b'{"a":"\xff ' + SECRET.encode() + b'\xc3"}'
    assert Redactor().body(data) == b'{"a":"\xff [redacted:api-key]\xc3"}'
    assert SECRET.encode() not in Redactor().body(b'{"a":"\\x ' + SECRET.encode() + b'"}')


FILL = st.sampled_from(["a", "é", "😀", "\n", '"', "\\", "\u2028", "\ud83d", "\ude00", "\x00", "/"])


@given(st.lists(st.tuples(FILL, st.integers(0, 9000)), max_size=8), st.booleans())
@settings(deadline=None, max_examples=40)
@example(runs=[("é", 553), ("\ud83d", 14), ("\ude00", 1)], ascii_=True)
def test_long_texts_are_what_a_parser_reads(runs: list[tuple[str, int]], ascii_: bool) -> None:
    text = "".join(fill * count for fill, count in runs)
    if not ascii_:
        text = text.encode("utf-8", "ignore").decode()
    data = json.dumps({"key": text, "n": -1.5e3}, ensure_ascii=ascii_).encode()
    field, value, last, number = tokens(data)
    assert field.parts is not None
    assert value.parts is not None
    assert last.parts is not None
    assert (decoded(field.parts), field.sign, decoded(last.parts)) == ("key", b":", "n")
    assert number.parts is None
    told = json.loads(data)["key"]
    assert decoded(value.parts) == told
    assert json.loads(encoded(told, value.parts)) == told
    assert b"".join(value.parts) == data[value.start + 1 : value.end - 1]


@pytest.mark.parametrize("fill", ["word ", "\\n", "\\u00e9", "\\ud83d\\ude00", "é", '\\"'])
def test_a_key_within_a_long_text_is_gone_and_all_else_is_the_same(fill: str) -> None:
    data = f'{{"a": "{fill * 30000} {SECRET} {fill * 30000}", "b": [1, "{fill}"]}}'.encode()
    told = json.loads(Redactor().body(data))
    assert told == json.loads(data.replace(SECRET.encode(), b"[redacted:api-key]"))


def test_a_text_that_does_not_end_is_none() -> None:
    assert [token.parts for token in tokens(b'{"a": "' + b"x" * 100_000)] == [[b"a"]]
