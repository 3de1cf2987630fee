"""The workshop with hidden rules as the benches of playbooks play it: in this process, with or without a book.

What it knows: the environment ``house-rules``, the episode loop, prices. What it does not do: learn. ``Player`` is a
``learn.contract.Generator``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple
from zlib import crc32

from _scripted_notes import Condition, Note, Range
from potstill.decide import agreement_rule
from potstill.decide.policy import Policy, PolicyKind
from potstill.distill.playbook.book import Since
from potstill.distill.playbook.budget import Budget
from potstill.distill.playbook.context import PlaybookConfig, PlaybookContext, Source
from potstill.distill.playbook.learn.contract import episode_id
from potstill.distill.playbook.operations import Bullet, Stage
from potstill.distill.playbook.said import Reflection
from potstill.envs.house_rules import HouseRulesEnvironment
from potstill.envs.house_rules.environment import Feedback
from potstill.envs.house_rules.house import Asks, House, Rule, draw_house
from potstill.envs.house_rules.words import QUANTITIES
from potstill.measure.prices.table import PriceTable
from potstill.models.scripted import ScriptedModel
from potstill.protocols import Model
from potstill.run.arms import Agent, Arm
from potstill.run.episode import EpisodeSpec, Parts, run_episode
from potstill.run.sides import Side
from potstill.types import Action, Answerer, Blob, Call, Observation, Outcome, Task, Trajectory

STUDENT_AS, TEACHER_AS = "gpt-5-nano", "gpt-5"
"""Whose list prices the tokens of scripted roles are given."""
SECTION = "strategies_and_hard_rules"
FRESH = PlaybookConfig(holdout_share=0.0, budget=Budget(slack=0.0, every=1))
"""A page that follows the book at once. The default waits until a tenth of its budget is out of date."""


class InProcess:
    """A synchronous environment as the episode loop sees it, without a worker process."""

    def __init__(self, environment: HouseRulesEnvironment) -> None:
        self.environment = environment

    async def reset(self, task: Task, seed: int) -> Observation:
        return self.environment.reset(task, seed)

    async def step(self, action: Action) -> Observation:
        return self.environment.step(action)

    async def outcome(self) -> Outcome:
        return self.environment.outcome()

    async def expert_action(self) -> Action:
        return self.environment.expert_action() or Action()

    async def read_blob(self, blob: Blob) -> bytes:
        return self.environment.read_blob(blob)

    async def aclose(self) -> None:
        self.environment.close()


class Frozen:
    """A book as it was: a ``context.Source`` that never changes."""

    name, namespace = "frozen", "default"

    def __init__(self, bullets: Mapping[str, Bullet], revision: int = 1) -> None:
        self._bullets = dict(bullets)
        self.revision = revision if bullets else 0

    def since(self, revision: int) -> Since:
        return Since(self.revision, 0, self._bullets)


class Player:
    """Plays orders with a model that is shown a book. ``hint``: behind the instructions, the same for every order."""

    def __init__(
        self,
        model: Model,
        *,
        book: Source | None = None,
        feedback: Feedback = "symptom",
        hint: str = "",
        name: str = "book",
        namespace: str = "default",
        config: PlaybookConfig = FRESH,
        agent: Agent | None = None,
        max_steps: int = HouseRulesEnvironment.max_steps,
    ) -> None:
        self._model = model
        self._name = name
        self._namespace = namespace
        self._feedback = feedback
        self._hint = hint
        self._max_steps = max_steps
        policy = Policy(kind=PolicyKind.STUDENT, samples=1, rule="normalized", alone_temperature=0.0)
        self._arm = Arm(name="student", policy=policy, student_agent=agent or Agent())
        self._context = PlaybookContext(book, config, name=name) if book is not None else None

    async def play(self, task: Task, seed: int, *, reflection: Reflection | None, tag: str) -> Trajectory:
        """One episode; its record is returned and not kept. Draws depend on the seed and the tag."""
        world = InProcess(HouseRulesEnvironment(feedback=self._feedback))
        said = reflection.key_insight if reflection is not None else ""
        parts = (HouseRulesEnvironment.instructions, self._hint, said)
        spec = EpisodeSpec(
            trajectory_id=episode_id(tag),
            task=task,
            seed=seed,
            arm=self._arm,
            max_steps=self._max_steps,
            instructions="\n\n".join(part for part in parts if part),
            namespace=self._namespace,
        )
        drawn = crc32(f"{seed}/{tag}".encode())
        side = Side(self._model, Answerer.STUDENT, self._arm.student_agent, seed=drawn, handle=world)
        rule = agreement_rule(self._arm.policy.rule)
        trajectory = await run_episode(spec, Parts(environment=world, rule=rule, student=side, context=self._context))
        if isinstance(self._model, ScriptedModel):
            self._model.requests.clear()
        return trajectory


# --- what somebody who knows the rules would write --------------------------------------------------------------------


def note_of(rule: Rule) -> Note:
    when: Condition = {
        term.field: tuple(term.values) if term.above is None else Range(low=term.above + 1, high=QUANTITIES[-1])
        for term in rule.when
    }
    use = (rule.action,) if rule.asks in (Asks.ONLY, Asks.BEFORE) else ()
    avoid = (rule.action,) if rule.asks in (Asks.NOT, Asks.WITHOUT) else ()
    return Note(when=when, verb=rule.stage, use=use, avoid=avoid)


def written_by_hand(texts: Sequence[str]) -> Frozen:
    """A book with these bullets, live."""
    made = (
        Bullet(id=f"b-{number}", number=number, section=SECTION, content=text, stage=Stage.LIVE, added_in=1)
        for number, text in enumerate(texts, start=1)
    )
    return Frozen({one.id: one for one in made})


def true_notes(rules_seed: int, rules: int) -> list[str]:
    return [str(note_of(rule)) for rule in draw_house(rules_seed, rules).rules]


def careful_hint(house: House) -> str:
    """What a careful person without any knowledge of the rules may write: take every precaution there is, at once."""
    first = next(iter(house.stages))
    return "\n".join(str(Note(when={}, verb=first, use=(act,))) for act in house.acts)


# --- what it costs --------------------------------------------------------------------------------------------------


class Prices(NamedTuple):
    """Dollars per token of one model's list prices, nothing from a cache."""

    input: float
    output: float

    def of(self, calls: Sequence[Call]) -> float:
        used = [call.usage for call in calls if call.usage is not None]
        return sum(one.input_tokens * self.input + one.output_tokens * self.output for one in used)


def prices_of(model: str, table: PriceTable) -> Prices:
    rates = table.price(model).rates
    return Prices(rates.input / 1e6, rates.output / 1e6)


def calls_of(trajectory: Trajectory) -> list[Call]:
    return [call for step in trajectory.steps for call in step.calls]
