"""Nearest vectors: the server's search where it has pgvector gives what the exact one gives, and is not needed."""

from __future__ import annotations

import logging
import uuid

import numpy as np
import pytest

from postgres_server import Server
from potstill.errors import StoreError
from potstill.trajectories.opening import open_store, read_store
from potstill.trajectories.postgres.store import PostgresStore

pytestmark = pytest.mark.postgres


@pytest.fixture
def place(vector_server: Server) -> str:
    return vector_server.url(f"t_{uuid.uuid4().hex[:12]}")


@pytest.fixture
def extension(vector_server: Server) -> None:
    vector_server.sql("CREATE EXTENSION IF NOT EXISTS vector")


def rows(count: int, dimension: int = 24, seed: int = 0) -> np.ndarray:
    made = np.random.default_rng(seed).standard_normal((count, dimension)).astype(np.float32)
    return made / np.linalg.norm(made, axis=1, keepdims=True)


def exact(matrix: np.ndarray, query: np.ndarray, k: int) -> list[str]:
    return [f"v{at}" for at in np.argsort(-(matrix @ query), kind="stable")[:k]]


def searched_there(store: PostgresStore) -> bool:
    with store._reading() as connection:
        return connection.execute("SELECT to_regclass('nearest')").fetchone()[0] is not None


@pytest.mark.usefixtures("extension")
def test_the_server_finds_what_the_exact_search_finds(place):
    matrix, queries = rows(700), rows(20, seed=1)
    with open_store(place) as store, open_store(place) as other:
        store.put_vectors("ns/e", [f"v{at}" for at in range(300)], matrix[:300])
        assert [id for id, _ in other.nearest("ns/e", queries[0], 5)] == exact(matrix[:300], queries[0], 5)
        assert searched_there(store)
        other.put_vectors("ns/e", [f"v{at}" for at in range(250, 700)], matrix[250:])  # 50 are replaced
        for query in queries:
            found = store.nearest("ns/e", query, 7)
            assert [id for id, _ in found] == exact(matrix, query, 7)
            assert np.allclose([score for _, score in found], sorted(matrix @ query, reverse=True)[:7], atol=1e-5)
        store.put_vectors("ns/e", ["v0"], 3 * queries[:1])
        assert other.nearest("ns/e", queries[0], 1)[0] == ("v0", pytest.approx(3.0, abs=1e-5))
        store.remove_vectors("ns/e", ["v0"])
        assert other.nearest("ns/e", queries[0], 1)[0][0] != "v0"
        store.put_vectors("other", ["x"], rows(1, 8))
        assert other.nearest("other", rows(1, 8)[0], 3) == [("x", pytest.approx(1.0, abs=1e-5))]
        assert len(store.nearest("ns/e", queries[0], 10_000)) == 699
        with read_store(place) as reader:
            assert reader.nearest("ns/e", queries[1], 4) == store.nearest("ns/e", queries[1], 4)
        store.remove_vectors("ns/e")
        assert store.nearest("ns/e", queries[0], 3) == []


@pytest.mark.usefixtures("extension")
def test_an_index_finds_nearly_all_of_the_nearest_while_vectors_come(place):
    matrix, queries = rows(3000), rows(50, seed=1)
    with open_store(place) as store:
        assert isinstance(store, PostgresStore)
        assert not store.index_vectors("ns/e")
        store.put_vectors("ns/e", [f"v{at}" for at in range(2000)], matrix[:2000])
        assert store.index_vectors("ns/e")
        assert store.index_vectors("ns/e")
        store.put_vectors("ns/e", [f"v{at}" for at in range(2000, 3000)], matrix[2000:])
        hits = sum(
            len({id for id, _ in store.nearest("ns/e", query, 10)} & set(exact(matrix, query, 10))) for query in queries
        )
        assert hits >= 0.9 * 500
        store.put_vectors("wide", ["w"], rows(1, 2001))
        with pytest.raises(StoreError, match="2000 at most"):
            store.index_vectors("wide")
        assert store.nearest("wide", rows(1, 2001)[0], 1)[0][0] == "w"


def test_a_database_without_it_is_searched_exactly_and_says_so_once(url, caplog):
    caplog.set_level(logging.INFO, "potstill.store")
    matrix, query = rows(50), rows(1, seed=1)[0]
    with open_store(url) as store:
        assert isinstance(store, PostgresStore)
        store.put_vectors("ns/e", [f"v{at}" for at in range(50)], matrix)
        for _ in range(2):
            assert [id for id, _ in store.nearest("ns/e", query, 5)] == exact(matrix, query, 5)
        assert not store.index_vectors("ns/e")
        assert not searched_there(store)
    assert [record.getMessage() for record in caplog.records if "CREATE EXTENSION vector" in record.getMessage()] == [
        f"{store.path} has no pgvector: nearest vectors are searched here, exactly. To have the server search: "
        "CREATE EXTENSION vector"
    ]


def test_it_may_come_and_go_while_gateways_run(vector_server, place):
    matrix, query = rows(60), rows(1, seed=1)[0]
    vector_server.sql("DROP EXTENSION IF EXISTS vector CASCADE")
    with open_store(place) as store:
        store.put_vectors("ns/e", [f"v{at}" for at in range(40)], matrix[:40])
        wanted = exact(matrix[:40], query, 5)
        assert [id for id, _ in store.nearest("ns/e", query, 5)] == wanted
        vector_server.sql("CREATE EXTENSION vector")
        assert [id for id, _ in store.nearest("ns/e", query, 5)] == wanted
        assert searched_there(store)
        vector_server.sql("DROP EXTENSION vector CASCADE")
        store.put_vectors("ns/e", [f"v{at}" for at in range(40, 60)], matrix[40:])
        assert [id for id, _ in store.nearest("ns/e", query, 5)] == exact(matrix, query, 5)
        vector_server.sql("CREATE EXTENSION vector")
        assert [id for id, _ in store.nearest("ns/e", query, 5)] == exact(matrix, query, 5)


@pytest.mark.usefixtures("extension")
def test_a_query_of_another_dimension_is_refused(place):
    with open_store(place) as store:
        store.put_vectors("ns/e", ["a"], rows(1, 24))
        for _ in range(2):
            with pytest.raises(StoreError, match="A query of 8 numbers does not fit"):
                store.nearest("ns/e", rows(1, 8)[0], 1)
        with pytest.raises(StoreError, match="NaN"):
            store.nearest("ns/e", np.full(24, np.nan, dtype=np.float32), 1)
