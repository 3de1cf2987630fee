"""Learning on (``distill retrain``): a drift that is planted, and labels that are poisoned, by seed.

    python bench/weights_continual.py [--seeds 3] [--n 60]

Everything is done by the commands that a user types, and then the policies play test tasks that nobody learnt from.

``drift``: a student knows the orders of a house without rules (house-rules, another house each seed). Then the house
has three rules, and its expert's new episodes are learnt from: by ``retrain`` (new and old decisions, each half of the
weight), by ``retrain`` on the new ones alone, and by a fresh student on the new ones alone, each for as many gradient
steps. What was known does not hold any more (``--forget-old``).

``poison``: what learnt the new ones alone then gets episodes whose actions are wrong everywhere, said to be successes:
judged by play, and judged by the labels, which are as wrong (``retrain`` without ``--play`` warns of this).
Candidates that are not promoted are played, too: that is what the gate kept away.

Whatever is measured is kept in the result file by its scene.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import shutil
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import msgspec

import _results
from potstill.cli.main import main as main_of
from potstill.distill.weights.continual import versions
from potstill.distill.weights.train.playing import Player
from potstill.edge.policy import open_policy
from potstill.envs.registry import open_source
from potstill.measure.statistics import paired_difference, wilson_by_task
from potstill.trajectories import Store
from potstill.types import Action, Trajectory

NAME = "weights_continual"
WORK = _results.ROOT / "bench" / ".work" / "weights_continual"
TRAIN = ("--patience", 0, "--learning-rate", 0.004, "--threads", 1, "--batch", 32, "--steps", 150)
SCENES = ("drift", "poison")
REPLAY, ALONE, ANEW = "retrained, new and old", "retrained, new alone", "a fresh student, new alone"
HOUSE = "house-rules"
World = dict[str, Any]
"""Options of the environment."""
PAIRS = (
    ("drift", "new", REPLAY, "before"),
    ("drift", "new", REPLAY, ALONE),
    ("drift", "new", REPLAY, ANEW),
    ("poison", "new", "lies, judged by labels", "before"),
)
"""Scene, kind of tasks, and the two whose difference is told."""
Outcomes = dict[tuple[str, int], float]
"""(test task, seed of the bench) -> whether it was done."""


class Results:
    """Rows as they come, and what was played, by scene, recipe and kind of tasks."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []
        self.played: dict[tuple[str, str, str], Outcomes] = {}

    def add(self, scene: str, recipe: str, seed: int, played: dict[str, Outcomes], said: dict[str, Any]) -> None:
        kept = ("promoted", "steps", "cpu_s", "new_decisions", "old_decisions", "overruled", "judged_by")
        shares = {f"success_{tasks}": share(outcomes) for tasks, outcomes in played.items()}
        told = {name: said[name] for name in kept if name in said}
        self.rows.append({"scene": scene, "recipe": recipe, "seed": seed, **shares, **told})
        print(self.rows[-1], flush=True)
        for tasks, outcomes in played.items():
            self.played.setdefault((scene, recipe, tasks), {}).update(outcomes)

    def pooled(self) -> list[dict[str, Any]]:
        """A row for each scene and recipe over its seeds; the interval's clusters are the seeds."""
        found: dict[tuple[str, str], dict[str, Any]] = {}
        for (scene, recipe, tasks), outcomes in self.played.items():
            of = [row for row in self.rows if (row["scene"], row["recipe"]) == (scene, recipe)]
            row = found.setdefault((scene, recipe), {"scene": scene, "recipe": recipe, "seed": None})
            row |= {f"success_{tasks}": share(outcomes), f"success_{tasks}_ci": interval(outcomes)}
            if "promoted" in of[0]:
                row["promotions"] = f"{sum(one['promoted'] for one in of)} of {len(of)}"
        return list(found.values())

    def difference(self, scene: str, tasks: str, of: str, against: str) -> dict[str, Any]:
        found = paired_difference(self.played[scene, of, tasks], self.played[scene, against, tasks])
        assert found is not None, "both played the same tasks"
        told = {"difference": found.difference, "difference_ci": found.difference_ci}
        return {"scene": scene, "tasks": tasks, "of": of, "against": against, "n": found.n, **told}


def share(outcomes: Outcomes) -> float:
    return sum(outcomes.values()) / len(outcomes)


def interval(outcomes: Outcomes) -> list[float] | None:
    seeds = sorted({seed for _, seed in outcomes})
    by_seed = [[value for (_, one), value in outcomes.items() if one == seed] for seed in seeds]
    found = wilson_by_task([round(sum(values)) for values in by_seed], [len(values) for values in by_seed])
    return None if found is None else list(found)


def main() -> None:
    options = parsed()
    results, seeds = Results(), range(options.seeds)
    with ProcessPoolExecutor(options.jobs, mp_context=get_context("spawn")) as pool:
        for one in pool.map(one_seed, seeds, [options.n] * options.seeds, [options.scenes] * options.seeds):
            results.rows += one.rows
            for key, outcomes in one.played.items():
                results.played.setdefault(key, {}).update(outcomes)
    write(options, results)


def write(options: argparse.Namespace, results: Results) -> None:
    """Replace the rows of these scenes, and keep the others'."""
    path = _results.RESULTS / f"{NAME}.json"
    before = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"rows": [], "differences": []}
    kept = {
        name: [row for row in before[name] if row["scene"] not in options.scenes] for name in ("rows", "differences")
    }
    now = _results.provenance(options.n, range(options.seeds))
    extra = {
        "measured": {**before.get("measured", {}), **dict.fromkeys(options.scenes, now)},
        "differences": [*kept["differences"], *(results.difference(*of) for of in PAIRS if of[0] in options.scenes)],
        "written_at": time.strftime("%Y-%m-%d", time.gmtime()),
    }
    rows = [*kept["rows"], *results.rows, *results.pooled()]
    _results.write(NAME, rows, n=options.n, seeds=range(options.seeds), extra=extra)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3, help="houses and students")
    parser.add_argument("--n", type=int, default=60, help="test tasks of each kind that each policy plays")
    parser.add_argument("--scenes", nargs="+", choices=SCENES, default=list(SCENES))
    parser.add_argument("--jobs", type=int, default=1, help="seeds at a time, a process each")
    return parser.parse_args()


# --- commands -------------------------------------------------------------------------------------------------------


def potstill(*words: object) -> dict[str, Any]:
    """A command of ours with ``--json``, in this process; progress goes to stderr. Exit code 1: not promoted."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        try:
            main_of([*map(str, words), "--json"])
        except SystemExit as ended:
            if ended.code not in (0, 1):
                raise
    result: dict[str, Any] = json.loads(said.getvalue())
    return result


def record(db: Path, n: int, world: World, seed: int = 0) -> Path:
    if not db.exists():
        words = ("--env", HOUSE, "--split", "train", "--n", n, "--teacher", "expert", "--run", db.stem, "--seed", seed)
        potstill("distill", "context", *words, *words_of(world), "--db", db)
    return db


def copied(student: Path, name: str) -> Path:
    """The student with the folder of its training, to be retrained apart from others."""
    folder = student.parent / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    shutil.copy(student, folder)
    shutil.copytree(f"{student}.training", folder / f"{student.name}.training")
    return folder / student.name


def candidate(student: Path, said: dict[str, Any]) -> Path:
    """What a retraining made, promoted or not."""
    return versions.file_of(student, said["version"])


def played(file: Path, world: World, n: int, seed: int) -> Outcomes:
    """The first ``n`` test tasks, by the file as it acts."""
    tasks = open_source(HOUSE, **world).tasks("test")[:n]
    with Player(HOUSE, tasks, **world) as player:
        return {(task, seed): float(won) for (task, _), won in player.outcomes(open_policy(file)).items()}


def words_of(world: World) -> tuple[str, ...]:
    return tuple(word for name, value in world.items() for word in ("--option", f"{name}={value}"))


# --- scenes ---------------------------------------------------------------------------------------------------------


def one_seed(seed: int, n: int, scenes: Sequence[str]) -> Results:
    """``poison`` begins with what ``drift`` left in the folder."""
    folder, results = WORK / f"seed-{seed}", Results()
    calm, ruled = ({"rules_seed": seed, "rules": rules, "train": 300} for rules in (0, 3))
    student = folder / "house.policy"
    if "drift" in scenes:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        potstill("distill", "weights", *small(seed), "--out", student, "--db", record(folder / "before.db", 150, calm))
        drift(results, student, ruled, seed, n)
    if "poison" in scenes:
        poison(results, folder / f"drift-{1.0}" / student.name, ruled, seed, n)
    return results


def small(seed: int) -> tuple[object, ...]:
    """How a student is trained from fresh weights."""
    return ("--width", 16, "--held-out", 0.3, "--seed", seed, *TRAIN)


def drift(results: Results, student: Path, ruled: World, seed: int, n: int) -> None:
    fresh, judged = record(student.parent / "new.db", 200, ruled), play_judges(ruled, seed)

    def test(file: Path) -> dict[str, Outcomes]:
        return {"new": played(file, ruled, n, seed)}

    results.add("drift", "before", seed, test(student), {})
    learners = {}
    for name, share_of_new in ((REPLAY, 0.5), (ALONE, 1.0)):
        learners[name] = copied(student, f"drift-{share_of_new}")
        learn = (*TRAIN, *judged, "--new-share", share_of_new)
        said = potstill("distill", "retrain", learners[name], "--db", fresh, *learn)
        results.add("drift", name, seed, test(candidate(learners[name], said)), said)
    anew = student.with_name("anew.policy")
    said = potstill("distill", "weights", *small(seed), "--out", anew, "--db", fresh)
    results.add("drift", ANEW, seed, test(anew), {"steps": said["steps"], "cpu_s": said["cpu_s"]})


def play_judges(world: World, seed: int) -> tuple[object, ...]:
    return ("--play", 40, "--margin", 0.05, "--forget-old", "--seed", seed, *words_of(world))


def poison(results: Results, student: Path, ruled: World, seed: int, n: int) -> None:
    """Lies about the house as it is now, learnt alone."""
    folder = student.parent.parent
    lies = poisoned(record(folder / "more.db", 120, ruled, seed=1), folder / "lies.db")
    by_labels = ("--margin", 0.05, "--forget-old", "--seed", seed)
    results.add("poison", "before", seed, {"new": played(student, ruled, n, seed)}, {})
    for name, words in (("lies, judged by play", play_judges(ruled, seed)), ("lies, judged by labels", by_labels)):
        told = copied(student, name.rpartition(" ")[2])
        said = potstill("distill", "retrain", told, "--db", lies, *TRAIN, *words, "--new-share", 1)
        results.add("poison", name, seed, {"new": played(candidate(told, said), ruled, n, seed)}, said)


def poisoned(good: Path, bad: Path) -> Path:
    """The same episodes with the next action in the list instead of the expert's, still said to be successes."""
    bad.unlink(missing_ok=True)
    with Store.read(good) as episodes, Store.open(bad) as lies:
        for episode in episodes.select():
            lies.append(lying(episode))
    return bad


def lying(episode: Trajectory) -> Trajectory:
    steps = []
    for step in episode.steps:
        listed = list(step.observation.admissible or [step.action.text])
        lie = listed[(listed.index(step.action.text) + 1) % len(listed)]
        steps.append(msgspec.structs.replace(step, action=Action(text=lie)))
    return msgspec.structs.replace(episode, steps=tuple(steps))


if __name__ == "__main__":
    main()
