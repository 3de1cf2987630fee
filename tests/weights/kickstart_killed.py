"""Kickstarts a policy from the command line, and ends the process by SIGKILL after the round that it is told."""

from __future__ import annotations

import os
import signal
import sys

from potstill.cli.main import main
from potstill.cli.training import kickstarting

if __name__ == "__main__":
    kill_after, *words = sys.argv[1:]
    told = kickstarting._Watch.told

    def watched(self: kickstarting._Watch, now: object) -> None:
        told(self, now)  # type: ignore[arg-type]
        if now.environment_steps >= int(kill_after):  # type: ignore[attr-defined]
            os.kill(os.getpid(), signal.SIGKILL)

    kickstarting._Watch.told = watched  # type: ignore[method-assign]
    sys.exit(main(words))
