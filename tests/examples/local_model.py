"""A real language model behind the gateway: llama.cpp in a process, and what it says it read and wrote."""

from __future__ import annotations

import re
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import NamedTuple

from llama_process import MAX_TOKENS

__all__ = ["KEY", "MAX_TOKENS", "LocalModel", "Spent"]

HERE = Path(__file__).parent
KEY = "no-key"
"""What clients send and the server wants: it answers nobody else, so the gateway must have passed it on."""
COUNTED = re.compile(r"^llamacpp:(prompt_tokens|prompt_tokens_cached|tokens_predicted)_total (\S+)$", re.MULTILINE)


class Spent(NamedTuple):
    """Tokens that a server says it read anew, took from its cache, and wrote."""

    read: int
    cached: int
    written: int

    def __sub__(self, other: Spent) -> Spent:  # type: ignore[override]
        return Spent(*(mine - theirs for mine, theirs in zip(self, other, strict=True)))


class LocalModel:
    def __init__(self, weights: Path) -> None:
        command = [sys.executable, str(HERE / "llama_process.py"), str(weights), str(HERE / "tool_template.jinja"), KEY]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.url = self._process.stdout.readline().strip()
        if not self.url:
            raise RuntimeError(f"the llama.cpp server ended with {self._process.wait()} before it served")

    def spent(self) -> Spent:
        """Since it started."""
        request = urllib.request.Request(f"{self.url}/metrics", headers={"authorization": f"Bearer {KEY}"})
        with urllib.request.urlopen(request, timeout=120) as response:
            counted = {name: int(float(value)) for name, value in COUNTED.findall(response.read().decode())}
        return Spent(counted["prompt_tokens"], counted["prompt_tokens_cached"], counted["tokens_predicted"])

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(30)
