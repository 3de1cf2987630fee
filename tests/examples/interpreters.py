"""What runs an example: the tests' own Python, a framework's environment, Node, or a shell."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from framework_venv import interpreter

OWN = ("openai_", "anthropic_")
FRAMEWORKS = ("agents_sdk", "pydantic_", "langgraph_", "smolagents_")


def made(name: str) -> Path:
    """A framework's environment; skips where it was not made."""
    found = interpreter(name)
    if found is None:
        pytest.skip(f"no environment with {name}. Type: python scripts/framework_venv.py {name}")
    return found


def command(example: Path, *arguments: str) -> list[str]:
    """How to start an example; skips where what it needs is absent."""
    if example.suffix == ".sh":
        for program in ("curl", "jq"):
            if shutil.which(program) is None:
                pytest.skip(f"{program} is not installed. Type: apt-get install {program} (or brew install {program})")
        return ["sh", str(example), *arguments]
    if example.suffix == ".mjs":
        folder = made("node")
        if shutil.which("node") is None:
            pytest.skip("node is not installed. Type: apt-get install nodejs (or brew install node)")
        return ["node", shutil.copy(example, folder), *arguments]
    if example.name.startswith(OWN):
        return [sys.executable, str(example), *arguments]
    return [str(made("frameworks" if example.name.startswith(FRAMEWORKS) else "dspy")), str(example), *arguments]
