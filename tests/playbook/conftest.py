"""A store with a clock that counts seconds, and an empty book in it."""

from __future__ import annotations

import pytest

from potstill.distill.playbook.book import Playbook
from potstill.trajectories import Store


class Clock:
    now = 1_000.0

    def __call__(self) -> float:
        self.now += 1.0
        return self.now


@pytest.fixture
def store(tmp_path):
    with Store.open(tmp_path / "s.db", clock=Clock()) as opened:
        yield opened


@pytest.fixture
def book(store):
    return Playbook(store, "default", "support")
