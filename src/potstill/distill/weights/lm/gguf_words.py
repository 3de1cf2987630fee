"""A byte-level tokenizer (``tokenizer.json``) as llama.cpp keeps it: its words, merges, and how text is split first.

llama.cpp knows ways of splitting by name only; with another one it would read other tokens than were learnt. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from potstill.errors import ConfigError

NORMAL, CONTROL, OWN, UNUSED = 1, 3, 4, 5
"""Kinds of words (``llama_token_type``): learnt, control, added as text, a place that no word has."""
_LETTERS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_NAMES = {
    ("bytes with words",): "gpt-2",
    ("single digits", "bytes with words"): "smollm",
    (_LETTERS + r"\p{N}{1,3}" + _REST, "bytes"): "llama-bpe",
    (_LETTERS + r"\p{N}" + _REST, "bytes"): "qwen2",
}
ELSE = "Export it for CTranslate2 instead: --ctranslate2 OUT"


class Words(NamedTuple):
    tokens: list[str]
    """By id."""
    kinds: list[int]
    merges: list[str]
    splitting: str
    """llama.cpp's name of it (``tokenizer.ggml.pre``)."""


def words_of(tokenizer: Mapping[str, Any], vocabulary: int) -> Words:
    """``vocabulary``: how many the model has, which may be more. Raises ``ConfigError`` for another tokenizer."""
    model = tokenizer["model"]
    if model["type"] != "BPE" or model.get("byte_fallback"):
        kind = f"{model['type']} with byte fallback" if model.get("byte_fallback") else model["type"]
        raise ConfigError(f"GGUF is written of byte-level BPE tokenizers, and this one is '{kind}'. {ELSE}")
    changes = (tokenizer.get("normalizer") or {}).get("type", "NFC")
    if changes != "NFC":  # which changes no text that is written as one types it
        raise ConfigError(f"The tokenizer changes texts first ('{changes}'), which GGUF cannot say. {ELSE}")
    added = {one["id"]: one for one in tokenizer["added_tokens"]}
    by_id = {number: text for text, number in model["vocab"].items()} | {i: one["content"] for i, one in added.items()}
    return Words(
        tokens=[by_id.get(number, f"[PAD{number}]") for number in range(vocabulary)],
        kinds=[_kind(number, by_id, added) for number in range(vocabulary)],
        merges=[merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]],
        splitting=_splitting(tokenizer.get("pre_tokenizer") or {}),
    )


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
