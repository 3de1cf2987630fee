"""Policies of every kind with drawn weights, and their files, for the tests of everything that opens one."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np

from potstill.edge import seal, tensors

VOCABULARY = ["go", "to", "take", "put", "in", "cabinet", "shelf", "mug", "1", "2"]
RANKER = {
    "kind": "ranker",
    "vocabulary": VOCABULARY,
    "buckets": 5,
    "embedding": 6,
    "width": 8,
    "ages": 3,
    "age": 2,
    "query": 4,
    "hidden": 7,
}
MLP = {"kind": "mlp", "sizes": [4, 16, 3], "activation": "tanh"}
FILM = {
    "kind": "film",
    "vocabulary": ["go", "to", "put", "the", "red", "ball", "next"],
    "actions": ["go forward", "pick up", "turn left"],
    "buckets": 3,
    "size": 3,
    "symbols": [4, 3, 2],
    "embedding": 5,
    "goal": 6,
    "patch": 2,
    "memory": 7,
    "condition": 4,
    "channels": 3,
    "blocks": 2,
    "squeezed": 2,
    "hidden": 8,
}
SITUATION = {
    "goal": "put a mug in cabinet 2",
    "observation": "You see a mug 1 on shelf 2.",
    "past": [
        {"observation": "You are in a kitchen.", "action": "go to shelf 1"},
        {"observation": "Nothing is there.", "action": "go to shelf 2"},
    ],
}
ACTIONS = ["take mug 1", "go to cabinet 2", "go to shelf 2", "look"]


def ranker_shapes(config: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """The shapes of the contract in ``edge.ranker``, written out a second time."""
    e, t, a, k, h = (config[name] for name in ("embedding", "width", "age", "query", "hidden"))
    return {
        "embedding.weight": (len(config["vocabulary"]) + config["buckets"], e),
        "text.weight": (t, 2 * e),
        "text.bias": (t,),
        "age.weight": (config["ages"], a),
        "past.weight": (t, 2 * t + a),
        "past.bias": (t,),
        "query.weight": (k, 3 * t),
        "key.weight": (k, t),
        "nothing.key": (k,),
        "nothing.value": (t,),
        "hidden.weight": (h, 7 * t + 4),
        "hidden.bias": (h,),
        "score.weight": (1, h),
        "score.bias": (1,),
    }


def ranker_arrays(config: dict[str, Any] = RANKER, seed: int = 0) -> dict[str, np.ndarray]:
    drawn = np.random.default_rng(seed)
    return {name: drawn.normal(0, 0.7, shape).astype(np.float32) for name, shape in ranker_shapes(config).items()}


def film_shapes(config: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """The shapes of the contract in ``edge.film``, written out a second time."""
    e, g, p, m = (config[name] for name in ("embedding", "goal", "patch", "memory"))
    k, c, q, h = (config[name] for name in ("condition", "channels", "squeezed", "hidden"))
    n, cells, kinds = len(config["actions"]), config["size"] ** 2, sum(config["symbols"])
    layers = {
        "goal.input": (3 * g, e),
        "goal.hidden": (3 * g, g),
        "turn": (m, cells * p),
        "start": (m, g),
        "memory.input": (3 * m, m),
        "memory.hidden": (3 * m, m),
        "condition": (k, g + m),
        "wanted": (c, k),
        "squeeze": (q, c),
        "hidden": (h, cells * q + k),
        "score": (n, h),
    }
    for block in range(config["blocks"]):
        layers |= {f"block.{block}.conv": (c, 9 * c), f"block.{block}.film": (2 * c, k)}
    tables = {
        "word": (len(config["vocabulary"]) + config["buckets"], e),
        "patch": (kinds, p),
        "action": (n + 1, m),
        "facing": (4, m),
        "direction": (4, k),
        "symbol": (kinds, c),
        "place": (cells, c),
    }
    weights = {f"{name}.weight": shape for name, shape in (tables | layers).items()}
    return weights | {f"{name}.bias": shape[:1] for name, shape in layers.items()}


def film_arrays(config: dict[str, Any] = FILM, seed: int = 0) -> dict[str, np.ndarray]:
    drawn = np.random.default_rng(seed)
    return {name: drawn.normal(0, 0.5, shape).astype(np.float32) for name, shape in film_shapes(config).items()}


def grid_text(drawn: random.Random, config: dict[str, Any] = FILM) -> str:
    """A drawn observation for a grid student."""
    size, symbols = config["size"], config["symbols"]
    grid = [[[drawn.randrange(most) for most in symbols] for _ in range(size)] for _ in range(size)]
    return json.dumps({"grid": grid, "direction": drawn.randrange(4)})


def mlp_arrays(config: dict[str, Any] = MLP, seed: int = 0) -> dict[str, np.ndarray]:
    drawn, arrays = np.random.default_rng(seed), {}
    for index, (wide, out) in enumerate(zip(config["sizes"], config["sizes"][1:], strict=False)):
        arrays[f"layers.{index}.weight"] = drawn.normal(0, 0.7, (out, wide)).astype(np.float32)
        arrays[f"layers.{index}.bias"] = drawn.normal(0, 0.7, out).astype(np.float32)
    return arrays


def texts(arrays: dict[str, np.ndarray], config: dict[str, Any], manifest: dict[str, Any] | None = None) -> Any:
    """The metadata that a runtime asks for, made without the code that writes artefacts."""
    config_text = seal.canonical(config)
    hashes = {"config_sha256": seal.text_sha256(config_text), "arrays_sha256": seal.arrays_sha256(arrays)}
    manifest_text = seal.canonical({"version": 1, **hashes, **(manifest or {})})
    return {seal.CONFIG: config_text, seal.MANIFEST: manifest_text, seal.SEAL: seal.text_sha256(manifest_text)}


def write_policy(path: Path, arrays: dict[str, np.ndarray] | None = None, config: dict[str, Any] = RANKER) -> Path:
    """A whole policy file; without arrays, drawn ones of the configuration's kind."""
    if arrays is None:
        arrays = {"ranker": ranker_arrays, "film": film_arrays, "mlp": mlp_arrays}[config["kind"]](config)
    path.write_bytes(tensors.to_bytes(arrays, texts(arrays, config)))
    return path
