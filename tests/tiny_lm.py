"""A language model of 30,000 random weights with a tokenizer of its own, saved as a checkpoint: nothing is fetched."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from potstill.distill.weights import lineage
from potstill.models.tuned_file import STUDENT, Base, Tuned, Voice, file_sha256

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TEXTS = [
    "finish with wax", "pack in straw", "store in the cellar", "ship by rail", "You take orders through a workshop.",
    "Next stage: pack.", "call the customer", "weigh it", "Goal: Get this order out of the house without trouble.",
    "Answer with the next action only. Admissible actions: reasoning: action: material: customer: quantity:",
]  # fmt: skip


def tiny_checkpoint(
    folder: Path, *, context_tokens: int = 2048, chat: bool = True, vocabulary: int | None = None, hidden: int = 32
) -> Path:
    """``vocabulary``: of the weights; the tokenizer's own where it is None."""
    tokenizer = tiny_tokenizer(chat=chat)
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=vocabulary or len(tokenizer), hidden_size=hidden, intermediate_size=48, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=1, head_dim=16, max_position_embeddings=context_tokens,
        bos_token_id=None, eos_token_id=tokenizer.eos_token_id, tie_word_embeddings=True, initializer_range=0.2,
    )  # fmt: skip
    transformers.LlamaForCausalLM(config).save_pretrained(str(folder))
    tokenizer.save_pretrained(str(folder))
    return folder


def tiny_student(folder: Path, instructions: str, **fields: Any) -> Path:
    """The tiny model as a student of whole weights that saw no training, with a lineage; ``fields`` of ``Tuned``."""
    return as_student(tiny_checkpoint(folder), instructions, **fields)


def as_student(folder: Path, instructions: str, **fields: Any) -> Path:
    """A checkpoint's folder, which says from now on that it is a student."""
    tuned = Tuned(
        base=Base(name="tiny", sha256="0" * 64),
        merged=True,
        template="chat",
        environment="house-rules",
        instructions=instructions,
        voice=Voice(history_turns=0),
        files={path.name: file_sha256(path) for path in sorted(folder.iterdir())},
    )
    (folder / STUDENT).write_bytes(msgspec.json.encode(msgspec.structs.replace(tuned, **fields)))
    lineage.write_beside(folder / STUDENT, lineage.Manifest(kind="tuned-lm"))
    return folder


def tiny_tokenizer(*, chat: bool = True) -> Any:
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    special = ["<|im_start|>", "<|im_end|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    raw.train_from_iterator(
        TEXTS, trainers.BpeTrainer(vocab_size=400, special_tokens=special, initial_alphabet=alphabet)
    )
    made = transformers.PreTrainedTokenizerFast(
        tokenizer_object=raw, eos_token="<|im_end|>", additional_special_tokens=["<|im_start|>"]
    )
    if chat:
        made.chat_template = CHATML
    return made
