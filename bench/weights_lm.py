"""A language model before and after it was tuned on an expert's episodes, and after its file was made smaller.

    python bench/weights_lm.py --seeds 3 --steps 32 --exports q8_0 q4_0 int8
    python bench/weights_lm.py --env alfworld --games DIR --result weights_lm_alfworld

The expert's train episodes are recorded once. Each student of a seed learns from the same decisions for the same steps,
with and without demonstrations in its prompts (``--demos K`` adds the latter). ``--exports`` writes each student as
GGUF (f16, q8_0, q4_0) or for CTranslate2 (int8), whatever the gate would say: here it is measured what rounding does.
``--reasoning`` adds students that reason before they act: the expert says nothing, so they learn rationales, templated
in hindsight or sampled from the base (where no sample was right, templated).
All answer the expert's states of test tasks one by one: agreement, and how well their own likelihood tells right from
wrong (``--cells shown`` shows them demonstrations as well). Then they play test tasks alone, and the student as it was
tuned also in a cascade in which the expert takes the steps where that likelihood is low. What was recorded, trained or
asked before is taken again. The students choose among the actions that the environment lists.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from argparse import Namespace
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import _results
import _states
from _commands import potstill, runs
from agreement import figures
from potstill.measure.statistics import wilson, wilson_by_task
from potstill.trajectories import Store
from potstill.types import Answerer, Trajectory

WORK = _results.ROOT / "bench" / ".work"
TASKS_SEED = 5
EXPORTS: dict[str, tuple[str, tuple[str, ...]]] = {
    **{kind: (".gguf", ("--quantize", kind, "--gguf")) for kind in ("f16", "q8_0", "q4_0")},
    "int8": ("", ("--ctranslate2",)),
}
"""How a kind's file ends, and the options of ``export`` that stand before its name."""
CELLS = ("plain", "shown")


class World(NamedTuple):
    """Where students act, and how they are spoken to there."""

    test: str
    max_steps: int
    history: int | None
    """Past turns in prompts; None: all."""
    learn: tuple[object, ...] = ()
    """Further words of the command that tunes."""

    @property
    def turns(self) -> tuple[object, ...]:
        return () if self.history is None else ("--history", self.history)


WORLDS = {
    "house-rules": World("test", 12, 0),
    "alfworld": World("valid_seen", 50, None, ("--held-out", 0.03)),
}


class Student(NamedTuple):
    """Whom the bench asks. ``seed`` None: the base, which nobody tuned."""

    recipe: str
    seed: int | None
    spec: str
    made: dict[str, Any]
    """What the command said that made it."""

    @property
    def name(self) -> str:
        return self.recipe if self.seed is None else f"{self.recipe}, seed {self.seed}"

    @property
    def told(self) -> dict[str, Any]:
        kept = {name: self.made.get(name) for name in ("decisions", "steps", "parameters", "size_bytes", "reasoning")}
        return {"recipe": self.recipe, "seed": self.seed, "training_cpu_s": self.made.get("cpu_s"), **kept}

    @property
    def files(self) -> list[dict[str, Any]]:
        """Of an export: what it and the student that it came from take, as the command measured it."""
        return [{"recipe": self.recipe, "seed": self.seed, **row} for row in self.made.get("table", ())]


class Seen(NamedTuple):
    """What a student did of one kind: the tasks that its answers or episodes belong to, and which were right."""

    row: dict[str, Any]
    tasks: list[str]
    right: list[bool]


def main() -> None:
    options = parsed()
    WORK.mkdir(parents=True, exist_ok=True)
    record(options, "train", options.episodes, "demos")
    record(options, place(options).test, options.tasks, "expert-test")
    rows: list[dict[str, Any]] = []
    of: dict[tuple[str, str], list[Seen]] = {}
    files: list[dict[str, Any]] = []
    for student in students(options):
        files += student.files
        for seen in (*states(options, student), *episodes(options, student)):
            rows.append({**student.told, **seen.row})
            of.setdefault((student.recipe, seen.row["asked"]), []).append(seen)
            write(options, rows, [pooled(recipe, some) for (recipe, _), some in of.items()], files)


def students(options: Namespace) -> Iterator[Student]:
    """Each as soon as it is made."""
    yield Student("base", None, f"torch:{options.base}", {})
    for seed in range(options.seeds):
        for k in sorted({0, options.demos}):
            made = tune(options, seed, k)
            recipe = f"tuned with {shown(options, 'shown')[0]}" if k else "tuned"
            yield Student(recipe, seed, f"tuned:{made['folder']}", made)
            for kind in () if k or seed >= options.export_seeds else options.exports:
                small = exported(Path(made["folder"]), kind)
                told = {**{name: made[name] for name in ("decisions", "steps")}, **small}
                yield Student(f"{recipe}, {kind}", seed, f"tuned:{small['path']}", told)
        for source in options.reasoning:
            made = tune(options, seed, 0, source)
            yield Student(f"tuned with {source} reasoning", seed, f"tuned:{made['folder']}", made)


def parsed() -> Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--env", choices=WORLDS, default="house-rules")
    parser.add_argument("--games", type=Path, help="of alfworld: folder with train/ and valid_seen/")
    parser.add_argument("--base", default="smollm2-135m")
    parser.add_argument("--template", default="chat", help="of the base: chat, or plain where it knows no chats")
    parser.add_argument("--seeds", type=int, default=3, help="students of each recipe")
    parser.add_argument("--steps", type=int, default=32, help="gradient steps of every student")
    parser.add_argument("--batch", type=int, default=4, help="decisions of a step; of whole episodes, episodes")
    parser.add_argument("--whole-episodes", action="store_true", help="all past turns in prompts; alfworld: always")
    parser.add_argument("--demos", type=int, default=0, help="tune students also with so many in each prompt")
    parser.add_argument("--reasoning", nargs="*", choices=("templated", "sampled"), default=[], help="learnt, too")
    parser.add_argument("--samples", type=int, default=4, help="answers of the base to each decision")
    parser.add_argument("--asked", type=int, help="decisions that the base is asked about; the others are templated")
    parser.add_argument("--episodes", type=int, default=80, help="the expert's, to learn from")
    parser.add_argument("--tasks", type=int, default=30, help="test tasks whose states are asked")
    parser.add_argument("--cells", nargs="+", choices=CELLS, default=["plain"], help="what states are asked with")
    parser.add_argument("--n", type=int, default=12, help="test tasks that are played; 0: none")
    parser.add_argument("--play-base", action=argparse.BooleanOptionalAction, default=True, help="the base plays, too")
    parser.add_argument("--exports", nargs="*", choices=EXPORTS, default=[], help="files that students become")
    parser.add_argument("--export-seeds", type=int, default=1, help="students of each recipe that become files")
    parser.add_argument("--thresholds", type=float, nargs="+", default=[0.7], help="of the cascades")
    parser.add_argument("--result", default="weights_lm")
    parser.add_argument("--db", type=Path, help="the store, which students lie beside [default: the result's]")
    options = parser.parse_args()
    options.db = options.db or WORK / f"{options.result}.db"
    return options


def place(options: Namespace) -> World:
    """Where students act. Whole episodes are learnt in one pass where prompts show all past turns."""
    found = WORLDS[options.env]
    return found._replace(history=None) if options.whole_episodes else found


def world(options: Namespace, split: str, n: int) -> tuple[object, ...]:
    games = ("--tasks", options.games) if options.games else ()
    return ("--env", options.env, *games, "--split", split, "--n", n)


def record(options: Namespace, split: str, n: int, run: str) -> None:
    if run not in runs(options.db):
        words = ("--teacher", "expert", "--run", run, "--db", options.db)
        potstill("distill", "context", *world(options, split, n), *words)


def rationales(options: Namespace, source: str) -> list[Path]:
    """The files of rationales that a student of this recipe learns, the preferred first; made once."""
    templated, sampled = WORK / f"{options.db.stem}-templated.jsonl", WORK / f"{options.db.stem}-sampled.jsonl"
    words = ("distill", "rationales", "--db", options.db, "--run", "demos", "--resume")
    potstill(*words, "--from", "subgoals", "--out", templated)
    if source == "templated":
        return [templated]
    asked = ("--model", f"torch:{options.base}", "--model-option", "threads=1", "--samples", options.samples)
    limit = ("--limit", options.asked) if options.asked else ()
    potstill(*words, "--from", "sampled", *asked, *limit, "--history", 0, "--reasoning-tokens", 8, "--out", sampled)
    return [sampled, templated]


def tune(options: Namespace, seed: int, demonstrations: int, reasoning: str = "") -> dict[str, Any]:
    """What ``distill weights`` says of a student; one that is there is taken again."""
    kind = reasoning or (f"demos{demonstrations}" if demonstrations else "plain")
    out = options.db.with_name(f"{options.db.stem.removeprefix('weights_')}-{kind}-s{seed}-{options.steps}")
    told = out.with_suffix(".json")
    if not (out.exists() and told.exists()):
        how = place(options)
        words = ("--base", options.base, "--db", options.db, "--run", "demos", "--out", out, "--seed", seed)
        train = ("--steps", options.steps, "--batch", options.batch, "--learning-rate", 1e-3, "--patience", 0)
        turns = how.turns or ("--whole-episodes",)
        looks = ("--look-every", options.steps, "--demos", demonstrations, "--env", options.env, *turns, *how.learn)
        if reasoning:
            files = [word for path in rationales(options, reasoning) for word in ("--rationales", path)]
            looks = (*looks, "--reasoning", "with-action", *files)
        told.write_text(json.dumps(potstill("distill", "weights", "--student", "lm", *words, *train, *looks)))
    made: dict[str, Any] = json.loads(told.read_text())
    return {**made, "folder": str(out), "recipe_demonstrations": demonstrations}


def exported(folder: Path, kind: str) -> dict[str, Any]:
    """What ``export`` says of a student's file; one that is there is taken again."""
    suffix, words = EXPORTS[kind]
    out = folder.with_name(f"{folder.name}-{kind}{suffix}")
    told = folder.with_name(f"{folder.name}-{kind}.json")
    if not (out.exists() and told.exists()):
        whatever = ("--least-agreement", 0, "--most-kl", 100, "--questions", 12)
        told.write_text(json.dumps(potstill("export", folder, *words, out, *whatever)))
    made: dict[str, Any] = json.loads(told.read_text())
    return {**made, "path": str(out)}


def states(options: Namespace, student: Student) -> list[Seen]:
    """Agreement with the expert in its own states of test tasks, two a task."""
    how = place(options)
    every = how.max_steps if how.history is None else how.history
    words = ["--db", str(options.db), "--model", student.spec, "--template", options.template]
    words += ["--split", how.test, "--history", str(every), "--style", "full"]
    words += ["--games", str(options.tasks), "--per-game", "2"]
    bench = _states.Bench(_states.parser(None, options.result, "").parse_args(words))
    tasks = [state.trajectory.task.id for state in bench.states]

    async def ask() -> list[Seen]:
        found = []
        for name, text in (shown(options, cell) for cell in options.cells):
            cell = bench.cell(text)
            answers = await bench.answers(cell)
            row = figures(cell, bench.states, answers)
            right = [_states.agrees(*pair) for pair in zip(answers, bench.states, strict=True)]
            kept = ("n", "agreement", "agreement_ci", "confidence_auroc", "agreement_confident_half", "seconds_mean")
            found.append(Seen({"asked": f"states, {name}", **{key: row[key] for key in kept}}, tasks, right))
        await bench.aclose()
        return found

    return asyncio.run(ask())


def shown(options: Namespace, cell: str) -> tuple[str, str]:
    """How a cell of ``--cells`` is called, and which one it is of those that ``_states`` knows."""
    if cell == "plain":
        return "no demonstrations", "zero-shot"
    k = options.demos or 3
    return f"{k} demonstration{'s' if k > 1 else ''}", f"retrieved:k={k}+mode=per-task"


def episodes(options: Namespace, student: Student) -> Iterator[Seen]:
    """Test tasks played alone, with demonstrations where ``--demos`` has any, and, by what was tuned without, in a
    cascade with the expert."""
    if not options.n or (student.seed is None and not options.play_base):
        return
    arms: dict[str, tuple[object, ...]] = {}
    if not student.made.get("recipe_demonstrations"):
        arms["alone"] = ("--arm", "zero-shot", "--alone-temperature", 0)
    if options.demos:
        allowed = ("--student-option", "allow_demonstrations=true") if student.recipe == "tuned" else ()
        told = ("--arm", "context", "--k", options.demos, "--alone-temperature", 0)
        arms[f"with {shown(options, 'shown')[0]}"] = (*told, *allowed)
    if student.recipe == "tuned":
        cascade = ("--arm", "cascade", "--signal", "likelihood", "--teacher", "expert")
        arms |= {f"cascade at {least}": (*cascade, "--threshold", least) for least in options.thresholds}
    how = place(options)
    history = () if student.spec.startswith("tuned:") else how.turns
    for arm, words in arms.items():
        run = f"{student.name}-{arm}-{options.steps}-n{options.n}".replace(" ", "-").replace(",", "")
        if len(played(options.db, run)) < options.n:
            drawn = (*world(options, how.test, options.n), "--seed", TASKS_SEED, "--max-steps", how.max_steps)
            resumed = ("--resume", run, "--db", options.db)
            anew = (*drawn, "--student", student.spec, *history, *words, "--run", run)
            potstill("run", *(resumed if run in runs(options.db) else (*anew, "--db", options.db)))
        done = played(options.db, run)
        row = {"asked": f"episodes, {arm}", **success(done)}
        yield Seen(row, [one.task.id for one in done], [one.succeeded for one in done])


def pooled(recipe: str, seeds: Sequence[Seen]) -> dict[str, Any]:
    """One recipe over its seeds; the interval is clustered by task, since all seeds answer for the same ones."""
    right, asked = Counter[str](), Counter[str]()
    for seen in seeds:
        asked.update(seen.tasks)
        right.update(task for task, good in zip(seen.tasks, seen.right, strict=True) if good)
    interval = wilson_by_task([right[task] for task in asked], list(asked.values()))
    measure = "agreement" if "agreement" in seeds[0].row else "success"
    means = ("confidence_auroc", "teacher_steps", "cpu_s_a_decision", "seconds_mean")
    return {
        "recipe": recipe,
        "asked": seeds[0].row["asked"],
        "seeds": len(seeds),
        "n": asked.total(),
        measure: right.total() / asked.total(),
        f"{measure}_ci": interval,
        **{name: mean(seen.row[name] for seen in seeds) for name in means if name in seeds[0].row},
    }


def mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


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


def write(
    options: Namespace,
    rows: Sequence[dict[str, Any]],
    over_seeds: Sequence[dict[str, Any]],
    files: Sequence[dict[str, Any]],
) -> None:
    extra = {
        "over_seeds": list(over_seeds),
        "files": list(files),
        "environment": options.env,
        "base": options.base,
        "max_steps": place(options).max_steps,
        "chooses_among": "the actions that the environment lists",
        "written_at": time.strftime("%Y-%m-%d", time.gmtime()),
    }
    _results.write(options.result, rows, n=2 * options.tasks, seeds=range(options.seeds), extra=extra)


if __name__ == "__main__":
    main()
