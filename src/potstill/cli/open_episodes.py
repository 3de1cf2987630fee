"""What commands that read trajectories say of episodes that are none yet, because they may still go on.

What it knows: how to count them, and what to type. What it does not do: fold them (``potstill trajectories fold``).
"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from potstill.cli.output import without_passwords

if TYPE_CHECKING:
    from potstill.trajectories import Store


def open_line(store: Store, db: str, namespace: str | None) -> str:
    """One line on the open episodes of a tenant (None: of all); empty where there are none."""
    going = len(store.open_episodes(namespace))
    if not going:
        return ""
    what = "1 episode is still open" if going == 1 else f"{going:,} episodes are still open"
    return f"{what} and not among these. To read what there is of them now, type: {fold_command(db, namespace)}"


def fold_command(db: str, namespace: str | None) -> str:
    """As it is typed, without a password that a URL may hold."""
    command = ["potstill", "trajectories", "fold"]
    if namespace is None:
        command.append("--all-namespaces")
    elif namespace != "default":
        command += ["--namespace", namespace]
    if db != "potstill.db":
        command += ["--db", without_passwords(db)]
    return shlex.join(command)
