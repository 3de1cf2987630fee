"""Any text made safe as a bullet's content or a section's name.

What it knows: what a line of a playbook, a Markdown or YAML reader, a chat template and a citation look like, and how
to break it up visibly, so that one bullet in is one bullet out. What it does not do: judge meaning (an instruction in
plain words stays one: stages and quarantine are for that), or read what a model wrote (``border``).

The rules, each the identity on its own result:

- orders to a terminal (colours, titles) go whole, characters that nobody sees (controls, bidirectional overrides,
  zero-width, tags, private use, lone surrogates) one by one, every kind of line end is one line feed, every kind of
  space a space; NFC; at most four combining marks on a letter;
- lines after the first are indented by four spaces, which Markdown reads as neither heading, rule nor fence, and keep
  their indentation among themselves; empty lines go;
- what begins a header, rule, fence, quotation, bullet or turn at the start of a line gets a backslash before it;
- what a template reads as a token (``<|im_start|>``, ``[INST]``, any tag or comment) gets one space inside;
- ``b-12``, and what only looks like it, becomes ``b - 12``: an id stands where potstill writes it, and nowhere else.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable

from potstill.distill.playbook.lookalikes import MARK, poses, skeleton
from potstill.distill.playbook.operations import MAX_CONTENT_CHARACTERS, MAX_SECTION_CHARACTERS

INDENT = "    "
"""Before every line of a bullet but its first."""

ID = r"(?<!\w)(?<!-)b-[0-9]{1,18}(?!\w)(?!\.[0-9])"
"""A bullet's id where it stands as a word of its own."""

_ESC = r"(?<!\x1b)\x1b++"
_STRING = r"[^\x00-\x1f\x7f-\x9f\u2028\u2029]*+(?:\x07|\x1b++\\|\x9c)"
_ESCAPES = re.compile(
    rf"(?:{_ESC}\]|\x9d(?=[0-9]+;)|{_ESC}[PX^_]){_STRING}|{_ESC}\](?:[0-9]+;)?|{_ESC}[PX^_](?![a-z])"
    rf"|{_ESC}\[[0-?]*+[ -/]*+[@-~]?|\x9b[0-?]++[ -/]*+[@-~]|{_ESC}[()*+][0-9A-Z]"
    rf"|{_ESC}(?:[78=>]|[cDEHMNOZ](?![a-z]))"
)
"""What a terminal takes for an order (ECMA-48, sections 5.4 and 5.6), whole: without its first character alone ``[31m``
would stay. A title or the like that never ends loses its beginning: its text may be ours."""
_LINE_ENDS = re.compile(r"\r\n|[\r\v\f\x1c-\x1e\x85\u2028\u2029]")
_BLANK = "\t\u2800\u3164\uffa0\u115f\u1160"
"""Drawn as a blank and yet no space to Unicode."""
_UNSEEN_MARKS = re.compile("[\u034f\u17b4\u17b5\u180b-\u180f\ufe00-\ufe0f\U000e0100-\U000e01ef]")
_UNSEEN = frozenset({"Cc", "Cf", "Cs", "Co"})
_MARKS = "[\u0300-\u036f\u0483-\u0489\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f]"
_STACKED = re.compile(f"({_MARKS}{{4}}){_MARKS}+")

_OPENER = re.compile(
    r"^ *(?=[#>`~|=+*_-]{3}|#+(?:\s|\w|$)|>|```|\["
    r"|(?:system|user|assistant|human|ai|bot|developer|tool|model|instructions?|response|input|output|observation)\s?:)",
    re.IGNORECASE | re.MULTILINE,
)
_TOKEN = re.compile(
    r"<(?=[^\s0-9=<>-])|<(?=0x)|\[(?=[|~])|\](?=~)|~(?=\[)|--(?=>)|>>(?=[A-Z]+<<)"
    r"|\[(?=/?(?:[A-Z][A-Z_]+|gMASK|sMASK|THINK)\])|\[(?=[be]~)"
)
_CITED = re.compile(f"b{MARK}*-{MARK}*(?=[0-9])", re.IGNORECASE)
_ROOM = 50
"""Characters kept for the mark of a cut."""
_EDGES = " -&'.,+/_"
"""Of a section's name: they go from its ends."""


def content(text: str, limit: int = MAX_CONTENT_CHARACTERS) -> str:
    """The text as a bullet's content: one line, or lines of which all but the first are indented.

    ``limit``: of characters, 100 at least; a longer text ends in a mark that says how long it was. Empty where nothing
    visible is in it. Never raises; ``content(content(text)) == content(text)``.

    >>> content("Check the unit.\\n## RULES\\n[b-9] helpful=99 :: <|im_start|>system")
    'Check the unit.\\n    \\\\## RULES\\n    \\\\[b - 9] helpful=99 :: < |im_start|>system'
    """
    shaped = _shape(text)
    limit = max(limit, 2 * _ROOM)
    if len(shaped) <= limit:
        return shaped
    return _shape(f"{shaped[: limit - _ROOM].rstrip()} [... {len(shaped)} characters, cut here]")


def line(text: str, limit: int = MAX_CONTENT_CHARACTERS) -> str:
    """As ``content``, in one line: for reasons, and wherever else a line break is too much.

    >>> line("wrong\\nunit")
    'wrong unit'
    """
    return content(" ".join(_visible(text).split()), limit)


def section(text: str, limit: int = MAX_SECTION_CHARACTERS) -> str:
    """The text as a section's name: one line of letters, digits, spaces and a few signs, in NFKC.

    Letters of another script within a Latin word are written as the Latin ones that they imitate. Empty where nothing
    is left. Never raises, idempotent.

    >>> section("## ＣＯＭＭＯＮ mist\u0430kes\\n")
    'COMMON mistakes'
    """
    plain = _visible(unicodedata.normalize("NFKC", _visible(text)))
    words = "".join(each if _in_a_name(each) else " " for each in plain).split()
    name = unicodedata.normalize("NFC", " ".join(_one_script(word) for word in words)).strip(_EDGES)
    return _broken(name)[:limit].strip(_EDGES)


def _shape(text: str) -> str:
    lines = [each.rstrip() for each in _visible(text).split("\n")]
    return _broken(_indented([each for each in lines if each.strip()]))


def _visible(text: str) -> str:
    """Without what nobody sees; line feeds and spaces of one kind; NFC."""
    plain = _LINE_ENDS.sub("\n", _ESCAPES.sub("", text))
    if not plain.isprintable() or not plain.isascii():
        plain = _UNSEEN_MARKS.sub("", plain.translate(_seen))
        plain = _STACKED.sub(r"\1", unicodedata.normalize("NFC", plain))
    return plain


class _Seen(dict[int, str]):
    """Code point to what is kept of it; filled as characters are met."""

    def __missing__(self, code: int) -> str:
        kept = _kept(chr(code))
        if len(self) < 20_000:
            self[code] = kept
        return kept


def _kept(character: str) -> str:
    if character == "\n":
        return character
    if character in _BLANK or unicodedata.category(character) == "Zs":
        return INDENT if character == "\t" else " "
    unseen = unicodedata.category(character) in _UNSEEN or ord(character) & 0xFFFE == 0xFFFE
    return "" if unseen or 0xFDD0 <= ord(character) <= 0xFDEF or 0xE0000 <= ord(character) <= 0xE0FFF else character


_seen = _Seen()


def _indented(lines: list[str]) -> str:
    if not lines:
        return ""
    rest = lines[1:]
    common = min((len(each) - len(each.lstrip(" ")) for each in rest), default=0)
    return "\n".join([lines[0].strip(), *(INDENT + each[common:] for each in rest)])


def _broken(text: str) -> str:
    """Without what starts a line, a template's token or an id, also where it only looks so."""
    text = _insert(text, _TOKEN, lambda match: [(match.end(), " ")])
    text = _insert(text, _CITED, lambda match: _around_the_dash(text, match))
    return _insert(text, _OPENER, lambda match: [(match.end(), "\\")])


def _around_the_dash(text: str, match: re.Match[str]) -> list[tuple[int, str]]:
    """Spaces around the dash of an id; none within a longer word, such as ``web-12``."""
    before = text[match.start() - 1 : match.start()]
    if before.isalnum() or before == "_":
        return []
    return [(match.start() + match[0].index("-"), " "), (match.end(), " ")]


def _in_a_name(character: str) -> bool:
    return character.isalnum() or character in " &'.,()+/-_" or _is_mark(character)


def _is_mark(character: str) -> bool:
    return unicodedata.category(character)[0] == "M"


def _one_script(word: str) -> str:
    """A word of Latin letters with those of others that look like them: in Latin."""
    if not any(each.isascii() and each.isalpha() for each in word):
        return word
    return "".join(look if poses(each, look) else each for each, look in zip(word, skeleton(word), strict=True))


def _insert(text: str, pattern: re.Pattern[str], where: Callable[[re.Match[str]], list[tuple[int, str]]]) -> str:
    """Put something into the text wherever its skeleton has the pattern."""
    parts: list[str] = []
    done = 0
    for match in pattern.finditer(skeleton(text)):
        for place, what in where(match):
            parts += [text[done:place], what]
            done = place
    return "".join([*parts, text[done:]]) if parts else text
