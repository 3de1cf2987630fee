"""A BPE tokenizer with byte fallback, Gemma's kind, as llama.cpp keeps it: SentencePiece's words with scores.

llama.cpp joins whatever neighbours make a word, the word of the highest score first (Kudo and Richardson,
arXiv 1808.06226); ``tokenizers`` goes by a ranked list of pairs. Both read the same where the list has every pair that
makes a word and ranks by that word, which is looked at here; another list is refused. Two things stay open, and the
gate looks at them: pairs that make the same word, which llama.cpp joins from the left and the list may rank, and words
that are control tokens in llama.cpp's own list (of Gemma's, ``</s>``), which it reads as letters in an action. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

from potstill.distill.weights.lm.gguf_architectures import ELSE
from potstill.distill.weights.lm.gguf_words import BYTE, Words, listed, merges_of
from potstill.errors import ConfigError

SPACE = "▁"
_BYTES = frozenset(f"<0x{byte:02X}>" for byte in range(256))
_SPACES = {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}
_SPLITS_NOTHING = {
    "type": "Split",
    "pattern": {"String": " "},
    "behavior": "MergedWithPrevious",
    "invert": False,
}  # there is no space left when it looks for one
_UNLIKE = ("dropout", "continuing_subword_prefix", "end_of_word_suffix", "ignore_merges")


def pieces_of(tokenizer: Mapping[str, Any], vocabulary: int) -> Words:
    """``vocabulary``: how many the model has, which may be more. Raises ``ConfigError`` for another tokenizer."""
    model, added = tokenizer["model"], tokenizer["added_tokens"]
    if model["type"] != "BPE" or any(model.get(name) for name in _UNLIKE):
        raise _refused(f"it is no plain BPE ({model['type']}, {', '.join(filter(model.get, _UNLIKE)) or 'plain'})")
    if tokenizer.get("normalizer") != _SPACES or tokenizer.get("pre_tokenizer") not in (None, _SPLITS_NOTHING):
        raise _refused(f"before it splits a text it does more than write {SPACE} for a space")
    _check_added(added)
    if not model["vocab"].keys() >= _BYTES:
        raise _refused("it has no word for some bytes")
    tokens, kinds = listed(tokenizer, vocabulary)
    pairs = merges_of(model)
    ranks = _ranks(pairs)
    apart = {one["content"] for one in added if SPACE not in one["content"]}  # are cut out before anything is joined
    _check_whole(pairs, [word for word in tokens if word not in apart])
    for byte in _BYTES:
        kinds[model["vocab"][byte]] = BYTE
    scores = [-float(ranks.get(word, 0)) for word in tokens]
    return Words(model="llama", splitting="default", tokens=tokens, kinds=kinds, merges=[], scores=scores)


def _refused(why: str) -> ConfigError:
    return ConfigError(f"llama.cpp would split texts otherwise than this tokenizer: {why}. {ELSE}")


def _check_added(added: Sequence[Mapping[str, Any]]) -> None:
    """Added words are cut out of a text: by tokenizers the leftmost first, by llama.cpp the longest first. That is the
    same where none begins within another, but for runs of one letter."""
    for one in added:
        if any(one.get(flag) for flag in ("single_word", "lstrip", "rstrip", "normalized")):
            raise _refused(f"its word {one['content']!r} is more than its letters")
    texts = [one["content"] for one in added]
    runs = {text for text in texts if len(set(text)) == 1}
    others = {text[:at] for text in texts if text not in runs for at in range(1, len(text))}
    all_beginnings = others | {text[:at] for text in runs for at in range(1, len(text))}
    for text in texts:
        beginnings = others if text in runs else all_beginnings
        for at in range(1, len(text)):
            if text[at:] in beginnings:
                raise _refused(f"another word of its own may begin within {text!r}")


def _ranks(pairs: Sequence[tuple[str, str]]) -> dict[str, int]:
    """The place of each word among those that pairs make."""
    ranks: dict[str, int] = {}
    for left, right in pairs:
        if ranks.setdefault(left + right, len(ranks)) != len(ranks) - 1:
            raise _refused(f"it ranks other words between two ways to make {left + right!r}")
    return ranks


def _check_whole(pairs: Sequence[tuple[str, str]], words: Sequence[str]) -> None:
    """Every two neighbours that make a word must be a pair. A neighbour is a word or a single letter."""
    known, wanted = set(words), set(pairs)
    for part in chain.from_iterable(pairs):
        if part in _BYTES:
            raise _refused(f"it joins bytes ({part})")
    for word in words:
        for at in range(1, len(word)):
            left, right = word[:at], word[at:]
            if (left, right) not in wanted and _stands(left, known) and _stands(right, known):
                raise _refused(f"it does not join {left!r} and {right!r}, though {word!r} is a word")


def _stands(part: str, known: set[str]) -> bool:
    return len(part) == 1 or part in known
