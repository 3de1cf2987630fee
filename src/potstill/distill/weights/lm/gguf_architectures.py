"""Architectures as GGUF keeps them: llama.cpp's name, the metadata of their shape, what is done to their arrays.

llama.cpp knows most of an architecture by its name. What it takes for granted, and a model has otherwise, is refused
here: it would be read wrongly without a word. Knows configurations of transformers. Does not know files or tokenizers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from potstill.distill.weights.lm.axes import head_dim
from potstill.errors import ConfigError

ARCHITECTURES = {"llama": "llama", "qwen2": "qwen2", "gemma3_text": "gemma3"}
"""Model types of transformers, and what llama.cpp calls them."""
ELSE = "Export it for CTranslate2 instead: --ctranslate2 OUT"
_FULL, _NEAR = "full_attention", "sliding_attention"
_EVERY = 6
"""One layer of so many of Gemma 3 attends to everything."""
_NEAR_BASE = 10_000.0
_GEMMA = {
    "hidden_activation": "gelu_pytorch_tanh",
    "attention_bias": False,
    "attn_logit_softcapping": None,
    "final_logit_softcapping": None,
    "use_bidirectional_attention": False,
}


def check_architecture(config: Mapping[str, Any]) -> None:
    """Raises ``ConfigError`` for a model (its configuration) that llama.cpp does not know, or would read otherwise."""
    kind = str(config.get("model_type"))
    if kind not in ARCHITECTURES:
        *some, last = ARCHITECTURES
        raise ConfigError(
            f"GGUF is written of models of the type {', '.join(some)} or {last}, and this one is '{kind}'. {ELSE}"
        )
    for rope in _ropes(config):
        if rope.get("rope_type", "default") != "default":
            raise ConfigError(
                f"GGUF is written of models with plain rotary positions, and this one has '{rope['rope_type']}'. {ELSE}"
            )
    if kind == "gemma3_text":
        _check_gemma(config)
    if kind == "qwen2":
        _check_qwen(config)


def write_shape(writer: Any, config: Any) -> None:
    """The metadata, into a ``gguf.GGUFWriter``."""
    head = head_dim(config)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(head)
    writer.add_value_length(head)
    writer.add_rope_dimension_count(head)
    writer.add_rope_freq_base(float(_ropes(config.to_dict())[0]["rope_theta"]))
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    if config.model_type == "gemma3_text":
        writer.add_sliding_window(config.sliding_window)


def as_kept(config: Any, name: str, array: Any) -> Any:
    """The weights of this name as llama.cpp wants them.

    Llama's queries and keys turn neighbouring numbers where transformers turns those half a head apart. Gemma 3 scales
    by one plus what its norms have learnt; the file has the sum.
    """
    if config.model_type == "gemma3_text":
        return array + 1 if name.endswith("norm.weight") else array
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    count = heads.get(name.split(".")[-2]) if config.model_type == "llama" else None
    if count is None:
        return array
    halves = array.reshape(count, 2, array.shape[0] // count // 2, *array.shape[1:])
    return halves.swapaxes(1, 2).reshape(array.shape)


def _ropes(config: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """How positions turn: of all layers, or of those that attend to everything and then of those that do not."""
    told = config.get("rope_parameters") or {}
    return [told[kind] for kind in (_FULL, _NEAR)] if _FULL in told else [told]


def _check_qwen(config: Mapping[str, Any]) -> None:
    heads, width = int(config["num_attention_heads"]), int(config["hidden_size"])
    together = heads * (config.get("head_dim") or width // heads)
    if together != width:
        raise ConfigError(
            f"llama.cpp takes for granted that the heads of Qwen2 are together as wide as its embeddings ({width}), "
            f"and this model's {heads} heads have {together}: some were taken out. {ELSE}"
        )


def _check_gemma(config: Mapping[str, Any]) -> None:
    layers, ropes = int(config["num_hidden_layers"]), _ropes(config)
    wanted = _GEMMA | {
        "query_pre_attn_scalar": config["head_dim"],
        "layer_types": [_NEAR if (at + 1) % _EVERY else _FULL for at in range(layers)],
    }
    found = {name: config.get(name, value) for name, value in wanted.items()}
    wanted["rope_theta of sliding_attention"] = _NEAR_BASE
    found["rope_theta of sliding_attention"] = ropes[-1].get("rope_theta", _NEAR_BASE)
    for name, value in wanted.items():
        if found[name] != value:
            raise ConfigError(
                f"llama.cpp takes for granted that '{name}' of Gemma 3 is {value}, and this model has {found[name]}. "
                f"{ELSE}"
            )
