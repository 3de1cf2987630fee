"""A number as people write it in finance: ``15.00%``, ``$15``, ``1,234.5``, ``(3.2)``, ``5.2 million``, ``1/3``.

What it knows: signs, brackets for negatives, thousands, currencies, percent, scale words; exact arithmetic, so that a
tolerance means what it says. What it does not do: evaluate anything, find a number in prose (``answers``), or know
whether it is right (``grading``).
"""

from __future__ import annotations

import re
from fractions import Fraction
from typing import NamedTuple

_LONGEST = 80
"""Characters of one number with everything around it; longer texts are prose."""
_MOST_DIGITS = 40
_SCALES = {
    3: ("k", "thousand", "thousands"),
    6: ("m", "mm", "mn", "mln", "million", "millions"),
    9: ("b", "bn", "bln", "billion", "billions"),
    12: ("t", "tn", "trn", "trillion", "trillions"),
}
_POWER = {word: power for power, words in _SCALES.items() for word in words}
_PERCENT = frozenset({"%", "percent", "per cent", "pct"})
_MONEY = frozenset({"dollar", "dollars", "usd", "euro", "euros", "eur", "pounds", "gbp", "$", "€", "£"})
_RATIO = frozenset({"x", "times"})

_WORDS = sorted({*_POWER, *_PERCENT, *_MONEY, *_RATIO}, key=len, reverse=True)
_UNIT = "|".join(re.escape(word) for word in _WORDS)
_UNITS = rf"(?:\s*(?:{_UNIT})(?![a-z])){{0,2}}"
_SYMBOL = r"us\s?\$|usd|eur|gbp|[$€£]"
_PLAIN = r"(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]+)(?:\.[0-9]*)?|\.[0-9]+"
_SHAPE = re.compile(
    rf"(?P<sign>[-+])?\s*(?P<money>{_SYMBOL})?\s*(?P<sign2>[-+])?\s*(?P<open>\()?\s*(?P<money2>{_SYMBOL})?\s*"
    rf"(?P<number>{_PLAIN})(?P<exponent>e[-+]?[0-9]{{1,3}})?(?:\s*/\s*(?P<below>{_PLAIN}))?"
    rf"(?P<units>{_UNITS})\s*(?P<close>\))?(?P<units2>{_UNITS})"
)
_MINUS = str.maketrans({"\u2212": "-", "\u2013": "-", "\u00a0": " ", "\u202f": " ", "\u2009": " "})
_BOXED = re.compile(r"\\boxed\{([^{}]*)\}")


class Number(NamedTuple):
    """What was written. ``1.50 million`` has the value 1,500,000, the step 10,000 and the unit 1,000,000."""

    value: Fraction
    """With its scale word, before the percent sign is looked at: 15 for ``15%``."""
    percent: bool = False
    step: Fraction = Fraction(0)
    """What one in the last written digit is worth; 0 for a fraction, which is exact."""
    unit: Fraction = Fraction(1)
    """What its scale word stands for."""


def parse_number(text: str) -> Number | None:
    """The number that ``text`` is, and nothing else beside it but its sign, currency, unit and marks of emphasis.

    None where it is none, or could be read in two ways (``1,2``, ``-(3)``, ``5% million``). Never raises.

    >>> parse_number("($1,234.50)").value
    Fraction(-2469, 2)
    """
    plain = _bare(text)
    found = _SHAPE.fullmatch(plain) if 0 < len(plain) <= _LONGEST else None
    if found is None or not _consistent(found):
        return None
    above = _decimal(found["number"], found["exponent"] or "")
    below = _decimal(found["below"], "") if found["below"] else None
    if above is None or (found["below"] and (below is None or below[0] == 0)):
        return None
    value, step = above if below is None else (above[0] / below[0], Fraction(0))
    units = _units(found)
    unit = Fraction(10) ** sum(_POWER.get(word, 0) for word in units)
    negative = "-" in (found["sign"], found["sign2"]) or found["open"] is not None
    return Number((-value if negative else value) * unit, any(word in _PERCENT for word in units), step * unit, unit)


def equal(answer: Number, label: Number, tolerance: Fraction) -> bool:
    """Whether the two are the same number as far as the label can tell.

    They may differ by ``tolerance`` of the label, or by half of its last digit, of which two are taken to stand behind
    the point at least: files write 15 for 15.00. If only one of them has a percent sign the other may have left it
    away, so both readings are tried (15% is 15 in percent, and is 0.15).

    >>> equal(parse_number("15.00%"), parse_number("15.0"), Fraction(1, 1000))
    True
    """
    near = _near(answer.value, label.value, label, tolerance, Fraction(1))
    if answer.percent == label.percent:
        return near
    hundredth = Fraction(1, 100)
    if answer.percent:
        return near or _near(answer.value * hundredth, label.value, label, tolerance, Fraction(1))
    return near or _near(answer.value, label.value * hundredth, label, tolerance, hundredth)


def _near(answer: Fraction, wanted: Fraction, label: Number, tolerance: Fraction, share: Fraction) -> bool:
    half = min(label.step, label.unit / 100) * share / 2
    return abs(answer - wanted) <= max(abs(wanted) * tolerance, half)


# --- inside ---------------------------------------------------------------------------------------------------------


def _bare(text: str) -> str:
    """Without marks of emphasis, quotation and mathematics around it, and without the full stop of a sentence."""
    plain = " ".join(text.translate(_MINUS).split())
    boxed = _BOXED.search(plain) if len(plain) <= _LONGEST else None
    plain = (boxed[1] if boxed else plain).strip(" \t\r\n*_`\"'").removesuffix(".").strip(" \t*_`\"'")
    if len(plain) > 2 and plain[0] == plain[-1] == "$":
        plain = plain[1:-1]
    return plain.replace("\\$", "$").replace("\\%", "%").strip().lower()


def _consistent(found: re.Match[str]) -> bool:
    units = _units(found)
    scales = sum(word in _POWER for word in units)
    percents = sum(word in _PERCENT for word in units)
    money = sum(word in _MONEY for word in units) + bool(found["money"]) + bool(found["money2"])
    signs = bool(found["sign"]) + bool(found["sign2"])
    ratios = sum(word in _RATIO for word in units)
    return (
        (found["open"] is None) == (found["close"] is None)
        and not (found["open"] and signs)
        and max(scales, money, signs, percents + ratios) <= 1
        and not (percents + ratios and scales + money)
    )


def _units(found: re.Match[str]) -> list[str]:
    return re.findall(_UNIT, f"{found['units']} {found['units2']}")


def _decimal(written: str, exponent: str) -> tuple[Fraction, Fraction] | None:
    """Value and step of digits; None where they are so many that nobody meant them."""
    digits = written.replace(",", "")
    whole, _, decimals = digits.partition(".")
    power = int(exponent[1:]) if exponent else 0
    if len(whole) + len(decimals) > _MOST_DIGITS or abs(power) > _MOST_DIGITS:
        return None
    scale = Fraction(10) ** power
    return Fraction(int(whole + decimals), 10 ** len(decimals)) * scale, scale / 10 ** len(decimals)
