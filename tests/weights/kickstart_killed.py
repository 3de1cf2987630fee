"""Kickstarts a policy from the command line, and ends the process by SIGKILL after the round that it is told."""

from __future__ import annotations

import os
import signal
import sys
from unittest import mock

from potstill.cli.main import main
from potstill.cli.training import kickstarting
from potstill.distill.weights.train.kickstart import Round

if __name__ == "__main__":
    kill_after, *words = sys.argv[1:]
    told = kickstarting._Watch.told

    def watched(self: kickstarting._Watch, now: Round) -> None:
        told(self, now)
        if now.environment_steps >= int(kill_after):
            os.kill(os.getpid(), signal.SIGKILL)

    with mock.patch.object(kickstarting._Watch, "told", watched):
        sys.exit(main(words))
