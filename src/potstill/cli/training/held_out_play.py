"""A player of held-out tasks, for the commands that judge a policy by what it does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from potstill.cli.output import note
from potstill.cli.policy_data import PolicyData
from potstill.distill.weights.data import Labelled, read_manifest
from potstill.distill.weights.data.environments import environments_in
from potstill.envs.registry import open_source
from potstill.errors import ConfigError
from potstill.models.tuned_file import Tuned
from potstill.run.runner import choose_tasks
from potstill.run.voice import agent_of
from potstill.types import Task

if TYPE_CHECKING:
    from potstill.distill.weights.train.playing import Player
    from potstill.distill.weights.train.several import Plays


def tasks_of(
    environment: str,
    splits: Sequence[str],
    held_out: Sequence[Labelled],
    count: int,
    seed: int,
    playing: Mapping[str, Any],
    *,
    any_needed: bool = True,
) -> list[Task]:
    """``count`` of the held-out decisions' tasks, drawn by the seed, all where there are fewer.

    ``playing``: the environment's options, ``max_steps`` and ``jobs``. Raises ``ConfigError`` where none is there, if
    any is needed.
    """
    ids = {decision.task_id for decision in held_out if decision.environment == environment}
    world = {name: value for name, value in playing.items() if name not in ("max_steps", "jobs")}
    source = open_source(environment, **world)
    tasks = [task for split in splits for task in source.tasks(split) if task.id in ids]
    if not tasks and not any_needed:
        return []
    if not tasks:
        raise ConfigError(
            f"None of the {len(ids)} held-out tasks is among those of '{environment}' that --play may play. Give "
            "the environment's --tasks and --option as the episodes were recorded with."
        )
    if len(tasks) < count:
        note(f"--play {count}: {len(tasks)} held-out tasks of '{environment}' are there, and so many are played.")
    return choose_tasks(tasks, min(count, len(tasks)), seed)


def player_of(
    environment: str,
    splits: Sequence[str],
    held_out: Sequence[Labelled],
    count: int,
    seed: int,
    playing: Mapping[str, Any],
    **more: Any,
) -> Player:
    """Plays ``tasks_of`` the same; ``more`` goes to the player. Raises ``ConfigError`` where none is there."""
    from potstill.distill.weights.train.playing import Player

    return Player(environment, tasks_of(environment, splits, held_out, count, seed, playing), **playing, **more)


def player_in(
    environments: Sequence[str],
    splits: Sequence[str],
    held_out: Sequence[Labelled],
    count: int,
    seed: int,
    playing: Mapping[str, Any],
) -> Plays:
    """The same for one environment or several, ``count`` tasks of each; ``playing``: see ``several.playing_in``."""
    from potstill.distill.weights.train.several import Players

    if len(environments) == 1:
        return player_of(environments[0], splits, held_out, count, seed, playing)
    return Players({name: player_of(name, splits, held_out, count, seed, playing[name]) for name in environments})


def player_for(tuned: Tuned, data: PolicyData, count: int, seed: int, playing: Mapping[str, Any]) -> Player:
    """The same for a tuned language model, on the tasks that its own data hold out."""
    splits = sorted(read_manifest(data.folder).sources.splits)
    return player_of(tuned.environment, splits, data.held_out, count, seed, playing, agent=agent_of(tuned.voice))


def player_on(data: PolicyData, count: int, seed: int, playing: Mapping[str, Any]) -> Plays:
    """The same on the tasks that a policy's own data hold out."""
    splits = sorted(read_manifest(data.folder).sources.splits)
    return player_in(environments_in(data.held_out), splits, data.held_out, count, seed, playing)
