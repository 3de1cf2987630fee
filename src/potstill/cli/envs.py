"""``potstill envs``: list environments, check one's contract, list its tasks, watch its expert play one.

Callbacks parse and print; what is done lies in ``potstill.envs``. Options of an environment are given as ``--option
KEY=VALUE``.
"""

from __future__ import annotations

from typing import Any

import click

from potstill.cli.output import emit_json, emit_table, json_option, note
from potstill.errors import ConfigError, EnvError, TaskNotFound

_name = click.argument("name")
_directory = click.option(
    "--directory", "--tasks", type=click.Path(), help="Folder with the games, where they are files."
)
_options = click.option(
    "--option", "pairs", multiple=True, metavar="KEY=VALUE", help="For the environment; repeatable."
)
_split = click.option("--split", help="Which tasks [default: the first split].")


@click.group()
def envs() -> None:
    """List and check environments and their tasks."""


@envs.command("list")
@json_option
def list_environments(json_mode: bool) -> None:
    """All environments, installed or not."""
    from potstill.envs.registry import environment_names, plugin

    rows = []
    for name in environment_names():
        found = plugin(name)
        rows.append((name, found.summary, found.rule, found.extra or None))
    emit_table(("name", "summary", "agreement_rule", "extra"), rows, json_mode=json_mode, title="Environments")


@envs.command()
@_name
@_directory
@_options
@_split
@click.option("--n", default=5, show_default=True, type=click.IntRange(1), help="How many tasks are tried.")
@click.option("--max-steps", type=click.IntRange(1), help="Steps an episode [default: the environment's own].")
@json_option
def check(
    name: str,
    directory: str | None,
    pairs: tuple[str, ...],
    split: str | None,
    n: int,
    max_steps: int | None,
    json_mode: bool,
) -> int:
    """Try every point of the environment contract on some tasks; exit code 4 if one fails."""
    from potstill.envs.check import Status, check_environment
    from potstill.envs.registry import describe, factory

    options = _parsed(pairs, directory)
    tasks = _tasks(name, options, split)[:n]
    limit = max_steps or describe(name, **options).max_steps
    findings = check_environment(factory(name, **options), tasks, max_steps=limit)
    emit_table(("point", "status", "detail"), findings, json_mode=json_mode, title=f"Contract of {name}")
    failed = sum(finding.status is Status.FAILED for finding in findings)
    note(f"{name}: {failed} of {len(findings)} points failed." if failed else f"{name} keeps its contract.")
    return EnvError.exit_code if failed else 0


@envs.command()
@_name
@_directory
@_options
@_split
@click.option("--limit", type=click.IntRange(1), help="Show so many.")
@json_option
def tasks(
    name: str, directory: str | None, pairs: tuple[str, ...], split: str | None, limit: int | None, json_mode: bool
) -> None:
    """The tasks of a split."""
    found = _tasks(name, _parsed(pairs, directory), split)
    rows = [(task.id, task.split, task.kind, task.goal) for task in found[:limit]]
    emit_table(("id", "split", "kind", "goal"), rows, json_mode=json_mode, title=f"{len(found)} tasks of {name}")


@envs.command()
@_name
@_directory
@_options
@_split
@click.option("--task", "task_id", help="Which task [default: the first].")
@click.option("--max-steps", type=click.IntRange(1), help="Steps of the episode [default: the environment's own].")
@json_option
def play(
    name: str,
    directory: str | None,
    pairs: tuple[str, ...],
    split: str | None,
    task_id: str | None,
    max_steps: int | None,
    json_mode: bool,
) -> int:
    """Let the expert play one task and show each step; exit code 4 if it does not succeed."""
    from potstill.envs.registry import describe, factory

    options = _parsed(pairs, directory)
    found = _tasks(name, options, split)
    task = next((task for task in found if task_id in (None, task.id)), None)
    if task is None:
        raise TaskNotFound(f"No task '{task_id}'. Type to see them: potstill envs tasks {name}")
    environment = factory(name, **options)()
    rows: list[tuple[int, str, str | None]] = []
    observation = environment.reset(task, 0)
    for step in range(max_steps or describe(name, **options).max_steps):
        action = None if observation.done else environment.expert_action()
        if action is None:
            break
        rows.append((step, _words(observation), _said(action)))
        observation = environment.step(action)
    rows.append((len(rows), _words(observation), None))
    outcome = environment.outcome()
    environment.close()
    if json_mode:
        steps = [{"step": step, "observation": seen, "action": done} for step, seen, done in rows]
        emit_json({"task": task, "steps": steps, "outcome": outcome})
    else:
        emit_table(("step", "observation", "action"), rows, json_mode=False, title=f"{task.id}: {task.goal}")
        note(f"{'success' if outcome.success else 'no success'} in {len(rows) - 1} steps {outcome.detail}".rstrip())
    return 0 if outcome.success else EnvError.exit_code


def _tasks(name: str, options: dict[str, Any], split: str | None) -> list[Any]:
    from potstill.envs.registry import open_source

    source = open_source(name, **options)
    chosen = split or next(iter(source.splits()), None)
    if chosen is None:
        raise TaskNotFound(f"The environment '{name}' has no splits with these options.")
    found = list(source.tasks(chosen))
    if not found:
        raise TaskNotFound(f"The split '{chosen}' of '{name}' is empty. Splits: {', '.join(source.splits())}.")
    return found


def _parsed(pairs: tuple[str, ...], directory: str | None) -> dict[str, Any]:
    options: dict[str, Any] = {"directory": directory} if directory else {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not key or not equals:
            raise ConfigError(f"--option '{pair}' is not KEY=VALUE. Type for example: --option level=GoToLocal")
        options[key.strip().replace("-", "_")] = _scalar(value.strip())
    return options


def _scalar(text: str) -> str | int | bool:
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    return int(text) if text.lstrip("-").isdigit() else text


def _words(observation: Any) -> str:
    return "\n".join([observation.text, *(result.text for result in observation.tool_results)]).strip()


def _said(action: Any) -> str:
    calls = [f"{call.name}({call.arguments})" for call in action.tool_calls]
    return "\n".join([action.text, *calls]).strip()
