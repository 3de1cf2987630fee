"""Traces of conversations: who finds which episode, on both engines."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from potstill.trajectories.store import Store
from potstill.trajectories.traces import Trace, _signed

LARGEST = 2**64 - 1


def test_the_longest_beginning_that_one_episode_has_leads_to_it(tmp_path):
    with Store.open(tmp_path / "a.db") as store:
        store.leave_traces([Trace("t", 1, "left", 5.0), Trace("t", 1, "right", 5.0)])
        store.leave_traces([Trace("t", 2, "left", 6.0), Trace("t", LARGEST, "right", 6.0), Trace("t", 0, "x\x00", 6.0)])
        assert store.follow_traces("t", [2, 1]) == (2, "left")
        assert store.follow_traces("t", [7, LARGEST, 2, 1]) == (LARGEST, "right")
        assert store.follow_traces("t", [9, 1]) == (1, None)
        assert store.follow_traces("t", [0]) == (0, "x\x00")
        assert store.follow_traces("t", []) is None
        assert store.follow_traces("t", range(10_000, 20_000)) is None


def test_tenants_never_find_each_others_episodes(tmp_path):
    with Store.open(tmp_path / "a.db") as store:
        store.leave_traces([Trace("a", 1, "ours", 5.0)])
        assert store.follow_traces("b", [1]) is None
        store.leave_traces([Trace("b", 1, "theirs", 5.0)])
        assert store.follow_traces("a", [1]) == (1, "ours")


def test_old_traces_go_and_those_that_were_left_again_stay(tmp_path):
    with Store.open(tmp_path / "a.db") as store:
        store.leave_traces([Trace("a", 1, "e", 5.0), Trace("a", 2, "e", 5.0), Trace("a", 2, "e", 1.0)])
        store.leave_traces([Trace("a", 2, "e", 9.0)])
        store.leave_traces([])
        assert store.forget_traces(9.0) == 1
        assert store.follow_traces("a", [1]) is None
        assert store.follow_traces("a", [2]) == (2, "e")


@given(st.integers(0, LARGEST), st.integers(0, LARGEST))
def test_hashes_fit_into_the_database_and_stay_apart(one, other):
    assert -(2**63) <= _signed(one) < 2**63
    assert (_signed(one) == _signed(other)) == (one == other)
