"""Texts to tokens, the same on every machine: game text, code and JSON. And how many tokens a model may see in a text.

What it knows: letters, digits and identifiers. What it does not do: stemming, stop words, languages without spaces
between words (a run of such letters is one token).
"""

from __future__ import annotations

import re
import unicodedata

_WORD = re.compile(r"[^\W_]+(?:_[^\W_]+)*", re.UNICODE)
_PART = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+|\d+|[^\W\d_A-Za-z]+", re.UNICODE)


def tokenize(text: str) -> list[str]:
    """Lower-case tokens in reading order; an identifier gives itself and then its parts.

    >>> tokenize("Put the mug 1 in get_userName('a-b')")
    ['put', 'the', 'mug', '1', 'in', 'get_username', 'get', 'user', 'name', 'a', 'b']
    """
    tokens: list[str] = []
    for match in _WORD.finditer(unicodedata.normalize("NFKC", text)):
        word = match.group()
        tokens.append(word.lower())
        parts = _PART.findall(word)
        if len(parts) > 1:
            tokens.extend(part.lower() for part in parts)
    return tokens


class EstimatedTokens:
    """A stated estimate for texts whose tokenizer is not at hand: one token for every four UTF-8 bytes, rounded up.

    A ``protocols.TokenCounter``.

    >>> EstimatedTokens().count("a red mug")
    3
    """

    name = "utf8-bytes/4"

    def count(self, text: str) -> int:
        return -(-len(text.encode("utf-8", "surrogatepass")) // 4)
