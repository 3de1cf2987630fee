"""What the recipes that compare ways of learning share: a world, its tasks, a student and a teacher, and one table.

What it knows: how an episode is played with a text in the student's prompt, how a teacher is asked in words, and how
both are counted and priced. What it does not do: learn. Every arm plays the same tasks with the same seeds through
``potstill.run.episode``; a row says how many succeeded, with Wilson's interval, what learning cost and what an episode
costs with the prompt cache simulated where no endpoint reports one. Unknown costs are ``-``, never zero.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Any, NamedTuple

import msgspec

from potstill.decide import agreement_rule
from potstill.decide.policy import Policy, PolicyKind
from potstill.distill.context.render import action_text, neutral
from potstill.envs.registry import describe, factory, open_source
from potstill.envs.worker import WorkerPool
from potstill.errors import BudgetReached, ConfigError, ModelError, PotstillError, UnknownPrice
from potstill.measure.cache import ledger
from potstill.measure.ledger import Pricing
from potstill.measure.prices import PriceTable
from potstill.measure.statistics import wilson
from potstill.models.expert import EstimateCounter, ExpertModel
from potstill.models.registry import open_model
from potstill.protocols import Capabilities, Context, ContextQuery, Model
from potstill.run.arms import Agent, Arm
from potstill.run.episode import EpisodeSpec, Parts, run_episode
from potstill.run.runner import choose_tasks, trajectory_id
from potstill.run.sides import Health, Side
from potstill.types import Answerer, Call, Completion, Message, Purpose, Request, Task, Trajectory

COLUMNS = (
    *("arm", "n", "errors", "success", "low", "high", "score"),
    *("learn_usd", "episode_usd", "input_tokens", "output_tokens", "text_tokens"),
)
count = EstimateCounter().count


class Played(NamedTuple):
    """What an arm did: its episodes, the calls that taught it, and the text that it ended with."""

    arm: str
    episodes: list[Trajectory]
    learning: list[Call]
    text: str = ""
    more: dict[str, Any] | None = None
    """What else its row says, in JSON alone."""


class Arena:
    """A world with its models, open. Made by ``opened``."""

    def __init__(self, options: argparse.Namespace, pool: WorkerPool, student: Model, teacher: Model | None) -> None:
        self.options = options
        self.about = describe(options.env, **world_options(options))
        self._pool, self._student, self._teacher = pool, student, teacher
        self._alone = teacher is None
        self._health = {Answerer.STUDENT: Health(), Answerer.TEACHER: Health()}
        self._asked = Health()
        self._prices = PriceTable.load()
        self.spent_usd = 0.0

    def limit(self) -> None:
        """From now on money is counted, and ``--max-cost`` kept."""
        self._teacher = Purse(self.teacher, Answerer.TEACHER, self)
        self._student = Purse(self._student, Answerer.STUDENT, self)

    async def play(
        self,
        task: Task,
        text: str = "",
        *,
        arm: str,
        by: Answerer = Answerer.STUDENT,
        instead: bool = False,
        context: Context | None = None,
        id: str | None = None,
    ) -> Trajectory:
        """One episode with ``text`` behind the environment's own instructions, or ``instead`` of them.

        ``context``: what puts more into the prompt. ``id``: the episode's; by default it follows from arm, task, seed.
        A failed episode is data; a model that does not answer at all raises its ``ModelError``.
        """
        own = "" if instead else self.about.instructions
        async with self._pool.lease() as environment:
            agent = Agent(max_tokens=self.options.max_tokens)
            model = self._student if by is Answerer.STUDENT else self.teacher
            side = Side(model, by, agent, seed=self.options.seed, handle=environment, health=self._health[by])
            kind = PolicyKind.STUDENT if by is Answerer.STUDENT else PolicyKind.TEACHER
            policy = Policy(kind=kind, alone_temperature=self.options.temperature)
            spec = EpisodeSpec(
                trajectory_id=id or trajectory_id("recipe", arm, task.id, self.options.seed),
                task=task,
                seed=self.options.seed,
                arm=Arm(name=arm, policy=policy, student_agent=agent, teacher_agent=agent),
                max_steps=self.options.max_steps or self.about.max_steps,
                instructions="\n\n".join(part for part in (own, text.strip()) if part),
            )
            student, teacher = (side, None) if by is Answerer.STUDENT else (None, side)
            rule = agreement_rule(self.about.rule)
            episode = await run_episode(
                spec, Parts(environment, rule, student=student, teacher=teacher, context=context)
            )
        outage = self._health[by].after_episode()
        if outage is not None:
            raise outage
        return episode

    async def play_all(
        self,
        tasks: Iterable[Task],
        text: str = "",
        *,
        arm: str,
        instead: bool = False,
        context: Context | None = None,
    ) -> list[Trajectory]:
        episodes: list[Trajectory] = []
        for number, task in enumerate(tasks, start=1):
            episodes.append(await self.play(task, text, arm=arm, instead=instead, context=context))
            progress(arm, number, episodes)
        return episodes

    async def ask(self, prompt: str, bill: list[Call], *, purpose: Purpose, max_tokens: int) -> str | None:
        """The teacher's words; what it cost goes onto ``bill``, also where it fails.

        None: it did not answer this once. Raises the ``ModelError`` of a teacher that never answers, whose key is
        refused, or that failed three times in a row.
        """
        request = Request(
            messages=(Message(role="user", content=prompt),),
            max_tokens=max_tokens,
            purpose=purpose,
            seed=self.options.seed,
        )
        failed: ModelError | None = None
        try:
            completion = await self.teacher.sample(request)
            calls, said = completion.calls, completion.replies[0].text
        except ModelError as error:
            calls, said, failed = error.calls, None, error
        bill.extend(msgspec.structs.replace(call, answerer=Answerer.TEACHER) for call in calls)
        self._asked.saw(failed)
        outage = self._asked.after_episode()
        if outage is not None:
            raise outage
        if failed is not None:
            print(f"teacher: {failed}", file=sys.stderr)
        return said

    @property
    def teacher(self) -> Model:
        return self._teacher or self._student

    def tasks(self, split: str | None, n: int, *, without: Sequence[Task] = ()) -> list[Task]:
        """``n`` tasks of a split, drawn by the seed; those that another part of the recipe has are left out."""
        if n == 0:
            return []
        known = {task.id for task in without}
        source = open_source(self.options.env, **world_options(self.options))
        splits = source.splits()
        name = split or ("test" if "test" in splits else splits[-1])
        return choose_tasks([task for task in source.tasks(name) if task.id not in known], n, self.options.seed)

    def row(self, played: Played) -> dict[str, Any]:
        """An arm in numbers."""
        episodes, n = played.episodes, len(played.episodes)
        done = sum(episode.succeeded for episode in episodes)
        low, high = wilson(done, n) or (None, None)
        scores = [(e.outcome.score if e.outcome else None) or float(e.succeeded) for e in episodes]
        calls = [calls_of(episode) for episode in episodes]
        costs = [self.cost_usd(one) for one in calls]
        spent = None if None in costs else sum(cost for cost in costs if cost is not None)
        usage = [call.usage for one in calls for call in one if call.usage is not None]
        return {
            "arm": played.arm,
            "n": n,
            "errors": sum(episode.error is not None for episode in episodes),
            "successes": done,
            "success": done / n if n else None,
            "low": low,
            "high": high,
            "score": sum(scores) / n if n else None,
            "learn_usd": self.cost_usd(played.learning),
            "learn_calls": len(played.learning),
            "episode_usd": spent / n if n and spent is not None else None,
            "input_tokens": sum(one.input_tokens for one in usage) / n if n and usage else None,
            "output_tokens": sum(one.output_tokens for one in usage) / n if n and usage else None,
            "text_tokens": count(played.text),
            **(played.more or {}),
        }

    def cost_usd(self, calls: list[Call]) -> float | None:
        """Dollars; None where a model has no price or an endpoint told no tokens."""
        student, teacher = self.options.price_student_as, self.options.price_teacher_as
        pricing = Pricing(student_as=student, teacher_as=teacher or (student if self._alone else None))
        try:
            costs = [row.total_usd for row in ledger(calls, self._prices, cache="simulated", pricing=pricing)]
        except UnknownPrice:
            return None
        return None if None in costs else sum(cost for cost in costs if cost is not None)


class Purse(NamedTuple):
    """A model that is asked no more once ``--max-cost`` is spent. What is in flight then is still paid.

    Each call is priced alone, without what a simulated cache would save, so the limit is kept and not quite reached.
    """

    model: Model
    answerer: Answerer
    arena: Arena

    @property
    def name(self) -> str:
        return self.model.name

    @property
    def capabilities(self) -> Capabilities:
        return self.model.capabilities

    async def sample(self, request: Request, n: int = 1) -> Completion:
        limit, spent = self.arena.options.max_cost, self.arena.spent_usd
        if spent >= limit:
            raise BudgetReached(f"Spent ${spent:.4f}, the limit of --max-cost {limit} is reached. Give a higher one.")
        completion = await self.model.sample(request, n)
        calls = [msgspec.structs.replace(call, answerer=self.answerer) for call in completion.calls]
        cost = self.arena.cost_usd(calls)
        if cost is None:
            raise UnknownPrice(
                f"--max-cost {limit} cannot be kept: '{self.name}' has no price, or tells no tokens. "
                f"Type for example: --price-{self.answerer.value}-as gpt-5-nano"
            )
        self.arena.spent_usd += cost
        return completion

    async def aclose(self) -> None:
        await self.model.aclose()


@contextlib.asynccontextmanager
async def opened(
    options: argparse.Namespace, *, student: Model | None = None, teacher: Model | None = None
) -> AsyncIterator[Arena]:
    """The arena that the options name; models that are handed in are used as they are and not closed."""
    async with contextlib.AsyncExitStack() as stack:
        pool = await stack.enter_async_context(WorkerPool(factory(options.env, **world_options(options)), 1))
        if student is None:
            student = opened_model(options.student, options.price_student_as)
            stack.push_async_callback(student.aclose)
        if teacher is None and options.teacher not in (None, options.student):
            teacher = opened_model(options.teacher, options.price_teacher_as)
            stack.push_async_callback(teacher.aclose)
        arena = Arena(options, pool, student, teacher)
        if options.max_cost is not None:
            arena.limit()
        yield arena


def opened_model(spec: str | None, priced_as: str | None) -> Model:
    if spec is None:
        raise ConfigError("No student was named. Type for example: --student local:smollm2-135m")
    return ExpertModel(EstimateCounter(), priced_as=priced_as) if spec == "expert" else open_model(spec)


def needs_words(options: argparse.Namespace) -> None:
    """Refuse a teacher that cannot write. Raises ``ConfigError``."""
    if (options.teacher or options.student) == "expert":
        raise ConfigError(
            "An environment's expert acts and writes nothing, and this recipe's teacher writes. "
            "Type for example: --teacher local:smollm2-135m"
        )


def query(task: Task) -> ContextQuery:
    """What a context is asked at the beginning of a task."""
    return ContextQuery(task=task, goal=task.goal)


def calls_of(episode: Trajectory) -> list[Call]:
    return [call for step in episode.steps for call in step.calls]


def account(episode: Trajectory, *, characters: int = 6000) -> str:
    """An episode as text for a teacher: what was seen and done, stored words kept from forging anything."""
    lines = [f"task: {neutral(episode.goal or episode.task.goal)}"]
    for step in episode.steps:
        said = "\n".join([*(result.text for result in step.observation.tool_results), step.observation.text])
        lines += [f"seen: {neutral(said)}", f"done: {neutral(action_text(step.action)) or '(nothing)'}"]
    if episode.error is not None:
        lines.append(f"broken off: {neutral(episode.error.message)}")
    text = "\n".join(lines)
    return text if len(text) <= characters else f"{text[: characters // 2]}\n[...]\n{text[-characters // 2 :]}"


def outcome_words(episode: Trajectory) -> str:
    """How it ended, as the environment says."""
    if episode.outcome is None:
        return "It broke off."
    said = {True: "It succeeded.", False: "It failed.", None: "Nobody knows whether it succeeded."}
    return " ".join(part for part in (said[episode.outcome.success], neutral(episode.outcome.detail)) if part)


# --- options and printing -------------------------------------------------------------------------------------------


def parser(doc: str | None) -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--env", default="finance", help="environment [finance]")
    made.add_argument("--tasks", help="folder or file with the tasks, where they are files")
    made.add_argument(
        "--option", action="append", default=[], metavar="KEY=VALUE", help="of the environment; repeatable"
    )
    made.add_argument("--learn-split", default="train", help="split that is learnt from [train]")
    made.add_argument("--learn", type=int, default=20, help="tasks that are learnt from [20]")
    made.add_argument("--split", help="split that is compared on [test, else the last]")
    made.add_argument("--n", type=int, default=20, help="tasks that are compared on [20]")
    made.add_argument("--student", help="model that acts, such as local:smollm2-135m, openai:gpt-4.1-mini or expert")
    made.add_argument("--teacher", help="model that teaches [the student]")
    made.add_argument("--price-student-as", metavar="MODEL")
    made.add_argument("--price-teacher-as", metavar="MODEL")
    made.add_argument("--max-steps", type=int, help="of an episode [the environment's own]")
    made.add_argument("--max-tokens", type=int, default=128, help="of an action [128]")
    made.add_argument("--temperature", type=float, default=0.0, help="of the student [0]")
    made.add_argument("--seed", type=int, default=0)
    made.add_argument("--max-cost", type=float, metavar="DOLLARS", help="ask no model any more once so much is spent")
    made.add_argument("--json", action="store_true", help="print JSON")
    return made


def world_options(options: argparse.Namespace) -> dict[str, Any]:
    """``--option`` pairs and the folder, as the environment takes them."""
    found: dict[str, Any] = {}
    for pair in options.option:
        key, equals, value = pair.partition("=")
        if not equals:
            raise ConfigError(f"'{pair}' is no KEY=VALUE. Type for example: --option dataset=finer")
        try:
            found[key] = json.loads(value)
        except ValueError:
            found[key] = value
    return found | ({"directory": options.tasks} if options.tasks else {})


def show(rows: list[dict[str, Any]], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(rows, indent=1))
        return
    print(*COLUMNS, sep="\t")
    for row in rows:
        print(*(cell(row[name]) for name in COLUMNS), sep="\t")


def cell(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def progress(arm: str, number: int, episodes: Sequence[Trajectory]) -> None:
    done = sum(episode.succeeded for episode in episodes)
    print(f"\r{arm}: {number} played, {done} succeeded", end="", file=sys.stderr, flush=True)
    if sys.stderr.isatty() is False:
        print(file=sys.stderr)


def main(run: Any, options: argparse.Namespace) -> int:
    """Run a recipe's coroutine function, print its rows, and turn what was typed wrongly into a sentence."""
    try:
        show(asyncio.run(run(options)), as_json=options.json)
    except PotstillError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    return 0
