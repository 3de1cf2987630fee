"""What benches share that work through the commands a user types."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from potstill.trajectories import Store


def potstill(*words: object) -> Any:
    """A command of ours with ``--json``; progress goes to stderr as always."""
    command = [sys.executable, "-m", "potstill", *map(str, words), "--json"]
    return json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)


def runs(db: Path) -> set[str]:
    """Names of the runs in a store; none where there is no store."""
    if not db.exists():
        return set()
    with Store.read(db) as store:
        return {run.run_id for run in store.runs(namespace="default")}
