"""Redaction a piece at a time finds what redaction of the whole finds, wherever the pieces end."""

from __future__ import annotations

import json
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from potstill.record import pieces
from potstill.record.pieces import holds, segments, substituted, within
from potstill.record.prefilter import may_hold_secret
from potstill.record.redact import Masks, Redactor, _masked
from potstill.record.secrets_rules import BUILT_IN, EMAIL, PHONE, Rule

LONG = "aB3dE5fG7hI9jK1lM3nO5pQ7rS9tU1vW3xY5z"
JWT = f"eyJhbGciOiJIUzI1NiJ9{LONG}.eyJzdWIiOiIxIn0{LONG}.{LONG}"
BEGIN = "-----BEGIN"
PARTS = (
    *(f"sk-{LONG}", f"t-sk-proj-{LONG}", "AKIA" + "IOSFODNN7EXAMPLE", f"ghp_{LONG}", f"github_pat_{LONG}", JWT),
    *(
        f"sk_live_{LONG}",
        f"dckr_pat_{LONG}",
        "SG." + LONG[:22] + "." + LONG[:22],
        f"glpat-{LONG}",
        "4111 1111 1111 1111",
    ),
    *("Authorization: Bearer " + LONG, f"bearer {LONG}.x/y", "Set-Cookie: sid=31337; Path=/", "cookie=a=b"),
    *(f"X-Goog-API_KEY: '{LONG}'", f"client_secret={LONG}", f"refresh_token: {LONG}", f"api_\u212aey={LONG}"),
    *(f"\u017fecret_acce\u017fs_key={LONG}", "postgres://app:hunter2@db/x", "a.b@example.org", "+1 (202) 555-0143"),
    *(f"{BEGIN} RSA PRIVATE KEY-----\nabc\n-----END RSA PRIVATE KEY-----", f"{BEGIN} PRIVATE KEY-----\ncut"),
    *("sk-", "key", "eyJ", "gh", "://", " ", "\n", "é", "ß", "İ", "=", "_", "-", "x" * 45, "7" * 13, LONG),
)
TEXTS = st.lists(st.sampled_from(PARTS), max_size=24).map("".join)
RULES = (*BUILT_IN, EMAIL, PHONE)


def whole(rule: Rule, text: str) -> str:
    return rule.pattern.sub(partial(_masked, rule=rule, masks=Masks()), text)


@given(TEXTS, st.integers(1, 70), st.sampled_from([0, 2, 8]))
@settings(max_examples=400, deadline=None)
def test_a_rule_in_pieces_is_the_rule(text: str, piece: int, sparse: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pieces, "SPARSE", sparse)
        for rule in RULES:
            if rule.needs and not any(need in text for need in rule.needs):
                continue
            assert substituted(rule, text, partial(_masked, rule=rule, masks=Masks()), piece) == whole(rule, text)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_the_longest_matches_are_whole_across_pieces(rule: Rule) -> None:
    fill = LONG * 600
    texts = (
        *(
            f"{BEGIN} PRIVATE KEY-----{'a ' * 9990}-----END PRIVATE KEY-----",
            f"{BEGIN} PRIVATE KEY-----{'a ' * 30000}",
        ),
        *(f"eyJ{fill[:4000]}.eyJ{fill[:8000]}.{fill[:4000]}", f"authorization: {fill}", f"Cookie: a={fill}"),
        *(f"Bearer {fill[:4000]}.{fill}", f"sk-{fill}", f"a://{'u' * 100}:{'p' * 200}@h", f"api_key={fill}"),
    )
    for text in texts:
        for before in (0, 7, 31):
            padded = " " * before + text + " tail"
            assert substituted(rule, padded, partial(_masked, rule=rule, masks=Masks()), 64) == whole(rule, padded)


@given(st.lists(st.sampled_from(PARTS), max_size=12), st.integers(0, 600))
@settings(max_examples=200, deadline=None)
def test_what_lies_over_an_edge_is_seen(parts: list[str], shift: int) -> None:
    """The filter cuts long bodies: no secret may hide where."""
    from potstill.record import prefilter

    data = json.dumps({"c": "." * shift + " ".join(parts)}, ensure_ascii=False).encode()
    with pytest.MonkeyPatch.context() as patch:
        alone = may_hold_secret(data)
        patch.setattr(prefilter, "_SIZE", 64)
        assert may_hold_secret(data) or not alone or Redactor()._json(data, Masks()) == data


@given(st.binary(max_size=60), st.binary(min_size=1, max_size=3), st.integers(1, 9))
def test_windows_hide_nothing(data: bytes, needle: bytes, size: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pieces, "WINDOW", size)
        assert holds(data, needle) == (needle in data)
    assert within(data, lambda part: needle in part, 3, size) == (needle in data)
    assert b"".join(segments(data, size)) == data
    assert all(part.endswith(b"\n") for part in list(segments(data, size))[:-1])


def test_a_long_picture_is_not_parsed_and_a_key_behind_it_is_found() -> None:
    import base64
    import random

    picture = base64.b64encode(random.Random(0).randbytes(1_500_000)).decode()
    body = json.dumps({"url": f"data:image/png;base64,{picture}", "text": "look"}).encode()
    assert not may_hold_secret(body)
    with_key = json.dumps({"url": f"data:image/png;base64,{picture}", "text": f"use sk-proj-{LONG}"}).encode()
    assert Redactor().body(with_key) == with_key.replace(f"sk-proj-{LONG}".encode(), b"[redacted:api-key]")
