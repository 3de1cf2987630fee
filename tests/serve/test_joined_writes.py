"""The head of an answer waits for the beginning of its body, and for nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

import pytest

from potstill.serve.clients.client import Client
from potstill.serve.clients.protocol import JoiningTransport


class Wire(asyncio.Transport):
    def __init__(self) -> None:
        super().__init__({"peername": ("127.0.0.1", 4711)})
        self.packets: list[bytes] = []
        self.closed = False

    def write(self, data: Any) -> None:
        self.packets.append(bytes(data))

    def writelines(self, list_of_data: Iterable[Any]) -> None:
        self.packets.append(b"".join(list_of_data))

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True


def test_one_write_is_held_until_the_next() -> None:
    wire = Wire()
    joining = JoiningTransport(wire)
    joining.write(b"one")
    joining.hold()
    joining.write(b"head ")
    assert wire.packets == [b"one"]
    joining.write(b"body")
    joining.write(b"more")
    assert wire.packets == [b"one", b"head body", b"more"]
    assert joining.get_extra_info("peername") == ("127.0.0.1", 4711)


def test_what_is_held_goes_out_before_the_connection_is_closed() -> None:
    wire = Wire()
    joining = JoiningTransport(wire)
    joining.hold()
    joining.write(b"head")
    joining.close()
    assert wire.packets == [b"head"]
    assert wire.closed
    assert joining.is_closing()


class Held:
    lost, on_lost, whole = False, None, True

    def __init__(self) -> None:
        self.said: list[str] = []

    def hold_head(self) -> None:
        self.said.append("hold")

    async def send(self, message: Any) -> None:
        self.said.append(message["type"].rpartition(".")[2])


@pytest.mark.parametrize("known", [True, False])
async def test_the_head_is_held_only_where_a_body_follows_at_once(known: bool) -> None:
    held = Held()
    connection = held if known else None
    hold = ["hold"] if known else []
    await Client(held.send, [], connection).whole(200, [], b"{}")
    assert held.said == [*hold, "start", "body"]
    held.said.clear()
    client = Client(held.send, [], connection)
    await client.begin(200, [])
    await client.write(b"data: 1\n\n")
    await client.end()
    assert held.said == ["start", "body", "body"]
    held.said.clear()
    await Client(held.send, [], connection).begin(200, [], joined=True)
    assert held.said == [*hold, "start"]
