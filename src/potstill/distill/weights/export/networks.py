"""The forward passes of ``edge`` as ONNX graphs: the same names and formulas, whole batches, free sizes.

What each input is stands in ``feed``, which makes them. Letters: B questions, N candidates, T past turns, U distinct
texts of a batch, L words of the longest; e, t, a, k, h as in ``edge.ranker``. Padding is -1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from potstill.distill.weights.export.film_graph import film_graph
from potstill.distill.weights.export.graph import Graph
from potstill.edge import seal
from potstill.edge.policy import Policy
from potstill.edge.ranker import SCALARS
from potstill.edge.tensors import Array
from potstill.errors import one_of

LOWEST = -3.4e38
"""Below every number that a network of single precision makes; minus infinity times 0 would be no number."""
LOGITS = "logits"


def graph_of(policy: Policy) -> bytes:
    """The ONNX file of a policy, equal bytes for equal policies. Raises ``MissingExtra``, ``UnknownName`` for its kind.

    The configuration (a ranker's vocabulary, actions' names, the calibration's temperature) is in its metadata.
    """
    texts = {seal.CONFIG: seal.canonical(dict(policy.config))}
    one_of("kind of policy for ONNX", policy.kind, _GRAPHS)
    return _GRAPHS[policy.kind](policy.arrays, policy.config, texts)


def _mlp(arrays: Mapping[str, Array], config: Mapping[str, Any], texts: Mapping[str, str]) -> bytes:
    """``x_BD`` (B, D) to ``logits`` (B, A)."""
    g, sizes = Graph(arrays), config["sizes"]
    x = "x_BD"
    if "input.mean" in arrays:
        x = g.op("Mul", g.op("Sub", x, g.weight("input.mean")), g.weight("input.scale"))
    for index in range(len(sizes) - 1):
        x = g.linear(x, f"layers.{index}.weight", f"layers.{index}.bias")
        if index < len(sizes) - 2:
            x = g.op("Tanh" if config.get("activation") == "tanh" else "Relu", x)
    return g.model({"x_BD": ("FLOAT", ("B", sizes[0]))}, (x, LOGITS, ("B", sizes[-1])), texts)


def _ranker(arrays: Mapping[str, Array], config: Mapping[str, Any], texts: Mapping[str, str]) -> bytes:
    """The inputs of ``feed.texts`` to ``logits`` (B, N), minus infinity where there is no candidate."""
    g = Graph(arrays)
    text_Ut = _texts(g)
    zero, one = g.constant(0, np.int64), g.constant([1], np.int64)
    at_BN = g.op("Max", "candidate_BN", zero)
    c_BNt = g.op("Gather", text_Ut, at_BN, axis=0)
    shape = g.op("Shape", c_BNt)
    goal_BNt, seen_BNt = (
        g.op("Expand", g.op("Unsqueeze", g.op("Gather", text_Ut, name, axis=0), one), shape)
        for name in ("goal_B", "observation_B")
    )
    query_BNk = g.linear(g.op("Concat", c_BNt, goal_BNt, seen_BNt, axis=-1), "query.weight")
    hist_BNt = _history(g, text_Ut, query_BNk, config)
    products = [g.op("Mul", c_BNt, other) for other in (goal_BNt, seen_BNt, hist_BNt)]
    f = g.op("Concat", c_BNt, goal_BNt, seen_BNt, hist_BNt, *products, "scalars_BNS", axis=-1)
    hidden = g.op("Relu", g.linear(f, "hidden.weight", "hidden.bias"))
    score_BN = g.op("Squeeze", g.linear(hidden, "score.weight", "score.bias"), g.constant([-1], np.int64))
    there_BN = g.op("GreaterOrEqual", "candidate_BN", zero)
    logits = g.op("Where", there_BN, score_BN, g.constant(-math.inf))
    inputs = {
        "words_UL": ("INT64", ("U", "L")),
        "goal_B": ("INT64", ("B",)),
        "observation_B": ("INT64", ("B",)),
        "candidate_BN": ("INT64", ("B", "N")),
        "past_action_BT": ("INT64", ("B", "T")),
        "past_observation_BT": ("INT64", ("B", "T")),
        "scalars_BNS": ("FLOAT", ("B", "N", SCALARS)),
    }
    return g.model(inputs, (logits, LOGITS, ("B", "N")), texts)


def _texts(g: Graph) -> str:
    """The vector of each distinct text, (U, t); zeros where it has no word."""
    zero, along = g.constant(0, np.int64), g.constant([1], np.int64)
    there_UL = g.op("GreaterOrEqual", "words_UL", zero)
    there_UL1 = g.op("Unsqueeze", there_UL, g.constant([2], np.int64))
    rows_ULe = g.rows("embedding.weight", g.op("Max", "words_UL", zero))
    count_U1 = g.op("ReduceSum", g.cast(there_UL, "FLOAT"), along, keepdims=1)
    summed = g.op("ReduceSum", g.op("Where", there_UL1, rows_ULe, g.constant(0.0)), along, keepdims=0)
    mean_Ue = g.op("Div", summed, g.op("Max", count_U1, g.constant(1.0)))
    most_Ue = g.op("ReduceMax", g.op("Where", there_UL1, rows_ULe, g.constant(LOWEST)), axes=[1], keepdims=0)
    worded_U1 = g.op("Greater", count_U1, g.constant(0.0))
    pooled = g.op("Concat", mean_Ue, g.op("Where", worded_U1, most_Ue, g.constant(0.0)), axis=-1)
    return g.op("Where", worded_U1, g.op("Relu", g.linear(pooled, "text.weight", "text.bias")), g.constant(0.0))


def _history(g: Graph, text_Ut: str, query_BNk: str, config: Mapping[str, Any]) -> str:
    """What each candidate's query finds among the past turns, (B, N, t)."""
    zero, along = g.constant(0, np.int64), g.constant([1], np.int64)
    turns = _Turns(*(g.op("Gather", text_Ut, g.op("Max", name, zero), axis=0) for name in _Turns._fields))
    there_BT = g.op("GreaterOrEqual", "past_action_BT", zero)
    counted_BT = g.cast(there_BT, "INT64")
    length_B1 = g.op("ReduceSum", counted_BT, along, keepdims=1)
    nth_BT = g.op("CumSum", counted_BT, g.constant(1, np.int64))
    age_BT = g.op("Min", g.op("Sub", length_B1, nth_BT), g.constant(config["ages"] - 1, np.int64))
    parts = g.op("Concat", turns.past_action_BT, turns.past_observation_BT, g.rows("age.weight", age_BT), axis=-1)
    past_BTt = g.op("Relu", g.linear(parts, "past.weight", "past.bias"))
    size_B = g.op("Shape", "goal_B")
    keys = _behind(g, "nothing.key", size_B, config["query"], g.linear(past_BTt, "key.weight"))
    values = _behind(g, "nothing.value", size_B, config["width"], past_BTt)
    asked = g.op("MatMul", query_BNk, g.op("Transpose", keys, perm=[0, 2, 1]))
    asked = g.op("Mul", asked, g.constant(1.0 / math.sqrt(config["query"])))
    open_B1 = g.op("GreaterOrEqual", g.op("Unsqueeze", "goal_B", along), zero)
    there_B1T = g.op("Unsqueeze", g.op("Concat", open_B1, there_BT, axis=1), along)
    weights = g.op("Softmax", g.op("Where", there_B1T, asked, g.constant(LOWEST)), axis=-1)
    return g.op("MatMul", weights, values)


class _Turns(NamedTuple):
    """Vectors of what was done and seen, (B, T, t) each, under the names of the inputs that point at them."""

    past_action_BT: str
    past_observation_BT: str


def _behind(g: Graph, name: str, size_B: str, width: int, past_BTw: str) -> str:
    """The vector that stands for no turn at all, then those of the turns, (B, 1 + T, width)."""
    whole = g.op("Concat", size_B, g.constant([1, width], np.int64), axis=0)
    return g.op("Concat", g.op("Expand", g.weight(name), whole), past_BTw, axis=1)


def _film(arrays: Mapping[str, Array], config: Mapping[str, Any], texts: Mapping[str, str]) -> bytes:
    return film_graph(arrays, config, texts, LOGITS)


_GRAPHS: dict[str, Callable[[Mapping[str, Array], Mapping[str, Any], Mapping[str, str]], bytes]] = {
    "mlp": _mlp,
    "ranker": _ranker,
    "film": _film,
}
