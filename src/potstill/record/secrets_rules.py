"""What a secret looks like: built-in rules, and checks on the rules that users bring.

What it knows: the shapes of providers' keys, tokens, headers and card numbers, as their issuers document them (read in
2026-11), each with bounded repetition so that no text takes more than linear time. What it does not do: bytes, JSON.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from importlib import import_module
from typing import Any, NamedTuple

from potstill.errors import ConfigError

# Python has no public parser of its patterns, and only a pattern's tree tells whether matching can take forever; these
# are the same from Python 3.11 to 3.14. A library with a linear matcher would take lookarounds away from users.
sre: Any = import_module("re._constants")
sre_parser: Any = import_module("re._parser")
sre_compiler: Any = import_module("re._compiler")

_QUOTE = r"['\"\\]{0,4}"
_IS = rf"{_QUOTE} {{0,3}}[:=][ \t\r\n]{{0,3}}{_QUOTE}"
_ALONE = r"(?:(?<![A-Za-z0-9_-])|(?<=\\[nrt]))"
"""Behind no name; a text within a text has its ends of lines as two characters."""

SECRET_FIELDS = frozenset(
    {
        "authorization",
        "proxy-authorization",
        "cookie",
        "set-cookie",
        "x-api-key",
        "x-goog-api-key",
        "api-key",
        "api_key",
        "apikey",
        "access_token",
        "refresh_token",
        "client_secret",
        "aws_secret_access_key",
        "private_key",
    }
)
"""Fields of JSON objects whose text is a secret, whatever it looks like."""

_FIELDS = "|".join(sorted(map(re.escape, SECRET_FIELDS), key=len, reverse=True))
_KEY_NAME = r"(?:(?:api|private)[-_ ]?key|client[-_]?secret|(?:access|refresh)[-_]?token|secret[-_]?access[-_]?key)"
_VARIABLE = r"(?:API_?KEY|(?:ACCESS|SECRET|PRIVATE)_KEY|(?<=[A-Z0-9]_)(?:SECRET|TOKEN|PASSWORD|PASSWD))"
"""How a variable of the environment that holds a secret ends, as providers and servers name them."""
_ASSIGNED = r"(?![:=]|\$[{(A-Z_]|<[^>\r\n]{0,60}>|\{|[A-Za-z_][\w.]{0,100}[(\[])"
"""No reference to a variable, no place to fill in, no call."""
_NO_VALUES = frozenset({"true", "false", "none", "null", "undefined", "required", "optional", "string"})


class Rule(NamedTuple):
    """Matches are replaced; where the pattern has a group ``secret``, only that group is. ``check`` may acquit.

    ``needs``: a text without any of these holds no match; none given: any may. For rules whose matches are bounded,
    ``reach`` is more characters than a match and what it looks at behind itself can have, and every match has one of
    ``needs`` (small letters where the pattern is without regard to case) that begins within its first ``lead``
    characters or right behind them. ``reach`` 0: nothing is known.
    """

    name: str
    pattern: re.Pattern[str]
    check: Callable[[str], bool] | None = None
    needs: tuple[str, ...] = ()
    reach: int = 0
    lead: int = 0

    folds: bool = False
    """Whether the pattern, and so ``needs``, are without regard to case."""

    @property
    def longest_need(self) -> int:
        return max(map(len, self.needs), default=0)


def luhn(text: str) -> bool:
    """Whether the digits are a payment card's number: a known issuer's range and length, and ISO/IEC 7812-1's digit.

    >>> luhn("4111 1111 1111 1111"), luhn("4111 1111 1111 1112"), luhn("1732200000123456789")
    (True, False, False)
    """
    digits = re.sub(r"[ -]", "", text)
    if not _ISSUERS.fullmatch(digits):
        return False
    total = 0
    for place, digit in enumerate(reversed(digits)):
        value = int(digit) * (1 + place % 2)
        total += value - 9 if value > 9 else value
    return total % 10 == 0


_ISSUERS = re.compile(
    r"4\d{15}(?:\d{3})?|(?:5[1-5]|2[2-7])\d{14}|3[47]\d{13}|3(?:0[0-5]|[68]\d)\d{11}|6(?:011|5\d\d|4[4-9]\d)\d{12}"
    r"|35\d{14}|62\d{14,17}"
)


def _rule(
    name: str, pattern: str, *needs: str, reach: int, lead: int = 0, check: Callable[[str], bool] | None = None
) -> Rule:
    compiled = re.compile(pattern)
    return Rule(name, compiled, check, needs, reach, lead, bool(compiled.flags & re.IGNORECASE))


def is_secret_field(name: str) -> bool:
    """Whether the text of a JSON field of this name is a secret, whatever it looks like.

    >>> is_secret_field("Api_Key"), is_secret_field("OPENAI_API_KEY"), is_secret_field("max_tokens")
    (True, True, False)
    """
    return name.lower() in SECRET_FIELDS or _VARIABLE_FIELD.fullmatch(name) is not None


_VARIABLE_FIELD = re.compile(rf"[A-Z0-9_]{{0,200}}{_VARIABLE}")


def _assigned(text: str) -> bool:
    return not (text.isdigit() and len(text) < 6) and text.lower() not in _NO_VALUES


def _key_like(text: str) -> bool:
    """Whether it is no path of words: those have separators and no digit."""
    return any(letter.isdigit() for letter in text) or re.match(r"[A-Za-z0-9_-]{20}", text) is not None


def _unmasked(text: str) -> bool:
    return "[redacted:" not in text


BUILT_IN = (
    _rule(
        "private-key",
        r"(?s)-----BEGIN [A-Z ]{0,40}PRIVATE KEY(?: BLOCK)?-----.{0,20000}?"
        r"(?:-----END [A-Z ]{0,40}PRIVATE KEY(?: BLOCK)?-----|\Z)",
        "-----BEGIN",
        reach=20_300,
    ),
    _rule(
        "jwt",
        r"eyJ(?:(?<![A-Za-z0-9_-]eyJ)|(?<=\\[nrt]eyJ))[A-Za-z0-9_-]{17,4000}\.eyJ[A-Za-z0-9_-]{6,8000}(?:\.[A-Za-z0-9_-]{1,4000})?",
        "eyJ",
        reach=16_200,
    ),
    _rule("api-key", r"sk-(?:(?<![A-Za-z0-9_-]sk-)|(?<=\\[nrt]sk-))[A-Za-z0-9_-]{20,300}", "sk-", reach=400),
    _rule(  # within a name, as in t-sk-proj-...; not within a long run, such as an encrypted field
        "api-key",
        r"sk-(?<=[_-]sk-)(?<![A-Za-z0-9_-]{40}sk-)"
        r"(?:(?:proj|ant|svcacct|admin|or)-[A-Za-z0-9_-]{16,300}|(?=[A-Za-z_-]{0,80}[0-9])[A-Za-z0-9_-]{20,300})",
        "sk-",
        reach=400,
    ),
    _rule(
        "aws-key",
        _ALONE + r"(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16}(?![A-Za-z0-9])",
        "AKIA",
        "ASIA",
        "ABIA",
        "ACCA",
        reach=64,
    ),
    _rule(
        "github-token",
        _ALONE + r"(?:gh[pousr]_[A-Za-z0-9]{36,255}|github_pat_[A-Za-z0-9_]{22,255})",
        "gh",
        "github_pat_",
        reach=400,
    ),
    _rule(
        "token",
        _ALONE + r"(?:glpat-[A-Za-z0-9_-]{20,100}|xox[abeoprs]-[A-Za-z0-9-]{16,250}|AIza[A-Za-z0-9_-]{35}"
        r"|hf_[A-Za-z0-9]{30,100}|npm_[A-Za-z0-9]{36}|gsk_[A-Za-z0-9]{20,200}|xai-[A-Za-z0-9]{20,200}"
        r"|pplx-[A-Za-z0-9]{20,200}|r8_[A-Za-z0-9]{30,100}|[sr]k_(?:live|test)_[A-Za-z0-9]{16,200}"
        r"|SG\.[A-Za-z0-9_-]{20,64}\.[A-Za-z0-9_-]{20,64}|ya29\.[A-Za-z0-9_-]{20,400}|dckr_pat_[A-Za-z0-9_-]{20,100})",
        *("glpat-", "xox", "AIza", "hf_", "npm_", "gsk_", "xai-", "pplx-", "r8_", "k_live_", "k_test_", "SG.", "ya29."),
        "dckr_pat_",
        reach=600,
        lead=1,
    ),
    _rule(
        "authorization",
        rf"(?ai)(?:(?<![A-Z0-9])|(?<=\\[nrt]))authorization{_IS}"
        r"(?:(?:bearer|basic|token|digest)[ \t\r\n]{1,3})?(?P<secret>[^\s'\",;\\]{4,8000})",
        "authorization",
        reach=8_200,
    ),
    _rule(
        "authorization",
        r"(?:\b|(?<=\\[nrt]))(?:[Bb]earer|BEARER)[ \t\r\n]{1,3}"
        r"(?P<secret>[A-Za-z0-9_-]{20,4000}(?:[.~+/=][\w.~+/=-]{0,8000})?)",
        *("earer", "BEARER"),
        reach=12_200,
        lead=1,
    ),
    _rule(
        "cookie",
        rf"(?ai)(?:(?<![A-Z0-9])|(?<=\\[nrt]))(?:set-)?cookie{_IS}"
        r"(?P<secret>[\w.!#$%&*+^`|~-]{1,128}=[^\r\n'\"\\]{1,8000})",
        "cookie",
        reach=8_400,
        lead=5,
    ),
    _rule(
        "api-key",
        rf"(?ai){_KEY_NAME}{_IS}(?P<secret>[A-Z0-9_+/.~-]{{20,512}}={{0,2}})",
        *("key", "secret", "token"),
        reach=700,
        lead=12,
        check=_key_like,
    ),
    _rule(  # a variable of the environment, as a shell or a file sets it
        "variable",
        rf"{_VARIABLE}{_QUOTE} {{0,3}}=[ \t]{{0,3}}{_QUOTE}{_ASSIGNED}(?P<secret>[^\s'\",;\\]{{4,512}})",
        *("KEY", "SECRET", "TOKEN", "PASSW"),
        reach=700,
        lead=10,
        check=_assigned,
    ),
    _rule(  # as YAML or an object does: no sentence goes on behind the value, or the value has a digit
        "variable",
        rf"{_VARIABLE}{_QUOTE} {{0,3}}:[ \t]{{0,3}}{_QUOTE}{_ASSIGNED}"
        r"(?=[^\s'\",;\\0-9]{0,511}[0-9]|[^\s'\",;\\]{4,512}[ \t]{0,3}(?:[\r\n'\",;\\#}]|\Z))"
        r"(?P<secret>[^\s'\",;\\]{4,512})",
        *("KEY", "SECRET", "TOKEN", "PASSW"),
        reach=700,
        lead=10,
        check=_assigned,
    ),
    _rule(  # of an object written within a text: arguments of a tool, a piece of code; a backslash alone is none
        "field",
        rf"(?ai)(?<=['\"])(?:{_FIELDS})\\{{0,3}}['\"] {{0,3}}:[ \t\r\n]{{0,3}}\\{{0,3}}['\"]"
        r"(?P<secret>(?!\\{1,6}\Z)(?:[^'\"\\\r\n]|\\(?!\\{0,6}['\"])){1,2000})",
        *("key", "secret", "token", "authorization", "cookie"),
        reach=2_200,
        lead=22,
        check=_unmasked,
    ),
    _rule(
        "password",
        r":\\{0,4}/\\{0,4}/[^/\s:@'\"]{1,100}:(?P<secret>[^/\s@'\"]{3,200})@",
        *(":/", ":\\"),
        reach=400,
    ),
    _rule(
        "card",
        r"[0-9](?<![\w.-][0-9])(?:[0-9]{3}[ -]?[0-9]{4}[ -]?[0-9]{4}[ -]?[0-9]{2,4}(?:[ -]?[0-9]{3})?"
        r"|[0-9]{3}[ -]?[0-9]{6}[ -]?[0-9]{4,5})(?![\w-])",
        reach=64,
        check=luhn,
    ),
)
EMAIL = _rule("email", r"(?<![\w.+-])[\w.+-]{1,64}@[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63}){1,4}", reach=500)
PHONE = _rule(
    "phone", r"(?<![\w.-])(?:\+\d{1,3}[ .-]?)?(?:\(\d{2,4}\)[ .-]?|\d{2,4}[ .-])\d{3,4}[ .-]\d{3,4}(?![\w-])", reach=64
)

# --- rules that users bring -------------------------------------------------------------------------------------------

MOST = 1000
"""An unbounded repetition in a user's rule matches up to this many times: no text takes longer than linear time."""


def user_rule(pattern: str, number: int) -> Rule:
    """A rule of a user's regular expression. Raises ``ConfigError`` for one that is wrong or can take forever.

    Python's matcher has no time limit, so a repetition within a repetition, which can take exponential time, is
    refused, and so are back references; other unbounded repetitions end after ``MOST`` characters.
    """
    try:
        parsed = sre_parser.parse(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise ConfigError(f"The redaction rule {pattern!r} is no regular expression: {error}.") from error
    _check(parsed, pattern, within=False)
    if re.compile(pattern).match(""):
        raise ConfigError(f"The redaction rule {pattern!r} matches an empty text. Make it ask for a character.")
    return Rule(f"rule-{number}", _bounded(pattern, parsed))


def _check(items: Iterable[tuple[Any, Any]], pattern: str, *, within: bool) -> None:
    for kind, value in items:
        if kind is sre.GROUPREF or kind is sre.GROUPREF_EXISTS:
            raise ConfigError(f"The redaction rule {pattern!r} refers back to a group, which can take too long.")
        if kind in (sre.MAX_REPEAT, sre.MIN_REPEAT, sre.POSSESSIVE_REPEAT):
            least, most, body = value
            if within and most > least:
                raise ConfigError(
                    f"The redaction rule {pattern!r} has a repetition within a repetition, which can take forever on "
                    "some texts. Write it without: (\\w+)* as \\w*, for example."
                )
            _check(body, pattern, within=within or most > 1)
        elif kind is sre.BRANCH:
            if within:
                raise ConfigError(
                    f"The redaction rule {pattern!r} has alternatives within a repetition, which can take forever on "
                    "some texts. Write single characters as a set: [ab]* for (a|b)*."
                )
            for branch in value[1]:
                _check(branch, pattern, within=within)
        elif kind is sre.SUBPATTERN:
            _check(value[3], pattern, within=within)
        elif kind in (sre.ASSERT, sre.ASSERT_NOT):
            _check(value[1], pattern, within=within)
        elif kind is sre.ATOMIC_GROUP:
            _check(value, pattern, within=within)


def _bounded(pattern: str, parsed: Any) -> re.Pattern[str]:
    """The rule with its unbounded repetitions bounded: compiled from the changed tree."""
    _bound(parsed)
    compiled: re.Pattern[str] = sre_compiler.compile(parsed)
    return compiled if compiled.groupindex == re.compile(pattern).groupindex else re.compile(pattern)


def _bound(items: Any) -> None:
    for at, (kind, value) in enumerate(items):
        if kind in (sre.MAX_REPEAT, sre.MIN_REPEAT, sre.POSSESSIVE_REPEAT):
            least, most, body = value
            if most is sre.MAXREPEAT or most > MOST:
                items[at] = (kind, (least, max(least, MOST), body))
            _bound(body)
        elif kind is sre.BRANCH:
            for branch in value[1]:
                _bound(branch)
        elif kind is sre.SUBPATTERN:
            _bound(value[3])
        elif kind in (sre.ASSERT, sre.ASSERT_NOT):
            _bound(value[1])
        elif kind is sre.ATOMIC_GROUP:
            _bound(value)
