"""A small ranker distilled from ALFWorld's expert: success on games that it never saw, by seed.

    python bench/weights_alfworld.py DIR [--seeds 3] [--n 60] [--widths 64] [--steps 2130] [--thresholds 0.5]

DIR holds ALFWorld's ``train`` and ``valid_seen``. Everything is done by the commands that a user types: 330 train games
are recorded with the hand-coded expert (once; kept in ``bench/.work``), its successful episodes are learnt from
(``distill weights``), and every student plays the same valid_seen games greedily within 50 steps (``run``).

Recipes are compared at equal labels and equal gradient steps: every student learns from the same decisions of the same
train tasks for ``--steps`` steps. Which of its weights are kept is decided on train tasks that are held out; valid_seen
is only played. Each student plays alone, and in a cascade in which the expert takes the steps where the likelihood of
the student's best action is below a threshold; the threshold is given, not fitted. The ranker chooses among the
admissible commands that the game lists: a student that writes commands freely has the harder task. Recording is
resumed, trained policies are taken again unless their options changed.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import _results
from potstill.measure.statistics import paired_difference, wilson, wilson_by_task
from potstill.trajectories import Store
from potstill.types import Answerer, Trajectory

WORK = _results.ROOT / "bench" / ".work"
MAX_STEPS = 50
GAMES_SEED = 5


def main() -> None:
    options = parsed()
    options.db.parent.mkdir(parents=True, exist_ok=True)
    record_expert(options)
    rows: list[dict[str, Any]] = []
    differences: list[dict[str, Any]] = []
    expert = play_expert(options)
    for width in options.widths:
        played: dict[str, list[Trajectory]] = {}
        for seed in range(options.seeds):
            made = distil(options, width, seed)
            run = f"ranker-w{width}-s{seed}-{options.steps}"
            for recipe, (suffix, words) in arms(options).items():
                episodes = play(options, made["file"], run + suffix, words)
                played.setdefault(recipe, []).extend(episodes)
                rows.append({"recipe": recipe, "width": width, "seed": seed, **taught(made), **success(episodes)})
                write(options, rows)
        if options.seeds > 1:
            rows += [
                {"recipe": recipe, "width": width, "seed": None, **success(all_)} for recipe, all_ in played.items()
            ]
        differences += [against(f"{recipe}, width {width}", all_, expert) for recipe, all_ in played.items()]
    rows.append({"recipe": "the expert itself", "width": None, "seed": None, **success(expert)})
    write(options, rows, differences)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("games", type=Path, help="folder with ALFWorld's train/ and valid_seen/")
    parser.add_argument("--seeds", type=int, default=3, help="students of each recipe")
    parser.add_argument("--n", type=int, default=60, help="valid_seen games")
    parser.add_argument("--widths", type=int, nargs="+", default=[64])
    parser.add_argument("--steps", type=int, default=2130, help="gradient steps of every student")
    parser.add_argument("--thresholds", type=float, nargs="*", default=[0.5], help="of the cascades with the expert")
    parser.add_argument("--db", type=Path, default=WORK / "weights_alfworld.db")
    parser.add_argument("--demos", default="demos", help="run with the expert's train episodes; recorded if absent")
    return parser.parse_args()


def potstill(*words: object) -> dict[str, Any]:
    """A command of ours with ``--json``; progress goes to stderr as always."""
    command = [sys.executable, "-m", "potstill", *map(str, words), "--json"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def world(options: argparse.Namespace, split: str, n: int, seed: int) -> tuple[object, ...]:
    return ("--env", "alfworld", "--tasks", options.games, "--split", split, "--n", n, "--seed", seed)


def record_expert(options: argparse.Namespace) -> None:
    if options.demos not in runs(options.db):
        words = world(options, "train", 330, 1)
        potstill("distill", "context", *words, "--teacher", "expert", "--run", options.demos, "--db", options.db)


def runs(db: Path) -> set[str]:
    if not db.exists():
        return set()
    with Store.read(db) as store:
        return {run.run_id for run in store.runs(namespace="default")}


def distil(options: argparse.Namespace, width: int, seed: int) -> dict[str, Any]:
    """What ``distill weights`` says of a student, taken again where it was trained with the same options before."""
    out = options.db.parent / f"ranker-w{width}-s{seed}-{options.steps}.policy"
    told = out.with_suffix(".json")
    if not (out.exists() and told.exists()):
        made = potstill(
            *("distill", "weights", "--db", options.db, "--run", options.demos, "--out", out, "--width", width),
            *("--seed", seed, "--steps", options.steps, "--patience", 0),
        )
        told.write_text(json.dumps(made))
    result: dict[str, Any] = json.loads(told.read_text())
    return result


def arms(options: argparse.Namespace) -> dict[str, tuple[str, tuple[object, ...]]]:
    """Of each recipe, what it adds to a run's name and to ``potstill run``."""
    alone = ("--arm", "zero-shot", "--alone-temperature", 0, "--max-steps", MAX_STEPS)
    cascade = ("--arm", "cascade", "--teacher", "expert", "--signal", "likelihood", "--max-steps", MAX_STEPS)
    told = {f"cascade at {t}": (f"-cascade-{t}", (*cascade, "--threshold", t)) for t in options.thresholds}
    return {"ranker": ("", alone), **told}


def play(options: argparse.Namespace, policy: str, run: str, words: Sequence[object]) -> list[Trajectory]:
    """The student on the test games; an episode that was recorded before is not played again."""
    name = f"{run}-n{options.n}"
    if name in runs(options.db):
        potstill("run", "--resume", name, "--db", options.db)
    else:
        games = world(options, "valid_seen", options.n, GAMES_SEED)
        potstill("run", *games, "--student", f"policy:{policy}", *words, "--run", name, "--db", options.db)
    return episodes_of(options.db, name)


def play_expert(options: argparse.Namespace) -> list[Trajectory]:
    name = f"expert-valid-seen-n{options.n}"
    if name in runs(options.db):
        potstill("run", "--resume", name, "--db", options.db)
    else:
        words = (*world(options, "valid_seen", options.n, GAMES_SEED), "--max-steps", MAX_STEPS)
        potstill("run", *words, "--teacher", "expert", "--arm", "teacher", "--run", name, "--db", options.db)
    return episodes_of(options.db, name)


def episodes_of(db: Path, run: str) -> list[Trajectory]:
    with Store.read(db) as store:
        return list(store.select(run_id=run))


def taught(made: dict[str, Any]) -> dict[str, Any]:
    kept = ("parameters", "size_bytes", "episodes", "decisions", "steps", "best_step", "agreement")
    return {**{name: made[name] for name in kept}, "training_cpu_s": made["cpu_s"]}


def success(episodes: Sequence[Trajectory]) -> dict[str, Any]:
    """Share of games won within the steps, its interval (clustered by game where several students played it)."""
    tasks: dict[str, list[bool]] = {}
    for episode in episodes:
        tasks.setdefault(episode.task.id, []).append(episode.succeeded)
    won, played = [sum(one) for one in tasks.values()], [len(one) for one in tasks.values()]
    interval = wilson(sum(won), sum(played)) if max(played) == 1 else wilson_by_task(won, played)
    kinds, wins = Counter(e.task.kind for e in episodes), Counter(e.task.kind for e in episodes if e.succeeded)
    calls = [call for e in episodes for step in e.steps for call in step.calls]
    asked = [call.cpu_s for call in calls if call.cpu_s is not None and call.answerer is Answerer.STUDENT]
    return {
        "games": len(tasks),
        "played": len(episodes),
        "won": sum(won),
        "success": sum(won) / len(episodes),
        "success_ci": None if interval is None else list(interval),
        "teacher_steps": share(episodes, Answerer.TEACHER),
        "steps_a_game": sum(len(e.steps) for e in episodes) / len(episodes),
        "cpu_ms_a_decision": 1e3 * sum(asked) / len(asked) if asked else None,
        "won_by_kind": {kind: f"{wins[kind]}/{kinds[kind]}" for kind in sorted(kinds)},
    }


def against(recipe: str, episodes: Sequence[Trajectory], expert: Sequence[Trajectory]) -> dict[str, Any]:
    """Success minus the expert's on the same games; the interval resamples games, on which all students played."""
    theirs = {episode.task.id: float(episode.succeeded) for episode in expert}
    ours: dict[tuple[str, int], float] = {}
    for episode in episodes:
        student = sum(task == episode.task.id for task, _ in ours)
        ours[episode.task.id, student] = float(episode.succeeded)
    found = paired_difference(ours, {key: theirs[key[0]] for key in ours})
    assert found is not None, "all played the same games"
    told = {"difference": found.difference, "difference_ci": found.difference_ci}
    return {"of": recipe, "against": "the expert itself", "in": "success", "n": found.n, **told}


def share(episodes: Sequence[Trajectory], answerer: Answerer) -> float:
    """Of all steps of all games."""
    steps = [step for episode in episodes for step in episode.steps]
    return sum(step.answerer is answerer for step in steps) / len(steps)


def write(
    options: argparse.Namespace, rows: Sequence[dict[str, Any]], differences: Sequence[dict[str, Any]] = ()
) -> None:
    extra = {
        "differences": list(differences),
        "max_steps": MAX_STEPS,
        "split": "valid_seen",
        "chooses_among": "the game's admissible commands",
        "written_at": time.strftime("%Y-%m-%d", time.gmtime()),
    }
    _results.write("weights_alfworld", rows, n=options.n, seeds=range(options.seeds), extra=extra)


if __name__ == "__main__":
    main()
