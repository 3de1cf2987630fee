"""Sentence embeddings on this machine: an ONNX model and its tokenizer from a folder, and a cache for any embedder.

What it knows: mean pooling, unit length, batches of similar length. What it does not do: downloads, endpoints
(``http_embedder``). ``all-MiniLM-L6-v2`` (384 dimensions) is the model that it is tested with.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from potstill.errors import BadModelFile, ConfigError, MissingExtra
from potstill.protocols import Embedder, FloatMatrix


def unit_rows(matrix: NDArray[Any]) -> FloatMatrix:
    """Rows scaled to Euclidean norm 1; a row of zeros stays zeros."""
    rows = np.asarray(matrix, dtype=np.float32)
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.maximum(norms, 1e-12), dtype=np.float32)


class OnnxEmbedder:
    """Embeds with ``*.onnx`` and ``tokenizer.json`` of a folder, or with an ``.onnx`` file beside its tokenizer.

    A model that answers (batch, tokens, dimension) is mean-pooled over its attention mask; one that answers
    (batch, dimension) is taken as it is. Models with dynamic int8 quantisation scale by batch: the same text
    in other company differs in the third digit.
    Raises ``MissingExtra`` without onnxruntime and tokenizers, ``BadModelFile`` for files that are not such a model.
    """

    def __init__(self, path: str | Path, *, threads: int = 1, max_tokens: int = 256, batch: int = 32) -> None:
        model_file, tokenizer_file = _find_files(Path(path))
        try:
            import onnxruntime  # type: ignore[import-not-found,import-untyped,unused-ignore]
            import tokenizers  # type: ignore[import-not-found,import-untyped,unused-ignore]
        except ImportError as problem:
            raise MissingExtra("An ONNX embedder", "embed") from problem
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        try:
            self._session = onnxruntime.InferenceSession(
                str(model_file), sess_options=options, providers=["CPUExecutionProvider"]
            )
        except Exception as problem:
            raise BadModelFile(f"{model_file} is not a readable ONNX model: {_first_line(problem)}") from problem
        try:
            self._tokenizer = tokenizers.Tokenizer.from_file(str(tokenizer_file))
        except Exception as problem:
            raise BadModelFile(f"{tokenizer_file} is not a readable tokenizer: {_first_line(problem)}") from problem
        self._tokenizer.enable_truncation(max_length=max_tokens)
        self._tokenizer.no_padding()
        self._inputs = {entry.name for entry in self._session.get_inputs()}
        self._batch = batch
        self._name = f"onnx:{model_file.stem}"
        self._dimension = int(self._run([self._tokenizer.encode("x")]).shape[1])

    @property
    def name(self) -> str:
        return self._name

    @property
    def dimension(self) -> int:
        return self._dimension

    def embed(self, texts: Sequence[str]) -> FloatMatrix:
        encodings = self._tokenizer.encode_batch(list(texts))
        matrix = np.zeros((len(texts), self._dimension), dtype=np.float32)
        by_length = sorted(range(len(encodings)), key=lambda position: len(encodings[position].ids))
        for start in range(0, len(by_length), self._batch):
            chosen = by_length[start : start + self._batch]
            matrix[chosen] = self._run([encodings[position] for position in chosen])
        return unit_rows(matrix)

    def _run(self, encodings: list[Any]) -> NDArray[np.float32]:
        longest = max(1, *(len(encoding.ids) for encoding in encodings))
        ids_BT = np.zeros((len(encodings), longest), dtype=np.int64)
        mask_BT = np.zeros_like(ids_BT)
        for row, encoding in enumerate(encodings):
            ids_BT[row, : len(encoding.ids)] = encoding.ids
            mask_BT[row, : len(encoding.ids)] = 1
        feeds = {"input_ids": ids_BT, "attention_mask": mask_BT, "token_type_ids": np.zeros_like(ids_BT)}
        try:
            output = self._session.run(None, {name: feeds[name] for name in self._inputs})[0]
        except Exception as problem:
            raise BadModelFile(f"{self._name} is not a sentence encoder: {_first_line(problem)}") from problem
        return np.asarray(output, dtype=np.float32) if output.ndim == 2 else mean_pool(output, mask_BT)


def mean_pool(hidden_BTD: NDArray[Any], mask_BT: NDArray[Any]) -> NDArray[np.float32]:
    """The mean of the hidden states whose mask is 1, shape (batch, dimension)."""
    weights_BT1 = mask_BT[:, :, None].astype(np.float32)
    totals_BD = (hidden_BTD * weights_BT1).sum(axis=1)
    return np.asarray(totals_BD / np.maximum(weights_BT1.sum(axis=1), 1e-9), dtype=np.float32)


class CachedEmbedder:
    """Remembers the last ``capacity`` vectors by the hash of their text: observations repeat. Safe in threads."""

    def __init__(self, embedder: Embedder, capacity: int = 50_000) -> None:
        if capacity < 1:
            raise ConfigError(f"An embedding cache of {capacity} vectors is not possible. Allowed: 1 or more.")
        self._embedder = embedder
        self._capacity = capacity
        self._rows: OrderedDict[bytes, NDArray[np.float32]] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def name(self) -> str:
        return self._embedder.name

    @property
    def dimension(self) -> int:
        return self._embedder.dimension

    def embed(self, texts: Sequence[str]) -> FloatMatrix:
        keys = [hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest() for text in texts]
        found: dict[bytes, NDArray[np.float32]] = {}
        with self._lock:
            for key in keys:
                if key in self._rows:
                    self._rows.move_to_end(key)
                    found[key] = self._rows[key]
        missing = {key: text for key, text in zip(keys, texts, strict=True) if key not in found}
        if missing:
            rows = self._embedder.embed(list(missing.values()))
            fresh = {key: row.copy() for key, row in zip(missing, rows, strict=True)}
            found.update(fresh)
            self._remember(fresh)
        if not keys:
            return np.zeros((0, self.dimension), dtype=np.float32)
        return np.stack([found[key] for key in keys])

    def _remember(self, fresh: dict[bytes, NDArray[np.float32]]) -> None:
        with self._lock:
            self._rows.update(fresh)
            while len(self._rows) > self._capacity:
                self._rows.popitem(last=False)


def _find_files(path: Path) -> tuple[Path, Path]:
    if not path.exists():
        raise ConfigError(f"There is no ONNX model at {path}. Give a folder with model.onnx and tokenizer.json.")
    folder = path if path.is_dir() else path.parent
    models = [path] if path.is_file() else sorted(folder.glob("*.onnx")) or sorted(folder.glob("onnx/*.onnx"))
    preferred = [model for model in models if model.name == "model.onnx"] or models
    if not preferred or (len(preferred) > 1 and preferred[0].name != "model.onnx"):
        names = ", ".join(model.name for model in models) or "none"
        raise ConfigError(f"{folder} must hold one model.onnx; ONNX files there: {names}. Name the file itself.")
    tokenizer = folder / "tokenizer.json"
    if not tokenizer.is_file():
        raise ConfigError(f"There is no tokenizer.json beside {preferred[0]}. Put the model's own tokenizer there.")
    return preferred[0], tokenizer


def _first_line(problem: Exception) -> str:
    return (str(problem).splitlines() or [type(problem).__name__])[0][:200]
