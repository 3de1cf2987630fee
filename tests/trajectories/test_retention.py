"""Removing episodes: what is shared stays, what is not goes, and the file becomes smaller."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from trajectory_fakes import episode

from engines import raw
from potstill.trajectories import Store
from potstill.types import Blob, Observation

DAY = 86_400.0
TABLES = ("trajectories", "steps", "refs", "nodes", "messages", "toolsets", "blob_refs")


def counts(path: Path) -> dict[str, int]:
    with raw(path) as connection:
        return {t: connection.execute(f"SELECT count(*) FROM {t}").fetchone()[0] for t in TABLES}


def test_pruning_half_gives_about_half_of_the_file_back(tmp_path):
    with Store.open(tmp_path / "s.db") as store:
        for i in range(120):
            store.append(episode(f"e{i}", steps=20, words=f"words {i}", started_at=DAY * (1 + i // 2)))
        report = store.prune(DAY * 31)
        assert report.removed == 60
        assert report.bytes_after == (tmp_path / "s.db").stat().st_size
        assert report.bytes_after < report.bytes_before * 0.6
        assert store.ids() == [f"e{i}" for i in range(60, 120)]
        assert store.get("e60") == episode("e60", steps=20, words="words 60", started_at=DAY * 31)
        assert store.check() == []
        emptied = store.prune(DAY * 1000)
        assert emptied.bytes_after < 250_000
        assert set(counts(store.path).values()) == {0}


def test_only_whole_days_before_the_date_go(tmp_path):
    with Store.open(tmp_path / "s.db", clock=lambda: DAY * 12 + 5) as store:
        store.append(episode("early", started_at=DAY * 10 - 1))
        store.append(episode("late", started_at=DAY * 10 + 100))
        store.append(episode("unknown start", started_at=0.0))
        store.append(episode("acme", started_at=DAY * 9, namespace="acme"))
        assert [(s.day, s.trajectories) for s in store.segments()] == [
            ("1970-01-10", 2),
            ("1970-01-11", 1),
            ("1970-01-13", 1),
        ]
        assert [s.trajectories for s in store.segments(before=DAY * 10.5, namespace="default")] == [1]
        assert store.prune(DAY * 10 + 200, namespace="default").removed == 1
        assert store.ids(namespace=None) == ["late", "unknown start", "acme"]
        assert store.prune(DAY * 11).removed == 2
        assert store.ids(namespace=None) == ["unknown start"]


@settings(max_examples=15)
@given(st.lists(st.integers(0, 5), min_size=6, max_size=6), st.sets(st.integers(0, 5)))
def test_what_is_left_is_as_if_the_others_had_never_been(tmp_path_factory, sharing, removed):
    """``sharing``: episodes with the same number have the same words, so they share prompts and prefixes of them."""
    where = tmp_path_factory.mktemp("sweep")
    made = [msgspec.structs.replace(episode(f"place{n % 3}", steps=1 + n), id=f"e{i}") for i, n in enumerate(sharing)]
    left = [t for i, t in enumerate(made) if i not in removed]
    with Store.open(where / "all.db") as store, Store.open(where / "left.db") as never:
        for trajectory in made:
            store.append(trajectory)
        for trajectory in left:
            never.append(trajectory)
        assert store.remove([f"e{i}" for i in removed]).removed == len(removed)
        assert list(store.select()) == left
        assert counts(store.path) == counts(never.path)
        assert store.check() == []


def test_an_image_goes_with_its_last_episode_but_not_while_it_is_fresh(tmp_path):
    now = [1000 * DAY]
    with Store.open(tmp_path / "s.db", clock=lambda: now[0]) as store:
        blob = store.put_blob(b"pixels", "image/png")
        for id in ("a", "b", "c"):
            store.append(episode(id, final_observation=Observation(images=(blob,))))
        store.remove(["a"])
        now[0] += DAY
        store.remove(["b"])
        assert store.get_blob(blob.digest) == b"pixels"
        store.put_blob(b"pixels", "image/png")  # an episode that shows it again is about to come
        store.remove(["c"])
        store.append(episode("d", final_observation=Observation(images=(blob,))))
        assert store.get_blob(blob.digest) == b"pixels"
        now[0] += DAY
        store.remove(["d"])
        with raw(store) as connection:
            assert connection.execute("SELECT count(*) FROM blobs").fetchone() == (0,)


def test_removing_unknown_ids_changes_nothing(tmp_path):
    with Store.open(tmp_path / "s.db") as store:
        store.append(episode("a"))
        assert store.remove(["x", "x", "%"]).removed == 0
        assert store.remove([]).removed == 0
        assert store.ids() == ["a"]


def test_an_open_reader_does_not_stop_a_removal(tmp_path):
    with Store.open(tmp_path / "s.db") as store:
        for i in range(5):
            store.append(episode(f"e{i}"))
        reading = store.select()
        assert next(reading).id == "e0"
        store.remove(["e1", "e2"])
        assert [t.id for t in reading] == ["e3", "e4"]


@pytest.mark.parametrize("blob", [Blob(digest="0" * 64, media_type="image/png", size_bytes=1)])
def test_removing_an_episode_whose_image_was_never_put(tmp_path, blob):
    with Store.open(tmp_path / "s.db") as store:
        store.append(episode("a", final_observation=Observation(images=(blob,))))
        assert store.remove(["a"]).removed == 1
