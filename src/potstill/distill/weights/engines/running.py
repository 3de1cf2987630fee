"""Starts an engine in its own environment, and waits for it: its progress passes through, Ctrl-C is passed on.

The other process is asked to stop by a file, so that it ends after a whole step and keeps a checkpoint, whatever
launcher stands between. Knows processes and the folder. Does not know models.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from potstill.distill.weights.engines import trl_script
from potstill.errors import ConfigError, PotstillError

SCRIPT = "train.py"
TRL_FROM, TRL_BELOW = (1, 10), (2,)
"""TRL's DistillationTrainer is stable since 1.10; 2.0 removes what 1.x deprecates."""
INSTALL = "pip install 'trl>=1.10,<2' peft"
PROBE_S = 300
EXAMPLE = "--launch 'accelerate launch --num_processes 4'"
GRACE_S = 10


class Stopped(Exception):
    """The engine ended when it was asked to, and has kept a checkpoint."""


def probe(python: str) -> dict[str, str]:
    """Versions of the packages of an environment. Raises ``ConfigError`` for one that cannot run TRL's trainers."""
    try:
        said = _asked(python, "--versions")
        said.check_returncode()
        found: dict[str, str] = json.loads(said.stdout)
    except OSError as error:
        raise ConfigError(
            f"{python} does not run: {error.strerror}. Type the path of a Python: --python FOLDER/bin/python"
        ) from None
    except (subprocess.SubprocessError, ValueError):
        raise ConfigError(
            f"{python} is no Python that runs the script of an engine. Type another one: --python PATH"
        ) from None
    missing = [name for name in trl_script.PACKAGES if name not in found]
    if missing:
        raise ConfigError(
            f"The environment of {python} lacks {', '.join(missing)}. Type there: {INSTALL} ; or name another "
            "environment: --python PATH"
        )
    version = _numbers(found["trl"])
    if not TRL_FROM <= version < TRL_BELOW:
        raise ConfigError(
            f"The environment of {python} has TRL {found['trl']}. Allowed: 1.10 and later, below 2. Type there: "
            f"{INSTALL}"
        )
    return found


def _asked(python: str, *words: str) -> subprocess.CompletedProcess[str]:
    command = [python, str(Path(trl_script.__file__)), *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=PROBE_S, env=_environment())


def check(python: str, method: str, settings: Mapping[str, Any], launch: Sequence[str]) -> None:
    """Raises ``ConfigError`` for settings that TRL, and for a launcher that the machine does not know.

    ``settings``: none where nothing was typed; asking for them takes TRL's import. ``launch`` as ``command_of`` has it.
    """
    if launch and launch[0] != "accelerate" and shutil.which(launch[0]) is None:
        raise ConfigError(f"--launch begins with '{launch[0]}', which is no program here. Type for example: {EXAMPLE}")
    if launch[:1] == ("accelerate",) and launch[1:2] != ("launch",):
        raise ConfigError(f"--launch is '{shlex.join(launch)}', which starts no script. Type for example: {EXAMPLE}")
    told = json.dumps({"method": method, "settings": dict(settings), "launch": list(launch)})
    try:
        said = _asked(python, "--check", told)
    except subprocess.TimeoutExpired:
        raise ConfigError(f"The environment of {python} did not load TRL within {PROBE_S} s. Try again.") from None
    if said.returncode == trl_script.REFUSES:
        raise ConfigError(said.stdout.strip().rpartition("\n")[2])
    if said.returncode:
        last = (said.stderr.strip() or "it ended without a word").rpartition("\n")[2]
        raise ConfigError(
            f"The environment of {python} cannot load TRL: {last}. Mend it, or name another: --python PATH"
        )


def _environment() -> dict[str, str]:
    return {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", **os.environ}


def _numbers(version: str) -> tuple[int, ...]:
    """(1, 16, 0) of 1.16.0; what follows the numbers is left out."""
    found: list[int] = []
    for part in version.split("."):
        if not part.isdecimal():
            break
        found.append(int(part))
    return tuple(found)


def prepare(folder: Path, job: bytes, rows: Sequence[Mapping[str, Any]], asked: Sequence[Mapping[str, Any]]) -> None:
    """Write what the engine reads. The job comes last: a folder without one holds nothing."""
    shutil.copyfile(trl_script.__file__, folder / SCRIPT)
    for name, lines in (("rows.jsonl", rows), ("asked.jsonl", asked)):
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        (folder / name).write_text(text, encoding="utf-8")
    (folder / trl_script.JOB).write_bytes(job)


def command_of(python: str, folder: Path, launch: Sequence[str]) -> list[str]:
    """``launch``: what stands before the script, such as ``accelerate launch --num_processes 2``; of that
    environment, so ``accelerate launch`` is run as its module."""
    if list(launch[:2]) == ["accelerate", "launch"]:
        before = [python, "-m", "accelerate.commands.launch", *launch[2:]]
    else:
        before = list(launch) or [python]
    return [*before, str(folder / SCRIPT), str(folder)]


def run(command: Sequence[str], folder: Path, tell: Callable[[str], None]) -> None:
    """Wait for the engine. ``tell``: hears what happens when Ctrl-C is pressed.

    Raises ``Stopped`` where it was asked to stop, ``ConfigError`` with what it refused, ``PotstillError`` where it
    failed, ``KeyboardInterrupt`` where it was interrupted twice.
    """
    for name in (trl_script.REFUSED, trl_script.STOP):
        (folder / name).unlink(missing_ok=True)
    try:
        # A session of its own: the terminal's Ctrl-C comes to us alone, and we pass it on in an orderly way.
        child = subprocess.Popen(
            list(command), stdin=subprocess.DEVNULL, stdout=2, env=_environment(), start_new_session=True
        )
    except OSError as error:
        raise ConfigError(f"{command[0]} does not run: {error.strerror}. Type another --launch or --python.") from None
    code = _wait(child, folder / trl_script.STOP, tell)
    if code == 0:
        return
    with contextlib.suppress(OSError):
        raise ConfigError((folder / trl_script.REFUSED).read_text(encoding="utf-8").strip())
    if code == trl_script.STOPPED or (folder / trl_script.STOP).exists():
        raise Stopped
    raise PotstillError(
        f"The engine ended with exit code {code}; what it said stands above. To go on from its last checkpoint, type "
        "the same command with --resume"
    )


def _wait(child: subprocess.Popen[bytes], stop: Path, tell: Callable[[str], None]) -> int:
    try:
        try:
            return child.wait()
        except KeyboardInterrupt:
            stop.touch()
            tell("Stopping after this step, with a checkpoint. Ctrl-C again ends it at once.")
            return child.wait()
    except BaseException:
        _end(child)
        raise


def _end(child: subprocess.Popen[bytes]) -> None:
    """Ends the engine and all that it started."""
    for number in (signal.SIGTERM, signal.SIGKILL) if sys.platform != "win32" else (signal.SIGTERM,):
        if child.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, number) if sys.platform != "win32" else child.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(GRACE_S)
