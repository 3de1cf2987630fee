"""Writes what a bench measured to ``bench/results/NAME.json``, with all that is needed to judge and repeat it.

It knows the machine (processor, cores, memory, Python), the commit and the command. It records no host name and no
path of the machine. ``bench/tables.py`` turns the files into the tables of the README and the docs.
"""

from __future__ import annotations

import json
import math
import os
import platform
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "bench" / "results"
ARGUMENTS = tuple(sys.argv)
"""As the bench was started: libraries that are called later may change ``sys.argv``."""
RESERVED = {"name", "command", "commit", "machine", "n", "seeds", "prices_date", "rows"}


def write(
    name: str,
    rows: Sequence[Mapping[str, Any]],
    *,
    n: int | None = None,
    seeds: Sequence[int] | None = None,
    prices_date: str | None = None,
    extra: Mapping[str, Any] | None = None,
    folder: Path = RESULTS,
) -> Path:
    """Write one result file, whole or not at all, and return its path.

    ``n`` is the number of tasks (or measurements) behind each row; paired differences go into ``extra`` as
    ``{"differences": [{"of": ..., "against": ..., "difference": x, "difference_ci": [low, high]}]}``.
    Raises ``ValueError`` for a key of ``extra`` that the file already has.
    """
    taken = RESERVED & set(extra or {})
    if taken:
        raise ValueError(f"extra may not set {sorted(taken)}: these keys are written by write() itself")
    result = {
        "name": name,
        **provenance(n, seeds, prices_date),
        "rows": [dict(row) for row in rows],
        **(extra or {}),
    }
    text = json.dumps(_finite(result), indent=1, ensure_ascii=False, allow_nan=False, default=_number) + "\n"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    with tempfile.NamedTemporaryFile("w", dir=folder, suffix=".tmp", delete=False, encoding="utf-8") as file:
        file.write(text)
    os.chmod(file.name, 0o644)
    os.replace(file.name, path)
    print(f"wrote {path.relative_to(ROOT) if path.is_relative_to(ROOT) else path}", file=sys.stderr)
    return path


def provenance(
    n: int | None = None, seeds: Sequence[int] | None = None, prices_date: str | None = None
) -> dict[str, Any]:
    """What judges and repeats a measurement. A file whose parts are measured one after the other has one of each under
    ``measured``, by a value that the part's rows hold (``{"measured": {"drift": provenance(...)}}``)."""
    return {
        "command": command(),
        "commit": commit(),
        "machine": machine(),
        "n": n,
        "seeds": None if seeds is None else list(seeds),
        "prices_date": prices_date,
    }


def command() -> str:
    """The command that made the result, as a shell takes it at the root; absolute paths lose their folders."""
    script = Path(ARGUMENTS[0]).resolve()
    shown = script.relative_to(ROOT).as_posix() if script.is_relative_to(ROOT) else script.name
    return " ".join(["python", shown, *(shlex.quote(_portable(argument)) for argument in ARGUMENTS[1:])])


def _portable(argument: str) -> str:
    option, equals, value = argument.rpartition("=")
    return f"{option}{equals}{Path(value).name if value.startswith('/') else value}"


def commit() -> str:
    """The commit that was measured, marked ``+changes`` if code differed from it."""
    head = _git("rev-parse", "--short=10", "HEAD")
    if head is None:
        return "unknown"
    changed = _git("status", "--porcelain", "--untracked-files=no", "--", "src", "bench/*.py", "pyproject.toml")
    return head + ("+changes" if changed else "")


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def machine() -> dict[str, Any]:
    """What speed depends on: processor, usable cores, memory, Python."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "cpu": _processor(),
        "cores": cores,
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.lower().startswith("model name"):
                return line.partition(":")[2].strip()
    if sys.platform == "darwin":
        done = subprocess.run(["sysctl", "-n", "machdep.cpu.brand_string"], capture_output=True, text=True, check=False)
        if done.stdout.strip():
            return done.stdout.strip()
    return platform.processor() or platform.machine()


def _finite(value: Any) -> Any:
    """JSON has no NaN: what is not a number is unknown, null."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value


def _number(value: Any) -> Any:
    """NumPy's scalars and arrays as plain numbers."""
    return _finite(value.tolist())
