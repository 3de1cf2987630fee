"""Writes a language model of transformers as one GGUF file, which llama.cpp runs without PyTorch.

Tensors and metadata as llama.cpp's converter names them (github.com/ggml-org/llama.cpp, convert_hf_to_gguf.py), for
architectures whose tensors need no other arithmetic than rotary rows in another order. Equal models give equal bytes.
Knows weights and tokenizers. Does not know students, and not whether the file acts alike (``exporting``).
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from potstill.distill.weights.lm.gguf_words import ELSE, words_of
from potstill.errors import ConfigError, MissingExtra, one_of
from potstill.models.gguf import STUDENT_KEY

ARCHITECTURES = ("llama", "qwen2")
"""Model types of transformers, by which llama.cpp calls them too."""
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


def check_architecture(config: Mapping[str, Any]) -> None:
    """Raises ``ConfigError`` for a model (its ``config.json``) that cannot be written, before weights are loaded."""
    kind = str(config.get("model_type"))
    if kind not in ARCHITECTURES:
        raise ConfigError(
            f"GGUF is written of models of the type {' or '.join(ARCHITECTURES)}, and this one is '{kind}'. {ELSE}"
        )
    rope = config.get("rope_parameters") or {}
    if rope.get("rope_type", "default") != "default":
        raise ConfigError(
            f"GGUF is written of models with plain rotary positions, and this one has '{rope['rope_type']}'. {ELSE}"
        )


def write_gguf(path: Path, model: Any, tokenizer: Any, *, quantization: str, template: str, student: str) -> None:
    """``template``: ``chat`` or ``plain``, as the model was spoken to; ``student``: what it says of itself.

    Raises ``ConfigError`` for a model or a tokenizer that llama.cpp does not know.
    """
    one_of("quantization", quantization, QUANTIZATIONS)
    gguf, config = load_gguf(), model.config
    check_architecture(config.to_dict())
    writer = gguf.GGUFWriter(str(path), config.model_type)
    _shape(writer, config)
    writer.add_file_type(getattr(gguf.LlamaFileType, _FILE_TYPES[quantization]))
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    words = words_of(json.loads(tokenizer.backend_tokenizer.to_str()), int(config.vocab_size))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(words.splitting)
    writer.add_token_list(words.tokens)
    writer.add_token_types(words.kinds)
    writer.add_token_merges(words.merges)
    _specials(writer, tokenizer, template)
    writer.add_string(STUDENT_KEY, student)
    for name, array, kind in _tensors(gguf, model, *QUANTIZATIONS[quantization]):
        writer.add_tensor(name, gguf.quants.quantize(array, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _shape(writer: Any, config: Any) -> None:
    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(head)
    writer.add_value_length(head)
    writer.add_rope_dimension_count(head)
    writer.add_rope_freq_base(float(config.rope_parameters["rope_theta"]))
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)


def _specials(writer: Any, tokenizer: Any, template: str) -> None:
    begins = tokenizer.encode("a", add_special_tokens=True)[:1] == [tokenizer.bos_token_id]
    writer.add_add_bos_token(template == "plain" and begins)
    for add, token in (
        (writer.add_bos_token_id, tokenizer.bos_token_id),
        (writer.add_eos_token_id, tokenizer.eos_token_id),
        (writer.add_pad_token_id, tokenizer.pad_token_id),
    ):
        if token is not None:
            add(token)
    if tokenizer.chat_template:
        writer.add_chat_template(tokenizer.chat_template)


def _tensors(gguf: Any, model: Any, matrices: str, table: str) -> Iterator[tuple[str, Any, Any]]:
    """Name, values in float32, and how they are kept. Vectors stay as they are; rows that no block divides, in F16."""
    config, kinds = model.config, gguf.GGMLQuantizationType
    architecture = {name: arch for arch, name in gguf.MODEL_ARCH_NAMES.items()}[config.model_type]
    names = gguf.get_tensor_name_map(architecture, config.num_hidden_layers)
    for name, value in model.state_dict().items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        told = names.get_name(name, try_suffixes=(".weight", ".bias"))
        if told is None:
            raise ConfigError(f"GGUF has no place for the weights '{name}' of this model. {ELSE}")
        array = _reordered(config)(name, value.detach().float().numpy())
        kind = kinds.F32
        if array.ndim > 1:
            kind = getattr(kinds, table if told.startswith(("token_embd", "output.")) else matrices)
            block = gguf.GGML_QUANT_SIZES[kind][0]
            kind = kinds.F16 if array.shape[-1] % block else kind
        yield told, np.ascontiguousarray(array), kind


def _reordered(config: Any) -> Callable[[str, Any], Any]:
    """Llama's queries and keys turn neighbouring numbers where transformers turns those half a head apart."""
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}

    def reorder(name: str, array: Any) -> Any:
        count = heads.get(name.split(".")[-2]) if config.model_type == "llama" else None
        if count is None:
            return array
        halves = array.reshape(count, 2, array.shape[0] // count // 2, *array.shape[1:])
        return halves.swapaxes(1, 2).reshape(array.shape)

    return reorder
