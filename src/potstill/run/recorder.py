"""The store as a run sees it: what is recorded already, and the measured teacher share of an arm."""

from __future__ import annotations

from potstill.trajectories import Store
from potstill.types import Answerer, Trajectory


class StoreRecorder:
    """Satisfies ``runner.Recorder``. ``append`` returns once the episode is durable."""

    def __init__(self, store: Store, namespace: str) -> None:
        self._store = store
        self._namespace = namespace

    def append(self, trajectory: Trajectory) -> None:
        self._store.append(trajectory)

    def put_blob(self, content: bytes, media_type: str) -> None:
        self._store.put_blob(content, media_type)

    def existing(self, run_id: str) -> set[str]:
        return {row.id for row in self._store.summaries(run_id=run_id, namespace=self._namespace)}

    def teacher_share(self, run_id: str, arm: str) -> float | None:
        """Share of the arm's steps in this run that the teacher took, in [0, 1]; None without steps."""
        teacher = total = 0
        for trajectory in self._store.select(run_id=run_id, arm=arm, namespace=self._namespace):
            total += len(trajectory.steps)
            teacher += sum(step.answerer is Answerer.TEACHER for step in trajectory.steps)
        return teacher / total if total else None
