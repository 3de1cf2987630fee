"""A language model before and after it was tuned on an expert's episodes: states, episodes, and a cascade.

    python bench/weights_lm.py --seeds 1 --steps 48

The expert's train episodes are recorded once. Each student of a seed learns from the same decisions for the same steps,
with and without demonstrations in its prompts (``--demos K`` adds the latter). All answer the expert's states of test
tasks one by one, without and with demonstrations: agreement, and how well their own likelihood tells right from wrong.
Then they play test tasks alone, and in a cascade in which the expert takes the steps where that likelihood is low. What
was recorded or trained before is taken again. The students choose among the actions that the environment lists.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import time
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import _results
import _states
from agreement import figures
from potstill.measure.statistics import wilson
from potstill.trajectories import Store
from potstill.types import Answerer, Trajectory

WORK = _results.ROOT / "bench" / ".work"
ENVIRONMENT = "house-rules"
MAX_STEPS = 12
TASKS_SEED = 5
PLAIN, SHOWN = "no demonstrations", "3 demonstrations"
CELLS = {"plain": (PLAIN, "zero-shot"), "shown": (SHOWN, "retrieved:k=3+mode=per-task")}


def main() -> None:
    options = parsed()
    WORK.mkdir(parents=True, exist_ok=True)
    record(options, "train", options.episodes, "demos")
    record(options, "test", options.tasks, "expert-test")
    students: dict[str, tuple[str, int | None, dict[str, Any]]] = {"before": (f"torch:{options.base}", None, {})}
    for seed in range(options.seeds):
        for k in sorted({0, options.demos}):
            made = tune(options, seed, k)
            name = f"tuned with {k} demonstrations" if k else "tuned"
            students[f"{name}, seed {seed}"] = (f"tuned:{made['folder']}", seed, made)
    rows: list[dict[str, Any]] = []
    for name, (spec, seed, made) in students.items():
        told = {name: made.get(name) for name in ("decisions", "steps", "parameters", "size_bytes")}
        told |= {"recipe": name.partition(",")[0], "seed": seed, "training_cpu_s": made.get("cpu_s")}
        rows += [{**told, **row} for row in states(options, spec)]
        write(options, rows)
        if options.n and not made.get("recipe_demonstrations"):
            rows += [{**told, **row} for row in episodes(options, name, spec)]
            write(options, rows)


def parsed() -> Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", default="smollm2-135m")
    parser.add_argument("--seeds", type=int, default=3, help="students of each recipe")
    parser.add_argument("--steps", type=int, default=48, help="gradient steps of every student")
    parser.add_argument("--batch", type=int, default=4, help="decisions of a step")
    parser.add_argument("--demos", type=int, default=0, help="also tune students with so many in each prompt")
    parser.add_argument("--episodes", type=int, default=80, help="the expert's, to learn from")
    parser.add_argument("--tasks", type=int, default=20, help="test tasks whose states are asked")
    parser.add_argument("--cells", nargs="+", choices=CELLS, default=list(CELLS), help="what states are asked with")
    parser.add_argument("--n", type=int, default=10, help="test tasks that are played; 0: none")
    parser.add_argument("--threshold", type=float, default=0.7, help="of the cascade")
    parser.add_argument("--db", type=Path, default=WORK / "weights_lm.db")
    return parser.parse_args()


def potstill(*words: object) -> Any:
    """A command of ours with ``--json``; progress goes to stderr as always."""
    command = [sys.executable, "-m", "potstill", *map(str, words), "--json"]
    return json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)


def record(options: Namespace, split: str, n: int, run: str) -> None:
    words = ("--env", ENVIRONMENT, "--split", split, "--n", n, "--teacher", "expert", "--run", run)
    if run not in runs(options.db):
        potstill("distill", "context", *words, "--db", options.db)


def runs(db: Path) -> set[str]:
    if not db.exists():
        return set()
    with Store.read(db) as store:
        return {run.run_id for run in store.runs(namespace="default")}


def tune(options: Namespace, seed: int, demonstrations: int) -> dict[str, Any]:
    """What ``distill weights`` says of a student; one that is there is taken again."""
    kind = f"demos{demonstrations}" if demonstrations else "plain"
    out = WORK / f"lm-{kind}-s{seed}-{options.steps}"
    told = out.with_suffix(".json")
    if not (out.exists() and told.exists()):
        words = ("--base", options.base, "--db", options.db, "--run", "demos", "--out", out, "--seed", seed)
        train = ("--steps", options.steps, "--batch", options.batch, "--learning-rate", 1e-3, "--patience", 0)
        looks = ("--history", 0, "--look-every", options.steps, "--demos", demonstrations)
        told.write_text(json.dumps(potstill("distill", "weights", "--student", "lm", *words, *train, *looks)))
    made: dict[str, Any] = json.loads(told.read_text())
    return {**made, "folder": str(out), "recipe_demonstrations": demonstrations}


def states(options: Namespace, spec: str) -> list[dict[str, Any]]:
    """Agreement with the expert in its own states of test tasks, two a task."""
    words = ["--db", str(options.db), "--model", spec, "--template", "chat", "--split", "test", "--style", "full"]
    words += ["--games", str(options.tasks), "--per-game", "2", "--history", "0"]
    bench = _states.Bench(_states.parser(None, "weights_lm", "").parse_args(words))

    async def ask() -> list[dict[str, Any]]:
        found = []
        for name, text in (CELLS[cell] for cell in options.cells):
            cell = bench.cell(text)
            row = figures(cell, bench.states, await bench.answers(cell))
            kept = ("n", "agreement", "agreement_ci", "confidence_auroc", "agreement_confident_half")
            found.append({"asked": f"states, {name}", **{key: row[key] for key in kept}})
        await bench.model.aclose()
        return found

    return asyncio.run(ask())


def episodes(options: Namespace, name: str, spec: str) -> list[dict[str, Any]]:
    """Test tasks played alone and, once it is tuned, in a cascade with the expert."""
    arms: dict[str, tuple[object, ...]] = {"alone": ("--arm", "zero-shot", "--alone-temperature", 0)}
    if spec.startswith("tuned:"):
        cascade = ("--arm", "cascade", "--signal", "likelihood", "--teacher", "expert")
        arms[f"cascade at {options.threshold}"] = (*cascade, "--threshold", options.threshold)
    history = () if spec.startswith("tuned:") else ("--history", 0)
    found = []
    for arm, words in arms.items():
        run = f"{name}-{arm}-{options.steps}-n{options.n}".replace(" ", "-").replace(",", "")
        if len(played(options.db, run)) < options.n:
            world = ("--env", ENVIRONMENT, "--split", "test", "--n", options.n, "--seed", TASKS_SEED)
            resumed = ("--resume", run, "--db", options.db)
            anew = (*world, "--max-steps", MAX_STEPS, "--student", spec, *history, *words, "--run", run)
            potstill("run", *(resumed if run in runs(options.db) else (*anew, "--db", options.db)))
        found.append({"asked": f"episodes, {arm}", **success(played(options.db, run))})
    return found


def played(db: Path, run: str) -> list[Trajectory]:
    with Store.read(db) as store:
        return list(store.select(run_id=run))


def success(found: Sequence[Trajectory]) -> dict[str, Any]:
    steps = [step for one in found for step in one.steps]
    calls = [call for step in steps for call in step.calls if call.answerer is Answerer.STUDENT]
    won = sum(one.succeeded for one in found)
    return {
        "n": len(found),
        "success": won / len(found),
        "success_ci": wilson(won, len(found)),
        "teacher_steps": sum(step.answerer is Answerer.TEACHER for step in steps) / len(steps),
        "cpu_s_a_decision": sum(call.cpu_s or 0.0 for call in calls) / len(calls) if calls else None,
    }


def write(options: Namespace, rows: Sequence[dict[str, Any]]) -> None:
    extra = {
        "environment": ENVIRONMENT,
        "base": options.base,
        "max_steps": MAX_STEPS,
        "chooses_among": "the actions that the environment lists",
        "written_at": time.strftime("%Y-%m-%d", time.gmtime()),
    }
    _results.write("weights_lm", rows, n=2 * options.tasks, seeds=range(options.seeds), extra=extra)


if __name__ == "__main__":
    main()
