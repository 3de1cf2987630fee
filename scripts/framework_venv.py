"""Makes the environments of the agent frameworks' examples, each once, and prints their interpreters.

    python scripts/framework_venv.py [frameworks] [dspy] [node]

What it knows: ``requirements/examples-NAME.txt``, pinned whole, and the user's cache folder, where an environment lies
under a hash of that file. Only wheels are taken, so nothing of a package runs while it is installed, and a wheel that
would run code at every start of Python (a ``.pth`` file, ``sitecustomize``) is refused before it is installed. For Node
it is one package without dependencies, whose scripts are not run. Old environments of the same name are removed.
Ends with 1 where something cannot be had here, with 2 where a package was refused.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

REQUIREMENTS = Path(__file__).resolve().parent.parent / "requirements"
PYTHON = ("frameworks", "dspy")
NODE_SDK = ("openai", "6.49.0")  # Apache-2.0
NAMES = (*PYTHON, "node")
STARTS = ("sitecustomize.py", "usercustomize.py")


class CannotInstall(Exception):
    """The environment cannot be made here; the message says why."""


class Refused(Exception):
    """A package would run code that nobody asked for."""


def interpreter(name: str) -> Path | None:
    """The Python (or, for ``node``, the folder) that has these frameworks, if it was made."""
    folder = _folder(name)
    if not (folder / "whole").exists():
        return None
    return folder if name == "node" else folder / "bin" / "python"


def make(name: str) -> Path:
    """``interpreter``, after making it if need be. Raises ``CannotInstall``, ``Refused``."""
    folder = _folder(name)
    with _alone(name):
        if not (folder / "whole").exists():
            for old in folder.parent.glob(f"{name}-*"):
                shutil.rmtree(old)
            (_node if name == "node" else _python)(name, folder)
            (folder / "whole").touch()
    made = interpreter(name)
    assert made is not None
    return made


def started_by(wheel: Path) -> list[str]:
    """Files of a wheel that Python would run at every start."""
    with zipfile.ZipFile(wheel) as archive:
        return [name for name in archive.namelist() if name.endswith((".pth", *STARTS))]


def _cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("POTSTILL_CACHE") or Path(base) / "potstill") / "example-environments"


def _folder(name: str) -> Path:
    wanted = "@".join(NODE_SDK).encode() if name == "node" else _requirements(name).read_bytes() + sys.version.encode()
    return _cache() / f"{name}-{hashlib.sha256(wanted).hexdigest()[:12]}"


def _requirements(name: str) -> Path:
    return REQUIREMENTS / f"examples-{name}.txt"


@contextlib.contextmanager
def _alone(name: str) -> Iterator[None]:
    """Two processes do not make the same environment at the same time."""
    _cache().mkdir(parents=True, exist_ok=True)
    with (_cache() / f".{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _python(name: str, folder: Path) -> None:
    with tempfile.TemporaryDirectory() as wheels:
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
        _run([*pip, "download", "--no-deps", "--only-binary", ":all:", "-d", wheels, "-r", str(_requirements(name))])
        found = sorted(Path(wheels).glob("*.whl"))
        if runs := [f"{wheel.name}: {file}" for wheel in found for file in started_by(wheel)]:
            raise Refused(f"a wheel would run code at every start of Python: {', '.join(runs)}")
        _run([sys.executable, "-m", "venv", "--without-pip", str(folder)])
        python = str(folder / "bin" / "python")
        _run([*pip, "--python", python, "install", "--no-deps", "--no-index", *map(str, found)])


def _node(name: str, folder: Path) -> None:
    for program in ("node", "npm"):
        if shutil.which(program) is None:
            raise CannotInstall(f"{program} is not installed. Type: apt-get install nodejs npm (or brew install node)")
    folder.mkdir(parents=True)
    npm = ["npm", "install", "--silent", "--ignore-scripts", "--no-fund", "--no-audit", "--prefix", str(folder)]
    _run([*npm, "@".join(NODE_SDK)])


def _run(command: Sequence[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        last = [line for line in done.stderr.splitlines() if line.strip()][-1:]
        raise CannotInstall(f"{Path(command[0]).name} {' '.join(command[1:6])} ... failed: {''.join(last)}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(NAMES)} [default: all]")
    names = parser.parse_args().names or NAMES
    if unknown := sorted(set(names) - set(NAMES)):
        parser.error(f"no environment named '{unknown[0]}'. There are: {', '.join(NAMES)}")
    ended = 0
    for name in names:
        try:
            print(make(name))
        except CannotInstall as error:
            print(f"the tests with {name} will be skipped: {error}", file=sys.stderr)
            ended = max(ended, 1)
        except Refused as error:
            print(f"{name}: {error}", file=sys.stderr)
            ended = 2
    return ended


if __name__ == "__main__":
    raise SystemExit(main())
