"""What the gateway remembers of an episode goes with it, and with nothing else of its name."""

from __future__ import annotations

import pytest
from exchange_fakes import exchange
from trajectory_fakes import episode

from potstill.trajectories import Store
from potstill.trajectories.episode_rows import CASCADE, COUNTED, episode_digest, episode_key

DAY = 86_400.0


@pytest.fixture
def store(tmp_path):
    with Store.open(tmp_path / "s.db") as opened:
        yield opened


def remember(store: Store, namespace: str, id: str) -> None:
    assert store.put_state(CASCADE, episode_key(namespace, id), {"teacher_left": 2}, 0)
    assert store.put_state(COUNTED, episode_digest(namespace, id), {"success": True}, 0)


def known(store: Store, namespace: str, id: str) -> tuple[bool, bool]:
    rows = ((CASCADE, episode_key(namespace, id)), (COUNTED, episode_digest(namespace, id)))
    cascade, counted = (store.get_state(*row) is not None for row in rows)
    return cascade, counted


def test_an_open_episode_that_is_pruned_takes_its_rows_along(store):
    for namespace, id in (("default", "e"), ("default", "young"), ("acme", "e")):
        store.record([exchange(id, 0, namespace=namespace, started_at=DAY if id == "e" else 9 * DAY)])
        remember(store, namespace, id)
    store.put_state("rollout", episode_key("default", "e"), 1, 0)
    store.prune(3 * DAY, namespace="default")
    assert known(store, "default", "e") == (False, False)
    assert known(store, "default", "young") == known(store, "acme", "e") == (True, True)
    assert store.get_state("rollout", episode_key("default", "e")) is not None


def test_they_stay_while_the_episode_goes_on_and_go_with_its_trajectory(store):
    remember(store, "default", "e")
    seq = store.record([exchange("e", 0, started_at=DAY)])[-1]
    store.fold("default", "e", episode("default/e", steps=1, started_at=DAY), seq)
    later = store.record([exchange("e", 1, started_at=DAY + 1)])[-1]
    store.fold("default", "e", episode("default/e", steps=2, started_at=DAY), later, after_seq=seq)
    assert known(store, "default", "e") == (True, True)
    store.record([exchange("e", 2, started_at=DAY + 2)])
    assert store.prune_journal(3 * DAY) == 1
    assert known(store, "default", "e") == (True, True)
    store.remove(["default/e", "unknown"])
    assert known(store, "default", "e") == (False, False)


def test_names_of_two_tenants_never_make_one_key():
    assert episode_key("a", "b/c") != episode_key("a/b", "c")
    assert episode_digest("a", "b/c") != episode_digest("a/b", "c")
    assert len(episode_digest("t", "e" * 10_000)) == 32
    assert episode_digest("t", "\ud800")
