"""The command that plays a student in the world that its teacher was recorded in, as it can be typed.

What it knows: the store's runs and their configurations. What it does not do: print, or run anything.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from potstill.cli.run_plan import typed
from potstill.trajectories.opening import read_store


def next_run(db: str, filters: Mapping[str, Any], environment: str, student: str) -> str:
    """``potstill run`` for a student, with those options of the environment that all runs it has learnt from had.

    ``filters``: how the store selected the episodes. Episodes of no run (imported, a gateway's) have no options.
    """
    chosen = {**filters, "environment": environment}
    with read_store(db) as store:
        learnt = {episode.run_id for episode in store.summaries(**chosen)}
        runs = {run.run_id: run.config for run in store.runs(namespace=filters["namespace"])}
    worlds = [runs.get(run_id, {}).get("environment_options", {}) for run_id in sorted(learnt)]
    return shlex.join(
        ["potstill", "run", "--env", environment, *_words(agreed(worlds)), "--student", student, "--arm", "zero-shot"]
    )


def agreed(worlds: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The options that each of the worlds has, with one value.

    >>> agreed([{"view": "grid", "level": "GoToLocal"}, {"view": "grid", "level": "PickupLoc"}])
    {'view': 'grid'}
    """
    first, *others = worlds or [{}]
    same = {key: value for key, value in first.items() if all(key in one and one[key] == value for one in others)}
    return {key: value for key, value in same.items() if value is not None}


def _words(options: Mapping[str, Any]) -> list[str]:
    """As they are typed: a folder of games has an option of its own."""
    folder = ["--tasks", options["directory"]] if "directory" in options else []
    rest = {key: value for key, value in options.items() if key != "directory"}
    return [*folder, *(word for pair in typed(rest) for word in ("--option", pair))]
