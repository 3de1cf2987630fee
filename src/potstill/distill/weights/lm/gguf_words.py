"""A byte-level tokenizer (``tokenizer.json``) as llama.cpp keeps it: its words, merges, and how text is split first.

llama.cpp knows ways of splitting by name only; with another one it would read other tokens than were learnt. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from potstill.distill.weights.lm.gguf_architectures import ELSE
from potstill.errors import ConfigError

NORMAL, CONTROL, OWN, UNUSED, BYTE = 1, 3, 4, 5, 6
"""Kinds of words (``llama_token_type``): learnt, control, added as text, a place that no word has, a single byte."""
_LETTERS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_NAMES = {
    ("bytes with words",): "gpt-2",
    ("single digits", "bytes with words"): "smollm",
    (_LETTERS + r"\p{N}{1,3}" + _REST, "bytes"): "llama-bpe",
    (_LETTERS + r"\p{N}" + _REST, "bytes"): "qwen2",
}


class Words(NamedTuple):
    model: str
    """llama.cpp's name of the kind of tokenizer (``tokenizer.ggml.model``)."""
    splitting: str
    """llama.cpp's name of it (``tokenizer.ggml.pre``)."""
    tokens: list[str]
    """By id."""
    kinds: list[int]
    merges: list[str]
    """Pairs in their order, of a byte-level tokenizer."""
    scores: list[float]
    """By id, of SentencePiece's kind (``gguf_pieces``)."""


def words_of(tokenizer: Mapping[str, Any], vocabulary: int) -> Words:
    """``vocabulary``: how many the model has, which may be more. Raises ``ConfigError`` for another tokenizer."""
    model = tokenizer["model"]
    if model["type"] != "BPE":
        raise ConfigError(f"GGUF is written of BPE tokenizers, and this one is '{model['type']}'. {ELSE}")
    changes = (tokenizer.get("normalizer") or {}).get("type", "NFC")
    if changes != "NFC":  # which changes no text that is written as one types it
        raise ConfigError(f"The tokenizer changes texts first ('{changes}'), which GGUF cannot say. {ELSE}")
    tokens, kinds = listed(tokenizer, vocabulary)
    return Words(
        model="gpt2",
        splitting=_splitting(tokenizer.get("pre_tokenizer") or {}),
        tokens=tokens,
        kinds=kinds,
        merges=[" ".join(pair) for pair in merges_of(model)],
        scores=[],
    )


def listed(tokenizer: Mapping[str, Any], vocabulary: int) -> tuple[list[str], list[int]]:
    """The words by id, and their kinds."""
    added = {one["id"]: one for one in tokenizer["added_tokens"]}
    by_id = {number: text for text, number in tokenizer["model"]["vocab"].items()}
    by_id |= {number: one["content"] for number, one in added.items()}
    tokens = [by_id.get(number, f"[PAD{number}]") for number in range(vocabulary)]
    return tokens, [_kind(number, by_id, added) for number in range(vocabulary)]


def merges_of(model: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The pairs of a BPE, first to last; older files have each as one text."""
    return [tuple(merge.split(" ") if isinstance(merge, str) else merge) for merge in model["merges"]]


def _kind(number: int, by_id: Mapping[int, str], added: Mapping[int, Mapping[str, Any]]) -> int:
    if number in added:
        return CONTROL if added[number]["special"] else OWN
    return NORMAL if number in by_id else UNUSED


def _splitting(told: Mapping[str, Any]) -> str:
    parts = told["pretokenizers"] if told.get("type") == "Sequence" else [told]
    name = _NAMES.get(tuple(map(_part, parts)))
    if name is None:
        raise ConfigError(
            f"llama.cpp has no name for how this tokenizer splits texts ({', '.join(map(_part, parts))[:200]}); it "
            f"would read other tokens than were learnt. {ELSE}"
        )
    return name


def _part(told: Mapping[str, Any]) -> str:
    kind = str(told.get("type", "nothing"))
    if kind == "ByteLevel" and not told.get("add_prefix_space"):
        return "bytes with words" if told.get("use_regex", True) else "bytes"
    if kind == "Digits" and told.get("individual_digits"):
        return "single digits"
    if kind == "Split" and isinstance(told.get("pattern"), dict) and told.get("behavior") == "Isolated":
        return str(told["pattern"].get("Regex"))
    return kind
