"""Recorded teacher states that a student answers one by one: what ``agreement.py`` and ``sweep.py`` share.

For each state of a held-out episode the student picks one admissible action, after exactly the prompt that the episode
loop would build. Every answer goes to ``bench/.work/`` as it comes, so an interrupted bench goes on where it stopped.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import json
import math
import random
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import _results
from potstill.distill.context.config import ContextConfig, Mode, Style
from potstill.distill.context.context import NoContext, RandomDemonstrations, RetrievedDemonstrations
from potstill.distill.context.control import CopyNearest
from potstill.distill.context.library import DemonstrationLibrary, build_library
from potstill.envs.registry import describe
from potstill.measure.statistics import PairedDifference, paired_difference
from potstill.models.registry import open_model
from potstill.models.tuned_file import ALLOW, SCHEME, tuned_of
from potstill.protocols import Context, ContextQuery, Model, TokenCounter
from potstill.run.arms import Agent, ContextKind, Placement, Reasoning, digest
from potstill.run.prompt import Turn, View, act_messages
from potstill.run.sides import Side
from potstill.trajectories import Store
from potstill.types import Answerer, Message, Struct, Trajectory, TrajectoryKind

WORK = _results.ROOT / "bench" / ".work"
COPY = "copy-nearest"
"""The control without a language model."""
KINDS = {"zero-shot": ContextKind.NONE, "random": ContextKind.RANDOM, "retrieved": ContextKind.RETRIEVED}

Answer = dict[str, Any]
"""``action``; of a language model also ``candidates`` (action, log-probability; likeliest first), ``input_tokens``."""


class Cell(Struct, frozen=True, kw_only=True):
    """One configuration. ``kind`` None: the control without a language model."""

    name: str
    kind: ContextKind | None
    context: ContextConfig = ContextConfig()
    agent: Agent = Agent(list_admissible=False)


class State(NamedTuple):
    """A teacher's situation, and the seed that drew it."""

    trajectory: Trajectory
    index: int
    seed: int

    @property
    def name(self) -> str:
        return f"{self.trajectory.task.id}#{self.index}"

    @property
    def teachers(self) -> str:
        """What the teacher did."""
        return self.trajectory.steps[self.index].action.text

    @property
    def admissible(self) -> tuple[str, ...]:
        return self.trajectory.steps[self.index].observation.admissible or ()

    def query(self) -> ContextQuery:
        trajectory = self.trajectory
        return ContextQuery(
            task=trajectory.task,
            goal=trajectory.goal,
            observation=trajectory.steps[self.index].observation.text,
            step_index=self.index,
            history=tuple(step.action.text for step in trajectory.steps[: self.index]),
            namespace=trajectory.namespace,
        )


class Bench:
    """States of held-out episodes, the library of demonstrations, and one student."""

    def __init__(self, options: argparse.Namespace) -> None:
        with Store.read(options.db) as store:
            taught = list(store.select(kind=TrajectoryKind.TEACHER, split="train", success=True))
            tested = list(store.select(kind=TrajectoryKind.TEACHER, split=options.split, success=True))
        self.library = build_library(taught, ContextConfig())
        self.seeds = list(range(options.seed, options.seed + options.seeds))
        self.states = draw_states(tested, options.games, options.per_game, self.seeds)
        self.instructions = describe(tested[0].task.environment).instructions
        self._options = options
        self._control = CopyNearest(self.library)
        self._contexts: dict[str, Context] = {}
        self._prompts: dict[tuple[str, str], tuple[Message, ...]] = {}
        self._key = f"{options.model}{options.template}{self.instructions}{len(self.library)}{_layout()}"
        self._key += repr(tuned_of(options.model) or "")

    @functools.cached_property
    def model(self) -> Model:
        """The student, loaded when it is first asked: all of its answers may be there."""
        return open_model(self._options.model, **opening(self._options))

    @functools.cached_property
    def _counted(self) -> Callable[[str], int]:
        if not isinstance(self.model, TokenCounter):
            raise SystemExit(f"{self._options.model} cannot count tokens. Use a local model: torch:NAME or local:NAME")
        return functools.lru_cache(maxsize=None)(self.model.count)

    async def aclose(self) -> None:
        if "model" in vars(self):
            await self.model.aclose()

    def cell(self, name: str) -> Cell:
        """``zero-shot``, ``copy-nearest``, ``random`` or ``retrieved``, the latter two with options: ``:k=3+w=1``."""
        base, _, given = name.partition(":")
        chosen = dict(pair.split("=") for pair in given.split("+") if pair)
        context = ContextConfig(
            k=int(chosen.get("k", 3)),
            window=int(chosen.get("w", 1)),
            mode=Mode(chosen.get("mode", "per-step")),
            style=Style(chosen.get("style", self._options.style)),
        )
        tuned = tuned_of(self._options.model)
        agent = Agent(
            list_admissible=False,
            reasoning=Reasoning.NONE if tuned is None else Reasoning(tuned.voice.reasoning),
            history_turns=self._options.history,
            placement=Placement(chosen.get("placement", self._options.placement)),
        )
        return Cell(name=name, kind=None if base == COPY else KINDS[base], context=context, agent=agent)

    async def answers(self, cell: Cell) -> list[Answer]:
        """The cell's answer in every state, in order; what was answered before is not asked again."""
        kept = {seed: Kept(self._file(cell, seed)) for seed in self.seeds}
        found, right = [], 0
        for number, state in enumerate(self.states, start=1):
            answer = kept[state.seed].answers.get(state.name)
            if answer is None:
                answer = await self._answer(cell, state)
                kept[state.seed].add(state.name, answer)
            found.append(answer)
            right += agrees(answer, state)
            if number % 20 == 0:
                print(f"{cell.name}: {right}/{number}", file=sys.stderr, flush=True)
        return found

    async def prompt(self, cell: Cell, state: State) -> tuple[Message, ...]:
        """What the student reads in a state."""
        key = (cell.name, state.name)
        if key not in self._prompts:
            self._prompts[key] = act_messages(await self._view(cell, state))
        return self._prompts[key]

    def count(self, text: str) -> int:
        """Tokens of a text in the student's own vocabulary."""
        return self._counted(text)

    def _file(self, cell: Cell, seed: int) -> Path:
        name = hashlib.sha256(f"{self._key}{digest(cell)}{seed}".encode()).hexdigest()[:16]
        return WORK / f"agreement-{name}.jsonl"

    async def _answer(self, cell: Cell, state: State) -> Answer:
        started = time.perf_counter()
        if cell.kind is None:
            action, _ = await self._control.act(state.query(), state.admissible)
            return {"action": action.text, "s": time.perf_counter() - started}
        side = Side(self.model, Answerer.STUDENT, cell.agent, seed=state.seed)
        (reply,) = await side.act(await self._view(cell, state), 1, 0.0, likelihood=True)
        usage = [call.usage for call in side.take_calls() if call.usage is not None]
        return {
            "action": reply.text.strip(),
            "candidates": [[text, round(logprob, 3)] for text, logprob in reply.candidates],
            "input_tokens": sum(one.input_tokens for one in usage),
            "s": time.perf_counter() - started,
        }

    async def _view(self, cell: Cell, state: State) -> View:
        trajectory = state.trajectory
        context = self._context(cell, state.seed)
        task = await context.for_task(state._replace(index=0).query())
        step = await context.for_step(state.query())
        return View(
            agent=cell.agent,
            instructions=self.instructions,
            goal=trajectory.goal,
            turns=tuple(Turn(observation=s.observation, action=s.action) for s in trajectory.steps[: state.index]),
            observation=trajectory.steps[state.index].observation,
            task_context=task.text,
            step_context=step.text,
        )

    def _context(self, cell: Cell, seed: int) -> Context:
        key = f"{cell.name}/{seed}"
        if key not in self._contexts:
            self._contexts[key] = _context(cell, self.library, seed)
        return self._contexts[key]


def _context(cell: Cell, library: DemonstrationLibrary, seed: int) -> Context:
    if cell.kind is ContextKind.RANDOM:
        return RandomDemonstrations(library, cell.context, seed)
    return RetrievedDemonstrations(library, cell.context) if cell.kind is ContextKind.RETRIEVED else NoContext()


def opening(options: argparse.Namespace) -> dict[str, Any]:
    """How the student is opened. A tuned one has its own template, and is shown demonstrations to see what they do."""
    return {ALLOW: True} if options.model.startswith(SCHEME) else {"template": options.template}


def draw_states(trajectories: Sequence[Trajectory], games: int, per_game: int, seeds: Sequence[int]) -> list[State]:
    """For each seed, ``per_game`` states of each of ``games`` games; a state that an earlier seed drew is left out."""
    drawn: dict[tuple[str, int], State] = {}
    for seed in seeds:
        rng = random.Random(seed)
        for trajectory in rng.sample(list(trajectories), min(games, len(trajectories))):
            steps = range(len(trajectory.steps))
            for index in sorted(rng.sample(steps, min(per_game, len(steps)))):
                drawn.setdefault((trajectory.task.id, index), State(trajectory, index, seed))
    return list(drawn.values())


class Kept:
    """Answers by state, in a file of lines; what is there is not asked again."""

    def __init__(self, path: Path) -> None:
        WORK.mkdir(parents=True, exist_ok=True)
        self._path = path
        lines = path.read_text().splitlines() if path.exists() else []
        self.answers: dict[str, Answer] = {row["state"]: row for row in map(_row, lines) if row}

    def add(self, state: str, answer: Answer) -> None:
        self.answers[state] = {"state": state, **answer}
        with self._path.open("a") as file:
            file.write(json.dumps(self.answers[state]) + "\n")


def _row(line: str) -> Answer:
    """A line cut off by an interruption is asked again."""
    try:
        return dict(json.loads(line))
    except ValueError:
        return {}


def agrees(answer: Answer, state: State) -> bool:
    return bool(answer["action"] == state.teachers)


def probabilities(answer: Answer, temperature: float = 1.0) -> dict[str, float]:
    """Each admissible action's probability at a temperature above 0: the softmax of the log-probabilities."""
    best = max(logprob for _, logprob in answer["candidates"])
    weights = {action: math.exp((logprob - best) / temperature) for action, logprob in answer["candidates"]}
    total = math.fsum(weights.values())
    return {action: weight / total for action, weight in weights.items()}


def paired(states: Sequence[State], of: Sequence[float], against: Sequence[float]) -> PairedDifference | None:
    """The mean difference between two values of the same states, clustered by game."""
    keys = [(state.trajectory.task.id, state.index) for state in states]
    return paired_difference(dict(zip(keys, of, strict=True)), dict(zip(keys, against, strict=True)))


def _layout() -> str:
    """Changes with the code that writes prompts, so that answers to old prompts are not mixed with new ones."""
    parts = [_results.ROOT / "src/potstill" / name for name in ("run/prompt.py", "distill/context/render.py")]
    return hashlib.sha256(b"".join(path.read_bytes() for path in parts)).hexdigest()


def parser(about: str | None, name: str, cells: str) -> argparse.ArgumentParser:
    """The options that both benches have."""
    made = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--db", type=Path, required=True)
    made.add_argument("--name", default=name)
    made.add_argument("--model", default="torch:smollm2-135m")
    made.add_argument("--template", default="plain")
    made.add_argument("--split", default="valid_seen")
    made.add_argument("--games", type=int, default=70)
    made.add_argument("--per-game", type=int, default=2)
    made.add_argument("--history", type=int, default=6)
    made.add_argument("--style", default="transcript")
    made.add_argument("--seed", type=int, default=0)
    made.add_argument("--seeds", type=int, default=1)
    made.add_argument("--placement", default="first")
    made.add_argument("--cell", default=cells)
    return made
