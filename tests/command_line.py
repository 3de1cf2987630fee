"""The command line in this process, where PyTorch is imported once for all tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from potstill.cli.main import main


class Said(NamedTuple):
    code: int
    out: str
    err: str


Here = Callable[..., Said]


def call(*words: object) -> int:
    """The exit code."""
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in words])
    return int(ended.value.code or 0)


def expert_store(db: Path, n: int) -> Path:
    """A new store with ``n`` episodes of house-rules by its expert."""
    words = ("--env", "house-rules", "--split", "train", "--n", n, "--teacher", "expert", "--db", db)
    assert call("distill", "context", *words) == 0
    return db
