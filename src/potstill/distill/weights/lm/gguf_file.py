"""Writes a language model of transformers as one GGUF file, which llama.cpp runs without PyTorch.

Tensors and metadata as llama.cpp's converter names them (github.com/ggml-org/llama.cpp, convert_hf_to_gguf.py). Equal
models give equal bytes. Knows weights and bits. Does not know architectures (``gguf_architectures``), tokenizers
(``gguf_words``, ``gguf_pieces``) or students, and not whether the file acts alike (``exporting``).
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from potstill.distill.weights.lm.gguf_architectures import (
    ARCHITECTURES,
    ELSE,
    as_kept,
    check_architecture,
    write_shape,
)
from potstill.distill.weights.lm.gguf_pieces import pieces_of
from potstill.distill.weights.lm.gguf_words import words_of
from potstill.errors import ConfigError, MissingExtra, one_of
from potstill.models.gguf import STUDENT_KEY

QUANTIZATIONS: Mapping[str, tuple[str, str]] = {
    "f16": ("F16", "F16"),
    "q8_0": ("Q8_0", "Q8_0"),
    "q4_0": ("Q4_0", "Q8_0"),
}
"""How matrices are kept, and how the table of words is: four bits of it cost a small model more than they save."""
_FILE_TYPES = {"f16": "MOSTLY_F16", "q8_0": "MOSTLY_Q8_0", "q4_0": "MOSTLY_Q4_0"}


def load_gguf() -> Any:
    """The package ``gguf``. Raises ``MissingExtra``."""
    try:
        return importlib.import_module("gguf")
    except ImportError:
        raise MissingExtra("Writing GGUF", "lm") from None


def write_gguf(path: Path, model: Any, tokenizer: Any, *, quantization: str, template: str, student: str) -> None:
    """``template``: ``chat`` or ``plain``, as the model was spoken to; ``student``: what it says of itself.

    Raises ``ConfigError`` for a model or a tokenizer that llama.cpp does not know.
    """
    one_of("quantization", quantization, QUANTIZATIONS)
    gguf, config = load_gguf(), model.config
    check_architecture(config.to_dict())
    writer = gguf.GGUFWriter(str(path), ARCHITECTURES[config.model_type])
    write_shape(writer, config)
    writer.add_file_type(getattr(gguf.LlamaFileType, _FILE_TYPES[quantization]))
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    _tokenizer(writer, json.loads(tokenizer.backend_tokenizer.to_str()), int(config.vocab_size))
    _specials(writer, tokenizer, template)
    writer.add_string(STUDENT_KEY, student)
    for name, array, kind in _tensors(gguf, model, *QUANTIZATIONS[quantization]):
        writer.add_tensor(name, gguf.quants.quantize(array, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _tokenizer(writer: Any, told: Mapping[str, Any], vocabulary: int) -> None:
    words = (pieces_of if told["model"].get("byte_fallback") else words_of)(told, vocabulary)
    writer.add_tokenizer_model(words.model)
    writer.add_tokenizer_pre(words.splitting)
    writer.add_token_list(words.tokens)
    writer.add_token_types(words.kinds)
    if words.scores:
        writer.add_token_scores(words.scores)
        writer.add_add_space_prefix(False)
    else:
        writer.add_token_merges(words.merges)


def _specials(writer: Any, tokenizer: Any, template: str) -> None:
    begins = tokenizer.encode("a", add_special_tokens=True)[:1] == [tokenizer.bos_token_id]
    writer.add_add_bos_token(template == "plain" and begins)
    for add, token in (
        (writer.add_bos_token_id, tokenizer.bos_token_id),
        (writer.add_eos_token_id, tokenizer.eos_token_id),
        (writer.add_pad_token_id, tokenizer.pad_token_id),
        (writer.add_unk_token_id, tokenizer.unk_token_id),
    ):
        if token is not None:
            add(token)
    if tokenizer.chat_template:
        writer.add_chat_template(tokenizer.chat_template)


def _tensors(gguf: Any, model: Any, matrices: str, table: str) -> Iterator[tuple[str, Any, Any]]:
    """Name, values in float32, and how they are kept. Vectors stay as they are; rows that no block divides, in F16."""
    config, kinds = model.config, gguf.GGMLQuantizationType
    architecture = {name: arch for arch, name in gguf.MODEL_ARCH_NAMES.items()}[ARCHITECTURES[config.model_type]]
    names = gguf.get_tensor_name_map(architecture, config.num_hidden_layers)
    for name, value in model.state_dict().items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        told = names.get_name(name, try_suffixes=(".weight", ".bias"))
        if told is None:
            raise ConfigError(f"GGUF has no place for the weights '{name}' of this model. {ELSE}")
        array = as_kept(config, name, value.detach().float().numpy())
        kind = kinds.F32
        if array.ndim > 1:
            kind = getattr(kinds, table if told.startswith(("token_embd", "output.")) else matrices)
            block = gguf.GGML_QUANT_SIZES[kind][0]
            kind = kinds.F16 if array.shape[-1] % block else kind
        yield told, np.ascontiguousarray(array), kind
