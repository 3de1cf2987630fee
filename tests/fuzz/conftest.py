"""What the fuzzers share: doubles of ``tests/serve``, answers of ``tests/wire``, and a gateway that is watched."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

for _name in ("serve", "wire"):
    sys.path.append(str(Path(__file__).parent.parent / _name))

from watched_gateway import Watched  # noqa: E402


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """One gateway before upstreams of all three dialects; it must end as it began."""
    with Watched(tmp_path_factory.mktemp("watched") / "gateway.db") as gateway:
        yield gateway
