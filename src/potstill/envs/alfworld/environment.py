"""ALFWorld as an ``Environment``: household tasks in text, admissible commands listed, an expert to ask.

It knows the protocol's contract. It does not list tasks (``tasks``) or limit steps (the runner does).
"""

from __future__ import annotations

from pathlib import Path

from potstill.envs.alfworld.expert import Expert, Handcoded, Walkthrough
from potstill.envs.alfworld.game import Frame, Game, open_game
from potstill.envs.alfworld.gamefile import GameFile, goal_of, parse_folder, read_game
from potstill.envs.alfworld.tasks import NAME, game_path, games_root
from potstill.errors import BadTask, ConfigError, EnvError
from potstill.types import Action, Blob, Observation, Outcome, Task

EXPERTS = ("handcoded", "walkthrough")

__all__ = ["EXPERTS", "AlfworldEnvironment", "goal_of"]


class AlfworldEnvironment:
    """One ALFWorld game at a time, text only.

    ``directory``: the folder whose subfolders are the splits. ``expert``: ``handcoded`` (ALFWorld's own, which explores
    as a player must) or ``walkthrough`` (the commands in the game's file, replanned where the episode left them: an
    upper bound that knows where everything is). ``replan``: the same rules help the
    hand-coded expert where it is lost.
    ``fast``: False plays through textworld's own classes, with the same bytes. ``cache_directory``: where translations
    are kept. The seed of ``reset`` sets the expert's random choices; the game itself has none.
    """

    max_steps = 50
    instructions = "Interact with a household to solve the task. Objects and places carry numbers: use them as shown."

    def __init__(
        self,
        directory: Path | str,
        *,
        expert: str = "handcoded",
        replan: bool = True,
        fast: bool = True,
        cache_directory: Path | str | None = None,
    ) -> None:
        if expert not in EXPERTS:
            raise ConfigError(f"No ALFWorld expert named '{expert}'. Available: {', '.join(EXPERTS)}.")
        self._root = games_root(directory)
        self._expert_name = expert
        self._replan = replan
        self._game: Game = open_game(fast, None if cache_directory is None else Path(cache_directory))
        self._frame: Frame | None = None

    @property
    def name(self) -> str:
        return NAME

    def reset(self, task: Task, seed: int) -> Observation:
        """Load the task's game and show its first room. Raises ``BadTask`` for a game that cannot be read."""
        self._frame = None
        path = game_path(self._root, task)
        game = read_game(path)
        if not game.solvable:
            raise BadTask(f"The game {task.id} is marked as unsolvable.")
        self._game.load(game)
        self._frame = self._game.reset()
        self._expert = self._new_expert(path, game, seed)
        self._tell(None)
        return self._observation()

    def step(self, action: Action) -> Observation:
        """Carry a command out; one that is not admissible is answered 'Nothing happens.'"""
        if self._current().won:
            raise EnvError("The episode is over: call reset before the next step.")
        self._frame = self._game.step(action.text)
        self._tell(action.text.strip())
        return self._observation()

    def outcome(self) -> Outcome:
        won = self._current().won
        return Outcome(success=won, score=float(won), detail="" if won else "not finished")

    def expert_action(self) -> Action | None:
        """The expert's next command in the present state; None once the game is won or nothing wins any more."""
        if self._current().won or self._expert is None:
            return None
        command = self._expert.action()
        return None if command is None else Action(text=command)

    def read_blob(self, blob: Blob) -> bytes:
        raise KeyError(blob.digest)

    def close(self) -> None:
        self._game.close()
        self._frame = None

    # --- inside -----------------------------------------------------------------------------------------------------

    @property
    def advice(self) -> str:
        """Where the expert's last action came from: ``handcoded``, ``walkthrough`` or ``replanned``."""
        return "" if self._expert is None else self._expert.source.value

    def _new_expert(self, path: Path, game: GameFile, seed: int) -> Expert:
        parameters = parse_folder(path.parent.parent.name)
        if parameters is None or self._expert_name == "walkthrough":
            return Walkthrough(self._game, parameters, game.walkthrough)
        return Handcoded(self._game, parameters, seed, helped=self._replan)

    def _tell(self, command: str | None) -> None:
        self._expert.observe(command, self._current())

    def _current(self) -> Frame:
        if self._frame is None:
            raise EnvError("No episode was started: call reset first.")
        return self._frame

    def _observation(self) -> Observation:
        frame = self._current()
        return Observation(text=frame.feedback, admissible=frame.admissible, done=frame.won, score=float(frame.won))
