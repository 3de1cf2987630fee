"""What a password looks like where somebody writes it down in plain words: rules for texts that models are shown.

What it knows: names of passwords, the ``:``, ``=`` or ``is`` behind them, and which words behind those are no
password. What it does not do: bodies of a gateway. There a rule that takes ordinary words out does harm, and each body
would have to be parsed; so these rules hold only where a caller asks for them (``Redactor(prose=True)``, as playbooks
do). A password without a name or a sign before it stays, and so does an ordinary word that a sentence goes on behind.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from potstill.record.secrets_rules import Rule

_NAME = r"(?:passwor[dt]|passwd|passphrase|passcode|(?<![a-z])pwd|(?<![a-z0-9_-])pw)(?![a-z0-9])"
_NEEDS = ("passw", "passphrase", "passcode", "pwd", "pw")
_AROUND = r"[*`_'\"\\]{0,4}"
_OF = r"(?:[ ](?:for|of|on|to)[ ][^\r\n:=.!?]{1,40}?)?"
"""Whose it is, or what it opens."""
_NO_VALUE = r"(?![:=(\[{]|\$[{(A-Z_]|%[({s]|<[^>\r\n]{0,60}>|[/~.]|[a-z_][\w.]{0,100}[(\[])"
"""A place to fill in, a reference, a call, a path: no password."""
_VALUE = (
    r"(?P<secret>(?:[^\s'\"`\\,;&]|[,;](?=[^\s'\"`])(?!\w{1,40}[=:])|&(?!\w{1,40}=)){2,199}(?<![.:!?*)])[!?*)]{0,3})"
)
_ENDS = r"(?=[.!?)'\"`*\\]{0,4}[ \t]{0,3}(?:[\r\n}#]|\Z)|[ ]?[,;][ ]?\w{1,30}[=:])"
"""No sentence goes on behind the value."""

_NO_PASSWORDS = """
above again also always any anything asked bad basic below blank bool boolean bytes case-sensitive char character
characters correct default different digits either email empty enough equal false field fine first forgot form gone
good here hidden how identical incorrect input invalid known length letters login lost mandatory masked missing must
n/a name never new non-empty none not-null nothing null number off okay once only optional own pass passcode
passphrase passwd password passwort plain please private pw pwd required right safe same secret secure see self
something str string strong stronger symbols tbd text that the their them then there this todo token too true twice
type unclear undefined unique unknown unsafe unset until user username valid varchar wait weak what when where wrong
yes your
"""
_WORDS = frozenset(_NO_PASSWORDS.split())
_GRAMMAR = re.compile(
    r"[a-z]+(?:ed|ing|able|ible|ly|ten)|[a-z]+(?:_[a-z]+)+|[a-z]+(?:_[a-z]+)*(?:\.[a-z_]+)+", re.IGNORECASE
)
"""Participles and the like, and names in programs."""
_TECHNICAL = re.compile(
    r"(?:base\d\d|sha-?\d|md5|utf-?\d|pbkdf2|argon2|oauth2|rfc|iso|b-?\d|step-?\d|v\d)[\w.-]*|\d+(?:st|nd|rd|th)"
    r"|\d+[ -]?(?:chars?|characters?|digits?|letters?|words?|days?|hours?|minutes?|bits?|bytes?|times?|x)[\w-]*",
    re.IGNORECASE,
)
_MARKS = re.compile(r"[!@#$%^&*+=?~|]")


def _given(value: str) -> bool:
    """Whether this is what somebody set, and not a word of the language or of a program.

    >>> _given("hunter"), _given("required"), _given("user.password"), _given("****")
    (True, False, False, False)
    """
    plain = value.strip(".,;:!?*()[]").lower()
    if len(plain) < 3 or plain in _WORDS or plain.startswith("redacted:"):
        return False
    return not _GRAMMAR.fullmatch(plain) and not _TECHNICAL.fullmatch(plain)


def _strong(value: str) -> bool:
    """Whether no word looks like this, wherever it stands.

    >>> _strong("Summer2026!x"), _strong("case-sensitive"), _strong("8-character"), _strong("base64-encoded")
    (True, False, False, False)
    """
    if len(value) < 5 or not _given(value):
        return False
    digits, letters = any(map(str.isdigit, value)), any(map(str.isalpha, value))
    if digits and not letters:
        return len(re.sub(r"\D", "", value)) >= 6
    return letters and (digits or _MARKS.search(value[:-1]) is not None)


def _rule(pattern: str, check: Callable[[str], bool]) -> Rule:
    return Rule("password", re.compile(rf"(?ai){pattern}"), check, _NEEDS, reach=700, folds=True)


_IS = r"[ \t]{1,3}(?:is|was|to)(?:[ ]?:)?[ \t]{1,3}"
_QUOTED = r"(?P<quote>['\"`])(?P<secret>[^\s'\"`]{4,200})(?P=quote)"

PROSE = (
    _rule(rf"{_NAME}{_AROUND}[ \t]{{0,3}}={_AROUND}[ \t]{{0,3}}{_AROUND}{_NO_VALUE}{_VALUE}", _given),
    _rule(rf"{_NAME}{_AROUND}[ \t]{{0,3}}:{_AROUND}[ \t]{{0,3}}{_AROUND}{_NO_VALUE}(?=\S{{4}}){_VALUE}{_ENDS}", _given),
    _rule(rf"{_NAME}{_OF}{_AROUND}[ \t]{{0,3}}:{_AROUND}[ \t]{{0,3}}{_AROUND}{_NO_VALUE}{_VALUE}", _strong),
    _rule(rf"{_NAME}{_OF}{_AROUND}{_IS}{_QUOTED}", _given),
    _rule(rf"{_NAME}{_OF}{_AROUND}{_IS}{_AROUND}{_NO_VALUE}{_VALUE}", _strong),
    _rule(rf"(?<=\bmy[ ]){_NAME}{_IS}{_NO_VALUE}(?=\S{{4}}){_VALUE}{_ENDS}", _given),
)
"""Matches are masked as ``[redacted:password]``."""
