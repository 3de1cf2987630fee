"""An episode leaves the journal and becomes a trajectory at once, goes on, and gets its outcome whenever it is told."""

from __future__ import annotations

import msgspec
import pytest
from exchange_fakes import exchange
from trajectory_fakes import episode

from engines import raw
from potstill.errors import StoreError
from potstill.trajectories import Store
from potstill.trajectories.exchange import Folded, OutcomePlace
from potstill.types import Blob, Observation, Outcome, OutcomeSource

DAY = 86_400.0
YES = Outcome(success=True, source=OutcomeSource.HUMAN, detail="looked at it")
NO = Outcome(success=False, source=OutcomeSource.CHECKER)


@pytest.fixture
def store(tmp_path):
    with Store.open(tmp_path / "s.db") as opened:
        yield opened


def record(store: Store, id: str, *turns: int) -> list[int]:
    return [seq for turn in turns for seq in store.record([exchange(id, turn)])]


def counts(store: Store) -> dict[str, int]:
    tables = ("trajectories", "steps", "nodes", "messages", "journal", "open_episodes", "folded")
    with raw(store) as connection:
        return {t: connection.execute(f"SELECT count(*) FROM {t}").fetchone()[0] for t in tables}


# --- folding --------------------------------------------------------------------------------------------------------


def test_an_episode_becomes_a_trajectory(store):
    record(store, "other", 0)
    seqs = record(store, "e", 0, 1, 2)
    held = store.episode("default", "e")
    assert [r.seq for r in held.exchanges] == seqs
    assert (held.outcome, held.trajectory_id, held.folded_seq) == (None, None, 0)
    made = episode("t", steps=3, outcome=None)
    assert store.fold("default", "e", made, seqs[-1]) is Folded.DONE
    assert store.get("t") == made
    assert store.exchanges("default", "e") == []
    assert [one.episode_id for one in store.open_episodes()] == ["other"]
    assert store.fold("default", "e", made, seqs[-1]) is Folded.ALREADY
    assert store.fold("default", "nobody", made, 99) is Folded.ALREADY
    after = store.episode("default", "e")
    assert (after.exchanges, after.trajectory_id, after.folded_seq) == ((), "t", seqs[-1])
    assert store.check() == []


def test_a_folded_episode_leaves_nothing_in_memory(store):
    seqs = {id: record(store, id, 0, 1, 2) for id in ("e", "f")}
    assert store._heads.bytes > 0
    for id, ended in seqs.items():
        assert store.fold("default", id, episode(id, steps=3, outcome=None), ended[-1]) is Folded.DONE
    assert store._heads.bytes == 0
    record(store, "e", 3, 4)
    assert [one.exchange for one in store.exchanges("default", "e")] == [exchange("e", turn) for turn in (3, 4)]


def test_what_came_while_it_was_folded_stays_and_replaces_the_trajectory_later(store, tmp_path):
    seqs = record(store, "e", 0, 1)
    later = record(store, "e", 2, 3, 4)
    assert store.fold("default", "e", episode("t", steps=2), seqs[-1]) is Folded.DONE
    assert [r.exchange for r in store.exchanges("default", "e")] == [exchange("e", turn) for turn in (2, 3, 4)]
    assert [r.seq for r in store.exchanges("default", "e")] == later
    (row,) = store.open_episodes()
    assert (row.exchanges, row.first_at, row.last_at) == (3, 1_790_000_002.0, 1_790_000_004.5)
    assert store.check() == []
    last = record(store, "e", 5)
    held = store.episode("default", "e")
    assert (held.trajectory_id, held.folded_seq, len(held.exchanges)) == ("t", seqs[-1], 4)
    whole = episode("t", steps=6)
    assert store.fold("default", "e", whole, last[-1], after_seq=held.folded_seq) is Folded.DONE
    assert list(store.select()) == [whole]
    assert store.open_episodes() == []
    with Store.open(tmp_path / "never.db") as never:
        never.append(whole)
        wanted = counts(never)
    assert counts(store) == {**wanted, "folded": 1}  # of the one that was replaced nothing is left
    assert store.check() == []


def test_who_read_too_early_cannot_fold(store):
    """Two processes read the episode; the slower one would lose what the faster one folded."""
    seqs = record(store, "e", 0, 1)
    early = store.episode("default", "e")
    assert store.fold("default", "e", episode("t", steps=1), seqs[0], after_seq=early.folded_seq) is Folded.DONE
    assert store.fold("default", "e", episode("t", steps=2), seqs[1], after_seq=early.folded_seq) is Folded.STALE
    assert store.get("t") == episode("t", steps=1)
    assert len(store.exchanges("default", "e")) == 1
    fresh = store.episode("default", "e")
    assert store.fold("default", "e", episode("t", steps=2), seqs[1], after_seq=fresh.folded_seq) is Folded.DONE
    assert store.get("t") == episode("t", steps=2)


def test_a_continuation_keeps_its_id(store):
    record(store, "e", 0)
    store.fold("default", "e", episode("t"), 1)
    record(store, "e", 1)
    with pytest.raises(StoreError, match="folded into trajectory 't' before; 'u' cannot replace it"):
        store.fold("default", "e", episode("u"), 2, after_seq=1)
    assert store.ids() == ["t"]
    assert len(store.exchanges("default", "e")) == 1


def test_an_id_that_another_trajectory_has_changes_nothing(store):
    store.append(episode("t", words="imported"))
    record(store, "e", 0)
    with pytest.raises(StoreError, match="different trajectory with id 't'"):
        store.fold("default", "e", episode("t"), 1)
    assert len(store.exchanges("default", "e")) == 1
    assert store.episode("default", "e").trajectory_id is None


def test_an_old_image_of_a_continuation_is_not_swept(tmp_path):
    now = [100 * DAY]
    with Store.open(tmp_path / "s.db", clock=lambda: now[0]) as store:
        blob = store.put_blob(b"pixels", "image/png")
        shown = Observation(text="x", images=(Blob(digest=blob.digest, media_type="image/png", size_bytes=6),))
        record(store, "e", 0)
        store.fold("default", "e", episode("t", final_observation=shown), 1)
        now[0] = 200 * DAY
        record(store, "e", 1)
        store.fold("default", "e", episode("t", steps=5, final_observation=shown), 2, after_seq=1)
        assert store.get_blob(blob.digest) == b"pixels"


def test_a_trajectory_that_was_removed_is_not_brought_back_by_a_late_fold(store):
    seqs = record(store, "e", 0)
    store.fold("default", "e", episode("t"), seqs[-1])
    store.remove(["t"])
    assert store.fold("default", "e", episode("t"), seqs[-1]) is Folded.ALREADY
    assert store.ids() == []
    more = record(store, "e", 1)
    assert store.episode("default", "e").folded_seq == 0
    assert store.fold("default", "e", episode("t"), more[-1]) is Folded.DONE


def test_damaged_exchanges_do_not_keep_an_episode_open(store):
    seqs = record(store, "e", 0, 1, 2, 3)
    with raw(store) as connection:
        connection.execute("UPDATE journal SET frame = digest WHERE seq = ?", (seqs[1],))
    held = store.episode("default", "e")
    assert held.damaged
    assert store.fold("default", "e", episode("t", steps=1), seqs[-1]) is Folded.DONE
    assert store.open_episodes() == []


# --- outcomes -------------------------------------------------------------------------------------------------------


def test_an_outcome_told_before_the_fold_is_on_the_trajectory(store):
    record(store, "e", 0)
    assert store.set_episode_outcome("default", "e", NO) is OutcomePlace.JOURNAL
    assert store.set_episode_outcome("default", "e", YES) is OutcomePlace.JOURNAL
    assert [one.episode_id for one in store.open_episodes(outcome_known=True)] == ["e"]
    assert store.open_episodes()[0].outcome_known
    assert store.episode("default", "e").outcome == YES
    made = episode("t", outcome=None)
    store.fold("default", "e", made, 1)
    assert store.get("t") == msgspec.structs.replace(made, outcome=YES)
    assert store.ids(success=True) == ["t"]


def test_an_outcome_told_while_it_is_folded_wins_over_the_older_one(store):
    record(store, "e", 0)
    store.set_episode_outcome("default", "e", YES)
    held = store.episode("default", "e")
    store.set_episode_outcome("default", "e", NO)
    store.fold("default", "e", episode("t", outcome=held.outcome), 1)
    assert store.get("t").outcome == NO


def test_an_outcome_told_after_the_fold_reaches_the_trajectory(store):
    record(store, "e", 0)
    store.fold("default", "e", episode("t", outcome=None), 1)
    assert store.set_episode_outcome("default", "e", NO) is OutcomePlace.TRAJECTORY
    assert store.get("t").outcome == NO
    assert store.set_episode_outcome("x", "e", YES) is OutcomePlace.UNSEEN  # another tenant's episode of that name
    assert store.get("t").outcome == NO


def test_an_outcome_of_an_episode_that_goes_on_reaches_both(store):
    record(store, "e", 0)
    store.fold("default", "e", episode("t", outcome=None), 1)
    record(store, "e", 1)
    assert not store.open_episodes()[0].outcome_known
    assert store.set_episode_outcome("default", "e", YES) is OutcomePlace.BOTH
    assert store.get("t").outcome == YES
    store.fold("default", "e", episode("t", steps=5, outcome=None), 2, after_seq=1)
    assert store.get("t") == episode("t", steps=5, outcome=YES)


def test_a_continuation_keeps_the_outcome_that_is_known(store):
    record(store, "e", 0)
    store.fold("default", "e", episode("t", outcome=None), 1)
    store.set_episode_outcome("default", "e", YES)
    record(store, "e", 1)
    store.fold("default", "e", episode("t", steps=5, outcome=None), 2, after_seq=1)
    assert store.get("t").outcome == YES


def test_an_outcome_may_come_before_the_first_exchange_is_durable(store):
    assert store.set_episode_outcome("default", "e", YES) is OutcomePlace.UNSEEN
    assert store.open_episodes() == []
    record(store, "e", 0)
    (row,) = store.open_episodes()
    assert (row.exchanges, row.outcome_known) == (1, True)
    store.fold("default", "e", episode("t", outcome=None), 1)
    assert store.get("t").outcome == YES


def test_an_outcome_that_cannot_be_kept_is_refused(store):
    with pytest.raises(StoreError, match="outcome of episode 'e'"):
        store.set_episode_outcome("default", "e", Outcome(success=True, score=float("nan")))
    with pytest.raises(StoreError, match="episode_id is ''"):
        store.set_episode_outcome("default", "", YES)


def test_an_episode_is_known_once_an_exchange_of_it_is_durable_and_after_the_fold(store):
    store.set_episode_outcome("default", "e", YES)
    assert not store.episode_known("default", "e")  # an outcome alone is no episode
    record(store, "e", 0)
    assert store.episode_known("default", "e")
    assert not store.episode_known("x", "e")
    store.fold("default", "e", episode("t"), 1)
    assert store.episode_known("default", "e")
    store.remove(["t"])
    assert not store.episode_known("default", "e")


# --- retention ------------------------------------------------------------------------------------------------------


def test_whole_days_of_open_episodes_go_by_their_last_call(tmp_path):
    with Store.open(tmp_path / "s.db", clock=lambda: 9 * DAY) as store:
        for day in (10, 11, 12):
            for id in (f"day{day}", "long"):
                store.record([exchange(id, day, started_at=day * DAY + 5, response=bytes(range(256)) * 400)])
        store.set_episode_outcome("default", "never came", YES)
        store.append(episode("t", started_at=10 * DAY))
        assert store.prune_journal(11 * DAY) == 1
        assert {one.episode_id for one in store.open_episodes()} == {"day11", "day12", "long"}
        report = store.prune(12 * DAY + 100)
        assert (report.removed, report.exchanges) == (1, 1)
        assert {one.episode_id for one in store.open_episodes()} == {"day12", "long"}
        assert len(store.exchanges("default", "long")) == 3
        assert store.episode("default", "never came").outcome is None
        emptied = store.prune(20 * DAY)
        assert (emptied.removed, emptied.exchanges) == (0, 4)
        assert emptied.bytes_after <= emptied.bytes_before
        assert counts(store) == dict.fromkeys(counts(store), 0)
        assert store.check() == []


def test_many_open_episodes_are_pruned_in_several_transactions(store):
    store.record([exchange(f"e{i}", 0) for i in range(250)])
    assert store.prune_journal(4e9) == 250
    assert store.open_episodes() == []
