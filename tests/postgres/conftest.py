"""Servers of these tests: the shared one, and one that may be stopped and crashed."""

from __future__ import annotations

import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from postgres_server import Server, skip_without, with_vectors

sys.path.append(str(Path(__file__).parent.parent / "trajectories"))  # its fakes of episodes and exchanges


@pytest.fixture(scope="session")
def vector_server() -> Iterator[Server]:
    """A server whose databases may have pgvector."""
    skip_without()
    programs = with_vectors()
    if programs is None:
        pytest.skip("no pgvector. Type: pip install pgserver, or apt-get install postgresql-NN-pgvector")
    server = Server(programs=programs)
    yield server
    server.remove()


@pytest.fixture
def url(postgres: Server) -> str:
    """A place where no store is yet."""
    return postgres.url(f"t_{uuid.uuid4().hex[:12]}")


@pytest.fixture(scope="session")
def _fragile() -> Iterator[Server]:
    skip_without()
    server = Server(durable=True)
    yield server
    server.remove()


@pytest.fixture
def fragile(_fragile: Server) -> Iterator[Server]:
    """A server that a test may stop; it waits for the disk as a real one does, and runs again for the next test."""
    yield _fragile
    if not _fragile.running():
        _fragile.start()
