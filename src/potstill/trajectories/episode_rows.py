"""Rows of state that belong to an episode, and go with it.

What it knows: which kinds these are, and the keys under which the gateway keeps them. What it does not do: what they
mean (``serve.deciding.episodes_held``, ``serve.deciding.verdicts``).
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b

from potstill.trajectories.sql import Connection

CASCADE, COUNTED = "cascade", "counted"


def episode_key(namespace: str, episode_id: str) -> str:
    """Key of a row of kind ``CASCADE``. Episodes of two tenants never meet, whatever their names."""
    return f"{len(namespace)}:{namespace}/{episode_id}"


def episode_digest(namespace: str, episode_id: str) -> str:
    """Key of a row of kind ``COUNTED``: of one length."""
    key = episode_key(namespace, episode_id).encode("utf-8", "surrogatepass")
    return blake2b(key, digest_size=16).hexdigest()


def forget(connection: Connection, episodes: Iterable[tuple[str, str]]) -> None:
    """Remove the rows of episodes (namespace and id) of which nothing is left; in the caller's transaction."""
    keys = [
        row for episode in episodes for row in ((CASCADE, episode_key(*episode)), (COUNTED, episode_digest(*episode)))
    ]
    connection.executemany("DELETE FROM state WHERE kind = ? AND key = ?", keys)
