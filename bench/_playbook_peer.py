"""The PyPI package ``ace-framework`` in a virtual environment of its own, asked by running ``_playbook_kayba.py``.

The wheel is looked through for what Python would run unasked (``.pth``, ``sitecustomize``) before it is installed, and
installed without what it requires: litellm is replaced by a stub, its roles (pydantic-ai) are not needed, and what it
does need for a book is named in ``NEEDED``. What it does not do: measure (that is done there), rows.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

VERSION = "0.13.0"
LIBRARY = f"ace-framework {VERSION}"
NEEDED = ("pydantic>=2,<3", "numpy>=2,<3", "rank-bm25>=0.2.2,<0.3")
SCRIPT = Path(__file__).with_name("_playbook_kayba.py")
ONE_THREAD = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL")}
_RUNS_UNASKED = re.compile(r"(?:^|/)(?:[^/]+\.pth|(?:site|user)customize(?:\.py|/))")
_PYTHONS = ("python3.12", "python3.13", "python3.14")


def environment(folder: Path, python: str | None = None) -> Path:
    """The Python of the virtual environment; made where it is not there. ``python``: the one to make it with, 3.12 or
    newer. Raises ``RuntimeError`` where there is none, and for a wheel that would run code whenever Python starts."""
    home = folder / f"ace-framework-{VERSION}"
    inside, done = home / "bin" / "python", home / "installed"
    if done.exists():
        return inside
    subprocess.run([python or _python(), "-m", "venv", str(home)], check=True)
    pip = [str(inside), "-m", "pip", "-q", "--disable-pip-version-check"]
    subprocess.run([*pip, "download", "--no-deps", "-d", str(home), f"ace-framework=={VERSION}"], check=True)
    (wheel,) = home.glob("*.whl")
    unasked = [member for member in zipfile.ZipFile(wheel).namelist() if _RUNS_UNASKED.search(member)]
    if unasked:
        raise RuntimeError(f"{wheel.name} holds {unasked}: it is not installed.")
    subprocess.run([*pip, "install", "--no-deps", str(wheel)], check=True)
    subprocess.run([*pip, "install", "--only-binary", ":all:", *NEEDED], check=True)
    done.touch()
    return inside


def _python() -> str:
    for name in _PYTHONS:
        found = shutil.which(name)
        if found and subprocess.run([found, "--version"], capture_output=True, check=False).returncode == 0:
            return found
    raise RuntimeError("ace-framework needs Python 3.12 or newer, and none is here. Name one with --python.")


def command(python: Path, what: str, **options: Any) -> list[str]:
    return [str(python), "-P", str(SCRIPT), what, json.dumps(options, default=str)]


def surroundings() -> Mapping[str, str]:
    """Of its processes: one thread of linear algebra, as ours have, and none of our modules."""
    return {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | ONE_THREAD


def ask(python: Path, what: str, *, timeout_s: float = 900.0, **options: Any) -> Any:
    """Run one piece of work in a process of its own and return what it found. Raises ``RuntimeError`` with its words
    where it failed."""
    done = subprocess.run(
        command(python, what, **options), capture_output=True, env=surroundings(), timeout=timeout_s, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{what}: {done.stderr.decode(errors='replace')[-2000:]}")
    return json.loads(done.stdout)
