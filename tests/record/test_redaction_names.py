"""Secrets that are known by the name before them, and the filter before the rules, for all ways of writing JSON."""

from __future__ import annotations

import json
import re
from functools import partial

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from potstill.record.prefilter import may_hold_secret
from potstill.record.redact import Masks, Redactor, _masked
from potstill.record.secrets_rules import BUILT_IN, SECRET_FIELDS, Rule

LONG = "aB3dE5fG7hI9jK1lM3nO5pQ7rS9t"
HEX = "0123456789abcdef" * 2
SLASHED = "wJalr" + "XUtnF/K7MDENG+bPxRf" + "iCYzzzzzz12"


def body(text: str) -> bytes:
    return json.dumps({"messages": [{"role": "user", "content": text}]}).encode()


@pytest.mark.parametrize(
    ("text", "gone"),
    [
        ("postgres://bob:hunter3secret@db.example.com", "hunter3secret"),
        ("postgres://j\u00fcrgen" + "\u00fc" * 90 + ":" + "\u00fc" * 190 + "hunter3@db", "hunter3"),
        (f"Client_Secret={LONG}", LONG),
        (f"aPI_kEY={LONG}", LONG),
        (f"AWS_SECRET_ACCESS_KEY={SLASHED}", SLASHED[-12:]),
        (f"aws_secret_access_key = {SLASHED}", SLASHED[-12:]),
        (f"AZURE_OPENAI_API_KEY={HEX}", HEX),
        ("export MISTRAL_API_KEY=hunter4pw", "hunter4pw"),
        ("DB_PASSWORD: hunter4pw\nDB_HOST: db", "hunter4pw"),
        ('APP_TOKEN="hunterpw"', "hunterpw"),
        ('{"api_key":"hunter5"}', "hunter5"),
        ("{'client_secret': 'hunter5'}", "hunter5"),
        ('{"OPENAI_API_KEY": "hunter5"}', "hunter5"),
        (f'{{"cmd": "a\\nAuthorization: Bearer {LONG}"}}', LONG),
        (f'{{"cmd": "a\\nsk-{LONG}"}}', LONG),
        (f'{{"cmd": "a\\nghp_{LONG}{LONG}"}}', LONG),
        ("AUTHORIZATION: Basic dXNlcjpw", "dXNlcjpw"),
    ],
)
def test_a_secret_behind_a_name_is_gone(text: str, gone: str) -> None:
    data = body(text)
    for written in (data, data.replace(b"/", b"\\/"), json.dumps(json.loads(data), ensure_ascii=False).encode()):
        told = json.loads(Redactor().body(written))["messages"][0]["content"]
        assert gone not in told
        assert "[redacted:" in told
    assert gone not in Redactor().text(text)


@pytest.mark.parametrize("field", [*sorted(SECRET_FIELDS), "API_KEY", "OPENAI_API_KEY", "X-Api-Key", "AUTHORIZATION"])
@pytest.mark.parametrize("written", ['{"%s":"hunter2"}', '{ "%s" :  "hunter2" }', '{\n"%s"\n:\n"\\"hunter2"}'])
def test_a_field_for_a_secret_is_masked_whatever_it_looks_like(field: str, written: str) -> None:
    inner = written % field
    assert "hunter2" not in Redactor().body(inner.encode()).decode()
    if "\\" not in inner and "\n" not in inner:
        assert "hunter2" not in Redactor().body(json.dumps({"arguments": inner}).encode()).decode()


@pytest.mark.parametrize(
    "text",
    [
        "the api key: see docs",
        "OPENAI_API_KEY: required for all models that OpenAI serves",
        "key = os.environ['OPENAI_API_KEY']",
        "OPENAI_API_KEY = os.environ['KEY']",
        "OPENAI_API_KEY=$OPENAI_API_KEY",
        "OPENAI_API_KEY=<your key>",
        "API_KEY = getenv('API_KEY')",
        "MAX_TOKEN=4096 and next_token: abc",
        "a token: it counts; the secret: there is none; password = required",
        "https://example.org/a?b=c and write to jo@example.org",
        "reauthorization: pending",
        "see {'api_key': ''} and the field 'api_key', which is a string",
    ],
)
def test_words_about_secrets_stay(text: str) -> None:
    data = json.dumps({"content": text, "max_tokens": 5, "api_key": None, "schema": {"api_key": {"a": "b"}}}).encode()
    assert Redactor().body(data) == data


# --- the filter -------------------------------------------------------------------------------------------------------

SHAPES = [rule for rule in BUILT_IN if rule.name != "card"]


def _shapes(rule: Rule) -> st.SearchStrategy[str]:
    """What a rule matches, without the assertions about what stands around it: those come by themselves or not."""
    pattern = re.sub(r"\(\?<?[!=](?:[^()\[\]]|\[[^\]]*\]|\([^()]*\))*\)", "", rule.pattern.pattern)
    flags = rule.pattern.flags & (re.IGNORECASE | re.ASCII | re.DOTALL)
    return st.from_regex(re.compile(pattern.replace(r"\b", ""), flags), fullmatch=True)


BEFORE = ("", " ", "\n", "\t", "é", '"', "'", "x ", "a_", "A_", "\\n", '{"', "A" * 30 + " ", "key=")
OPENED = {"field": ("'", '"'), "variable": ("A_", "X_API_", " MY_")}
AFTER = st.sampled_from(["", " ", "\n", '"', "'", "é", '"}', ".", "/", "\\", "A" * 30])


def _matches(text: str) -> list[str]:
    found = []
    for rule in BUILT_IN:
        masks = Masks()
        rule.pattern.sub(partial(_masked, rule=rule, masks=masks), text)
        found += [rule.name] if len(masks) else []
    return found


def _written(value: object) -> list[bytes]:
    plain = json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")
    ascii_ = json.dumps(value).encode()
    return [
        plain,
        ascii_,
        plain.replace(b"/", b"\\/"),
        ascii_.replace(b"/", b"\\/"),
        json.dumps(value, indent=1).encode(),
    ]


@pytest.mark.parametrize("rule", SHAPES, ids=lambda rule: rule.name)
def test_the_filter_never_says_no_to_what_a_rule_matches(rule: Rule) -> None:
    matched = 0

    @settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(
        st.sampled_from(OPENED.get(rule.name, BEFORE)),
        _shapes(rule),
        AFTER,
        st.sampled_from([0, 0, 1, 2]),
        st.booleans(),
    )
    def check(before: str, shape: str, after: str, levels: int, long: bool) -> None:
        nonlocal matched
        text = before + shape + after
        for _ in range(levels):
            text = json.dumps({"a": text})
        if not _matches(text):
            return
        matched += 1
        for data in (*_written({"content": text}), text.encode("utf-8", "surrogatepass")):
            assert may_hold_secret(b" " * 300 * long + data), (_matches(text), data)

    check()
    assert matched, "none of the shapes matches, which says nothing"


@given(
    st.sampled_from(sorted(SECRET_FIELDS)).flatmap(lambda n: st.sampled_from([n, n.upper(), n.title()])),
    st.text(min_size=1, max_size=5),
    st.text(" \t\r\n", max_size=70),
    st.text(" \t\r\n", max_size=70),
)
@settings(deadline=None)
def test_the_filter_never_says_no_to_a_field_for_a_secret(name: str, value: str, before: str, behind: str) -> None:
    for written in _written(value)[:4]:
        if b"\\ud" not in written:
            data = b'{"%b"%b:%b%b}' % (name.encode(), before.encode(), behind.encode(), written)
            assert may_hold_secret(data), data
