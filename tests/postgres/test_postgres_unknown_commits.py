"""A connection that is lost in COMMIT, and a server that cannot be asked for longer than the writer is patient.

A real server behind a wire that is cut when COMMIT goes over it: the server gets the COMMIT, or does not, and what it
says to that never comes back.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import uuid
from collections.abc import Iterator
from urllib.parse import quote

import pytest
from exchange_fakes import exchange

from postgres_server import PASSWORD, Server
from potstill.serve.recording import recorder as recorders
from potstill.serve.recording.recorder import Recorder
from potstill.serve.telemetry.metrics import Metrics
from potstill.serve.tenants.key_rows import StoreRows
from potstill.serve.tenants.limits import Amount
from potstill.trajectories.postgres.store import PostgresStore
from potstill.trajectories.writer import CommitUnknown, Unreachable

pytestmark = pytest.mark.postgres
DAY = 20_778


class Wire:
    """Between a client and the server. ``cut_at_commit`` cuts it at the next COMMIT; ``mend`` lets clients in again."""

    def __init__(self, port: int) -> None:
        self._server = ("127.0.0.1", port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._reaches: bool | None = None
        self.cut = threading.Event()
        threading.Thread(target=self._accept, daemon=True).start()

    def cut_at_commit(self, *, reaches: bool) -> None:
        """``reaches``: the server gets the COMMIT, only its answer is lost."""
        self.cut.clear()
        self._reaches = reaches

    def mend(self) -> None:
        self.cut.clear()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                if self.cut.is_set():
                    client.close()
                    continue
                server = socket.create_connection(self._server)
                for source, target, up in ((client, server, True), (server, client, False)):
                    threading.Thread(target=self._carry, args=(source, target, up), daemon=True).start()

    def _carry(self, source: socket.socket, target: socket.socket, up: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                if up and self._reaches is not None and b"COMMIT\x00" in data:
                    self.cut.set()
                    if self._reaches:
                        target.sendall(data)
                    self._reaches = None
                    source.shutdown(socket.SHUT_RDWR)
                    break
                if self.cut.is_set():
                    break
                target.sendall(data)
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_WR if self.cut.is_set() and up else socket.SHUT_RDWR)


@pytest.fixture
def wire(postgres: Server) -> Iterator[Wire]:
    made = Wire(postgres.port)
    yield made
    made.close()


@pytest.fixture
def store(wire: Wire) -> Iterator[PostgresStore]:
    """A store over the wire that gives up soon."""
    schema = f"t_{uuid.uuid4().hex[:12]}"
    login = f"potstill:{quote(PASSWORD, safe='')}@127.0.0.1:{wire.port}"
    place = f"postgresql://{login}/postgres?sslmode=disable&schema={schema}"
    with PostgresStore.at(place, patience_s=0.2) as made:
        yield made


@pytest.mark.parametrize("reaches", [True, False], ids=["committed", "rolled back"])
def test_what_may_have_been_committed_is_written_once(store: PostgresStore, wire: Wire, reaches: bool) -> None:
    assert store.record([exchange("e", 0)]) == [1]
    wire.cut_at_commit(reaches=reaches)
    with pytest.raises(CommitUnknown, match="lost in a commit") as unknown:
        store.record([exchange("e", 1), exchange("e", 2)])
    with pytest.raises(Unreachable):
        unknown.value.again().result()
    wire.mend()
    assert unknown.value.again().result() == [2, 3]
    assert store.record([exchange("e", 3)]) == [4]
    assert [one.exchange for one in store.recent(None, 0)] == [exchange("e", turn) for turn in range(4)]
    assert store.check() == []


def test_a_second_commit_that_is_lost_is_asked_about_too(store: PostgresStore, wire: Wire) -> None:
    wire.cut_at_commit(reaches=False)
    with pytest.raises(CommitUnknown) as unknown:
        store.record([exchange("e", 0)])
    wire.mend()
    wire.cut_at_commit(reaches=True)
    with pytest.raises(CommitUnknown) as second:
        unknown.value.again().result()
    wire.mend()
    assert second.value.again().result() == [1]
    assert [one.seq for one in store.recent(None, 0)] == [1]


@pytest.mark.parametrize("reaches", [True, False], ids=["committed", "rolled back"])
def test_the_recorder_keeps_each_exchange_once(store: PostgresStore, wire: Wire, monkeypatch, reaches: bool) -> None:
    monkeypatch.setattr(recorders, "ASK_EVERY_S", 0.05)

    async def gateway() -> None:
        metrics = Metrics()
        recorder = Recorder(store, max_bytes=1 << 20, metrics=metrics, linger_s=0.3)
        wire.cut_at_commit(reaches=reaches)
        for turn in range(3):
            recorder.put(await recorder.reserve(10), exchange("e", turn))
        await asyncio.to_thread(wire.cut.wait)
        await asyncio.sleep(0.6)
        wire.mend()
        await recorder.aclose()
        assert sum(metrics.recorded.values.values()) == 3
        assert sum(metrics.unrecorded.values.values()) == 0

    asyncio.run(gateway())
    assert [one.exchange for one in store.recent(None, 0)] == [exchange("e", turn) for turn in range(3)]


def test_a_recorder_that_never_learns_gives_up_and_doubles_nothing(store, wire: Wire, monkeypatch) -> None:
    monkeypatch.setattr(recorders, "ASK_EVERY_S", 0.05)
    monkeypatch.setattr(recorders, "UNKNOWN_S", 0.3)

    async def gateway() -> None:
        metrics = Metrics()
        recorder = Recorder(store, max_bytes=1 << 20, metrics=metrics, linger_s=0.0)
        wire.cut_at_commit(reaches=True)
        recorder.put(await recorder.reserve(10), exchange("e", 0))
        await recorder.caught_up(30.0)
        wire.mend()
        recorder.put(await recorder.reserve(10), exchange("e", 1))
        await recorder.aclose()
        assert sum(metrics.unrecorded.values.values()) == 1

    asyncio.run(gateway())
    assert [one.exchange for one in store.recent(None, 0)] == [exchange("e", 0), exchange("e", 1)]


@pytest.mark.parametrize("reaches", [True, False], ids=["committed", "rolled back"])
def test_spend_is_added_once(store: PostgresStore, wire: Wire, reaches: bool) -> None:
    rows = StoreRows(store)
    rows.add_spend({("acme", "k", DAY): Amount(7, 1, 1)})
    wire.cut_at_commit(reaches=reaches)
    rows.add_spend({("acme", "k", DAY): Amount(5, 1, 1)})
    with pytest.raises(Unreachable):
        rows.add_spend({("acme", "k", DAY): Amount(100, 1, 1)})
    wire.mend()
    assert rows.spent("acme", "k", DAY) == Amount(12, 2, 2)
    rows.add_spend({("acme", "k", DAY): Amount(1, 1, 1)})
    assert rows.spent("acme", None, DAY) == Amount(13, 3, 3)
