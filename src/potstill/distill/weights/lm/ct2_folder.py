"""Writes a language model of transformers as a folder that CTranslate2 runs without PyTorch, its tokenizer with it.

Knows the package's converter. Does not know students, and not whether the folder acts alike (``exporting``).
"""

from __future__ import annotations

import importlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from potstill.distill.weights.lm.axes import head_dim
from potstill.errors import ConfigError
from potstill.models.convert import load_transformers, offline
from potstill.models.ct2_engine import load_ctranslate2


def load_converter() -> Any:
    """The module that converts models of transformers. Raises ``MissingExtra``."""
    load_ctranslate2()
    load_transformers()
    return importlib.import_module("ctranslate2.converters")


def write_ct2(path: Path, model: Any, tokenizer: Any, quantization: str) -> None:
    """``quantization``: ``int8`` (a scale for each row, activations too) or ``float32``.

    Raises ``ConfigError`` for a model that the package does not know.
    """
    load_converter()
    whole = path.with_name(f"{path.name}.whole")
    try:
        model.save_pretrained(str(whole))
        tokenizer.save_pretrained(str(whole))
        with offline():
            _converter(whole, model.config).convert(str(path), quantization=quantization)
        _with_begin(path / "config.json")
        tokenizer.save_pretrained(str(path))
    except (ValueError, NotImplementedError) as error:  # its words for an architecture, or a part of one, unknown
        raise ConfigError(
            f"CTranslate2 cannot convert a model of the type '{model.config.model_type}': "
            f"{' '.join(str(error).split())[:200]} Write GGUF instead (--gguf OUT), or serve it in PyTorch."
        ) from None
    finally:
        shutil.rmtree(whole, ignore_errors=True)


def _converter(whole: Path, config: Any) -> Any:
    """The package's converter of a checkpoint, which is told the size of a head.

    For most architectures it divides the width of the embeddings by the number of heads, which is another size where
    heads were taken out (``axes``); a layer that says its own size is believed.
    """
    converter, size = load_converter().TransformersConverter(str(whole)), head_dim(config)
    if size * config.num_attention_heads == config.hidden_size:
        return converter
    read = converter._load

    def told() -> Any:
        spec = read()
        for layer in spec.decoder.layer:
            # Its own fields are fixed once it is made.
            object.__setattr__(layer.self_attention, "head_dim", np.dtype("int32").type(size))
        return spec

    converter._load = told
    return converter


def _with_begin(config: Path) -> None:
    """The package refuses to load what it writes of a model without a first token; it is given whole prompts, so that
    the last one may stand in."""
    said = json.loads(config.read_text(encoding="utf-8"))
    if said.get("bos_token") is None:
        config.write_text(json.dumps({**said, "bos_token": said["eos_token"]}, indent=2, sort_keys=True) + "\n")
