"""The demonstration library: successful teacher trajectories, and which windows of them are near a query.

What it knows: which trajectories are good enough, tenants, leakage, ranking by score and utility, token budgets. What
it does not do: prompts and modes (``context``), recording (the library is built from recorded trajectories), files.

Never shown: a trajectory of the task being solved, of another namespace, or of another environment.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from enum import StrEnum

import numpy as np

from potstill.distill.context.budget import fit
from potstill.distill.context.config import ContextConfig, Extent
from potstill.distill.context.demonstration import Demonstration
from potstill.distill.context.render import ShownDemonstration, ShownStep, action_text
from potstill.distill.context.shelf import Entry, Floats, Shelf
from potstill.errors import ConfigError
from potstill.protocols import ContextQuery, Ranker, TokenCounter
from potstill.retrieval.registry import ranker_factory
from potstill.retrieval.tokens import EstimatedTokens
from potstill.types import DemonstrationRef, Observation, Struct, Trajectory, TrajectoryKind


class Refusal(StrEnum):
    """Why a trajectory is not a demonstration."""

    NOT_TEACHER = "not-teacher"
    NOT_SUCCESSFUL = "not-successful"
    BROKEN = "broken"
    """The episode or one of its steps ended in an error."""
    EMPTY = "empty"
    KNOWN = "known"
    """A trajectory with this id is in the library already."""


class Utility(Struct, frozen=True, kw_only=True):
    """How often a trajectory was shown, and how many of those episodes succeeded."""

    shown: int = 0
    succeeded: int = 0


class DemonstrationLibrary:
    """Demonstrations by namespace and environment. Safe to use from several threads; ``add`` needs no rebuild.

    >>> len(DemonstrationLibrary(ContextConfig()))
    0
    """

    def __init__(
        self,
        config: ContextConfig,
        *,
        token_counter: TokenCounter | None = None,
        make_ranker: Callable[[], Ranker] | None = None,
    ) -> None:
        self.config = config
        self._counter = token_counter or EstimatedTokens()
        self._make_ranker = make_ranker or ranker_factory(config.ranker)
        self._shelves: dict[tuple[str, str], Shelf] = {}
        self._ids: set[tuple[str, str]] = set()
        self._utility: dict[str, Utility] = {}
        self._lock = threading.RLock()

    def __len__(self) -> int:
        return len(self._ids)

    def add(self, trajectory: Trajectory) -> Refusal | None:
        """Take a trajectory, or say why not."""
        reason = refusal(trajectory)
        identity = (trajectory.namespace, trajectory.id)
        with self._lock:
            if reason is None and identity in self._ids:
                reason = Refusal.KNOWN
            if reason is not None:
                return reason
            shelf = self._shelves.setdefault(
                (trajectory.namespace, trajectory.task.environment),
                Shelf(self._make_ranker, [key for key, weight in self.config.key_weights.items() if weight > 0]),
            )
            shelf.add(_entry(trajectory))
            self._ids.add(identity)
        return None

    def checked(self, config: ContextConfig | None) -> ContextConfig:
        """Settings that fit this library: the same ranker, and no key that it did not index. Raises ``ConfigError``."""
        if config is None or config is self.config:
            return self.config
        if config.ranker != self.config.ranker:
            raise ConfigError(f"The library was built with ranker '{self.config.ranker}', not '{config.ranker}'.")
        indexed = {key for key, weight in self.config.key_weights.items() if weight > 0}
        missing = sorted(key for key, weight in config.key_weights.items() if weight > 0 and key not in indexed)
        if missing:
            raise ConfigError(f"The library has no key '{missing[0]}'. Indexed: {', '.join(sorted(indexed))}.")
        return config

    def shelf_entries(self, query: ContextQuery, start: int = 0) -> list[Entry]:
        """All of the query's namespace and environment from position ``start`` on, its own task's included."""
        with self._lock:
            shelf = self._shelf(query)
            return [] if shelf is None else shelf.entries[start:]

    def retrieve(
        self,
        query: ContextQuery,
        k: int | None = None,
        window: int | None = None,
        *,
        extent: Extent = Extent.WINDOW,
        config: ContextConfig | None = None,
    ) -> list[Demonstration]:
        """The nearest windows, best first, at most ``k``, each of another trajectory, no two with the same text.

        Entries that share nothing with the query are not shown, so the list may be shorter or empty. The token budget
        of the config holds for the rendered block. ``config``: another student's settings, see ``checked``.
        """
        config = self.checked(config)
        with self._lock:
            shelf = self._shelf(query)
            if shelf is None:
                return []
            scores = shelf.step_scores(query, shelf.eligible(query.task.id), config.key_weights)
            best = shelf.best_scores(scores)
            ranking = self._with_utility(shelf, best, config)
            chosen = ((i, shelf.best_step(scores, i), float(ranking[i])) for i in best_first(ranking) if best[i] > 0)
            return self._cut(shelf, chosen, k, window, extent, config)

    def sample(
        self,
        query: ContextQuery,
        seed: int | str,
        k: int | None = None,
        window: int | None = None,
        *,
        extent: Extent = Extent.WINDOW,
        config: ContextConfig | None = None,
    ) -> list[Demonstration]:
        """Random windows under the same rules, the same for the same seed, task and library: the control arm."""
        config = self.checked(config)
        with self._lock:
            shelf = self._shelf(query)
            if shelf is None:
                return []
            rng = random.Random(f"{seed}\0{query.namespace}\0{query.task.environment}\0{query.task.id}")
            order = [int(i) for i in np.flatnonzero(shelf.eligible(query.task.id))]
            rng.shuffle(order)
            chosen = ((i, rng.randrange(len(shelf.entries[i].steps)), 0.0) for i in order)
            return self._cut(shelf, chosen, k, window, extent, config)

    def nearness(
        self, query: ContextQuery, shown: Sequence[DemonstrationRef], config: ContextConfig | None = None
    ) -> float:
        """The best score of the shown windows for this query over the best score in the library, in [0, 1].

        1 where nothing in the library is near the query: then nothing better could be shown.
        """
        with self._lock:
            shelf = self._shelf(query)
            if shelf is None:
                return 1.0
            scores = shelf.step_scores(query, shelf.eligible(query.task.id), self.checked(config).key_weights)
            positions = {entry.trajectory_id: i for i, entry in enumerate(shelf.entries)} if shown else {}
            first = shelf.layout()[0]
            held = [
                scores[first[positions[ref.trajectory_id]] + ref.start : first[positions[ref.trajectory_id]] + ref.stop]
                for ref in shown
                if ref.trajectory_id in positions
            ]
            best = float(scores.max(initial=0.0))
            return max((float(part.max(initial=0.0)) for part in held), default=0.0) / best if best > 0 else 1.0

    # --- utility ----------------------------------------------------------------------------------------------------

    def observe(self, shown: Iterable[DemonstrationRef], success: bool) -> None:
        """One episode ended: count it once for each trajectory that it was shown."""
        with self._lock:
            for identifier in {ref.trajectory_id for ref in shown}:
                old = self._utility.get(identifier, Utility())
                self._utility[identifier] = Utility(shown=old.shown + 1, succeeded=old.succeeded + int(success))

    def utility(self) -> dict[str, Utility]:
        """The counts by trajectory id, to be kept and given back to ``restore_utility``."""
        with self._lock:
            return dict(self._utility)

    def restore_utility(self, counts: dict[str, Utility]) -> None:
        with self._lock:
            self._utility = dict(counts)

    def _with_utility(self, shelf: Shelf, scores: Floats, config: ContextConfig) -> Floats:
        """(1 - u) score + u Q with Q = (succeeded + a) / (shown + b): EX-Cur's Q (arXiv 2505.00234) with a prior."""
        share = config.utility_weight
        if share == 0:
            return scores
        successes, shown = config.utility_prior
        counts = [self._utility.get(entry.trajectory_id, Utility()) for entry in shelf.entries]
        quality = np.array([(count.succeeded + successes) / (count.shown + shown) for count in counts])
        return (1 - share) * scores + share * quality

    # --- windows ----------------------------------------------------------------------------------------------------

    def _shelf(self, query: ContextQuery) -> Shelf | None:
        return self._shelves.get((query.namespace, query.task.environment))

    def _cut(
        self,
        shelf: Shelf,
        chosen: Iterable[tuple[int, int, float]],
        k: int | None,
        window: int | None,
        extent: Extent,
        config: ContextConfig,
    ) -> list[Demonstration]:
        k = config.k if k is None else k
        window = config.window if window is None else window
        found: list[Demonstration] = []
        texts: set[tuple[str, tuple[ShownStep, ...]]] = set()
        for position, matched, score in chosen:
            if len(found) >= k:
                break
            demonstration = _window(shelf.entries[position], matched, score, window, extent)
            text = (demonstration.shown.goal, demonstration.shown.steps)
            if text not in texts:
                texts.add(text)
                found.append(demonstration)
        return fit(found, config, self._counter, extent)


def build_library(
    trajectories: Iterable[Trajectory], config: ContextConfig, token_counter: TokenCounter | None = None
) -> DemonstrationLibrary:
    """A library of all that can be demonstrations; what ``refusal`` names is left out."""
    library = DemonstrationLibrary(config, token_counter=token_counter)
    for trajectory in trajectories:
        library.add(trajectory)
    return library


def refusal(trajectory: Trajectory) -> Refusal | None:
    """Why a trajectory cannot be a demonstration; None if it can: a teacher's, complete and successful."""
    if trajectory.kind is not TrajectoryKind.TEACHER:
        return Refusal.NOT_TEACHER
    if trajectory.error is not None or any(step.error is not None for step in trajectory.steps):
        return Refusal.BROKEN
    if not trajectory.succeeded:
        return Refusal.NOT_SUCCESSFUL
    return None if trajectory.steps else Refusal.EMPTY


def observation_text(observation: Observation) -> str:
    """What was seen, tool results first, as the live prompt shows it."""
    return "\n".join(part for part in (*(result.text for result in observation.tool_results), observation.text) if part)


def best_first(values: Floats, few: int = 64) -> Iterator[int]:
    """Positions by falling value, equal ones in their order: all are sorted only where more than ``few`` are asked for.

    >>> list(best_first(np.array([1.0, 3.0, 2.0, 3.0]), few=2))
    [1, 3, 2, 0]
    """
    given = 0
    if len(values) > few:
        least = np.partition(values, len(values) - few)[len(values) - few]
        top = np.flatnonzero(values >= least)
        yield from top[np.argsort(-values[top], kind="stable")].tolist()
        given = len(top)
    if given < len(values):
        yield from np.argsort(-values, kind="stable")[given:].tolist()


def _entry(trajectory: Trajectory) -> Entry:
    steps = tuple(
        ShownStep(
            observation=observation_text(step.observation),
            reasoning=step.reasoning,
            action=action_text(step.action),
        )
        for step in trajectory.steps
    )
    return Entry(
        trajectory_id=trajectory.id,
        task_id=trajectory.task.id,
        kind=trajectory.task.kind,
        goal=trajectory.goal or trajectory.task.goal,
        plan=trajectory.plan,
        steps=steps,
    )


def _window(entry: Entry, matched: int, score: float, window: int, extent: Extent) -> Demonstration:
    start = max(0, matched - window) if extent is Extent.WINDOW else 0
    stop = len(entry.steps) if extent is Extent.WHOLE else min(len(entry.steps), matched + window + 1)
    return Demonstration(
        ref=DemonstrationRef(trajectory_id=entry.trajectory_id, start=start, stop=stop, score=score),
        shown=ShownDemonstration(goal=entry.goal, plan=entry.plan, start=start, steps=entry.steps[start:stop]),
        matched=matched,
        kind=entry.kind,
        task_id=entry.task_id,
    )
