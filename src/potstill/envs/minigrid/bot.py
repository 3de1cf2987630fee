"""The BabyAI bot as a teacher of single steps, made to survive a student who did something else.

What it knows: ``minigrid.utils.baby_ai_bot.BabyAIBot`` (arXiv 1810.08272, appendix) and how to start a new one in the
middle of an episode. What it does not do: errands (``expert``).

The stock bot plans from the start of an episode and is told each action that was taken; after arbitrary actions it
can fail an assertion. Here it is asked only when somebody wants its advice: if exactly one action was taken since, it
is told that action; if more were, or if it fails, a new bot starts from the present state with what has been seen and
the parts of the mission that are left. Where even that fails, the errand planner gives the step.
"""

# mypy: disable-error-code="no-untyped-call"
from __future__ import annotations

from typing import Any

from potstill.envs.minigrid import expert, macro
from potstill.envs.minigrid.world import PICKUP, WAIT, World


class BotTeacher:
    """Advice for the present state of a world; call ``took`` after every action."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._bot: Any = None
        self._taken: list[int] = []
        self._last = WAIT
        self.restarts = 0
        self.fallbacks = 0

    def took(self, action: int) -> None:
        self._taken.append(action)

    def advice(self) -> int | None:
        """The world's own action that the teacher would take now; None where neither bot nor planner knows one."""
        continued = self._bot is not None and len(self._taken) <= 1
        attempts = (self._continue, self._restart) if continued else (self._restart,)
        for attempt in attempts:
            try:
                action = attempt()
            except Exception:  # the bot fails by assertions, type and index errors of many kinds
                continue
            if self._sensible(action):
                self._taken = []
                return action
        self._bot = None
        self._taken = []
        self.fallbacks += 1
        return self._planned()

    def _continue(self) -> int:
        if not self._taken:  # asked twice in one state: the plan would be counted as carried out
            return self._last
        self._last = int(self._bot.replan(self._taken[0]))
        return self._last

    def _restart(self) -> int:
        from minigrid.utils.baby_ai_bot import BabyAIBot, DropSubgoal, GoNextToSubgoal

        self.restarts += 1
        world = self._world
        bot = BabyAIBot(world.env)
        bot.vis_mask = world.seen.copy()
        bot.stack = []
        for instruction in reversed(_left(world.env.instrs)):
            bot._process_instr(instruction)
        held = world.carrying
        if held is not None:
            if _is_moved(expert.current_instruction(world.env.instrs), held.object):
                del bot.stack[-2:]  # neither walk to it nor pick it up again
            else:
                bot.stack.append(DropSubgoal(bot))
                bot.stack.append(GoNextToSubgoal(bot, bot._find_drop_pos()))
        self._bot = bot
        self._last = int(bot.replan())
        return self._last

    def _sensible(self, action: int) -> bool:
        """A bot whose plan broke says 'done' or repeats a pick-up that does nothing."""
        if action == PICKUP and self._world.carrying is not None:
            return False
        return action != WAIT or not self._taken

    def _planned(self) -> int | None:
        words = expert.next_errand(self._world)
        for errand in macro.errands(self._world):
            if errand.words == words:
                return next(macro.carry_out(self._world, errand), None)
        return None


def _left(instruction: Any) -> list[Any]:
    """The single instructions that are not done yet, in the order in which they are to be done."""
    kind = type(instruction).__name__
    if kind not in ("BeforeInstr", "AfterInstr", "AndInstr"):
        return [instruction]
    parts = [(instruction.instr_a, instruction.a_done), (instruction.instr_b, instruction.b_done)]
    if kind == "AfterInstr":
        parts.reverse()
    return [single for part, done in parts if done != "success" for single in _left(part)]


def _is_moved(instruction: Any, thing: Any) -> bool:
    moved = getattr(instruction, "desc_move", None)
    return moved is not None and any(thing is wanted for wanted in moved.obj_set)
