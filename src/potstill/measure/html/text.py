"""Stored text and numbers as HTML that cannot be anything but text.

What it knows: escaping, cutting, how dollars, shares and counts are written. What it does not do: know an audit.
Text out of logs may hold markup, terminal codes and characters that turn the line round: markup is escaped, the others
are shown as ``\\u202e``. Whatever is not ``Html`` is escaped when it is put into a page.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from html import escape

from potstill.measure.audit.headline import plural
from potstill.measure.audit.headline import usd as dollars

# Controls but tab and newline, invisible and line-turning characters, halves of surrogates, what XML cannot hold.
_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ufffe\uffff"
    "\ud800-\udfff\U000e0000-\U000e007f]"
)
NAME_CHARACTERS = 80
TEXT_CHARACTERS = 1200
DASH = "–"
__all__ = [
    "DASH", "Html", "clip", "count", "esc", "join", "middle", "name", "percent", "plural", "short_count", "span", "usd",
    "usd_or_more", "visible", "with_interval",
]  # fmt: skip


class Html(str):
    """Markup that was made here: the only text that is not escaped."""

    __slots__ = ()


def esc(value: object) -> Html:
    """The value as HTML: escaped, unless it is ``Html`` already."""
    if isinstance(value, Html):
        return value
    return Html(escape(visible(str(value)), quote=True))


def join(parts: Iterable[object], between: str = "") -> Html:
    """Parts behind each other, those that are not ``Html`` escaped."""
    return Html(between.join(esc(part) for part in parts))


def visible(text: str) -> str:
    """The text with every character that cannot be seen, or that moves others, shown as its code."""
    return _UNSEEN.sub(lambda match: _code(match[0]), text.replace("\r\n", "\n"))


def _code(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def clip(text: str, length: int = TEXT_CHARACTERS) -> str:
    """At most ``length`` characters, with a sign of what is missing."""
    if len(text) <= length:
        return visible(text)
    return f"{visible(text[:length])}… ({len(text) - length:,} more characters)"


def name(text: str, length: int = NAME_CHARACTERS) -> str:
    """A name on one line."""
    line = " ".join(text[: 4 * length].split())
    return visible(line if len(line) <= length else line[: length - 1] + "…") or "(no name)"


def middle(text: str, length: int = 52) -> str:
    """A name on one line whose beginning and end are kept: names of runs often differ only there."""
    line = name(text, 400)
    if len(line) <= length:
        return line
    end = length // 3
    return f"{line[: length - end - 1]}…{line[-end:]}"


def usd(value: float | None) -> str:
    """Dollars as in the headline; a dash where they are not known."""
    return DASH if value is None or not math.isfinite(value) else dollars(value)


def usd_or_more(value: float | None, known: float | None) -> str:
    """Dollars; where they are not all known, those that are, as a lower bound."""
    return f"≥\u00a0{usd(known)}" if value is None and known else usd(value)


def percent(share: float | None) -> str:
    """A share of one as per cent."""
    return DASH if share is None else f"{100 * share:.1f}\u00a0%"


def count(value: float | None) -> str:
    """A number of things, with thousands set apart."""
    return DASH if value is None else f"{value:,.0f}"


def short_count(value: float | None) -> str:
    """A large number in three digits: 3.21 M."""
    if value is None:
        return DASH
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size * 9.995 or (letter != "k" and abs(value) >= size):
            return f"{value / size:.3g} {letter}"
    return f"{value:,.0f}"


def span(interval: tuple[float | None, float | None] | None, form: Callable[[float | None], str]) -> str:
    """An interval in words; a bound that is ``None`` is infinite. Empty if there is no interval."""
    if interval is None:
        return ""
    low, high = ("∞" if bound is None else form(bound) for bound in interval)
    return f"{low} to {high}"


def with_interval(
    value: float | None, interval: tuple[float | None, float | None] | None, form: Callable[[float | None], str]
) -> Html:
    """A value with its interval in small type behind it."""
    spanned = span(interval, form)
    return join([form(value), Html(f" <small>{esc(spanned)}</small>") if spanned else ""])
