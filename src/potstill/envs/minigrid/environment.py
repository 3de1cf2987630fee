"""BabyAI as an ``Environment``: text (and images) out, words in, the bot as teacher.

What it knows: both action spaces, the step limit, when an episode is over. What it does not do: run in another
process (``envs.worker``).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from potstill.envs.minigrid import expert, macro, text
from potstill.envs.minigrid.bot import BotTeacher
from potstill.envs.minigrid.images import MEDIA_TYPE, render_png
from potstill.envs.minigrid.symbols import describe_symbols
from potstill.envs.minigrid.world import DROP, FORWARD, LEFT, PICKUP, RIGHT, TOGGLE, WAIT, Cell, World
from potstill.errors import BadTask, ConfigError, EnvError
from potstill.types import Action, Blob, Observation, Outcome, Task

PRIMITIVES = {
    "turn left": LEFT,
    "turn right": RIGHT,
    "go forward": FORWARD,
    "pick up": PICKUP,
    "drop": DROP,
    "toggle": TOGGLE,
    "wait": WAIT,
}
_PRIMITIVE_WORDS = {number: words for words, number in PRIMITIVES.items()}
ACTION_SPACES = ("macro", "primitive")
VIEWS = ("words", "grid")
_MAX_STEPS = {"macro": 12, "primitive": 64}


class MinigridEnvironment:
    """One BabyAI world at a time.

    ``action_space``: ``macro`` (errands such as 'pick up the grey key', a few decisions an episode) or ``primitive``
    (turns and single steps). ``max_steps``: after so many decisions the world itself ends the episode as failed; by
    default the episode loop counts (``self.max_steps``: 12 errands or 64 single steps). ``view``: what an observation's
    text is, ``words`` or the ``grid`` of symbols as JSON (``symbols``; single steps only). ``images``: also show the
    view as a PNG blob. The seed of ``reset`` changes nothing: a task names its world exactly.
    """

    instructions = text.INSTRUCTIONS["macro"]
    max_steps = _MAX_STEPS["macro"]

    def __init__(
        self,
        *,
        action_space: str = "macro",
        max_steps: int | None = None,
        view: str = "words",
        images: bool = False,
    ) -> None:
        if action_space not in ACTION_SPACES:
            raise ConfigError(f"No action space '{action_space}'. Available: {', '.join(ACTION_SPACES)}.")
        if view not in VIEWS:
            raise ConfigError(f"No view '{view}'. Available: {', '.join(VIEWS)}.")
        if view == "grid" and action_space != "primitive":
            raise ConfigError(
                f"view=grid shows what is in view now, and '{action_space}' actions speak of all that was seen. Add "
                "--option action_space=primitive."
            )
        self.action_space = action_space
        self.max_steps = max_steps or _MAX_STEPS[action_space]
        self._own_limit = max_steps
        self.instructions = text.GRID_INSTRUCTIONS if view == "grid" else text.INSTRUCTIONS[action_space]
        self._grid, self._images = view == "grid", images
        self._worlds: dict[str, World] = {}
        self._blobs: dict[str, bytes] = {}
        self._world: World | None = None

    @property
    def name(self) -> str:
        return "minigrid"

    def reset(self, task: Task, seed: int) -> Observation:
        """Build the task's world. Raises ``BadTask`` where ``task.data`` does not name one."""
        try:
            level, world_seed = str(task.data["level"]), int(task.data["seed"])
        except (KeyError, ValueError, TypeError) as error:
            raise BadTask(f"Task '{task.id}' names no level and seed in its data: {task.data}") from error
        space = task.data.get("action_space", self.action_space)
        if space != self.action_space:
            raise BadTask(
                f"Task '{task.id}' is for the action space '{space}', this environment has '{self.action_space}'. "
                f"Make it with action_space='{space}'."
            )
        if level not in self._worlds:
            self._worlds[level] = World(level)
        self._world = world = self._worlds[level]
        world.reset(world_seed)
        self._start: tuple[Cell, int] = world.agent, world.direction
        self._teacher = BotTeacher(world)
        self._blobs = {}
        self._steps = 0
        return self._observe(f"Mission: {world.mission}.")

    def step(self, action: Action) -> Observation:
        """Carry an action out. One that cannot be done now costs a step and is answered in words."""
        world = self._playing()
        if self._is_over:
            raise EnvError("The episode is over: call reset before the next step.")
        self._steps += 1
        words = action.text.strip().lower()
        said = self._errand(world, words) if self.action_space == "macro" else self._primitive(world, words)
        return self._observe(said)

    def outcome(self) -> Outcome:
        """Success only once the mission is done; before that, and after the last step, failure with the reason."""
        world = self._playing()
        reason = "mission failed" if world.failed else "step limit" if self._is_over else "not finished"
        return Outcome(success=world.succeeded, score=float(world.succeeded), detail="" if world.succeeded else reason)

    def expert_action(self) -> Action | None:
        """The teacher's next action in the present state, whatever was done before; None where it sees no way."""
        world = self._playing()
        if self._is_over:
            return None
        if self.action_space == "macro":
            words = expert.next_errand(world)
            return None if words is None else Action(text=words)
        number = self._teacher.advice()
        return None if number is None else Action(text=_PRIMITIVE_WORDS[number])

    def read_blob(self, blob: Blob) -> bytes:
        return self._blobs[blob.digest]

    def close(self) -> None:
        for world in self._worlds.values():
            world.env.close()
        self._worlds, self._world = {}, None

    # --- inside -----------------------------------------------------------------------------------------------------

    def _playing(self) -> World:
        if self._world is None:
            raise EnvError("No episode was started: call reset first.")
        return self._world

    @property
    def _is_over(self) -> bool:
        return self._playing().done or (self._own_limit is not None and self._steps >= self._own_limit)

    def _errand(self, world: World, words: str) -> str:
        known = len(world.things())
        for errand in macro.errands(world):
            if errand.words == words:
                for number in macro.carry_out(world, errand):
                    world.act(number)
                    if world.done:
                        break
                return macro.outcome_words(world, errand, known)
        return _refusal(words)

    def _primitive(self, world: World, words: str) -> str:
        if words not in self._primitives(world):
            return _refusal(words)
        world.act(PRIMITIVES[words])
        self._teacher.took(PRIMITIVES[words])
        return f"You {words}."

    def _primitives(self, world: World) -> list[str]:
        """The words that do something now."""
        ahead = world.content(world.front)
        makes_sense: dict[str, Callable[[], bool]] = {
            "go forward": lambda: world.passable(world.front),
            "pick up": lambda: world.carrying is None and ahead is not None and ahead.can_pickup(),
            "drop": lambda: world.carrying is not None and ahead is None,
            "toggle": lambda: ahead is not None and ahead.type == "door",
        }
        return [words for words in PRIMITIVES if words not in makes_sense or makes_sense[words]()]

    def _observe(self, said: str) -> Observation:
        world = self._playing()
        return Observation(
            text=describe_symbols(world) if self._grid else self._told(world, said),
            admissible=() if self._is_over else self._admissible(world),
            images=(self._picture(world),) if self._images else (),
            done=self._is_over,
            score=float(world.succeeded),
        )

    def _told(self, world: World, said: str) -> str:
        macro_space = self.action_space == "macro"
        view = text.describe_memory(world, self._start) if macro_space else text.describe_view(world)
        end = "\nMission accomplished." if world.succeeded else "\nThe mission has failed." if world.failed else ""
        return f"{said}\n{view}{end}"

    def _admissible(self, world: World) -> tuple[str, ...]:
        if self.action_space == "macro":
            return tuple(errand.words for errand in macro.errands(world))
        return tuple(self._primitives(world))

    def _picture(self, world: World) -> Blob:
        data = render_png(world.env)
        digest = hashlib.sha256(data).hexdigest()
        self._blobs[digest] = data
        return Blob(digest=digest, media_type=MEDIA_TYPE, size_bytes=len(data))


def _refusal(words: str) -> str:
    return f"You cannot do that now: '{' '.join(words.split())[:80]}'."
