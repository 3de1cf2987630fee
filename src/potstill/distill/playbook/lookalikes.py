"""Characters that only look like ASCII ones: what a reader takes a text for, character by character.

What it knows: the letters, digits, dashes, brackets and marks that pass for those of our ids, headers and markup (facts
of Unicode Technical Standard #39, section 4, for the scripts whose capitals are drawn alike; everything that Unicode
itself calls a compatibility form of an ASCII character comes from ``unicodedata``). What it does not do: change a text
(``neutral``), or judge words of one script: a Russian word is a word.
"""

from __future__ import annotations

import re
import unicodedata

MARK = "\u0300"
"""Stands for any combining mark in a skeleton."""

_ALIKE = {
    # Capitals: Greek, Cyrillic, Cherokee, Lisu and others.
    "A": "ΑАᎪꓮ", "B": "ΒВБᏴꓐꞴᗷ\U000102a1\U00010301\U00010282", "C": "СϹᏟꓚ", "D": "Ꭰꓓ", "E": "ΕЕᎬꓰ", "F": "Ϝꓝ",
    "G": "ԌᏀꓖ", "H": "ΗНᎻꓧ",
    "I": "ΙІӀᏆꓲ", "J": "ЈᎫꓙ", "K": "ΚКᏦꓗ", "L": "Ꮮꓡ", "M": "ΜМᎷꓟ", "N": "Νꓠ", "O": "ΟОՕꓳ", "P": "ΡРᏢꓑ",
    "Q": "Ԛ", "R": "ᎡᏒꓣ", "S": "ЅՏᏚꓢ", "T": "ΤТᎢꓔ", "U": "Սꓴ", "V": "ѴᏙꓦ", "W": "ԜᎳꓪ", "X": "ΧХꓫ", "Y": "ΥУҮᎩꓬ",
    "Z": "ΖᏃꓜ",
    # Small letters.
    "a": "αаɑ", "b": "ƄЬьƅвбβɓƀᏏᑲᖯ", "c": "сϲᴄ", "d": "ԁᏧ", "e": "еҽ", "g": "ɡց", "h": "һհ", "i": "іιıᎥ", "j": "јϳ",
    "k": "κк", "l": "ӏ", "m": "м", "n": "ոп", "o": "οоօᴏ", "p": "ρр", "q": "ԛզ", "r": "гᴦ", "s": "ѕꜱ", "t": "т",
    "u": "υսᴜ", "v": "νѵᴠ", "w": "ԝѡᴡ", "x": "хᕁ", "y": "уγү", "z": "ᴢ",
    # Digits.
    "2": "ƧϨꝚꙄᒿꛯ", "3": "ЗӠƷȜꞫꝪⳌ\U000118ca\U00016f3b\U0001d206", "4": "Ꮞ\U000118af", "5": "Ƽ\U000118bb",
    "6": "ⳓⳒᏮ\U000118d5", "7": "\U000104d2\U000118c6\U0001d212", "8": "Ȣȣଃ\U0001e8cb\U0001031a",
    "9": "ꝮⳊ\U000118d6\U000118ac\U000118cc",
    # Dashes that Unicode does not call dashes, and brackets, signs and bars drawn alike.
    "-": "−⁃˗➖Ⲻ۔ー一ㅡ─━﹘", "<": "‹˂ᐸ❮〈⟨ᚲ\U0001d236", ">": "›˃ᐳ❯〉⟩\U00016f3f\U0001d237",
    "[": "【〔❲⟦", "]": "】〕❳⟧", "|": "ǀ∣│┃", "#": "♯",
    "/": "∕⁄⧸╱", ":": "∶ː꞉：", "`": "ˋ", "_": "ˍ",
}  # fmt: skip

_TABLE = {look: plain for plain, looks in _ALIKE.items() for look in looks}
_WORD = re.compile(r"[^\W_]{3,}")
_REMEMBERED_CHARACTERS = 20_000


class _Looks(dict[int, str]):
    """Code point to what it looks like; filled as characters are met."""

    def __missing__(self, code: int) -> str:
        look = _look(chr(code))
        if len(self) < _REMEMBERED_CHARACTERS:
            self[code] = look
        return look


def _look(character: str) -> str:
    if character.isascii():
        return character
    if look := _TABLE.get(character):
        return look
    category = unicodedata.category(character)
    if category[0] == "M":
        return MARK
    if category == "Nd":
        return str(unicodedata.decimal(character))
    if category == "Pd":
        return "-"
    if unicodedata.decomposition(character).startswith(("<super>", "<sub>")):
        return character  # an exponent is not a digit of a number
    first = unicodedata.normalize("NFKD", character)[0]
    return first if first.isascii() else _TABLE.get(first, character)


_looks = _Looks()


def skeleton(text: str) -> str:
    """What the text looks like in ASCII, one character for each of the text's.

    >>> skeleton("ь‑１２")
    'b-12'
    """
    return text if text.isascii() else text.translate(_looks)


def poses(letter: str, look: str) -> bool:
    """Whether a letter or digit of another script passes for this ASCII one; accented Latin letters do not."""
    latin = unicodedata.name(letter, "").startswith("LATIN")
    return not letter.isascii() and look.isascii() and look.isalnum() and not latin


def plain_words(text: str) -> str:
    """Words of three letters or more that a reader takes for ASCII ones, in ASCII; shorter ones may be formulas.

    >>> plain_words("the \\u043erder of \\u03c1g, \u0437\u0430\u043a\u0430\u0437")
    'the order of \u03c1g, \u0437\u0430\u043a\u0430\u0437'
    """
    return text if text.isascii() else _WORD.sub(lambda match: _plain(match[0]), text)


def _plain(word: str) -> str:
    look = skeleton(word)
    if word.isascii() or not look.isascii():
        return word
    return "".join(b if poses(a, b) else a for a, b in zip(word, look, strict=True))


def imitates(text: str) -> str:
    """The characters in ``text`` that pass for ASCII ones, as ``U+042C`` and so on; empty where there are none."""
    pairs = zip(text, skeleton(text), strict=True)
    found = dict.fromkeys(letter for letter, look in pairs if letter != look and look.isascii())
    return ", ".join(f"U+{ord(letter):04X}" for letter in found)
