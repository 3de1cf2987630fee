"""A store to train from. A module that needs another number of episodes has a ``recorded`` of its own."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from command_line import expert_store


@pytest.fixture(scope="session")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with 20 episodes of the expert of house-rules."""
    return expert_store(tmp_path_factory.mktemp("taught") / "taught.db", 20)


@pytest.fixture
def db(recorded: Path, tmp_path: Path) -> str:
    """A copy of it, to write into."""
    return str(shutil.copy(recorded, tmp_path / "taught.db"))
