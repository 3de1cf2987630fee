"""Runs Python code or the command line with real streams: pipes, or a pseudo-terminal that believes it is one."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import sys
from pathlib import Path

ANSI = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


def environment(**extra: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in {"NO_COLOR", "FORCE_COLOR", "COLUMNS"}}
    return {**kept, "TERM": "xterm-256color", "COLUMNS": "100", **extra}


def in_pipe(code: str, **extra: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment(**extra), check=True, timeout=300
    )


def potstill(*arguments: str, cwd: Path | None = None, **extra: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "potstill", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment(**extra), cwd=cwd, timeout=300)


def in_terminal(code: str, **extra: str) -> str:
    """All that a terminal would receive from stdout and stderr together."""
    main, terminal = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=terminal, stdout=terminal, stderr=terminal, env=environment(**extra)
    )
    os.close(terminal)
    received = b""
    while select.select([main], [], [], 60)[0]:
        try:
            chunk = os.read(main, 65536)
        except OSError:  # Linux: the other end is closed
            break
        if not chunk:
            break
        received += chunk
    os.close(main)
    assert process.wait(timeout=300) == 0, received.decode()
    return received.decode()


def plain(text: str) -> str:
    return ANSI.sub("", text).replace("\r", "")
