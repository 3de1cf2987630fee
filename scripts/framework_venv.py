"""Makes the environment of an agent framework's examples, once, and prints its interpreter.

    python scripts/framework_venv.py dspy

What it knows: ``requirements/examples-NAME.txt``, pinned whole, and the user's cache folder, where the environment lies
under a hash of that file. Only wheels are taken, so nothing of a package runs while it is installed, and a wheel that
would run code at every start of Python (a ``.pth`` file, ``sitecustomize``) is refused before the first start. Old
environments of the same name are removed.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

REQUIREMENTS = Path(__file__).resolve().parent.parent / "requirements"
NAMES = ("frameworks", "dspy")
STARTS = ("sitecustomize.py", "usercustomize.py")


class CannotInstall(Exception):
    """The environment cannot be made here; the message says why."""


def cache() -> Path:
    """Where potstill keeps what can be made again."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("POTSTILL_CACHE") or Path(base) / "potstill") / "example-environments"


def interpreter(name: str) -> Path:
    """The Python that has these frameworks; the first call installs them. Raises ``CannotInstall``."""
    wanted = REQUIREMENTS / f"examples-{name}.txt"
    key = hashlib.sha256(wanted.read_bytes() + sys.version.encode()).hexdigest()[:12]
    folder = cache() / f"{name}-{key}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / f".{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        python = folder / "bin" / "python"
        if not (folder / "whole").exists():
            for old in folder.parent.glob(f"{name}-*"):
                shutil.rmtree(old)
            _make(wanted, folder, python)
            (folder / "whole").touch()
    return python


def _make(wanted: Path, folder: Path, python: Path) -> None:
    with tempfile.TemporaryDirectory() as wheels:
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
        _run([*pip, "download", "--no-deps", "--only-binary", ":all:", "-d", wheels, "-r", str(wanted)])
        found = sorted(Path(wheels).glob("*.whl"))
        if runs := [f"{wheel.name}: {name}" for wheel in found for name in started_by(wheel)]:
            raise CannotInstall(f"a wheel would run code at every start of Python: {', '.join(runs)}")
        _run([sys.executable, "-m", "venv", "--without-pip", str(folder)])
        _run([*pip, "--python", str(python), "install", "--no-deps", "--no-index", *map(str, found)])


def started_by(wheel: Path) -> list[str]:
    """Files of a wheel that Python would run at every start."""
    with zipfile.ZipFile(wheel) as archive:
        return [name for name in archive.namelist() if name.endswith((".pth", *STARTS))]


def _run(command: Sequence[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        last = [line for line in done.stderr.splitlines() if line.strip()][-1:]
        raise CannotInstall(f"{' '.join(command[2:5])} failed: {''.join(last)}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=NAMES)
    try:
        print(interpreter(parser.parse_args().name))
    except CannotInstall as error:
        print(f"{error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
