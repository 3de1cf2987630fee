"""TextWorld (arXiv 1806.11532): text games made on the spot, with their exact policy as teacher.

It knows four kinds of games and their levels, makes a game when it is first played (5 to 15 s) and keeps it on disk.
What it does not do: run in another process (``envs.worker``), or tell goals before ``reset`` made the game.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

from potstill.envs.alfworld.cache import default_directory
from potstill.errors import BadTask, ConfigError, EnvError, MissingExtra, TaskNotFound
from potstill.types import Action, Blob, Observation, Outcome, Task

NAME = "textworld"
FEATURE = "TextWorld (its package jericho builds with a C compiler: gcc, make)"
MAKE_TIMEOUT_S = 300
ASKED = (
    "feedback",
    "description",
    "objective",
    "admissible_commands",
    "policy_commands",
    "won",
    "lost",
    "score",
    "max_score",
)
"""What the game is asked to tell beside its text."""
FIRST_SEED = {"train": 0, "test": 1_000_000}
"""Where each split's seeds begin; a split of more than a million games is refused."""

_COOKING: dict[str, Any] = {"recipe": 1, "take": 1, "go": 1, "recipe_seed": 0, "split": None}
LEVELS: dict[str, dict[int, dict[str, Any]]] = {
    "simple": {
        1: {"rewards": "dense", "goal": "detailed", "test": False},
        2: {"rewards": "balanced", "goal": "brief", "test": False},
        3: {"rewards": "sparse", "goal": "brief", "test": False},
    },
    "coin_collector": {level: {"level": level} for level in range(1, 301)},
    "treasure_hunter": {level: {"level": level} for level in range(1, 31)},
    "cooking": {
        1: _COOKING,
        2: {**_COOKING, "open": True},
        3: {**_COOKING, "open": True, "cook": True},
        4: {**_COOKING, "open": True, "cook": True, "cut": True, "recipe": 2, "take": 2},
        5: {**_COOKING, "open": True, "cook": True, "cut": True, "recipe": 3, "take": 3, "go": 6},
    },
}
"""Per kind and level the settings that TextWorld's own generator of that kind takes."""


class TextworldEnvironment:
    """One generated game at a time. ``cache_directory``: where games are kept (default: potstill's cache folder).

    The seed of ``reset`` changes nothing: a task names its game exactly.
    """

    max_steps = 50
    instructions = "Play a text game: reach the goal that is stated first. Answer with one command."

    def __init__(self, *, cache_directory: Path | str | None = None) -> None:
        self._version = _installed_version()
        self._games = Path(cache_directory or default_directory()) / "textworld-games"
        self._game: Any = None
        self._path: Path | None = None

    @property
    def name(self) -> str:
        return NAME

    def reset(self, task: Task, seed: int) -> Observation:
        """Make the game if need be and show goal and first room. Raises ``BadTask`` for a kind or level unknown."""
        path = self._made(*_settings(task))
        if path != self._path:
            self.close()
            self._game, self._path = _start(path), path
        self._state = self._game.reset()
        return self._observation(f"{self._state.objective.strip()}\n\n{self._state.description.strip()}")

    def step(self, action: Action) -> Observation:
        """Carry a command out; the game answers in words what it does not understand."""
        if self._playing().won or self._state.lost:
            raise EnvError("The episode is over: call reset before the next step.")
        command = " ".join(action.text.split()) or "wait"
        self._state = self._game.step(command)[0]
        return self._observation(_spoken(self._state.feedback))

    def outcome(self) -> Outcome:
        state = self._playing()
        detail = "" if state.won else "lost" if state.lost else "not finished"
        return Outcome(success=bool(state.won), score=_score(state), detail=detail)

    def expert_action(self) -> Action | None:
        """The first command of the policy that wins from here; None where the game is over or cannot be won."""
        commands = self._playing().policy_commands
        return Action(text=commands[0]) if commands and not self._state.lost else None

    def read_blob(self, blob: Blob) -> bytes:
        raise KeyError(blob.digest)

    def close(self) -> None:
        if self._game is not None:
            self._game.close()
        self._game = self._path = None

    # --- inside -----------------------------------------------------------------------------------------------------

    def _playing(self) -> Any:
        if self._game is None:
            raise EnvError("No episode was started: call reset first.")
        return self._state

    def _observation(self, text: str) -> Observation:
        state = self._state
        return Observation(
            text=text,
            admissible=tuple(sorted(set(state.admissible_commands))) or ("look",),
            done=bool(state.won or state.lost),
            score=_score(state),
        )

    def _made(self, kind: str, settings: Mapping[str, Any], seed: int) -> Path:
        key = json.dumps([self._version, kind, settings, seed], sort_keys=True)
        folder = self._games / hashlib.sha256(key.encode()).hexdigest()[:32]
        if not (folder / "game.z8").is_file():
            _make(kind, settings, seed, folder)
        return folder / "game.z8"


class TextworldTasks:
    """Games of some ``kinds`` at one ``level``; ``train`` and ``test`` count the games of each kind in each split."""

    def __init__(
        self, *, kinds: Sequence[str] | str = ("coin_collector",), level: int = 3, train: int = 50, test: int = 20
    ) -> None:
        self._kinds = tuple(kinds.split(",")) if isinstance(kinds, str) else tuple(kinds)
        self._level = level
        self._counts = {"train": train, "test": test}
        for kind in self._kinds:
            _level_settings(kind, level)
        if not all(0 <= count <= FIRST_SEED["test"] for count in self._counts.values()):
            raise ConfigError(f"A split has 0 to {FIRST_SEED['test']} games a kind, not {self._counts}.")

    def splits(self) -> Sequence[str]:
        return tuple(self._counts)

    def tasks(self, split: str) -> Sequence[Task]:
        if split not in self._counts:
            raise TaskNotFound(f"textworld has no split '{split}'. Available: {', '.join(self._counts)}.")
        first = FIRST_SEED[split]
        return [
            Task(
                id=f"{kind}/{self._level}/{seed}",
                environment=NAME,
                split=split,
                kind=kind,
                data={"kind": kind, "level": self._level, "seed": seed},
            )
            for kind in self._kinds
            for seed in range(first, first + self._counts[split])
        ]


def _level_settings(kind: str, level: int) -> dict[str, Any]:
    if kind not in LEVELS:
        raise ConfigError(f"No kind of TextWorld game named '{kind}'. Available: {', '.join(sorted(LEVELS))}.")
    if level not in LEVELS[kind]:
        raise ConfigError(f"The kind '{kind}' has levels 1 to {max(LEVELS[kind])}, not {level}.")
    return LEVELS[kind][level]


def _settings(task: Task) -> tuple[str, dict[str, Any], int]:
    try:
        kind, level, seed = str(task.data["kind"]), int(task.data["level"]), int(task.data["seed"])
        return kind, _level_settings(kind, level), seed
    except (KeyError, ValueError, TypeError, ConfigError) as error:
        raise BadTask(f"Task '{task.id}' names no kind, level and seed of a game in its data: {task.data}") from error


def _installed_version() -> str:
    try:
        return metadata.version("textworld")
    except metadata.PackageNotFoundError:
        raise MissingExtra(FEATURE, "textworld") from None


def _make(kind: str, settings: Mapping[str, Any], seed: int, folder: Path) -> None:
    """Make a game beside its place and move it there, whole or not at all. Raises ``BadTask``."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".new-"))
    arguments = [kind, json.dumps(settings), str(seed), str(draft)]
    try:
        done = subprocess.run(
            [sys.executable, "-m", "potstill.envs.textworld_make", *arguments],
            env={**os.environ, "PYTHONHASHSEED": "0"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=MAKE_TIMEOUT_S,
        )
        if done.returncode != 0 or not (draft / "game.z8").is_file():
            last_line = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise BadTask(f"TextWorld could not make the game {kind} with seed {seed}: {last_line}")
        try:
            draft.rename(folder)
        except OSError:  # another process was faster and made the same game
            if not (folder / "game.z8").is_file():
                raise
    except subprocess.TimeoutExpired:
        raise BadTask(f"Making the game {kind} with seed {seed} took more than {MAKE_TIMEOUT_S} s.") from None
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _start(path: Path) -> Any:
    try:
        textworld = import_module("textworld")
    except ImportError as error:
        raise MissingExtra(f"{FEATURE}: {error}", "textworld") from error
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # jericho says of every generated game that it is not one of its classics
        return textworld.start(str(path), textworld.EnvInfos(**dict.fromkeys(ASKED, True)))


def _spoken(feedback: str) -> str:
    """What the game says, without its prompt and status line (``> ... -= Kitchen =-0/1``) and its closing menu."""
    text = feedback.partition("Would you like to RESTART")[0]
    text = re.sub(r"\n>[^\n]*\Z", "", text)
    return re.sub(r"\n{3,}", "\n\n", text).strip()


def _score(state: Any) -> float:
    """The share of the points: games give one to several."""
    return max(0.0, min(1.0, state.score / state.max_score)) if state.max_score else float(state.won)
