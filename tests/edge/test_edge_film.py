"""The grid student's forward pass against the formulas of its docstring, one number at a time; and what it refuses."""

from __future__ import annotations

import itertools
import json
import math
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import policy_files as files
from potstill.edge.act import answered, decide
from potstill.edge.film import Film
from potstill.edge.grids import GridForm
from potstill.edge.layers import SCALE, quantized
from potstill.edge.policy import open_policy
from potstill.edge.tensors import BadFile
from potstill.edge.words import Words

Vector = list[float]
BABYAI = GridForm(7, (11, 6, 3))


def situation(turns: int, goal: str = "go to the red ball next unknown", seed: int = 1) -> dict[str, Any]:
    drawn = random.Random(seed)
    actions = [*files.FILM["actions"], "an action that it has not"]
    past = [{"observation": files.grid_text(drawn), "action": drawn.choice(actions)} for _ in range(turns)]
    return {"goal": goal, "observation": files.grid_text(drawn), "past": past}


def times(layer: str, arrays: Any, values: Vector) -> Vector:
    weight, bias = arrays[f"{layer}.weight"], arrays[f"{layer}.bias"]
    return [
        math.fsum(float(w) * v for w, v in zip(r, values, strict=True)) + float(b)
        for r, b in zip(weight, bias, strict=True)
    ]


def relu(values: Vector) -> Vector:
    return [max(value, 0.0) for value in values]


def plus(*rows: Any) -> Vector:
    return [math.fsum(map(float, column)) for column in zip(*rows, strict=True)]


def unit(name: str, arrays: Any, sequence: list[Vector], state: Vector) -> Vector:
    h = len(state)
    for x in sequence:
        i, o = times(f"{name}.input", arrays, x), times(f"{name}.hidden", arrays, state)
        r = [1 / (1 + math.exp(-i[a] - o[a])) for a in range(h)]
        z = [1 / (1 + math.exp(-i[h + a] - o[h + a])) for a in range(h)]
        n = [math.tanh(i[2 * h + a] + r[a] * o[2 * h + a]) for a in range(h)]
        state = [(1 - z[a]) * n[a] + z[a] * state[a] for a in range(h)]
    return state


def by_hand(arrays: Any, config: Any, asked: Any) -> Vector:
    size, words = config["size"], Words(config["vocabulary"], config["buckets"])
    places = list(itertools.product(range(size), range(size)))

    def cells(table: str, grid: Any) -> dict[tuple[int, int], Vector]:
        offsets = [sum(config["symbols"][:place]) for place in range(len(config["symbols"]))]
        return {
            (i, j): plus(*(arrays[f"{table}.weight"][o + n] for o, n in zip(offsets, grid[i][j], strict=True)))
            for i, j in places
        }

    mission = [arrays["word.weight"][number].tolist() for number in words.encode(asked["goal"])]
    goal, turns = unit("goal", arrays, mission, [0.0] * config["goal"]), []
    for turn in asked["past"]:
        seen, known = json.loads(turn["observation"]), config["actions"]
        patches = [value for place, cell in cells("patch", seen["grid"]).items() for value in cell]
        done = known.index(turn["action"]) if turn["action"] in known else len(known)
        facing = arrays["facing.weight"][seen["direction"]]
        turns.append(relu(plus(times("turn", arrays, patches), arrays["action.weight"][done], facing)))
    mind = unit("memory", arrays, turns, [math.tanh(value) for value in times("start", arrays, goal)])
    now = json.loads(asked["observation"])
    cond = relu(plus(times("condition", arrays, goal + mind), arrays["direction.weight"][now["direction"]]))
    wanted, x = times("wanted", arrays, cond), {}
    for (i, j), cell in cells("symbol", now["grid"]).items():
        product = [a * b for a, b in zip(wanted, cell, strict=True)]
        x[i, j] = plus(product, arrays["place.weight"][i * size + j])
    for block in range(config["blocks"]):
        c = config["channels"]
        film, after = times(f"block.{block}.film", arrays, cond), {}
        for i, j in places:
            near = [x.get((i + a, j + b), [0.0] * c) for a in (-1, 0, 1) for b in (-1, 0, 1)]
            conv = times(f"block.{block}.conv", arrays, [value for cell in near for value in cell])
            after[i, j] = plus(x[i, j], relu([(1 + film[a]) * conv[a] + film[c + a] for a in range(c)]))
        x = after
    squeezed = [value for place in places for value in relu(times("squeeze", arrays, x[place]))]
    return times("score", arrays, relu(times("hidden", arrays, squeezed + cond)))


@pytest.mark.parametrize("turns", [0, 1, 2, 9])
@pytest.mark.parametrize("goal", ["go to the red ball next unknown", "?!"])
def test_it_computes_the_formulas_of_its_docstring(turns: int, goal: str) -> None:
    arrays, asked = files.film_arrays(), situation(turns, goal)
    found = Film(arrays, files.FILM).logits(asked, files.FILM["actions"])
    np.testing.assert_allclose(found, by_hand(arrays, files.FILM, asked), atol=1e-5)


def test_the_mission_the_order_of_its_words_the_past_and_the_direction_all_count() -> None:
    film, asked = Film(files.film_arrays(), files.FILM), situation(3)
    now = json.loads(asked["observation"])
    turned = json.dumps({**now, "direction": (now["direction"] + 1) % 4})
    others = [
        {**asked, "goal": "red the to go"},
        {**asked, "goal": "go the to red"},
        {**asked, "past": asked["past"][:2]},
        {**asked, "past": asked["past"][::-1]},
        {**asked, "observation": turned},
    ]
    found = {film.logits(one, files.FILM["actions"]).tobytes() for one in (asked, *others)}
    assert len(found) == 1 + len(others)


def test_candidates_choose_among_the_same_logits_and_nothing_depends_on_what_was_asked_before() -> None:
    asked, every = situation(4), files.FILM["actions"]
    film = Film(files.film_arrays(), files.FILM)
    all_of_them = film.logits(asked, every)
    assert film.logits(asked, every[::-1]).tolist() == all_of_them[::-1].tolist()
    film.logits(situation(5, "put the ball next to the red ball", seed=8), every)
    assert film.logits(asked, every[1:2]).tolist() == all_of_them[1:2].tolist()
    assert film.logits(asked, []).shape == (0,)


def test_eight_bit_weights_are_multiplied_out() -> None:
    arrays: dict[str, Any] = dict(files.film_arrays())
    rounded = dict(arrays)
    for name in [name for name in arrays if name.endswith(".weight")]:
        bits, scale = quantized(arrays[name])
        arrays[name], arrays[name + SCALE] = bits, scale
        rounded[name] = bits.astype(np.float32) * scale[:, None]
    asked, every = situation(3), files.FILM["actions"]
    np.testing.assert_allclose(
        Film(arrays, files.FILM).logits(asked, every), Film(rounded, files.FILM).logits(asked, every), rtol=1e-6
    )


def test_a_file_of_it_answers_questions(tmp_path: Path) -> None:
    policy = open_policy(files.write_policy(tmp_path / "film.policy", config=files.FILM))
    asked = {**situation(2), "admissible": ["pick up", "turn left"]}
    found = decide(policy, asked)
    assert found["action"] in asked["admissible"]
    assert math.fsum(found["probabilities"]) == pytest.approx(1)
    assert policy.kind == "film"


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"observation": "You see a red ball."}, "'You see a red ball.' is no grid"),
        ({"observation": ""}, "is no grid"),
        (
            {"observation": '{"grid": [[[0, 0, 0]]], "direction": 0}'},
            r"grid is \(1, 1, 3\); this policy reads \(3, 3, 3\)",
        ),
        ({"observation": json.dumps({"grid": [[[0, 0, 0.5]] * 3] * 3, "direction": 0})}, "not whole numbers"),
        ({"observation": json.dumps({"grid": [[[0, 0, 0], [1]]], "direction": 0})}, "not whole numbers"),
        ({"observation": json.dumps({"grid": [[[0, 0, 10**30]] * 3] * 3, "direction": 0})}, "not whole numbers"),
        ({"observation": json.dumps({"grid": [[[0, 3, 0]] * 3] * 3, "direction": 0})}, "holds 3 as number 1 .* 0 to 2"),
        ({"observation": json.dumps({"grid": [[[-1, 0, 0]] * 3] * 3, "direction": 0})}, "holds -1 as number 0"),
        ({"observation": json.dumps({"grid": [[[0, 0, 0]] * 3] * 3, "direction": 4})}, "direction is 4"),
        ({"past": [{"observation": "Words.", "action": "pick up"}]}, "'Words.' is no grid"),
        ({"admissible": ["pick up", "sing"]}, "never seen the action 'sing'. It knows: go forward"),
    ],
)
def test_what_it_cannot_read_is_one_line(tmp_path: Path, changed: dict[str, Any], said: str) -> None:
    policy = open_policy(files.write_policy(tmp_path / "film.policy", config=files.FILM))
    asked = {**situation(1), "admissible": ["pick up"], **changed}
    with pytest.raises(ValueError, match=said):
        decide(policy, asked)
    told = answered(policy, json.dumps(asked))["error"]
    assert "\n" not in told


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"symbols": []}, "symbols"),
        ({"symbols": [1000, 1000, 1000]}, "kinds of cells"),
        ({"size": 0}, "size"),
        ({"actions": []}, "actions"),
        ({"actions": ["a", "b", "a"]}, "twice"),
        ({"vocabulary": ["two words"]}, "one word"),
        ({"vocabulary": "go"}, "vocabulary"),
        ({"blocks": 1}, "do not belong"),
        ({"hidden": 9}, "hidden.weight"),
    ],
)
def test_a_configuration_that_fits_no_arrays(changed: dict[str, Any], said: str) -> None:
    with pytest.raises(BadFile, match=said):
        Film(files.film_arrays(), {**files.FILM, **changed})


def test_a_cell_s_code_by_hand() -> None:
    """Symbols (a, b) of (2, 3) become 3 a + b; cells go column by column."""
    grid = GridForm(2, (2, 3)).read('{"grid": [[[0, 1], [1, 0]], [[1, 2], [0, 0]]], "direction": 2}')
    assert grid.codes.tolist() == [1, 3, 5, 0]
    assert grid.direction == 2


@given(st.lists(st.tuples(st.integers(0, 10), st.integers(0, 5), st.integers(0, 2)), min_size=49, max_size=49))
def test_codes_hold_everything_that_a_grid_says(cells: list[tuple[int, ...]]) -> None:
    rows = [cells[start : start + 7] for start in range(0, 49, 7)]
    codes = BABYAI.read(json.dumps({"grid": rows, "direction": 0})).codes
    assert (BABYAI.of_code()[codes] - [0, 11, 17]).tolist() == [list(cell) for cell in cells]


@given(
    st.recursive(
        st.none() | st.integers() | st.floats() | st.text(max_size=3), lambda inner: st.lists(inner, max_size=8)
    )
)
def test_whatever_a_text_says_it_is_read_or_refused_in_one_line(value: object) -> None:
    for text in (json.dumps({"grid": value, "direction": 0}), json.dumps(value), str(value)):
        with pytest.raises(ValueError, match="grid") as refused:
            BABYAI.read(text)
        assert "\n" not in str(refused.value)
