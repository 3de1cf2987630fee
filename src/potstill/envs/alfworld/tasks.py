"""Which games there are: the subfolders of a directory are splits, the folders below them games.

It lists and reads goals without loading a game. That a game can be played, ``AlfworldEnvironment`` checks.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from potstill.envs.alfworld.gamefile import GAME_FILE, parse_folder, read_goal
from potstill.errors import BadTask, TaskNotFound
from potstill.types import Task

NAME = "alfworld"
NOT_PLAYABLE = ("movable", "Sliced")
"""ALFWorld leaves out the games whose path says this, and so do we."""
HOW_TO = "Unpack ALFWorld's games so that DIR/train and DIR/valid_seen hold them, and pass --tasks DIR."


def games_root(directory: Path | str) -> Path:
    """The folder that holds the splits; where one split itself was passed, its parent."""
    root = Path(directory).resolve()
    if not root.is_dir():
        raise TaskNotFound(f"There is no folder {directory}. {HOW_TO}")
    return root.parent if _is_split(root) else root


def game_path(root: Path, task: Task) -> Path:
    """Where a task's game lies. Raises ``BadTask`` where the task names none, or one outside of ``root``."""
    relative = task.data.get("game")
    if not isinstance(relative, str) or not relative:
        raise BadTask(f"Task '{task.id}' names no game in its data: {task.data}.")
    path = (root / relative).resolve()
    if not path.is_relative_to(root):
        raise BadTask(f"Task '{task.id}' points out of the games' folder: {relative}.")
    return path


class AlfworldTasks:
    """Tasks of the games under ``directory`` (``DIR/SPLIT/GAME/TRIAL/game.tw-pddl``), ordered by path.

    A task's id is its folder relative to the directory, its kind one of ALFWorld's six types.
    """

    def __init__(self, directory: Path | str) -> None:
        self._root = games_root(directory)
        only = Path(directory).resolve()
        self._splits = (only.name,) if only != self._root else _splits(self._root)
        if not self._splits:
            raise TaskNotFound(f"No ALFWorld games ({GAME_FILE}) in {directory}. {HOW_TO}")
        self._tasks: dict[str, tuple[Task, ...]] = {}

    def splits(self) -> Sequence[str]:
        return self._splits

    def tasks(self, split: str) -> Sequence[Task]:
        if split not in self._splits:
            raise TaskNotFound(f"alfworld has no split '{split}' here. Available: {', '.join(self._splits)}.")
        if split not in self._tasks:
            self._tasks[split] = tuple(self._read(path, split) for path in _games(self._root / split))
        return self._tasks[split]

    def _read(self, path: Path, split: str) -> Task:
        relative = path.relative_to(self._root)
        parameters = parse_folder(path.parent.parent.name)
        return Task(
            id=relative.parent.as_posix(),
            environment=NAME,
            goal=read_goal(path),
            split=split,
            kind=parameters.kind if parameters else "",
            data={"game": relative.as_posix()},
        )


def _games(folder: Path) -> list[Path]:
    paths = (path for path in folder.rglob(GAME_FILE) if not any(word in str(path) for word in NOT_PLAYABLE))
    return sorted(paths, key=lambda path: path.as_posix())


def _splits(root: Path) -> tuple[str, ...]:
    folders = sorted(entry for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    return tuple(folder.name for folder in folders if next(folder.rglob(GAME_FILE), None) is not None)


def _is_split(folder: Path) -> bool:
    return any(parse_folder(entry.name) is not None for entry in folder.iterdir())
