"""A small ranker distilled from ALFWorld's expert, off-policy and on-policy, alone and in front of the expert.

    python bench/weights_alfworld.py DIR [--seeds 3] [--n 140] [--steps 2400] [--thresholds 0.1 0.2 0.3 0.4 0.5]

DIR holds ALFWorld's ``train`` and ``valid_seen``. Everything is done by the commands that a user types, and kept in
``bench/.work``: what is there is not made again. Both recipes begin with the expert's episodes on 900 train games
(run ``demos``) and learn from equally many further labels for equally many gradient steps:

- ``clone``: the expert's own episodes on 200 further games (run ``more``);
- ``dagger``: two rounds of the student's episodes, the expert asked where it is unsure (``distill weights --dagger``).

Which weights are kept is decided on train games that are held out. Students play valid_seen greedily within 50 steps,
alone; the on-policy one also in a cascade in which the expert takes the steps where the likelihood of the student's
best action is below a threshold. The threshold is chosen on train games that nobody learnt from, with the first seed's
student: the lowest at which the cascade is within one point of the expert. valid_seen is only played. The ranker
chooses among the admissible commands that the game lists: a student that writes commands freely has the harder task.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import _results
from _commands import potstill, runs
from potstill.distill.weights.data.decisions import labelled
from potstill.measure.statistics import paired_difference, wilson, wilson_by_task
from potstill.trajectories import Store
from potstill.trajectories.splits import split_of
from potstill.types import Answerer, Task, Trajectory

WORK = _results.ROOT / "bench" / ".work"
MAX_STEPS = 50
DEMOS, MORE = ("demos", 900, 1), ("more", 200, 2)
"""Runs of the expert on train games: name, games, seed."""
ROUNDS = 2
GAMES_SEED, TUNE_SEED = 5, 9
HELD_OUT = 0.1
MARGIN = 0.03
"""So much less success than the expert's would be inferior."""


def main() -> None:
    options = parsed()
    options.db.parent.mkdir(parents=True, exist_ok=True)
    for run in (DEMOS, MORE):
        record_expert(options, *run)
    expert = play_expert(options)
    rows: list[dict[str, Any]] = []
    played: dict[str, list[Trajectory]] = {}
    threshold: float | None = None
    tuned: list[dict[str, Any]] = []
    for seed in range(options.seeds):
        for recipe in ("clone", "dagger"):
            made = distil(options, recipe, seed)
            ways: dict[str, tuple[object, ...]] = {recipe: ALONE}
            if recipe == "dagger":
                threshold, tuned = (threshold, tuned) if tuned else tune(options, made["file"])
                ways |= {f"cascade at {one}": cascade(one) for one in dict.fromkeys((threshold, options.also))}
            for name, words in ways.items():
                episodes = play(options, made["file"], words, f"{student(options, recipe, seed)}-{name}")
                played.setdefault(name, []).extend(episodes)
                rows.append({"recipe": name, "seed": seed, **taught(made), **success(episodes)})
                write(options, rows, tuned)
    rows += [{"recipe": name, "seed": None, **success(all_)} for name, all_ in played.items()]
    rows.append({"recipe": "the expert itself", "seed": None, **success(expert)})
    write(options, rows, tuned, [*differences(played, expert), gain(played)])


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("games", type=Path, help="folder with ALFWorld's train/ and valid_seen/")
    parser.add_argument("--seeds", type=int, default=3, help="students of each recipe")
    parser.add_argument("--n", type=int, default=140, help="valid_seen games")
    parser.add_argument("--tune", type=int, default=160, help="train games, of which those not learnt from choose")
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--steps", type=int, default=2400, help="gradient steps of every student")
    parser.add_argument("--thresholds", type=float, nargs="+", default=[0.1, 0.2, 0.3, 0.4, 0.5], help="to choose from")
    parser.add_argument("--also", type=float, default=0.4, help="a threshold that is played beside the chosen one")
    parser.add_argument("--jobs", type=int, default=2, help="games at a time")
    parser.add_argument("--db", type=Path, default=WORK / "weights_alfworld.db")
    return parser.parse_args()


def world(options: argparse.Namespace, split: str, n: int, seed: int) -> tuple[object, ...]:
    return ("--env", "alfworld", "--tasks", options.games, "--split", split, "--n", n, "--seed", seed)


def record_expert(options: argparse.Namespace, run: str, games: int, seed: int) -> None:
    if run not in runs(options.db):
        words = (*world(options, "train", games, seed), "--jobs", options.jobs)
        potstill("distill", "context", *words, "--teacher", "expert", "--run", run, "--db", options.db)


# --- students -------------------------------------------------------------------------------------------------------


def student(options: argparse.Namespace, recipe: str, seed: int) -> str:
    return f"{recipe}-w{options.width}-s{seed}-{options.steps}"


def distil(options: argparse.Namespace, recipe: str, seed: int) -> dict[str, Any]:
    """What ``distill weights`` says of a student, taken again where it was trained with the same options before."""
    out = options.db.parent / f"{student(options, recipe, seed)}.policy"
    told = out.with_suffix(".json")
    if not (out.exists() and told.exists()):
        words = ("--db", options.db, "--env", "alfworld", "--out", out, "--held-out", HELD_OUT, "--patience", 0)
        size = ("--width", options.width, "--seed", seed, "--steps", options.steps)
        made = potstill("distill", "weights", *words, *size, *(asking(options, out) if recipe == "dagger" else ()))
        told.write_text(json.dumps(made))
    result: dict[str, Any] = json.loads(told.read_text())
    return result


def asking(options: argparse.Namespace, out: Path) -> tuple[object, ...]:
    """The on-policy recipe: as many labels as the off-policy one learns from in the further games."""
    run = f"{out.stem}-labels"
    begun = run in runs(options.db)
    words = ("--run", DEMOS[0], "--teacher", "expert", "--tasks", options.games, "--jobs", options.jobs)
    asked = ("--dagger", ROUNDS, "--labels", learnable(options, MORE[0]), "--label-run", run)
    return (*words, *asked, *(("--resume",) if begun else ()))


def learnable(options: argparse.Namespace, run: str) -> int:
    """Decisions that a student learns from in this run, those met twice counted twice."""
    fractions = {"train": 1 - HELD_OUT, "valid": HELD_OUT}
    found = labelled(trajectory for trajectory in episodes_of(options.db, run) if trajectory.succeeded)
    tasks = (Task(id=one.task_id, environment=one.environment) for one in found)
    return sum(split_of(task, fractions) == "train" for task in tasks)


# --- playing --------------------------------------------------------------------------------------------------------

ALONE = ("--arm", "zero-shot", "--alone-temperature", 0)


def cascade(threshold: float | None) -> tuple[object, ...]:
    return ("--arm", "cascade", "--teacher", "expert", "--signal", "likelihood", "--threshold", threshold)


def play(options: argparse.Namespace, policy: str, words: Sequence[object], run: str) -> list[Trajectory]:
    """The student on the test games; an episode that was recorded before is not played again."""
    name = f"{run}-n{options.n}".replace(" ", "-")
    games = world(options, "valid_seen", options.n, GAMES_SEED)
    return recorded(options.db, name, (*games, "--student", f"policy:{policy}", *words, "--jobs", options.jobs))


def play_expert(options: argparse.Namespace) -> list[Trajectory]:
    games = world(options, "valid_seen", options.n, GAMES_SEED)
    return recorded(options.db, f"expert-valid-seen-n{options.n}", (*games, *TEACHER, "--jobs", options.jobs))


TEACHER = ("--teacher", "expert", "--arm", "teacher")


def recorded(db: Path, name: str, words: Sequence[object]) -> list[Trajectory]:
    """A run's episodes, played if they are not there, and to the end if some are."""
    if name in runs(db):
        n = words[words.index("--n") + 1]
        if len(episodes := episodes_of(db, name)) == n:
            return episodes
        potstill("run", "--resume", name, "--db", db)
    else:
        potstill("run", *words, "--max-steps", MAX_STEPS, "--run", name, "--db", db)
    return episodes_of(db, name)


def tune(options: argparse.Namespace, policy: str) -> tuple[float, list[dict[str, Any]]]:
    """The lowest threshold at which the cascade is within a third of the margin of the expert, on train games that
    nobody learnt from.

    The highest where none is. Games are kept in a store of their own, where no student finds them.
    """
    db = options.db.with_name(f"{options.db.stem}_tune.db")
    games = (*world(options, "train", options.tune, TUNE_SEED), "--jobs", options.jobs)
    learnt = (DEMOS[0], MORE[0], f"{Path(policy).stem}-labels")
    known = {episode.task.id for run in learnt for episode in episodes_of(options.db, run)}
    fresh = [e for e in recorded(db, "expert", (*games, *TEACHER)) if e.task.id not in known]
    ids = {episode.task.id for episode in fresh}
    rows = [{"threshold": None, **success(fresh)}]
    for threshold in sorted(options.thresholds):
        words = (*games, "--student", f"policy:{policy}", *cascade(threshold))
        episodes = [e for e in recorded(db, f"{Path(policy).stem}-{threshold}", words) if e.task.id in ids]
        rows.append({"threshold": threshold, **success(episodes)})
        if rows[-1]["success"] >= rows[0]["success"] - MARGIN / 3:
            break
    return float(rows[-1]["threshold"]), rows


def episodes_of(db: Path, run: str) -> list[Trajectory]:
    with Store.read(db) as store:
        return list(store.select(run_id=run))


def taught(made: dict[str, Any]) -> dict[str, Any]:
    kept = ("parameters", "size_bytes", "episodes", "decisions", "steps", "best_step", "agreement")
    rounds, told = made.get("rounds") or (), (("labels_asked", "labels"), ("own_games", "episodes"))
    asked = {name: sum(one[what] for one in rounds) for name, what in told}
    return {**{name: made[name] for name in kept}, **asked, "training_cpu_s": made["cpu_s"]}


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


def differences(played: dict[str, list[Trajectory]], expert: Sequence[Trajectory]) -> list[dict[str, Any]]:
    theirs = {episode.task.id: float(episode.succeeded) for episode in expert}
    rows = []
    for name, episodes in played.items():
        ours = by_student(episodes)
        told = difference(f"{name} - the expert itself", ours, {key: theirs[key[0]] for key in ours})
        rows.append({**told, "margin": MARGIN, "non_inferior": told["difference_ci"][0] > -MARGIN})
    return rows


def gain(played: dict[str, list[Trajectory]]) -> dict[str, Any]:
    return difference("dagger - clone", by_student(played["dagger"]), by_student(played["clone"]))


def difference(of: str, ours: dict[tuple[str, int], float], theirs: dict[tuple[str, int], float]) -> dict[str, Any]:
    """In success on the same games; the interval resamples games, on which all students played."""
    found = paired_difference(ours, theirs)
    assert found is not None, "all played the same games"
    return {"of": of, "n": found.n, "difference": found.difference, "difference_ci": found.difference_ci}


def by_student(episodes: Sequence[Trajectory]) -> dict[tuple[str, int], float]:
    """Success by game and student, in the order of the seeds."""
    found: dict[tuple[str, int], float] = {}
    met: Counter[str] = Counter()
    for episode in episodes:
        found[episode.task.id, met[episode.task.id]] = float(episode.succeeded)
        met[episode.task.id] += 1
    return found


def share(episodes: Sequence[Trajectory], answerer: Answerer) -> float:
    """Of all steps of all games."""
    steps = [step for episode in episodes for step in episode.steps]
    return sum(step.answerer is answerer for step in steps) / len(steps)


def write(
    options: argparse.Namespace,
    rows: Sequence[dict[str, Any]],
    tuned: Sequence[dict[str, Any]],
    differences: Sequence[dict[str, Any]] = (),
) -> None:
    extra = {
        "differences": list(differences),
        "threshold_chosen_on": list(tuned),
        "max_steps": MAX_STEPS,
        "split": "valid_seen",
        "chooses_among": "the game's admissible commands",
        "written_at": time.strftime("%Y-%m-%d", time.gmtime()),
    }
    _results.write("weights_alfworld", rows, n=options.n, seeds=range(options.seeds), extra=extra)


if __name__ == "__main__":
    main()
