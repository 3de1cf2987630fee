"""Agreement rules: equal decisions get equal keys, invalid ones never agree."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from potstill.decide import agreement_rule, rule_names
from potstill.errors import UnknownName
from potstill.types import Reply, ToolCall

scalars = st.none() | st.booleans() | st.integers(-1000, 1000) | st.text(max_size=8)
arguments = st.dictionaries(st.text(max_size=6), scalars | st.lists(scalars, max_size=3), max_size=5)


def call(name: str, text: str) -> Reply:
    return Reply(tool_calls=(ToolCall(id="1", name=name, arguments=text),))


def test_exact_requires_an_admissible_text() -> None:
    rule = agreement_rule("exact")
    assert rule.key(Reply(text=" look \n"), ["look"]) == "look"
    assert rule.key(Reply(text="Look"), ["look"]) is None
    assert rule.key(Reply(text="Look"), None) == "Look"
    assert rule.key(Reply(text="  "), None) is None


def test_normalized_executes_the_admissible_spelling() -> None:
    rule = agreement_rule("normalized")
    reply = Reply(text='"Go  to Desk 1."')
    assert rule.key(reply, ["look", "go to desk 1"]) == rule.key(Reply(text="go to desk 1"), ["go to desk 1"])
    assert rule.action(reply, ["look", "go to desk 1"]).text == "go to desk 1"
    assert rule.key(Reply(text="fly"), ["look"]) is None


@given(arguments, st.randoms(use_true_random=False))
def test_json_ignores_key_order_and_layout(data: dict, random) -> None:
    rule = agreement_rule("json")
    items = list(data.items())
    random.shuffle(items)
    compact = json.dumps(data, separators=(",", ":"))
    spread = json.dumps(dict(items), indent=2)
    assert rule.key(call("f", compact), None) == rule.key(call("f", spread), None)
    assert rule.key(call("f", compact), None) != rule.key(call("g", spread), None)


def test_json_numbers_and_invalid_arguments() -> None:
    rule = agreement_rule("json")
    assert rule.key(call("f", '{"a": 1.0}'), None) == rule.key(call("f", '{"a": 1}'), None)
    assert rule.key(call("f", '{"a": 1}'), None) != rule.key(call("f", '{"a": true}'), None)
    assert rule.key(call("f", '{"a": 1'), None) is None
    assert rule.key(call("f", "[1]"), None) is None
    assert rule.key(call("f", '{"a": NaN}'), None) is None
    assert rule.key(call("f", "[" * 100_000), None) is None


def test_a_text_never_agrees_with_a_tool_call() -> None:
    rule = agreement_rule("json")
    assert rule.key(Reply(text="f {}"), None) != rule.key(call("f", "{}"), None)


def test_python_ast_ignores_layout_and_runs_nothing() -> None:
    rule = agreement_rule("python-ast")
    assert rule.key(Reply(text="x = f( 'a' )  # one"), None) == rule.key(Reply(text='```python\nx = f("a")\n```'), None)
    assert rule.key(Reply(text="x = f('b')"), None) != rule.key(Reply(text="x = f('a')"), None)
    assert rule.key(Reply(text="x = ("), None) is None
    assert rule.key(Reply(text="# nothing"), None) is None


@given(st.text(max_size=40))
def test_no_rule_fails_on_any_text(text: str) -> None:
    for name in rule_names():
        agreement_rule(name).key(Reply(text=text), None)


def test_unknown_rule_names_the_nearest() -> None:
    with pytest.raises(UnknownName, match=r"'jsn'. Did you mean 'json'\? Available: exact, json, normalized"):
        agreement_rule("jsn")
