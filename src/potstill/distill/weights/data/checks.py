"""Data that nothing can be learnt from are refused in one line, before hours are spent.

What it knows: what a report says, and lists of actions. What it does not do: leaks between splits (``leakage``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from potstill.distill.weights.data.decisions import Report
from potstill.distill.weights.data.labelled import Labelled
from potstill.distill.weights.data.leakage import named
from potstill.errors import ConfigError
from potstill.trajectories.choices import LeftOut

_TELL = {
    LeftOut.FAILED: "no episode succeeded. Take failed ones, too: only_successes=False",
    LeftOut.NO_STEPS: "no episode has a step",
    LeftOut.OTHER_ANSWERER: "nobody whose answers are wanted answered a step. Want others: --answerer student",
    LeftOut.BROKEN: "every step failed",
    LeftOut.NO_ADMISSIBLE: "no step lists its admissible actions (agents that call tools do not). A language model can "
    "learn from them: potstill trajectories export --format trl-steps",
    LeftOut.TOOL_CALL: "every step calls a tool. A language model can learn from them: "
    "potstill trajectories export --format trl-steps",
    LeftOut.NO_CHOICE: "every step has one admissible action only",
    LeftOut.NOT_ADMISSIBLE: "no step's action is among those that its environment listed: the teacher's action space "
    "is another one than the environment's",
}


def refuse_empty(report: Report) -> None:
    """Raise ``ConfigError`` where no decision was found, with the commonest reason."""
    if report.met:
        return
    if not report.episodes:
        raise ConfigError("No episode to learn from. See what there is: potstill trajectories list")
    counts = {LeftOut(reason): count for reason, count in report.left_out.items()}
    steps = {reason: count for reason, count in counts.items() if reason in _OF_STEPS} or counts
    main = max(steps, key=lambda reason: steps[reason])
    rest = "; ".join(f"{count} {reason.value}" for reason, count in counts.items())
    raise ConfigError(f"Nothing to learn from in {report.episodes} episodes: {_TELL[main]}. Left out: {rest}.")


_OF_STEPS = frozenset(LeftOut) - {LeftOut.FAILED, LeftOut.REPEATED_EPISODE, LeftOut.NO_STEPS}


class EmptySplit(ConfigError):
    """A split has no decision; ``split`` is its name."""

    def __init__(self, split: str) -> None:
        super().__init__(
            f"None of the tasks fell into the split '{split}': they are dealt out by a hash of their names, and these "
            f"are too few. Record episodes of more tasks, or give '{split}' a larger share of the fractions."
        )
        self.split = split


def refuse_no_decision(split: str, distinct: int) -> None:
    """Raise ``EmptySplit`` for a split without a decision."""
    if not distinct:
        raise EmptySplit(split)


def refuse_one_class(split: str, distinct: int, actions: Iterable[str]) -> None:
    """Raise ``ConfigError`` where all decisions choose the same action."""
    different = set(actions)
    if len(different) == 1:
        raise ConfigError(
            f"All {distinct} decisions of '{split}' choose '{different.pop()}': there is nothing to tell apart. "
            "Record episodes with other actions."
        )


def fixed_actions(decisions: Iterable[Labelled]) -> tuple[str, ...]:
    """The one list of actions that all decisions share, sorted, as students with one output an action need it.

    Raises ``ConfigError`` that names two decisions whose lists differ, or says that there is no decision.
    """
    found: tuple[str, ...] | None = None
    first = ""
    for one in decisions:
        actions = tuple(sorted(one.admissible))
        if found is None:
            found, first = actions, _place(one)
        elif actions != found:
            here, there = set(actions) - set(found), set(found) - set(actions)
            raise ConfigError(
                f"The action spaces differ: {_place(one)} has {_or_nothing(here)} that {first} has not, and lacks "
                f"{_or_nothing(there)}. Students with one output for each action need one list; take a ranker."
            )
    if found is None:
        raise ConfigError("No decision, so no list of actions.")
    return found


def unseen_actions(learnt: Iterable[Labelled], held_out: Iterable[Labelled]) -> dict[str, int]:
    """Actions chosen in ``held_out`` that no decision of ``learnt`` chose, with how often, the commonest first."""
    known = {one.action for one in learnt}
    counts: dict[str, int] = {}
    for one in held_out:
        if one.action not in known:
            counts[one.action] = counts.get(one.action, 0) + one.count
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def same_environments(environments: Mapping[str, Iterable[str]]) -> None:
    """Raise ``ConfigError`` where splits hold episodes of different environments, by split's name."""
    kinds = {name: frozenset(some) for name, some in environments.items()}
    if len(set(kinds.values())) > 1:
        told = "; ".join(f"{name}: {', '.join(sorted(some)) or 'none'}" for name, some in kinds.items())
        raise ConfigError(f"The splits hold different environments ({told}). Build each environment's data by itself.")


def _place(one: Labelled) -> str:
    return f"task {one.task_id} step {one.step_index}"


def _or_nothing(actions: set[str]) -> str:
    return f"'{named(list(actions))}'" if actions else "nothing"
