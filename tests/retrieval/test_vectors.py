import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from potstill.errors import ConfigError, MissingExtra
from potstill.retrieval import faiss_index
from potstill.retrieval.faiss_index import FaissIndex, open_index
from potstill.retrieval.vectors import ExactIndex, rebuild, top_k
from potstill.trajectories.store import Store


class Record:
    """The smallest thing that keeps vectors."""

    def __init__(self):
        self.spaces = {}

    def put_vectors(self, space, ids, matrix):
        old_ids, old = self.spaces.get(space, ([], np.zeros((0, matrix.shape[1]), np.float32)))
        self.spaces[space] = ([*old_ids, *ids], np.concatenate([old, matrix]))

    def vectors(self, space):
        return self.spaces.get(space, ([], np.zeros((0, 0), np.float32)))


def unit(n, dimension, seed=0):
    rows = np.random.default_rng(seed).normal(size=(n, dimension)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@given(st.lists(st.integers(-3, 3), max_size=40), st.integers(0, 12), st.lists(st.booleans(), min_size=40, max_size=40))
def test_top_k_is_the_sorted_head_of_what_the_mask_allows(values, k, allowed):
    scores = np.array(values, dtype=np.float32)
    mask = np.array(allowed[: len(values)], dtype=bool)
    expected = sorted((i for i in range(len(values)) if mask[i]), key=lambda i: (-values[i], i))[:k]
    positions, found = top_k(scores, k, mask)
    assert positions.tolist() == expected
    assert found.tolist() == [values[i] for i in expected]


@settings(max_examples=30)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=8))
def test_growing_equals_adding_at_once(sizes):
    rows = unit(sum(sizes), 5)
    grown, whole = ExactIndex(5, capacity=1), ExactIndex(5)
    whole.add(rows)
    start = 0
    for size in sizes:
        grown.add(rows[start : start + size])
        start += size
    assert np.array_equal(grown.matrix, whole.matrix)
    assert grown.matrix.flags["C_CONTIGUOUS"]


def test_wrong_vectors_add_nothing():
    index = ExactIndex(3)
    with pytest.raises(ConfigError, match="dimension 3"):
        index.add(np.zeros((2, 4), np.float32))
    with pytest.raises(ConfigError, match="NaN"):
        index.add(np.full((1, 3), np.nan, np.float32))
    with pytest.raises(ConfigError, match="query"):
        index.scores(np.zeros(4, np.float32))
    assert len(index) == 0


def test_a_lost_cache_is_rebuilt_from_the_record():
    record, rows = Record(), unit(20, 8)
    record.put_vectors("default/mini", [f"s{i}" for i in range(20)], rows)
    ids, index = rebuild(record, "default/mini", 8)
    assert ids[index.top(rows[7], 1)[0][0]] == "s7"
    assert rebuild(record, "nothing", 8)[0] == []


def test_the_store_is_a_vector_record(tmp_path):
    record, rows = Store.open(tmp_path / "store.db"), unit(30, 8)
    record.put_vectors("default/mini", [f"s{i}" for i in range(30)], rows)
    ids, index = open_index(record, "default/mini", 8)
    assert [ids[index.top(row, 1)[0][0]] for row in rows] == [f"s{i}" for i in range(30)]
    assert open_index(record, "unknown", 8)[0] == []
    record.close()


faiss = pytest.importorskip("faiss", reason="faiss is not installed: pip install 'potstill[faiss]'")


def clustered(n, dimension, seed=0):
    rng = np.random.default_rng(seed)
    centres = unit(50, dimension, seed)
    rows = centres[rng.integers(0, 50, n)] + 0.3 / np.sqrt(dimension) * rng.normal(size=(n, dimension))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def test_faiss_finds_what_exact_search_finds(monkeypatch):
    monkeypatch.setattr(faiss_index, "TRAIN_AT", 500)
    rows = clustered(3000, 32)
    index, exact = FaissIndex(32), ExactIndex(32)
    exact.add(rows)
    for start in range(0, 3000, 300):
        index.add(rows[start : start + 300])
    assert len(index) == 3000
    mask = np.arange(3000) % 2 == 0
    for allowed in (None, mask):
        hits = 0
        for query in rows[:100]:
            hits += len(set(index.top(query, 10, allowed)[0]) & set(exact.top(query, 10, allowed)[0]))
        assert hits >= 980
    positions, _ = index.top(rows[5], 10, mask)
    assert (positions % 2 == 0).all()
    scores = index.scores(rows[8])
    assert scores.argmax() == 8
    assert scores.shape == (3000,)


@pytest.mark.parametrize("harm", ["lost", "cut", "flipped", "foreign", "empty"])
def test_a_harmed_index_file_is_rebuilt(tmp_path, harm, monkeypatch):
    monkeypatch.setattr(faiss_index, "TRAIN_AT", 100)
    record, rows, path = Record(), clustered(400, 16), tmp_path / "x" / "index.faiss"
    record.put_vectors("s", [f"a{i}" for i in range(400)], rows)
    open_index(record, "s", 16, path=path, kind="faiss")
    data = bytearray(path.read_bytes())
    match harm:
        case "lost":
            path.unlink()
        case "cut":
            path.write_bytes(data[: len(data) // 2])
        case "flipped":
            data[len(data) // 2] ^= 1
            path.write_bytes(data)
        case "foreign":
            path.write_bytes(b"hello" * 1000)
        case "empty":
            path.write_bytes(b"")
    ids, index = open_index(record, "s", 16, path=path, kind="faiss")
    assert [ids[index.top(row, 1)[0][0]] for row in rows[:20]] == [f"a{i}" for i in range(20)]
    assert FaissIndex.load(path, ids, rows) is not None
    assert [file.name for file in path.parent.iterdir()] == ["index.faiss"]


def test_an_outdated_index_file_is_completed_and_other_ids_are_not_believed(tmp_path):
    record, rows, path = Record(), clustered(300, 16), tmp_path / "index.faiss"
    record.put_vectors("s", [f"a{i}" for i in range(200)], rows[:200])
    open_index(record, "s", 16, path=path, kind="faiss")
    record.put_vectors("s", [f"a{i}" for i in range(200, 300)], rows[200:])
    ids, index = open_index(record, "s", 16, path=path, kind="faiss")
    assert len(index) == 300
    assert ids[index.top(rows[250], 1)[0][0]] == "a250"
    assert FaissIndex.load(path, ["b"] * 300, rows) is None
    assert FaissIndex.load(path, ids, rows[:, :8]) is None
    replaced = rows.copy()
    replaced[3] = rows[4]
    assert FaissIndex.load(path, ids, replaced) is None


def test_faiss_is_chosen_above_the_threshold_only(monkeypatch):
    record = Record()
    record.put_vectors("s", [str(i) for i in range(30)], clustered(30, 16))
    assert isinstance(open_index(record, "s", 16)[1], ExactIndex)
    assert isinstance(open_index(record, "s", 16, above=29)[1], FaissIndex)

    def absent():
        raise MissingExtra("A faiss index", "faiss")

    monkeypatch.setattr(faiss_index, "_faiss", absent)
    assert isinstance(open_index(record, "s", 16, above=29)[1], ExactIndex)
    with pytest.raises(MissingExtra, match=r"potstill\[faiss\]"):
        open_index(record, "s", 16, kind="faiss")
