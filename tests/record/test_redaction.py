"""Secrets never reach the store, JSON stays JSON, and no rule can take forever."""

from __future__ import annotations

import json
import re
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from potstill.errors import ConfigError
from potstill.record.prefilter import may_hold_secret
from potstill.record.redact import Redactor
from potstill.record.secrets_rules import BUILT_IN, luhn, user_rule
from potstill.trajectories.exchange import Exchange, Upstream
from potstill.types import Answerer, Decision, ErrorRecord, Reason, Vote

LONG = "aB3dE5fG7hI9jK1lM3nO5pQ7rS9tU1vW3xY5z"
SECRETS = [
    f"sk-{LONG}",
    f"sk-proj-{LONG}_{LONG}",
    f"sk-ant-api03-{LONG}",
    "AKIA" + "IOSFODNN7EXAMPLE",
    f"ghp_{LONG}",
    f"github_pat_{LONG}",
    f"glpat-{LONG}",
    f"xoxb-1234567890-{LONG}",
    f"AIza{LONG}"[:39],
    f"hf_{LONG}",
    f"gsk_{LONG}",
    f"sk_live_{LONG}",
    f"eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.{LONG}",
    "-----BEGIN " + "RSA PRIVATE KEY-----\nMIIEpAIBAAKCAQEA\nabc\n-----END RSA PRIVATE KEY-----",
    "4111 1111 1111 1111",
    "4111111111111111",
    "3782-822463-10005",
]
CONTEXTS = [
    "{}",
    "use {} please",
    "key={}",
    "line\n{}\nend",
    'quoted "{}"',
    "tab\t{}",
    "https://x/?k={}",
    "({})",
    "{},",
]


@pytest.mark.parametrize("secret", SECRETS, ids=lambda secret: secret[:12])
@pytest.mark.parametrize("context", CONTEXTS)
def test_a_secret_is_gone_however_the_json_is_written(secret: str, context: str) -> None:
    value = {"messages": [{"role": "user", "content": context.format(secret)}], "n": 1}
    escaped = json.dumps(value).replace(secret[:4], "".join(f"\\u{ord(char):04x}" for char in secret[:4]))
    for data in (json.dumps(value).encode(), json.dumps(value, indent=2).encode(), escaped.encode()):
        clean = Redactor().body(data)
        told = json.loads(clean)
        assert secret not in told["messages"][0]["content"], clean
        assert secret[8:] not in clean.decode()
        assert "[redacted:" in told["messages"][0]["content"]
        assert (told["n"], told["messages"][0]["role"]) == (1, "user")


@pytest.mark.parametrize(
    ("text", "gone"),
    [
        ("Authorization: Bearer abc.def", "abc.def"),
        ("Authorization: Basic dXNlcjpw", "dXNlcjpw"),
        ("curl -H 'authorization: token t0k3n'", "t0k3n"),
        ('{"Authorization": "Bearer abc"}', "Bearer abc"),
        ("Cookie: sid=31337; theme=dark", "31337"),
        ("Set-Cookie: sid=31337; Path=/", "31337"),
        ("x-api-key: " + LONG, LONG),
        ("postgres://app:hunter2@db/x", "hunter2"),
    ],
)
def test_headers_and_addresses_lose_their_secret_and_keep_their_words(text: str, gone: str) -> None:
    redactor = Redactor()
    assert gone in text
    for value in (text, {"result": text}, {"arguments": json.dumps({"inner": text})}):
        clean = redactor.body(json.dumps(value).encode()).decode()
        assert gone not in clean
        assert "redacted" in clean
    assert gone not in redactor.body(text.encode()).decode()


def test_fields_for_secrets_are_masked_and_schemas_that_name_them_are_not() -> None:
    value = {
        "headers": {"Authorization": "short", "Cookie": "a=b", "accept": "json"},
        "schema": {"authorization": {"type": "string"}, "cookie": ["a", "b"], "x-api-key": None, "after": "kept"},
    }
    told = json.loads(Redactor().body(json.dumps(value).encode()))
    assert told["headers"]["accept"] == "json"
    assert {told["headers"]["Authorization"], told["headers"]["Cookie"]} == {"[redacted:field]", "[redacted:field#2]"}
    assert told["schema"] == value["schema"]


def test_equal_secrets_stay_equal_and_different_ones_different() -> None:
    one, two = f"sk-{LONG}", f"sk-{LONG[::-1]}"
    told = json.loads(Redactor().body(json.dumps([one, two, one]).encode()))
    assert told == ["[redacted:api-key]", "[redacted:api-key#2]", "[redacted:api-key]"]


def test_a_card_that_is_a_number_becomes_zero_and_other_numbers_stay() -> None:
    value = {"card": 4111111111111111, "ns": 1732200000123456789, "id": 4111111111111112, "text": "4111111111111111"}
    told = json.loads(Redactor().body(json.dumps(value).encode()))
    assert told == {**value, "card": 0, "text": "[redacted:card]"}


def test_cards_are_known_by_issuer_length_and_check_digit() -> None:
    assert [luhn(n) for n in ("5500005555555559", "378282246310005", "6011111111111117", "30569309025904")] == [
        True
    ] * 4
    assert not any(luhn(n) for n in ("5500005555555558", "0000000000000000", "1234567812345670", "411111111111111"))


@pytest.mark.parametrize(
    "text",
    [
        "task-specific-instructions-for-the-agent-to-follow",
        "call_V2VpjOSAZtV8AhD6DYjL0DmD",
        "4fe1359f-be45-48b0-8624-9a0ca5cd886a",
        "order 1151293680, 4983901480 at 2026-02-21T00:37:20.312359",
        "a cookie recipe: flour=yes",
        "sk-learn and sk-image",
        "deadbeef" * 8,
    ],
)
def test_what_is_no_secret_stays_byte_for_byte(text: str) -> None:
    data = json.dumps({"content": text, "max_tokens": 5, "prompt_cache_key": "a" * 40}).encode()
    assert Redactor().body(data) == data


@pytest.mark.parametrize("before", ["t-", "t_", "team-a-", "run_7-", "x" * 36 + "-"])
@pytest.mark.parametrize("secret", SECRETS[:3], ids=lambda secret: secret[:12])
def test_a_key_behind_a_name_is_gone(before: str, secret: str) -> None:
    told = Redactor().body(json.dumps({"task": before + secret}).encode()).decode()
    assert LONG not in told
    assert before in told
    assert LONG not in Redactor().text(f"x-potstill-task: {before}{secret}")


@pytest.mark.parametrize("text", ["pre-sk-learn-compatible-estimators", "A" * 60 + f"-sk-{LONG}", "my_sk-short1"])
def test_a_name_that_holds_sk_and_a_long_run_stay(text: str) -> None:
    assert Redactor().text(text) == text


# --- JSON stays JSON --------------------------------------------------------------------------------------------------

_SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**62), 2**62)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=40)
    | st.tuples(st.sampled_from(CONTEXTS), st.sampled_from(SECRETS)).map(lambda pair: pair[0].format(pair[1]))
)
_KEYS = st.text(max_size=12) | st.sampled_from(["authorization", "Cookie", "content", *SECRETS])
_JSON = st.recursive(
    _SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_KEYS, inner, max_size=4), max_leaves=20
)


def _shape(value: Any) -> Any:
    if isinstance(value, dict):
        return [_shape(inner) for inner in value.values()]
    if isinstance(value, list):
        return [_shape(inner) for inner in value]
    return "number" if isinstance(value, int | float) and not isinstance(value, bool) else type(value).__name__


@given(_JSON, st.booleans(), st.sampled_from([None, 2]))
def test_any_json_stays_json_of_the_same_shape_without_the_secrets(
    value: Any, ascii_: bool, indent: int | None
) -> None:
    data = json.dumps(value, ensure_ascii=ascii_, indent=indent).encode("utf-8", "surrogatepass")
    try:
        msgspec.json.decode(data)
    except msgspec.MsgspecError:
        return
    clean = Redactor().body(data)
    told = json.loads(clean)
    assert _shape(told) == _shape(json.loads(data))
    plain = json.dumps(told, ensure_ascii=False)
    for secret in SECRETS[:13]:
        assert not re.search(rf"(?<![A-Za-z0-9_-]){re.escape(secret)}(?![A-Za-z0-9_-])", plain)


@given(st.text(max_size=60), st.sampled_from(SECRETS), st.text(max_size=60))
def test_the_prefilter_never_says_no_where_a_rule_matches(before: str, secret: str, after: str) -> None:
    text = f"{before}{secret}{after}"
    matches = any(
        rule.check is None or rule.check(found[0]) for rule in BUILT_IN for found in rule.pattern.finditer(text)
    )
    if matches:
        for ascii_ in (True, False):
            data = json.dumps({"content": text}, ensure_ascii=ascii_).encode("utf-8", "surrogatepass")
            assert may_hold_secret(b" " * 100 + data)


@given(st.binary(max_size=200))
def test_any_bytes_are_survived(data: bytes) -> None:
    Redactor(["x+"]).body(data)
    Redactor().body(b"data: " + data)


@pytest.mark.parametrize("secret", [f"sk-proj-{LONG}", f"sk-proj-{LONG}".replace("p", "\\u0070")])
def test_a_secret_below_more_levels_than_a_parser_goes_is_gone(secret: str) -> None:
    data = b'{"a":' * 5000 + b'"%b"' % secret.encode() + b"}" * 5000
    assert Redactor().body(data) == data.replace(secret.encode(), b"[redacted:api-key]")


# --- streams ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 3, 7, 1000])
def test_a_secret_that_a_stream_cuts_in_pieces_is_gone(size: int) -> None:
    secret = f"sk-proj-{LONG}"
    text = f"Your key is {secret}, keep it."
    pieces = [text[n : n + size] for n in range(0, len(text), size)]
    chat = [{"choices": [{"index": 0, "delta": {"content": piece}}]} for piece in pieces]
    other = [{"choices": [{"index": 1, "delta": {"content": "fine "}}]} for _ in pieces]
    events = [event for pair in zip(chat, other, strict=True) for event in pair]
    data = b"".join(b"data: %b\n\n" % json.dumps(event).encode() for event in events) + b"data: [DONE]\n\n"
    clean = Redactor().body(data)
    told: dict[int, str] = {}
    for line in clean.splitlines():
        if line.startswith(b"data: {"):
            for choice in json.loads(line[6:])["choices"]:
                told[choice["index"]] = told.get(choice["index"], "") + choice["delta"]["content"]
    assert told == {0: "Your key is [redacted:api-key], keep it.", 1: "fine " * len(pieces)}
    assert clean.count(b"\n") == data.count(b"\n")
    assert clean.endswith(b"data: [DONE]\n\n")


def test_a_clean_stream_is_the_same_object() -> None:
    data = b'event: x\ndata: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"hi"}}\n\n'
    assert Redactor().body(data) is data


# --- rules of users ---------------------------------------------------------------------------------------------------


def test_a_users_rule_is_applied_to_decoded_text() -> None:
    redactor = Redactor([r"ACME-\d+", r"(?i)project (?P<secret>\w+)"], builtin=False)
    assert (
        redactor.body(b'{"a": "\\u0041CME-77, Project Falcon"}')
        == b'{"a": "[redacted:rule-1], Project [redacted:rule-2]"}'
    )
    assert redactor.body(f'{{"a": "sk-{LONG}"}}'.encode()) == f'{{"a": "sk-{LONG}"}}'.encode()


@pytest.mark.parametrize(
    "pattern", [r"(a+)+$", r"(\w*)*x", r"(a|aa)+$", r"(.*a){20}", r"(a)\1+", "(", "x*", r"(?:a{1,9}){1,9}"]
)
def test_a_rule_that_can_take_forever_is_refused(pattern: str) -> None:
    with pytest.raises(ConfigError, match="redaction rule"):
        Redactor([pattern])


def test_an_unbounded_repetition_ends() -> None:
    rule = user_rule(r"k=\w+", 1)
    found = rule.pattern.match("k=" + "x" * 5000)
    assert found is not None
    assert len(found[0]) == 1002


def test_emails_and_phones_go_only_where_it_is_asked() -> None:
    data = b'{"a": "write to jo@example.org or call +1 555-867-5309"}'
    assert Redactor().body(data) == data
    assert Redactor(email=True, phone=True).body(data) == b'{"a": "write to [redacted:email] or call [redacted:phone]"}'


# --- exchanges --------------------------------------------------------------------------------------------------------


def test_every_field_of_an_exchange_is_cleaned() -> None:
    secret = f"sk-{LONG}"
    body = json.dumps({"messages": [{"role": "user", "content": secret}]}).encode()
    error = ErrorRecord(kind="KeyRefused", message=f"Incorrect key {secret}")
    exchange = Exchange(
        namespace="t",
        episode_id="e",
        route="r",
        dialect="openai-chat",
        started_at=0.0,
        request=body,
        response=body,
        calls=(
            Upstream(
                model="m",
                upstream="u",
                answerer=Answerer.TEACHER,
                dialect="d",
                request=body,
                response=body,
                error=error,
            ),
        ),
        decision=Decision(answerer=Answerer.TEACHER, reason=Reason.DISAGREED, votes=(Vote(key=secret, text=secret),)),
        error=error,
        notes=(f"saw {secret}",),
        metadata={"goal": f"use {secret}"},
    )
    clean = Redactor().exchange(exchange)
    assert secret.encode() not in msgspec.msgpack.encode(clean)
    assert clean.error == ErrorRecord(kind="KeyRefused", message="Incorrect key [redacted:api-key]")
    assert clean.decision is not None
    assert clean.decision.votes[0].text == "[redacted:api-key]"


@given(st.lists(st.sampled_from(["hello", "a question", *SECRETS[:12]]), min_size=1, max_size=8), st.integers(0, 40))
def test_a_growing_history_is_cleaned_as_if_each_request_came_alone(texts: list[str], cut: int) -> None:
    redactor = Redactor()
    for count in range(1, len(texts) + 1):
        messages = [{"role": "user", "content": text} for text in texts[:count]]
        messages[-1]["content"] = messages[-1]["content"][: max(1, len(messages[-1]["content"]) - cut * (count % 2))]
        data = json.dumps({"model": "m", "messages": messages, "tools": [{"name": "x"}]}).encode()
        exchange = Exchange(
            namespace="t", episode_id="e", route="r", dialect="openai-chat", started_at=0.0, request=data
        )
        assert redactor.exchange(exchange).request == Redactor().body(data)


def test_long_numbers_that_no_card_has_are_not_suspected() -> None:
    clean = b'{"content": "691421 3396 599037 537137 896428, 1234 5678 9012 3456; at 1732200000123456789 ns"}'
    assert not may_hold_secret(clean)
    assert not may_hold_secret(b"4111 1111 1111 1112")
    for card in (b"4111 1111 1111 1111", b"378282246310005", b"3782 822463 10005", b"6200000000000000003 "):
        assert may_hold_secret(card)
        assert may_hold_secret(clean + b" " + card + b" " * 100)
        assert may_hold_secret(b" 1234 " + card + b" 5678 " + b"." * 100)
