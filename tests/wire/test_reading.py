"""One reader for the JSON of clients and upstreams: every error says where, what is allowed and what stood there."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from potstill.errors import BadRequest, BadResponse
from potstill.wire.dialect import Problem, dialect
from potstill.wire.reading import Fields, dumps, field_in, load

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=60),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
GETTERS = ("text", "need", "flag", "integer", "count", "need_count", "number", "items", "map", "inner", "need_inner")


@pytest.mark.parametrize(
    ("getter", "value", "message"),
    [
        ("text", 5, "'a.x' must be a text, not 5."),
        ("need", None, "'a.x' is missing: it must be a text."),
        ("flag", "yes", "'a.x' must be true or false, not 'yes'."),
        ("integer", 1.5, "'a.x' must be a whole number, not 1.5."),
        ("integer", True, "'a.x' must be a whole number, not true."),
        ("count", -1, "'a.x' is -1; it must be a whole number, 0 or more."),
        ("need_count", None, "'a.x' is missing: it must be a whole number, 0 or more."),
        ("number", "hot", "'a.x' must be a number, not 'hot'."),
        ("number", float("inf"), "'a.x' must be a number of ordinary size, not inf."),
        ("number", 10**400, "'a.x' must be a number of ordinary size, not 1" + "0" * 38 + "…."),
        ("items", {}, "'a.x' must be a list, not an object."),
        ("map", [], "'a.x' must be an object, not a list."),
        ("need_inner", None, "'a.x' must be an object, not null."),
        ("text", ["x" * 90], "'a.x' must be a text, not a list."),
        ("number", "x" * 90, "'a.x' must be a number, not '" + "x" * 38 + "…."),
    ],
)
def test_an_error_says_where_what_is_allowed_and_what_stood_there(getter: str, value: Any, message: str) -> None:
    for fault in (BadRequest, BadResponse):
        with pytest.raises(fault) as raised:
            getattr(Fields({"x": value}, "a", fault), getter)("x")
        assert str(raised.value) == message


def test_null_is_absent_and_the_rest_is_what_nobody_asked_for() -> None:
    fields = Fields({"a": 1, "b": None, "c": "x", "d": [1]})
    assert fields.text("b") is None
    assert fields.items("b") == []
    assert fields.number("a") == 1.0
    assert fields.rest() == {"c": "x", "d": [1]}
    assert fields.rest({"c"}) == {"a": 1, "d": [1]}
    assert fields.value == {"a": 1, "b": None, "c": "x", "d": [1]}


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "The body is not valid JSON: "),
        (b'"\xff"', "The body is not valid JSON: "),
        (b"[1]", "The body must be a JSON object, not a list."),
        (b"null", "The body must be a JSON object, not null."),
        (b'{"a":' * 20000, "The body is nested too deeply."),
    ],
)
def test_what_is_no_object_is_refused(body: bytes, message: str) -> None:
    with pytest.raises(BadRequest) as raised:
        load(body)
    assert str(raised.value).startswith(message)


def test_what_cannot_be_written_says_so() -> None:
    deep: Any = {}
    for _ in range(50_000):
        deep = {"a": deep}
    for value in (deep, {"a": "\ud800"}, {"a": 1 << 90_000}):
        with pytest.raises(BadResponse, match="The answer cannot be written as JSON: "):
            dumps(value, BadResponse, "The answer")
    while deep:
        deep = deep.pop("a")


@given(st.dictionaries(st.sampled_from("abc"), values, max_size=3), st.sampled_from(GETTERS))
def test_nothing_but_the_fault_is_ever_raised(value: dict[str, Any], getter: str) -> None:
    fields = Fields(value, "x", BadResponse)
    said = []
    for key in "abcd":
        try:
            getattr(fields, getter)(key)
        except BadResponse as error:
            said.append((f"x.{key}", field_in(str(error))))
    assert all(place == named for place, named in said)


@given(values)
def test_any_json_object_is_read_as_it_is(value: Any) -> None:
    body = json.dumps({"v": value}, allow_nan=False, default=str) if _finite(value) else '{"v": 0}'
    assert set(load(body.encode()).value) == {"v"}


def _finite(value: Any) -> bool:
    try:
        json.dumps(value, allow_nan=False)
    except ValueError:
        return False
    return True


@pytest.mark.parametrize("name", ["openai-chat", "openai-responses"])
def test_the_field_at_fault_stands_in_param_too(name: str) -> None:
    spoken = dialect(name)
    with pytest.raises(BadRequest) as raised:
        spoken.decode_request(b'{"model":"m","messages":[{"content":"x"}],"input":[{"type":3}]}')
    error = json.loads(spoken.encode_problem(Problem(status=400, kind="invalid_request", message=str(raised.value))))
    assert error["error"]["param"] == ("messages[0].role" if name == "openai-chat" else "input[0].type")
