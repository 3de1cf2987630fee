"""The forward pass of ``edge.film`` as an ONNX graph: the same names and formulas, whole batches, free sizes.

What each input is stands in ``feed.grids``. Letters: B questions, W words of the longest mission, T past turns, S cells
of a grid, K numbers of a cell; c, e, g, k, m, p, q as in ``edge.film``. Padding is -1.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from potstill.distill.weights.export.graph import Graph
from potstill.edge.film import neighbours
from potstill.edge.tensors import Array


def film_graph(arrays: Mapping[str, Array], config: Mapping[str, Any], texts: Mapping[str, str], logits: str) -> bytes:
    """The inputs of ``feed.grids`` to ``logits`` (B, A), in the order of the configuration's actions."""
    g = Graph(arrays)
    cells, numbers, actions = config["size"] ** 2, len(config["symbols"]), len(config["actions"])
    goal_Bg = _mission(g, config["goal"])
    mind_Bm = _mind(g, goal_Bg, config["memory"])
    said_Bk = g.linear(g.op("Concat", goal_Bg, mind_Bm, axis=1), "condition.weight", "condition.bias")
    cond_Bk = g.op("Relu", g.op("Add", said_Bk, g.rows("direction.weight", "direction_B")))
    wanted_B1c = _between(g, g.linear(cond_Bk, "wanted.weight", "wanted.bias"))
    x_BSc = g.op("Add", g.op("Mul", _symbols(g, "symbol.weight", "cell_BSK"), wanted_B1c), g.weight("place.weight"))
    near = g.table("near", neighbours(config["size"]).reshape(-1))
    for block in range(config["blocks"]):
        x_BSc = _block(g, f"block.{block}", x_BSc, cond_Bk, near, config["channels"], cells)
    squeezed = g.op("Relu", g.linear(x_BSc, "squeeze.weight", "squeeze.bias"))
    seen = g.op("Reshape", squeezed, g.constant([0, -1], np.int64))
    inner = g.op("Relu", g.linear(g.op("Concat", seen, cond_Bk, axis=1), "hidden.weight", "hidden.bias"))
    score_BA = g.linear(inner, "score.weight", "score.bias")
    inputs = {
        "words_BW": ("INT64", ("B", "W")),
        "cell_BSK": ("INT64", ("B", cells, numbers)),
        "direction_B": ("INT64", ("B",)),
        "past_cell_BTSK": ("INT64", ("B", "T", cells, numbers)),
        "past_direction_BT": ("INT64", ("B", "T")),
        "past_action_BT": ("INT64", ("B", "T")),
    }
    return g.model(inputs, (score_BA, logits, ("B", actions)), texts)


def _mission(g: Graph, width: int) -> str:
    """The state behind the mission's last word, (B, g); zeros where it has none."""
    rows_BWe = g.rows("word.weight", g.op("Max", "words_BW", g.constant(0, np.int64)))
    return _unit(g, "goal", rows_BWe, _counted(g, "words_BW"), width)


def _mind(g: Graph, goal_Bg: str, width: int) -> str:
    """The state behind the last past turn, (B, m)."""
    start_Bm = g.op("Tanh", g.linear(goal_Bg, "start.weight", "start.bias"))
    patch_BTSp = _symbols(g, "patch.weight", "past_cell_BTSK")
    flat = g.op("Reshape", patch_BTSp, g.constant([0, 0, -1], np.int64))
    done = g.rows("action.weight", g.op("Max", "past_action_BT", g.constant(0, np.int64)))
    said = g.op("Add", g.linear(flat, "turn.weight", "turn.bias"), g.rows("facing.weight", "past_direction_BT"))
    turn_BTm = g.op("Relu", g.op("Add", said, done))
    return _unit(g, "memory", turn_BTm, _counted(g, "past_action_BT"), width, start_Bm)


def _symbols(g: Graph, table: str, numbers: str) -> str:
    """The rows of a cell's numbers, summed over these."""
    return g.op("ReduceSum", g.rows(table, numbers), g.constant([-2], np.int64), keepdims=0)


def _counted(g: Graph, padded_BX: str) -> str:
    """How many of each row are no padding, (B,), as the operator of a recurrent unit wants it."""
    there = g.cast(g.op("GreaterOrEqual", padded_BX, g.constant(0, np.int64)), "INT32")
    return g.op("ReduceSum", there, g.constant([1], np.int64), keepdims=0)


def _unit(g: Graph, name: str, x_BXd: str, count_B: str, width: int, start_Bh: str = "") -> str:
    """The last state (B, h) of ``edge.gru``; where a sequence is empty the state that it starts from."""
    wide = g.op("Transpose", x_BXd, perm=[1, 0, 2])
    weights = [_gates(g, f"{name}.{part}.weight", width, (1, 3 * width, -1)) for part in ("input", "hidden")]
    biases = [_gates(g, f"{name}.{part}.bias", width, (1, 3 * width)) for part in ("input", "hidden")]
    first = g.op("Unsqueeze", start_Bh, g.constant([0], np.int64)) if start_Bh else ""
    given = (wide, *weights, g.op("Concat", *biases, axis=1), count_B, first)
    last_1Bh = g.op("GRU", *given, place=1, hidden_size=width, linear_before_reset=1)
    last_Bh = g.op("Squeeze", last_1Bh, g.constant([0], np.int64))
    some_B1 = g.op("Unsqueeze", g.op("Greater", count_B, g.constant(0, np.int32)), g.constant([1], np.int64))
    return g.op("Where", some_B1, last_Bh, start_Bh or g.constant(0.0))


def _gates(g: Graph, name: str, width: int, shape: tuple[int, ...]) -> str:
    """Reset, update, proposal as ONNX wants them: update first."""
    parts = g.op("Reshape", g.weight(name), g.constant([3, width, *shape[2:]], np.int64))
    turned = g.op("Gather", parts, g.constant([1, 0, 2], np.int64), axis=0)
    return g.op("Reshape", turned, g.constant(shape, np.int64))


def _block(g: Graph, name: str, x_BSc: str, cond_Bk: str, near: str, channels: int, cells: int) -> str:
    beyond = g.op("Pad", x_BSc, g.constant([0, 0, 0, 0, 1, 0], np.int64))  # the zeros that border cells see
    around = g.op("Gather", beyond, near, axis=1)
    flat = g.op("Reshape", around, g.constant([-1, cells, 9 * channels], np.int64))
    seen_BSc = g.linear(flat, f"{name}.conv.weight", f"{name}.conv.bias")
    film_Bf = g.linear(cond_Bk, f"{name}.film.weight", f"{name}.film.bias")
    by_B1c, plus_B1c = (_between(g, _part(g, film_Bf, start, channels)) for start in (0, channels))
    moved = g.op("Add", g.op("Mul", g.op("Add", by_B1c, g.constant(1.0)), seen_BSc), plus_B1c)
    return g.op("Add", x_BSc, g.op("Relu", moved))


def _part(g: Graph, x_Bf: str, start: int, width: int) -> str:
    ends = (g.constant([one], np.int64) for one in (start, start + width, 1))
    return g.op("Slice", x_Bf, *ends)


def _between(g: Graph, x_Bc: str) -> str:
    """The same for all cells, (B, 1, c)."""
    return g.op("Unsqueeze", x_Bc, g.constant([1], np.int64))
