"""Writers that are killed, a server that crashes, connections that go: what was acknowledged is there, once."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path

import psycopg
import pytest
from exchange_fakes import exchange

from postgres_server import Server
from potstill.errors import StoreError
from potstill.trajectories.opening import open_store, read_store
from potstill.trajectories.postgres.connection import PostgresConnection
from potstill.trajectories.postgres.store import PostgresStore

pytestmark = pytest.mark.postgres
CHILD = Path(__file__).parent.parent / "trajectories" / "journal_child.py"


def start(verb: str, url: str, name: str, count: int) -> subprocess.Popen[str]:
    command = [sys.executable, CHILD, verb, url, name, str(count)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def after(child: subprocess.Popen[str], lines: int) -> list[str]:
    assert child.stdout is not None
    return [child.stdout.readline() for _ in range(lines)]


def acknowledged(lines: list[str]) -> dict[int, tuple[str, int]]:
    whole = [line.split() for line in lines if line.endswith("\n")]
    return {int(words[1]): (words[2], int(words[3])) for words in whole if words[0] == "A"}


def all_are_there(url: str, told: dict[int, tuple[str, int]]) -> None:
    """Each acknowledged exchange under its number, each exchange once, and the next number is a new one."""
    with open_store(url) as store:
        found = {one.seq: one.exchange for one in store.recent(None, 0, limit=100_000)}
        for seq, (id, turn) in told.items():
            assert found[seq] == exchange(id, turn)
        kinds = [(one.episode_id, one.started_at) for one in found.values()]
        assert len(kinds) == len(set(kinds))
        assert store.check() == []
        assert sum(one.exchanges for one in store.open_episodes()) == len(found)
        assert store.record([exchange("next", 0)])[0] > max(told)


def test_a_killed_writer_has_lost_nothing_that_it_acknowledged(url):
    told: dict[int, tuple[str, int]] = {}
    for round in range(3):
        child = start("record", url, f"r{round}", 10_000)
        lines = after(child, 25 + 20 * round)
        child.kill()
        assert child.stdout is not None
        told |= acknowledged(lines + child.stdout.readlines())
        child.wait()
    assert len(told) > 60
    all_are_there(url, told)


def test_a_server_that_crashes_has_lost_nothing_and_writers_go_on(fragile: Server):
    """``pg_ctl stop -m immediate`` twice under a writer, which goes on by itself when the server is back."""
    url = fragile.url("crashes")
    child = start("record", url, "c", 10_000)
    lines = after(child, 30)
    for _ in range(2):
        fragile.stop("immediate")
        fragile.start()
        lines += after(child, 30)
    child.kill()
    assert child.stdout is not None
    told = acknowledged(lines + child.stdout.readlines())
    child.wait()
    assert len(told) >= 80
    all_are_there(url, told)


def test_a_server_that_is_away_is_reported_with_its_host_and_used_again_when_it_is_back(fragile: Server):
    url = fragile.url("away")
    with PostgresStore.at(url, patience_s=0.3) as store:
        assert store.record([exchange("e", 0)]) == [1]
        assert store.last_seq() == 1
        fragile.stop()
        futures = [store.record_nowait([exchange("e", turn)]) for turn in (1, 2)]
        for future in futures:
            with pytest.raises(StoreError, match=r"potstill-pg-.*cannot be reached.*Nothing of this was written"):
                future.result()
        fragile.start()
        assert store.record([exchange("e", 3)]) == [2]
        assert [r.exchange for r in store.exchanges("default", "e")] == [exchange("e", 0), exchange("e", 3)]


def test_reading_says_what_is_wrong_and_goes_on(fragile: Server, monkeypatch):
    from potstill.trajectories.postgres import store as stores

    monkeypatch.setattr(stores, "PATIENCE_S", 0.5)
    with open_store(fragile.url("reads")) as store:
        store.put_state("k", "a", 1, 0)
        fragile.stop("immediate")
        with pytest.raises(StoreError, match=r"potstill-pg-.*cannot be reached"):
            store.get_state("k", "a")
        fragile.start()
        assert store.get_state("k", "a") == (1, 1)
        ours = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'potstill'"
        fragile.sql(ours)
        assert store.get_state("k", "a") == (1, 1)
        assert store.put_state("k", "a", 2, 1)


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_commit_whose_answer_is_lost_is_neither_lost_nor_doubled(url, monkeypatch, when):
    real, cut = PostgresConnection.commit, [when]

    def commit(self: PostgresConnection) -> None:
        if not cut:
            return real(self)
        if cut.pop() == "after":
            real(self)
        self.raw.close()
        raise psycopg.OperationalError("server closed the connection unexpectedly")

    with open_store(url) as store:
        monkeypatch.setattr(PostgresConnection, "commit", commit)
        assert store.record([exchange("e", 0), exchange("e", 1)]) == [1, 2]
        assert cut == []
        store.add_spend("acme", "k", "2026-11-21", usd_micros=7)
        cut.append(when)
        assert store.add_spend("acme", "k", "2026-11-21", usd_micros=5).usd_micros == 12
        assert store.spend("acme")[0].usd_micros == 12
        assert store.record([exchange("e", 2)]) == [3]
        assert [r.seq for r in store.exchanges("default", "e")] == [1, 2, 3]
        assert store.check() == []


def test_a_commit_of_which_nothing_is_known_is_said_to_be_one(fragile: Server, monkeypatch):
    def commit(self: PostgresConnection) -> None:
        fragile.stop("immediate")
        raise psycopg.OperationalError("server closed the connection unexpectedly")

    with PostgresStore.at(fragile.url("unknown"), patience_s=0.2) as store:
        monkeypatch.setattr(PostgresConnection, "commit", commit)
        with pytest.raises(StoreError, match=r"lost in a commit: .* not known.*pg_xact_status"):
            store.record([exchange("e", 0)])


def test_the_connection_goes_between_two_works_of_a_group(url):
    with open_store(url) as store:
        begin, cut = threading.Event(), [True]
        store._writer.submit(lambda _: begin.wait())

        def breaks(connection: PostgresConnection) -> str:
            if cut:
                cut.pop()
                with read_store(url) as other, other._reading() as reading:
                    pid = connection.raw.info.backend_pid
                    reading.execute("SELECT pg_terminate_backend(?)", (pid,))
                connection.execute("SELECT 1")
            return "done"

        futures = [store.record_nowait([exchange("e", 0)]), store._writer.submit(breaks)]
        futures += [store.record_nowait([exchange("e", 1)])]
        begin.set()
        assert [future.result() for future in futures] == [[1], "done", [2]]
        assert [r.exchange for r in store.recent(None, 0)] == [exchange("e", 0), exchange("e", 1)]


def test_a_writer_that_hangs_in_a_transaction_does_not_stop_the_others_for_ever(url, monkeypatch):
    from potstill.trajectories.postgres import connection as connections

    monkeypatch.setattr(connections, "IDLE_TIMEOUT_S", 1)
    with open_store(url) as hanging, open_store(url) as other:
        ran: list[int] = []

        def hang(connection: PostgresConnection) -> int:
            connection.execute("INSERT INTO leases(name, holder, until) VALUES ('x', 'y', 1)")
            ran.append(len(ran))
            if len(ran) == 1:
                time.sleep(2.5)
            return connection.execute("SELECT count(*) FROM leases").fetchone()[0]

        future = hanging._writer.submit(hang)
        assert other.record([exchange("e", 0)]) == [1]
        assert future.result() == 1  # the server undid the first try; the second found nothing of it
        assert ran == [0, 1]
