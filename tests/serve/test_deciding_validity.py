"""Which answers of a student a client could use: what is looked at in a schema, and nothing that breaks it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from deciding_builders import call, prompt
from hypothesis import given
from hypothesis import strategies as st

from potstill.serve.deciding.student import reply_of
from potstill.serve.deciding.validity import ValidAnswers, misfit
from potstill.types import Reply, ToolCall
from potstill.wire.neutral import Tool


@pytest.mark.parametrize(
    ("value", "schema", "wrong"),
    [
        (3, {"type": "integer"}, None),
        (3.0, {"type": "integer"}, None),
        (3.5, {"type": "integer"}, "x is not of type integer"),
        (True, {"type": "integer"}, "x is not of type integer"),
        (True, {"type": "boolean"}, None),
        (2, {"type": "number"}, None),
        (None, {"type": ["string", "null"]}, None),
        (1, {"type": ["string", "null"]}, "x is not of type string or null"),
        ("a", {"enum": ["a", "b"]}, None),
        ("c", {"enum": ["a", "b"]}, "x is none of the allowed values"),
        (1, {"const": 2}, "x is not the allowed value"),
        ({}, {"required": ["a"]}, "x.a is missing"),
        ({"a": 1}, {"properties": {"a": {"type": "string"}}}, "x.a is not of type string"),
        ({"b": 1}, {"properties": {"a": {}}, "additionalProperties": False}, "x has no 'b'"),
        ({"b": 1}, {"patternProperties": {"b": {}}, "additionalProperties": False}, None),
        ([1, "a"], {"items": {"type": "integer"}}, "x[1] is not of type integer"),
        ([{"a": {"b": []}}], {"items": {"properties": {"a": {"required": ["c"]}}}}, "x[0].a.c is missing"),
        (1, {"type": "made-up"}, None),
        ({}, {"required": [{}, ["a"], 3]}, None),
        (1, {"$ref": "#/elsewhere", "minimum": 5}, None),
    ],
)
def test_types_fields_and_choices_are_looked_at(value: Any, schema: dict[str, Any], wrong: str | None) -> None:
    assert misfit(value, schema, "x") == wrong


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)
words = st.sampled_from(
    [
        "type",
        "enum",
        "const",
        "required",
        "properties",
        "additionalProperties",
        "items",
        "object",
        "array",
        "string",
        "a",
    ]
)
schemas = st.recursive(
    words | anything,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=4),
    max_leaves=12,
)


@given(anything, st.dictionaries(words, schemas, max_size=5))
def test_no_schema_and_no_value_breaks_the_check(value: Any, schema: dict[str, Any]) -> None:
    assert misfit(value, schema, "x") is None or isinstance(misfit(value, schema, "x"), str)


@given(st.text(max_size=40) | anything.map(json.dumps), st.dictionaries(words, schemas, max_size=4))
def test_whatever_a_student_writes_has_a_key_or_none(arguments: str, parameters: dict[str, Any]) -> None:
    rule = ValidAnswers("json", prompt(tools=(Tool(name="f", parameters=parameters),)))
    reply = Reply(tool_calls=(ToolCall(id="c", name="f", arguments=arguments),))
    assert (rule.key(reply, None) is None) or rule.why_not(reply) is None
    hash(rule.key(reply, None))


def test_deeply_nested_arguments_are_no_valid_answer_and_no_crash() -> None:
    rule = ValidAnswers("json", prompt())
    reply = Reply(tool_calls=(ToolCall(id="c", name="look", arguments="[" * 100_000),))
    assert rule.key(reply, None) is None
    for depth in (400, 700, 900, 5_000):
        deep = '{"a":' * depth + "1" + "}" * depth
        assert rule.key(Reply(tool_calls=(ToolCall(id="c", name="look", arguments=deep),)), None) is None or depth < 900


def test_the_action_is_the_students_own_call() -> None:
    rule = ValidAnswers("json", prompt())
    reply = reply_of(call(city="Oslo"))
    assert rule.action(reply, None).tool_calls == reply.tool_calls
    assert rule.name == "json"
