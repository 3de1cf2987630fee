"""One student for several environments: how each is played, and what is told of each beside the whole.

What it knows: words of a command, a trained network, held-out decisions. What it does not do: train or print.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from potstill.cli.run_plan import pairs
from potstill.distill.weights.data import Labelled
from potstill.distill.weights.data.environments import BETWEEN, shares
from potstill.distill.weights.fidelity.shares import share
from potstill.errors import ConfigError

if TYPE_CHECKING:
    from potstill.distill.weights.train.teaching import Prepared


def playing_in(environments: Sequence[str], options: Mapping[str, Any]) -> dict[str, Any]:
    """How held-out tasks are played: options, steps, episodes at a time; of several environments by their names."""
    given, how = options["environment_options"], {"max_steps": options["max_steps"], "jobs": options["jobs"]}
    if len(environments) > 1:
        if options["directory"]:
            raise ConfigError(
                "--tasks is one environment's folder, and there are several. Type: "
                f"--option {environments[0]}:directory=DIR"
            )
        return {name: {**world, **how} for name, world in _worlds(environments, given).items()}
    world = pairs(given, "--option level=GoToLocal")
    if options["directory"]:
        world["directory"] = options["directory"]
    return {**world, **how}


def _worlds(environments: Sequence[str], given: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Each environment's options out of ``NAME:KEY=VALUE``. Raises ``ConfigError`` for one that is none of them."""
    found: dict[str, list[str]] = {name: [] for name in environments}
    for text in given:
        name, colon, option = text.partition(":")
        if not colon or name not in found:
            raise ConfigError(
                f"--option {text} does not say which of {' and '.join(environments)} it is for. Type for example: "
                f"--option {environments[0]}:{text if not colon else option}"
            )
        found[name].append(option)
    return {name: pairs(some, f"--option {name}:level=GoToLocal") for name, some in found.items()}


def refuse_what_is_for_one(environments: Sequence[str], options: Mapping[str, Any]) -> None:
    """Raise ``ConfigError`` for what asks or plays one environment only."""
    if len(environments) < 2:
        return
    told = BETWEEN.join(environments)
    alone = {
        "dagger": "--dagger plays and asks in one environment",
        "debates": "--debates is about one environment",
    }
    for name, why in alone.items():
        if options.get(name):
            raise ConfigError(f"{why}, and --env names several ({told}). Leave one of them away.")


def by_environment(
    learnt: Sequence[Labelled], held_out: Sequence[Labelled], prepared: Prepared
) -> dict[str, dict[str, Any]]:
    """Of each environment: decisions, its share of all weight, and the agreement with its held-out decisions.

    The interval is Wilson's, clustered by task.
    """
    from potstill.distill.weights.train.loop import agrees

    right = agrees(prepared.network, prepared.held_out)
    found = {}
    for name, weight in shares(learnt).items():
        own = [(hit, one.task_id) for hit, one in zip(right, held_out, strict=True) if one.environment == name]
        told = share([hit for hit, _ in own], [task for _, task in own])
        found[name] = {
            "decisions": sum(one.environment == name for one in learnt),
            "weight": weight,
            "held_out": len(own),
            "agreement": told.value,
            "agreement_ci": told.interval,
        }
    return found


def with_success(
    apart: Mapping[str, dict[str, Any]], played: Sequence[Mapping[tuple[str, int], bool]]
) -> dict[str, dict[str, Any]]:
    """The same with the share of held-out tasks that were done the last time; None where none were played."""
    from potstill.distill.weights.train.several import shares as done

    found = done(played[-1]) if played else {}
    return {name: {**told, "success": found.get(name)} for name, told in apart.items()}
