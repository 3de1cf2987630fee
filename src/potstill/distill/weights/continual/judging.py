"""Whether a new version may take the place of the one that acts: the comparison gate of ``measure.comparison``.

What it knows: how two policies' episodes, or their held-out decisions, become the sides of a paired comparison. What it
does not do: play, train, or replace files (``versions``).

Episodes are judged by their environment. Decisions are judged by their labels, so labels that are wrong everywhere pass
unseen: where an environment can be played, play it.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np

from potstill.distill.weights.data.labelled import Labelled
from potstill.distill.weights.gate_success import Outcomes
from potstill.edge.policy import Policy
from potstill.edge.ranker import Ranker
from potstill.errors import ConfigError
from potstill.measure.comparison import compare
from potstill.measure.comparison_advice import how_many_more, points
from potstill.measure.comparison_result import Comparison, Options
from potstill.measure.comparison_sides import Entry, Side

NEW, NOW = "the retrained policy", "the policy that acts now"


def by_episodes(new: Outcomes, now: Outcomes, *, margin: float, seed: int = 0) -> Comparison:
    """Outcomes by task and seed. Raises ``ConfigError`` where none are the same."""
    return compare(_played(NEW, new), _played(NOW, now), Options(margin=margin, seed=seed))


def by_decisions(new: Policy, now: Policy, held_out: Sequence[Labelled], *, margin: float, seed: int = 0) -> Comparison:
    """Success is the teacher's action in a held-out decision; the interval resamples tasks. Raises ``ConfigError``."""
    sides = (_decided(NEW, new, held_out), _decided(NOW, now, held_out))
    return compare(*sides, Options(margin=margin, seed=seed))


def said(found: Comparison) -> str:
    """What was shown of the retrained policy, in one or two sentences. Policies are compared without a cost."""
    margin = points(found.margin)
    if found.non_inferior:
        return f"{NEW.capitalize()} is not worse by more than {margin} than {NOW}."
    if found.difference_ci[1] < -found.margin:
        return f"{NEW.capitalize()} loses more than {margin} against {NOW}."
    return f"That {NEW} loses more than {margin} against {NOW} is not ruled out. {how_many_more(found, NEW)}"


def _played(name: str, outcomes: Outcomes) -> Side:
    rows = sorted(outcomes.items())
    return Side(name=name, entries=tuple(Entry(task=task, sample=seed, success=won) for (task, seed), won in rows))


def _decided(name: str, policy: Policy, held_out: Sequence[Labelled]) -> Side:
    network = policy.network
    if not isinstance(network, Ranker):
        raise ConfigError(
            f"A policy of the kind '{policy.kind}' reads no situations, so its decisions cannot be judged."
        )
    entries = []
    for number, decision in enumerate(held_out):
        logits = network.logits(msgspec.to_builtins(decision.situation), decision.admissible)
        agreed = decision.admissible[int(np.argmax(logits))] == decision.action
        entries.append(Entry(task=decision.task_id, sample=number, success=agreed))
    return Side(name=name, entries=tuple(entries))
