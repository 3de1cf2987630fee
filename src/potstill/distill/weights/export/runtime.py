"""An ONNX policy in ONNX Runtime, as the parity gate asks it. Knows how a model is run, not what it should answer."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from potstill.distill.weights.export import feed
from potstill.distill.weights.export.networks import LOGITS
from potstill.distill.weights.gate import Side
from potstill.edge.film import grid_form
from potstill.edge.words import Words
from potstill.errors import BadModelFile, ConfigError, MissingExtra


def load_runtime() -> Any:
    """The package ``onnxruntime``. Raises ``MissingExtra`` where it is not installed."""
    try:
        return importlib.import_module("onnxruntime")
    except ImportError:
        raise MissingExtra("Running ONNX", "onnx") from None


def session(model: Path | bytes, threads: int = 1) -> Any:
    """A session on the processor. Raises ``BadModelFile`` where ONNX Runtime refuses the file, ``ConfigError``."""
    ort = load_runtime()
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = threads
    options.log_severity_level = 3
    try:
        data = model if isinstance(model, bytes) else model.read_bytes()
        return ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except OSError as error:
        raise ConfigError(f"Cannot read {model!s:.200}: {error.strerror}.") from None
    except Exception as error:  # its own exceptions have no common class
        raise BadModelFile(f"ONNX Runtime refuses the model: {' '.join(str(error).split())[:300]}") from None


def onnx_side(running: Any, config: Mapping[str, Any]) -> Side:
    """A session as the gate asks it: questions of any length in one batch."""
    if config["kind"] == "mlp":
        return lambda questions: list(running.run([LOGITS], feed.vectors(questions))[0])
    words = Words(config["vocabulary"], config["buckets"])
    if config["kind"] == "film":
        return _grid_side(running, config, words)

    def answer(questions: Sequence[Any]) -> list[Any]:
        logits_BN = running.run([LOGITS], feed.texts(questions, words))[0]
        return [row[: len(question.admissible)] for row, question in zip(logits_BN, questions, strict=True)]

    return answer


def _grid_side(running: Any, config: Mapping[str, Any], words: Words) -> Side:
    form = grid_form(config)
    numbers = {action: number for number, action in enumerate(config["actions"])}

    def answer(questions: Sequence[Any]) -> list[Any]:
        logits_BA = running.run([LOGITS], feed.grids(questions, words, form, numbers))[0]
        asked = ([numbers[action] for action in question.admissible] for question in questions)
        return [row[chosen] for row, chosen in zip(logits_BA, asked, strict=True)]

    return answer
