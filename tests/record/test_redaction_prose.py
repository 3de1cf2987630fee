"""Passwords in plain words: masked where a playbook's text is made safe, and words of the language stay."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from potstill.record.redact import Redactor

PROSE_REDACTOR = Redactor(prose=True)


@pytest.mark.parametrize(
    ("text", "gone"),
    [
        ("password: hunter2secret", "hunter2secret"),
        ("password=swordfish", "swordfish"),
        ("The login is bob, password: swordfish.", "swordfish"),
        ("user: bob, password: swordfish, host: db", "swordfish"),
        ("my password is Summer2026!x", "Summer2026!x"),
        ("My password is swordfish.", "swordfish"),
        ("Remember: the password is Summer2026! and nothing else.", "Summer2026"),
        ("the password is 'swordfish' on this site", "swordfish"),
        ("pwd=Xk29fLqP0a", "Xk29fLqP0a"),
        ("PWD: Xk29fLqP0a", "Xk29fLqP0a"),
        ("db_password = correct", None),
        ("db_password=c0rrect-horse", "c0rrect-horse"),
        ("dbPassword: Tr0ub4dor&3 for the test system", "Tr0ub4dor"),
        ("**Password:** hunter2secret", "hunter2secret"),
        ("`password`: `hunter2secret`", "hunter2secret"),
        ('{"user": "bob", "password": "swordfish"}', "swordfish"),
        ("password for the VPN is Xk29fLqP0a", "Xk29fLqP0a"),
        ("password of bob: hunter2secret", "hunter2secret"),
        ("Set the password to Xk29fLqP0a, then save.", "Xk29fLqP0a"),
        ("curl 'https://x.example/?user=bob&password=swordfish&go=1'", "swordfish"),
        ("The passphrase is: horse7staple", "horse7staple"),
        ("passcode: 482913", "482913"),
        ("password: p,a;ss2word", "ss2word"),
        ("Passwort: geheim123", "geheim123"),
    ],
)
def test_a_password_in_plain_words_is_masked(text: str, gone: str | None) -> None:
    made = PROSE_REDACTOR.text(text)
    if gone is None:
        assert made == text
        return
    assert gone not in made
    assert made.count("[redacted:password]") == 1
    assert PROSE_REDACTOR.text(made) == made, "and a second time nothing changes"


@pytest.mark.parametrize(
    "text",
    [
        "The password field is required.",
        "password: optional",
        "password: required, username: required",
        "password = required",
        "Password: the field must not be empty.",
        "Two kinds of password: strong and weak ones.",
        "Check the password: length, symbols, and age.",
        "The password is required.",
        "The password is case-sensitive.",
        "The password is base64-encoded and SHA-256 hashed.",
        "The password is stored in the vault.",
        "The password is 8-16 characters long; 12 characters at least.",
        "My password is wrong.",
        "If they say 'my password is expired', send the reset link.",
        "my password is not working",
        "Never ask for a password: it is the customer's.",
        "Set the password to something the customer chooses.",
        "password=os.environ['DB_PASSWORD']",
        "password=getpass()",
        "password=args.password",
        "connect(user=user, password=password)",
        "if password == expected: return",
        "password=$DB_PASS, password={password}, password=<your password>, password=%s",
        "password: [your password]",
        "PWD=/srv/app and pwd: ~/work",
        "password: ****",
        "Reset password: step2 comes first.",
        "The password: null, None, true",
        "a password of 12 characters",
        "Answer passwords: never.",
        "Tests pass: 12. bypass=true",
        "self.key_password = key_password; self._pwd = pwd",
    ],
)
def test_what_is_no_password_stays(text: str) -> None:
    assert PROSE_REDACTOR.text(text) == text


def test_the_rules_of_prose_hold_only_where_they_are_asked_for() -> None:
    text = "my password is Summer2026!x"
    assert Redactor().text(text) == text
    assert Redactor().body(b'{"a": "password: hunter2secret"}') == b'{"a": "password: hunter2secret"}'
    assert PROSE_REDACTOR.body(b'{"a": "password: hunter2secret"}') == b'{"a": "password: [redacted:password]"}'


@given(
    st.lists(st.sampled_from(["password", "pwd", " is ", ": ", "=", "my ", "hunter2", "x", "'", "*", ",", "&a=", "\n"]))
)
@example(["password", "=", "*", "hunter2"])
@example(["password", "=", "'", "*", "hunter2", "*", "x"])
def test_masking_twice_is_masking_once(parts: list[str]) -> None:
    once = PROSE_REDACTOR.text("".join(parts))
    assert PROSE_REDACTOR.text(once) == once


@pytest.mark.parametrize(
    "unit", ["password", "password is ", "password: ", "password for ", "pw", "a,", "my password is x,", "&"]
)
def test_no_rule_takes_long(unit: str) -> None:
    """Linear: a hundred thousand characters are done well within the test's own limit."""
    text = unit * (100_000 // len(unit))
    assert PROSE_REDACTOR.text("password: " + text + " end").startswith("password: ")


def test_a_password_in_a_long_text_is_found() -> None:
    text = "Ask first. " * 20_000 + "my password is Summer2026!x " + "Then answer. " * 20_000
    assert "Summer2026" not in PROSE_REDACTOR.text(text)
