"""Taking units, weights and bits out of arrays: what stays computes what it did, and each formula by hand."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import policy_files as files
from potstill.distill.weights.compress.axes import Axis, Part, axes_of, shrunk, taken
from potstill.distill.weights.compress.masks import masked, masks_of
from potstill.distill.weights.compress.quantize import in_bits, multiplied_out
from potstill.distill.weights.compress.recipe import Compression
from potstill.distill.weights.compress.scores import by_magnitude, by_taylor, kept
from potstill.edge.film import Film
from potstill.edge.layers import SCALE, packed, unpacked
from potstill.edge.mlp import Mlp
from potstill.edge.policy import Policy, network
from potstill.edge.ranker import Ranker
from potstill.errors import ConfigError

EVERY = {"mlp": files.mlp_arrays, "ranker": files.ranker_arrays, "film": files.film_arrays}
FILM_AXES = ("embedding", "goal", "patch", "memory", "condition", "channels", "squeezed", "hidden")
DEEP = {"kind": "mlp", "sizes": [4, 6, 5, 3], "activation": "relu"}
VECTORS = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32)


def logits(arrays: dict[str, Any], config: dict[str, Any]) -> Any:
    if config["kind"] == "mlp":
        return Mlp(arrays, config).logits(VECTORS)
    if config["kind"] == "ranker":
        return Ranker(arrays, config).logits(files.SITUATION, files.ACTIONS)
    drawn = random.Random(0)
    past = [{"observation": files.grid_text(drawn), "action": action} for action in files.FILM["actions"]]
    told = {"goal": "put the red ball next to", "observation": files.grid_text(drawn), "past": past}
    return Film(arrays, config).logits(told, list(files.FILM["actions"]))


def silenced(arrays: dict[str, Any], axis: Axis, units: list[int]) -> dict[str, Any]:
    """The arrays with everything that belongs to these units at zero."""
    found = {name: array.copy() for name, array in arrays.items()}
    for part in axis.parts:
        view = np.moveaxis(found[part.array], part.dimension, 0)
        for unit in units:
            view[part.start + unit] = 0
    return found


@pytest.mark.parametrize(
    ("config", "name"),
    [(DEEP, "layers.0"), (DEEP, "layers.1")]
    + [(files.RANKER, name) for name in ("hidden", "width", "embedding", "query", "age")]
    + [(files.FILM, name) for name in FILM_AXES],
)
@settings(max_examples=10, deadline=None)
@given(data=st.data())
def test_units_that_are_silent_can_be_taken_out_and_nothing_changes(
    config: dict[str, Any], name: str, data: st.DataObject
) -> None:
    arrays = EVERY[config["kind"]](config)
    axis = axes_of(config)[name]
    keep = data.draw(st.lists(st.sampled_from(range(axis.size)), min_size=1, unique=True))
    quiet = silenced(arrays, axis, [unit for unit in range(axis.size) if unit not in keep])
    smaller, told = shrunk(arrays, config, name, keep)
    np.testing.assert_allclose(logits(smaller, told), logits(quiet, config), rtol=2e-4, atol=2e-4)
    assert sum(array.size for array in smaller.values()) <= sum(array.size for array in arrays.values())
    assert axes_of(told)[name].size == len(keep)


def test_every_number_of_a_ranker_but_the_tables_rows_belongs_to_an_axis() -> None:
    """Half of all units: matrices inside shrink to a quarter, as the contract's shapes say."""
    arrays, config = files.ranker_arrays(), dict(files.RANKER)
    for name, axis in axes_of(files.RANKER).items():
        arrays, config = shrunk(arrays, config, name, range(axis.size // 2))
    assert {name: array.shape for name, array in arrays.items()} == files.ranker_shapes(config)
    assert (config["width"], config["query"], config["hidden"]) == (4, 2, 3)


def test_every_number_of_a_grid_student_but_those_of_symbols_words_and_actions_belongs_to_an_axis() -> None:
    """A third of each axis stays: the contract's shapes again, and none of the numbers that count something."""
    arrays, config = files.film_arrays(), dict(files.FILM)
    assert tuple(axes_of(config)) == FILM_AXES
    for name, axis in axes_of(files.FILM).items():
        arrays, config = shrunk(arrays, config, name, range(max(1, axis.size // 3)))
    assert {name: array.shape for name, array in arrays.items()} == files.film_shapes(config)
    assert [config[name] for name in FILM_AXES] == [1, 2, 1, 2, 1, 1, 1, 2]
    assert {name for name in config if config[name] != files.FILM[name]} == set(FILM_AXES)


def test_fewer_query_dimensions_are_rescaled() -> None:
    """q.k / sqrt(4) with two of four dimensions must be what the four gave with two silent: weights times sqrt(2/4)."""
    arrays, _ = shrunk(files.ranker_arrays(), files.RANKER, "query", [0, 3])
    np.testing.assert_allclose(arrays["query.weight"], files.ranker_arrays()["query.weight"][[0, 3]] * 0.5**0.5)


@pytest.mark.parametrize("units", [[], [0, 0], [-1], [7], [0, 99]])
def test_units_that_are_none_are_refused(units: list[int]) -> None:
    with pytest.raises(ConfigError, match="'hidden' are 0 to 6"):
        shrunk(files.ranker_arrays(), files.RANKER, "hidden", units)


def test_other_kinds_and_axes_are_named() -> None:
    with pytest.raises(ConfigError, match="No kind of policy with units to prune named 'lm'"):
        axes_of({"kind": "lm"})
    with pytest.raises(ConfigError, match="Did you mean 'hidden'"):
        shrunk(files.ranker_arrays(), files.RANKER, "hiden", [0])


# --- scores ---------------------------------------------------------------------------------------------------------


def test_scores_by_hand() -> None:
    """Unit 0 of w is row (3, 4) and bias 12: the root of 9 + 16 + 144 is 13. Unit 1: (0, 1) and 0."""
    axis = Axis("x", 2, (Part("w", 0), Part("b", 0)))
    arrays = {"w": np.array([[3.0, 4.0], [0.0, 1.0]]), "b": np.array([12.0, 0.0])}
    assert by_magnitude(arrays, axis).tolist() == [13.0, 1.0]
    # products of two batches: unit 0 sums to 1 + 2 - 3 = 0, then 4; unit 1 to 2, then -2: means of squares 8 and 4
    batches = [
        {"w": np.array([[1.0, 2.0], [2.0, 0.0]]), "b": np.array([-3.0, 0.0])},
        {"w": np.array([[4.0, 0.0], [0.0, 0.0]]), "b": np.array([0.0, -2.0])},
    ]
    assert by_taylor(batches, axis).tolist() == [8.0, 4.0]


def test_units_of_several_numbers_by_hand() -> None:
    """Two heads of two numbers each: rows 0 and 1, 2 and 3 of what makes them, columns of what reads them."""
    axis = Axis("heads", 2, (Part("q", 0, width=2), Part("o", 1, start=1, width=2)))
    arrays = {"q": np.array([[1.0], [2.0], [0.0], [3.0]]), "o": np.array([[9.0, 2.0, 4.0, 0.0, 4.0, 9.0]])}
    assert by_magnitude(arrays, axis).tolist() == [5.0, 5.0]  # the roots of 1 + 4 + 4 + 16 and 9 + 16
    assert by_taylor([arrays], axis).tolist() == [81.0, 49.0]  # 1 + 2 + 2 + 4 and 3 + 4, squared
    small = taken(arrays, axis, [1])
    assert (small["q"].tolist(), small["o"].tolist()) == ([[0.0], [3.0]], [[9.0, 0.0, 4.0, 9.0]])


@given(st.lists(st.floats(0, 10), min_size=1, max_size=30), st.floats(0.01, 0.99))
def test_the_best_stay_in_their_order(scores: list[float], share: float) -> None:
    stay = kept(np.array(scores), share)
    assert stay == sorted(set(stay))
    assert len(stay) == max(1, len(scores) - int(len(scores) * share + 1e-9))
    gone = [score for unit, score in enumerate(scores) if unit not in stay]
    assert not gone or min(scores[unit] for unit in stay) >= max(gone)


@given(st.integers(1, 12), st.integers(1, 12), st.floats(0, 0.99), st.integers(0, 99))
def test_masks_take_the_smallest_weights_of_each_matrix(rows: int, columns: int, share: float, seed: int) -> None:
    matrix = np.random.default_rng(seed).normal(size=(rows, columns)).astype(np.float32)
    arrays = {"x.weight": matrix, "x.bias": np.ones(rows, np.float32)}
    masks = masks_of(arrays, share)
    assert list(masks) == ["x.weight"]
    assert (~masks["x.weight"]).sum() == int(matrix.size * share + 1e-9)
    found = masked(arrays, masks)
    assert np.abs(matrix[~masks["x.weight"]]).max(initial=0) <= np.abs(matrix[masks["x.weight"]]).min()
    assert (found["x.weight"] == 0).sum() == (~masks["x.weight"]).sum()
    assert found["x.bias"].all()


# --- bits -----------------------------------------------------------------------------------------------------------


@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 99))
def test_four_bits_are_within_half_a_step_and_take_half_a_byte(rows: int, half: int, seed: int) -> None:
    matrix = np.random.default_rng(seed).normal(size=(rows, 2 * half)).astype(np.float32)
    halves, scale = packed(matrix)
    assert halves.shape == (rows, half)
    back = unpacked(halves).astype(np.float32) * scale[:, None]
    assert (np.abs(back - matrix) <= scale[:, None] * 0.501).all()
    np.testing.assert_allclose(np.abs(back).max(axis=1), np.abs(matrix).max(axis=1), rtol=1e-5)


@pytest.mark.parametrize("bits", [8, 4])
def test_few_bits_act_as_what_they_stand_for(bits: int) -> None:
    for config in (files.RANKER, files.MLP, files.FILM):
        arrays = EVERY[config["kind"]](config)
        small = in_bits(arrays, bits)
        np.testing.assert_allclose(logits(small, config), logits(multiplied_out(small), config), rtol=1e-5, atol=1e-5)
        assert Policy(network(small, config), config, {}, small, 1.0).parameters == sum(
            array.size for array in arrays.values()
        )
        assert not np.allclose(logits(small, config), logits(arrays, config), atol=1e-6)


def test_matrices_with_an_odd_number_of_columns_stay_in_eight_bits() -> None:
    small = in_bits({"odd.weight": np.ones((2, 3), np.float32), "even.weight": np.ones((2, 4), np.float32)}, 4)
    assert (small["odd.weight"].dtype, small["even.weight"].dtype) == (np.int8, np.uint8)
    assert small["odd.weight" + SCALE].shape == (2,)
    with pytest.raises(ConfigError, match="few bits already"):
        in_bits(small, 8)
    with pytest.raises(ConfigError, match="3 bits"):
        in_bits({}, 3)


def test_a_file_whose_halves_do_not_fit_is_refused() -> None:
    small = in_bits(files.ranker_arrays(), 4)
    for wrong in (small["text.weight"][:, :-1], np.zeros((8, 12), np.uint8)):
        with pytest.raises(ValueError, match=r"text.weight.*shape"):
            Ranker({**small, "text.weight": wrong}, files.RANKER)
    del small["text.weight" + SCALE]
    with pytest.raises(ValueError, match=r"text.weight.scale"):
        Ranker(small, files.RANKER)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "--prune 0.5 --int8"),
        ({"prune": (1.0,)}, "units to prune is 1.0"),
        ({"prune": (0.0,)}, "Allowed: 0.01 to 0.99"),
        ({"sparse": -0.1}, "weights to set to zero is -0.1"),
        ({"bits": (2,)}, "2 bits"),
        ({"width": 1000}, "width to distil into is 1000"),
        ({"bits": (8,), "hard_share": 1.5}, "share of recorded actions is 1.5"),
        ({"bits": (8,), "finetune_steps": 0}, "finetune_steps is 0"),
        ({"bits": (8,), "score": "taylr"}, "Did you mean 'taylor'"),
    ],
)
def test_a_recipe_that_means_nothing_is_one_line(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said.replace("(", r"\(")):
        Compression(**options)
