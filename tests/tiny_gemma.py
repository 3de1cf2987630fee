"""A random Gemma 3 of six small layers with a tokenizer of Gemma's kind, saved as a checkpoint: nothing is fetched."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import AddedToken, Tokenizer, models, normalizers, trainers

from tiny_lm import TEXTS, as_student

WINDOW = 8
SPECIAL = ("<pad>", "<eos>", "<bos>", "<unk>", "<mask>")
TURN = "<start_of_turn>"
OWN = ("\n", "\n\n", "\n\n\n", "<h1>", "</h1>")
"""Added as text, as Gemma has runs of lines and tags."""


def tiny_gemma(folder: Path, **config: Any) -> Path:
    """``config``: fields of ``Gemma3TextConfig`` that are to be others."""
    tokenizer = tiny_gemma_tokenizer()
    torch.manual_seed(0)
    shape = {
        "vocab_size": len(tokenizer) + 3, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 6,
        "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16, "query_pre_attn_scalar": 16,
        "sliding_window": WINDOW, "max_position_embeddings": 2048, "initializer_range": 0.2,
    }  # fmt: skip
    model = transformers.Gemma3ForCausalLM(transformers.Gemma3TextConfig(**{**shape, **config}))
    with torch.no_grad():
        for name, value in model.named_parameters():
            if "norm" in name:  # zeros, untrained
                value.normal_(0, 0.3)
    model.save_pretrained(str(folder))
    tokenizer.save_pretrained(str(folder))
    return folder


def tiny_gemma_student(folder: Path, instructions: str, **config: Any) -> Path:
    """It as a student that is spoken to in plain text, as Gemma's base is."""
    return as_student(tiny_gemma(folder, **config), instructions, template="plain")


def tiny_gemma_tokenizer() -> Any:
    learnt = Tokenizer(models.BPE())
    learnt.normalizer = normalizers.Replace(" ", "▁")
    learnt.train_from_iterator(
        [*TEXTS, "   é"], trainers.BpeTrainer(vocab_size=240, initial_alphabet=["<", ">", "0"], show_progress=False)
    )
    words = sorted(learnt.get_vocab(), key=learnt.get_vocab().__getitem__)
    bytes_ = [f"<0x{byte:02X}>" for byte in range(256)]
    vocabulary = {word: at for at, word in enumerate([*SPECIAL, TURN, *OWN, *bytes_, *words])}
    merges = [
        (word[:at], word[at:])
        for word in words
        for at in range(1, len(word))
        if word[:at] in vocabulary and word[at:] in vocabulary
    ]
    made = transformers.GemmaTokenizer(vocab=vocabulary, merges=merges, add_bos_token=True)
    made.add_tokens([AddedToken(word, normalized=False) for word in OWN])
    made.add_tokens([AddedToken(TURN, normalized=False, special=True)], special_tokens=True)
    return made
