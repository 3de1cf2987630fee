"""The forward passes against the formulas of their docstrings, written out again one number at a time in float64."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import policy_files as files
from potstill.edge.layers import SCALE, quantized
from potstill.edge.mlp import Mlp
from potstill.edge.ranker import Ranker, scalars
from potstill.edge.tensors import BadFile
from potstill.edge.words import Words, split

Vector = list[float]


def relu(values: Vector) -> Vector:
    return [max(value, 0.0) for value in values]


def times(weight: Any, values: Vector, bias: Any = None) -> Vector:
    sums = [math.fsum(float(w) * v for w, v in zip(row, values, strict=True)) for row in weight]
    return sums if bias is None else [s + float(b) for s, b in zip(sums, bias, strict=True)]


def by_hand(arrays: dict[str, Any], config: dict[str, Any], situation: Any, candidates: list[str]) -> Vector:
    words = Words(config["vocabulary"], config["buckets"])

    def text(said: str) -> Vector:
        rows = [arrays["embedding.weight"][number].astype(float) for number in words.encode(said)]
        if not rows:
            return [0.0] * config["width"]
        columns = list(zip(*rows, strict=True))
        pooled = [math.fsum(column) / len(rows) for column in columns] + [max(column) for column in columns]
        return relu(times(arrays["text.weight"], pooled, arrays["text.bias"]))

    past, turns = situation["past"], []
    for index, turn in enumerate(past):
        age = arrays["age.weight"][min(len(past) - 1 - index, config["ages"] - 1)].tolist()
        parts = text(turn["action"]) + text(turn["observation"]) + age
        turns.append(relu(times(arrays["past.weight"], parts, arrays["past.bias"])))
    keys = [arrays["nothing.key"].tolist()] + [times(arrays["key.weight"], turn) for turn in turns]
    values = [arrays["nothing.value"].tolist(), *turns]
    goal, seen = text(situation["goal"]), text(situation["observation"])
    logits = []
    for candidate, known in zip(candidates, scalars(words, situation, candidates).tolist(), strict=True):
        c = text(candidate)
        query = times(arrays["query.weight"], c + goal + seen)
        exponents = [
            math.exp(math.fsum(a * b for a, b in zip(query, key, strict=True)) / math.sqrt(config["query"]))
            for key in keys
        ]
        shares = [one / math.fsum(exponents) for one in exponents]
        hist = [
            math.fsum(share * value[i] for share, value in zip(shares, values, strict=True))
            for i in range(config["width"])
        ]
        products = [[a * b for a, b in zip(c, other, strict=True)] for other in (goal, seen, hist)]
        features = c + goal + seen + hist + products[0] + products[1] + products[2] + known
        inner = relu(times(arrays["hidden.weight"], features, arrays["hidden.bias"]))
        logits += times(arrays["score.weight"], inner, arrays["score.bias"])
    return logits


def situation(past: int = 2, **changed: str) -> dict[str, Any]:
    turns = [{"observation": f"A shelf {turn}.", "action": f"go to shelf {turn % 3}"} for turn in range(past)]
    return {**files.SITUATION, "past": turns, **changed}


@pytest.mark.parametrize("past", [0, 1, 2, 3, 4, 9])
@pytest.mark.parametrize("candidates", [files.ACTIONS, ["go to shelf 1"], ["go to shelf 1", "go to shelf 1", "", "!?"]])
def test_the_ranker_computes_its_formulas(past: int, candidates: list[str]) -> None:
    arrays = files.ranker_arrays(seed=past)
    found = Ranker(arrays, files.RANKER).logits(situation(past), candidates)
    assert found.dtype == np.float32
    assert found == pytest.approx(by_hand(arrays, files.RANKER, situation(past), candidates), rel=1e-5, abs=1e-5)


@pytest.mark.parametrize("changed", [{"goal": ""}, {"observation": ""}, {"goal": "", "observation": "日本"}])
def test_empty_texts_are_zeros(changed: dict[str, str]) -> None:
    arrays = files.ranker_arrays()
    said = situation(1, **changed)
    found = Ranker(arrays, files.RANKER).logits(said, files.ACTIONS)
    assert found == pytest.approx(by_hand(arrays, files.RANKER, said, files.ACTIONS), rel=1e-5, abs=1e-5)


def test_no_candidates_give_no_logits() -> None:
    assert Ranker(files.ranker_arrays(), files.RANKER).logits(situation(), []).shape == (0,)


def test_absent_parts_of_a_situation_are_empty() -> None:
    ranker = Ranker(files.ranker_arrays(), files.RANKER)
    empty = {"goal": "", "observation": "", "past": []}
    assert ranker.logits({}, files.ACTIONS).tolist() == ranker.logits(empty, files.ACTIONS).tolist()


def test_what_was_asked_before_changes_no_bit() -> None:
    used, fresh = (Ranker(files.ranker_arrays(), files.RANKER) for _ in range(2))
    for number in range(3000):
        used.text(f"go to shelf {number}")
    assert used.logits(situation(), files.ACTIONS).tolist() == fresh.logits(situation(), files.ACTIONS).tolist()


def test_eight_bit_weights_are_their_products_with_the_scales() -> None:
    arrays = files.ranker_arrays()
    small: dict[str, Any] = dict(arrays)
    back: dict[str, Any] = dict(arrays)
    for name in [name for name in arrays if name.endswith(".weight")]:
        small[name], small[name + SCALE] = quantized(arrays[name])
        back[name] = small[name].astype(np.float32) * small[name + SCALE][:, None]
        assert np.abs(back[name] - arrays[name]).max() <= small[name + SCALE].max() / 2 + 1e-6
    found = Ranker(small, files.RANKER).logits(situation(), files.ACTIONS)
    assert found.tolist() == Ranker(back, files.RANKER).logits(situation(), files.ACTIONS).tolist()


def test_a_row_of_zeros_survives_quantisation() -> None:
    small, scale = quantized(np.array([[0.0, 0.0], [1.0, -2.0]], np.float32))
    assert small.tolist() == [[0, 0], [64, -127]]
    assert scale.tolist() == pytest.approx([1.0, 2 / 127])


def test_scalars_by_hand() -> None:
    words = Words(["go", "to", "mug", "1"], buckets=3)
    past = [{"action": name, "observation": ""} for name in ("go to mug 1", "wait", "go to mug 1", "wait", "wait")]
    said = {"goal": "a mug", "observation": "mug 1, go", "past": past}
    found = scalars(words, said, ["go to mug 1", "Go to mug 1", "wait", "!"])
    expected = [
        [math.log(3), 1 / 3, 1 / 4, 3 / 4],
        [0, 0, 1 / 4, 3 / 4],
        [math.log(4), 1, found[2, 2], found[2, 3]],
        [0, 0, 0, 0],
    ]
    assert found.tolist() == [pytest.approx(row) for row in expected]


def test_words_and_their_numbers() -> None:
    assert split("Put cabinet12 in-to the Ünder 007!") == ["put", "cabinet", "12", "in", "to", "the", "nder", "007"]
    words = Words(["mug", "12"], buckets=2)
    assert words.encode("mug 12 MUG")[:3] == [0, 1, 0]
    # Files depend on it: the bucket of a word never changes (CRC-32 of "apple" is 2838417488).
    assert Words(["mug", "12"], buckets=7).encode("apple") == [2 + 2838417488 % 7]


@pytest.mark.parametrize(
    ("vocabulary", "buckets"), [(["a", "a"], 1), (["A"], 1), (["a b"], 1), ([""], 1), (["a"], 0), (["a1"], 1)]
)
def test_a_vocabulary_that_is_none(vocabulary: list[str], buckets: int) -> None:
    with pytest.raises(ValueError, match=r"buckets|vocabulary"):
        Words(vocabulary, buckets)


@pytest.mark.parametrize("activation", ["relu", "tanh"])
@pytest.mark.parametrize("normal", [False, True])
def test_the_perceptron_computes_its_formulas(activation: str, normal: bool) -> None:
    config = {"kind": "mlp", "sizes": [3, 5, 4, 2], "activation": activation}
    arrays, vector = files.mlp_arrays(config), [0.5, -1.0, 2.0]
    x = vector
    if normal:
        arrays |= {"input.mean": np.array([1, 2, 3], np.float32), "input.scale": np.array([2, 1, 0.5], np.float32)}
        x = [-1.0, -3.0, -0.5]
    for index in range(3):
        x = times(arrays[f"layers.{index}.weight"], x, arrays[f"layers.{index}.bias"])
        if index < 2:
            x = relu(x) if activation == "relu" else [math.tanh(value) for value in x]
    mlp = Mlp(arrays, config)
    assert mlp.logits(vector) == pytest.approx(x, rel=1e-5, abs=1e-6)
    assert mlp.logits([vector, vector]).shape == (2, 2)
    assert mlp.actions == ("0", "1")


def test_the_perceptron_leaves_its_input_alone() -> None:
    vector = np.ones(4, np.float32)
    Mlp(files.mlp_arrays(), files.MLP).logits(vector)
    assert vector.tolist() == [1, 1, 1, 1]


@pytest.mark.parametrize("wide", [3, 5])
def test_a_vector_of_another_width(wide: int) -> None:
    with pytest.raises(ValueError, match="takes 4 numbers"):
        Mlp(files.mlp_arrays(), files.MLP).logits([0.0] * wide)


def broken(**changes: Any) -> dict[str, Any]:
    return {**files.RANKER, **changes}


@pytest.mark.parametrize(
    ("config", "says"),
    [
        (broken(width=9), "shape"),
        (broken(width="8"), "width"),
        (broken(width=True), "width"),
        (broken(hidden=0), "hidden"),
        (broken(buckets=10**9), "buckets"),
        (broken(vocabulary=None), "vocabulary"),
        (broken(vocabulary=["a", 1]), "not one word"),
        (broken(vocabulary=[["a"]]), "unhashable"),
        (broken(vocabulary=files.VOCABULARY[1:]), "shape"),
    ],
)
def test_a_configuration_that_does_not_fit(config: dict[str, Any], says: str) -> None:
    with pytest.raises(BadFile, match=says):
        Ranker(files.ranker_arrays(), config)


def test_arrays_that_do_not_fit() -> None:
    arrays = files.ranker_arrays()
    for name in arrays:
        with pytest.raises(BadFile, match="lacks the array"):
            Ranker({other: array for other, array in arrays.items() if other != name}, files.RANKER)
    with pytest.raises(BadFile, match="do not belong there: spare"):
        Ranker({**arrays, "spare": np.zeros(1, np.float32)}, files.RANKER)
    with pytest.raises(BadFile, match="not finite"):
        Ranker({**arrays, "text.bias": np.full(8, np.nan, np.float32)}, files.RANKER)
    with pytest.raises(BadFile, match="type int64"):
        Ranker({**arrays, "text.bias": np.zeros(8, np.int64)}, files.RANKER)
    with pytest.raises(BadFile, match=r"lacks the array 'text.weight.scale'"):
        Ranker({**arrays, "text.weight": np.zeros((8, 12), np.int8)}, files.RANKER)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"sizes": [4]}, "sizes"),
        ({"sizes": [4, 0]}, "sizes"),
        ({"activation": "gelu"}, "gelu"),
        ({"actions": ["a"]}, "3"),
    ],
)
def test_a_perceptron_that_does_not_fit(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(BadFile, match=says):
        Mlp(files.mlp_arrays(), {**files.MLP, **changes})
