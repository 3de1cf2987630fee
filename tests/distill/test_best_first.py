"""Entries come best first whether few or all of them are asked for."""

from __future__ import annotations

from itertools import islice

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from potstill.distill.context.library import best_first


@given(st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0]), max_size=60), st.integers(1, 70), st.integers(1, 20))
def test_what_comes_first_is_what_a_stable_sort_puts_first(values: list[float], asked: int, few: int) -> None:
    found = list(islice(best_first(np.array(values), few), asked))
    assert found == sorted(range(len(values)), key=lambda position: (-values[position], position))[:asked]
