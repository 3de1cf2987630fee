"""The workshop as an ``Environment``: an order goes through the stages, and what breaks a house rule makes trouble.

What it knows: where an order is, what was done to it, what it may say about it (``feedback``). What it does not do:
draw rules (``house``), run in another process (``envs.worker``).

An order is got out well if no rule was broken on its way. With ``feedback`` ``symptom`` a stage that makes trouble
says which, in words that name neither rule nor remedy, and has to be done again, until it is right; a stage that an
act spoilt cannot be done again, and the order goes on as it is. With ``result`` only the last line says whether there
was trouble, with ``none`` nothing does, and no stage is done twice. ``outcome`` always tells the truth: whoever wants
to learn without it leaves it out.
"""

from __future__ import annotations

from typing import Literal, get_args

from potstill.envs.house_rules.house import Asks, House, Rule, draw_house, draw_order
from potstill.envs.house_rules.tasks import NAME
from potstill.errors import BadTask, EnvError, one_of
from potstill.types import Action, Blob, Observation, Outcome, Task

Feedback = Literal["symptom", "result", "none"]


class HouseRulesEnvironment:
    """One order at a time. ``feedback``: what the house says of broken rules. The seed of ``reset`` changes nothing."""

    max_steps = 30
    instructions = (
        "You take orders through a workshop, stage by stage. Each stage can be done in several ways, and there are "
        "things that may be done besides. The house has rules about orders, which nobody wrote down. "
        "Answer with one action."
    )

    def __init__(self, *, feedback: Feedback = "symptom") -> None:
        one_of("feedback", feedback, get_args(Feedback))
        self._feedback = feedback
        self._house: House | None = None

    @property
    def name(self) -> str:
        return NAME

    def reset(self, task: Task, seed: int) -> Observation:
        """Take up the task's order. ``BadTask``: ``task.data`` names none. ``ConfigError``: no house can be so."""
        try:
            rules_seed, rules = int(task.data["rules_seed"]), int(task.data["rules"])
            order_seed = int(task.data["seed"])
        except (KeyError, ValueError, TypeError) as error:
            raise BadTask(f"Task '{task.id}' names no rules_seed, rules and seed in its data: {task.data}") from error
        self._house = draw_house(rules_seed, rules)
        self._order = draw_order(order_seed)
        self._left = list(self._house.stages)
        self._acts: list[str] = []
        self._troubles: list[Rule] = []
        self._spoilt: set[str] = set()
        return self._observe(f"The order lies on the desk. Stages: {', '.join(self._left)}.")

    def step(self, action: Action) -> Observation:
        """Do it; what cannot be done now is answered in words. Raises ``EnvError`` after the end."""
        house = self._open()
        if not self._left:
            raise EnvError("The episode is over: call reset before the next step.")
        words = " ".join(action.text.split())
        if words in house.acts and words not in self._acts:
            self._acts.append(words)
            return self._observe(f"You {words}.")
        if words in house.stages[self._left[0]]:
            return self._observe(self._stage(house, words))
        return self._observe(f"You cannot do that now: '{words[:80]}'.")

    def outcome(self) -> Outcome:
        """Done well: through all stages, and no rule was broken. The score is the share of stages that went well."""
        house = self._open()
        well = len(house.stages) - len(self._left) - len(self._spoilt - set(self._left))
        told = [f"{rule.stage}: {rule.trouble}" for rule in self._troubles] if self._feedback == "symptom" else []
        unfinished = ["not finished"] if self._left else []
        return Outcome(
            success=not self._left and not self._troubles,
            score=well / len(house.stages),
            detail="; ".join([*told, *unfinished]),
        )

    def expert_action(self) -> Action | None:
        """What somebody who knows the rules does next, whatever was done before; None once the order is out."""
        house = self._open()
        if not self._left:
            return None
        stage = self._left[0]
        missing = [act for act in house.needed(self._order, stage) if act not in self._acts]
        return Action(text=missing[0] if missing else house.right_way(self._order, stage))

    def read_blob(self, blob: Blob) -> bytes:
        raise KeyError(blob.digest)

    def close(self) -> None:
        self._house = None

    # --- inside -----------------------------------------------------------------------------------------------------

    def _open(self) -> House:
        if self._house is None:
            raise EnvError("No episode was started: call reset first.")
        return self._house

    def _stage(self, house: House, way: str) -> str:
        stage = self._left[0]
        rule = house.broken(self._order, stage, way, self._acts)
        if rule is None or self._feedback != "symptom":
            if rule is not None:
                self._spoil(rule)
            self._left.pop(0)
            return f"You {way}."
        self._spoil(rule)
        if rule.asks is Asks.WITHOUT:
            self._left.pop(0)
            return f"You {way}.\nTrouble: {rule.trouble}. It cannot be mended, and the order goes on as it is."
        return f"You {way}.\nTrouble: {rule.trouble}. To {stage} has to be done again."

    def _spoil(self, rule: Rule) -> None:
        self._troubles.append(rule)
        self._spoilt.add(rule.stage)

    def _observe(self, said: str) -> Observation:
        house = self._open()
        done = not self._left
        free = tuple(act for act in house.acts if act not in self._acts)
        return Observation(
            text=f"{said}\n{self._ending() if done else f'Next stage: {self._left[0]}.'}",
            admissible=() if done else (*house.stages[self._left[0]], *free),
            done=done,
            score=(self.outcome().score or 0.0) if self._feedback == "symptom" else 0.0,
        )

    def _ending(self) -> str:
        if self._feedback == "none":
            return "The order has left the house."
        return "The order came back." if self._troubles else "The order arrived, and the customer is content."
