import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from potstill.retrieval.lexical import LexicalRanker
from potstill.retrieval.tokens import tokenize

WORDS = st.lists(st.sampled_from(["mug", "fridge", "1", "2", "clean", "getName", "", "é"]), max_size=8).map(" ".join)


def test_tokens_of_game_text_code_and_json():
    assert tokenize("You see a mug 12.") == ["you", "see", "a", "mug", "12"]
    assert tokenize('spotify_login(userName="x")') == [
        "spotify_login",
        "spotify",
        "login",
        "username",
        "user",
        "name",
        "x",
    ]
    assert tokenize('{"pageLimit": 20, "ok": null}') == ["pagelimit", "page", "limit", "20", "ok", "null"]
    assert tokenize("  ...") == []


def test_bm25_by_hand():
    """Lucene, k1 1.5, b 0.75: ln(1 + (2 - 1 + .5) / (1 + .5)) times tf / (tf + k1 (1 - b + b length / mean))."""
    ranker = LexicalRanker(str.split)
    ranker.add(["mug mug plate", "knife"])
    expected = np.log(1 + 1.5 / 1.5) * 2 / (2 + 1.5 * (0.25 + 0.75 * 3 / 2))
    assert ranker.scores("mug") == pytest.approx([expected, 0.0], rel=1e-5)
    assert ranker.scores("mug mug") == pytest.approx([expected, 0.0], rel=1e-5)


def test_nothing_known_scores_nothing():
    ranker = LexicalRanker()
    assert ranker.scores("mug").shape == (0,)
    ranker.add(["", ""])
    assert ranker.scores("mug").tolist() == [0.0, 0.0]
    assert ranker.scores("").tolist() == [0.0, 0.0]


@given(st.lists(WORDS, max_size=12), st.integers(0, 12), WORDS)
def test_adding_little_by_little_equals_adding_at_once(texts, cut, query):
    together, apart = LexicalRanker(), LexicalRanker()
    together.add(texts)
    apart.add(texts[:cut])
    apart.scores("mug fridge")
    for text in texts[cut:]:
        apart.add([text])
        apart.scores("clean")
    assert np.array_equal(together.scores(query), apart.scores(query))
    assert len(together) == len(apart) == len(texts)
