"""One episode out of the journal into the ordinary store.

What it knows: how to fold while others may do the same. What it does not do: make the trajectory (``fold``), choose
which episodes are over.
"""

from __future__ import annotations

from potstill.record.fold import trajectory_of
from potstill.trajectories.exchange import Folded
from potstill.trajectories.store import Store
from potstill.types import Trajectory

_TRIES = 5


def fold_episode(store: Store, namespace: str, episode_id: str) -> Trajectory | None:
    """Fold what the journal holds of an episode; None if it holds nothing (or others fold it all the time).

    Raises ``StoreError``; the journal keeps the exchanges then.
    """
    for _ in range(_TRIES):
        episode = store.episode(namespace, episode_id)
        if not episode.exchanges:
            return None
        known = episode.trajectory_id
        trajectory = trajectory_of(
            episode.exchanges,
            namespace=namespace,
            episode_id=episode_id,
            outcome=episode.outcome,
            before=None if known is None else store.get(known, namespace=namespace),
            damaged=episode.damaged,
            put_blob=store.put_blob,
        )
        upto = max(recorded.seq for recorded in episode.exchanges)
        if store.fold(namespace, episode_id, trajectory, upto, after_seq=episode.folded_seq) is Folded.DONE:
            return trajectory
    return None
