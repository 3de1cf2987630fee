"""Equal decisions become one, whatever the order in which they come: a first pass counts, a second gives them out.

What it knows: what is to be remembered of a decision between the passes (some 200 bytes). What it does not do: hold the
decisions themselves (its caller comes with each a second time), files.

Of equal decisions the one with the best evidence is kept (likelihoods of all actions, then of some, then votes, then
the bare action), of these the first by episode's id and step. Votes add up, and so does what each teacher said.
"""

from __future__ import annotations

from array import array

import msgspec
import numpy as np

from potstill.distill.weights.data.balance import Kind
from potstill.distill.weights.data.labelled import Evidence, Labelled, Said, decision_key, state_key

_GIVEN = 2**64 - 1
_RANK = {Evidence.LOG_PROBABILITIES: 0, Evidence.TOP_K: 1, Evidence.VOTES: 2, Evidence.ONE_HOT: 3}


class Merging:
    """The decisions of one split. ``add`` all of them, then ``kept`` says of each again whether it stays, and how."""

    def __init__(self) -> None:
        self._rows: dict[bytes, int] = {}
        self._counts = array("Q")
        self._ranks = array("B")
        self._episodes: list[str] = []
        self._tasks: list[str] = []
        self._steps = array("Q")
        self._states = array("Q")
        self._votes: dict[int, dict[str, int]] = {}
        self._said: dict[int, dict[str, tuple[int, int, int]]] = {}
        self._kinds = array("L")
        self._kind_numbers: dict[Kind, int] = {}
        self.actions: set[str] = set()
        """Two different ones at most: enough to know whether there is more than one."""

    def __len__(self) -> int:
        """How many are distinct."""
        return len(self._rows)

    def add(self, decision: Labelled) -> None:
        state = state_key(decision)
        key = decision_key(state, decision.action)
        row = self._rows.get(key)
        if row is None:
            row = self._new(key, state)
        self._counts[row] += 1
        rank = _RANK[decision.evidence]
        order = (rank, decision.trajectory_id, decision.step_index)
        if order < (self._ranks[row], self._episodes[row], self._steps[row]):
            self._ranks[row], self._episodes[row], self._steps[row] = order
            self._tasks[row] = decision.task_id
            kind = (decision.environment, decision.kind)
            self._kinds[row] = self._kind_numbers.setdefault(kind, len(self._kind_numbers))
        if decision.evidence is Evidence.VOTES:
            votes = self._votes.setdefault(row, {})
            for action, count in zip(decision.admissible, decision.votes, strict=True):
                votes[action] = votes.get(action, 0) + count
        for one in decision.said:
            said = self._said.setdefault(row, {})
            times, won, lost = said.get(one.teacher, (0, 0, 0))
            said[one.teacher] = (times + one.times, won + one.won, lost + one.lost)
        if len(self.actions) < 2:
            self.actions.add(decision.action)

    def _new(self, key: bytes, state: bytes) -> int:
        row = self._rows[key] = len(self._rows)
        self._counts.append(0)
        self._ranks.append(len(_RANK))
        self._episodes.append("")
        self._tasks.append("")
        self._steps.append(0)
        self._states.append(int.from_bytes(state[:8], "big"))
        self._kinds.append(0)
        return row

    def keys(self) -> set[bytes]:
        return set(self._rows)

    def tasks_of(self, keys: set[bytes]) -> list[str]:
        return sorted({self._tasks[self._rows[key]] for key in keys})

    def drop(self, keys: set[bytes]) -> None:
        """Leave these out of what is given."""
        for key in keys:
            self._rows.pop(key, None)

    def met_by_kind(self) -> dict[Kind, int]:
        """How often decisions of each kind were met, repetitions included."""
        met = dict.fromkeys(self._kind_numbers, 0)
        names = list(met)
        for row in self._rows.values():
            met[names[self._kinds[row]]] += self._counts[row]
        return {kind: times for kind, times in met.items() if times}

    def conflicts(self) -> int:
        """Situations with more than one chosen action."""
        rows = np.fromiter(self._rows.values(), np.int64, len(self._rows))
        _, actions = np.unique(np.asarray(self._states, np.uint64)[rows], return_counts=True)
        return int((actions > 1).sum())

    def kept(self, decision: Labelled) -> Labelled | None:
        """The decision with its count and its votes; None where another one stands for it, or it was dropped.

        Each is given once.
        """
        row = self._rows.get(decision_key(state_key(decision), decision.action))
        if row is None or (decision.trajectory_id, decision.step_index) != (self._episodes[row], self._steps[row]):
            return None
        self._steps[row] = _GIVEN
        said = sorted(self._said.get(row, {}).items())
        votes = self._votes[row] if decision.evidence is Evidence.VOTES else {}
        return msgspec.structs.replace(
            decision,
            count=self._counts[row],
            votes=tuple(votes[action] for action in decision.admissible) if votes else (),
            said=tuple(Said(teacher=name, times=times, won=won, lost=lost) for name, (times, won, lost) in said),
        )
