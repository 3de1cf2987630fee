"""Near texts: numbers worked by hand, the index against brute force, planted near-duplicates, vectors and groups."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from potstill.distill.playbook.similar import (
    LexicalIndex,
    Pair,
    components,
    fingerprint,
    grams,
    groups,
    normalised,
    sentence,
    similarity,
)
from potstill.distill.playbook.similar_vectors import SemanticIndex, unit_rows, vector_pairs
from potstill.errors import ConfigError
from potstill.retrieval.faiss_index import FaissIndex

WORDS = [
    "open",
    "close",
    "the",
    "fridge",
    "drawer",
    "before",
    "after",
    "you",
    "look",
    "for",
    "milk",
    "a",
    "mug",
    "1",
    "2",
    "in",
    "on",
    "never",
    "always",
    "check",
]


def text_of(rng: random.Random, words: int) -> str:
    return " ".join("".join(rng.choices("etaoinshrdlucm", k=rng.randint(2, 9))) for _ in range(words))


def edited(rng: random.Random, text: str) -> str:
    """Three letters of a text changed: still a near-duplicate of a text of some 150 letters."""
    letters = list(text)
    for place in rng.sample(range(len(letters)), 3):
        letters[place] = "z"
    return "".join(letters)


# --- numbers worked by hand -----------------------------------------------------------------------------------------


def test_the_grams_of_a_word() -> None:
    # " abc ": 3 of length 3 (" ab", "abc", "bc "), 2 of length 4, 1 of length 5.
    assert len(grams("abc")) == 6
    # " a ": itself only.
    assert len(grams("a")) == 1
    assert len(grams("")) == len(grams(" \n\t")) == 0
    # " aaaa ": " aa", "aaa", "aa " / " aaa", "aaaa", "aaa " / " aaaa", "aaaa ": a repeated gram counts once.
    assert len(grams("aaaa")) == 8


def test_similarity_worked_by_hand() -> None:
    # " abc " and " abd " share " ab" of 6 and 6.
    assert similarity("abc", "abd") == pytest.approx(1 / 6)
    # " abc " and " abcd " (4 + 3 + 2 = 9) share " ab", "abc", " abc": 3 / sqrt(54).
    assert similarity("abc", "abcd") == pytest.approx(3 / math.sqrt(54))
    assert similarity("abc", "xyz") == 0.0
    assert similarity("", "abc") == similarity("", "") == 0.0


def test_case_spaces_and_ways_to_write_a_character_make_no_difference() -> None:
    assert normalised("\ufb01nd  THE\n\tStra\u00dfe") == "find the strasse"
    assert similarity("Open the  Fridge", "open the fridge") == 1.0
    assert fingerprint("Open the  Fridge ") == fingerprint("open the fridge")
    assert fingerprint("open the fridge") != fingerprint("open the fridges")


@given(st.text())
def test_normalising_twice_changes_nothing_and_any_text_is_like_itself(text: str) -> None:
    assert normalised(normalised(text)) == normalised(text)
    assert similarity(text, text) == (1.0 if normalised(text) else 0.0)


def test_half_a_surrogate_is_no_reason_to_fail() -> None:
    assert similarity("a \ud800 b", "a \ud800 b") == 1.0
    assert len(fingerprint("\ud800")) == 32


# --- the index is what brute force says -----------------------------------------------------------------------------

TEXTS = st.lists(st.sampled_from(WORDS), min_size=0, max_size=9).map(" ".join) | st.text(max_size=12)
STEPS = st.lists(
    st.tuples(st.sampled_from(["add", "add", "remove"]), st.integers(0, 12), st.sampled_from(["s", "t"]), TEXTS),
    max_size=40,
)


@settings(max_examples=150)
@given(STEPS, TEXTS, st.sampled_from([0.05, 0.3, 0.5, 0.8, 1.0]))
def test_after_any_changes_the_index_finds_what_brute_force_finds(steps, query: str, threshold: float) -> None:
    index, kept = LexicalIndex(), {}
    for kind, number, section, text in steps:
        id = f"b-{number}"
        if kind == "add":
            index.add(id, section, text)
            kept[id] = (section, text)
        else:
            index.remove(id)
            kept.pop(id, None)
    assert len(index) == len(kept)
    for section in ("s", "t"):
        right = [(similarity(query, text), id) for id, (place, text) in kept.items() if place == section]
        right = sorted(((-value, id) for value, id in right if value >= threshold))
        assert [(-near.similarity, near.id) for near in index.nearest(section, query, threshold)] == right
        assert index.nearest(section, query, threshold, 2) == index.nearest(section, query, threshold)[:2]


@settings(max_examples=60)
@given(st.lists(TEXTS, max_size=15), st.randoms(use_true_random=False), st.sampled_from([0.3, 0.6, 0.8]))
def test_the_order_of_insertion_does_not_matter_for_pairs(texts: list[str], rng, threshold: float) -> None:
    named = [(f"b-{number}", text) for number, text in enumerate(texts, 1)]
    shuffled = rng.sample(named, len(named))
    found = []
    for order in (named, shuffled):
        index = LexicalIndex()
        for id, text in order:
            index.add(id, "s", text)
        found.append(index.pairs("s", threshold))
    right = {
        (min(a, b), max(a, b)): similarity(x, y)
        for place, (a, x) in enumerate(named)
        for b, y in named[:place]
        if similarity(x, y) >= threshold
    }
    assert found[0] == found[1]
    assert {(pair.a, pair.b): pair.similarity for pair in found[0]} == right


def test_every_planted_near_duplicate_is_found_among_hundreds() -> None:
    rng, index = random.Random(5), LexicalIndex()
    texts = [text_of(rng, 25) for _ in range(800)]
    for number, text in enumerate(texts):
        index.add(f"b-{number}", "s", text)
    for number in range(0, 800, 10):
        copy = edited(rng, texts[number])
        assert [near.id for near in index.nearest("s", copy, 0.8)] == [f"b-{number}"]


def test_what_was_removed_is_not_found_and_the_rest_is_after_the_index_was_rewritten() -> None:
    rng, index = random.Random(6), LexicalIndex()
    texts = [text_of(rng, 12) for _ in range(300)]
    for number, text in enumerate(texts):
        index.add(f"b-{number}", "s", text)
    for number in range(250):
        index.remove(f"b-{number}")
    assert len(index) == 50
    assert "b-3" not in index
    assert "b-250" in index
    assert index.nearest("s", texts[3], 0.8) == []
    assert all(index.nearest("s", texts[number], 1.0)[0].id == f"b-{number}" for number in range(250, 300))


def test_a_text_that_is_written_anew_again_and_again_takes_no_more_room() -> None:
    letters, vectors = LexicalIndex(), SemanticIndex(2)
    for number in range(1000):
        letters.add("b-1", "s", f"the text number {number}")
        vectors.add("b-1", "s", np.array([1, 0], dtype=np.float32))
    assert len(letters._sections["s"].ids) < 150
    assert len(vectors._sections["s"].ids) < 150
    assert [near.id for near in letters.nearest("s", "the text number 999", 1.0)] == ["b-1"]
    assert [near.id for near in vectors.nearest("s", np.array([1, 0], dtype=np.float32), 1.0)] == ["b-1"]


def test_vectors_that_do_not_fit_leave_what_is_there() -> None:
    index, row = SemanticIndex(2), np.array([1, 0], dtype=np.float32)
    index.add("b-1", "s", row)
    for wrong in (np.zeros((1, 3)), np.array([[np.nan, 0]]), np.array([[3, 0]]), np.eye(2)):
        with pytest.raises(ConfigError):
            index.add_many(["b-1"], "s", wrong)
    assert [near.id for near in index.nearest("s", row, 0.9)] == ["b-1"]


def test_a_bullet_that_moved_to_another_section_is_there_only() -> None:
    index = LexicalIndex()
    index.add("b-1", "rules", "open the fridge")
    index.add("b-1", "habits", "open the fridge")
    assert index.nearest("rules", "open the fridge", 0.5) == []
    assert [near.id for near in index.nearest("habits", "open the fridge", 0.5)] == ["b-1"]


@pytest.mark.parametrize("threshold", [0.0, -1.0, 1.01, math.nan])
def test_a_threshold_that_means_nothing_is_refused(threshold: float) -> None:
    with pytest.raises(ConfigError, match="threshold of"):
        LexicalIndex().nearest("s", "x", threshold)
    with pytest.raises(ConfigError, match="threshold of"):
        vector_pairs(["b-1"], np.eye(1, dtype=np.float32), threshold)


def test_more_pairs_than_allowed_are_refused_before_they_fill_the_memory() -> None:
    index = LexicalIndex()
    for number in range(20):
        index.add(f"b-{number}", "s", "the same text")
    with pytest.raises(ConfigError, match="More than 100 pairs"):
        index.pairs("s", 0.8, most=100)
    with pytest.raises(ConfigError, match="More than 100 pairs"):
        vector_pairs([str(n) for n in range(20)], np.tile(np.eye(1, 4, dtype=np.float32), (20, 1)), 0.9, most=100)


# --- vectors --------------------------------------------------------------------------------------------------------


def unit(matrix: np.ndarray) -> np.ndarray:
    return (matrix / np.linalg.norm(matrix, axis=1, keepdims=True)).astype(np.float32)


def planted(rows: int, copies: int, seed: int) -> tuple[list[str], np.ndarray, set[tuple[str, str]]]:
    """Random directions of 64 dimensions, the last ``copies`` of them near the first ones (cosine about .99)."""
    rng = np.random.default_rng(seed)
    matrix = unit(rng.normal(size=(rows, 64)))
    matrix[rows - copies :] = unit(matrix[:copies] + 0.015 * rng.normal(size=(copies, 64)))
    ids = [f"b-{number:05}" for number in range(rows)]
    return ids, matrix, {(ids[number], ids[rows - copies + number]) for number in range(copies)}


@pytest.mark.parametrize("block", [7, 100, 2048])
def test_all_pairs_of_vectors_are_the_planted_ones_whatever_the_block(block: int) -> None:
    ids, matrix, right = planted(600, 60, 1)
    found = vector_pairs(ids, matrix, 0.9, block=block)
    assert {(pair.a, pair.b) for pair in found} == right
    assert found == vector_pairs(ids, matrix, 0.9)


def test_the_order_of_rows_does_not_matter_for_pairs_of_vectors() -> None:
    ids, matrix, _ = planted(300, 30, 2)
    order = np.random.default_rng(3).permutation(300)
    shuffled = vector_pairs([ids[place] for place in order], matrix[order], 0.3, block=64)
    assert shuffled == vector_pairs(ids, matrix, 0.3, block=64)
    assert len(shuffled) > 100


def test_a_cosine_worked_by_hand() -> None:
    rows = np.array([[1, 0], [0.6, 0.8], [0, 1]], dtype=np.float32)
    found = vector_pairs(["a", "b", "c"], rows, 0.5)
    assert [(pair.a, pair.b, pytest.approx(pair.similarity)) for pair in found] == [("a", "b", 0.6), ("b", "c", 0.8)]


@pytest.mark.parametrize("approximate", [None, FaissIndex], ids=["exact", "faiss"])
def test_vectors_are_added_replaced_removed_and_found(approximate) -> None:
    if approximate:
        pytest.importorskip("faiss")
    ids, matrix, right = planted(400, 40, 4)
    index = SemanticIndex(64, approximate)
    for id, row in zip(ids, matrix, strict=True):
        index.add(id, "s", row)
    for first, second in right:
        near = index.nearest("s", matrix[ids.index(first)], 0.9)
        assert [each.id for each in near] == [first, second]
    index.add(ids[0], "t", matrix[0])
    assert ids[0] not in [near.id for near in index.nearest("s", matrix[0], 0.9)]
    assert [near.id for near in index.nearest("t", matrix[0], 0.9)] == [ids[0]]
    for id in ids[1:300]:
        index.remove(id)
    assert len(index) == 101
    assert index.nearest("s", matrix[5], 0.995) == []
    assert [near.id for near in index.nearest("s", matrix[350], 0.995)] == [ids[350]]
    assert index.pairs("s", 0.9) == []
    assert index.nearest("nowhere", matrix[0], 0.9) == index.pairs("nowhere", 0.9) == []


def test_many_removed_twins_do_not_hide_the_one_that_is_left_from_the_approximate_index() -> None:
    pytest.importorskip("faiss")
    row = np.eye(1, 8, dtype=np.float32)[0]
    index = SemanticIndex(8, FaissIndex)
    for number in range(120):
        index.add(f"b-{number}", "s", row)
    for number in range(59):
        index.remove(f"b-{number}")
    assert len(index.nearest("s", row, 0.9, limit=61)) == 61


def test_a_vector_that_is_not_of_length_one_is_refused() -> None:
    with pytest.raises(ConfigError, match="length 2"):
        SemanticIndex(2).add("b-1", "s", np.array([2, 0], dtype=np.float32))
    assert unit_rows(np.zeros((1, 2), dtype=np.float32)).shape == (1, 2)
    with pytest.raises(ConfigError, match="length nan"):
        unit_rows(np.array([[np.nan, 0]], dtype=np.float32))


# --- groups ---------------------------------------------------------------------------------------------------------


def pair(a: str, b: str, value: float = 0.9) -> Pair:
    return Pair(a=a, b=b, similarity=value)


def test_a_chain_is_one_component_but_not_one_group() -> None:
    chain = [pair("a", "b"), pair("b", "c"), pair("c", "d"), pair("x", "y")]
    assert components(chain) == [("a", "b", "c", "d"), ("x", "y")]
    # a leads and takes b; c is near b, which follows, so it leads itself and takes d.
    assert groups(chain, rank=lambda id: id) == [("a", "b"), ("c", "d"), ("x", "y")]
    # b leads and takes a and c, both its own neighbours; d is near c only and stays alone.
    assert groups(chain, rank=lambda id: id != "b") == [("b", "a", "c"), ("x", "y")]


def test_a_member_joins_the_leader_that_it_is_nearest_to() -> None:
    assert groups([pair("a", "c", 0.85), pair("b", "c", 0.95)], rank=lambda id: id) == [("b", "c")]


def test_what_shall_stay_apart_never_shares_a_group_even_through_its_leader() -> None:
    star = [pair("a", "b"), pair("a", "c")]
    assert groups(star, rank=lambda id: id) == [("a", "b", "c")]
    assert groups(star, rank=lambda id: id, apart=[("c", "b")]) == [("a", "b")]


@given(st.sets(st.tuples(st.integers(0, 9), st.integers(0, 9)).filter(lambda two: two[0] < two[1])), st.randoms())
def test_groups_are_disjoint_stars_in_whatever_order_the_pairs_come(edges, rng) -> None:
    pairs = [pair(str(a), str(b)) for a, b in edges]
    found = groups(pairs, rank=lambda id: id)
    members = [id for group in found for id in group]
    assert len(members) == len(set(members))
    assert all((int(group[0]), int(id)) in edges for group in found for id in group[1:])
    assert found == groups(rng.sample(pairs, len(pairs)), rank=lambda id: id)


@pytest.mark.parametrize("approximate", [None, FaissIndex], ids=["exact", "faiss"])
def test_many_vectors_at_once_find_what_each_finds_alone(approximate) -> None:
    if approximate:
        pytest.importorskip("faiss")
    rng = np.random.default_rng(3)
    matrix = rng.normal(size=(300, 8)).astype(np.float32)
    matrix /= np.linalg.norm(matrix, axis=1, keepdims=True)
    index = SemanticIndex(8, approximate)
    index.add_many([f"b-{number}" for number in range(300)], "s", matrix)
    queries = matrix[rng.permutation(300)[:40]]
    alone = [index.nearest("s", query, 0.7, 5) for query in queries]
    assert index.nearest_many("s", queries, 0.7, 5) == alone
    assert all(near for near in alone)
    assert index.nearest_many("elsewhere", queries[:2], 0.7) == [[], []]
    assert index.nearest_many("s", queries[:0], 0.7) == []


def test_letters_are_compared_as_well_before_an_index_has_postings_as_after() -> None:
    rng = random.Random(4)
    texts = [text_of(rng, 12) for _ in range(60)]
    index, seen = LexicalIndex(), dict[str, str]()
    for number, text in enumerate(texts):
        index.add(f"b-{number}", "s", text)
        seen[f"b-{number}"] = text
        if number % 7 == 3:
            index.remove(f"b-{number - 2}")
            del seen[f"b-{number - 2}"]
        query = edited(rng, texts[rng.randrange(number + 1)])
        expected = {id for id, held in seen.items() if similarity(query, held) >= 0.6}
        assert {near.id for near in index.nearest("s", query, 0.6)} == expected


ASK = "Ask for the order number before anything else"


@pytest.mark.parametrize("other", [f"{ASK}!", f"{ASK}.", f"{ASK} ...", ASK.upper(), ASK.replace("o", "\u043e")])
def test_a_last_sign_or_lookalike_letters_make_no_other_text(other):
    assert sentence(other) == sentence(ASK + ".")
    assert similarity(other, ASK) > 0.9


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Divide by n!", "Divide by n."),
        ("Divide by 12!", "Divide by 12."),
        ("Is it open?", "Is it open."),
        ("Weight is \u03c1g.", "Weight is pg."),
        ("\u0437\u0430\u043a\u0430\u0437", "\u0437\u0430\u043a\u0430\u0437\u044b"),
        ("...", "!"),
    ],
)
def test_what_says_something_else_stays_another_text(one, other):
    assert sentence(one) != sentence(other)


def test_lookalike_letters_make_no_other_fingerprint():
    assert fingerprint(ASK.replace("o", "\u043e")) == fingerprint(ASK)
    assert fingerprint(f"{ASK}!") != fingerprint(f"{ASK}.")


@pytest.mark.parametrize("spread", [0.02, 0.5, 3.0], ids=["all alike", "some alike", "none alike"])
def test_what_the_heads_of_vectors_leave_out_is_what_all_their_numbers_leave_out(spread: float) -> None:
    rng = np.random.default_rng(5)
    matrix = rng.normal(size=(5000, 12)) * spread + rng.normal(size=12)
    matrix[::2] += rng.normal(size=(2500, 12)) * 0.01 + rng.permutation(matrix[1::2])
    matrix = (matrix / np.linalg.norm(matrix, axis=1, keepdims=True)).astype(np.float32)
    matrix[7] = 0
    index = SemanticIndex(12)
    ids = [f"b-{number:04}" for number in range(5000)]
    index.add_many(ids[:4000], "s", matrix[:4000])
    index.add_many([*ids[4000:], *ids[:10]], "s", np.concatenate([matrix[4000:], matrix[10:20]]))
    index.remove(ids[42])
    now = np.concatenate([matrix[10:20], matrix[10:]]).astype(np.float64)
    queries = np.concatenate([matrix[::331], np.zeros((1, 12), dtype=np.float32)])
    for threshold in (0.6, 0.9, 0.999):
        for query, found in zip(queries, index.nearest_many("s", queries, threshold, 5000), strict=True):
            values = np.minimum((now * query.astype(np.float64)).sum(axis=1), 1)
            expected = {ids[place] for place in np.flatnonzero(values >= threshold)} - {ids[42]}
            assert {near.id for near in found} == expected
