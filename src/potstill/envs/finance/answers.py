"""The answer in what a model said: an object's ``final_answer``, what stands behind ``Answer:``, or all of it.

What it knows: how models present an answer. What it does not do: judge it, or run anything that a model wrote.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from potstill.envs.finance.amounts import Number, parse_number
from potstill.errors import NOT_JSON

MOST_CHARACTERS = 8_000
"""Of an answer that are read: its end, where the answer stands."""

_LONGEST_LINE = 1_000
_FENCE = re.compile(r"```[a-z]*\n(.*?)```", re.DOTALL)
_MARKER = re.compile(r"(?:\bfinal[ _]answer|\banswer|\boutput us gaap tags)\W{0,4}?(?::|\bis\b)", re.IGNORECASE)
_KEYS = ("final_answer", "answer")
_TOKEN = re.compile(
    r"[-+(]{0,2}\s?[$€£]?\s?[-+(]{0,2}[0-9][0-9,.]*(?:e[-+]?[0-9]+)?(?:/[0-9.]+)?\)?\s?%?", re.IGNORECASE
)
_WORD = re.compile(r"\s*(?:thousand|million|billion|trillion|percent|bn|mn)\b", re.IGNORECASE)


def answer_text(said: str) -> str:
    """What is meant as the answer.

    >>> answer_text('I divide. {"reasoning": "...", "final_answer": "0.15"}')
    '0.15'
    >>> answer_text("Revenue fell.\\n**Final answer:** (3.2)")
    '(3.2)'
    """
    said = said[-MOST_CHARACTERS:].strip()
    for text in (said, *_FENCE.findall(said), said[said.find("{") : said.rfind("}") + 1]):
        answer = _from_object(text)
        if answer is not None:
            return answer
    markers = list(_MARKER.finditer(said))
    after = said[markers[-1].end() :].strip(" \t\n*_:") if markers else ""
    return after or said


def number_in(answer: str) -> Number | None:
    """The number that an answer is: all of it, its last line, or the only number in its last line."""
    lines = [line for line in answer.splitlines() if line.strip()]
    last = lines[-1] if lines else ""
    for text in (answer, last, last.rpartition("=")[2]):
        number = parse_number(text)
        if number is not None:
            return number
    found = list(_written(last[-_LONGEST_LINE:]))
    return parse_number(found[0]) if len(found) == 1 else None


def parts_of(answer: str, wanted: int) -> list[str]:
    """The items of a list: between commas, semicolons or line ends, or of a JSON array.

    The last line alone is taken where it, and not the whole, has as many items as are ``wanted``.
    """
    listed = _json(answer)
    if isinstance(listed, list) and all(isinstance(item, str | int | float) for item in listed):
        return [str(item) for item in listed]
    parts = _split(answer)
    lines = [line for line in answer.splitlines() if line.strip()]
    if len(parts) != wanted and lines and len(_split(lines[-1])) == wanted:
        return _split(lines[-1])
    return parts


# --- inside ---------------------------------------------------------------------------------------------------------


def _from_object(text: str) -> str | None:
    found = _json(text) if text.lstrip().startswith("{") else None
    if not isinstance(found, dict):
        return None
    for key in _KEYS:
        value = found.get(key)
        if isinstance(value, list):
            return ",".join(str(item) for item in value)
        if isinstance(value, str | int | float) and not isinstance(value, bool):
            return str(value).strip()
    return None


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, *NOT_JSON):
        return None


def _written(line: str) -> Iterator[str]:
    """Each number of a line with the scale word behind it."""
    for found in _TOKEN.finditer(line):
        word = _WORD.match(line, found.end())
        yield line[found.start() : word.end() if word else found.end()].strip(" ,.")


def _split(text: str) -> list[str]:
    return [part for part in (item.strip() for item in re.split(r"[,;\n]", text)) if part]
