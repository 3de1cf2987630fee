"""Sets of numbers against brute force: whatever was packed, came late or was removed, and whatever the sizes are."""

from __future__ import annotations

import math
import random
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from potstill.distill.playbook import postings
from potstill.distill.playbook.postings import Grams, Postings

Held = dict[str, frozenset[int]]


def numbers(rng: random.Random, many: int, last: int) -> frozenset[int]:
    """So that some are in nearly every set and most in few; two of a bucket are among them."""
    return frozenset(int(last * rng.random() ** 3) + (1 << 18) * rng.randrange(2) for _ in range(many))


def as_grams(one: frozenset[int]) -> Grams:
    return np.array(sorted(one), dtype=np.uint32)


def near_ones(held: Held, query: frozenset[int], threshold: float) -> dict[str, float]:
    found = {id: len(query & one) / math.sqrt(len(query) * len(one)) for id, one in held.items() if query & one}
    return {id: value for id, value in found.items() if value >= threshold}


def changed(rng: random.Random, one: frozenset[int], last: int) -> frozenset[int]:
    """Some numbers less and some more, so that there are sets on both sides of a threshold."""
    kept = frozenset(number for number in sorted(one) if rng.random() < 0.85)
    return kept | numbers(rng, rng.randint(0, max(1, len(one) // 3)), last)


@settings(deadline=None, max_examples=30)
@given(
    st.integers(0, 1 << 32),
    st.sampled_from([0.2, 0.5, 0.8, 0.9, 1.0]),
    st.sampled_from([(1, 12), (1, 80), (60, 600), (300, 340)]),
    st.integers(4, 24),
)
def test_after_any_additions_and_removals_brute_force_finds_no_more(seed, threshold, sizes, late) -> None:
    rng = random.Random(seed)
    index, held, slots, last = Postings(), Held(), dict[str, int](), 4 * sizes[1]
    few = {"_BUCKETS": 1024, "_LAST": np.uint32(1023), "_LATE": late, "_AT_ONCE": 2 * late, "_FEW": 2}
    with patch.multiple(postings, **few, _POSTINGS_A_SET=rng.choice([1, 40, 1000])):
        for number in range(rng.randint(20, 100)):
            base = rng.choice(sorted(held)) if held and rng.random() < 0.6 else ""
            one = changed(rng, held[base], last) if base else numbers(rng, rng.randint(*sizes), last)
            id = f"b-{number}"
            slots[id] = index.add(id, as_grams(one))
            held[id] = one
            if rng.random() < 0.1:
                gone = rng.choice(sorted(held))
                index.remove(slots[gone])
                del held[gone]
            if number % 25 == 0 and held:
                query = changed(rng, held[rng.choice(sorted(held))], last) or frozenset({1})
                before = rng.choice([None, number // 2])
                wanted = {id: one for id, one in held.items() if before is None or slots[id] < before}
                found = dict(index.near(as_grams(query), threshold, before))
                assert found == pytest.approx(near_ones(wanted, query, threshold))


def test_sets_of_all_sizes_are_found_in_an_index_that_was_packed_twice_and_has_late_ones() -> None:
    rng, last = random.Random(3), 20_000
    index, held = Postings(), Held()
    queries = [numbers(rng, many, last) for many in (1, 5, 63, 64, 90, 450, 1100)]
    for until in (2500, 4600, 4700):
        for number in range(len(held), until):
            near = changed(rng, rng.choice(queries), last)
            held[f"b-{number}"] = near if near and rng.random() < 0.3 else numbers(rng, rng.randint(1, 40), last)
            index.add(f"b-{number}", as_grams(held[f"b-{number}"]))
        for query in queries:
            for threshold in (0.7, 0.85):
                assert dict(index.near(as_grams(query), threshold)) == pytest.approx(near_ones(held, query, threshold))
    assert index.mostly_removed is False
