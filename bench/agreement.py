"""Does a shown demonstration help a small model? Per-step agreement with the teacher on recorded teacher states.

For each recorded state of a held-out game the student picks one admissible action, after exactly the prompt that the
episode loop would build; it agrees if it picks what the teacher did. Cells differ in what is shown. The control copies
the nearest demonstration's action without any language model. Intervals and paired differences cluster by game.

    potstill distill context --env alfworld --tasks DIR --split train --n 330 --seed 1 --teacher expert --db alf.db
    potstill distill context --env alfworld --tasks DIR --split valid_seen --teacher expert --db alf.db
    python bench/agreement.py --db alf.db --model torch:smollm2-135m --split valid_seen --games 100 --per-game 3

Every answer goes to ``bench/.work/`` as it comes, so an interrupted bench goes on where it stopped.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import math
import random
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import _results
from potstill.distill.context.config import ContextConfig, Mode, Style
from potstill.distill.context.context import RandomDemonstrations, RetrievedDemonstrations
from potstill.distill.context.control import CopyNearest
from potstill.distill.context.library import DemonstrationLibrary, build_library
from potstill.envs.registry import describe
from potstill.measure.statistics import paired_difference, wilson_by_task
from potstill.models.registry import open_model
from potstill.protocols import ContextBlock, ContextQuery, Model
from potstill.run.arms import Agent, ContextKind, Placement, digest
from potstill.run.prompt import Turn, View
from potstill.run.sides import Side
from potstill.trajectories import Store
from potstill.types import Answerer, Struct, Trajectory, TrajectoryKind

WORK = _results.ROOT / "bench" / ".work"


class Cell(Struct, frozen=True, kw_only=True):
    """One configuration. ``kind`` None: the control without a language model."""

    name: str
    kind: ContextKind | None
    context: ContextConfig = ContextConfig()
    agent: Agent = Agent(list_admissible=False)


class State(NamedTuple):
    trajectory: Trajectory
    index: int


def cells(names: Sequence[str], agent: Agent, style: Style) -> list[Cell]:
    """Cells by name: ``zero-shot``, ``copy-nearest``, ``random`` or ``retrieved``, the latter with ``:k=3+w=1``."""
    return [_cell(name, agent, style) for name in names]


def _cell(name: str, agent: Agent, style: Style) -> Cell:
    base, _, given = name.partition(":")
    options = dict(pair.split("=") for pair in given.split("+") if pair)
    context = ContextConfig(
        k=int(options.get("k", 3)),
        window=int(options.get("w", 1)),
        mode=Mode(options.get("mode", "per-step")),
        style=Style(options.get("style", style.value)),
    )
    kinds = {"zero-shot": ContextKind.NONE, "random": ContextKind.RANDOM, "retrieved": ContextKind.RETRIEVED}
    kind = None if base == "copy-nearest" else kinds[base]
    return Cell(name=name, kind=kind, context=context, agent=agent)


def states(trajectories: Sequence[Trajectory], games: int, per_game: int, seed: int) -> list[State]:
    """States drawn without replacement, the same for every cell; games whose teacher failed are left out."""
    rng = random.Random(seed)
    chosen = rng.sample(list(trajectories), min(games, len(trajectories)))
    return [
        State(trajectory, index)
        for trajectory in chosen
        for index in sorted(rng.sample(range(len(trajectory.steps)), min(per_game, len(trajectory.steps))))
    ]


# --- one answer -----------------------------------------------------------------------------------------------------


async def answer(
    cell: Cell, state: State, model: Model, library: DemonstrationLibrary, instructions: str, seed: int
) -> dict[str, Any]:
    """The student's choice in one state, and what it cost to make."""
    started = time.perf_counter()
    step = state.trajectory.steps[state.index]
    query = _query(state)
    if cell.kind is None:
        action, _ = await CopyNearest(library).act(query, step.observation.admissible or ())
        return {"action": action.text, "s": time.perf_counter() - started}
    view = View(
        agent=cell.agent,
        instructions=instructions,
        goal=state.trajectory.goal,
        turns=tuple(Turn(observation=s.observation, action=s.action) for s in state.trajectory.steps[: state.index]),
        observation=step.observation,
        **await _shown(cell, state, query, library, seed),
    )
    side = Side(model, Answerer.STUDENT, cell.agent, seed=seed)
    (reply,) = await side.act(view, 1, 0.0, likelihood=True)
    usage = [call.usage for call in side.take_calls() if call.usage is not None]
    return {
        "action": reply.text.strip(),
        "candidates": [[text, round(logprob, 3)] for text, logprob in reply.candidates],
        "input_tokens": sum(one.input_tokens for one in usage),
        "s": time.perf_counter() - started,
    }


async def _shown(
    cell: Cell, state: State, query: ContextQuery, library: DemonstrationLibrary, seed: int
) -> dict[str, str]:
    context: Any
    if cell.kind is ContextKind.NONE:
        return {}
    if cell.kind is ContextKind.RANDOM:
        context = RandomDemonstrations(library, cell.context, seed)
    else:
        context = RetrievedDemonstrations(library, cell.context)
    first = _query(State(state.trajectory, 0))
    blocks: tuple[ContextBlock, ContextBlock] = (await context.for_task(first), await context.for_step(query))
    return {"task_context": blocks[0].text, "step_context": blocks[1].text}


def _query(state: State) -> ContextQuery:
    trajectory, index = state
    return ContextQuery(
        task=trajectory.task,
        goal=trajectory.goal,
        observation=trajectory.steps[index].observation.text,
        step_index=index,
        history=tuple(step.action.text for step in trajectory.steps[:index]),
        namespace=trajectory.namespace,
    )


# --- all answers, kept as they come ---------------------------------------------------------------------------------


class Kept:
    """Answers by state, in a file of lines; what is there is not asked again."""

    def __init__(self, key: str) -> None:
        WORK.mkdir(parents=True, exist_ok=True)
        self._path = WORK / f"agreement-{key}.jsonl"
        lines = self._path.read_text().splitlines() if self._path.exists() else []
        self.answers: dict[str, dict[str, Any]] = {row["state"]: row for row in map(_row, lines) if row}

    def add(self, state: str, row: dict[str, Any]) -> None:
        self.answers[state] = {"state": state, **row}
        with self._path.open("a") as file:
            file.write(json.dumps(self.answers[state]) + "\n")


def _row(line: str) -> dict[str, Any]:
    """A line cut off by an interruption is asked again."""
    try:
        return dict(json.loads(line))
    except ValueError:
        return {}


def state_name(state: State) -> str:
    return f"{state.trajectory.task.id}#{state.index}"


async def run_cell(
    cell: Cell, chosen: Sequence[State], model: Model, library: DemonstrationLibrary, about: str, key: str, seed: int
) -> dict[str, dict[str, Any]]:
    kept = Kept(hashlib.sha256(f"{key}{digest(cell)}{seed}".encode()).hexdigest()[:16])
    for number, state in enumerate(chosen):
        if state_name(state) not in kept.answers:
            kept.add(state_name(state), await answer(cell, state, model, library, about, seed))
        if number % 20 == 19:
            right = sum(agrees(kept.answers[state_name(s)], s) for s in chosen[: number + 1])
            print(f"{cell.name}: {right}/{number + 1}", file=sys.stderr, flush=True)
    return {state_name(state): kept.answers[state_name(state)] for state in chosen}


def agrees(row: dict[str, Any], state: State) -> bool:
    return bool(row["action"] == state.trajectory.steps[state.index].action.text)


# --- figures --------------------------------------------------------------------------------------------------------


def figures(cell: Cell, chosen: Sequence[State], answers: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Agreement with its interval, and how well the student's confidence tells right from wrong."""
    right = [agrees(answers[state_name(state)], state) for state in chosen]
    rows = [answers[state_name(state)] for state in chosen]
    by_game: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for state, good in zip(chosen, right, strict=True):
        by_game[state.trajectory.task.id][0] += good
        by_game[state.trajectory.task.id][1] += 1
    confidences = [confidence(row) for row in rows]
    tokens = [row["input_tokens"] for row in rows if "input_tokens" in row]
    return {
        "cell": cell.name,
        "n": len(right),
        "games": len(by_game),
        "agreement": sum(right) / len(right),
        "agreement_ci": wilson_by_task([g[0] for g in by_game.values()], [g[1] for g in by_game.values()]),
        "confidence_auroc": auroc(confidences, right),
        "agreement_confident_half": confident_half(confidences, right),
        "input_tokens_mean": sum(tokens) / len(tokens) if tokens else None,
        "seconds_mean": sum(row["s"] for row in rows) / len(rows),
    }


def confidence(row: dict[str, Any]) -> float | None:
    """Probability of the chosen action among the admissible ones."""
    logprobs = [logprob for _, logprob in row.get("candidates", ())]
    return 1.0 / math.fsum(math.exp(x - max(logprobs)) for x in logprobs) if logprobs else None


def auroc(confidences: Sequence[float | None], right: Sequence[bool]) -> float | None:
    """Chance that a right answer was more confident than a wrong one (ties count half)."""
    good = [c for c, ok in zip(confidences, right, strict=True) if ok and c is not None]
    bad = [c for c, ok in zip(confidences, right, strict=True) if not ok and c is not None]
    if not good or not bad:
        return None
    return sum((g > b) + 0.5 * (g == b) for g in good for b in bad) / (len(good) * len(bad))


def confident_half(confidences: Sequence[float | None], right: Sequence[bool]) -> float | None:
    pairs = sorted(((c, ok) for c, ok in zip(confidences, right, strict=True) if c is not None), reverse=True)
    half = pairs[: len(pairs) // 2]
    return sum(ok for _, ok in half) / len(half) if half else None


def differences(chosen: Sequence[State], results: dict[str, dict[str, dict[str, Any]]]) -> Iterator[dict[str, Any]]:
    """Every cell against the first of each other kind, paired by state, clustered by game."""
    values = {
        name: {(s.trajectory.task.id, s.index): float(agrees(rows[state_name(s)], s)) for s in chosen}
        for name, rows in results.items()
    }
    for of in results:
        for against in results:
            if of.startswith("retrieved") and not against.startswith("retrieved"):
                paired = paired_difference(values[of], values[against])
                if paired is not None:
                    yield {
                        "of": of,
                        "against": against,
                        "difference": paired.difference,
                        "difference_ci": paired.difference_ci,
                    }


async def main() -> None:
    options = parsed()
    with Store.open(options.db, create=False) as store:
        taught = list(store.select(kind=TrajectoryKind.TEACHER, split="train", success=True))
        tested = list(store.select(kind=TrajectoryKind.TEACHER, split=options.split, success=True))
    library = build_library(taught, ContextConfig())
    chosen = states(tested, options.games, options.per_game, options.seed)
    about = describe(tested[0].task.environment).instructions
    model = open_model(options.model, template=options.template)
    results: dict[str, dict[str, dict[str, Any]]] = {}
    rows = []
    key = f"{options.model}{options.template}{about}{len(library)}{layout()}"
    agent = Agent(list_admissible=False, history_turns=options.history, placement=Placement(options.placement))
    for cell in cells(options.cell.split(","), agent, Style(options.style)):
        results[cell.name] = await run_cell(cell, chosen, model, library, about, key, options.seed)
        rows.append(figures(cell, chosen, results[cell.name]))
        print(rows[-1], file=sys.stderr, flush=True)
    await model.aclose()
    extra = {
        "model": options.model,
        "template": options.template,
        "history_turns": options.history,
        "placement": options.placement,
        "split": options.split,
        "demonstration_games": len(library),
        "differences": list(differences(chosen, results)),
    }
    _results.write(options.name, rows, n=len(chosen), seeds=[options.seed], extra=extra)


def layout() -> str:
    """Changes with the code that writes prompts, so that answers to old prompts are not mixed with new ones."""
    parts = [_results.ROOT / "src/potstill" / name for name in ("run/prompt.py", "distill/context/render.py")]
    return hashlib.sha256(b"".join(path.read_bytes() for path in parts)).hexdigest()


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--db", type=Path, required=True)
    parser.add_argument("--name", default="agreement")
    parser.add_argument("--model", default="torch:smollm2-135m")
    parser.add_argument("--template", default="plain")
    parser.add_argument("--split", default="valid_seen")
    parser.add_argument("--games", type=int, default=100)
    parser.add_argument("--per-game", type=int, default=3)
    parser.add_argument("--history", type=int, default=6)
    parser.add_argument("--style", default="transcript")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--placement", default="first")
    parser.add_argument("--cell", default="copy-nearest,zero-shot,random,retrieved")
    return parser.parse_args()


if __name__ == "__main__":
    asyncio.run(main())
